//! What quantised files round, in float: QuantizeLinear and DequantizeLinear as the few operators
//! that ONNX defines them by. From the pair itself tract draws what stands between into integers,
//! a soft-max above all, and gives other numbers than the file.

use super::node::{label, node};
use super::qdq::is_quantised;
use super::tensor;
use std::collections::{HashMap, HashSet};
use tract_nnef::internal::tensor0;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// From here on Clip takes its bounds as inputs.
const OPSET: i64 = 11;

/// Operators that give integers on as they are.
const MOVES: [&str; 9] = [
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Rewrites a graph that rounds by pairs alone, each with one scale; others stay as they are.
pub fn in_float(graph: &mut GraphProto, opset: i64) {
    let constants: HashMap<&str, &TensorProto> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    if opset < OPSET || !graph.node.iter().any(is_quantised) || !is_of_pairs(graph, &constants) {
        return;
    }
    let mut added = vec![];
    let mut made = vec![];
    for own in &graph.node {
        let is_constant = || reads_constant(own, &constants);
        let rewritten = match own.op_type.as_str() {
            "QuantizeLinear" => quantised(own, &constants, &mut added),
            "DequantizeLinear" if !is_constant() => dequantised(own, &constants, &mut added),
            _ => Some(vec![own.clone()]),
        };
        match rewritten {
            Some(nodes) => made.extend(nodes),
            None => return,
        }
    }
    graph.node = made;
    graph.initializer.append(&mut added);
    // What was of integers is of floats now.
    graph.value_info.clear();
}

fn reads_constant(own: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> bool {
    let first = own.input.first();
    first.is_some_and(|name| constants.contains_key(name.as_str()))
}

/// True where integers go from a QuantizeLinear to a DequantizeLinear, and nowhere else.
fn is_of_pairs(graph: &GraphProto, constants: &HashMap<&str, &TensorProto>) -> bool {
    let mut integers: HashSet<&str> = HashSet::new();
    for own in &graph.node {
        let reads = own.input.iter().any(|x| integers.contains(x.as_str()));
        let is_constant = || reads_constant(own, constants);
        let outputs = own.output.iter().map(String::as_str);
        match own.op_type.as_str() {
            "QuantizeLinear" => integers.extend(outputs),
            "DequantizeLinear" if reads || is_constant() => {}
            name if reads && MOVES.contains(&name) => integers.extend(outputs),
            _ if reads || is_quantised(own) => return false,
            _ => {}
        }
    }
    !graph
        .output
        .iter()
        .any(|out| integers.contains(out.name.as_str()))
}

/// Lowest and highest integer of a node's zero point, and that itself.
fn range(own: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<[f32; 3]> {
    let scale = constants.get(own.input.get(1)?.as_str())?;
    if scale.dims.iter().product::<i64>() != 1 {
        return None;
    }
    let (kind, zero) = match own.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => {
            let tensor = constants.get(name.as_str())?;
            (tensor.data_type, *tensor::floats(tensor).ok()?.first()?)
        }
        // Where an attribute names another type, nothing is known.
        None if own.attribute.iter().all(|a| a.name == "axis") => (DataType::Uint8 as i32, 0.0),
        None => return None,
    };
    let [low, high] = match DataType::try_from(kind).ok()? {
        DataType::Uint8 => [0.0, 255.0],
        DataType::Int8 => [-128.0, 127.0],
        DataType::Uint16 => [0.0, 65_535.0],
        DataType::Int16 => [-32_768.0, 32_767.0],
        _ => return None,
    };
    Some([low, high, zero])
}

/// A constant of one number.
fn scalar(name: String, value: f32, added: &mut Vec<TensorProto>) -> Option<String> {
    added.push(tensor::store(&name, &tensor0(value)).ok()?);
    Some(name)
}

fn quantised(
    own: &NodeProto,
    constants: &HashMap<&str, &TensorProto>,
    added: &mut Vec<TensorProto>,
) -> Option<Vec<NodeProto>> {
    let [low, high, zero] = range(own, constants)?;
    let (x, out) = (own.input.first()?, own.output.first()?.as_str());
    let [divided, whole, moved] = ["divided", "whole", "moved"].map(|step| format!("{out}.{step}"));
    let low = scalar(format!("{out}.low"), low, added)?;
    let high = scalar(format!("{out}.high"), high, added)?;
    let zero = scalar(format!("{out}.zero"), zero, added)?;
    let name = |step: &str| format!("{}.{step}", label(own));
    Some(vec![
        node("Div", &name("divide"), &[x, &own.input[1]], &[&divided]),
        node("Round", &name("round"), &[&divided], &[&whole]),
        node("Add", &name("move"), &[&whole, &zero], &[&moved]),
        node("Clip", label(own), &[&moved, &low, &high], &[out]),
    ])
}

fn dequantised(
    own: &NodeProto,
    constants: &HashMap<&str, &TensorProto>,
    added: &mut Vec<TensorProto>,
) -> Option<Vec<NodeProto>> {
    let [_, _, zero] = range(own, constants)?;
    let (x, out) = (own.input.first()?, own.output.first()?.as_str());
    let back = format!("{out}.back");
    let zero = scalar(format!("{out}.zero"), zero, added)?;
    let name = format!("{}.move", label(own));
    Some(vec![
        node("Sub", &name, &[x, &zero], &[&back]),
        node("Mul", label(own), &[&back, &own.input[1]], &[out]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(name: &str, kind: DataType, raw_data: Vec<u8>) -> TensorProto {
        TensorProto {
            name: name.to_string(),
            data_type: kind as i32,
            raw_data,
            ..TensorProto::default()
        }
    }

    fn pair(between: &str) -> GraphProto {
        GraphProto {
            initializer: vec![
                constant("s", DataType::Float, 0.5f32.to_le_bytes().to_vec()),
                constant("z", DataType::Int8, vec![0xfe]),
            ],
            node: vec![
                node("QuantizeLinear", "q", &["x", "s", "z"], &["a"]),
                node(between, "m", &["a"], &["b"]),
                node("DequantizeLinear", "d", &["b", "s", "z"], &["y"]),
            ],
            ..GraphProto::default()
        }
    }

    #[test]
    fn pairs_become_what_they_are_defined_by() {
        let mut graph = pair("Transpose");
        in_float(&mut graph, 17);
        let operators: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        let expected = ["Div", "Round", "Add", "Clip", "Transpose", "Sub", "Mul"];
        assert_eq!(operators, expected);
        let value = |name: &str| {
            let tensor = graph.initializer.iter().find(|t| t.name == name).unwrap();
            tensor::floats(tensor).unwrap()[0]
        };
        assert_eq!(
            ["a.low", "a.high", "a.zero", "y.zero"].map(value),
            [-128.0, 127.0, -2.0, -2.0]
        );
    }

    #[test]
    fn what_reads_integers_otherwise_stays() {
        for (mut graph, opset) in [
            (pair("Softmax"), 17),
            (pair("QLinearAdd"), 17),
            (pair("Identity"), 10),
        ] {
            let before = graph.clone();
            in_float(&mut graph, opset);
            assert!(graph == before);
        }
    }
}
