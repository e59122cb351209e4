//! Small random changes: to a number, a JSON tree, a packed file, an ONNX graph.

use crate::altered::tensors;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::Dtype;
use serde_json::Value;
use strandline::model::file::{GRAPH_JSON, ModelFile, TensorData, serialize};
use strandline::model::manifest::Manifest;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

const NUMBERS: [i64; 18] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    16,
    255,
    1 << 16,
    1 << 20,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 53,
    i64::MAX / 2,
    i64::MAX,
    i64::MIN,
    -2,
];

const OPERATORS: [&str; 24] = [
    "Add",
    "Mul",
    "Sub",
    "Div",
    "Conv",
    "MatMul",
    "Gemm",
    "Relu",
    "Erf",
    "Softmax",
    "Reshape",
    "Transpose",
    "Concat",
    "Gather",
    "Slice",
    "Unsqueeze",
    "Squeeze",
    "ReduceMean",
    "MaxPool",
    "Resize",
    "Cast",
    "Shape",
    "Flatten",
    "LayerNormalization",
];

/// A number near `old`, or far from it.
fn number(old: i64, rng: &mut ChaCha8Rng) -> i64 {
    match rng.random_range(0..6) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 => old / 2,
        _ => *NUMBERS.choose(rng).unwrap(),
    }
}

fn float(rng: &mut ChaCha8Rng) -> f32 {
    let choice = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, f32::MAX, f32::MIN];
    let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    *[&choice[..], &wild].concat().choose(rng).unwrap()
}

/// One leaf or member of a JSON tree becomes another.
pub fn tree(value: &mut Value, rng: &mut ChaCha8Rng) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = keys.choose(rng).unwrap();
            if rng.random_ratio(1, 20) {
                map.remove(key);
            } else {
                tree(&mut map[key], rng);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            match rng.random_range(0..20) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                2 => items.swap(0, at),
                _ => tree(&mut items[at], rng),
            }
        }
        Value::Number(old) => {
            *value = if old.is_f64() {
                serde_json::json!(float(rng))
            } else {
                number(old.as_i64().unwrap_or(0), rng).into()
            };
        }
        Value::Bool(old) => *old = !*old,
        Value::String(old) => match rng.random_range(0..3) {
            0 => old.clear(),
            1 => old.push('1'),
            _ => {
                *old = ["int8", "f32", "codes", "length", "conv"]
                    .choose(rng)
                    .unwrap()
                    .to_string()
            }
        },
        other => *other = number(0, rng).into(),
    }
}

/// A packed file with one to three changes inside, under right hashes; `None` where the manifest
/// can no longer be written as one.
pub fn packed(file: &ModelFile, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let mut manifest = serde_json::to_value(file.manifest()).unwrap();
    let mut tensors = tensors(file);
    for _ in 0..rng.random_range(1..4) {
        match rng.random_range(0..10) {
            0..3 => tree(&mut manifest, rng),
            3..7 => graph_text(&mut tensors, rng),
            _ => tensor(&mut tensors, rng),
        }
    }
    let manifest: Manifest = serde_json::from_value(manifest).ok()?;
    serialize(&manifest, tensors).ok()
}

fn graph_text(tensors: &mut [TensorData], rng: &mut ChaCha8Rng) {
    let Some(graph) = tensors.iter_mut().find(|t| t.name.starts_with("graph.")) else {
        return;
    };
    if graph.name == GRAPH_JSON {
        let Ok(mut text) = serde_json::from_slice(&graph.data) else {
            return;
        };
        tree(&mut text, rng);
        graph.data = text.to_string().into_bytes();
    } else {
        // A text of NNEF: a number in it becomes another.
        let digits: Vec<usize> = (0..graph.data.len())
            .filter(|&at| graph.data[at].is_ascii_digit())
            .collect();
        let Some(&at) = digits.choose(rng) else {
            return;
        };
        let new = number(i64::from(graph.data[at] - b'0'), rng).to_string();
        graph.data.splice(at..=at, new.into_bytes());
    }
    graph.shape = vec![graph.data.len()];
}

fn tensor(tensors: &mut Vec<TensorData>, rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..tensors.len());
    let other = rng.random_range(0..tensors.len());
    match rng.random_range(0..7) {
        0 => drop(tensors.remove(at)),
        1 => {
            let (data, shape) = (tensors[other].data.clone(), tensors[other].shape.clone());
            (tensors[at].data, tensors[at].shape) = (data, shape);
        }
        2 => {
            let tensor = &mut tensors[at];
            let width = tensor.dtype.bitsize() / 8;
            let count = rng.random_range(0..=tensor.data.len() / width);
            tensor.data.truncate(count * width);
            tensor.shape = vec![count];
        }
        3 => {
            let shape = &mut tensors[at].shape;
            shape.reverse();
            shape.insert(0, 1);
        }
        4 => {
            let byte = rng.random();
            tensors[at].data.fill(byte);
        }
        _ => {
            let tensor = &mut tensors[at];
            for _ in 0..rng.random_range(1..9) {
                if tensor.data.len() < 8 {
                    break;
                }
                let place = rng.random_range(0..tensor.data.len() / 4);
                let new = match tensor.dtype {
                    Dtype::F32 => float(rng).to_le_bytes(),
                    _ => rng.random(),
                };
                tensor.data[4 * place..4 * place + 4].copy_from_slice(&new);
            }
        }
    }
}

/// One to three changes to an ONNX model.
pub fn onnx(model: &mut ModelProto, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        let Some(graph) = &mut model.graph else {
            return;
        };
        match rng.random_range(0..14) {
            0..5 => {
                let names: Vec<String> = graph
                    .node
                    .iter()
                    .flat_map(|n| n.output.iter().chain(&n.input))
                    .cloned()
                    .collect();
                let at = rng.random_range(0..graph.node.len().max(1));
                match graph.node.get_mut(at) {
                    Some(node) => self::node(node, &names, rng),
                    None => return,
                }
            }
            5 if graph.node.len() > 1 => {
                let at = rng.random_range(0..graph.node.len());
                drop(graph.node.remove(at));
            }
            6 if !graph.node.is_empty() => {
                let from = rng.random_range(0..graph.node.len());
                let to = rng.random_range(0..graph.node.len());
                if rng.random() {
                    graph.node.swap(from, to);
                } else {
                    let copy = graph.node[from].clone();
                    graph.node.insert(to, copy);
                }
            }
            7..11 if !graph.initializer.is_empty() => {
                let at = rng.random_range(0..graph.initializer.len());
                initializer(&mut graph.initializer[at], rng);
            }
            11 => {
                for set in &mut model.opset_import {
                    set.version = number(set.version, rng);
                }
            }
            12 => input(graph, rng),
            _ => {
                if let Some(output) = graph.output.first_mut() {
                    output.name = graph.node.choose(rng).map_or("x", |n| &n.name).to_string();
                }
            }
        }
    }
}

fn input(graph: &mut tract_onnx::pb::GraphProto, rng: &mut ChaCha8Rng) {
    use tract_onnx::pb::tensor_shape_proto::dimension;
    use tract_onnx::pb::type_proto;
    let Some(input) = graph.input.first_mut() else {
        return;
    };
    let kind = input.r#type.as_mut().and_then(|t| t.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = kind else {
        return;
    };
    let Some(shape) = &mut tensor.shape else {
        return;
    };
    match rng.random_range(0..4) {
        0 => tensor.elem_type = rng.random_range(0..17),
        1 => drop(shape.dim.pop()),
        2 => {
            let dim = shape.dim.first().cloned().unwrap_or_default();
            shape.dim.insert(0, dim);
        }
        _ => {
            if let Some(dim) = shape.dim.choose_mut_(rng) {
                dim.value = Some(dimension::Value::DimValue(number(4, rng)));
            }
        }
    }
}

/// A random element to be changed.
trait ChooseMut<T> {
    fn choose_mut_(&mut self, rng: &mut ChaCha8Rng) -> Option<&mut T>;
}

impl<T> ChooseMut<T> for [T] {
    fn choose_mut_(&mut self, rng: &mut ChaCha8Rng) -> Option<&mut T> {
        let at = rng.random_range(0..self.len().max(1));
        self.get_mut(at)
    }
}

fn node(node: &mut NodeProto, names: &[String], rng: &mut ChaCha8Rng) {
    match rng.random_range(0..8) {
        0 => node.op_type = OPERATORS.choose(rng).unwrap().to_string(),
        1 => {
            if let Some(input) = node.input.choose_mut_(rng) {
                *input = names.choose(rng).cloned().unwrap_or_default();
            }
        }
        2 => drop(node.input.pop()),
        3 => node
            .input
            .push(names.choose(rng).cloned().unwrap_or_default()),
        4 => {
            let at = rng.random_range(0..node.attribute.len().max(1));
            if at < node.attribute.len() {
                node.attribute.remove(at);
            }
        }
        5 => node.domain = "com.microsoft".to_string(),
        _ => {
            if let Some(attribute) = node.attribute.choose_mut_(rng) {
                self::attribute(attribute, rng);
            }
        }
    }
}

fn attribute(attribute: &mut AttributeProto, rng: &mut ChaCha8Rng) {
    match rng.random_range(0..6) {
        0 => attribute.ints.push(number(1, rng)),
        1 => drop(attribute.ints.pop()),
        2 => attribute.s = b"SAME_UPPER".to_vec(),
        3 => attribute.r#type = rng.random_range(0..12),
        _ => {
            attribute.i = number(attribute.i, rng);
            attribute.f = float(rng);
            if let Some(value) = attribute.ints.choose_mut_(rng) {
                *value = number(*value, rng);
            }
        }
    }
}

fn initializer(tensor: &mut TensorProto, rng: &mut ChaCha8Rng) {
    match rng.random_range(0..7) {
        0 => tensor.data_type = rng.random_range(0..20),
        1 => tensor.dims.reverse(),
        2 => tensor.dims.push(number(1, rng)),
        3 => {
            if let Some(dim) = tensor.dims.choose_mut_(rng) {
                *dim = number(*dim, rng);
            }
        }
        4 => {
            let length = rng.random_range(0..=tensor.raw_data.len());
            tensor.raw_data.truncate(length);
        }
        _ if tensor.data_type == 7 => {
            let count = tensor.raw_data.len() / 8;
            let at = 8 * rng.random_range(0..count.max(1));
            if at + 8 <= tensor.raw_data.len() {
                let old = i64::from_le_bytes(*tensor.raw_data[at..].first_chunk().unwrap());
                let new = number(old, rng).to_le_bytes();
                tensor.raw_data[at..at + 8].copy_from_slice(&new);
            }
        }
        _ => {
            let count = tensor.raw_data.len() / 4;
            let at = 4 * rng.random_range(0..count.max(1));
            if at + 4 <= tensor.raw_data.len() {
                tensor.raw_data[at..at + 4].copy_from_slice(&float(rng).to_le_bytes());
            }
        }
    }
}
