//! Dilated convolutions that are written as space-to-batch: every d-th position becomes a sequence
//! of its own, a plain convolution runs over them, and they are put together again. TensorFlow
//! writes them so wherever the length is open, in some sixty operators of sums over the shape.
//!
//! What these do is not followed: the whole is run beside the dilated convolution that it may be.

use super::dim::{Dim, Fact};
use super::net::Net;
use super::node::{self, Value, label, node, with};
use super::{probe, tensor, tidy};
use tract_nnef::internal::*;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto};

/// Operators that only move elements.
const MOVES: [&str; 5] = ["Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"];

/// Most operators between the padding or the cut and the convolution.
const DEEPEST: usize = 8;

/// Largest dilation.
const MOST_DILATION: usize = 1 << 12;

/// Lengths at which both are run, beside those around the dilation.
const LENGTHS: [usize; 2] = [67, 1031];

/// Puts a dilated convolution in the place of each such group of operators; notes why one is none.
pub fn recognise(net: &mut Net, notes: &mut Vec<String>) {
    let convolutions: Vec<String> = net
        .nodes
        .iter()
        .filter(|n| n.op_type == "Conv")
        .map(|n| n.output[0].clone())
        .collect();
    for output in convolutions {
        let Some(group) = Group::around(net, &output) else {
            continue;
        };
        let (new, weight) = match group.dilated(net) {
            Ok(found) => found,
            Err(reason) => {
                notes.push(format!("{output}: no dilated convolution: {reason}"));
                continue;
            }
        };
        if let Some(at) = net.nodes.iter().position(|n| n.output[0] == group.to) {
            net.constants.insert(weight.name.clone(), weight);
            net.replace(at, new);
            net.drop_dead();
        }
    }
}

/// A convolution between a padding and a cut whose sizes follow from the length.
struct Group {
    convolution: NodeProto,
    /// Rows `[1, T, channels]` before the padding.
    from: String,
    channels: usize,
    /// Rows behind the cut.
    to: String,
}

impl Group {
    fn around(net: &Net, output: &str) -> Option<Group> {
        let convolution = net.producer(output)?.clone();
        let open = |op: &NodeProto| {
            op.input
                .iter()
                .skip(1)
                .any(|i| !net.constants.contains_key(i))
        };
        let mut before = convolution.input.first()?.clone();
        let mut steps = 0;
        let from = loop {
            let op = net.producer(&before)?;
            if op.op_type == "Pad" && open(op) {
                break op.input.first()?.clone();
            }
            steps += 1;
            if steps > DEEPEST || !MOVES.contains(&op.op_type.as_str()) {
                return None;
            }
            before = op.input.first()?.clone();
        };
        let mut behind = output.to_string();
        for _ in 0..DEEPEST {
            let moves = |at: &usize| net.nodes[*at].input.first() == Some(&behind);
            let reader = net.readers(&behind).into_iter().find(|at| {
                let name = net.nodes[*at].op_type.as_str();
                moves(at) && (MOVES.contains(&name) || name == "Slice")
            })?;
            let op = &net.nodes[reader];
            behind = op.output.first()?.clone();
            if op.op_type == "Slice" && open(op) {
                let shape = net.fact(&from).shape?;
                let [Some(Dim::ONE), _, Some(channels)] = shape.as_slice() else {
                    return None;
                };
                return Some(Group {
                    convolution,
                    channels: channels.size()?,
                    from,
                    to: behind,
                });
            }
        }
        None
    }

    /// The dilated convolution that it is, where it is one, and its weights.
    fn dilated(&self, net: &Net) -> Result<(Vec<NodeProto>, TensorProto), String> {
        let own = self.alone(net);
        let inputs = &self.convolution.input;
        let weight = inputs.get(1).and_then(|weight| net.constants.get(weight));
        let weight = weight.ok_or("its weights are no constant")?;
        let [out, depth, a, b] = weight.dims[..] else {
            return Err("its weights have other axes".to_string());
        };
        let width = match (a, b) {
            (1, width) | (width, 1) => width,
            _ => return Err("its windows have two dimensions".to_string()),
        };
        let long = [self.feed(LENGTHS[1])];
        let of_length = self.of_length(&own, LENGTHS[1]);
        let rows = probe::evaluate(&of_length, &inputs[0], &long).map_err(|e| format!("{e:#}"))?;
        let dilation = rows.shape().first().copied().unwrap_or(1);
        if !(2..=MOST_DILATION).contains(&dilation) {
            return Err(format!("it makes {dilation} sequences of one"));
        }
        let reach = (width - 1) * dilation as i64;
        let mut weight = weight.clone();
        weight.name = format!("{}.dilated", self.to);
        weight.dims = vec![out, depth, width];
        let lengths = [
            dilation - 1,
            dilation,
            dilation + 1,
            2 * dilation,
            2 * dilation + 1,
        ];
        let lengths = lengths.into_iter().chain(LENGTHS);
        // As keras pads: the same length, or causal, or not at all.
        let pads = [[0, 0], [reach, 0], [reach / 2, reach - reach / 2]];
        let mut differs = String::new();
        for pads in pads {
            let nodes = self.written(&weight.name, dilation as i64, pads);
            let mut other = own.clone();
            other.constants.insert(weight.name.clone(), weight.clone());
            other.nodes.clone_from(&nodes);
            other.index();
            let mut lengths = lengths.clone().filter(|&length| length > 1);
            let odd = lengths.find_map(|length| {
                let feed = [self.feed(length)];
                let run = |net: &Net| probe::floats(net, &self.to, &feed);
                match (run(&self.of_length(&own, length)), run(&other)) {
                    (Ok(own), Ok(other)) if is_close(&own, &other) => None,
                    (Ok(_), Ok(_)) => Some(format!("it gives other numbers at length {length}")),
                    // Too short for either.
                    (Err(_), Err(_)) if length as i64 <= reach => None,
                    (Err(error), _) | (_, Err(error)) => {
                        Some(format!("at length {length}: {error:#}"))
                    }
                }
            });
            match odd {
                None => return Ok((nodes, weight)),
                Some(odd) => differs = odd,
            }
        }
        Err(differs)
    }

    /// The graph with the rows before the padding as its only input.
    fn alone(&self, net: &Net) -> Net {
        let mut own = net.clone();
        own.nodes.retain(|n| !n.output.contains(&self.from));
        let tensor = type_proto::Tensor {
            elem_type: DataType::Float as i32,
            shape: None,
        };
        own.inputs = vec![ValueInfoProto {
            name: self.from.clone(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        }];
        own.index();
        own
    }

    /// The graph for one length, its sums over the shape worked out: tract fails at some of them.
    fn of_length(&self, own: &Net, length: usize) -> Net {
        let mut net = own.clone();
        let shape = [1, length, self.channels].map(|size| Some(Dim::new(size as i64)));
        net.set_fact(&self.from, Fact::shaped(shape.to_vec()));
        let mut at = 0;
        while at < net.nodes.len() {
            net.infer_node(at);
            let op = &net.nodes[at];
            let tensors = if op.op_type == "Shape" {
                let sizes = net.integers(&op.output[0]);
                sizes.and_then(|sizes| Some(vec![tensor::store("", &tensor1(&sizes)).ok()?]))
            } else {
                tidy::folded(&net, at)
            };
            let Some(tensors) = tensors else {
                at += 1;
                continue;
            };
            let op = net.nodes.remove(at);
            net.index();
            for (name, mut tensor) in op.output.into_iter().zip(tensors) {
                tensor.name.clone_from(&name);
                net.constants.insert(name, tensor);
            }
        }
        net
    }

    /// Rows that differ from each other, from a row of numbers without a period.
    fn feed(&self, length: usize) -> (String, Tensor) {
        let mut state = 1u32;
        let values: Vec<f32> = (0..length * self.channels)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        let rows = tensor1(&values).into_shape(&[1, length, self.channels]);
        (self.from.clone(), rows.unwrap_or_default())
    }

    fn written(&self, weight: &str, dilation: i64, pads: [i64; 2]) -> Vec<NodeProto> {
        let (rows, sums) = (format!("{}.first", self.to), format!("{}.sums", self.to));
        let swapped = |from: &str, to: &str| {
            let made = node("Transpose", to, &[from], &[to]);
            with(made, "perm", Value::Ints(vec![0, 2, 1]))
        };
        let mut inputs = vec![rows.as_str(), weight];
        inputs.extend(self.convolution.input.get(2).map(String::as_str));
        let made = node("Conv", label(&self.convolution), &inputs, &[&sums]);
        let group = node::int(&self.convolution, "group").unwrap_or(1);
        let made = with(made, "group", Value::Int(group));
        let made = with(made, "dilations", Value::Ints(vec![dilation]));
        let made = with(made, "pads", Value::Ints(pads.to_vec()));
        vec![swapped(&self.from, &rows), made, swapped(&sums, &self.to)]
    }
}

fn is_close(a: &(Vec<usize>, Vec<f32>), b: &(Vec<usize>, Vec<f32>)) -> bool {
    let largest = a.1.iter().fold(0f32, |most, x| most.max(x.abs()));
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * largest;
    a.0 == b.0 && a.1.iter().zip(&b.1).all(near)
}
