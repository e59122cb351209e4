//! Products and tables of integers that give floats.

use super::embeddings::embeddings as float_embeddings;
use super::heads;
use super::parts::Parts;
use crate::compile::fuse::net::Net;
use crate::compile::fuse::node::given;
use tract_onnx::pb::{GraphProto, NodeProto};

/// An input that is there, as floats: its values, scale and zero point by their places.
fn floats(
    op: &NodeProto,
    [values, scale, zero]: [usize; 3],
    axis: i64,
    parts: &mut Parts,
) -> Result<String, String> {
    let (Some(values), Some(scale)) = (given(op, values), given(op, scale)) else {
        return Err(format!("it lacks input {values} or {scale}"));
    };
    Ok(parts.dequantised(values, scale, given(op, zero), axis))
}

/// `DynamicQuantizeMatMul` (floats by bytes) and `MatMulIntegerToFloat` (bytes by bytes).
pub fn product(op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let (a, b, bias) = if op.op_type == "DynamicQuantizeMatMul" {
        let a = given(op, 0).ok_or("it lacks an input")?;
        (a.to_string(), floats(op, [1, 2, 3], 1, parts)?, 4)
    } else {
        let a = floats(op, [0, 2, 4], 1, parts)?;
        (a, floats(op, [1, 3, 5], 1, parts)?, 6)
    };
    let product = parts.op("MatMul", &[&a, &b]);
    Ok(parts.plus(&product, given(op, bias)))
}

/// `QEmbedLayerNormalization`: five tables of bytes, each with a scale and a zero point.
pub fn embeddings(op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let mut tables = vec![];
    for (at, scale) in (2..7).zip(8..) {
        tables.push(match given(op, at) {
            Some(_) => Some(floats(op, [at, scale, scale + 5], 1, parts)?),
            None => None,
        });
    }
    let [tokens, positions, types, Some(gamma), Some(beta)] = &tables[..] else {
        return Err("it lacks a table".to_string());
    };
    let tables = [tokens, positions, types].map(Option::clone);
    float_embeddings(op, tables, [gamma, beta], None, parts)
}

/// `QAttention`: the projections by bytes.
pub fn attention(
    net: &Net,
    graph: &GraphProto,
    op: &NodeProto,
    parts: &mut Parts,
) -> Result<String, String> {
    if given(op, 8).is_some() {
        return Err(heads::CACHE.to_string());
    }
    let x = floats(op, [0, 3, 6], 1, parts)?;
    let weight = floats(op, [1, 4, 7], 1, parts)?;
    let width = net.constant_shape(&op.input[1]);
    let width = width.and_then(|shape| shape.last().copied());
    let width = width.ok_or("its weights are no constant")?;
    let mask = heads::mask(net, graph, op, given(op, 5), parts)?;
    heads::projected(op, [&x, &weight], given(op, 2), width, mask, None, parts)
}
