//! Convolutions as other frameworks write them: in two dimensions of which one is 1, with channels
//! last, and upsampling as a resize.

use super::axes;
use super::dim::Dim;
use super::elementwise;
use super::net::Net;
use super::node::{self, PREFIX, Value, label, node, with};
use super::view::{Atom, View};
use tract_onnx::pb::NodeProto;

/// The tensor `[1, C, T]` behind `[1, C, 1, T]`, `[1, C, T, 1]` or a transposition of rows.
fn channels(net: &mut Net, name: &str, nodes: &mut Vec<NodeProto>) -> Option<String> {
    let view = View::trace(net, name);
    if let Some(view) = view.filter(View::is_whole) {
        if view.channels_first && view.keeps_order() {
            return Some(view.source);
        }
        let reordered = View {
            channels_first: true,
            ..view.clone()
        };
        if !view.channels_first && reordered.keeps_order() {
            let out = format!("{}.channels", view.source);
            if net.producer(&out).is_none() {
                let made = node("Transpose", &out, &[&view.source], &[&out]);
                nodes.push(with(made, "perm", Value::Ints(vec![0, 2, 1])));
            }
            return Some(out);
        }
    }
    // Behind a stride the length is no multiple of T, and views are not followed; our own Unsqueeze
    // is.
    let unsqueeze = net.producer_of(name, "Unsqueeze")?;
    (net.rank(&unsqueeze.input[0])? == 3).then(|| unsqueeze.input[0].clone())
}

/// An attribute of two axes without the one at `dropped`; padding has both ends.
fn without(node: &NodeProto, name: &str, dropped: usize, neutral: i64) -> Option<Option<Vec<i64>>> {
    let Some(values) = node::ints(node, name) else {
        return Some(None);
    };
    let kept = values
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 2 != dropped)
        .map(|(_, v)| *v)
        .collect();
    let plain = values
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 2 == dropped)
        .all(|(_, &v)| v == neutral);
    (plain || name == "strides" || name == "dilations").then_some(Some(kept))
}

/// A convolution or pool over two axes of which one is 1.
pub fn flat(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let conv = op.op_type == "Conv";
    if !conv && op.op_type != "MaxPool" && op.op_type != "AveragePool" || op.output.len() != 1 {
        return None;
    }
    let shape = net.fact(&op.input[0]).shape?;
    if shape.len() != 4 {
        return None;
    }
    let kernel = if conv {
        net.constant_shape(&op.input[1])?.get(2..)?.to_vec()
    } else {
        node::ints(&op, "kernel_shape")?
            .iter()
            .map(|&k| k as usize)
            .collect()
    };
    if kernel.len() != 2 {
        return None;
    }
    let single = |i: usize| kernel.get(i) == Some(&1) && shape[i + 2] == Some(Dim::ONE);
    let dropped = (0..2).find(|&i| single(i))?;
    let mut nodes = vec![];
    let source = channels(net, &op.input[0], &mut nodes)?;
    let out = op.output[0].clone();
    let mut made = op.clone();
    made.attribute
        .retain(|a| !["kernel_shape", "pads", "strides", "dilations"].contains(&a.name.as_str()));
    made = with(
        made,
        "kernel_shape",
        Value::Ints(vec![kernel[1 - dropped] as i64]),
    );
    for (name, neutral) in [("pads", 0), ("strides", 1), ("dilations", 1)] {
        if let Some(values) = without(&op, name, dropped, neutral)? {
            made = with(made, name, Value::Ints(values));
        }
    }
    made.input[0] = source;
    if conv {
        let mut weight = net.constants.get(&op.input[1])?.clone();
        weight.name = format!("{}.flat", op.input[1]);
        weight.dims.remove(2 + dropped);
        made.input[1] = weight.name.clone();
        net.constants.insert(weight.name.clone(), weight);
    }
    let hidden = format!("{out}.plain");
    made.output = vec![hidden.clone()];
    nodes.push(made);
    nodes.push(unsqueeze(net, &hidden, &out, 2 + dropped as i64));
    Some(nodes)
}

fn unsqueeze(net: &mut Net, input: &str, output: &str, axis: i64) -> NodeProto {
    if net.opset < 13 {
        let made = node("Unsqueeze", output, &[input], &[output]);
        return with(made, "axes", Value::Ints(vec![axis]));
    }
    let axes = net.add_integers(format!("{output}.axes"), &[axis]);
    node("Unsqueeze", output, &[input, &axes], &[output])
}

/// One constant a channel behind a convolution without bias is its bias; dynamic quantisation takes
/// them apart.
pub fn absorb(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Add" {
        return None;
    }
    for (x, constant) in [(0, 1), (1, 0)] {
        let Some(source) = net.producer_of(op.input.get(x)?, "Conv").cloned() else {
            continue;
        };
        let mut made = source;
        let dims = net.constant_shape(op.input.get(constant)?)?;
        let channels = *net.constant_shape(made.input.get(1)?)?.first()?;
        let rank = net.rank(&op.input[x])?;
        let along = (dims.len() + 1).checked_sub(rank)?;
        if made.input.len() != 2
            || dims.get(along) != Some(&channels)
            || dims.iter().product::<usize>() != channels
            || dims.len() > rank
        {
            return None;
        }
        let values = net.floats(&op.input[constant])?;
        made.input
            .push(net.add_floats(format!("{}.bias", op.output[0]), &[channels], &values));
        made.output = op.output.clone();
        return Some(vec![made]);
    }
    None
}

/// A split of the channels of what such a slice can be taken of is so many slices.
pub fn split(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Split" || net.rank(op.input.first()?)? != 3 {
        return None;
    }
    let (axis, sizes) = axes::split_sizes(net, &op)?;
    let source = net.producer(&op.input[0])?;
    let known = match source.op_type.as_str() {
        "Conv" | "BatchNormalization" => axis == 1,
        "strandline.Linear" => axis == 2,
        _ => axis == 1 && elementwise::is_unary(source),
    };
    if !known || sizes.len() != op.output.len() {
        return None;
    }
    let axis = net.add_integers(format!("{}.axis", op.output[0]), &[axis as i64]);
    let mut from = 0;
    let mut nodes = vec![];
    for (output, size) in op.output.iter().zip(sizes) {
        let bounds = [from, from + size];
        from += size;
        let [start, end] = ["from", "to"].map(|name| format!("{output}.{name}"));
        net.add_integers(start.clone(), &bounds[..1]);
        net.add_integers(end.clone(), &bounds[1..]);
        let inputs = [op.input[0].as_str(), &start, &end, &axis];
        nodes.push(node("Slice", output, &inputs, &[output]));
    }
    Some(nodes)
}

/// A slice of the channels that a convolution gives is a convolution with fewer; a function of
/// single elements between the two is done behind it.
pub fn slice(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Slice" || net.rank(op.input.first()?)? != 3 {
        return None;
    }
    let slices = axes::slices(net, &op)?;
    let [(1, from, to, 1)] = slices.as_slice() else {
        return None;
    };
    let (from, to) = (from.size()?, to.size()?);
    let out = op.output.first()?;
    let source = net.producer(&op.input[0])?.clone();
    if elementwise::is_unary(&source) {
        let hidden = format!("{out}.sliced");
        let mut sliced = op.clone();
        sliced.input[0].clone_from(source.input.first()?);
        sliced.output = vec![hidden.clone()];
        let mut made = source;
        made.input[0] = hidden;
        made.name = format!("{}.of", label(&op));
        made.output = op.output.clone();
        return Some(vec![sliced, made]);
    }
    if source.op_type == "BatchNormalization" && source.input.len() == 5 {
        let hidden = format!("{out}.sliced");
        let mut sliced = op.clone();
        sliced.input[0].clone_from(&source.input[0]);
        sliced.output = vec![hidden.clone()];
        let mut made = source;
        for (slot, input) in made.input.iter_mut().enumerate().skip(1) {
            let part = net.floats(input)?.get(from..to)?.to_vec();
            *input = net.add_floats(format!("{out}.{slot}"), &[to - from], &part);
        }
        made.input[0] = hidden;
        made.name = format!("{}.of", label(&op));
        made.output = op.output.clone();
        return Some(vec![sliced, made]);
    }
    if source.op_type != "Conv" || node::int(&source, "group").unwrap_or(1) != 1 {
        return None;
    }
    let mut made = source;
    let shape = net.constant_shape(made.input.get(1)?)?;
    let weight = net.floats(&made.input[1])?;
    let row = weight.len() / shape.first().filter(|&&n| n > 0)?;
    let rows = weight.get(from * row..to * row).filter(|w| !w.is_empty())?;
    let shape = [&[to - from], &shape[1..]].concat();
    made.input[1] = net.add_floats(format!("{out}.weight"), &shape, rows);
    if let Some(bias) = made.input.get(2).filter(|b| !b.is_empty()) {
        let bias = net.floats(bias)?.get(from..to)?.to_vec();
        made.input[2] = net.add_floats(format!("{out}.bias"), &[to - from], &bias);
    }
    made.name = label(&op).to_string();
    made.output = op.output.clone();
    Some(vec![made])
}

/// Transpositions in front of a convolution or pool of one axis that cancel with those behind the
/// one before.
pub fn untwist(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let fits = [
        "Conv",
        "MaxPool",
        "AveragePool",
        "BatchNormalization",
        "ConvTranspose",
    ]
    .contains(&op.op_type.as_str());
    if !fits || net.rank(&op.input[0])? != 3 {
        return None;
    }
    let view = View::trace(net, &op.input[0])?;
    if view.source == op.input[0] || !view.channels_first || !view.keeps_order() {
        return None;
    }
    let mut made = op;
    made.input[0] = view.source;
    Some(vec![made])
}

/// A batch norm on a view of `[1, C, T]`, and a concatenation of channels of such views.
pub fn hoist(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let joins = op.op_type == "Concat";
    if !joins && op.op_type != "BatchNormalization" {
        return None;
    }
    let out = op.output.first()?.clone();
    let shape = net.shape(&out)?;
    let views: Option<Vec<View>> = if joins {
        op.input.iter().map(|i| View::trace(net, i)).collect()
    } else {
        Some(vec![View::trace(net, &op.input[0])?])
    };
    let mut views = views?;
    let first = views.first()?.clone();
    let along = if joins {
        axes::axis(node::int(&op, "axis")?, shape.len())?
    } else {
        1
    };
    let moved = views.iter().zip(&op.input).any(|(v, i)| v.source != *i);
    let fits = |v: &View| {
        let columns = [Atom::Column {
            size: v.width,
            stride: 1,
        }];
        let rest = |v: &View| -> Vec<Vec<Atom>> {
            v.axes
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != along)
                .map(|(_, a)| a.clone())
                .collect()
        };
        v.is_whole()
            && v.channels_first
            && v.rows == first.rows
            && v.axes[along] == columns
            && rest(v) == rest(&first)
    };
    if !moved || !views.iter().all(fits) {
        return None;
    }
    let hidden = format!("{out}.plain");
    let mut made = op;
    made.output = vec![hidden.clone()];
    for (input, view) in made.input.iter_mut().zip(&views) {
        *input = view.source.clone();
    }
    let mut whole = views.swap_remove(0);
    if joins {
        whole.width = shape[along].size()?;
        whole.axes[along] = vec![Atom::Column {
            size: whole.width,
            stride: 1,
        }];
        made.attribute.retain(|a| a.name != "axis");
        made = with(made, "axis", Value::Int(1));
    }
    let mut nodes = whole.emit(net, &hidden, &out, &shape)?;
    nodes.insert(0, made);
    Some(nodes)
}

/// Nearest upsampling by a whole factor along the length.
pub fn upsample(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    let resize = match op.op_type.as_str() {
        "Resize" => true,
        "Upsample" => false,
        _ => return None,
    };
    let mode = node::text(&op, "mode").unwrap_or_else(|| "nearest".to_string());
    let coordinates = node::text(&op, "coordinate_transformation_mode")
        .unwrap_or_else(|| "half_pixel".to_string());
    let rounding =
        node::text(&op, "nearest_mode").unwrap_or_else(|| "round_prefer_floor".to_string());
    // With a whole factor these all repeat each position.
    let repeats = match coordinates.as_str() {
        "asymmetric" => rounding == "floor",
        "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric" => {
            rounding.starts_with("round")
        }
        _ => false,
    };
    if mode != "nearest" || (resize && net.opset >= 11 && !repeats) {
        return None;
    }
    let shape = net.fact(&op.input[0]).shape;
    let slot = if resize && net.opset >= 11 { 2 } else { 1 };
    let scales = match op.input.get(slot).filter(|i| !i.is_empty()) {
        Some(scales) => net.floats(scales).filter(|s| !s.is_empty()),
        None => op
            .attribute
            .iter()
            .find(|a| a.name == "scales")
            .map(|a| a.floats.clone()),
    };
    let scales: Vec<f32> = match scales {
        Some(scales) => scales,
        None => {
            // Sizes computed from the input's own.
            let sizes = net.fact(op.input.get(3)?).values?;
            let ratio = |(to, from): (&Option<Dim>, &Option<Dim>)| {
                Some((*to)?.divide((*from)?)?.fixed()? as f32)
            };
            sizes
                .iter()
                .zip(shape.as_ref()?)
                .map(ratio)
                .collect::<Option<_>>()?
        }
    };
    let rank = scales.len();
    let long: Vec<usize> = (0..rank).filter(|&i| scales[i] != 1.0).collect();
    let &[along] = long.as_slice() else {
        return None;
    };
    let factor = scales[along];
    if factor.fract() != 0.0 || !(1.0..=65_536.0).contains(&factor) {
        return None;
    }
    let out = op.output[0].clone();
    let made = |input: &str, output: &str| {
        let made = node(
            &format!("{PREFIX}Upsample"),
            label(&op),
            &[input],
            &[output],
        );
        with(made, "factor", Value::Int(factor as i64))
    };
    if rank == 3 && along == 2 {
        return Some(vec![made(&op.input[0], &out)]);
    }
    let single = if along == 2 { 3 } else { 2 };
    if rank != 4 || shape?.get(single).copied()? != Some(Dim::ONE) || along < 2 {
        return None;
    }
    let mut nodes = vec![];
    let source = channels(net, &op.input[0], &mut nodes)?;
    let hidden = format!("{out}.plain");
    nodes.push(made(&source, &hidden));
    nodes.push(unsqueeze(net, &hidden, &out, single as i64));
    Some(nodes)
}

/// A soft-max over channels in front of the transposition that ends a network: behind it.
pub fn closing(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = &net.nodes[at];
    if op.op_type != "Transpose" || !net.is_output(&op.output[0]) || net.opset < 13 {
        return None;
    }
    let softmax = net.producer_of(op.input.first()?, "Softmax")?;
    let order = node::ints(op, "perm")?;
    let axis = axes::axis(node::int(softmax, "axis").unwrap_or(-1), order.len())?;
    let axis = order.iter().position(|&from| from == axis as i64)?;
    let (hidden, out) = (format!("{}.rows", op.output[0]), op.output[0].clone());
    let mut moved = op.clone();
    moved.input[0].clone_from(softmax.input.first()?);
    moved.output = vec![hidden.clone()];
    let made = node("Softmax", label(softmax), &[&hidden], &[&out]);
    Some(vec![moved, with(made, "axis", Value::Int(axis as i64))])
}
