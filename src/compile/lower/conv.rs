//! Convolutions and linear layers, with batch norms, sums and functions that melt into them.

use super::finder::Finder;
use super::steps::ConvStep;
use crate::compile::reference::Fused;
use crate::kernels::Activation;
use crate::kernels::ConvShape;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_nnef::tract_core::ops::element_wise::ElementWiseOp;
use tract_nnef::tract_core::ops::math::{Add, Mul, Tanh};
use tract_nnef::tract_core::ops::nn::Sigmoid;

impl Finder<'_> {
    /// A linear layer on rows.
    pub(super) fn linear(&self, id: usize) -> TractResult<Option<(ConvStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let shape = &self.model.outlet_fact(node.inputs[1])?.shape;
        if self.model.outlet_fact(node.inputs[1])?.konst.is_none() {
            return Ok(None);
        }
        let (channels_in, channels_out) = (shape[0].to_usize()?, shape[1].to_usize()?);
        if self.channels(OutletId::new(id, 0)) != Some(channels_out) {
            return Ok(None);
        }
        let bias = match node.inputs.get(2) {
            Some(bias) => match self.constant(*bias) {
                Some(bias) => bias,
                None => return Ok(None),
            },
            None => vec![0.0; channels_out],
        };
        let step = ConvStep {
            name: node.name.clone(),
            input: node.inputs[0],
            shape: ConvShape::linear(channels_in, channels_out),
            weight: vec![],
            by_input: Some(node.inputs[1]),
            bias,
            residual: None,
            function: Activation::Identity,
            repeat: 1,
            output: OutletId::new(id, 0),
        };
        Ok(Some(self.epilogue(step, vec![id])?))
    }

    /// A sum of `outlet` with a value of the same shape that is known before it.
    fn added(&self, outlet: OutletId) -> TractResult<Option<(&TypedNode, OutletId)>> {
        let Some((next, other)) = self.reader::<Add>(outlet) else {
            return Ok(None);
        };
        let known = self.ready.contains(&other) && self.constant(other).is_none();
        let shapes = (
            &self.model.outlet_fact(other)?.shape,
            &self.model.outlet_fact(outlet)?.shape,
        );
        Ok((known && shapes.0 == shapes.1).then_some((next, other)))
    }

    /// What follows a convolution and melts into it: something added, then a function.
    fn epilogue(
        &self,
        mut step: ConvStep,
        mut nodes: Vec<usize>,
    ) -> TractResult<(ConvStep, Vec<usize>)> {
        if let Some((next, other)) = self.added(step.output)? {
            step.residual = Some(other);
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        if let Some((found, next)) = self.function(step.output)
            && found.follows_convolution()
        {
            step.function = found;
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        if step.residual.is_none()
            && step.function == Activation::Relu
            && let Some((next, other)) = self.added(step.output)?
        {
            step.function = Activation::ReluFirst;
            step.residual = Some(other);
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        Ok((step, nodes))
    }

    /// A convolution with all that melts into it.
    pub(super) fn conv(&self, id: usize) -> TractResult<Option<(ConvStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let Some(op) = node.op_as::<Conv>() else {
            return Ok(None);
        };
        let pool = &op.pool_spec;
        let one_axis = pool.kernel_shape.len() == 1;
        if !one_axis || op.q_params.is_some() {
            return Ok(None);
        }
        let (width, dilation, stride) = (pool.kernel_shape[0], pool.dilation(0), pool.stride(0));
        if width == 0 || dilation == 0 || stride == 0 {
            return Ok(None);
        }
        let span = (width - 1) * dilation;
        let (before, after) = match &pool.padding {
            PaddingSpec::Explicit(before, after) => (before[0], after[0]),
            PaddingSpec::Valid => (0, 0),
            PaddingSpec::SameUpper => (span / 2, span - span / 2),
            PaddingSpec::SameLower => (span - span / 2, span / 2),
            _ => return Ok(None),
        };
        // As many positions out as in, by whole strides, and the output's own position under a tap.
        let whole = before + after <= span && span < before + after + stride;
        if !whole || !before.is_multiple_of(dilation) || before > span {
            return Ok(None);
        }
        let oihw = format!("{:?}", op.kernel_fmt) == "OIHW";
        let (Some(mut weight), Some(mut bias), true) = (
            self.constant(node.inputs[1]),
            self.constant(node.inputs[2]),
            oihw,
        ) else {
            return Ok(None);
        };
        let (channels_in, channels_out) = (op.input_channels(), op.output_channels());
        if bias.len() == 1 {
            bias = vec![bias[0]; channels_out];
        }
        let group = op.group;
        if weight.len() * group != channels_in * channels_out * width || bias.len() != channels_out
        {
            return Ok(None);
        }
        if group > 1 {
            let (own_in, own_out) = (channels_in / group, channels_out / group);
            let grouped =
                std::mem::replace(&mut weight, vec![0.0; channels_in * channels_out * width]);
            for (o, row) in grouped.chunks_exact(own_in * width).enumerate() {
                let at = (o * channels_in + o / own_out * own_in) * width;
                weight[at..at + row.len()].copy_from_slice(row);
            }
        }
        let mut nodes = vec![id];
        let mut output = OutletId::new(id, 0);
        // Batch norm that the exporter left behind: products and sums with one constant a channel.
        loop {
            if let Some((next, other)) = self.reader::<Mul>(output)
                && let Some(factors) = self.channel_constant(other, output, channels_out)
            {
                for (o, factor) in factors.iter().enumerate() {
                    let row = o * channels_in * width..(o + 1) * channels_in * width;
                    weight[row].iter_mut().for_each(|w| *w *= factor);
                    bias[o] *= factor;
                }
                output = OutletId::new(next.id, 0);
                nodes.push(next.id);
            } else if let Some((next, other)) = self.reader::<Add>(output)
                && let Some(terms) = self.channel_constant(other, output, channels_out)
            {
                bias.iter_mut().zip(&terms).for_each(|(b, t)| *b += t);
                output = OutletId::new(next.id, 0);
                nodes.push(next.id);
            } else {
                break;
            }
        }
        let step = ConvStep {
            name: node.name.clone(),
            input: node.inputs[0],
            shape: ConvShape {
                channels_in,
                channels_out,
                width,
                dilation,
                before: before / dilation,
                stride,
            },
            weight,
            by_input: None,
            bias,
            residual: None,
            function: Activation::Identity,
            repeat: 1,
            output,
        };
        Ok(Some(self.epilogue(step, nodes)?))
    }

    /// A function of single values behind `outlet`.
    pub(super) fn function(&self, outlet: OutletId) -> Option<(Activation, &TypedNode)> {
        if let Some(node) = self.relu(outlet) {
            return Some((Activation::Relu, node));
        }
        let node = self.only_reader(outlet)?;
        Some((self.elementwise(node)?, node))
    }

    /// The function of single values that a node computes.
    pub(super) fn elementwise(&self, node: &TypedNode) -> Option<Activation> {
        match node.op_as::<Fused>() {
            Some(Fused::Gelu { tanh: true }) => return Some(Activation::GeluTanh),
            Some(Fused::Gelu { tanh: false }) => return Some(Activation::Gelu),
            Some(Fused::Function(function)) => return Some(*function),
            _ => {}
        }
        let op = &node.op_as::<ElementWiseOp>()?.0;
        if op.is::<Sigmoid>() {
            Some(Activation::Sigmoid)
        } else if op.is::<Tanh>() {
            Some(Activation::Tanh)
        } else {
            None
        }
    }
}
