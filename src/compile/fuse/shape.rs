//! Shapes and small integer tensors of an ONNX graph, in terms of its length T.
//!
//! Exporters compute the shapes of `Reshape` and `Slice` in the graph. With the batch fixed to 1
//! nearly all of them are numbers or multiples of T, so that a reshape can be read as what it means
//! whatever the exporter wrote.

use super::axes::{axes, axis, slices, split_sizes};
use super::dim::{Dim, Fact, MOST_VALUES};
use super::net::Net;
use super::{node, tensor, window};
use tract_onnx::pb::NodeProto;

impl Net {
    /// Infers shapes from the inputs on.
    pub fn infer(&mut self) {
        let inputs: Vec<String> = self.inputs.iter().map(|i| i.name.clone()).collect();
        self.facts.retain(|name, _| inputs.contains(name));
        for at in 0..self.nodes.len() {
            self.infer_node(at);
        }
    }

    /// Infers the shapes of one node's outputs.
    pub fn infer_node(&mut self, at: usize) {
        let node = self.nodes[at].clone();
        let facts = infer(self, &node);
        for (output, fact) in node.output.iter().zip(facts) {
            self.facts.insert(output.clone(), fact);
        }
    }

    /// Puts `new` in the place of node `at`; the last of them writes its output.
    pub fn replace(&mut self, at: usize, new: Vec<NodeProto>) {
        let count = new.len();
        let gone: Vec<NodeProto> = self.nodes.splice(at..=at, new).collect();
        self.index();
        for node in &gone {
            self.drop_unread(node);
        }
        for at in at..at + count {
            self.infer_node(at);
        }
    }
}

/// What is known of a node's outputs.
fn infer(net: &Net, node: &NodeProto) -> Vec<Fact> {
    if node.op_type == "Split" {
        return split(net, node).unwrap_or_default();
    }
    vec![infer_one(net, node).unwrap_or_default()]
}

fn broadcast(a: &[Option<Dim>], b: &[Option<Dim>]) -> Vec<Option<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Option<Dim>], i: usize| match (i + s.len()).checked_sub(rank) {
        Some(i) => s[i],
        None => Some(Dim::ONE),
    };
    let join = |i| match (at(a, i), at(b, i)) {
        (Some(Dim::ONE), other) | (other, Some(Dim::ONE)) => other,
        (x, y) if x == y => x,
        (Some(known), None) | (None, Some(known)) if known.fixed().is_some() => Some(known),
        _ => None,
    };
    (0..rank).map(join).collect()
}

fn arithmetic(operator: &str, a: Dim, b: Dim) -> Option<Dim> {
    match operator {
        "Add" => a.add(b),
        "Sub" => a.subtract(b),
        "Mul" => a.multiply(b),
        "Div" => a.divide(b),
        "Mod" => Some(Dim::new(a.fixed()?.checked_rem_euclid(b.fixed()?)?)),
        "Max" | "Min" if a == b => Some(a),
        "Max" if a.times == 0 && b.times == 0 => Some(Dim::new(a.plus.max(b.plus))),
        "Min" if a.times == 0 && b.times == 0 => Some(Dim::new(a.plus.min(b.plus))),
        "Equal" => Some(Dim::new((a == b).into())),
        _ => None,
    }
}

fn elementwise(operator: &str, a: &Fact, b: &Fact) -> Option<Fact> {
    let mut fact = Fact::shaped(broadcast(a.shape.as_ref()?, b.shape.as_ref()?));
    if let (Some(x), Some(y)) = (&a.values, &b.values) {
        let count = x.len().max(y.len());
        let matching = (x.len() == count || x.len() == 1) && (y.len() == count || y.len() == 1);
        if matching && count > 0 {
            let one = |i: usize| arithmetic(operator, x[i % x.len()]?, y[i % y.len()]?);
            fact.values = Some((0..count).map(one).collect());
            fact.float = a.float || b.float;
        }
    }
    Some(fact)
}

fn infer_one(net: &Net, node: &NodeProto) -> Option<Fact> {
    let input = |i: usize| node.input.get(i).filter(|n| !n.is_empty());
    let fact = |i: usize| input(i).map(|n| net.fact(n));
    match node.op_type.as_str() {
        "Shape" => {
            let dims = fact(0)?.shape?;
            let rank = dims.len() as i64;
            let bound = |name, default| {
                let at = node::int(node, name).unwrap_or(default);
                (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize
            };
            let (start, end) = (bound("start", 0), bound("end", rank));
            Some(Fact::valued(dims.get(start..end)?.to_vec(), false, false))
        }
        "Size" => {
            let dims = fact(0)?.shape?;
            let size = dims.iter().try_fold(Dim::ONE, |p, d| p.multiply((*d)?));
            Some(Fact::valued(vec![size], true, false))
        }
        "Identity" | "Cast" | "Floor" | "Ceil" | "Dropout" => {
            let mut fact = fact(0)?;
            if node.op_type == "Cast" {
                fact.float = matches!(node::int(node, "to"), Some(1 | 10 | 11 | 16));
            }
            Some(fact)
        }
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Max" | "Min" | "Equal" | "Pow" | "And" | "Or"
        | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "PRelu" => {
            elementwise(&node.op_type, &fact(0)?, &fact(1)?)
        }
        "Where" => {
            let (condition, a, b) = (fact(0)?, fact(1)?, fact(2)?);
            let shape = broadcast(
                condition.shape.as_ref()?,
                &broadcast(a.shape.as_ref()?, b.shape.as_ref()?),
            );
            let mut out = Fact::shaped(shape);
            if let (Some(c), Some(x), Some(y)) = (&condition.values, &a.values, &b.values)
                && let count = c.len().max(x.len()).max(y.len())
                && [c, x, y].iter().all(|v| v.len() == count || v.len() == 1)
                && count > 0
            {
                let one = |i: usize| match c[i % c.len()]?.fixed()? {
                    0 => y[i % y.len()],
                    _ => x[i % x.len()],
                };
                out.values = Some((0..count).map(one).collect());
            }
            Some(out)
        }
        "Unsqueeze" | "Squeeze" => unit_axes(net, node, fact(0)?),
        "Concat" => concat(net, node),
        "Gather" => gather(node, &fact(0)?, &fact(1)?),
        "GatherND" if node::int(node, "batch_dims").unwrap_or(0) == 0 => {
            let (data, mut indices) = (fact(0)?.shape?, fact(1)?.shape?);
            let depth = indices.pop()??.size()?;
            indices.extend(data.get(depth..)?);
            Some(Fact::shaped(indices))
        }
        "GatherElements" => Some(Fact::shaped(fact(1)?.shape?)),
        "Slice" => slice(net, node, fact(0)?),
        "Transpose" => {
            let dims = fact(0)?.shape?;
            let reversed = || (0..dims.len() as i64).rev().collect();
            let perm = node::ints(node, "perm").unwrap_or_else(reversed);
            let dims = perm
                .iter()
                .map(|&p| dims.get(usize::try_from(p).ok()?).copied());
            Some(Fact::shaped(dims.collect::<Option<_>>()?))
        }
        "Pad" => {
            let dims = fact(0)?.shape?;
            let pads = match input(1) {
                Some(pads) => net.integers(pads)?,
                None => node::ints(node, "pads")?,
            };
            let rank = dims.len();
            let whole = pads.len() == 2 * rank && input(3).is_none();
            let wider = |(at, dim): (usize, &Option<Dim>)| {
                (*dim)?.add(Dim::new(pads[at].checked_add(pads[at + rank])?))
            };
            let dims = whole.then(|| dims.iter().enumerate().map(wider).collect());
            Some(Fact::shaped(dims?))
        }
        "Reshape" => reshape(node, fact(0)?, fact(1)?),
        "Flatten" => {
            let dims = fact(0)?.shape?;
            let at = axis(node::int(node, "axis").unwrap_or(1), dims.len() + 1)?;
            let product = |d: &[Option<Dim>]| d.iter().try_fold(Dim::ONE, |p, d| p.multiply((*d)?));
            Some(Fact::shaped(vec![
                product(&dims[..at]),
                product(&dims[at..]),
            ]))
        }
        "Expand" => {
            let dims = fact(0)?.shape?;
            let mut out = Fact::shaped(broadcast(&dims, &fact(1)?.values?));
            if let (Some(values), Some(shape)) = (fact(0)?.values, &out.shape)
                && let ([value], [Some(count)]) = (values.as_slice(), shape.as_slice())
                && let Some(count) = count.size().filter(|&c| c <= MOST_VALUES)
            {
                out.values = Some(vec![*value; count]);
            }
            Some(out)
        }
        "ConstantOfShape" => {
            let dims = fact(0)?.values?;
            let value = match node.attribute.iter().find(|a| a.name == "value") {
                Some(attribute) => tensor::integers(attribute.t.as_ref()?).ok(),
                None => None,
            };
            let mut out = Fact::shaped(dims.clone());
            if let ([Some(count)], Some([value])) = (dims.as_slice(), value.as_deref())
                && let Some(count) = count.size().filter(|&c| c <= MOST_VALUES)
            {
                out.values = Some(vec![Some(Dim::new(*value)); count]);
            }
            Some(out)
        }
        "Range" => {
            let value = |i| fact(i)?.values?.first().copied()?;
            let count = match (value(0), value(1), value(2)) {
                (Some(from), Some(to), Some(Dim::ONE)) => to.subtract(from),
                _ => None,
            };
            Some(Fact::shaped(vec![count]))
        }
        "MatMul" | "MatMulInteger" => {
            let (a, b) = (fact(0)?.shape?, fact(1)?.shape?);
            if a.len() < 2 || b.len() < 2 {
                return None;
            }
            let mut dims = broadcast(&a[..a.len() - 2], &b[..b.len() - 2]);
            dims.extend([a[a.len() - 2], b[b.len() - 1]]);
            Some(Fact::shaped(dims))
        }
        "Gemm" => {
            let (a, b) = (fact(0)?.shape?, fact(1)?.shape?);
            let pick = |dims: &[Option<Dim>], name, at: usize| {
                let flipped = node::int(node, name).unwrap_or(0) != 0;
                dims.get(if flipped { 1 - at } else { at }).copied()
            };
            Some(Fact::shaped(vec![
                pick(&a, "transA", 0)?,
                pick(&b, "transB", 1)?,
            ]))
        }
        "Conv" | "ConvInteger" | "MaxPool" | "AveragePool" => window::pooled_shape(net, node),
        "Einsum" => einsum(net, node),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL2" | "ReduceProd" => {
            let dims = fact(0)?.shape?;
            let axes: Option<Vec<usize>> = match axes(net, node) {
                Some(axes) => axes.iter().map(|&a| axis(a, dims.len())).collect(),
                None if input(1).is_some() => None,
                None => Some((0..dims.len()).collect()),
            };
            let (axes, keep) = (axes?, node::int(node, "keepdims").unwrap_or(1) != 0);
            let mut out = vec![];
            for (i, dim) in dims.into_iter().enumerate() {
                if !axes.contains(&i) {
                    out.push(dim);
                } else if keep {
                    out.push(Some(Dim::ONE));
                }
            }
            Some(Fact::shaped(out))
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let mut dims = fact(0)?.shape?;
            dims.iter_mut().skip(2).for_each(|d| *d = Some(Dim::ONE));
            Some(Fact::shaped(dims))
        }
        "strandline.Embedding" => {
            let (ids, table) = (fact(0)?.shape?, fact(1)?.shape?);
            Some(Fact::shaped(vec![
                Some(Dim::ONE),
                *ids.last()?,
                *table.last()?,
            ]))
        }
        "strandline.Scalar" => {
            let (values, weight) = (fact(0)?.shape?, fact(1)?.shape?);
            Some(Fact::shaped(vec![
                Some(Dim::ONE),
                *values.last()?,
                *weight.last()?,
            ]))
        }
        "strandline.Linear" => {
            let mut dims = fact(0)?.shape?;
            *dims.last_mut()? = *fact(1)?.shape?.last()?;
            Some(Fact::shaped(dims))
        }
        "strandline.Pool" => {
            let dims = fact(0)?.shape?;
            let kept = if node::int(node, "axis") == Some(1) {
                2
            } else {
                1
            };
            Some(Fact::shaped(vec![Some(Dim::ONE), *dims.get(kept)?]))
        }
        "strandline.Upsample" => {
            let mut dims = fact(0)?.shape?;
            let last = dims.last_mut()?;
            *last = (*last).and_then(|d| d.multiply(Dim::new(node::int(node, "factor")?)));
            Some(Fact::shaped(dims))
        }
        "Resize" => {
            let dims = fact(0)?.shape?;
            let scales = node
                .input
                .iter()
                .skip(1)
                .take(2)
                .find_map(|i| net.floats(i).filter(|s| s.len() == dims.len()));
            let by = |(dim, scale): (Option<Dim>, f32)| {
                if scale.fract() == 0.0 {
                    dim?.multiply(Dim::new(scale as i64))
                } else {
                    None
                }
            };
            Some(Fact::shaped(
                dims.into_iter().zip(scales?).map(by).collect(),
            ))
        }
        // What keeps its input's shape; an operator that is not listed leaves its output unknown.
        "Relu"
        | "LeakyRelu"
        | "Elu"
        | "Selu"
        | "Sigmoid"
        | "HardSigmoid"
        | "Tanh"
        | "Erf"
        | "Sqrt"
        | "Reciprocal"
        | "Exp"
        | "Log"
        | "Neg"
        | "Abs"
        | "Cos"
        | "Sin"
        | "Clip"
        | "Softmax"
        | "LogSoftmax"
        | "Softplus"
        | "Softsign"
        | "Gelu"
        | "LayerNormalization"
        | "BatchNormalization"
        | "IsNaN"
        | "Not"
        | "CumSum"
        | "Sign"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "strandline.LayerNorm"
        | "strandline.Gelu"
        | "strandline.Function"
        | "strandline.CumSum"
        | "Celu"
        | "Swish"
        | "QuickGelu"
        | "strandline.Attention"
        | "Attention"
        | "Round"
        | "Mish"
        | "HardSwish" => Some(Fact::shaped(fact(0)?.shape?)),
        _ => None,
    }
}

fn unit_axes(net: &Net, node: &NodeProto, fact: Fact) -> Option<Fact> {
    let mut dims = fact.shape?;
    let axes = axes(net, node);
    if node.op_type == "Unsqueeze" {
        let axes = axes?;
        let rank = dims.len() + axes.len();
        let mut axes: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?;
        axes.sort_unstable();
        for at in axes {
            if at > dims.len() {
                return None;
            }
            dims.insert(at, Some(Dim::ONE));
        }
    } else {
        let dropped: Vec<usize> = match axes {
            Some(axes) => axes
                .iter()
                .map(|&a| axis(a, dims.len()))
                .collect::<Option<_>>()?,
            None if node.input.len() > 1 => return None,
            None => (0..dims.len())
                .filter(|&i| dims[i] == Some(Dim::ONE))
                .collect(),
        };
        let mut at = 0;
        dims.retain(|_| {
            at += 1;
            !dropped.contains(&(at - 1))
        });
    }
    let kept = dims.len() < 2;
    Some(Fact {
        shape: Some(dims),
        values: fact.values.filter(|_| kept),
        float: fact.float,
    })
}

fn concat(net: &Net, node: &NodeProto) -> Option<Fact> {
    let facts: Vec<Fact> = node.input.iter().map(|i| net.fact(i)).collect();
    let mut dims = facts.first()?.shape.clone()?;
    let at = axis(node::int(node, "axis")?, dims.len())?;
    let along = |f: &Fact| f.shape.as_ref()?.get(at).copied()?;
    dims[at] = facts
        .iter()
        .try_fold(Dim::new(0), |sum, f| sum.add(along(f)?));
    let mut out = Fact::shaped(dims);
    if out.shape.as_ref()?.len() == 1 {
        let values: Option<Vec<_>> = facts.iter().map(|f| f.values.clone()).collect();
        out.values = values
            .map(|v| v.concat())
            .filter(|v| v.len() <= MOST_VALUES);
        out.float = facts[0].float;
    }
    Some(out)
}

fn gather(node: &NodeProto, data: &Fact, indices: &Fact) -> Option<Fact> {
    let dims = data.shape.as_ref()?;
    let at = axis(node::int(node, "axis").unwrap_or(0), dims.len())?;
    let mut out = dims[..at].to_vec();
    out.extend(indices.shape.as_ref()?);
    out.extend(&dims[at + 1..]);
    let mut out = Fact::shaped(out);
    if let (Some(values), Some(picked), 1) = (&data.values, &indices.values, dims.len()) {
        let one = |i: &Option<Dim>| values[axis((*i)?.fixed()?, values.len())?];
        out.values = Some(picked.iter().map(one).collect());
        out.float = data.float;
    }
    Some(out)
}

fn slice(net: &Net, node: &NodeProto, fact: Fact) -> Option<Fact> {
    let mut dims = fact.shape?;
    let Some(slices) = slices(net, node) else {
        return Some(Fact::shaped(vec![None; dims.len()]));
    };
    let one_axis = dims.len() == 1;
    let mut values = fact.values;
    for (at, start, end, step) in slices {
        let count = end.subtract(start);
        dims[at] = match step {
            1 => count,
            _ => None,
        };
        let range = start.size().zip(end.size()).filter(|_| step == 1);
        values = match (values, range) {
            (Some(values), Some((start, end))) if one_axis => {
                Some(values.get(start..end.max(start))?.to_vec())
            }
            _ => None,
        };
        if let (Some(count), true) = (dims[at], true)
            && count.fixed().is_some_and(|c| c < 0)
        {
            dims[at] = Some(Dim::new(0));
        }
    }
    Some(Fact {
        shape: Some(dims),
        values,
        float: fact.float,
    })
}

/// Tracing writes the length of its example into reshapes. The volume gives it away: c · T elements
/// cannot fill a shape of numbers, so the number that makes up the difference stands for T.
pub fn written_length(from: &[Option<Dim>], to: &[Option<Dim>]) -> Option<(usize, Dim)> {
    let product = |dims: &[Option<Dim>]| dims.iter().try_fold(Dim::ONE, |p, d| p.multiply((*d)?));
    let (whole, stated) = (product(from)?, product(to)?.fixed()?);
    if whole.times == 0 || whole.plus != 0 || stated % whole.times != 0 {
        return None;
    }
    let length = stated / whole.times;
    let divisible = |d: &Option<Dim>| {
        d.and_then(Dim::fixed)
            .is_some_and(|d| length > 1 && d % length == 0)
    };
    let at = to.iter().position(divisible)?;
    let times = to[at]?.fixed()? / length;
    Some((at, Dim { times, plus: 0 }))
}

fn reshape(node: &NodeProto, data: Fact, shape: Fact) -> Option<Fact> {
    let from = data.shape?;
    let keep_zero = node::int(node, "allowzero").unwrap_or(0) != 0;
    let mut to = vec![];
    for (i, value) in shape.values?.into_iter().enumerate() {
        to.push(match value {
            Some(Dim { times: 0, plus: 0 }) if !keep_zero => *from.get(i)?,
            other => other,
        });
    }
    let open = |d: &Option<Dim>| *d == Some(Dim::new(-1));
    if let Some(at) = to.iter().position(open) {
        let product =
            |dims: &[Option<Dim>]| dims.iter().try_fold(Dim::ONE, |p, d| p.multiply((*d)?));
        to[at] = Some(Dim::ONE);
        let (whole, rest) = (product(&from), product(&to));
        to[at] = whole.zip(rest).and_then(|(whole, rest)| whole.divide(rest));
    } else if let Some((at, dim)) = written_length(&from, &to) {
        to[at] = Some(dim);
    }
    let kept = to.len() < 2;
    Some(Fact {
        shape: Some(to),
        values: data.values.filter(|_| kept),
        float: data.float,
    })
}

/// Letters of an `Einsum` without ellipses, by the sizes of its operands.
fn einsum(net: &Net, node: &NodeProto) -> Option<Fact> {
    let equation: String = node::text(node, "equation")?.split_whitespace().collect();
    let (operands, result) = equation.split_once("->")?;
    let mut sizes = std::collections::HashMap::new();
    for (letters, input) in operands.split(',').zip(&node.input) {
        let dims = net.fact(input).shape?;
        if letters.len() != dims.len() {
            return None;
        }
        for (letter, dim) in letters.chars().zip(dims) {
            let size = sizes.entry(letter).or_insert(dim);
            if *size == Some(Dim::ONE) {
                *size = dim;
            }
        }
    }
    let dims = result.chars().map(|letter| sizes.get(&letter).copied());
    Some(Fact::shaped(dims.collect::<Option<_>>()?))
}

fn split(net: &Net, node: &NodeProto) -> Option<Vec<Fact>> {
    let fact = net.fact(node.input.first()?);
    let (at, sizes) = split_sizes(net, node)?;
    let part = |size: &i64| {
        let mut dims = fact.shape.clone()?;
        dims[at] = Some(Dim::new(*size));
        Some(Fact::shaped(dims))
    };
    sizes.iter().map(part).collect()
}
