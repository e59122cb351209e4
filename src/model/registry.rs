//! Our operators as NNEF primitives: how a [`Layer`] is written to the graph's text and read back.
//!
//! A primitive names its tensors by a label: `LABEL.weight`, `LABEL.bias`, `LABEL.scale` and `LABEL.residual` in the model file, which
//! travels to the reader as a resource called [`FILE`].

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::Precision;
use super::map::Region;
use super::ops::{Layer, Parameters, Spec, Written};
use crate::kernels::table::ConvCodes;
use crate::kernels::{ConvShape, Isa, padded};
use safetensors::tensor::Dtype;
use std::str::FromStr;
use tract_nnef::internal::*;
use tract_onnx::WithOnnx;

/// The resource under which primitives find the model file.
pub const FILE: &str = "strandline_file";

/// The registry's name, `extension tract_registry strandline` in a graph.
pub const REGISTRY: &str = "strandline";

/// The model file as a resource of the NNEF reader.
#[derive(Debug)]
pub struct FileResource(pub Arc<ModelFile>);

impl Resource for FileResource {}

/// Largest number of channels or taps that a graph may ask for; keeps products far from overflow.
const MOST: usize = 1 << 16;

/// tract's NNEF framework with our operators.
pub fn framework() -> Nnef {
    let mut registry = Registry::new(REGISTRY);
    registry.register_dumper(dump);
    let tensor = |name: &str| TypeName::Scalar.tensor().named(name);
    let integer = |name: &str| TypeName::Integer.named(name);
    let text = |name: &str| TypeName::String.named(name);
    let flag = |name: &str| TypeName::Logical.named(name);
    let shape = || {
        ["channels_in", "channels_out", "width", "dilation", "before"]
            .map(integer)
            .to_vec()
    };
    let common = || vec![text("label"), text("precision"), integer("halo")];
    let mut add = |name: &str, parameters: Vec<Vec<Parameter>>, load: ToTract| {
        let output = [("output", TypeName::Scalar.tensor())];
        registry.register_primitive(name, &parameters.concat(), &output, load);
    };
    let rows = || vec![tensor("rows"), tensor("length")];
    add(
        "strandline_codes_conv",
        vec![rows(), shape(), vec![text("output_kind")], common()],
        load_codes_conv,
    );
    let conv_end = || vec![flag("signed_input"), text("output_kind")];
    add(
        "strandline_conv",
        vec![rows(), shape(), conv_end(), common()],
        load_conv,
    );
    add(
        "strandline_conv_add",
        vec![
            rows(),
            vec![tensor("residual")],
            shape(),
            conv_end(),
            common(),
        ],
        load_conv_add,
    );
    add(
        "strandline_frames",
        vec![rows(), vec![integer("channels")], common()],
        load_frames,
    );
    add(
        "strandline_dense",
        vec![
            vec![tensor("rows")],
            vec![integer("inputs"), integer("outputs"), flag("relu")],
            common(),
        ],
        load_dense,
    );
    add("strandline_one_hot", vec![rows(), common()], load_one_hot);
    add(
        "strandline_to_plain",
        vec![
            rows(),
            vec![integer("channels"), flag("signed_input")],
            common(),
        ],
        load_to_plain,
    );
    add(
        "strandline_from_plain",
        vec![rows(), vec![integer("channels")], common()],
        load_from_plain,
    );
    // tract-onnx keeps operators of its own beside NNEF's: a graph that was not lowered whole may hold some.
    tract_nnef::nnef().with_registry(registry).with_onnx()
}

fn dump(ast: &mut IntoAst, node: &TypedNode, op: &Layer) -> TractResult<Option<Arc<RValue>>> {
    let inputs: Vec<Arc<RValue>> = node
        .inputs
        .iter()
        .map(|input| ast.mapping[input].clone())
        .collect();
    let mut named: Vec<(&str, RValue)> = vec![];
    let shape = |named: &mut Vec<(&str, RValue)>, s: &ConvShape| {
        named.push(("channels_in", numeric(s.channels_in)));
        named.push(("channels_out", numeric(s.channels_out)));
        named.push(("width", numeric(s.width)));
        named.push(("dilation", numeric(s.dilation)));
        named.push(("before", numeric(s.before)));
    };
    match &op.spec {
        Spec::CodesConv { shape: s, output } => {
            shape(&mut named, s);
            named.push(("output_kind", string(output.name())));
        }
        Spec::Conv {
            shape: s,
            signed,
            output,
            ..
        } => {
            shape(&mut named, s);
            named.push(("signed_input", logical(*signed)));
            named.push(("output_kind", string(output.name())));
        }
        Spec::Frames { channels } | Spec::FromPlain { channels } => {
            named.push(("channels", numeric(channels)));
        }
        Spec::ToPlain { channels, signed } => {
            named.push(("channels", numeric(channels)));
            named.push(("signed_input", logical(*signed)));
        }
        Spec::Dense {
            inputs,
            outputs,
            relu,
        } => {
            named.push(("inputs", numeric(inputs)));
            named.push(("outputs", numeric(outputs)));
            named.push(("relu", logical(*relu)));
        }
        Spec::OneHot => (),
    }
    named.push(("label", string(&op.label)));
    named.push(("precision", string(op.precision.to_string())));
    named.push(("halo", numeric(op.halo)));
    Ok(Some(invocation(op.name(), &inputs, &named)))
}

/// Reads the arguments of one invocation.
struct Arguments<'a, 'b, 'c> {
    builder: &'a mut ModelBuilder<'b>,
    invocation: &'a ResolvedInvocation<'c>,
}

impl Arguments<'_, '_, '_> {
    fn size(&mut self, name: &str) -> TractResult<usize> {
        let value: i64 = self.invocation.named_arg_as(self.builder, name)?;
        let size = usize::try_from(value)?;
        ensure!(size <= MOST, "{name} {size} is above {MOST}");
        Ok(size)
    }

    fn flag(&mut self, name: &str) -> TractResult<bool> {
        self.invocation.named_arg_as(self.builder, name)
    }

    fn text(&mut self, name: &str) -> TractResult<String> {
        self.invocation.named_arg_as(self.builder, name)
    }

    fn wire(&mut self, name: &str) -> TractResult<OutletId> {
        self.invocation.named_arg_as(self.builder, name)
    }

    fn written(&mut self) -> TractResult<Written> {
        let name = self.text("output_kind")?;
        Written::from_name(&name).with_context(|| format!("no output kind {name:?}"))
    }

    fn shape(&mut self, halo: usize) -> TractResult<ConvShape> {
        let shape = ConvShape {
            channels_in: self.size("channels_in")?,
            channels_out: self.size("channels_out")?,
            width: self.size("width")?,
            dilation: self.size("dilation")?,
            before: self.size("before")?,
        };
        ensure!(
            shape.channels_in > 0 && shape.channels_out > 0 && shape.before < shape.width,
            "a convolution of {shape:?}"
        );
        let elements = shape.channels_in as u64 * shape.channels_out as u64 * shape.width as u64;
        ensure!(elements <= 1 << 31, "a convolution of {elements} weights");
        ensure!(
            shape.reach() <= halo,
            "{shape:?} reaches beyond a halo of {halo}"
        );
        Ok(shape)
    }

    /// The layer without weights.
    fn layer(&mut self, spec: Spec) -> TractResult<Layer> {
        let precision = self.text("precision")?;
        Ok(Layer {
            spec,
            precision: Precision::from_str(&precision).map_err(|e| format_err!("{e}"))?,
            halo: self.size("halo")?,
            label: self.text("label")?,
            parameters: None,
            input_scale: 1f32.to_bits(),
            isa: Isa::selected(),
        })
    }

    fn file(&self) -> TractResult<Arc<ModelFile>> {
        let resource = self
            .builder
            .proto_model
            .resources
            .get(FILE)
            .context("no model file beside the graph")?;
        let file = resource
            .downcast_ref::<FileResource>()
            .context("the model file is another resource")?;
        Ok(file.0.clone())
    }

    /// Looks up a layer's tensors and checks their sizes and values.
    fn load(&self, layer: &mut Layer, weights: usize, lanes: usize) -> TractResult<()> {
        let file = self.file()?;
        let label = &layer.label;
        let dtype = match (layer.precision, &layer.spec) {
            (Precision::F32, _) => Dtype::F32,
            (Precision::Fp16, _) | (_, Spec::Dense { .. }) => Dtype::F16,
            (Precision::Int8, _) => Dtype::I8,
        };
        let weight = file.tensor(&format!("{label}.weight"), dtype)?;
        let elements = weight.bytes().len() * 8 / dtype.bitsize();
        ensure!(
            elements == weights,
            "{label}.weight: expected {weights} values, found {elements}"
        );
        let bias = finite(&file, &format!("{label}.bias"), lanes)?;
        let integer = layer.precision == Precision::Int8 && dtype == Dtype::I8;
        let scale = match integer {
            true => Some(finite(&file, &format!("{label}.scale"), lanes)?),
            false => None,
        };
        let residual = matches!(layer.spec, Spec::Conv { residual: true, .. });
        let residual_scale = match integer && residual {
            true => one(&file, &format!("{label}.residual"))?,
            false => 0f32,
        };
        if dtype == Dtype::I8 {
            let most = weight.i8().iter().map(|w| w.unsigned_abs()).max();
            ensure!(
                most.is_none_or(|most| most <= 127),
                "{label}.weight: holds -128"
            );
        }
        layer.parameters = Some(Parameters {
            weight,
            bias,
            scale,
            residual_scale: residual_scale.to_bits(),
        });
        Ok(())
    }
}

/// f32 values of which each is finite and small enough that no sum of a layer can overflow.
fn finite(file: &ModelFile, name: &str, count: usize) -> Result<Region, ModelError> {
    let wrong = |expected: String, found: String| ModelError::Tensor {
        file: file.name().to_string(),
        tensor: name.to_string(),
        expected,
        found,
    };
    let region = file.tensor(name, Dtype::F32)?;
    let values = region.f32().unwrap_or_default();
    if values.len() != count {
        return Err(wrong(format!("{count} values"), values.len().to_string()));
    }
    match values.iter().find(|x| x.is_nan() || x.abs() >= 1e12) {
        Some(bad) => Err(wrong("values below 1e12".to_string(), bad.to_string())),
        None => Ok(region),
    }
}

fn one(file: &ModelFile, name: &str) -> Result<f32, ModelError> {
    let region = finite(file, name, 1)?;
    Ok(region.f32().and_then(|v| v.first().copied()).unwrap_or(0.0))
}

fn arguments<'a, 'b, 'c>(
    builder: &'a mut ModelBuilder<'b>,
    invocation: &'a ResolvedInvocation<'c>,
) -> Arguments<'a, 'b, 'c> {
    Arguments {
        builder,
        invocation,
    }
}

fn load_codes_conv(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?, a.wire("length")?];
    // Codes have no halo, so their convolution may reach any distance.
    let shape = a.shape(usize::MAX)?;
    let output = a.written()?;
    let mut layer = a.layer(Spec::CodesConv { shape, output })?;
    let lanes = padded(shape.channels_out);
    let weights = match layer.precision {
        Precision::Int8 => ConvCodes::table_len(&shape),
        _ => shape.width * 4 * lanes,
    };
    ensure!(shape.channels_in == 4, "codes have 4 channels");
    let narrow = shape.width <= crate::kernels::table::MAX_WIDTH;
    ensure!(narrow, "a width of {}", shape.width);
    a.load(&mut layer, weights, lanes)?;
    b.wire(layer, &inputs)
}

fn conv(b: &mut ModelBuilder, i: &ResolvedInvocation, residual: bool) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let mut inputs: TVec<OutletId> = tvec!(a.wire("rows")?, a.wire("length")?);
    if residual {
        inputs.push(a.wire("residual")?);
    }
    let halo = a.size("halo")?;
    let shape = a.shape(halo)?;
    let spec = Spec::Conv {
        shape,
        signed: a.flag("signed_input")?,
        residual,
        output: a.written()?,
    };
    let mut layer = a.layer(spec)?;
    let quads = shape.channels_in.is_multiple_of(4);
    ensure!(
        quads || layer.precision != Precision::Int8,
        "{} input channels are no multiple of 4",
        shape.channels_in
    );
    a.load(&mut layer, shape.packed_len(), padded(shape.channels_out))?;
    b.wire(layer, &inputs)
}

fn load_conv(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    conv(b, i, false)
}

fn load_conv_add(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    conv(b, i, true)
}

fn load_frames(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?, a.wire("length")?];
    let channels = a.size("channels")?;
    let mut layer = a.layer(Spec::Frames { channels })?;
    if layer.precision == Precision::Int8 {
        layer.input_scale = one(&*a.file()?, &format!("{}.scale", layer.label))?.to_bits();
    }
    b.wire(layer, &inputs)
}

fn load_dense(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?];
    let (n_in, n_out) = (a.size("inputs")?, a.size("outputs")?);
    let relu = a.flag("relu")?;
    let mut layer = a.layer(Spec::Dense {
        inputs: n_in,
        outputs: n_out,
        relu,
    })?;
    a.load(&mut layer, n_in * padded(n_out), padded(n_out))?;
    b.wire(layer, &inputs)
}

fn load_one_hot(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?, a.wire("length")?];
    let layer = a.layer(Spec::OneHot)?;
    b.wire(layer, &inputs)
}

fn load_to_plain(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?, a.wire("length")?];
    let channels = a.size("channels")?;
    let signed = a.flag("signed_input")?;
    let mut layer = a.layer(Spec::ToPlain { channels, signed })?;
    if layer.precision == Precision::Int8 {
        layer.input_scale = one(&*a.file()?, &format!("{}.scale", layer.label))?.to_bits();
    }
    b.wire(layer, &inputs)
}

fn load_from_plain(b: &mut ModelBuilder, i: &ResolvedInvocation) -> TractResult<Value> {
    let mut a = arguments(b, i);
    let inputs = [a.wire("rows")?, a.wire("length")?];
    let channels = a.size("channels")?;
    let layer = a.layer(Spec::FromPlain { channels })?;
    b.wire(layer, &inputs)
}
