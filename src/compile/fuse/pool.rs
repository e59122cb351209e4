//! Pools over all positions.

use super::axes;
use super::dim::Dim;
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::view::{Atom, View, open_shape};
use tract_onnx::pb::NodeProto;

/// `ReduceMean` and `ReduceMax` over all positions, global pools, and the first token.
pub fn pool(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let input = op.input.first()?.clone();
    let rank = net.rank(&input)?;
    let (kind, over) = match op.op_type.as_str() {
        "GlobalAveragePool" if rank == 3 => ("mean", vec![2]),
        "GlobalMaxPool" if rank == 3 => ("max", vec![2]),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let kind = if op.op_type == "GlobalMaxPool" {
                "max"
            } else {
                "mean"
            };
            (kind, (2..rank).collect())
        }
        "ReduceMean" | "ReduceMax" => {
            let kind = if op.op_type == "ReduceMax" {
                "max"
            } else {
                "mean"
            };
            let axes = axes::axes(net, &op)?;
            (
                kind,
                axes.iter()
                    .map(|&a| axes::axis(a, rank))
                    .collect::<Option<Vec<usize>>>()?,
            )
        }
        "Gather" => {
            let along = axes::axis(node::int(&op, "axis").unwrap_or(0), rank)?;
            (net.integers(op.input.get(1)?)? == [0]).then_some(("first", vec![along]))?
        }
        "Slice" => match axes::slices(net, &op)?.as_slice() {
            [(along, start, end, 1)] if *start == Dim::new(0) && *end == Dim::ONE => {
                ("first", vec![*along])
            }
            _ => return None,
        },
        _ => return None,
    };
    let (source, axis) = match View::trace(net, &input) {
        Some(view) if view.is_whole() => {
            let pooled: Vec<Atom> = over
                .iter()
                .filter_map(|&a| view.axes.get(a))
                .flatten()
                .copied()
                .collect();
            let left: Vec<Atom> = (0..rank)
                .filter(|a| !over.contains(a))
                .flat_map(|a| view.axes[a].clone())
                .collect();
            let columns = Atom::Column {
                size: view.width,
                stride: 1,
            };
            if pooled != [Atom::Row] || (left != [columns] && view.width > 1) {
                return None;
            }
            (view.source, if view.channels_first { 2 } else { 1 })
        }
        // A length behind strides is no multiple of T, but channel-first tensors of three axes are
        // what they are.
        None if rank == 3 && over == [2] && op.op_type != "Gather" && op.op_type != "Slice" => {
            let shape = net.fact(&input).shape?;
            if shape[2].is_some() || shape[1]?.fixed().is_none() {
                return None;
            }
            (input, 2)
        }
        _ => return None,
    };
    let out = &op.output[0];
    let shape = net.shape(out)?;
    let made = node(&format!("{PREFIX}Pool"), label(&op), &[&source], &[]);
    let made = with(made, "kind", Value::Text(kind.into()));
    let mut made = with(made, "axis", Value::Int(axis));
    if shape.len() == 2 && shape[0] == Dim::ONE {
        made.output = vec![out.clone()];
        return Some(vec![made]);
    }
    let hidden = format!("{out}.plain");
    made.output = vec![hidden.clone()];
    let target = net.add_integers(format!("{out}.shape"), &open_shape(&shape)?);
    Some(vec![
        made,
        node("Reshape", out, &[&hidden, &target], &[out]),
    ])
}
