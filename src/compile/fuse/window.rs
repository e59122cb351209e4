//! Convolutions and pools along the length: how many positions they give, and what their strides
//! ask of it.

use super::dim::{Dim, Fact};
use super::net::Net;
use super::node;
use tract_onnx::pb::NodeProto;

/// Stride, span of the taps less one, and both paddings of a convolution or pool along one of its
/// axes.
fn window(node: &NodeProto, kernel: &[i64], at: usize) -> Option<(i64, i64, i64)> {
    let axes = kernel.len();
    let of = |name, default: i64, count: usize| {
        node::ints(node, name).unwrap_or_else(|| vec![default; count])
    };
    let stride = *of("strides", 1, axes).get(at)?;
    let span = (kernel.get(at)? - 1).checked_mul(*of("dilations", 1, axes).get(at)?)?;
    let pads = of("pads", 0, 2 * axes);
    let padding = match node::text(node, "auto_pad").as_deref() {
        // As many positions as strides fit: the padding that makes the formula below say so.
        Some("SAME_UPPER" | "SAME_LOWER") => span + 1 - stride,
        Some("VALID") => 0,
        _ => pads.get(at)?.checked_add(*pads.get(at + axes)?)?,
    };
    let rounds_up = node::int(node, "ceil_mode").unwrap_or(0) != 0;
    (stride > 0 && !(rounds_up && stride > 1)).then_some((stride, span, padding))
}

fn kernel_of(net: &Net, node: &NodeProto) -> Option<Vec<i64>> {
    if node.op_type.starts_with("Conv") {
        let weight = net.fact(node.input.get(1)?).shape?;
        return weight.get(2..)?.iter().map(|d| (*d)?.fixed()).collect();
    }
    node::ints(node, "kernel_shape")
}

/// The shape behind a convolution or pool.
pub fn pooled_shape(net: &Net, node: &NodeProto) -> Option<Fact> {
    let dims = net.fact(node.input.first()?).shape?;
    let kernel = kernel_of(net, node)?;
    let channels = if node.op_type.starts_with("Conv") {
        *net.fact(node.input.get(1)?).shape?.first()?
    } else {
        *dims.get(1)?
    };
    let mut out = vec![Some(Dim::ONE), channels];
    for (i, dim) in dims.get(2..)?.iter().enumerate() {
        let (stride, span, padding) = window(node, &kernel, i)?;
        let fit = |dim: Dim| {
            let free = dim.plus.checked_add(padding)?.checked_sub(span + 1)?;
            (dim.times % stride == 0).then(|| Dim {
                times: dim.times / stride,
                plus: free.div_euclid(stride) + 1,
            })
        };
        out.push((*dim).and_then(fit));
    }
    Some(Fact::shaped(out))
}

/// By what the length must be divisible beyond what it is taken for, so that strides divide it.
pub fn missing_factor(net: &Net) -> Option<i64> {
    net.nodes.iter().find_map(|node| {
        if !["Conv", "ConvInteger", "MaxPool", "AveragePool"].contains(&node.op_type.as_str()) {
            return None;
        }
        let dims = net.fact(node.input.first()?).shape?;
        let kernel = kernel_of(net, node)?;
        dims.get(2..)?.iter().enumerate().find_map(|(i, dim)| {
            let (stride, _, _) = window(node, &kernel, i)?;
            let times = (*dim)?.times;
            (times % stride != 0).then(|| stride / gcd(times, stride))
        })
    })
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}
