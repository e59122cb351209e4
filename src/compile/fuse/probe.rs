//! Parts of a graph, run on inputs of our choice.
//!
//! A mask, the indices of positions or the angles of a rotation are written in dozens of ways. What
//! they mean is a handful of numbers, so they are computed instead of matched.

use super::net::{self, Net};
use crate::compile::reference;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_nnef::internal::*;
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};
use tract_onnx::prelude::{Framework, InferenceModelExt};

/// Computes a tensor. `feeds` are graph inputs by name; those that the tensor does not depend on
/// are left out.
pub fn evaluate(net: &Net, wanted: &str, feeds: &[(String, Tensor)]) -> TractResult<Tensor> {
    let outputs = [wanted.to_string()];
    let mut values = evaluate_all(net, &outputs, feeds)?;
    values.pop().context("no value")
}

/// Computes the outputs of one node whose inputs are constants.
pub fn fold(net: &Net, outputs: &[String]) -> TractResult<Vec<Tensor>> {
    evaluate_all(net, outputs, &[])
}

fn evaluate_all(
    net: &Net,
    wanted: &[String],
    feeds: &[(String, Tensor)],
) -> TractResult<Vec<Tensor>> {
    let mut graph = GraphProto::default();
    let mut nodes = vec![];
    let mut given = vec![];
    for name in wanted {
        let (at, inputs) = net.ancestors(name);
        nodes.extend(at);
        given.extend(inputs);
    }
    nodes.sort_unstable();
    nodes.dedup();
    for at in nodes {
        let node = net.nodes[at].clone();
        for input in &node.input {
            let known = graph.initializer.iter().any(|t| t.name == *input);
            if let (Some(constant), false) = (net.constants.get(input), known) {
                graph.initializer.push(constant.clone());
            }
        }
        graph.node.push(node);
    }
    let mut tensors = tvec!();
    for input in &net.inputs {
        if given.contains(&input.name) {
            let feed = feeds.iter().find(|(name, _)| *name == input.name);
            let (_, value) = feed.with_context(|| format!("it depends on {}", input.name))?;
            graph.input.push(input.clone());
            tensors.push(value.clone());
        }
    }
    let output = |name: &String| ValueInfoProto {
        name: name.clone(),
        ..ValueInfoProto::default()
    };
    graph.output = wanted.iter().map(output).collect();
    let proto = ModelProto {
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: net.opset,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let run = || -> TractResult<Vec<Tensor>> {
        let mut model = reference::framework().model_for_proto_model(&proto)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let fact = tensor.datum_type().fact(tensor.shape());
            model.set_input_fact(i, fact.into())?;
        }
        let plan = SimplePlan::new(model.into_typed()?)?;
        let inputs = tensors.into_iter().map(TValue::from).collect();
        let values = plan.run(inputs)?;
        Ok(values.into_iter().map(TValue::into_tensor).collect())
    };
    // Parts of tract give up by panicking on operators and types that they do not know.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => bail!("tract could not compute it"),
    }
}

/// The same as f32.
pub fn floats(
    net: &Net,
    wanted: &str,
    feeds: &[(String, Tensor)],
) -> TractResult<(Vec<usize>, Vec<f32>)> {
    if let Some(constant) = net.constants.get(wanted) {
        let shape = constant.dims.iter().map(|&d| d as usize).collect();
        return Ok((shape, net::floats(constant)?));
    }
    let value = evaluate(net, wanted, feeds)?;
    let cast = value.cast_to::<f32>()?;
    let values = cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok((value.shape().to_vec(), values))
}
