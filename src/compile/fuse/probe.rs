//! Pieces of a graph, run on inputs of our choice.
//!
//! A mask, the indices of positions or the angles of a rotation are written in dozens of ways. What
//! they mean is a handful of numbers, so they are computed instead of matched.

use super::meaning::Meaning;
use super::net::Net;
use super::{node, tensor};
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
        return Ok((shape, tensor::floats(constant)?));
    }
    let value = evaluate(net, wanted, feeds)?;
    let cast = value.cast_to::<f32>()?;
    let values = cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok((value.shape().to_vec(), values))
}

/// The element type of a graph input; tokens where none is stated.
fn input_type(net: &Net, name: &str) -> DatumType {
    let stated = net
        .inputs
        .iter()
        .find(|i| i.name == name)
        .and_then(node::element_type);
    stated.unwrap_or(DatumType::I64)
}

/// Integers as an input `[1, n]` of another type.
pub fn as_input(values: &[i64], dt: DatumType) -> TractResult<Tensor> {
    let mut tensor = tensor1(values);
    if dt == bool::datum_type() {
        let flags: Vec<bool> = values.iter().map(|&v| v != 0).collect();
        tensor = tensor1(&flags);
    }
    tensor.insert_axis(0)?;
    Ok(tensor.cast_to_dt(dt)?.into_owned())
}

impl Net {
    /// Inputs of `rows` positions without padding.
    pub fn feeds(&self, rows: usize) -> Vec<(String, Tensor)> {
        let rows = self.rows.size().unwrap_or(rows);
        let of = |name: &String, meaning: Meaning| -> TractResult<(String, Tensor)> {
            let dt = input_type(self, name);
            let values: Vec<i64> = match meaning {
                Meaning::OneHot => {
                    let zeros = Tensor::zero::<f32>(&[1, 4, rows])?;
                    return Ok((name.clone(), zeros));
                }
                Meaning::Values => {
                    let ones = tensor1(&vec![1f32; rows]).into_shape(&[1, rows])?;
                    return Ok((name.clone(), ones.cast_to_dt(dt)?.into_owned()));
                }
                Meaning::Ids => vec![self.ordinary; rows],
                Meaning::Flags => vec![0; rows],
                Meaning::Mask => vec![1; rows],
                Meaning::Types => vec![0; rows],
                Meaning::Positions => (0..rows as i64).collect(),
            };
            Ok((name.clone(), as_input(&values, dt)?))
        };
        self.meanings
            .iter()
            .filter_map(|(name, meaning)| of(name, *meaning).ok())
            .collect()
    }

    /// The same with other values of one input.
    pub fn feeds_with(&self, rows: usize, input: &str, values: &[i64]) -> Vec<(String, Tensor)> {
        let mut feeds = self.feeds(rows);
        for (name, tensor) in &mut feeds {
            if name == input
                && let Ok(other) = as_input(values, tensor.datum_type())
            {
                *tensor = other;
            }
        }
        feeds
    }
}
