//! Quantised ONNX files back to float: what they round is left to our own packing, which knows the
//! hardware.
//!
//! Three ways of writing are read: pairs of QuantizeLinear and DequantizeLinear around float
//! operators, operators on integers (QLinearConv and its kin), and dynamic quantisation
//! (DynamicQuantizeLinear, MatMulInteger, ConvInteger). Integer tensors become the floats that they
//! stand for. The ranges that the file states are kept as hints for calibration.

use super::axes;
use super::fault::Fault;
use super::nbits;
use super::net::Net;
use super::node::{self, label, node};
use super::tensor;
use std::collections::HashMap;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto};

/// Lowest and highest value that a quantised file gives a tensor.
pub type Ranges = HashMap<String, (f32, f32)>;

/// Operators that move elements and keep their values, so that they mean the same on integers and
/// on floats.
const MOVES: [&str; 14] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Gather",
    "Slice",
    "Split",
    "Concat",
    "MaxPool",
    "Resize",
    "Expand",
    "Identity",
    "Pad",
];

fn lost(node: &NodeProto, reason: impl Into<String>) -> Fault {
    Fault {
        node: format!("{} ({})", label(node), node.op_type),
        reason: reason.into(),
    }
}

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
        "Mul" => return dynamic(net, op),
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

fn output(op: &NodeProto) -> Result<String, Fault> {
    op.output
        .first()
        .cloned()
        .ok_or_else(|| lost(op, "it has no output"))
}

fn scalar(net: &Net, op: &NodeProto, name: &str) -> Result<f32, Fault> {
    let scalar = net.scalar(name);
    scalar.ok_or_else(|| lost(op, format!("{name} is no constant of one value")))
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

/// `(integer - zero point) · scale`, with one scale for all or one along an axis.
fn floats(
    net: &Net,
    op: &NodeProto,
    name: &str,
    scale: &str,
    zero: Option<&String>,
    axis: i64,
    out: String,
) -> Result<TensorProto, Fault> {
    let tensor = net
        .constants
        .get(name)
        .ok_or_else(|| lost(op, format!("{name} is no constant")))?;
    let values = tensor::integers(tensor).map_err(|e| lost(op, format!("{e:#}")))?;
    let constant = |name: &str| {
        net.floats(name)
            .ok_or_else(|| lost(op, format!("{name} is no constant")))
    };
    let scales = constant(scale)?;
    let zeros = match zero.filter(|z| !z.is_empty()) {
        Some(zero) => constant(zero)?,
        None => vec![0.0],
    };
    let rank = tensor.dims.len();
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
    let (count, inner) = match scales.len() {
        1 => (1, values.len().max(1)),
        n => {
            let axis = axes::axis(axis, rank).filter(|&a| dims[a] == n);
            let axis =
                axis.ok_or_else(|| lost(op, format!("{n} scales for {name} of {dims:?}")))?;
            (n, dims[axis + 1..].iter().product())
        }
    };
    if scales.is_empty() || (zeros.len() != 1 && zeros.len() != count) {
        return Err(lost(
            op,
            format!("{} zero points for {} scales", zeros.len(), scales.len()),
        ));
    }
    let one = |(i, &v): (usize, &i64)| {
        let at = i / inner % count;
        (v as f64 - f64::from(zeros[at % zeros.len()])) as f32 * scales[at]
    };
    let floats = values
        .iter()
        .enumerate()
        .flat_map(|v| one(v).to_le_bytes())
        .collect();
    Ok(TensorProto {
        name: out,
        dims: tensor.dims.clone(),
        data_type: DataType::Float as i32,
        raw_data: floats,
        ..TensorProto::default()
    })
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

/// A constant that is moved (rows of a table gathered) while still in integers.
fn moved_constant(
    net: &mut Net,
    op: &NodeProto,
    x: &str,
    scale: &str,
    zero: Option<&String>,
) -> Result<(), Fault> {
    let mut name = x.to_string();
    loop {
        let Some(at) = net.nodes.iter().position(|n| n.output.contains(&name)) else {
            return Ok(());
        };
        let source = net.nodes[at].clone();
        if !MOVES.contains(&source.op_type.as_str()) {
            return Ok(());
        }
        let Some(input) = source.input.first() else {
            return Ok(());
        };
        if !net.constants.contains_key(input) {
            name = input.clone();
            continue;
        }
        let float = net.constants[input].data_type == DataType::Float as i32;
        if float {
            return Ok(());
        }
        scalar(net, op, scale)?;
        let out = format!("{input}.float");
        let tensor = floats(net, op, input, scale, zero, 0, out.clone())?;
        net.constants.insert(out.clone(), tensor);
        net.nodes[at].input[0] = out;
        return Ok(());
    }
}

/// `Cast(MatMulInteger(x, w)) · (scale of x · scale of w)`, at the product, and the same of a
/// convolution.
fn dynamic(net: &mut Net, op: &NodeProto) -> Result<Option<Vec<NodeProto>>, Fault> {
    for (sum, scales) in [(0, 1), (1, 0)] {
        let cast = op.input.get(sum).and_then(|i| net.producer_of(i, "Cast"));
        let Some(product) = cast.and_then(|c| net.producer(c.input.first()?)) else {
            continue;
        };
        let operator = match product.op_type.as_str() {
            "MatMulInteger" => "MatMul",
            "ConvInteger" => "Conv",
            _ => continue,
        };
        let product = product.clone();
        // By its zero point: its integers may have been transposed or reshaped on the way.
        let quantise = product
            .input
            .get(2)
            .and_then(|i| net.producer_of(i, "DynamicQuantizeLinear"));
        let quantise = quantise.cloned();
        let both = net
            .producer_of(&op.input[scales], "Mul")
            .ok_or_else(|| lost(op, "its scales are no product"))?;
        let stated = quantise.and_then(|q| q.output.get(1).cloned());
        let fixed = |name: &String| net.constants.contains_key(name);
        let (scale, weight_scale) = match (both.input.as_slice(), stated) {
            ([a, b], Some(stated)) if *a == stated => (a.clone(), b.clone()),
            ([a, b], Some(stated)) if *b == stated => (b.clone(), a.clone()),
            ([a, b], None) if fixed(a) && fixed(b) && net.scalar(a).is_some() => {
                (a.clone(), b.clone())
            }
            _ => return Err(lost(op, "its scales are not those of its operands")),
        };
        // Rows of a table in integers go straight into the product.
        if let (true, Some(zero)) = (fixed(&scale), product.input.get(2)) {
            moved_constant(net, &product, &product.input[0], &scale, Some(zero))?;
        }
        let (weight, zero) = match product.input.get(1) {
            Some(weight) => (weight.clone(), product.input.get(3).cloned()),
            None => return Err(lost(&product, "it has no weights")),
        };
        let name = format!("{weight}.float");
        let axis = if operator == "Conv" { 0 } else { -1 };
        // A scale a channel may come in the shape that broadcasting wants.
        let tensor = floats(
            net,
            &product,
            &weight,
            &weight_scale,
            zero.as_ref(),
            axis,
            name.clone(),
        )?;
        net.constants.insert(name.clone(), tensor);
        let mut made = product;
        made.op_type = operator.to_string();
        made.input[1] = name;
        made.input.truncate(2);
        made.output = vec![output(op)?];
        return Ok(Some(vec![made]));
    }
    Ok(None)
}
