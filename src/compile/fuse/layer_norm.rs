//! Layer norm of rows, as one operator or written out, and of a vector, as one operator; and the
//! root mean square norm, which is one without the mean.

use super::axes;
use super::dim::Dim;
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::rows::{finish, rows};
use tract_onnx::pb::NodeProto;

/// `LayerNormalization` over the last axis.
pub fn layer_norm(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "LayerNormalization" || op.output.iter().skip(1).any(|o| !o.is_empty()) {
        return None;
    }
    let rank = net.rank(&op.input[0])?;
    if axes::axis(node::int(&op, "axis").unwrap_or(-1), rank)? != rank - 1 {
        return None;
    }
    let gamma = op.input.get(1)?.clone();
    let beta = op.input.get(2).filter(|b| !b.is_empty()).cloned();
    let epsilon = node::float(&op, "epsilon").unwrap_or(1e-5);
    let x = op.input[0].clone();
    write(net, &op, (&x, true), (Some(gamma), beta), epsilon)
}

/// `(x - mean) / sqrt(variance + epsilon)`, as a quotient or as a product with the reciprocal, or
/// the same without the mean; gamma and beta are absorbed later.
pub fn written_out(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let (centred, root) = match op.op_type.as_str() {
        "Div" => (op.input.first()?, op.input.get(1)?),
        "Mul" => {
            let inverse = |i: usize| {
                let inverse = net.producer(op.input.get(i)?)?;
                match inverse.op_type.as_str() {
                    "Reciprocal" => Some((op.input.get(1 - i)?, inverse.input.first()?)),
                    "Div" if net.scalar(inverse.input.first()?) == Some(1.0) => {
                        Some((op.input.get(1 - i)?, inverse.input.get(1)?))
                    }
                    _ => None,
                }
            };
            inverse(0).or_else(|| inverse(1))?
        }
        _ => return None,
    };
    let root = net.producer(root)?;
    let sum = match root.op_type.as_str() {
        "Sqrt" => root.input.first()?,
        "Pow" if net.scalar(root.input.get(1)?) == Some(0.5) => root.input.first()?,
        _ => return None,
    };
    let sum = net.producer_of(sum, "Add")?;
    let (variance, epsilon) = match (net.scalar(&sum.input[0]), net.scalar(sum.input.get(1)?)) {
        (None, Some(epsilon)) => (&sum.input[0], epsilon),
        (Some(epsilon), None) => (sum.input.get(1)?, epsilon),
        _ => return None,
    };
    let over_columns = |node: &NodeProto| {
        let rank = net.rank(node.input.first()?)?;
        let axes = axes::axes(net, node)?;
        let last = axes.len() == 1 && axes::axis(axes[0], rank)? == rank - 1;
        (last && node::int(node, "keepdims").unwrap_or(1) == 1).then_some(())
    };
    let variance = net.producer_of(variance, "ReduceMean")?;
    over_columns(variance)?;
    let square = net.producer(variance.input.first()?)?;
    let squared = match square.op_type.as_str() {
        "Pow" if net.scalar(square.input.get(1)?) == Some(2.0) => square.input.first()?,
        "Mul" if square.input.first()? == square.input.get(1)? => square.input.first()?,
        _ => return None,
    };
    // torch centres once and reads it twice; others write the difference out twice.
    let centre = |name: &str| {
        let difference = net.producer_of(name, "Sub")?;
        let mean = net.producer_of(difference.input.get(1)?, "ReduceMean")?;
        over_columns(mean)?;
        let same = mean.input.first()? == difference.input.first()?;
        same.then(|| difference.input[0].clone())
    };
    let x = match (centre(centred), centre(squared)) {
        (Some(x), Some(y)) if x == y => (x, true),
        _ if centred == squared => (centred.clone(), false),
        _ => return None,
    };
    write(net, &op, (&x.0, x.1), (None, None), epsilon)
}

fn write(
    net: &mut Net,
    op: &NodeProto,
    (x, centred): (&str, bool),
    (gamma, beta): (Option<String>, Option<String>),
    epsilon: f32,
) -> Option<Vec<NodeProto>> {
    let mut nodes = vec![];
    let out = &op.output[0];
    let stated = |made: NodeProto| {
        let made = with(made, "epsilon", Value::Float(epsilon));
        with(made, "centred", Value::Int(i64::from(centred)))
    };
    if let Some([Dim::ONE, width]) = net.shape(x).as_deref()
        && let Some(width) = width.size()
    {
        let gamma = gamma?;
        let beta = beta
            .unwrap_or_else(|| net.add_floats(format!("{out}.beta"), &[width], &vec![0.0; width]));
        let made = node(
            &format!("{PREFIX}LayerNorm"),
            label(op),
            &[x, &gamma, &beta],
            &[out],
        );
        return Some(vec![stated(made)]);
    }
    let from = rows(net, x, &mut nodes)?;
    let gamma = gamma.unwrap_or_else(|| {
        net.add_floats(
            format!("{out}.gamma"),
            &[from.width],
            &vec![1.0; from.width],
        )
    });
    let beta = beta.unwrap_or_else(|| {
        net.add_floats(format!("{out}.beta"), &[from.width], &vec![0.0; from.width])
    });
    for constant in [&gamma, &beta] {
        if net.constant_shape(constant)? != [from.width] {
            return None;
        }
    }
    let made = node(
        &format!("{PREFIX}LayerNorm"),
        label(op),
        &[&from.name, &gamma, &beta],
        &[],
    );
    nodes.extend(finish(net, stated(made), &from, from.width, out)?);
    Some(nodes)
}
