//! Attention and rotation by position, as ONNX Runtime's optimiser writes them.

use super::parts::{DOMAIN, Parts};
use crate::compile::fuse::net::Net;
use crate::compile::fuse::node::{self, Value, given};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Why a network that generates is refused.
pub const CACHE: &str = "it is causal or has a cache: a network that generates is not run here";

/// What hides a token, where nothing is stated.
const HIDDEN: f32 = -10_000.0;

/// Operators that are followed to find out whether a tensor is a condition.
const DEEPEST: usize = 32;

fn refuse_others(op: &NodeProto, cache: std::ops::Range<usize>) -> Result<(), String> {
    let flag = |name: &str| node::int(op, name).unwrap_or(0) != 0;
    let more = op.output.iter().skip(1).any(|name| !name.is_empty());
    let past = cache.into_iter().any(|at| given(op, at).is_some());
    if flag("unidirectional") || flag("do_rotary") || past || more {
        return Err(CACHE.to_string());
    }
    Ok(())
}

/// `Attention`: one product makes queries, keys and values.
pub fn attention(
    net: &Net,
    graph: &GraphProto,
    op: &NodeProto,
    parts: &mut Parts,
) -> Result<String, String> {
    refuse_others(op, 6..7)?;
    if given(op, 4).is_some() {
        return Err(CACHE.to_string());
    }
    let (Some(x), Some(weight)) = (given(op, 0), given(op, 1)) else {
        return Err("it lacks an input".to_string());
    };
    let width = net.shape(weight).and_then(|shape| shape.last()?.size());
    let width = width.ok_or("the shape of its weights is not known")?;
    let mask = mask(net, graph, op, given(op, 3), parts)?;
    projected(
        op,
        [x, weight],
        given(op, 2),
        width,
        mask,
        given(op, 5),
        parts,
    )
}

/// Queries, keys and values by one product, `width` wide in all, and their attention.
pub fn projected(
    op: &NodeProto,
    [x, weight]: [&str; 2],
    bias: Option<&str>,
    width: usize,
    mask: Option<String>,
    added: Option<&str>,
    parts: &mut Parts,
) -> Result<String, String> {
    let sizes = node::ints(op, "qkv_hidden_sizes").filter(|sizes| sizes.len() == 3);
    let sizes = sizes.unwrap_or_else(|| vec![width as i64 / 3; 3]);
    if sizes.iter().sum::<i64>() != width as i64 || sizes[0] != sizes[1] {
        return Err(format!("{width} columns are not {sizes:?}"));
    }
    let product = parts.op("MatMul", &[x, weight]);
    let product = parts.plus(&product, bias);
    let mut from = 0;
    let mut all = vec![];
    for size in sizes {
        all.push((parts.last(&product, from, from + size, 1), size));
        from += size;
    }
    attend(op, &all, mask, added, parts)
}

/// `MultiHeadAttention`: queries, keys and values made before it, without their biases.
pub fn multi_head(
    net: &Net,
    graph: &GraphProto,
    op: &NodeProto,
    parts: &mut Parts,
) -> Result<String, String> {
    refuse_others(op, 6..10)?;
    let mut all = vec![];
    let mut from = 0;
    for at in 0..3 {
        let name = given(op, at).ok_or("queries, keys and values are packed into one")?;
        let shape = net.shape(name).filter(|shape| shape.len() == 3);
        let size = shape.and_then(|shape| shape[2].size());
        let size = size.ok_or("its inputs are not rows [1, T, width]")? as i64;
        let bias = given(op, 3).map(|bias| parts.last(bias, from, from + size, 1));
        all.push((parts.plus(name, bias.as_deref()), size));
        from += size;
    }
    let mask = mask(net, graph, op, given(op, 4), parts)?;
    attend(op, &all, mask, given(op, 5), parts)
}

/// Heads apart, products, soft-max, heads together. `all` are queries, keys and values with their
/// columns; `mask` and `added` are added to the scores.
fn attend(
    op: &NodeProto,
    all: &[(String, i64)],
    mask: Option<String>,
    added: Option<&str>,
    parts: &mut Parts,
) -> Result<String, String> {
    let heads = node::int(op, "num_heads").filter(|&heads| heads > 0);
    let heads = heads.ok_or("it states no number of heads")?;
    let [(q, size), (k, _), (v, values)] = all else {
        return Err("it lacks an input".to_string());
    };
    if size % heads != 0 || values % heads != 0 {
        return Err(format!("{size} columns of {heads} heads"));
    }
    let mut apart = |x: &str, size: i64, order: Vec<i64>| {
        let split = parts.reshape(x, &[0, 0, heads, size / heads]);
        parts.transpose(&split, order)
    };
    let q = apart(q, *size, vec![0, 2, 1, 3]);
    let k = apart(k, *size, vec![0, 2, 3, 1]);
    let v = apart(v, *values, vec![0, 2, 1, 3]);
    let scale = node::float(op, "scale").filter(|&scale| scale != 0.0);
    let scale = scale.unwrap_or(1.0 / ((size / heads) as f32).sqrt());
    let scores = parts.op("MatMul", &[&q, &k]);
    let scores = parts.times(&scores, scale);
    let scores = parts.plus(&scores, mask.as_deref());
    let scores = parts.plus(&scores, added);
    let shares = parts.op_with("Softmax", &[&scores], &[("axis", Value::Int(-1))]);
    let result = parts.op("MatMul", &[&shares, &v]);
    let result = parts.transpose(&result, vec![0, 2, 1, 3]);
    Ok(parts.reshape(&result, &[0, 0, *values]))
}

/// What hides the tokens that a mask of integers calls padding, as a term of the scores.
pub fn mask(
    net: &Net,
    graph: &GraphProto,
    op: &NodeProto,
    name: Option<&str>,
    parts: &mut Parts,
) -> Result<Option<String>, String> {
    let Some(name) = name else {
        return Ok(None);
    };
    let of_tokens = match token_mask(graph, name)? {
        None => return Ok(None),
        Some(mask) => mask,
    };
    let axes: &[i64] = match net.rank(&of_tokens) {
        Some(2) => &[1, 2],
        Some(3) => &[1],
        _ => return Err(format!("{name} is no mask of tokens")),
    };
    let hidden = node::float(op, "mask_filter_value").unwrap_or(HIDDEN);
    let real = parts.float(&of_tokens);
    let one = parts.number(1.0);
    let padding = parts.op("Sub", &[&one, &real]);
    let term = parts.times(&padding, hidden);
    Ok(Some(parts.unsqueeze(&term, axes)))
}

/// The mask of tokens behind a number of real tokens, which the optimiser puts in its place; `None`
/// where there is none.
fn token_mask(graph: &GraphProto, name: &str) -> Result<Option<String>, String> {
    let producer = |name: &str| {
        graph
            .node
            .iter()
            .find(|n| n.output.iter().any(|o| o == name))
    };
    let Some(node) = producer(name) else {
        return Ok(Some(name.to_string()));
    };
    match node.op_type.as_str() {
        "EmbedLayerNormalization" | "QEmbedLayerNormalization" => {
            Ok(given(node, 7).map(str::to_string))
        }
        "ReduceSum" => {
            let mut of = node.input[0].clone();
            while let Some(cast) = producer(&of).filter(|n| n.op_type == "Cast") {
                of = cast.input[0].clone();
            }
            Ok(Some(of))
        }
        _ => Ok(Some(name.to_string())),
    }
}

/// True for `Attention` of ONNX that has a mask and nothing else that is written otherwise: tract
/// 0.23 takes masks of one shape and type alone.
pub fn is_masked(op: &NodeProto) -> bool {
    let default = ["", "ai.onnx"].contains(&op.domain.as_str());
    if op.op_type != "Attention" || !default || given(op, 3).is_none() {
        return false;
    }
    let more = |names: &[String], from: usize| names.iter().skip(from).any(|n| !n.is_empty());
    let causal = node::int(op, "is_causal").unwrap_or(0) != 0;
    let capped = node::float(op, "softcap").unwrap_or(0.0) != 0.0;
    !causal && !capped && !more(&op.input, 4) && !more(&op.output, 1)
}

/// What [`is_masked`] finds, on rows `[1, T, D]` or on heads `[1, h, T, d]`; as it is where heads
/// share keys, or sizes are not known.
pub fn masked(net: &Net, op: &NodeProto, parts: &mut Parts) -> String {
    let count = |name: &str| usize::try_from(node::int(op, name).unwrap_or(0)).ok();
    let sizes = |at: usize, name: &str| -> Option<(usize, usize)> {
        let shape = net.shape(op.input.get(at)?)?;
        let last = shape.last()?.size()?;
        match shape.len() {
            3 => {
                let heads = count(name).filter(|&heads| heads > 0 && last % heads == 0)?;
                Some((heads, last / heads))
            }
            4 => Some((shape[1].size()?, last)),
            _ => None,
        }
    };
    let all = [(0, "q_num_heads"), (1, "kv_num_heads"), (2, "kv_num_heads")];
    let all = all.map(|(at, name)| sizes(at, name));
    let (heads, size, last) = match all {
        [Some((q, size)), Some((k, _)), Some((v, last))] if q == k && k == v => (q, size, last),
        _ => {
            let inputs: Vec<&str> = op.input.iter().map(String::as_str).collect();
            let result = parts.op("Attention", &inputs);
            parts.attribute(op.attribute.iter().cloned());
            return result;
        }
    };
    let rows = net.rank(&op.input[0]) == Some(3);
    let mut apart = |at: usize, size: usize| {
        if !rows {
            return op.input[at].clone();
        }
        let split = parts.reshape(&op.input[at], &[0, 0, heads as i64, size as i64]);
        parts.transpose(&split, vec![0, 2, 1, 3])
    };
    let (q, k, v) = (apart(0, size), apart(1, size), apart(2, last));
    let k = parts.transpose(&k, vec![0, 1, 3, 2]);
    let stated = node::float(op, "scale").filter(|&scale| scale != 0.0);
    let scores = parts.op("MatMul", &[&q, &k]);
    let scores = parts.times(&scores, stated.unwrap_or(1.0 / (size as f32).sqrt()));
    let mask = &op.input[3];
    let scores = if is_condition(net, mask, DEEPEST) {
        let hidden = parts.number(f32::NEG_INFINITY);
        parts.op("Where", &[mask, &scores, &hidden])
    } else {
        parts.op("Add", &[&scores, mask])
    };
    let shares = parts.op_with("Softmax", &[&scores], &[("axis", Value::Int(-1))]);
    let result = parts.op("MatMul", &[&shares, &v]);
    if !rows {
        return result;
    }
    let result = parts.transpose(&result, vec![0, 2, 1, 3]);
    parts.reshape(&result, &[0, 0, (heads * last) as i64])
}

/// True for a tensor of truth values.
fn is_condition(net: &Net, name: &str, depth: usize) -> bool {
    const BOOL: i32 = DataType::Bool as i32;
    if let Some(constant) = net.constants.get(name) {
        return constant.data_type == BOOL;
    }
    if let Some(input) = net.inputs.iter().find(|input| input.name == name) {
        return node::element_kind(input) == Some(BOOL);
    }
    let Some(op) = net.producer(name).filter(|_| depth > 0) else {
        return false;
    };
    let same = |at: usize| given(op, at).is_some_and(|name| is_condition(net, name, depth - 1));
    match op.op_type.as_str() {
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Not" | "And" | "Or"
        | "Xor" | "IsNaN" | "IsInf" => true,
        "Cast" => node::int(op, "to") == Some(i64::from(BOOL)),
        "Where" => same(1),
        "Identity" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Slice"
        | "Gather" | "Concat" | "Expand" | "Tile" | "Trilu" => same(0),
        _ => false,
    }
}

/// `RotaryEmbedding`, of ONNX (rows, cosines, sines, positions) or of ONNX Runtime (rows,
/// positions, cosines, sines).
pub fn rotation(net: &Net, op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let own = op.domain == DOMAIN;
    let (positions, cosine, sine) = if own { (1, 2, 3) } else { (3, 1, 2) };
    let (Some(x), Some(cosine), Some(sine)) = (given(op, 0), given(op, cosine), given(op, sine))
    else {
        return Err("it lacks an input".to_string());
    };
    let scale = node::float(op, "scale").unwrap_or(1.0);
    if node::int(op, "is_packed_batching").unwrap_or(0) != 0 || scale != 1.0 {
        return Err("a packed batch, or scaled positions".to_string());
    }
    let shape = net.shape(x).ok_or("the shape of its input is not known")?;
    let last = |name: &str| net.shape(name).and_then(|shape| shape.last()?.size());
    let (Some(width), Some(angles)) = (last(x), last(cosine)) else {
        return Err("the shape of its input or of its cosines is not known".to_string());
    };
    let heads = node::int(op, "num_heads").unwrap_or(0);
    let rows = shape.len() == 3;
    let heads_apart = match (rows, heads) {
        (true, heads) if heads > 0 && width as i64 % heads == 0 => {
            let split = parts.reshape(x, &[0, 0, heads, width as i64 / heads]);
            parts.transpose(&split, vec![0, 2, 1, 3])
        }
        (false, _) if shape.len() == 4 => x.to_string(),
        _ => return Err("it is on rows, and states no number of heads".to_string()),
    };
    let size = if rows {
        width as i64 / heads
    } else {
        width as i64
    };
    let half = angles as i64;
    let rotated = 2 * half;
    let stated = node::int(op, "rotary_embedding_dim").unwrap_or(0);
    if rotated > size || ![0, rotated].contains(&stated) {
        return Err(format!("{half} angles for heads of {size}"));
    }
    let mut angle = |table: &str| -> Result<String, String> {
        let of_rows = match given(op, positions) {
            Some(positions) if net.rank(positions) == Some(2) => {
                parts.op("Gather", &[table, positions])
            }
            Some(_) => return Err("its positions are no [1, T]".to_string()),
            None => table.to_string(),
        };
        Ok(parts.unsqueeze(&of_rows, &[1]))
    };
    let (cosine, sine) = (angle(cosine)?, angle(sine)?);
    let x = if rotated == size {
        heads_apart.clone()
    } else {
        parts.last(&heads_apart, 0, rotated, 1)
    };
    let mut result = if node::int(op, "interleaved").unwrap_or(0) == 0 {
        let (first, second) = (parts.last(&x, 0, half, 1), parts.last(&x, half, rotated, 1));
        let minus = parts.op("Neg", &[&second]);
        let crossed = parts.concat(&[&minus, &first]);
        let cosine = parts.concat(&[&cosine, &cosine]);
        let sine = parts.concat(&[&sine, &sine]);
        let straight = parts.op("Mul", &[&x, &cosine]);
        let crossed = parts.op("Mul", &[&crossed, &sine]);
        parts.op("Add", &[&straight, &crossed])
    } else {
        let (first, second) = (parts.last(&x, 0, rotated, 2), parts.last(&x, 1, rotated, 2));
        let mut mixed = |a: &str, b: &str, operator: &str| {
            let (a, b) = (parts.op("Mul", &[a, &cosine]), parts.op("Mul", &[b, &sine]));
            let sum = parts.op(operator, &[&a, &b]);
            parts.unsqueeze(&sum, &[4])
        };
        let (even, odd) = (mixed(&first, &second, "Sub"), mixed(&second, &first, "Add"));
        let pairs = parts.concat(&[&even, &odd]);
        parts.reshape(&pairs, &[0, 0, 0, rotated])
    };
    if rotated != size {
        let rest = parts.last(&heads_apart, rotated, size, 1);
        result = parts.concat(&[&result, &rest]);
    }
    if rows {
        let together = parts.transpose(&result, vec![0, 2, 1, 3]);
        result = parts.reshape(&together, &[0, 0, width as i64]);
    }
    Ok(result)
}
