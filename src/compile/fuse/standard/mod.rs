//! Operators that ONNX Runtime's optimiser merges, and those of ONNX that are a few others, taken
//! apart. What they compute is said in ONNX Runtime's `docs/ContribOperators.md`.
//!
//! | file | what it holds |
//! | --- | --- |
//! | here | sums, norms, products and convolutions with what follows them |
//! | `parts` | nodes and constants while they are made |
//! | `heads` | attention, rotation by position |
//! | `embeddings` | tokens, positions and types |
//! | `bytes` | products and tables of integers that give floats |

mod bytes;
mod embeddings;
mod heads;
mod parts;

use super::fault::Fault;
use super::meaning::Input;
use super::net::Net;
use super::node::{self, Value, label};
use super::{axes, inputs, tidy};
use embeddings::embeddings;
use parts::{DOMAIN, Parts};
use std::collections::HashMap;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Those of the optimiser's operators that are taken apart.
const MERGED: [&str; 18] = [
    "Attention",
    "BiasGelu",
    "DynamicQuantizeMatMul",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gelu",
    "GemmFastGelu",
    "MatMulIntegerToFloat",
    "MultiHeadAttention",
    "QAttention",
    "QEmbedLayerNormalization",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "TransposeMatMul",
];

/// Those that tract computes as they are meant; it finds operators by name alone.
const KNOWN: [&str; 6] = [
    "BiasGelu",
    "FastGelu",
    "Gelu",
    "MultiHeadAttention",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Those of ONNX itself that are taken apart.
const NEWER: [&str; 4] = [
    "PRelu",
    "RMSNormalization",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
];

fn is_merged(node: &NodeProto) -> bool {
    let name = node.op_type.as_str();
    match node.domain.as_str() {
        DOMAIN => MERGED.contains(&name) || has_channels_last(node),
        "" | "ai.onnx" => NEWER.contains(&name) || heads::is_masked(node),
        _ => false,
    }
}

/// True for a convolution or pool whose channels come last.
fn has_channels_last(node: &NodeProto) -> bool {
    node.op_type == "NhwcMaxPool" || node::int(node, "channels_last").unwrap_or(0) != 0
}

/// True where tract cannot run a graph as it is, or would take one operator for another of its
/// name.
pub fn is_needed(graph: &GraphProto) -> bool {
    let unknown = |n: &NodeProto| match n.domain.as_str() {
        DOMAIN => !KNOWN.contains(&n.op_type.as_str()),
        _ => heads::is_masked(n),
    };
    graph.node.iter().any(|n| is_merged(n) && unknown(n))
}

/// Takes the merged operators of a graph apart; `folder` is where its external data lies.
pub fn take_apart(graph: &mut GraphProto, opset: i64, folder: Option<&str>) -> Result<(), Fault> {
    if !graph.node.iter().any(is_merged) {
        return Ok(());
    }
    // Some can only be written with the sizes of what they read.
    let (mut net, inputs) = inputs::open(graph.clone(), opset, folder)?;
    tidy::constants(&mut net, true);
    let mut made: HashMap<String, Vec<NodeProto>> = HashMap::new();
    let mut at = 0;
    while at < net.nodes.len() {
        if !is_merged(&net.nodes[at]) {
            net.infer_node(at);
            at += 1;
            continue;
        }
        let op = net.nodes[at].clone();
        let mut parts = Parts::new(&op, opset);
        write(&net, graph, &op, &mut parts).map_err(|reason| {
            let of = if op.domain == DOMAIN {
                " of com.microsoft"
            } else {
                ""
            };
            Fault::new(format!("{} ({}{of})", label(&op), op.op_type), reason)
        })?;
        for constant in &parts.constants {
            net.constants
                .insert(constant.name.clone(), constant.clone());
        }
        graph.initializer.append(&mut parts.constants);
        let mut own = parts.nodes.clone();
        for name in own.iter_mut().flat_map(|node| &mut node.input) {
            let transposed = |i: &&Input| i.transposed && inputs::channels_last(&i.name) == *name;
            if let Some(input) = inputs.iter().find(transposed) {
                name.clone_from(&input.name);
            }
        }
        made.insert(op.output[0].clone(), own);
        let count = parts.nodes.len();
        net.replace(at, parts.nodes);
        at += count;
    }
    let apart = |node: NodeProto| made.remove(&node.output[0]).unwrap_or_else(|| vec![node]);
    graph.node = std::mem::take(&mut graph.node)
        .into_iter()
        .flat_map(apart)
        .collect();
    inputs::check(graph)
}

/// What an operator computes, in those of ONNX. An error says why that cannot be written.
fn write(net: &Net, graph: &GraphProto, op: &NodeProto, parts: &mut Parts) -> Result<(), String> {
    let given = |at: usize| node::given(op, at);
    let needed = |at: usize| given(at).ok_or_else(|| format!("it lacks input {at}"));
    let result = match op.op_type.as_str() {
        "Gelu" => parts.op("Gelu", &[needed(0)?]),
        "BiasGelu" => {
            let sum = parts.op("Add", &[needed(0)?, needed(1)?]);
            parts.op("Gelu", &[&sum])
        }
        "FastGelu" => {
            let sum = parts.plus(needed(0)?, given(1));
            parts.gelu_by_tanh(&sum)
        }
        "GemmFastGelu" => {
            let product = parts.op("MatMul", &[needed(0)?, needed(1)?]);
            let sum = parts.plus(&product, given(2));
            parts.gelu_by_tanh(&sum)
        }
        "FusedMatMul" | "TransposeMatMul" => product(net, op, parts)?,
        "FusedGemm" | "FusedConv" => with_activation(op, parts)?,
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
            let centred = op.op_type == "SkipLayerNormalization";
            let sum = parts.op("Add", &[needed(0)?, needed(1)?]);
            let sum = parts.plus(&sum, given(if centred { 4 } else { 3 }));
            let epsilon = node::float(op, "epsilon").unwrap_or(1e-12);
            if let Some(name) = op.output.get(3).filter(|name| !name.is_empty()) {
                parts.call(&sum, name);
            }
            if op
                .output
                .iter()
                .take(3)
                .skip(1)
                .any(|name| !name.is_empty())
            {
                return Err("it gives its mean or its deviation away".to_string());
            }
            let sum = op
                .output
                .get(3)
                .filter(|name| !name.is_empty())
                .unwrap_or(&sum);
            if centred {
                parts.layer_norm(sum, needed(2)?, given(3), epsilon)
            } else {
                parts.rms_norm(sum, needed(2)?, epsilon)
            }
        }
        "RMSNormalization" | "SimplifiedLayerNormalization" => {
            let rank = net
                .rank(needed(0)?)
                .ok_or("the shape of its input is not known")?;
            if axes::axis(node::int(op, "axis").unwrap_or(-1), rank) != Some(rank - 1) {
                return Err("it is not over the last axis alone".to_string());
            }
            if op.output.len() > 1 {
                return Err("it gives its deviation away".to_string());
            }
            let epsilon = node::float(op, "epsilon").unwrap_or(1e-5);
            parts.rms_norm(needed(0)?, needed(1)?, epsilon)
        }
        "PRelu" => slopes(net, op, parts)?,
        "EmbedLayerNormalization" => {
            let tables = [2, 3, 4].map(|at| given(at).map(str::to_string));
            let norm = [needed(5)?, needed(6)?];
            embeddings(op, tables, norm, given(8), parts)?
        }
        "QEmbedLayerNormalization" => bytes::embeddings(op, parts)?,
        "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => bytes::product(op, parts)?,
        _ if has_channels_last(op) => channels_first(net, op, parts)?,
        "Attention" if op.domain == DOMAIN => heads::attention(net, graph, op, parts)?,
        "Attention" => heads::masked(net, op, parts),
        "QAttention" => bytes::attention(net, graph, op, parts)?,
        "MultiHeadAttention" => heads::multi_head(net, graph, op, parts)?,
        _ => heads::rotation(net, op, parts)?,
    };
    parts.call(&result, &op.output[0]);
    Ok(())
}

/// `PRelu` with more than one slope: x · slope + max(x · (1 - slope), 0), where none is above 1.
fn slopes(net: &Net, op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let (x, slope) = match &op.input[..] {
        [x, slope] => (x, slope),
        _ => return Err("it has no slope".to_string()),
    };
    let (values, shape) = (net.floats(slope), net.constant_shape(slope));
    let (Some(values), Some(shape)) = (values, shape) else {
        return Ok(parts.op("PRelu", &[x, slope]));
    };
    let several = values.iter().any(|value| *value != values[0]);
    if !several || values.iter().any(|value| *value > 1.0) {
        return Ok(parts.op("PRelu", &[x, slope]));
    }
    let rest: Vec<f32> = values.iter().map(|value| 1.0 - value).collect();
    let rest = parts.floats(&shape, &rest);
    let below = parts.op("Mul", &[x, slope]);
    let above = parts.op("Mul", &[x, &rest]);
    let above = parts.op("Relu", &[&above]);
    Ok(parts.op("Add", &[&below, &above]))
}

/// `FusedMatMul`: alpha · A · B, with the last two axes of either transposed.
fn product(net: &Net, op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let flag = |name: &str| node::int(op, name).unwrap_or(0) != 0;
    if flag("transBatchA") || flag("transBatchB") {
        return Err("it moves the batch's axis".to_string());
    }
    let mut sides = vec![];
    for (at, name) in [(0, "transA"), (1, "transB")] {
        let side = op.input.get(at).ok_or("it lacks an input")?;
        if !flag(name) {
            sides.push(side.clone());
            continue;
        }
        let rank = net.rank(side).filter(|&rank| rank >= 2);
        let rank = rank.ok_or_else(|| format!("the shape of {side} is not known"))?;
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order.swap(rank - 2, rank - 1);
        sides.push(parts.transpose(side, order));
    }
    // Before the product: there it meets what the optimiser took it from.
    let first = match node::float(op, "alpha") {
        Some(alpha) if alpha != 1.0 => parts.times(&sides[0], alpha),
        _ => sides[0].clone(),
    };
    Ok(parts.op("MatMul", &[&first, &sides[1]]))
}

/// A convolution or pool whose channels come last, between transpositions.
fn channels_first(net: &Net, op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let x = op.input.first().ok_or("it lacks an input")?;
    // What quantised operators give has no shape yet; weights and windows have one.
    let weights = op
        .input
        .get(3)
        .and_then(|weights| net.constant_shape(weights));
    let window = node::ints(op, "kernel_shape").map(|sizes| sizes.len() + 2);
    let rank = net.rank(x).or(weights.map(|shape| shape.len())).or(window);
    let rank = rank.filter(|&rank| rank >= 3);
    let rank = rank.ok_or("the shape of its input is not known")? as i64;
    let first = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let last = [0].into_iter().chain(2..rank).chain([1]).collect();
    let x = parts.transpose(x, first);
    let rest = op.input.iter().skip(1).map(String::as_str);
    let inputs: Vec<&str> = [x.as_str()].into_iter().chain(rest).collect();
    let operator = op.op_type.strip_prefix("Nhwc").unwrap_or(&op.op_type);
    let result = parts.op(operator, &inputs);
    let own = op.attribute.iter().filter(|a| a.name != "channels_last");
    parts.attribute(own.cloned());
    Ok(parts.transpose(&result, last))
}

/// `FusedGemm` and `FusedConv`: with an activation behind it, a convolution with a sum before that.
fn with_activation(op: &NodeProto, parts: &mut Parts) -> Result<String, String> {
    let operator = op.op_type.strip_prefix("Fused").unwrap_or_default();
    let mut inputs: Vec<&str> = op.input.iter().map(String::as_str).collect();
    let added = (operator == "Conv" && inputs.len() > 3).then(|| inputs.remove(3));
    let result = parts.op(operator, &inputs);
    let own = op
        .attribute
        .iter()
        .filter(|a| !a.name.starts_with("activation"));
    parts.attribute(own.cloned());
    let result = parts.plus(&result, added.filter(|name| !name.is_empty()));
    let Some(name) = node::text(op, "activation").filter(|name| !name.is_empty()) else {
        return Ok(result);
    };
    let list = op.attribute.iter().find(|a| a.name == "activation_params");
    let number = |at: usize, name: &str| match list {
        Some(list) => list.floats.get(at).copied(),
        None => node::float(op, name),
    };
    let (first, second) = (number(0, "activation_alpha"), number(1, "activation_beta"));
    match (name.as_str(), first, second) {
        ("Relu" | "Sigmoid" | "Tanh" | "Softplus" | "Softsign", ..) => {
            Ok(parts.op(&name, &[&result]))
        }
        ("LeakyRelu" | "Elu" | "ThresholdedRelu", Some(alpha), _) => {
            Ok(parts.op_with(&name, &[&result], &[("alpha", Value::Float(alpha))]))
        }
        ("HardSigmoid", Some(alpha), Some(beta)) => {
            let of = [("alpha", Value::Float(alpha)), ("beta", Value::Float(beta))];
            Ok(parts.op_with(&name, &[&result], &of))
        }
        ("Clip", Some(low), Some(high)) => {
            let bounds = [low, high].map(|bound| parts.number(bound));
            Ok(parts.op("Clip", &[&result, &bounds[0], &bounds[1]]))
        }
        _ => Err(format!("its activation {name} is not known")),
    }
}
