//! A tensor followed through the operators that only show, move or scale elements, back to its
//! source.

use super::dim::Dim;
use super::net::Net;
use super::view::View;
use super::{axes, node, rotary};

/// View operators in a row that are followed; a longer chain is no export of a transformer.
const DEEPEST: usize = 64;

impl View {
    /// Follows a tensor to its source.
    pub fn trace(net: &Net, name: &str) -> Option<View> {
        View::follow(net, name, DEEPEST)
    }

    fn follow(net: &Net, name: &str, depth: usize) -> Option<View> {
        let beyond = || View::step(net, name, depth.checked_sub(1)?);
        beyond().or_else(|| View::base(net, name))
    }

    fn step(net: &Net, name: &str, depth: usize) -> Option<View> {
        let node = net.producer(name)?;
        let input = node.input.first()?;
        let follow = || View::follow(net, input, depth);
        match node.op_type.as_str() {
            "Identity" => follow(),
            "Transpose" => {
                let mut view = follow()?;
                let reversed = || (0..view.axes.len() as i64).rev().collect();
                let perm = node::ints(node, "perm").unwrap_or_else(reversed);
                let axes = perm
                    .iter()
                    .map(|&p| view.axes.get(usize::try_from(p).ok()?).cloned());
                view.axes = axes.collect::<Option<_>>()?;
                Some(view)
            }
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => {
                let mut view = follow()?;
                view.regroup(&net.shape(name)?)?;
                Some(view)
            }
            "Gather" => {
                let mut view = follow()?;
                let at = axes::axis(node::int(node, "axis").unwrap_or(0), view.axes.len())?;
                let indices = node.input.get(1)?;
                let index = match net.integers(indices)?.as_slice() {
                    [one] => *one,
                    _ => return None,
                };
                let kept = net.rank(indices)?;
                view.narrow(at, index, 1)?;
                match kept {
                    0 => drop(view.axes.remove(at)),
                    _ => view
                        .axes
                        .splice(at..at, vec![vec![]; kept - 1])
                        .for_each(drop),
                }
                Some(view)
            }
            "Slice" => {
                let mut view = follow()?;
                for (at, start, end, step) in axes::slices(net, node)? {
                    if start == Dim::new(0) && end == view.size(at)? && step == 1 {
                        continue;
                    }
                    let (start, end) = (start.fixed()?, end.fixed()?);
                    if step != 1 {
                        return None;
                    }
                    view.narrow(at, start, end.checked_sub(start)?)?;
                }
                Some(view)
            }
            "Split" => {
                let mut view = follow()?;
                let (at, sizes) = axes::split_sizes(net, node)?;
                let part = node.output.iter().position(|o| o == name)?;
                let start = sizes.get(..part)?.iter().sum();
                view.narrow(at, start, *sizes.get(part)?)?;
                Some(view)
            }
            "Mul" | "Div" => {
                let other = node.input.get(1)?;
                let (input, factor) = match (net.scalar(input), net.scalar(other)) {
                    (None, Some(factor)) if node.op_type == "Mul" => (input, factor),
                    (None, Some(divisor)) => (input, 1.0 / divisor),
                    (Some(factor), None) if node.op_type == "Mul" => (other, factor),
                    _ => return None,
                };
                let mut view = View::follow(net, input, depth)?;
                // A constant may have more axes than the tensor it scales.
                if net.rank(name)? != view.axes.len() {
                    return None;
                }
                view.scale *= factor;
                Some(view)
            }
            "Add" => rotary::rotated(net, node, &|name| View::follow(net, name, depth)),
            _ => None,
        }
    }
}
