//! Multi-head attention, from its last product of matrices back to the projections.

use super::axes;
use super::dim::Dim;
use super::mask::{self, Tokens};
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::view::{Heads, View, open_shape};
use tract_onnx::pb::NodeProto;

/// Operators between the soft-max and the product of queries and keys that are followed.
const DEEPEST: usize = 12;

/// What lies between the soft-max and the product of queries and keys.
struct Scores {
    product: NodeProto,
    scale: f32,
    mask: Option<(String, i64)>,
}

/// The attention that ends with node `at`, the product of probabilities and values. An error says
/// why a soft-max was not understood.
pub fn attention(net: &mut Net, at: usize) -> Result<Option<Vec<NodeProto>>, String> {
    let op = net.nodes[at].clone();
    if op.op_type != "MatMul" {
        return Ok(None);
    }
    let Some(softmax) = softmax(net, &op.input[0]).cloned() else {
        return Ok(None);
    };
    let rank = net.rank(&softmax.input[0]).unwrap_or(0);
    // Before opset 13 it flattens from its axis on, which is the last one only if it says so.
    let default = if net.opset < 13 { 1 } else { -1 };
    let axis = node::int(&softmax, "axis").unwrap_or(default);
    if rank < 3 || axes::axis(axis, rank) != Some(rank - 1) {
        return Ok(None);
    }
    let scores = scores(net, &softmax.input[0])?;
    let view = |net: &Net, name: &str, what: &str, transposed: bool| {
        let view = View::trace(net, name);
        let heads = view.as_ref().and_then(|v| v.heads(transposed));
        view.zip(heads)
            .ok_or_else(|| format!("{what} ({name}) is not a view of rows split into heads"))
    };
    let (q, q_heads) = view(net, &scores.product.input[0], "the query", false)?;
    let (k, k_heads) = view(net, &scores.product.input[1], "the key", true)?;
    let (v, v_heads) = view(net, &op.input[1], "the value", false)?;
    if q_heads.count != k_heads.count
        || q_heads.size != k_heads.size
        || v_heads.count != q_heads.count
        || v_heads.size != q_heads.size
    {
        return Err(format!(
            "heads of different size: {q_heads:?}, {k_heads:?}, {v_heads:?}"
        ));
    }
    if q.rotary != k.rotary
        || v.rotary.is_some()
        || v.scale != 1.0
        || q.rows != k.rows
        || k.rows != v.rows
    {
        return Err(
            "query, key and value are not of one sequence, or are rotated differently".to_string(),
        );
    }
    let scale = scores.scale * q.scale * k.scale;
    let all = [(q, q_heads), (k, k_heads), (v, v_heads)];
    fused(net, &op, &all, scale, scores.mask).map(Some)
}

/// `Attention` of opset 23, on rows `[1, T, D]` or on heads `[1, h, T, d]`.
pub fn operator(net: &mut Net, at: usize) -> Result<Option<Vec<NodeProto>>, String> {
    let op = net.nodes[at].clone();
    if !["", "ai.onnx"].contains(&op.domain.as_str()) {
        return Ok(None);
    }
    let flag = |name: &str| node::int(&op, name).unwrap_or(0);
    let more = |names: &[String], from: usize| names.iter().skip(from).any(|n| !n.is_empty());
    if op.input.len() < 3 || more(&op.input, 4) || more(&op.output, 1) {
        return Err("it has a cache, or gives more than its result".to_string());
    }
    if flag("is_causal") != 0 || node::float(&op, "softcap").unwrap_or(0.0) != 0.0 {
        return Err("it is causal, or caps its scores".to_string());
    }
    let mut all = vec![];
    for (name, count) in [
        (&op.input[0], "q_num_heads"),
        (&op.input[1], "kv_num_heads"),
        (&op.input[2], "kv_num_heads"),
    ] {
        let view = View::trace(net, name).ok_or_else(|| format!("{name} is no view of rows"))?;
        let heads = match net.rank(name) {
            Some(3) => {
                let count = usize::try_from(flag(count)).unwrap_or(0).max(1);
                let size = view.width / count;
                let whole = view.keeps_order() && size * count == view.width;
                whole.then_some(Heads {
                    count,
                    size,
                    offset: 0,
                    stride: size,
                })
            }
            _ => view.heads(false),
        };
        let heads = heads.ok_or_else(|| format!("{name} is not split into heads"))?;
        all.push((view, heads));
    }
    let [(q, q_heads), (k, k_heads), (v, v_heads)] = all.as_slice() else {
        return Ok(None);
    };
    let same = |a: &Heads, b: &Heads| (a.count, a.size) == (b.count, b.size);
    let plain = q.rotary == k.rotary && v.rotary.is_none() && v.scale == 1.0;
    if !same(q_heads, k_heads) || !same(q_heads, v_heads) || !plain {
        return Err("heads of different number or size".to_string());
    }
    if q.rows != k.rows || k.rows != v.rows {
        return Err("query, key and value are not of one sequence".to_string());
    }
    let mask = match op.input.get(3).filter(|mask| !mask.is_empty()) {
        None => Tokens::All,
        Some(mask) => mask::additive(net, mask).or_else(|_| mask::condition(net, mask, true))?,
    };
    let mask = match mask {
        Tokens::All => None,
        Tokens::Mask { input, real } => Some((input, real)),
    };
    let stated = node::float(&op, "scale").filter(|scale| *scale != 0.0);
    let scale = stated.unwrap_or(1.0 / (q_heads.size as f32).sqrt()) * q.scale * k.scale;
    fused(net, &op, &all, scale, mask).map(Some)
}

/// The fused operator in the place of `op`: query, key and value with their heads, the factor on
/// their products, and the mask of real tokens.
fn fused(
    net: &mut Net,
    op: &NodeProto,
    views: &[(View, Heads)],
    scale: f32,
    mask: Option<(String, i64)>,
) -> Result<Vec<NodeProto>, String> {
    let out = op.output[0].clone();
    let mut nodes = vec![];
    let mut inputs = vec![];
    for ((view, heads), name) in views.iter().zip(["q", "k", "v"]) {
        let input = columns(net, view, heads, &format!("{out}.{name}"), &mut nodes);
        inputs.push(
            input.ok_or_else(|| format!("the columns of {} cannot be taken apart", view.source))?,
        );
    }
    let (first, heads) = views.first().ok_or("it has no query")?;
    let real = mask.as_ref().map(|(_, real)| *real);
    inputs.extend(mask.map(|(name, _)| name));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let hidden = format!("{out}.plain");
    let made = node(
        &format!("{PREFIX}Attention"),
        label(op),
        &inputs,
        &[&hidden],
    );
    let made = with(made, "heads", Value::Int(heads.count as i64));
    let mut made = with(made, "scale", Value::Float(scale));
    if let Some(base) = first.rotary {
        made = with(made, "rotary_base", Value::Float(base));
    }
    if let Some(real) = real {
        made = with(made, "real", Value::Int(real));
    }
    // Rows are what comes out already, where the graph has no heads apart.
    let shape = net.shape(&out).ok_or("its shape is unknown")?;
    if shape.len() == 3 && op.op_type == "Attention" {
        made.output = vec![out];
        nodes.push(made);
        return Ok(nodes);
    }
    nodes.push(made);
    // The heads apart again, as the graph goes on; its merging of them is then a view of the fused
    // output.
    let split = net.add_integers(
        format!("{out}.heads"),
        &[1, -1, heads.count as i64, heads.size as i64],
    );
    let (a, b) = (format!("{out}.split"), format!("{out}.moved"));
    nodes.push(node("Reshape", &a, &[&hidden, &split], &[&a]));
    nodes.push(with(
        node("Transpose", &b, &[&a], &[&b]),
        "perm",
        Value::Ints(vec![0, 2, 1, 3]),
    ));
    let sizes = open_shape(&shape).ok_or("its shape is not open in one axis")?;
    let target = net.add_integers(format!("{out}.shape"), &sizes);
    nodes.push(node("Reshape", &out, &[&b, &target], &[&out]));
    Ok(nodes)
}

/// The soft-max behind a tensor, through what guards it against rows without any token.
fn softmax<'a>(net: &'a Net, name: &str) -> Option<&'a NodeProto> {
    let mut name = name.to_string();
    for _ in 0..DEEPEST {
        let node = net.producer(&name)?;
        name = match node.op_type.as_str() {
            "Softmax" => return Some(node),
            "Identity" | "Cast" | "Dropout" | "Reshape" => node.input.first()?.clone(),
            "Where" => {
                let guarded = node.input.get(2)?;
                let guard = net.producer_of(node.input.first()?, "IsNaN")?;
                (guard.input.first()? == guarded).then(|| guarded.clone())?
            }
            _ => return None,
        };
    }
    None
}

fn scores(net: &Net, name: &str) -> Result<Scores, String> {
    let mut name = name.to_string();
    let (mut scale, mut mask) = (1.0, None);
    for _ in 0..DEEPEST {
        let node = net.producer(&name).ok_or("its scores are no product")?;
        let other = |constant: usize| node.input.get(1 - constant).cloned().unwrap_or_default();
        let mut add = |found: Tokens| match found {
            Tokens::All => Ok(()),
            Tokens::Mask { input, real }
                if mask.is_none() || mask == Some((input.clone(), real)) =>
            {
                mask = Some((input, real));
                Ok(())
            }
            Tokens::Mask { .. } => Err("two different masks".to_string()),
        };
        name = match node.op_type.as_str() {
            "MatMul" => {
                let product = node.clone();
                return Ok(Scores {
                    product,
                    scale,
                    mask,
                });
            }
            "Identity" | "Cast" => node.input[0].clone(),
            // Batch and heads in one axis or in two.
            "Reshape" | "Squeeze" | "Unsqueeze" => {
                let kept = |name: &str| -> Option<Vec<Dim>> {
                    Some(
                        net.shape(name)?
                            .into_iter()
                            .filter(|d| *d != Dim::ONE)
                            .collect(),
                    )
                };
                if kept(&name).is_none() || kept(&name) != kept(&node.input[0]) {
                    return Err(format!("node {} reshapes its scores", label(node)));
                }
                node.input[0].clone()
            }
            "Mul" | "Div" => match (net.scalar(&node.input[0]), net.scalar(&node.input[1])) {
                (None, Some(by)) if node.op_type == "Div" => {
                    scale /= by;
                    other(1)
                }
                (None, Some(by)) => {
                    scale *= by;
                    other(1)
                }
                (Some(by), None) if node.op_type == "Mul" => {
                    scale *= by;
                    other(0)
                }
                _ => return Err(format!("node {} scales by no constant", label(node))),
            },
            "Add" => {
                let reaches = |at: usize| contains_product(net, &node.input[at], DEEPEST);
                let (data, term) = match (reaches(0), reaches(1)) {
                    (true, false) => (0, 1),
                    (false, true) => (1, 0),
                    _ => return Err(format!("node {} adds no mask", label(node))),
                };
                add(mask::additive(net, &node.input[term])
                    .map_err(|e| format!("node {}: {e}", label(node)))?)?;
                node.input[data].clone()
            }
            "Where" => {
                let data = if net.scalar(&node.input[1]).is_some() {
                    2
                } else {
                    1
                };
                let fill = net
                    .scalar(&node.input[3 - data])
                    .ok_or("a mask with no constant")?;
                if fill > -1e3 {
                    return Err(format!(
                        "node {} fills masked scores with {fill}",
                        label(node)
                    ));
                }
                let found = mask::condition(net, &node.input[0], data == 1);
                add(found.map_err(|e| format!("node {}: {e}", label(node)))?)?;
                node.input[data].clone()
            }
            other => {
                return Err(format!(
                    "node {} ({other}) between product and soft-max",
                    label(node)
                ));
            }
        };
    }
    Err("its scores are no product".to_string())
}

/// True where a product of two tensors, neither constant, lies behind a tensor.
fn contains_product(net: &Net, name: &str, depth: usize) -> bool {
    let Some(node) = net.producer(name).filter(|_| depth > 0) else {
        return false;
    };
    match node.op_type.as_str() {
        "MatMul" => node.input.iter().all(|i| !net.constants.contains_key(i)),
        "Mul" | "Div" | "Add" | "Reshape" | "Squeeze" | "Unsqueeze" | "Cast" | "Identity"
        | "Where" => node
            .input
            .iter()
            .any(|i| contains_product(net, i, depth - 1)),
        _ => false,
    }
}

/// The rows `[1, T, D]` whose columns are the heads side by side. A linear layer that makes more
/// than these columns is split.
fn columns(
    net: &mut Net,
    view: &View,
    heads: &Heads,
    name: &str,
    nodes: &mut Vec<NodeProto>,
) -> Option<String> {
    if view.channels_first {
        return None;
    }
    let whole = heads.count * heads.size;
    let in_order = heads.count == 1 || heads.stride == heads.size;
    if in_order && heads.offset == 0 && whole == view.width {
        return Some(view.source.clone());
    }
    let picked: Vec<usize> = (0..whole)
        .map(|i| heads.offset + i / heads.size * heads.stride + i % heads.size)
        .collect();
    if picked.iter().any(|&c| c >= view.width) {
        return None;
    }
    let source = net.producer(&view.source)?.clone();
    if source.op_type == format!("{PREFIX}Linear") {
        let values = net.floats(&source.input[1])?;
        let depth = values.len() / view.width;
        let row = |r: usize| picked.iter().map(move |&c| r * view.width + c);
        let weight: Vec<f32> = (0..depth).flat_map(row).map(|at| values[at]).collect();
        let mut made = source.clone();
        made.name = format!("{}.{}", label(&source), name.rsplit('.').next()?);
        made.input[1] = net.add_floats(format!("{name}.weight"), &[depth, whole], &weight);
        if let Some(bias) = source.input.get(2) {
            let values = net.floats(bias)?;
            let bias: Vec<f32> = picked.iter().map(|&c| values[c]).collect();
            made.input[2] = net.add_floats(format!("{name}.bias"), &[whole], &bias);
        }
        made.output = vec![name.to_string()];
        nodes.push(made);
        return Some(name.to_string());
    }
    if !in_order {
        return None;
    }
    let bounds = [heads.offset as i64, (heads.offset + whole) as i64, 2];
    let bounds = ["from", "to", "axis"].iter().zip(bounds);
    let bounds: Vec<String> = bounds
        .map(|(of, at)| net.add_integers(format!("{name}.{of}"), &[at]))
        .collect();
    nodes.push(node(
        "Slice",
        name,
        &[&view.source, &bounds[0], &bounds[1], &bounds[2]],
        &[name],
    ));
    Some(name.to_string())
}
