//! Embeddings: tables of tokens, of learned positions, and the one row of token types that a single
//! sequence uses.

use super::axes;
use super::dim::Dim;
use super::meaning::Meaning;
use super::net::Net;
use super::node::{self, PREFIX, label, node};
use super::probe;
use super::rows::{Rows, finish};
use super::view::View;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// Lengths at which indices of positions are computed.
const LENGTHS: [usize; 2] = [4, 7];

/// Longer ones, at which indices must go on as they began; a table of them may end before.
const LONG: [usize; 2] = [67, 1031];

/// `Gather` of a table's rows by token ids.
pub fn embedding(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Gather" || node::int(&op, "axis").unwrap_or(0) != 0 {
        return None;
    }
    let &[_, width] = net.constant_shape(&op.input[0])?.as_slice() else {
        return None;
    };
    let mut ids = op.input.get(1)?.clone();
    while let Some(node) = net.producer(&ids) {
        match node.op_type.as_str() {
            "Cast" | "Identity" => ids = node.input.first()?.clone(),
            _ => return None,
        }
    }
    net.meanings
        .iter()
        .find(|(name, m)| *name == ids && matches!(m, Meaning::Ids | Meaning::Flags))?;
    let [Dim::ONE, rows] = net.shape(&ids)?[..] else {
        return None;
    };
    let of = Rows {
        name: ids.clone(),
        rows,
        width,
    };
    let made = node(
        &format!("{PREFIX}Embedding"),
        label(&op),
        &[&ids, &op.input[0]],
        &[],
    );
    finish(net, made, &of, width, &op.output[0])
}

/// `CumSum` over the tokens, by which positions are counted: tract has no such operator for
/// integers. Counts are exact in f32 for any length that a network of tokens has.
pub fn cumulative(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let plain = ["exclusive", "reverse"].map(|name| node::int(&op, name).unwrap_or(0) == 0);
    let axis = net.scalar(op.input.get(1)?)? as i64;
    if op.op_type != "CumSum" || plain != [true; 2] || ![1, -1].contains(&axis) {
        return None;
    }
    let (x, out) = (op.input.first()?, op.output.first()?);
    if net.shape(x)?[..] != [Dim::ONE, net.rows] {
        return None;
    }
    let to = net
        .producer_of(x, "Cast")
        .and_then(|cast| node::int(cast, "to"));
    let (float, sum) = (format!("{out}.float"), format!("{out}.sum"));
    let cast = |from: &str, to: i64, into: &str| {
        node::with(
            node("Cast", into, &[from], &[into]),
            "to",
            node::Value::Int(to),
        )
    };
    Some(vec![
        cast(x, DataType::Float as i64, &float),
        node(&format!("{PREFIX}CumSum"), label(&op), &[&float], &[&sum]),
        cast(&sum, to.unwrap_or(DataType::Int64 as i64), out),
    ])
}

/// What is added to every token, by position or the same for all.
struct Term {
    positions: Option<Vec<f32>>,
    every: Option<Vec<f32>>,
}

/// Positions, token types and factors behind an embedding.
pub fn absorb(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Add" && op.op_type != "Mul" {
        return None;
    }
    for (x, other) in [(0, 1), (1, 0)] {
        let Some(view) = View::trace(net, op.input.get(x)?) else {
            continue;
        };
        let Some(source) = net
            .producer_of(&view.source, &format!("{PREFIX}Embedding"))
            .cloned()
        else {
            continue;
        };
        let other = op.input.get(other)?.clone();
        if !view.keeps_order() {
            return None;
        }
        let mut inputs = source.input.clone();
        let out = &op.output[0];
        let width = view.width;
        if op.op_type == "Mul" {
            match net.scalar(&other) {
                Some(by) => {
                    for (slot, input) in inputs.iter_mut().enumerate().skip(1) {
                        let mut values = net.floats(input)?;
                        values.iter_mut().for_each(|v| *v *= by);
                        *input = net.add_floats(
                            format!("{out}.{slot}"),
                            &[values.len() / width, width],
                            &values,
                        );
                    }
                }
                // Padding that is zeroed here is not looked at later.
                None if is_mask_of_padding(net, &other) => {}
                None if inputs.len() == 2 => {
                    let mut table = net.floats(&inputs[1])?;
                    let factors = token_factors(net, &other, table.len() / width)?;
                    for (row, factor) in table.chunks_mut(width).zip(factors) {
                        row.iter_mut().for_each(|v| *v *= factor);
                    }
                    let shape = [table.len() / width, width];
                    inputs[1] = net.add_floats(format!("{out}.table"), &shape, &table);
                }
                None => return None,
            }
        } else {
            let term = term(net, &other, width)?;
            if let Some(row) = term.every {
                let mut table = net.floats(&inputs[1])?;
                for (i, value) in table.iter_mut().enumerate() {
                    *value += row[i % width];
                }
                inputs[1] = net.add_floats(
                    format!("{out}.table"),
                    &[table.len() / width, width],
                    &table,
                );
            }
            if let Some(mut positions) = term.positions {
                if let Some(before) = inputs.get(2) {
                    positions
                        .iter_mut()
                        .zip(net.floats(before)?)
                        .for_each(|(p, b)| *p += b);
                    inputs.pop();
                }
                inputs.push(net.add_floats(
                    format!("{out}.positions"),
                    &[positions.len() / width, width],
                    &positions,
                ));
            }
        }
        let made = NodeProto {
            input: inputs,
            ..source
        };
        let of = Rows {
            name: view.source.clone(),
            rows: view.rows,
            width,
        };
        return finish(net, made, &of, width, out);
    }
    None
}

/// True for a factor that is 1 for every token of a sequence without padding.
fn is_mask_of_padding(net: &Net, name: &str) -> bool {
    let masks = !net.sources(name).is_empty() && net.is_free_of(name, &Meaning::CONTENT);
    let one = net.shape(name).is_some_and(|s| s.last() == Some(&Dim::ONE));
    let values = probe::floats(net, name, &net.feeds(LENGTHS[0]));
    masks && one && values.is_ok_and(|(_, values)| values.iter().all(|&v| v == 1.0))
}

/// Operators on each element by itself, or that only add and drop axes.
const ELEMENTWISE: [&str; 21] = [
    "Equal",
    "Not",
    "And",
    "Or",
    "Xor",
    "Less",
    "Greater",
    "LessOrEqual",
    "GreaterOrEqual",
    "Cast",
    "Where",
    "Unsqueeze",
    "Squeeze",
    "Identity",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Neg",
    "Abs",
    "Clip",
];

/// The factor of each token, where it follows from that token alone: not from its neighbours, its
/// position or the length.
fn token_factors(net: &Net, name: &str, vocabulary: usize) -> Option<Vec<f32>> {
    let (nodes, inputs) = net.ancestors(name);
    let [input] = inputs.as_slice() else {
        return None;
    };
    let ids = (input.clone(), Meaning::Ids);
    let alone = |at: &usize| {
        let op = &net.nodes[*at];
        let axes = ["Unsqueeze", "Squeeze"].contains(&op.op_type.as_str());
        let mut constants = op.input.iter().filter_map(|i| net.constant_shape(i));
        ELEMENTWISE.contains(&op.op_type.as_str())
            && (axes || constants.all(|shape| shape.iter().product::<usize>() == 1))
    };
    if !net.meanings.contains(&ids) || net.shape(name)? != [Dim::ONE, net.rows, Dim::ONE] {
        return None;
    }
    if !nodes.iter().all(alone) {
        return None;
    }
    let at_once = net.rows.size().unwrap_or(vocabulary);
    let mut factors = vec![];
    while factors.len() < vocabulary {
        let from = factors.len();
        let ids: Vec<i64> = (from..from + at_once)
            .map(|id| id.min(vocabulary - 1) as i64)
            .collect();
        let (_, values) = probe::floats(net, name, &net.feeds_with(at_once, input, &ids)).ok()?;
        (values.len() == at_once).then_some(())?;
        factors.extend(values);
    }
    factors.truncate(vocabulary);
    Some(factors)
}

fn term(net: &Net, name: &str, width: usize) -> Option<Term> {
    let row = |row: Vec<f32>| Term {
        positions: None,
        every: Some(row),
    };
    if let Some(shape) = net.constant_shape(name) {
        let values = net.floats(name)?;
        if shape.last() != Some(&width) {
            return None;
        }
        return match values.len() / width {
            1 => Some(row(values)),
            n if net.rows.size() == Some(n) => Some(Term {
                positions: Some(values),
                every: None,
            }),
            _ => None,
        };
    }
    let node = net.producer(name)?;
    match node.op_type.as_str() {
        "Unsqueeze" | "Squeeze" | "Reshape" | "Expand" | "Identity" => {
            let last = |n: &str| net.fact(n).shape?.last().copied()?;
            (last(name) == last(&node.input[0])).then_some(())?;
            term(net, &node.input[0], width)
        }
        "Add" => {
            let (a, b) = (
                term(net, &node.input[0], width)?,
                term(net, &node.input[1], width)?,
            );
            Some(Term {
                positions: sum(a.positions, b.positions),
                every: sum(a.every, b.every),
            })
        }
        "Slice" => {
            let shape = net.constant_shape(&node.input[0])?;
            let slices = axes::slices(net, node)?;
            let [(at, start, end, 1)] = slices.as_slice() else {
                return None;
            };
            let rows = shape.get(*at)?;
            if shape.last() != Some(&width)
                || shape.iter().product::<usize>() != rows * width
                || *at + 1 == shape.len()
            {
                return None;
            }
            let start = start.size()?;
            let length = Dim {
                times: end.times,
                plus: end.plus - start as i64,
            };
            (length == net.rows).then_some(())?;
            Some(Term {
                positions: Some(net.floats(&node.input[0])?.get(start * width..)?.to_vec()),
                every: None,
            })
        }
        "Gather" => {
            let shape = net.constant_shape(&node.input[0])?;
            let table = net.floats(&node.input[0])?;
            let at = axes::axis(node::int(node, "axis").unwrap_or(0), shape.len())?;
            let rows = *shape.get(at)?;
            if rows * width != table.len() || shape.last() != Some(&width) {
                return None;
            }
            let index = |x: f32| {
                if x < 0.0 {
                    x as i64 + rows as i64
                } else {
                    x as i64
                }
            };
            if !net.is_free_of(&node.input[1], &Meaning::CONTENT) {
                return None;
            }
            let mut first = vec![];
            for length in LENGTHS {
                let (_, values) = probe::floats(net, &node.input[1], &net.feeds(length)).ok()?;
                let values: Vec<i64> = values.into_iter().map(index).collect();
                let &start = values.first()?;
                let same = values.iter().all(|&v| v == start);
                let counts = values
                    .iter()
                    .zip(start..)
                    .all(|(&v, expected)| v == expected);
                let length = net.rows.size().unwrap_or(length);
                first.push(match (same, counts && values.len() == length) {
                    (true, false) => (start, false),
                    (_, true) => (start, true),
                    _ => return None,
                });
            }
            let (start, counts) = first[0];
            if first[1] != first[0] {
                return None;
            }
            for length in LONG {
                let Ok((_, values)) = probe::floats(net, &node.input[1], &net.feeds(length)) else {
                    break;
                };
                let goes_on = |(at, value): (i64, f32)| {
                    index(value) == if counts { start + at } else { start }
                };
                if !(0..).zip(values).all(goes_on) {
                    return None;
                }
            }
            let start = usize::try_from(start).ok().filter(|&s| s < rows)?;
            let values = table.get(start * width..)?;
            Some(if counts {
                Term {
                    positions: Some(values.to_vec()),
                    every: None,
                }
            } else {
                row(values[..width].to_vec())
            })
        }
        _ => None,
    }
}

fn sum(a: Option<Vec<f32>>, b: Option<Vec<f32>>) -> Option<Vec<f32>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.iter().zip(&b).map(|(x, y)| x + y).collect()),
        (a, b) => a.or(b),
    }
}
