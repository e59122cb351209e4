//! The first layer of a value branch: one number a token, times a row, plus a row.

use super::function::FUNCTION;
use super::meaning::Meaning;
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::rows::{Rows, finish};
use crate::kernels::Activation;
use tract_onnx::pb::NodeProto;

/// A linear layer of the values, which may be clamped before.
pub fn scalar(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let gemm = match op.op_type.as_str() {
        "MatMul" => false,
        "Gemm" => true,
        _ => return None,
    };
    let shape = net.constant_shape(op.input.get(1)?)?;
    let width: usize = shape.iter().product();
    // A matrix of one row; for a Gemm of one column, where that says so.
    let flip = gemm && node::int(&op, "transB").unwrap_or(0) != 0;
    let &[.., depth, columns] = shape.as_slice() else {
        return None;
    };
    if (if flip { columns } else { depth }) != 1 {
        return None;
    }
    let plain = |name| node::float(&op, name).unwrap_or(1.0) == 1.0;
    let plain = plain("alpha") && plain("beta") && node::int(&op, "transA").unwrap_or(0) == 0;
    if gemm && !plain {
        return None;
    }
    let (source, [least, most]) = clamped(net, op.input.first()?)?;
    let weight = net.floats(&op.input[1])?;
    let name = format!("{}.row", op.output[0]);
    let mut inputs = vec![source.clone(), net.add_floats(name, &[width], &weight)];
    if let Some(bias) = op.input.get(2).filter(|i| gemm && !i.is_empty()) {
        let values = net.floats(bias)?;
        if values.len() != width {
            return None;
        }
        inputs.push(net.add_floats(format!("{}.bias", op.output[0]), &[width], &values));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let made = node(&format!("{PREFIX}Scalar"), label(&op), &inputs, &[]);
    let made = with(made, "least", Value::Float(least));
    let made = with(made, "most", Value::Float(most));
    let of = Rows {
        name: source,
        rows: net.rows,
        width,
    };
    finish(net, made, &of, width, &op.output[0])
}

/// The values behind a tensor, and between what they are clamped.
fn clamped(net: &Net, name: &str) -> Option<(String, [f32; 2])> {
    // Finite bounds: a specification holds no others.
    let (mut name, mut least, mut most) = (name.to_string(), -1e11, 1e11);
    while let Some(op) = net.producer(&name) {
        let given = |at: usize| -> Option<Option<f32>> {
            match op.input.get(at).filter(|i| !i.is_empty()) {
                Some(input) => net.scalar(input).map(Some),
                None => Some(None),
            }
        };
        let [low, high] = match op.op_type.as_str() {
            "Unsqueeze" | "Squeeze" | "Reshape" | "Identity" => [None, None],
            "Clip" => [given(1)?, given(2)?],
            "Min" if op.input.len() == 2 => [None, Some(net.scalar(&op.input[1])?)],
            "Max" if op.input.len() == 2 => [Some(net.scalar(&op.input[1])?), None],
            FUNCTION => match serde_json::from_str(&node::text(op, "function")?).ok()? {
                Activation::Clip { low, high } => [Some(low.get()), Some(high.get())],
                Activation::Relu => [Some(0.0), None],
                _ => return None,
            },
            _ => return None,
        };
        // What was clamped before is clamped by what comes behind it, too.
        if let Some(low) = low {
            (least, most) = (f32::max(least, low), f32::max(most, low));
        }
        if let Some(high) = high {
            (least, most) = (f32::min(least, high), f32::min(most, high));
        }
        name = op.input.first()?.clone();
    }
    let is_values = net.meanings.contains(&(name.clone(), Meaning::Values));
    is_values.then_some((name, [least, most]))
}
