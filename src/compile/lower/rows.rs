//! Steps on rows: functions, sums, concatenation, pools, soft-max, and the operators that the front
//! end has found.

use super::finder::Finder;
use super::steps::{AffineStep, AttentionStep, EmbedStep, LayerNormStep, ScalarStep, Step};
use crate::compile::reference::Fused;
use crate::kernels::Activation;
use crate::model::ops::window::WindowPooling;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::array::TypedConcat;
use tract_nnef::tract_core::ops::cnn::{MaxPool, PaddingSpec, SumPool};
use tract_nnef::tract_core::ops::math::{Add, Div, Max, Mul, Sub};
use tract_nnef::tract_core::ops::nn::Softmax;

impl Finder<'_> {
    /// Steps that the front end has found in the ONNX file.
    pub(super) fn fused(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        let node = self.model.node(id);
        let Some(fused) = node.op_as::<Fused>() else {
            return Ok(None);
        };
        let (name, output) = (node.name.clone(), OutletId::new(id, 0));
        let constant = |slot: usize| {
            let outlet = node.inputs.get(slot).copied()?;
            self.constant(outlet)
        };
        let input = node.inputs[0];
        let step = match fused {
            Fused::LayerNorm { epsilon, centred } => {
                let (Some(gamma), Some(beta)) = (constant(1), constant(2)) else {
                    return Ok(None);
                };
                Step::LayerNorm(LayerNormStep {
                    name,
                    input,
                    gamma,
                    beta,
                    epsilon: f32::from_bits(*epsilon),
                    centred: *centred,
                    vector: self.model.outlet_fact(output)?.rank() == 2,
                    output,
                })
            }
            Fused::Embedding => {
                let (Some(tokens), Some(width)) = (constant(1), self.channels(output)) else {
                    return Ok(None);
                };
                Step::Embed(EmbedStep {
                    name,
                    input,
                    width,
                    tokens,
                    positions: constant(2).unwrap_or_default(),
                    output,
                })
            }
            Fused::Scalar { least, most } => {
                let (Some(weight), Some(channels)) = (constant(1), self.channels(output)) else {
                    return Ok(None);
                };
                let bias = match node.inputs.get(2) {
                    Some(_) => constant(2),
                    None => Some(vec![0.0; channels]),
                };
                let Some(bias) = bias else {
                    return Ok(None);
                };
                let (mut nodes, mut step) = (
                    vec![id],
                    ScalarStep {
                        name,
                        input,
                        clamp: [*least, *most].map(f32::from_bits),
                        weight,
                        bias,
                        function: Activation::Identity,
                        output,
                    },
                );
                if let Some((function, next)) = self.function(output) {
                    (step.function, step.output) = (function, OutletId::new(next.id, 0));
                    nodes.push(next.id);
                }
                return Ok(Some((Step::Scalar(step), nodes)));
            }
            Fused::Attention {
                heads,
                scale,
                rotary,
                ..
            } => {
                let Some(channels) = self.channels(output) else {
                    return Ok(None);
                };
                Step::Attention(AttentionStep {
                    name,
                    inputs: [node.inputs[0], node.inputs[1], node.inputs[2]],
                    heads: *heads,
                    width: channels / heads,
                    scale: f32::from_bits(*scale),
                    rotary: rotary.map(f32::from_bits),
                    output,
                })
            }
            Fused::Pool { kind, .. } => Step::Pool {
                name,
                input,
                pooling: *kind,
                output,
            },
            Fused::Upsample { factor } => Step::Repeat {
                name,
                input,
                factor: *factor,
                output,
            },
            Fused::Linear => {
                return Ok(self
                    .linear(id)?
                    .map(|(conv, nodes)| (Step::Conv(conv), nodes)));
            }
            // Found as a function of single values where it is one of rows.
            Fused::Gelu { .. } | Fused::Function(_) | Fused::CumSum => return Ok(None),
        };
        Ok(Some((step, vec![id])))
    }

    /// Products and sums with one constant a channel, then a function; any of them may be missing,
    /// not all.
    pub(super) fn affine(&self, id: usize) -> TractResult<Option<(AffineStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let constant = |outlet: &OutletId| self.constant(*outlet).is_some();
        let Some(input) = node.inputs.iter().find(|input| !constant(input)).copied() else {
            return Ok(None);
        };
        let Some(channels) = self.channels(input) else {
            return Ok(None);
        };
        let (mut factor, mut term) = (vec![1f32; channels], vec![0f32; channels]);
        let (mut nodes, mut function) = (vec![], Activation::Identity);
        let mut next = Some(node);
        let mut output = input;
        while let Some(node) = next {
            let other = node.inputs.iter().find(|input| **input != output);
            let other = other.and_then(|other| self.channel_constant(*other, input, channels));
            let first = node.inputs.first() == Some(&output);
            let is_relu = |values: &Vec<f32>| values.iter().all(|x| *x == 0.0);
            let found = match self.binary(node) {
                None => self.elementwise(node),
                Some(op) if op.0.is::<Max>() && other.as_ref().is_some_and(is_relu) => {
                    Some(Activation::Relu)
                }
                Some(_) => None,
            };
            if let Some(found) = found {
                function = found;
                nodes.push(node.id);
                output = OutletId::new(node.id, 0);
                break;
            }
            let Some(op) = self.binary(node) else {
                break;
            };
            let pairs = factor.iter_mut().zip(&mut term);
            match other {
                Some(values) if op.0.is::<Mul>() => {
                    pairs
                        .zip(&values)
                        .for_each(|((f, t), v)| (*f, *t) = (*f * v, *t * v));
                }
                Some(values) if op.0.is::<Div>() && first => {
                    pairs
                        .zip(&values)
                        .for_each(|((f, t), v)| (*f, *t) = (*f / v, *t / v));
                }
                Some(values) if op.0.is::<Add>() => {
                    pairs.zip(&values).for_each(|((_, t), v)| *t += v);
                }
                Some(values) if op.0.is::<Sub>() && first => {
                    pairs.zip(&values).for_each(|((_, t), v)| *t -= v);
                }
                Some(values) if op.0.is::<Sub>() => {
                    pairs
                        .zip(&values)
                        .for_each(|((f, t), v)| (*f, *t) = (-*f, v - *t));
                }
                _ => break,
            }
            nodes.push(node.id);
            output = OutletId::new(node.id, 0);
            next = self.only_reader(output);
        }
        let Some(last) = nodes.last() else {
            return Ok(None);
        };
        let step = AffineStep {
            name: self.model.node(*last).name.clone(),
            input,
            factor,
            term,
            function,
            output,
        };
        Ok(Some((step, nodes)))
    }

    /// A step without weights, and the nodes it covers.
    pub(super) fn rows(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        if let Some(sum) = self.sum(id)? {
            return Ok(Some(sum));
        }
        Ok(self.single(id)?.map(|step| (step, vec![id])))
    }

    /// A sum or a product of two rows.
    fn sum(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        let node = self.model.node(id);
        let (Some(op), [a, b]) = (self.binary(node), node.inputs.as_slice()) else {
            return Ok(None);
        };
        let product = op.0.is::<Mul>();
        if !product && !op.0.is::<Add>() {
            return Ok(None);
        }
        let shape =
            |outlet: OutletId| Ok::<_, TractError>(self.model.outlet_fact(outlet)?.shape.clone());
        let same = shape(*a)? == shape(*b)? && self.channels(*a).is_some();
        let known = [a, b].iter().all(|input| self.ready.contains(input));
        if !same || !known {
            return Ok(None);
        }
        let (mut nodes, mut output) = (vec![id], OutletId::new(id, 0));
        let relu = self.relu(output).map(|node| node.id).filter(|_| !product);
        if let Some(id) = relu {
            nodes.push(id);
            output = OutletId::new(id, 0);
        }
        let sum = Step::Sum {
            name: node.name.clone(),
            inputs: [*a, *b],
            relu: relu.is_some(),
            product,
            output,
        };
        Ok(Some((sum, nodes)))
    }

    /// True where both are one vector, with axes of 1 added or removed.
    fn is_view(&self, input: OutletId, output: OutletId) -> TractResult<bool> {
        let long = |outlet: OutletId| -> TractResult<TVec<TDim>> {
            let shape = &self.model.outlet_fact(outlet)?.shape;
            Ok(shape
                .iter()
                .filter(|dim| **dim != 1.to_dim())
                .cloned()
                .collect())
        };
        let (a, b) = (long(input)?, long(output)?);
        Ok(a == b && a.len() <= 1 && a.iter().all(|dim| dim.to_usize().is_ok()))
    }

    /// A step of one node.
    fn single(&self, id: usize) -> TractResult<Option<Step>> {
        let node = self.model.node(id);
        let output = OutletId::new(id, 0);
        let name = node.name.clone();
        let Some(&input) = node.inputs.first() else {
            return Ok(None);
        };
        if let Some(softmax) = node.op_as::<Softmax>() {
            let fact = self.model.outlet_fact(input)?;
            let vector = fact.rank() == 2 && fact.shape[0] == 1.to_dim();
            let axis = if vector { Some(1) } else { self.axis(input) };
            let last = self.model.output_outlets()?.contains(&output);
            let whole = last && axis.is_some_and(|axis| *softmax.axes == [axis]);
            return Ok(whole.then_some(Step::Softmax {
                name,
                input,
                output,
            }));
        }
        if self.is_view(input, output)? && node.op_is::<AxisOp>() {
            return Ok(Some(Step::View { input, output }));
        }
        let Some(axis) = self.axis(input) else {
            return Ok(None);
        };
        if let Some(concat) = node.op_as::<TypedConcat>() {
            let all = node.inputs.iter().all(|input| self.ready.contains(input));
            let join = concat.axis == axis && self.channels(output).is_some() && all;
            let inputs = node.inputs.to_vec();
            return Ok(join.then_some(Step::Join {
                name,
                inputs,
                output,
            }));
        }
        if let Some(AxisOp::Move(1, 2) | AxisOp::Move(2, 1)) = node.op_as::<AxisOp>() {
            let channels_last = self.axis(output).is_some_and(|other| other != axis);
            return Ok(channels_last.then_some(Step::View { input, output }));
        }
        let (pool, pooling) = match (node.op_as::<MaxPool>(), node.op_as::<SumPool>()) {
            (Some(max), _) if max.with_index_outputs.is_none() => {
                (&max.pool_spec, WindowPooling::Max)
            }
            (_, Some(sum)) if sum.normalize => {
                if sum.count_include_pad {
                    (&sum.pool_spec, WindowPooling::PaddedMean)
                } else {
                    (&sum.pool_spec, WindowPooling::Mean)
                }
            }
            _ => return Ok(None),
        };
        if pool.kernel_shape.len() != 1 || pool.dilation(0) != 1 {
            return Ok(None);
        }
        let (width, stride) = (pool.kernel_shape[0], pool.stride(0));
        let (before, after) = match &pool.padding {
            PaddingSpec::Explicit(before, after) => (before[0], after[0]),
            // Rounded up, there are as many windows only where they need no rounding.
            PaddingSpec::ExplicitOnnxPool(before, after, up) => {
                let span = before[0] + after[0] + stride;
                if *up && span != width {
                    return Ok(None);
                }
                (before[0], after[0])
            }
            PaddingSpec::Valid => (0, 0),
            _ => return Ok(None),
        };
        // As many windows as the rows have whole strides.
        if !(before + after < width && width <= before + after + stride) {
            return Ok(None);
        }
        Ok(Some(Step::Window {
            name,
            input,
            width,
            stride,
            before,
            pooling,
            output,
        }))
    }
}
