//! What a file must be to be read, and what its inputs mean.

use super::dim::{Dim, Fact};
use super::fault::Fault;
use super::meaning::{Input, Meaning};
use super::net::Net;
use super::{node, tensor};
use crate::model::layers::TILE;
use std::collections::HashSet;
use tract_nnef::internal::DatumType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    GraphProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto, type_proto,
};

/// Elements of a tensor that a file may hold.
const MOST_ELEMENTS: i64 = 1 << 36;

/// Positions that a kernel, a stride, a dilation or a padding may reach over.
const MOST_REACH: i64 = 1 << 20;

/// What tract or the rewriting would stumble over.
pub fn check(graph: &GraphProto) -> Result<(), Fault> {
    let mut known: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    known.extend(graph.input.iter().map(|i| i.name.as_str()));
    if !graph.sparse_initializer.is_empty() {
        return Err(Fault::new("the graph", "sparse constants"));
    }
    let mut inputs = graph.input.iter();
    if let Some(input) = inputs.find(|input| node::element_type(input) == Some(DatumType::F64)) {
        return Err(Fault::new(
            &input.name,
            "numbers of 64 bits: export the network in float32",
        ));
    }
    let attributes = graph
        .node
        .iter()
        .flat_map(|n| &n.attribute)
        .filter_map(|a| a.t.as_ref());
    for tensor in graph.initializer.iter().chain(attributes) {
        let size = tensor
            .dims
            .iter()
            .try_fold(1i64, |p, &d| p.checked_mul(d).filter(|_| d >= 0));
        if size.is_none_or(|s| s > MOST_ELEMENTS) {
            return Err(Fault::new(
                &tensor.name,
                format!("a tensor of shape {:?}", tensor.dims),
            ));
        }
    }
    for node in &graph.node {
        let fault = |reason: String| {
            let name = if node.name.is_empty() {
                node.output.first()
            } else {
                Some(&node.name)
            };
            Fault::new(
                format!("{} ({})", name.map_or("?", String::as_str), node.op_type),
                reason,
            )
        };
        if node.output.first().is_none_or(String::is_empty) {
            return Err(fault("it has no output".to_string()));
        }
        if node
            .attribute
            .iter()
            .any(|a| a.g.is_some() || !a.graphs.is_empty())
        {
            return Err(fault("control flow is not supported".to_string()));
        }
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            if !known.contains(input.as_str()) {
                return Err(fault(format!(
                    "it reads {input}, which nothing before it writes"
                )));
            }
        }
        windows(node).map_err(fault)?;
        if node.op_type != "Constant" && node.input.is_empty() {
            return Err(fault("it has no input".to_string()));
        }
        let least = match node.op_type.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Equal" | "MatMul"
            | "MatMulInteger" | "Gemm" | "Conv" | "ConvInteger" | "Gather" | "Reshape"
            | "Expand" | "LayerNormalization" => 2,
            "Where" | "Range" => 3,
            _ => 0,
        };
        if node
            .input
            .iter()
            .take(least)
            .filter(|i| !i.is_empty())
            .count()
            < least
        {
            return Err(fault("it lacks an input".to_string()));
        }
        if node.op_type.starts_with(node::PREFIX) {
            return Err(fault("this operator is made here, not read".to_string()));
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !known.insert(output) {
                return Err(fault(format!("{output} is written twice")));
            }
        }
    }
    match graph
        .output
        .iter()
        .find(|o| !known.contains(o.name.as_str()))
    {
        Some(output) => Err(Fault::new(&output.name, "nothing writes this output")),
        None => Ok(()),
    }
}

/// Convolutions and pools: as many numbers as axes, none of them beyond reason.
fn windows(node: &NodeProto) -> Result<(), String> {
    let sides = match node.op_type.as_str() {
        "Pad" => 0,
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "MaxPool" | "AveragePool"
        | "LpPool" => 1,
        _ => return Ok(()),
    };
    let numbers = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let mut axes = None;
    for (name, least, times) in [
        ("kernel_shape", 1, 1),
        ("strides", 1, 1),
        ("dilations", 1, 1),
        ("pads", if sides == 0 { -MOST_REACH } else { 0 }, 2),
    ] {
        let Some(attribute) = numbers(name) else {
            continue;
        };
        let ints = &attribute.ints;
        let wrong = ints.iter().any(|i| !(least..=MOST_REACH).contains(i));
        let count = ints.len() / times;
        let uneven = !ints.len().is_multiple_of(times) || axes.is_some_and(|axes| axes != count);
        if wrong || uneven || count == 0 {
            return Err(format!("{name} {ints:?}"));
        }
        axes = Some(count);
    }
    match numbers("group") {
        Some(group) if !(1..=MOST_REACH).contains(&group.i) => Err(format!("group {}", group.i)),
        _ => Ok(()),
    }
}

/// A graph to work on, and what its inputs are.
pub fn open(
    graph: GraphProto,
    opset: i64,
    folder: Option<&str>,
) -> Result<(Net, Vec<Input>), Fault> {
    let mut net = Net::new(graph, opset, Dim::T);
    let external = |t: &TensorProto| t.data_location == Some(1);
    for (name, tensor) in &mut net.constants {
        if external(tensor) {
            let loaded = tensor::load(tensor, folder).and_then(|t| tensor::store(name, &t));
            *tensor = loaded.map_err(|e| Fault::new(name, format!("{e:#}")))?;
        }
    }
    let mut inputs = vec![];
    for at in 0..net.inputs.len() {
        let (input, dims) = understand(&net.inputs[at])?;
        let rows = match dims {
            Some(length) => Dim::new(length as i64),
            None => Dim::T,
        };
        if inputs.is_empty() {
            net.rows = rows;
        } else if net.rows != rows {
            return Err(Fault::new(&input.name, "the inputs have different lengths"));
        }
        net.meanings.push((input.name.clone(), input.meaning));
        inputs.push(input);
    }
    let main = inputs
        .iter()
        .filter(|i| matches!(i.meaning, Meaning::OneHot | Meaning::Ids));
    if main.count() != 1 {
        return Err(Fault::new(
            "the graph",
            "it needs one input of bases [1, 4, T] or of token ids [1, T]",
        ));
    }
    for (at, input) in inputs.iter().enumerate() {
        restate(&mut net, at, input);
    }
    // Special tokens come first in most vocabularies; the sixth is a letter in all that are known.
    let tables = net.nodes.iter().filter(|n| n.op_type == "Gather");
    let sizes =
        tables.filter_map(|n| Some(net.constant_shape(&n.input[0])?.first().copied()? as i64));
    let table = sizes.filter(|&s| s > 2).min().unwrap_or(6);
    net.ordinary = 5.min(table - 1).max(0);
    Ok((net, inputs))
}

/// What an input means, and its length where that is fixed.
fn understand(input: &ValueInfoProto) -> Result<(Input, Option<usize>), Fault> {
    let fault = |reason: &str| Fault::new(format!("input {}", input.name), reason);
    let tensor = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        _ => return Err(fault("it is no tensor")),
    };
    let shape = tensor
        .shape
        .as_ref()
        .ok_or_else(|| fault("it has no shape"))?;
    let dims: Vec<Option<i64>> = shape
        .dim
        .iter()
        .map(|d| match d.value {
            Some(dimension::Value::DimValue(v)) if v > 0 => Some(v),
            _ => None,
        })
        .collect();
    let kind = node::element_type(input).ok_or_else(|| fault("its type is unknown"))?;
    if dims.first().is_some_and(|d| d.is_some_and(|d| d != 1)) {
        return Err(fault("a batch of more than 1"));
    }
    let size = |d: Option<i64>| d.map(|d| d as usize);
    let name = input.name.to_lowercase();
    let (meaning, transposed, length) = match (dims.as_slice(), kind.is_float()) {
        ([_, Some(4), length], true) => (Meaning::OneHot, false, size(*length)),
        ([_, length, Some(4)], true) => (Meaning::OneHot, true, size(*length)),
        ([_, length], _) if name.contains("mask") => (Meaning::Mask, false, size(*length)),
        ([_, length], true) => (Meaning::Values, false, size(*length)),
        ([_, length], false) if name.contains("flag") => (Meaning::Flags, false, size(*length)),
        ([_, length], false) if name.contains("type") || name.contains("segment") => {
            (Meaning::Types, false, size(*length))
        }
        ([_, length], false) if name.contains("position") => {
            (Meaning::Positions, false, size(*length))
        }
        ([_, length], false) if kind.is_integer() => (Meaning::Ids, false, size(*length)),
        _ => {
            return Err(fault(
                "it is neither bases [1, 4, T] or [1, T, 4], nor token ids [1, T] or a mask, \
                 values or flags of them",
            ));
        }
    };
    let input = Input {
        name: input.name.clone(),
        meaning,
        transposed,
        length,
    };
    Ok((input, length))
}

/// What an input `[1, T, 4]` is called behind its transposition.
pub fn channels_last(input: &str) -> String {
    format!("{input}.channels_last")
}

/// States an input in the shape that it has here; one with channels last is transposed
/// before its readers.
fn restate(net: &mut Net, at: usize, input: &Input) {
    let shape = input.meaning.shape(net.rows);
    let dimension = |d: &Dim| Dimension {
        value: Some(match d.fixed() {
            Some(size) => dimension::Value::DimValue(size),
            None => dimension::Value::DimParam(TILE.to_string()),
        }),
        ..Dimension::default()
    };
    let dims = shape.iter().map(dimension).collect();
    if let Some(type_proto::Value::TensorType(tensor)) = net.inputs[at]
        .r#type
        .as_mut()
        .and_then(|t| t.value.as_mut())
    {
        tensor.shape = Some(TensorShapeProto { dim: dims });
    }
    net.set_fact(
        &input.name,
        Fact::shaped(shape.into_iter().map(Some).collect()),
    );
    if input.transposed {
        let other = channels_last(&input.name);
        net.rename(&input.name, &other);
        let made = node::node("Transpose", &other, &[&input.name], &[&other]);
        net.nodes.insert(
            0,
            node::with(made, "perm", node::Value::Ints(vec![0, 2, 1])),
        );
        net.index();
    }
}
