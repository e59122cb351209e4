//! Linear layers on rows, and the constants a column behind them and behind layer norms.

use super::axes;
use super::dim::Dim;
use super::net::Net;
use super::node::{self, PREFIX, label, node};
use super::rows::{Rows, finish, rows};
use super::view::View;
use tract_onnx::pb::NodeProto;

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
    let (x, scale) = unscaled(net, x);
    let from = rows(net, &x, &mut nodes)?;
    if from.rows == Dim::ONE {
        return scaled_vector(net, &op, gemm, [depth, width]);
    }
    let mut inputs = vec![from.name.clone(), weight.clone()];
    if !gemm && scale != 1.0 {
        let mut values = net.floats(weight)?;
        values.iter_mut().for_each(|w| *w *= scale);
        let name = format!("{}.scaled", op.output[0]);
        inputs[1] = net.add_floats(name, &[depth, width], &values);
    }
    if gemm {
        let factor = |name| node::float(&op, name).unwrap_or(1.0);
        if node::int(&op, "transA").unwrap_or(0) != 0 {
            return None;
        }
        let bias = op.input.get(2).filter(|i| !i.is_empty());
        let alpha = factor("alpha") * scale;
        if node::int(&op, "transB").unwrap_or(0) != 0 || alpha != 1.0 {
            let flip = node::int(&op, "transB").unwrap_or(0) != 0;
            let mut values = net.floats(weight)?;
            if flip {
                values = transposed(&values, width);
                (depth, width) = (width, depth);
            }
            values.iter_mut().for_each(|w| *w *= alpha);
            let name = format!(
                "{weight}.by_input{}",
                if alpha == 1.0 {
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
            inputs.push(if plain {
                bias.clone()
            } else {
                net.add_floats(format!("{}.bias", op.output[0]), &[width], &values)
            });
        }
    } else if inputs[1] == *weight && net.constant_shape(weight)?.len() != 2 {
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

/// A product whose one row is multiplied with one constant a column, as smooth quantisation writes
/// it: the constants go into the weights, which are float.
fn scaled_vector(
    net: &mut Net,
    op: &NodeProto,
    gemm: bool,
    [rows, columns]: [usize; 2],
) -> Option<Vec<NodeProto>> {
    let product = net.producer_of(op.input.first()?, "Mul")?.clone();
    let flip = gemm && node::int(op, "transB").unwrap_or(0) != 0;
    let depth = if flip { columns } else { rows };
    for (x, factors) in [(0, 1), (1, 0)] {
        let Some(factors) = net.floats(&product.input[factors]) else {
            continue;
        };
        let same = net.shape(&product.input[x])? == net.shape(&product.output[0])?;
        if !same || factors.len() != depth {
            return None;
        }
        let mut values = net.floats(&op.input[1])?;
        for (at, weight) in values.iter_mut().enumerate() {
            let row = if flip { at % columns } else { at / columns };
            *weight *= factors[row];
        }
        let mut made = op.clone();
        made.input[0] = product.input[x].clone();
        let name = format!("{}.unscaled", op.output[0]);
        made.input[1] = net.add_floats(name, &[rows, columns], &values);
        return Some(vec![made]);
    }
    None
}

/// What a tensor is a multiple of, and by which factor.
fn unscaled(net: &Net, name: &str) -> (String, f32) {
    let (mut name, mut scale) = (name.to_string(), 1.0);
    while let Some(product) = net.producer_of(&name, "Mul") {
        let (other, by) = match (net.scalar(&product.input[0]), net.scalar(&product.input[1])) {
            (None, Some(by)) => (0, by),
            (Some(by), None) => (1, by),
            _ => break,
        };
        // A constant of more axes would add some.
        if net.fact(&product.input[other]).shape != net.fact(&name).shape {
            break;
        }
        (name, scale) = (product.input[other].clone(), scale * by);
    }
    (name, scale)
}

/// `[rows][columns]` as `[columns][rows]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    let at = |i: usize| values[i % rows * columns + i / rows];
    (0..values.len()).map(at).collect()
}

/// A slice of the columns that a linear layer gives is a linear layer with fewer.
pub fn slice(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Slice" || net.rank(op.input.first()?)? != 3 {
        return None;
    }
    let slices = axes::slices(net, &op)?;
    let [(2, from, to, 1)] = slices.as_slice() else {
        return None;
    };
    let columns = from.size()?..to.size()?;
    let mut made = net.producer_of(&op.input[0], "strandline.Linear")?.clone();
    let &[depth, width] = net.constant_shape(made.input.get(1)?)?.as_slice() else {
        return None;
    };
    if columns.is_empty() || columns.end > width {
        return None;
    }
    let out = op.output.first()?;
    let values = net.floats(&made.input[1])?;
    let rows = (0..depth).flat_map(|row| &values[row * width..][columns.clone()]);
    let values: Vec<f32> = rows.copied().collect();
    made.input[1] = net.add_floats(format!("{out}.weight"), &[depth, columns.len()], &values);
    if let Some(bias) = made.input.get(2) {
        let bias = net.floats(bias)?.get(columns.clone())?.to_vec();
        made.input[2] = net.add_floats(format!("{out}.bias"), &[columns.len()], &bias);
    }
    made.name = label(&op).to_string();
    made.output = op.output.clone();
    Some(vec![made])
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
            let name = if plain {
                constant.clone()
            } else {
                net.add_floats(format!("{}.constant", op.output[0]), &[view.width], &values)
            };
            if slot < inputs.len() {
                inputs[slot] = name
            } else {
                inputs.push(name)
            }
        };
        match source.op_type.strip_prefix(PREFIX)? {
            "Linear" | "Scalar" if adds && source.input.len() == 2 => put(net, 2),
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
