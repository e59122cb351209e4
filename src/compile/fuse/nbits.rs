//! Weights of a few bits, as ONNX Runtime writes them, back to float: `MatMulNBits` of
//! com.microsoft.
//!
//! The weights are `[N, blocks, bytes of a block]`, the values of a byte from its low bits up; each
//! block of K has its scale, and its zero point, packed alike, or else half the range.

use super::fault::Fault;
use super::net::Net;
use super::node::{self, label, node};
use super::tensor;
use tract_onnx::pb::NodeProto;

/// Largest size; keeps products far from overflow.
const MOST: usize = 1 << 24;

/// A product with such weights as one with floats, and its bias.
pub fn rewrite(net: &mut Net, op: &NodeProto) -> Result<Vec<NodeProto>, Fault> {
    let fault = |reason: &str| Fault {
        node: format!("{} (MatMulNBits)", label(op)),
        reason: reason.to_string(),
    };
    let size = |name: &str| usize::try_from(node::int(op, name).unwrap_or(0)).unwrap_or(0);
    let (depth, width, block) = (size("K"), size("N"), size("block_size"));
    let bits = node::int(op, "bits").unwrap_or(4) as usize;
    let given = |at: usize| op.input.get(at).filter(|name| !name.is_empty());
    let (Some(x), Some(packed), Some(scales), Some(out)) =
        (given(0), given(1), given(2), op.output.first())
    else {
        return Err(fault("it lacks an input"));
    };
    let sizes = [depth, width, block]
        .iter()
        .all(|size| (1..=MOST).contains(size));
    if !matches!(bits, 2 | 4 | 8) || !sizes || given(4).is_some() {
        return Err(fault("its weights are not packed in a way that is known"));
    }
    let bytes = |name: &str| {
        let constant = net.constants.get(name);
        constant.and_then(|constant| tensor::integers(constant).ok())
    };
    let blocks = depth.div_ceil(block);
    let per_byte = 8 / bits;
    let (row, zero_row) = (
        (blocks * block).div_ceil(per_byte),
        blocks.div_ceil(per_byte),
    );
    let (packed, scales) = (bytes(packed), net.floats(scales));
    let (Some(packed), Some(scales)) = (packed, scales) else {
        return Err(fault("its weights or scales are no constants"));
    };
    let zeros = match given(3) {
        None => None,
        Some(zeros) => match bytes(zeros) {
            Some(zeros) if zeros.len() == width * zero_row => Some(zeros),
            _ => return Err(fault("its zero points are not packed as its weights are")),
        },
    };
    if packed.len() != width * row || scales.len() != width * blocks {
        return Err(fault("its weights and scales are of another size"));
    }
    let part = |byte: i64, at: usize| (byte >> (at % per_byte * bits)) & ((1 << bits) - 1);
    let mut weight = vec![0f32; depth * width];
    for (k, to) in weight.chunks_exact_mut(width).enumerate() {
        let of = k / block;
        for (n, to) in to.iter_mut().enumerate() {
            let value = part(packed[n * row + k / per_byte], k);
            let zero = zeros.as_ref().map_or(1 << (bits - 1), |zeros| {
                part(zeros[n * zero_row + of / per_byte], of)
            });
            *to = (value - zero) as f32 * scales[n * blocks + of];
        }
    }
    let weight = net.add_floats(format!("{out}.weight"), &[depth, width], &weight);
    let Some(bias) = given(5) else {
        return Ok(vec![node("MatMul", label(op), &[x, &weight], &[out])]);
    };
    let product = format!("{out}.product");
    Ok(vec![
        node("MatMul", label(op), &[x, &weight], &[&product]),
        node("Add", out, &[&product, bias], &[out]),
    ])
}
