//! What nodes say of axes: which they concern, and where they cut them.

use super::dim::Dim;
use super::net::Net;
use super::node;
use tract_onnx::pb::NodeProto;

/// An axis counted from the start.
pub fn axis(axis: i64, rank: usize) -> Option<usize> {
    let counted = if axis < 0 {
        axis.checked_add(rank as i64)?
    } else {
        axis
    };
    usize::try_from(counted).ok().filter(|&a| a < rank)
}

/// The axes that a node names in an attribute (older operator sets) or in its second input.
pub fn axes(net: &Net, node: &NodeProto) -> Option<Vec<i64>> {
    match node.input.get(1).filter(|i| !i.is_empty()) {
        Some(input) => net.integers(input),
        None => node::ints(node, "axes"),
    }
}

/// One axis of a slice: the axis, where it starts and ends, and its step.
pub fn slices(net: &Net, node: &NodeProto) -> Option<Vec<(usize, Dim, Dim, i64)>> {
    let dims = net.fact(node.input.first()?).shape?;
    let list = |at: usize, name| match node.input.get(at).filter(|i| !i.is_empty()) {
        Some(input) => net
            .fact(input)
            .values?
            .into_iter()
            .collect::<Option<Vec<Dim>>>(),
        None => Some(node::ints(node, name)?.into_iter().map(Dim::new).collect()),
    };
    let (starts, ends) = (list(1, "starts")?, list(2, "ends")?);
    let all = || (0..starts.len() as i64).map(Dim::new).collect();
    let axes = list(3, "axes").unwrap_or_else(all);
    let steps = match node.input.get(4).filter(|i| !i.is_empty()) {
        Some(input) => net.integers(input)?,
        None => vec![1; starts.len()],
    };
    let mut out = vec![];
    for (i, &of) in axes.iter().enumerate() {
        let at = axis(of.fixed()?, dims.len())?;
        let size = dims[at]?;
        let bound = |dim: Dim| match (dim.fixed(), size.fixed()) {
            (Some(x), Some(n)) if x < 0 => Some(Dim::new(x.saturating_add(n).max(0))),
            (Some(x), Some(n)) => Some(Dim::new(x.min(n))),
            // The length is longer than any number that a slice is written with, and shorter than
            // "to the end".
            (Some(x), None) if x > i32::MAX as i64 => Some(size),
            (Some(x), None) if x < -(i32::MAX as i64) => Some(Dim::new(0)),
            (Some(x), None) if x < 0 => size.add(Dim::new(x)),
            _ => Some(dim),
        };
        out.push((
            at,
            bound(*starts.get(i)?)?,
            bound(*ends.get(i)?)?,
            *steps.get(i)?,
        ));
    }
    Some(out)
}

/// Sizes of the outputs of a `Split`, and its axis.
pub fn split_sizes(net: &Net, node: &NodeProto) -> Option<(usize, Vec<i64>)> {
    let dims = net.fact(node.input.first()?).shape?;
    let at = axis(node::int(node, "axis").unwrap_or(0), dims.len())?;
    let stated = match node.input.get(1).filter(|i| !i.is_empty()) {
        Some(input) => Some(net.integers(input)?),
        None => node::ints(node, "split"),
    };
    let sizes = match stated {
        Some(sizes) => sizes,
        None => {
            let (whole, count) = (dims[at]?.fixed()?, node.output.len() as i64);
            (whole % count == 0).then(|| vec![whole / count; count as usize])?
        }
    };
    Some((at, sizes))
}
