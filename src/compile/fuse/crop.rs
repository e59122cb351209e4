//! Networks whose output covers less than their input: convolutions without padding, and slices
//! that cut the ends off. Both become convolutions that keep the length, so that there is a row for
//! every position. Between the ends the rows are the network's own; at the ends, which it leaves
//! out, they are what a network with padding gives.

use super::axes;
use super::dim::Dim;
use super::elementwise::is_unary;
use super::net::Net;
use super::node::{self, Value, label, node, with};
use std::collections::HashMap;
use tract_onnx::pb::NodeProto;

/// Positions that a tensor lacks at its beginning and at its end.
pub type Crop = (i64, i64);

/// Operators on rows by themselves, beside those on single elements.
const BY_ROW: [&str; 18] = [
    "Add",
    "BatchNormalization",
    "Cast",
    "Concat",
    "Div",
    "Dropout",
    "Identity",
    "LayerNormalization",
    "LogSoftmax",
    "Max",
    "Min",
    "Mul",
    "PRelu",
    "Softmax",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

/// Lets every convolution keep the length. Gives what the output of the graph as it was lacks;
/// `None` where it lacks nothing.
///
/// # Errors
/// Why that cannot be done; the graph is as it was.
pub fn open(net: &mut Net) -> Result<Option<Crop>, String> {
    let mut crops: HashMap<String, Crop> = net
        .meanings
        .iter()
        .map(|(name, _)| (name.clone(), (0, 0)))
        .collect();
    let mut nodes = net.nodes.clone();
    for op in &mut nodes {
        let of: Vec<Crop> = op
            .input
            .iter()
            .filter_map(|i| crops.get(i).copied())
            .collect();
        let Some(&first) = of.first() else { continue };
        if ["Shape", "Size"].contains(&op.op_type.as_str()) {
            continue;
        }
        let name = format!("{} ({})", label(op), op.op_type);
        if of.iter().any(|crop| *crop != first) {
            return Err(format!("{name} joins rows of different positions"));
        }
        let crop = match op.op_type.as_str() {
            "Slice" => slice(net, op, first),
            "Pad" => pad(net, op, first)?,
            "Conv" => convolution(net, op, first)?,
            _ if first.0 < 0 || first.1 < 0 => {
                return Err(format!("{name} reads zeros that lie around the rows"));
            }
            // A matrix multiplies the columns.
            "MatMul"
                if op
                    .input
                    .get(1)
                    .is_some_and(|w| net.constants.contains_key(w)) =>
            {
                Some(first)
            }
            row if BY_ROW.contains(&row) || is_unary(op) || first == (0, 0) => Some(first),
            _ => return Err(format!("{name} reads rows without the ends")),
        };
        if let Some(crop) = crop {
            crops.extend(op.output.iter().map(|output| (output.clone(), crop)));
        }
    }
    let mut outputs = net.outputs.iter().map(|o| crops.get(&o.name).copied());
    let first = outputs.next().flatten().unwrap_or((0, 0));
    if outputs.any(|crop| crop != Some(first)) {
        return Err("outputs of different positions".to_string());
    }
    if crops.values().all(|crop| *crop == (0, 0)) {
        return Ok(None);
    }
    if first.0 < 0 || first.1 < 0 {
        return Err("it gives more rows than it has positions".to_string());
    }
    net.nodes = nodes;
    net.index();
    net.infer();
    Ok(Some(first))
}

/// The axis of the length of a tensor that lacks so much.
fn along(net: &Net, name: &str, crop: Crop) -> Option<usize> {
    let dims = net.fact(name).shape?;
    let length = net.rows.subtract(Dim::new(crop.0 + crop.1))?;
    let mut found = (0..dims.len()).filter(|&at| dims[at] == Some(length));
    found.next().filter(|_| found.next().is_none())
}

/// A slice of the length is left out.
fn slice(net: &Net, op: &mut NodeProto, crop: Crop) -> Option<Crop> {
    let at = along(net, &op.input[0], crop)?;
    let dims = net.fact(&op.input[0]).shape?;
    let slices = axes::slices(net, op)?;
    let [(axis, from, to, 1)] = slices.as_slice() else {
        return None;
    };
    if *axis != at {
        return Some(crop);
    }
    let before = from.fixed()?;
    let behind = dims[at]?.subtract(*to)?.fixed()?;
    // What is left of a length that the file fixes may be one position, which is no crop.
    let left = to.subtract(*from)?;
    if let (Some(left), Some(rows)) = (left.fixed(), net.rows.fixed())
        && left < rows / 8
    {
        return None;
    }
    *op = node("Identity", label(op), &[&op.input[0]], &[&op.output[0]]);
    Some((crop.0 + before, crop.1 + behind))
}

/// Zeros around what only convolutions read are their padding.
fn pad(net: &Net, op: &mut NodeProto, crop: Crop) -> Result<Option<Crop>, String> {
    if crop != (0, 0) {
        return Err(format!(
            "{} (Pad) puts zeros where rows were cut",
            label(op)
        ));
    }
    Ok(padding(net, op))
}

fn padding(net: &Net, op: &mut NodeProto) -> Option<Crop> {
    let crop = (0, 0);
    let at = along(net, &op.input[0], crop)?;
    let mode = node::text(op, "mode").unwrap_or_else(|| "constant".to_string());
    let pads = match op.input.get(1) {
        Some(pads) => net.integers(pads)?,
        None => node::ints(op, "pads")?,
    };
    let value = match op.input.get(2).filter(|value| !value.is_empty()) {
        Some(value) => net.scalar(value)?,
        None => node::float(op, "value").unwrap_or(0.0),
    };
    let rank = pads.len() / 2;
    let (before, behind) = (*pads.get(at)?, *pads.get(at + rank)?);
    let others = (0..pads.len()).filter(|i| i % rank != at);
    let none = others.map(|i| pads[i]).all(|pad| pad == 0);
    let readers = net.readers(&op.output[0]);
    let convolutions = readers.iter().all(|&at| net.nodes[at].op_type == "Conv");
    if mode != "constant" || value != 0.0 || !none || op.input.len() > 3 || !convolutions {
        return Some(crop);
    }
    *op = node("Identity", label(op), &[&op.input[0]], &[&op.output[0]]);
    Some((-before, -behind))
}

/// Padding that keeps the length.
fn convolution(net: &Net, op: &mut NodeProto, crop: Crop) -> Result<Option<Crop>, String> {
    let name = format!("{} (Conv)", label(op));
    let plain = |crop: Crop| (crop == (0, 0)).then_some(crop);
    let found = along(net, &op.input[0], crop);
    let weight = op
        .input
        .get(1)
        .and_then(|weight| net.constant_shape(weight));
    let (Some(axis), Some(weight)) = (found.filter(|axis| *axis >= 2), weight) else {
        return match plain(crop) {
            Some(crop) => Ok(Some(crop)),
            None => Err(format!("{name} reads rows without the ends")),
        };
    };
    let (at, axes) = (axis - 2, weight.len().saturating_sub(2));
    let list = |name: &str, default: i64, count: usize| {
        node::ints(op, name).unwrap_or_else(|| vec![default; count])
    };
    let one = |name: &str| list(name, 1, axes).get(at).copied().unwrap_or(1);
    let (stride, dilation) = (one("strides"), one("dilations"));
    let span = (weight.get(axis).map_or(0, |&k| k as i64) - 1) * dilation;
    let mut pads = list("pads", 0, 2 * axes);
    let (before, behind) = match node::text(op, "auto_pad").as_deref() {
        Some("SAME_UPPER") => (span / 2, span - span / 2),
        Some("SAME_LOWER") => (span - span / 2, span / 2),
        Some("VALID") => (0, 0),
        _ => match (pads.get(at), pads.get(at + axes)) {
            (Some(before), Some(behind)) => (*before, *behind),
            _ => return Err(format!("{name} has other pads than axes")),
        },
    };
    // What is cut off in front of a convolution that pads is zero to it, and would not be.
    let cut = crop.0 > 0 || crop.1 > 0;
    if stride != 1 || (cut && before + behind > 0) {
        return match plain(crop) {
            Some(crop) => Ok(Some(crop)),
            None => Err(format!("{name} pads or strides behind a cut")),
        };
    }
    let missing = span - before - behind;
    if missing == 0 && crop == (0, 0) {
        return Ok(Some(crop));
    }
    // Around the middle, by whole steps of the dilation; what was padded apart counts.
    let front = (span / 2 / dilation.max(1)) * dilation.max(1);
    let front = match (crop.0 < 0 || crop.1 < 0, before - crop.0) {
        (true, stated) if (0..=span).contains(&stated) && stated % dilation == 0 => stated,
        _ => front.max(before),
    };
    if front > span || missing < 0 {
        return Err(format!("{name} pads more than it needs"));
    }
    let back = span - front;
    if pads.len() == 2 * axes {
        (pads[at], pads[at + axes]) = (front, back);
    }
    op.attribute
        .retain(|a| !["pads", "auto_pad"].contains(&a.name.as_str()));
    *op = with(op.clone(), "pads", Value::Ints(pads));
    let left = (crop.0 + front - before, crop.1 + back - behind);
    if left.0 < 0 || left.1 < 0 {
        return Err(format!("{name} leaves zeros around its rows"));
    }
    Ok(Some(left))
}
