//! Rows `[1, T, D]`, found behind a tensor and shown in the shape that its readers expect.
//!
//! Exporters compute on `[T, D]`, `[T, 1, D]` or `[1, T, D]` as it comes. Here all of it is moved
//! to `[1, T, D]`, and where a reader still wants another shape, a reshape behind the operator
//! gives it; the readers that are fused after it look through it.

use super::dim::Dim;
use super::net::Net;
use super::node::{Value, node, with};
use super::view::{View, open_shape};
use tract_onnx::pb::NodeProto;

/// Rows of `[1, T, D]` that a tensor shows in their own order.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The tensor of shape `[1, T, D]`.
    pub name: String,
    /// T.
    pub rows: Dim,
    /// D.
    pub width: usize,
}

/// The rows behind a tensor; a transposition that they need is appended to `nodes`.
pub fn rows(net: &mut Net, name: &str, nodes: &mut Vec<NodeProto>) -> Option<Rows> {
    let view = View::trace(net, name)?;
    let found = |name: &str, view: &View| Rows {
        name: name.to_string(),
        rows: view.rows,
        width: view.width,
    };
    if view.keeps_order() && !view.channels_first {
        return Some(found(&view.source, &view));
    }
    if !view.is_whole() {
        let own = own_shape(net, name)?;
        return Some(Rows {
            name: name.to_string(),
            rows: own.0,
            width: own.1,
        });
    }
    let reordered = View {
        channels_first: false,
        ..view.clone()
    };
    if view.channels_first && reordered.keeps_order() {
        let out = format!("{}.rows", view.source);
        if net.producer(&out).is_none() {
            let made = node("Transpose", &out, &[&view.source], &[&out]);
            nodes.push(with(made, "perm", Value::Ints(vec![0, 2, 1])));
        }
        return Some(found(&out, &view));
    }
    let (rows, width) = own_shape(net, name)?;
    Some(Rows {
        name: name.to_string(),
        rows,
        width,
    })
}

fn own_shape(net: &Net, name: &str) -> Option<(Dim, usize)> {
    match net.shape(name)?.as_slice() {
        [Dim::ONE, rows, width]
            if *rows != Dim::ONE && width.size().is_some() && *rows == net.rows =>
        {
            Some((*rows, width.size()?))
        }
        _ => None,
    }
}

/// Lets `made` write `[1, T, width]` and gives `output` the shape that its readers expect.
pub fn finish(
    net: &mut Net,
    mut made: NodeProto,
    of: &Rows,
    width: usize,
    output: &str,
) -> Option<Vec<NodeProto>> {
    let shape = net.shape(output)?;
    let own = [Dim::ONE, of.rows, Dim::new(width as i64)];
    if shape == own {
        made.output = vec![output.to_string()];
        return Some(vec![made]);
    }
    let same = |a: &[Dim], b: &[Dim]| {
        let kept = |s: &[Dim]| {
            s.iter()
                .copied()
                .filter(|d| *d != Dim::ONE)
                .collect::<Vec<_>>()
        };
        kept(a) == kept(b)
    };
    if !same(&shape, &own) {
        return None;
    }
    let hidden = format!("{output}.plain");
    made.output = vec![hidden.clone()];
    let sizes = open_shape(&shape)?;
    let target = net.add_integers(format!("{output}.shape"), &sizes);
    Some(vec![
        made,
        node("Reshape", output, &[&hidden, &target], &[output]),
    ])
}
