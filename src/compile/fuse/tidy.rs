//! Constants computed ahead, and what is left over dropped.

use super::dim::{Dim, Fact};
use super::net::Net;
use super::view::{View, open_shape};
use super::{node, probe, tensor};
use std::collections::HashSet;
use tract_nnef::internal::*;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto};

/// Elements of a constant that may be computed ahead; more is a mistake or an attack.
const LARGEST: i64 = 1 << 28;

/// Computes what depends on constants alone, and what is known of shapes; with `stated`, only takes
/// in what is written out.
pub fn constants(net: &mut Net, stated: bool) {
    let mut at = 0;
    while at < net.nodes.len() {
        let plain = matches!(net.nodes[at].op_type.as_str(), "Constant" | "Identity");
        let tensors = if plain || !stated {
            folded(net, at)
        } else {
            None
        };
        match tensors {
            Some(tensors) => {
                let node = net.nodes.remove(at);
                net.index();
                net.drop_unread(&node);
                for (name, mut tensor) in node.output.into_iter().zip(tensors) {
                    if !name.is_empty() {
                        tensor.name.clone_from(&name);
                        net.constants.insert(name, tensor);
                    }
                }
            }
            None => at += 1,
        }
    }
}

pub fn folded(net: &Net, at: usize) -> Option<Vec<TensorProto>> {
    let node = &net.nodes[at];
    if node.output.iter().any(|o| net.is_output(o)) {
        return None;
    }
    if node.op_type == "Constant" {
        if let Some(tensor) = node
            .attribute
            .iter()
            .find(|a| a.name == "value")
            .and_then(|a| a.t.clone())
        {
            return Some(vec![tensor]);
        }
    } else if node.op_type.contains("Quantize")
        || node.op_type.starts_with("Random")
        || node.op_type == "Multinomial"
    {
        return None;
    }
    if let [output] = node.output.as_slice()
        && let Fact {
            shape: Some(shape),
            values: Some(values),
            float: false,
        } = net.fact(output)
        && let Some(values) = values
            .into_iter()
            .map(|v| v?.fixed())
            .collect::<Option<Vec<i64>>>()
        && shape.len() < 2
        && node.op_type != "Cast"
        && !matches!(node.op_type.as_str(), "Equal" | "Where")
    {
        let tensor = if shape.is_empty() {
            tensor0(values[0])
        } else {
            tensor1(&values)
        };
        return tensor::store(output, &tensor).ok().map(|t| vec![t]);
    }
    if !node
        .input
        .iter()
        .all(|i| i.is_empty() || net.constants.contains_key(i))
    {
        return None;
    }
    let large = node.output.iter().any(|o| {
        let size = net.shape(o).and_then(|s| {
            s.into_iter()
                .try_fold(1i64, |p, d| p.checked_mul(d.fixed()?))
        });
        size.is_some_and(|s| s > LARGEST)
    });
    let grows = [
        "ConstantOfShape",
        "Expand",
        "Range",
        "Tile",
        "Pad",
        "Resize",
        "Upsample",
        "OneHot",
    ];
    let unknown = net.shape(&node.output[0]).is_none();
    if large || (unknown && grows.contains(&node.op_type.as_str())) {
        return None;
    }
    if node.op_type == "Identity" {
        return net.constants.get(&node.input[0]).map(|t| vec![t.clone()]);
    }
    let tensors = probe::fold(net, &node.output).and_then(|tensors| {
        let named = tensors.iter().zip(&node.output);
        named
            .map(|(t, name)| tensor::store(name, t))
            .collect::<TractResult<_>>()
    });
    tensors.ok()
}

/// Drops operators that give their input back.
pub fn drop_identities(net: &mut Net) {
    let mut at = 0;
    while at < net.nodes.len() {
        let op = net.nodes[at].clone();
        let same = match op.op_type.as_str() {
            "Identity" => true,
            "Dropout" => op.output.len() == 1 || net.readers(&op.output[1]).is_empty(),
            "Cast" => node::int(&op, "to") == Some(1) && is_float(net, &op.input[0]),
            _ => false,
        };
        let (input, output) = (op.input.first().cloned().unwrap_or_default(), &op.output[0]);
        let gives = net.is_output(output);
        let produced = gives && net.producer(&input).is_some() && !net.is_output(&input);
        if same && !gives {
            net.rename(output, &input);
            net.nodes.remove(at);
            net.index();
        } else if same && produced {
            let output = output.clone();
            net.nodes.remove(at);
            net.rename(&input, &output);
            for name in net
                .nodes
                .iter_mut()
                .flat_map(|n| &mut n.output)
                .filter(|o| **o == input)
            {
                name.clone_from(&output);
            }
            net.index();
        } else {
            at += 1;
        }
    }
}

/// True where a tensor is known to be f32 already.
fn is_float(net: &Net, name: &str) -> bool {
    // Operators whose result has the type of their first input.
    const SAME: [&str; 27] = [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Conv",
        "Div",
        "Dropout",
        "Elu",
        "Gather",
        "Gemm",
        "Identity",
        "LayerNormalization",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "Pad",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    ];
    let mut name = name.to_string();
    loop {
        if let Some(constant) = net.constants.get(&name) {
            return constant.data_type == DataType::Float as i32;
        }
        let Some(node) = net.producer(&name) else {
            let input = net.inputs.iter().find(|input| input.name == name);
            return input.and_then(node::element_type) == Some(f32::datum_type());
        };
        match node.op_type.as_str() {
            fused if fused.starts_with(node::PREFIX) => return true,
            "Cast" => return node::int(node, "to") == Some(1),
            same if SAME.contains(&same) && !node.input.is_empty() => {
                name.clone_from(&node.input[0]);
            }
            _ => return false,
        }
    }
}

/// Drops views that lead back to the shape and order of their source.
pub fn drop_views(net: &mut Net) {
    for at in 0..net.nodes.len() {
        let op = &net.nodes[at];
        if !["Reshape", "Squeeze", "Unsqueeze", "Transpose"].contains(&op.op_type.as_str()) {
            continue;
        }
        let (name, output) = (op.name.clone(), op.output[0].clone());
        if let Some(view) = View::trace(net, &output)
            && view.keeps_order()
            && view.source != output
            && net.shape(&output).is_some()
            && net.shape(&output) == net.shape(&view.source)
        {
            net.nodes[at] = node::node("Identity", &name, &[&view.source], &[&output]);
        }
    }
    drop_identities(net);
}

/// A reshape to a shape that is known, but for the length, needs no computation of it.
pub fn settle_shapes(net: &mut Net) {
    for at in 0..net.nodes.len() {
        let op = &net.nodes[at];
        if op.op_type != "Reshape" {
            continue;
        }
        let output = op.output[0].clone();
        let known = net.integers(&op.input[1]);
        let is_open = |d: &Dim| d.fixed().is_none();
        let written = |sizes: &Vec<i64>| {
            let open = net.shape(&output).is_some_and(|s| s.iter().any(is_open));
            open && !sizes.iter().any(|s| *s < 1)
        };
        if net.constants.contains_key(&op.input[1]) && !known.as_ref().is_some_and(written) {
            continue;
        }
        if let Some(sizes) = net.shape(&output).and_then(|s| open_shape(&s)) {
            let name = net.add_integers(format!("{output}.shape"), &sizes);
            net.nodes[at].input[1] = name;
        }
    }
}

/// Gives every node a name of its own, which tract needs.
pub fn name_apart(net: &mut Net) {
    let mut used: HashSet<String> = HashSet::new();
    let named = |n: &NodeProto| {
        if n.name.is_empty() {
            n.output[0].clone()
        } else {
            n.name.clone()
        }
    };
    for node in &mut net.nodes {
        let first = named(node);
        let mut name = first.clone();
        let mut number = 1;
        while !used.insert(name.clone()) {
            number += 1;
            name = format!("{first}.{number}");
        }
        node.name = name;
    }
}
