//! Integer tensors of quantised files, and the floats that they stand for.

use super::axes;
use super::fault::Fault;
use super::net::Net;
use super::node::label;
use super::tensor;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto};

/// Operators that move elements and keep their values, so that they mean the same on integers and
/// on floats.
pub const MOVES: [&str; 14] = [
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

pub fn lost(node: &NodeProto, reason: impl Into<String>) -> Fault {
    Fault {
        node: format!("{} ({})", label(node), node.op_type),
        reason: reason.into(),
    }
}

pub fn output(op: &NodeProto) -> Result<String, Fault> {
    op.output
        .first()
        .cloned()
        .ok_or_else(|| lost(op, "it has no output"))
}

pub fn scalar(net: &Net, op: &NodeProto, name: &str) -> Result<f32, Fault> {
    let scalar = net.scalar(name);
    scalar.ok_or_else(|| lost(op, format!("{name} is no constant of one value")))
}

/// `(integer - zero point) · scale`, with one scale for all or one along an axis.
pub fn floats(
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

/// A constant that is moved (rows of a table gathered) while still in integers.
pub fn moved_constant(
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
