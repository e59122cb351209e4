//! Operators on single elements, moved before the views that lead to them.

use super::net::Net;
use super::view::{Atom, View};
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// Operators on each element by itself.
const UNARY: [&str; 16] = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Sqrt",
    "Exp",
    "Neg",
    "Abs",
    "Softplus",
    "Clip",
    "HardSwish",
    "Gelu",
    "strandline.Gelu",
    "strandline.Function",
];

/// True for an operator on each element by itself.
pub fn is_unary(op: &NodeProto) -> bool {
    UNARY.contains(&op.op_type.as_str())
}

/// Moves an operator on single elements before the views that lead to it.
pub fn hoist(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let out = op.output.first()?.clone();
    let shape = net.shape(&out)?;
    if is_unary(&op) {
        let view = View::trace(net, &op.input[0])?;
        if view.source == op.input[0] || !view.is_whole() {
            return None;
        }
        let hidden = format!("{out}.plain");
        let mut nodes = view.emit(net, &hidden, &out, &shape)?;
        let mut moved = op.clone();
        moved.input[0] = view.source;
        moved.output = vec![hidden];
        nodes.insert(0, moved);
        return Some(nodes);
    }
    if !["Add", "Sub", "Mul", "Div", "Max", "Min"].contains(&op.op_type.as_str())
        || op.input.len() != 2
    {
        return None;
    }
    if op.input.iter().all(|i| net.constants.contains_key(i)) {
        return None;
    }
    let constant = op.input.iter().position(|i| net.constants.contains_key(i));
    let hidden = format!("{out}.plain");
    let mut moved = op.clone();
    moved.output = vec![hidden.clone()];
    let view = match constant {
        None => {
            let (a, b) = (
                View::trace(net, &op.input[0])?,
                View::trace(net, &op.input[1])?,
            );
            if !same_order(&a, &b)
                || a.channels_first != b.channels_first
                || a.width != b.width
                || a.rows != b.rows
            {
                return None;
            }
            if !a.is_whole()
                || !b.is_whole()
                || (a.source == op.input[0] && b.source == op.input[1])
            {
                return None;
            }
            moved.input = vec![a.source.clone(), b.source.clone()];
            if net.rank(&op.input[0])? >= net.rank(&op.input[1])? {
                a
            } else {
                b
            }
        }
        Some(slot) => {
            let view = View::trace(net, &op.input[1 - slot])?;
            let dims = net.constant_shape(&op.input[slot])?;
            // Positions are counted in integers, which stay so.
            let kind = net.constants.get(&op.input[slot])?.data_type;
            if kind != DataType::Float as i32 {
                return None;
            }
            if view.source == op.input[1 - slot] || !view.is_whole() || dims.len() > view.axes.len()
            {
                return None;
            }
            moved.input[1 - slot] = view.source.clone();
            if dims.iter().product::<usize>() != 1 {
                // One value a column, along the axis that holds all columns.
                let lead = view.axes.len() - dims.len();
                let wide: Vec<usize> = (0..dims.len()).filter(|&i| dims[i] != 1).collect();
                let columns = [Atom::Column {
                    size: view.width,
                    stride: 1,
                }];
                if wide.len() != 1
                    || dims[wide[0]] != view.width
                    || view.axes[lead + wide[0]] != columns
                {
                    return None;
                }
                let values = net.floats(&op.input[slot])?;
                let shape: &[usize] = if view.channels_first {
                    &[1, view.width, 1]
                } else {
                    &[1, 1, view.width]
                };
                moved.input[slot] = net.add_floats(format!("{out}.constant"), shape, &values);
            } else {
                let value = net.scalar(&op.input[slot])?;
                moved.input[slot] = net.add_floats(format!("{out}.constant"), &[1, 1, 1], &[value]);
            }
            view
        }
    };
    let mut nodes = view.emit(net, &hidden, &out, &shape)?;
    nodes.insert(0, moved);
    Some(nodes)
}

/// True for the same axes but for those of one that broadcasting adds in front.
fn same_order(a: &View, b: &View) -> bool {
    let trimmed = |v: &View| -> Vec<Vec<Atom>> {
        v.axes
            .iter()
            .skip_while(|a| a.is_empty())
            .cloned()
            .collect()
    };
    trimmed(a) == trimmed(b)
}
