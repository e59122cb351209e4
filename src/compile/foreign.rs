//! Our operators as an NNEF primitive: how a [`Layer`] is written to the graph's text and read
//! back.
//!
//! There is one, `strandline_layer`: its inputs, what it does as JSON (see [`Spec`]), the
//! precision, the rows of halo and a label. A layer's tensors are called `LABEL.weight`,
//! `LABEL.bias` and so on in the model file, which travels to the reader as a resource called
//! [`FILE`].

use super::reference::Fused;
use crate::model::file::ModelFile;
use crate::model::foreign::ForeignGraph;
use crate::model::manifest::Precision;
use crate::model::ops::layer::Layer;
use crate::model::ops::spec::Spec;
use safetensors::tensor::Dtype;
use std::str::FromStr;
use tract_nnef::ProtoModel;
use tract_nnef::ast::Identifier;
use tract_nnef::internal::*;
use tract_onnx::WithOnnx;
use tract_transformers::WithTractTransformers;

/// The resource under which primitives find the model file.
pub const FILE: &str = "strandline_file";

/// The registry's name, `extension tract_registry strandline` in a graph.
pub const REGISTRY: &str = "strandline";

/// The primitive's name.
const LAYER: &str = "strandline_layer";

/// The primitive of fused operators that were not lowered: its inputs, and the operator as JSON.
const REFERENCE: &str = "strandline_reference";

/// Prefix of the tensors that belong to operators which were not lowered.
pub const PLAIN: &str = "plain.";

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
    // tract keeps more operators beside NNEF's: a graph that was not lowered whole may hold some.
    let nnef = tract_nnef::nnef().with_registry(registry);
    nnef.with_onnx().with_tract_transformers()
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
        ("precision", string(op.attributes.precision.to_string())),
        ("halo", numeric(op.attributes.halo)),
        ("label", string(&op.attributes.label)),
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
    let layer = Layer::load(file, spec, precision, halo, &label)?;
    builder.wire(layer, &inputs)
}

/// Graphs as NNEF texts, with our operators among tract's.
#[derive(Debug)]
pub struct NnefGraphs;

impl ForeignGraph for NnefGraphs {
    fn read(&self, file: &Arc<ModelFile>) -> TractResult<TypedModel> {
        let nnef = framework();
        let text = file.graph().map_err(|e| format_err!("{e}"))?;
        let doc = tract_nnef::ast::parse::parse_document(text)?;
        let mut proto = ProtoModel {
            doc,
            tensors: plain_tensors(file)?,
            quantization: None,
            resources: Default::default(),
        };
        let resource = Arc::new(FileResource(file.clone()));
        proto.resources.insert(FILE.to_string(), resource);
        proto.validate()?;
        nnef.translate(&proto, TypedModel::default())
            .map_err(|(_, error)| error)
    }

    fn optimise(&self, graph: TypedModel) -> TractResult<TypedModel> {
        graph.into_optimized()
    }
}

/// The tensors of operators that were not lowered, copied out of the file as tract needs them.
fn plain_tensors(file: &ModelFile) -> TractResult<HashMap<Identifier, Arc<Tensor>>> {
    let mut tensors = HashMap::new();
    for (name, dtype, shape, _) in file.tensors() {
        let Some(label) = name.strip_prefix(PLAIN) else {
            continue;
        };
        let dt = match dtype {
            Dtype::F32 => f32::datum_type(),
            Dtype::F16 => f16::datum_type(),
            Dtype::I64 => i64::datum_type(),
            Dtype::I32 => i32::datum_type(),
            Dtype::BOOL => bool::datum_type(),
            _ => bail!("tensor {name} of {dtype:?}"),
        };
        let region = file.tensor(&name, dtype).map_err(|e| format_err!("{e}"))?;
        // Any other byte is no `bool`.
        let is_bit = |&byte: &u8| byte <= 1;
        ensure!(
            dtype != Dtype::BOOL || region.bytes().iter().all(is_bit),
            "tensor {name} of booleans that are neither 0 nor 1"
        );
        let mut tensor = Tensor::zero_dt(dt, &shape)?;
        tensor.as_bytes_mut().copy_from_slice(region.bytes());
        tensors.insert(Identifier(label.to_string()), Arc::new(tensor));
    }
    Ok(tensors)
}
