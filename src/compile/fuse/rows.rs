//! Operators on rows `[1, T, D]`: linear layers, layer norm, GELU, pools, and element by element.
//!
//! Exporters compute on `[T, D]`, `[T, 1, D]` or `[1, T, D]` as it comes. Here all of it is moved
//! to `[1, T, D]`, and where a reader still wants another shape, a reshape behind the operator
//! gives it; the readers that are fused in their turn look through it.

use super::dim::Dim;
use super::net::{self, Net, PREFIX, Value, node, with};
use super::shape;
use super::view::{Atom, View, open_shape};
use tract_onnx::pb::NodeProto;

/// Operators on each element by itself.
const UNARY: [&str; 14] = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Sqrt",
    "Exp",
    "Neg",
    "Abs",
    "Softplus",
    "Clip",
    "HardSwish",
    "Gelu",
];

/// Rows of `[1, T, D]` that a tensor shows in their own order.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The tensor of shape `[1, T, D]`.
    pub name: String,
    /// T.
    pub rows: Dim,
    /// D.
    pub width: usize,
}

/// The rows behind a tensor; a transposition that they need is appended to `nodes`.
pub fn rows(net: &mut Net, name: &str, nodes: &mut Vec<NodeProto>) -> Option<Rows> {
    let view = View::trace(net, name)?;
    let found = |name: &str, view: &View| Rows {
        name: name.to_string(),
        rows: view.rows,
        width: view.width,
    };
    if view.keeps_order() && !view.channels_first {
        return Some(found(&view.source, &view));
    }
    if !view.is_whole() {
        let own = own_shape(net, name)?;
        return Some(Rows {
            name: name.to_string(),
            rows: own.0,
            width: own.1,
        });
    }
    let turned = View {
        channels_first: false,
        ..view.clone()
    };
    if view.channels_first && turned.keeps_order() {
        let out = format!("{}.rows", view.source);
        if net.producer(&out).is_none() {
            let made = node("Transpose", &out, &[&view.source], &[&out]);
            nodes.push(with(made, "perm", Value::Ints(vec![0, 2, 1])));
        }
        return Some(found(&out, &view));
    }
    let (rows, width) = own_shape(net, name)?;
    Some(Rows {
        name: name.to_string(),
        rows,
        width,
    })
}

fn own_shape(net: &Net, name: &str) -> Option<(Dim, usize)> {
    match net.shape(name)?.as_slice() {
        [Dim::ONE, rows, width]
            if *rows != Dim::ONE && width.size().is_some() && *rows == net.rows =>
        {
            Some((*rows, width.size()?))
        }
        _ => None,
    }
}

/// Lets `made` write `[1, T, width]` and gives `output` the shape that its readers expect.
pub fn finish(
    net: &mut Net,
    mut made: NodeProto,
    of: &Rows,
    width: usize,
    output: &str,
) -> Option<Vec<NodeProto>> {
    let shape = net.shape(output)?;
    let own = [Dim::ONE, of.rows, Dim::new(width as i64)];
    if shape == own {
        made.output = vec![output.to_string()];
        return Some(vec![made]);
    }
    let same = |a: &[Dim], b: &[Dim]| {
        let kept = |s: &[Dim]| {
            s.iter()
                .copied()
                .filter(|d| *d != Dim::ONE)
                .collect::<Vec<_>>()
        };
        kept(a) == kept(b)
    };
    if !same(&shape, &own) {
        return None;
    }
    let hidden = format!("{output}.plain");
    made.output = vec![hidden.clone()];
    let sizes = open_shape(&shape)?;
    let target = net.add_integers(format!("{output}.shape"), &sizes);
    Some(vec![
        made,
        node("Reshape", output, &[&hidden, &target], &[output]),
    ])
}

/// `MatMul` of rows with a constant matrix, and `Gemm`.
pub fn linear(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let gemm = match op.op_type.as_str() {
        "MatMul" => false,
        "Gemm" => true,
        _ => return None,
    };
    let (x, weight) = (op.input.first()?, op.input.get(1)?);
    let shape: Vec<usize> = net.constant_shape(weight)?;
    let shape: &[usize] = match shape.as_slice() {
        [1, rest @ ..] if rest.len() == 2 => rest,
        other => other,
    };
    let &[mut depth, mut width] = shape else {
        return None;
    };
    let mut nodes = vec![];
    let from = rows(net, x, &mut nodes)?;
    if from.rows == Dim::ONE {
        return None;
    }
    let mut inputs = vec![from.name.clone(), weight.clone()];
    if gemm {
        let factor = |name| net::float(&op, name).unwrap_or(1.0);
        if net::int(&op, "transA").unwrap_or(0) != 0 {
            return None;
        }
        let bias = op.input.get(2).filter(|i| !i.is_empty());
        if net::int(&op, "transB").unwrap_or(0) != 0 || factor("alpha") != 1.0 {
            let flip = net::int(&op, "transB").unwrap_or(0) != 0;
            let mut values = net.floats(weight)?;
            if flip {
                values = transposed(&values, width);
                (depth, width) = (width, depth);
            }
            values.iter_mut().for_each(|w| *w *= factor("alpha"));
            let name = format!(
                "{weight}.by_input{}",
                if factor("alpha") == 1.0 {
                    String::new()
                } else {
                    format!(".{at}")
                }
            );
            inputs[1] = net.add_floats(name, &[depth, width], &values);
        }
        if let Some(bias) = bias {
            let mut values = net.floats(bias)?;
            if values.len() == 1 {
                values = vec![values[0]; width];
            }
            if values.len() != width {
                return None;
            }
            values.iter_mut().for_each(|b| *b *= factor("beta"));
            let plain = factor("beta") == 1.0 && net.constant_shape(bias)? == [width];
            inputs.push(match plain {
                true => bias.clone(),
                false => net.add_floats(format!("{}.bias", op.output[0]), &[width], &values),
            });
        }
    } else if net.constant_shape(weight)?.len() != 2 {
        let values = net.floats(weight)?;
        inputs[1] = net.add_floats(format!("{weight}.matrix"), &[depth, width], &values);
    }
    if depth != from.width {
        return None;
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let made = node(&format!("{PREFIX}Linear"), label(&op), &inputs, &[]);
    nodes.extend(finish(net, made, &from, width, &op.output[0])?);
    Some(nodes)
}

/// A node's name, or else its output's.
pub fn label(node: &NodeProto) -> &str {
    match node.name.is_empty() {
        true => &node.output[0],
        false => &node.name,
    }
}

/// `[rows][columns]` as `[columns][rows]`.
pub fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    let at = |i: usize| values[i % rows * columns + i / rows];
    (0..values.len()).map(at).collect()
}

/// One constant a column, behind a linear layer or a layer norm: its bias, gamma or beta.
pub fn absorb(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let adds = match op.op_type.as_str() {
        "Add" => true,
        "Mul" => false,
        _ => return None,
    };
    for (x, constant) in [(0, 1), (1, 0)] {
        let constant = op.input.get(constant)?;
        let Some(shape) = net.constant_shape(constant) else {
            continue;
        };
        let view = View::trace(net, op.input.get(x)?)?;
        if !view.keeps_order() || view.channels_first || shape.len() > net.rank(&op.output[0])? {
            return None;
        }
        let mut values = net.floats(constant)?;
        let along = shape.last() == Some(&view.width) && values.len() == view.width;
        if values.len() == 1 && adds {
            values = vec![values[0]; view.width];
        } else if !along || net.shape(&op.output[0])?.last()?.size() != Some(view.width) {
            return None;
        }
        let source = net.producer(&view.source)?.clone();
        let plain = along && shape.len() == 1;
        let mut inputs = source.input.clone();
        let mut put = |net: &mut Net, slot: usize| {
            let name = match plain {
                true => constant.clone(),
                false => {
                    net.add_floats(format!("{}.constant", op.output[0]), &[view.width], &values)
                }
            };
            match slot < inputs.len() {
                true => inputs[slot] = name,
                false => inputs.push(name),
            }
        };
        match source.op_type.strip_prefix(PREFIX)? {
            "Linear" if adds && source.input.len() == 2 => put(net, 2),
            "LayerNorm" if adds && net.floats(&source.input[2])?.iter().all(|b| *b == 0.0) => {
                put(net, 2)
            }
            "LayerNorm"
                if !adds
                    && net.floats(&source.input[1])?.iter().all(|g| *g == 1.0)
                    && net.floats(&source.input[2])?.iter().all(|b| *b == 0.0) =>
            {
                put(net, 1)
            }
            _ => return None,
        }
        let made = NodeProto {
            input: inputs,
            ..source
        };
        let of = Rows {
            name: view.source.clone(),
            rows: view.rows,
            width: view.width,
        };
        return finish(net, made, &of, view.width, &op.output[0]);
    }
    None
}

/// `LayerNormalization` over the last axis.
pub fn layer_norm(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "LayerNormalization" || op.output.iter().skip(1).any(|o| !o.is_empty()) {
        return None;
    }
    let rank = net.rank(&op.input[0])?;
    if shape::axis(net::int(&op, "axis").unwrap_or(-1), rank)? != rank - 1 {
        return None;
    }
    let gamma = op.input.get(1)?.clone();
    let beta = op.input.get(2).filter(|b| !b.is_empty()).cloned();
    let epsilon = net::float(&op, "epsilon").unwrap_or(1e-5);
    write_norm(net, &op, &op.input[0].clone(), Some(gamma), beta, epsilon)
}

fn write_norm(
    net: &mut Net,
    op: &NodeProto,
    x: &str,
    gamma: Option<String>,
    beta: Option<String>,
    epsilon: f32,
) -> Option<Vec<NodeProto>> {
    let mut nodes = vec![];
    let from = rows(net, x, &mut nodes)?;
    let out = &op.output[0];
    let gamma = gamma.unwrap_or_else(|| {
        net.add_floats(
            format!("{out}.gamma"),
            &[from.width],
            &vec![1.0; from.width],
        )
    });
    let beta = beta.unwrap_or_else(|| {
        net.add_floats(format!("{out}.beta"), &[from.width], &vec![0.0; from.width])
    });
    for constant in [&gamma, &beta] {
        if net.constant_shape(constant)? != [from.width] {
            return None;
        }
    }
    let made = node(
        &format!("{PREFIX}LayerNorm"),
        label(op),
        &[&from.name, &gamma, &beta],
        &[],
    );
    let made = with(made, "epsilon", Value::Float(epsilon));
    nodes.extend(finish(net, made, &from, from.width, out)?);
    Some(nodes)
}

/// `(x - mean) / sqrt(variance + epsilon)`, as a quotient or as a product with the reciprocal;
/// gamma and beta are absorbed later.
pub fn written_norm(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let (centred, root) = match op.op_type.as_str() {
        "Div" => (op.input.first()?, op.input.get(1)?),
        "Mul" => {
            let inverse = |i: usize| {
                let inverse = net.producer(op.input.get(i)?)?;
                match inverse.op_type.as_str() {
                    "Reciprocal" => Some((op.input.get(1 - i)?, inverse.input.first()?)),
                    "Div" if net.scalar(inverse.input.first()?) == Some(1.0) => {
                        Some((op.input.get(1 - i)?, inverse.input.get(1)?))
                    }
                    _ => None,
                }
            };
            inverse(0).or_else(|| inverse(1))?
        }
        _ => return None,
    };
    let root = net.producer(root)?;
    let sum = match root.op_type.as_str() {
        "Sqrt" => root.input.first()?,
        "Pow" if net.scalar(root.input.get(1)?) == Some(0.5) => root.input.first()?,
        _ => return None,
    };
    let sum = net.producer_of(sum, "Add")?;
    let (variance, epsilon) = match (net.scalar(&sum.input[0]), net.scalar(sum.input.get(1)?)) {
        (None, Some(epsilon)) => (&sum.input[0], epsilon),
        (Some(epsilon), None) => (sum.input.get(1)?, epsilon),
        _ => return None,
    };
    let over_columns = |node: &NodeProto| {
        let rank = net.rank(node.input.first()?)?;
        let axes = shape::axes(net, node)?;
        let last = axes.len() == 1 && shape::axis(axes[0], rank)? == rank - 1;
        (last && net::int(node, "keepdims").unwrap_or(1) == 1).then_some(())
    };
    let variance = net.producer_of(variance, "ReduceMean")?;
    over_columns(variance)?;
    let square = net.producer(variance.input.first()?)?;
    let squared = match square.op_type.as_str() {
        "Pow" if net.scalar(square.input.get(1)?) == Some(2.0) => square.input.first()?,
        "Mul" if square.input.first()? == square.input.get(1)? => square.input.first()?,
        _ => return None,
    };
    // torch centres once and reads it twice; others write the difference out twice.
    let centre = |name: &str| {
        let difference = net.producer_of(name, "Sub")?;
        let mean = net.producer_of(difference.input.get(1)?, "ReduceMean")?;
        over_columns(mean)?;
        let same = mean.input.first()? == difference.input.first()?;
        same.then(|| difference.input[0].clone())
    };
    let (x, y) = (centre(centred)?, centre(squared)?);
    if x != y {
        return None;
    }
    write_norm(net, &op, &x, None, None, epsilon)
}

/// `ReduceMean` and `ReduceMax` over all positions, global pools, and the first token.
pub fn pool(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let input = op.input.first()?.clone();
    let rank = net.rank(&input)?;
    let (kind, over) = match op.op_type.as_str() {
        "GlobalAveragePool" if rank == 3 => ("mean", vec![2]),
        "GlobalMaxPool" if rank == 3 => ("max", vec![2]),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let kind = if op.op_type == "GlobalMaxPool" {
                "max"
            } else {
                "mean"
            };
            (kind, (2..rank).collect())
        }
        "ReduceMean" | "ReduceMax" => {
            let kind = if op.op_type == "ReduceMax" {
                "max"
            } else {
                "mean"
            };
            let axes = shape::axes(net, &op)?;
            (
                kind,
                axes.iter()
                    .map(|&a| shape::axis(a, rank))
                    .collect::<Option<Vec<usize>>>()?,
            )
        }
        "Gather" => {
            let along = shape::axis(net::int(&op, "axis").unwrap_or(0), rank)?;
            (net.integers(op.input.get(1)?)? == [0]).then_some(("first", vec![along]))?
        }
        "Slice" => match shape::slices(net, &op)?.as_slice() {
            [(along, start, end, 1)] if *start == Dim::new(0) && *end == Dim::ONE => {
                ("first", vec![*along])
            }
            _ => return None,
        },
        _ => return None,
    };
    let (source, axis) = match View::trace(net, &input) {
        Some(view) if view.is_whole() => {
            let pooled: Vec<Atom> = over
                .iter()
                .filter_map(|&a| view.axes.get(a))
                .flatten()
                .copied()
                .collect();
            let left: Vec<Atom> = (0..rank)
                .filter(|a| !over.contains(a))
                .flat_map(|a| view.axes[a].clone())
                .collect();
            let columns = Atom::Column {
                size: view.width,
                stride: 1,
            };
            if pooled != [Atom::Row] || (left != [columns] && view.width > 1) {
                return None;
            }
            (view.source, if view.channels_first { 2 } else { 1 })
        }
        // A length behind strides is no multiple of T, but channel-first tensors of three axes are
        // what they are.
        None if rank == 3 && over == [2] && op.op_type != "Gather" && op.op_type != "Slice" => {
            let shape = net.fact(&input).shape?;
            if shape[2].is_some() || shape[1]?.fixed().is_none() {
                return None;
            }
            (input, 2)
        }
        _ => return None,
    };
    let out = &op.output[0];
    let shape = net.shape(out)?;
    let made = node(&format!("{PREFIX}Pool"), label(&op), &[&source], &[]);
    let made = with(made, "kind", Value::Text(kind));
    let mut made = with(made, "axis", Value::Int(axis));
    if shape.len() == 2 && shape[0] == Dim::ONE {
        made.output = vec![out.clone()];
        return Some(vec![made]);
    }
    let hidden = format!("{out}.plain");
    made.output = vec![hidden.clone()];
    let target = net.add_integers(format!("{out}.shape"), &open_shape(&shape)?);
    Some(vec![
        made,
        node("Reshape", out, &[&hidden, &target], &[out]),
    ])
}

/// Moves an operator on single elements before the views that lead to it.
pub fn hoist(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let out = op.output.first()?.clone();
    let shape = net.shape(&out)?;
    if UNARY.contains(&op.op_type.as_str()) || op.op_type == "strandline.Gelu" {
        let view = View::trace(net, &op.input[0])?;
        if view.source == op.input[0] || !view.is_whole() {
            return None;
        }
        let hidden = format!("{out}.plain");
        let mut nodes = view.emit(net, &hidden, &out, &shape)?;
        let mut moved = op.clone();
        moved.input[0] = view.source;
        moved.output = vec![hidden];
        nodes.insert(0, moved);
        return Some(nodes);
    }
    if !["Add", "Sub", "Mul", "Div", "Max", "Min"].contains(&op.op_type.as_str())
        || op.input.len() != 2
    {
        return None;
    }
    if op.input.iter().all(|i| net.constants.contains_key(i)) {
        return None;
    }
    let constant = op.input.iter().position(|i| net.constants.contains_key(i));
    let hidden = format!("{out}.plain");
    let mut moved = op.clone();
    moved.output = vec![hidden.clone()];
    let view = match constant {
        None => {
            let (a, b) = (
                View::trace(net, &op.input[0])?,
                View::trace(net, &op.input[1])?,
            );
            if !same_order(&a, &b)
                || a.channels_first != b.channels_first
                || a.width != b.width
                || a.rows != b.rows
            {
                return None;
            }
            if !a.is_whole()
                || !b.is_whole()
                || (a.source == op.input[0] && b.source == op.input[1])
            {
                return None;
            }
            moved.input = vec![a.source.clone(), b.source.clone()];
            if net.rank(&op.input[0])? >= net.rank(&op.input[1])? {
                a
            } else {
                b
            }
        }
        Some(slot) => {
            let view = View::trace(net, &op.input[1 - slot])?;
            let dims = net.constant_shape(&op.input[slot])?;
            if view.source == op.input[1 - slot] || !view.is_whole() || dims.len() > view.axes.len()
            {
                return None;
            }
            moved.input[1 - slot] = view.source.clone();
            if dims.iter().product::<usize>() != 1 {
                // One value a column, along the axis that holds all columns.
                let lead = view.axes.len() - dims.len();
                let wide: Vec<usize> = (0..dims.len()).filter(|&i| dims[i] != 1).collect();
                let columns = [Atom::Column {
                    size: view.width,
                    stride: 1,
                }];
                if wide.len() != 1
                    || dims[wide[0]] != view.width
                    || view.axes[lead + wide[0]] != columns
                {
                    return None;
                }
                let values = net.floats(&op.input[slot])?;
                let shape: &[usize] = if view.channels_first {
                    &[1, view.width, 1]
                } else {
                    &[1, 1, view.width]
                };
                moved.input[slot] = net.add_floats(format!("{out}.constant"), shape, &values);
            } else {
                let value = net.scalar(&op.input[slot])?;
                moved.input[slot] = net.add_floats(format!("{out}.constant"), &[1, 1, 1], &[value]);
            }
            view
        }
    };
    let mut nodes = view.emit(net, &hidden, &out, &shape)?;
    nodes.insert(0, moved);
    Some(nodes)
}

/// True for the same axes but for those of one that broadcasting adds in front.
fn same_order(a: &View, b: &View) -> bool {
    let trimmed = |v: &View| -> Vec<Vec<Atom>> {
        v.axes
            .iter()
            .skip_while(|a| a.is_empty())
            .cloned()
            .collect()
    };
    trimmed(a) == trimmed(b)
}
