//! Quantised ONNX files back to float: what they round is left to our own packing, which knows the
//! hardware.
//!
//! Three ways of writing are read: pairs of QuantizeLinear and DequantizeLinear around float
//! operators, operators on integers (QLinearConv and its kin), and dynamic quantisation
//! (DynamicQuantizeLinear, MatMulInteger, ConvInteger). Integer tensors become the floats that they
//! stand for. The ranges that the file states are kept as hints for calibration.

use super::dynamic;
use super::fault::Fault;
use super::integers::{floats, lost, moved_constant, output, scalar};
use super::nbits;
use super::net::Net;
use super::node::{self, label, node};
use std::collections::HashMap;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// Lowest and highest value that a quantised file gives a tensor.
pub type Ranges = HashMap<String, (f32, f32)>;

/// True for an operator that rounds, or reads what was rounded.
pub fn is_quantised(n: &NodeProto) -> bool {
    n.op_type.contains("Quantize")
        || n.op_type.starts_with("QLinear")
        || n.op_type == "QGemm"
        || n.op_type.ends_with("Integer")
        || n.op_type == "MatMulNBits"
}

/// Turns a quantised graph to float.
pub fn remove(net: &mut Net, ranges: &mut Ranges) -> Result<(), Fault> {
    if !net.nodes.iter().any(is_quantised) {
        return Ok(());
    }
    let mut at = 0;
    while at < net.nodes.len() {
        let op = net.nodes[at].clone();
        let new = rewrite(net, &op, ranges)?;
        match new {
            Some(new) => {
                let count = new.len();
                net.nodes.splice(at..=at, new);
                net.index();
                at += count;
            }
            None => at += 1,
        }
    }
    let dynamic = net
        .nodes
        .iter()
        .filter(|n| n.op_type == "DynamicQuantizeLinear");
    let same: Vec<(String, String)> = dynamic
        .map(|n| (n.output[0].clone(), n.input[0].clone()))
        .collect();
    for (integers, floats) in same {
        net.rename(&integers, &floats);
    }
    net.drop_dead();
    let left = net.nodes.iter().find(|n| is_quantised(n));
    if let Some(node) = left {
        return Err(lost(
            node,
            "this use of a quantised operator is not understood",
        ));
    }
    // Rows of bytes that nothing has turned to float would be read as numbers.
    let bytes = [DataType::Uint8 as i32, DataType::Int8 as i32];
    let is_table = |name: &String| {
        let constant = net.constants.get(name);
        constant.is_some_and(|c| bytes.contains(&c.data_type) && c.dims.len() > 1)
    };
    let reads = |n: &&NodeProto| n.op_type != "Cast" && n.input.iter().any(is_table);
    match net.nodes.iter().find(reads) {
        Some(node) => Err(lost(
            node,
            "its bytes are read by an operator that states no scale for them",
        )),
        None => Ok(()),
    }
}

fn rewrite(
    net: &mut Net,
    op: &NodeProto,
    ranges: &mut Ranges,
) -> Result<Option<Vec<NodeProto>>, Fault> {
    let input = |at: usize| {
        let name = op.input.get(at).filter(|i| !i.is_empty());
        name.cloned()
            .ok_or_else(|| lost(op, format!("input {at} is missing")))
    };
    Ok(Some(match op.op_type.as_str() {
        "QuantizeLinear" => {
            let (x, out) = (input(0)?, output(op)?);
            if net.constants.contains_key(&x) {
                return Ok(Some(vec![node("Identity", label(op), &[&x], &[&out])]));
            }
            rectified(net, op, &x, &out, &input(1)?, op.input.get(2), ranges)?
        }
        "DequantizeLinear" => {
            let (x, out) = (input(0)?, output(op)?);
            if node::int(op, "block_size").unwrap_or(0) != 0 {
                return Err(lost(op, "scales by block"));
            }
            let axis = node::int(op, "axis").unwrap_or(1);
            if net.constants.contains_key(&x) {
                let tensor = floats(net, op, &x, &input(1)?, op.input.get(2), axis, out.clone())?;
                net.constants.insert(out, tensor);
                return Ok(Some(vec![]));
            }
            moved_constant(net, op, &x, &input(1)?, op.input.get(2))?;
            vec![node("Identity", label(op), &[&x], &[&out])]
        }
        "Mul" => return dynamic::rewrite(net, op),
        "MatMulNBits" => nbits::rewrite(net, op)?,
        "QLinearConv" => {
            let bias = op.input.get(8).filter(|b| !b.is_empty()).cloned();
            let weight = operand(net, op, 3, 0)?;
            let mut inputs = vec![operand(net, op, 0, 1)?, weight];
            if let Some(bias) = bias {
                inputs.push(bias_of(net, op, &bias, &input(1)?, &input(4)?)?);
            }
            result(net, op, "Conv", inputs, (6, 7), ranges)?
        }
        "QLinearMatMul" => {
            let inputs = vec![operand(net, op, 0, 1)?, operand(net, op, 3, -1)?];
            result(net, op, "MatMul", inputs, (6, 7), ranges)?
        }
        "QGemm" => {
            let mut inputs = vec![
                operand(net, op, 0, 1)?,
                operand(
                    net,
                    op,
                    3,
                    if node::int(op, "transB") == Some(1) {
                        0
                    } else {
                        1
                    },
                )?,
            ];
            if let Some(bias) = op.input.get(6).filter(|b| !b.is_empty()).cloned() {
                inputs.push(bias_of(net, op, &bias, &input(1)?, &input(4)?)?);
            }
            result(net, op, "Gemm", inputs, (7, 8), ranges)?
        }
        "QLinearAdd" | "QLinearMul" => {
            let inputs = vec![operand(net, op, 0, 1)?, operand(net, op, 3, 1)?];
            result(net, op, &op.op_type[7..], inputs, (6, 7), ranges)?
        }
        "QLinearSigmoid"
        | "QLinearLeakyRelu"
        | "QLinearSoftmax"
        | "QLinearGlobalAveragePool"
        | "QLinearAveragePool"
        | "QLinearReduceMean" => {
            if node::int(op, "channels_last").unwrap_or(0) != 0 {
                return Err(lost(op, "channels last"));
            }
            let inputs = vec![operand(net, op, 0, 1)?];
            result(net, op, &op.op_type[7..], inputs, (3, 4), ranges)?
        }
        "QLinearConcat" => {
            let count = op.input.len().saturating_sub(2) / 3;
            let inputs: Result<Vec<String>, Fault> =
                (0..count).map(|i| operand(net, op, 2 + 3 * i, 1)).collect();
            let inputs = inputs?;
            result(net, op, "Concat", inputs, (0, 1), ranges)?
        }
        _ => return Ok(None),
    }))
}

/// The float tensor behind the integer operand at `slot`, whose scale and zero point follow it.
fn operand(net: &mut Net, op: &NodeProto, slot: usize, axis: i64) -> Result<String, Fault> {
    let name = op.input.get(slot).cloned().unwrap_or_default();
    let scale = op.input.get(slot + 1).cloned().unwrap_or_default();
    let zero = op.input.get(slot + 2).cloned();
    if !net.constants.contains_key(&name) {
        moved_constant(net, op, &name, &scale, zero.as_ref())?;
        return Ok(name);
    }
    let out = format!("{name}.float");
    let tensor = floats(net, op, &name, &scale, zero.as_ref(), axis, out.clone())?;
    net.constants.insert(out.clone(), tensor);
    Ok(out)
}

/// A bias in steps of input scale times weight scale.
fn bias_of(
    net: &mut Net,
    op: &NodeProto,
    bias: &str,
    input: &str,
    weight: &str,
) -> Result<String, Fault> {
    let constant = |name: &str| {
        net.floats(name)
            .ok_or_else(|| lost(op, format!("{name} is no constant")))
    };
    let (steps, scales) = (constant(bias)?, constant(weight)?);
    let unit = scalar(net, op, input)?;
    if scales.len() != 1 && scales.len() != steps.len() {
        return Err(lost(
            op,
            format!("{} scales for a bias of {}", scales.len(), steps.len()),
        ));
    }
    let values: Vec<f32> = steps
        .iter()
        .enumerate()
        .map(|(i, b)| b * unit * scales[i % scales.len()])
        .collect();
    Ok(net.add_floats(format!("{}.bias", output(op)?), &[values.len()], &values))
}

/// The float operator in the place of one on integers.
fn result(
    net: &Net,
    op: &NodeProto,
    operator: &str,
    inputs: Vec<String>,
    (scale, zero): (usize, usize),
    ranges: &mut Ranges,
) -> Result<Vec<NodeProto>, Fault> {
    let out = output(op)?;
    let raw = format!("{out}.raw");
    let mut made = op.clone();
    made.op_type = operator.to_string();
    made.domain = String::new();
    made.input = inputs;
    made.attribute.retain(|a| a.name != "channels_last");
    if operator == "Softmax" {
        made.attribute.retain(|a| a.name != "opset");
    }
    made.output = vec![raw.clone()];
    // A QGemm without an output scale gives floats.
    let Some(scale) = op.input.get(scale).filter(|s| !s.is_empty()) else {
        made.output = vec![out];
        return Ok(vec![made]);
    };
    let nonnegative = match operator {
        "Sigmoid" | "Softmax" => true,
        "Conv" | "Gemm" | "MatMul" => false,
        _ => made.input.iter().all(|i| is_nonnegative(net, i, 32)),
    };
    let mut nodes = vec![made];
    let tail = clip(
        net,
        op,
        &raw,
        &out,
        (scale, op.input.get(zero)),
        ranges,
        nonnegative,
    )?;
    match tail.op_type.as_str() {
        "Identity" => nodes[0].output = vec![out],
        _ => nodes.push(tail),
    }
    Ok(nodes)
}

fn rectified(
    net: &Net,
    op: &NodeProto,
    x: &str,
    out: &str,
    scale: &str,
    zero: Option<&String>,
    ranges: &mut Ranges,
) -> Result<Vec<NodeProto>, Fault> {
    if net.floats(scale).is_some_and(|s| s.len() != 1) {
        return Err(lost(op, "activations with one scale a channel"));
    }
    let nonnegative = is_nonnegative(net, x, 32);
    Ok(vec![clip(
        net,
        op,
        x,
        out,
        (scale, zero),
        ranges,
        nonnegative,
    )?])
}

/// What quantisation to a range does beside rounding. Quantisers leave out a ReLU before a range
/// that starts at zero, so there one is put back.
fn clip(
    net: &Net,
    op: &NodeProto,
    x: &str,
    out: &str,
    (scale, zero): (&str, Option<&String>),
    ranges: &mut Ranges,
    nonnegative: bool,
) -> Result<NodeProto, Fault> {
    let step = scalar(net, op, scale)?;
    let (least, most, zero) = match zero.filter(|z| !z.is_empty()) {
        None => (0.0, 255.0, 0.0),
        Some(name) => {
            let kind = net
                .constants
                .get(name)
                .map(|t| DataType::try_from(t.data_type));
            let (least, most) = match kind {
                Some(Ok(DataType::Uint8)) => (0.0, 255.0),
                Some(Ok(DataType::Int8)) => (-128.0, 127.0),
                Some(Ok(DataType::Uint16)) => (0.0, 65_535.0),
                Some(Ok(DataType::Int16)) => (-32_768.0, 32_767.0),
                _ => return Err(lost(op, format!("zero point {name} of an unknown type"))),
            };
            (least, most, scalar(net, op, name)?)
        }
    };
    let range = ((least - zero) * step, (most - zero) * step);
    let adds = range.0 == 0.0 && !nonnegative;
    for name in [x, out] {
        ranges.insert(name.to_string(), range);
    }
    let operator = if adds { "Relu" } else { "Identity" };
    Ok(node(operator, label(op), &[x], &[out]))
}

/// True where no value can be below zero.
fn is_nonnegative(net: &Net, name: &str, depth: usize) -> bool {
    if net.is_input(name) {
        return true;
    }
    if net.constants.contains_key(name) {
        return net
            .floats(name)
            .is_some_and(|v| v.iter().all(|x| *x >= 0.0));
    }
    let Some(op) = net.producer(name).filter(|_| depth > 0) else {
        return false;
    };
    match op.op_type.as_str() {
        "Relu" | "Sigmoid" | "Softmax" | "Sqrt" | "Exp" | "Abs" => true,
        "Pow" => {
            net.scalar(&op.input[1]) == Some(2.0) || is_nonnegative(net, &op.input[0], depth - 1)
        }
        "Mul" if op.input[0] == op.input[1] => true,
        // Its second input is a shape, an axis or indices.
        "Reshape" | "Squeeze" | "Unsqueeze" | "Slice" | "Gather" | "Expand" | "Resize" | "Pad"
        | "Transpose" | "Flatten" | "Identity" | "MaxPool" | "AveragePool"
        | "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax" | "ReduceSum"
        | "Dropout" => is_nonnegative(net, &op.input[0], depth - 1),
        "Concat" | "Add" | "Mul" | "Div" => {
            op.input.iter().all(|i| is_nonnegative(net, i, depth - 1))
        }
        _ => false,
    }
}
