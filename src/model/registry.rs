//! Our operators as an NNEF primitive: how a [`Layer`] is written to the graph's text and read back.
//!
//! There is one, `strandline_layer`: its inputs, what it does as JSON (see [`Spec`]), the precision, the rows of halo and a label. A layer's
//! tensors are called `LABEL.weight`, `LABEL.bias` and so on in the model file, which travels to the reader as a resource called [`FILE`].

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::Precision;
use super::map::Region;
use super::ops::{Layer, Spec};
use super::reference::Fused;
use crate::kernels::Isa;
use safetensors::tensor::Dtype;
use std::str::FromStr;
use tract_nnef::internal::*;
use tract_onnx::WithOnnx;

/// The resource under which primitives find the model file.
pub const FILE: &str = "strandline_file";

/// The registry's name, `extension tract_registry strandline` in a graph.
pub const REGISTRY: &str = "strandline";

/// The primitive's name.
const LAYER: &str = "strandline_layer";

/// The primitive of fused operators that were not lowered: its inputs, and the operator as JSON.
const REFERENCE: &str = "strandline_reference";

/// Most zero rows at an end.
const MOST_HALO: usize = 1 << 20;

/// The model file as a resource of the NNEF reader.
#[derive(Debug)]
pub struct FileResource(pub Arc<ModelFile>);

impl Resource for FileResource {}

/// tract's NNEF framework with our operators.
pub fn framework() -> Nnef {
    let mut registry = Registry::new(REGISTRY);
    registry.register_dumper(dump);
    let parameters = [
        TypeName::Scalar.tensor().array().named("inputs"),
        TypeName::String.named("spec"),
        TypeName::String.named("precision"),
        TypeName::Integer.named("halo"),
        TypeName::String.named("label"),
    ];
    let output = [("output", TypeName::Scalar.tensor())];
    registry.register_primitive(LAYER, &parameters, &output, load);
    registry.register_dumper(dump_reference);
    let parameters = [
        TypeName::Scalar.tensor().array().named("inputs"),
        TypeName::String.named("operator"),
    ];
    registry.register_primitive(REFERENCE, &parameters, &output, load_reference);
    // tract-onnx keeps operators of its own beside NNEF's: a graph that was not lowered whole may hold some.
    tract_nnef::nnef().with_registry(registry).with_onnx()
}

fn dump_reference(
    ast: &mut IntoAst,
    node: &TypedNode,
    op: &Fused,
) -> TractResult<Option<Arc<RValue>>> {
    let inputs = node
        .inputs
        .iter()
        .map(|input| (*ast.mapping[input]).clone());
    let named = [
        ("inputs", RValue::Array(inputs.collect())),
        ("operator", string(serde_json::to_string(op)?)),
    ];
    Ok(Some(invocation(REFERENCE, &[], &named)))
}

fn load_reference(
    builder: &mut ModelBuilder,
    invocation: &ResolvedInvocation,
) -> TractResult<Value> {
    let inputs: TVec<OutletId> = invocation.named_arg_as(builder, "inputs")?;
    let text: String = invocation.named_arg_as(builder, "operator")?;
    let op: Fused = serde_json::from_str(&text).context(REFERENCE)?;
    builder.wire(op, &inputs)
}

fn dump(ast: &mut IntoAst, node: &TypedNode, op: &Layer) -> TractResult<Option<Arc<RValue>>> {
    let inputs: Vec<RValue> = node
        .inputs
        .iter()
        .map(|input| (*ast.mapping[input]).clone())
        .collect();
    let named = [
        ("inputs", RValue::Array(inputs)),
        ("spec", string(serde_json::to_string(&op.spec)?)),
        ("precision", string(op.precision.to_string())),
        ("halo", numeric(op.halo)),
        ("label", string(&op.label)),
    ];
    Ok(Some(invocation(LAYER, &[], &named)))
}

fn load(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let inputs: TVec<OutletId> = invocation.named_arg_as(builder, "inputs")?;
    let label: String = invocation.named_arg_as(builder, "label")?;
    let text: String = invocation.named_arg_as(builder, "spec")?;
    let spec: Spec = serde_json::from_str(&text).with_context(|| format!("layer {label}"))?;
    let precision: String = invocation.named_arg_as(builder, "precision")?;
    let precision = Precision::from_str(&precision).map_err(|e| format_err!("{e}"))?;
    let halo: i64 = invocation.named_arg_as(builder, "halo")?;
    let halo = usize::try_from(halo)?;
    let resource = builder
        .proto_model
        .resources
        .get(FILE)
        .context("no model file beside the graph")?;
    let file = &resource
        .downcast_ref::<FileResource>()
        .context("the model file is another resource")?
        .0;
    let layer = layer(file, spec, precision, halo, &label, inputs.len())?;
    builder.wire(layer, &inputs)
}

/// A layer with its tensors, all of it checked.
pub(super) fn layer(
    file: &ModelFile,
    spec: Spec,
    precision: Precision,
    halo: usize,
    label: &str,
    inputs: usize,
) -> TractResult<Layer> {
    ensure!(halo <= MOST_HALO, "a halo of {halo} is above {MOST_HALO}");
    spec.validate(precision, halo)
        .map_err(|reason| format_err!("layer {label}: {reason}"))?;
    let most_inputs = match &spec {
        Spec::Dense(_) | Spec::Softmax { vector: true, .. } => 1..2,
        Spec::Sum { .. } => 3..4,
        Spec::Join { channels, .. } => channels.len() + 1..channels.len() + 2,
        Spec::Attention { .. } => 4..5,
        _ => 2..4,
    };
    ensure!(
        most_inputs.contains(&inputs),
        "layer {label}: {} inputs",
        inputs
    );
    let mut tensors = vec![];
    for need in spec.tensors(precision) {
        let name = format!("{label}.{}", need.name);
        tensors.push(tensor(file, &name, need.dtype, need.len)?);
    }
    Ok(Layer {
        spec,
        precision,
        halo,
        label: label.to_string(),
        tensors,
        isa: Isa::selected(),
        spread: None,
    })
}

/// A tensor of the file, checked: its length, and that no value can make a sum overflow.
fn tensor(file: &ModelFile, name: &str, dtype: Dtype, count: usize) -> Result<Region, ModelError> {
    let wrong = |expected: String, found: String| ModelError::Tensor {
        file: file.name().to_string(),
        tensor: name.to_string(),
        expected,
        found,
    };
    let region = file.tensor(name, dtype)?;
    let found = region.bytes().len() * 8 / dtype.bitsize();
    if found != count {
        return Err(wrong(format!("{count} values"), found.to_string()));
    }
    // Looking at every weight of a large file would read it whole at every start; a wrong one there gives wrong scores, nothing worse.
    if dtype == Dtype::I8 && file.len() <= super::file::HASH_AT_OPEN && region.i8().contains(&-128)
    {
        return Err(wrong("weights from -127".to_string(), "-128".to_string()));
    }
    let values = match dtype {
        Dtype::F32 => region.f32().unwrap_or_default(),
        _ => &[],
    };
    match values.iter().find(|x| x.is_nan() || x.abs() >= 1e12) {
        Some(bad) => Err(wrong("values below 1e12".to_string(), bad.to_string())),
        None => Ok(region),
    }
}
