//! Vectors: pooling by reading frame, and dense layers.

use super::finder::Finder;
use super::steps::{DenseStep, Step};
use crate::kernels::Activation;
use crate::kernels::pool::FRAMES;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::array::TypedConcat;
use tract_nnef::tract_core::ops::einsum::EinSum;
use tract_nnef::tract_core::ops::math::{Add, Div, Mul};
use tract_nnef::tract_core::ops::nn::{Reduce, Reducer};

impl Finder<'_> {
    /// A dense layer on one row.
    pub(super) fn dense(&self, id: usize) -> TractResult<Option<(DenseStep, Vec<usize>)>> {
        let node = self.model.node(id);
        if !node.op_is::<EinSum>() || node.inputs.len() != 2 {
            return Ok(None);
        }
        let info = node.op.info()?.concat();
        let (input, weights, transposed) = match info.split(' ').next() {
            Some("mk,nk->mn") => (node.inputs[0], node.inputs[1], false),
            Some("mk,kn->mn") => (node.inputs[0], node.inputs[1], true),
            _ => return Ok(None),
        };
        let Some(values) = self.constant(weights) else {
            return Ok(None);
        };
        let fact = self.model.outlet_fact(weights)?;
        let row = self.model.outlet_fact(input)?.shape[0] == 1.to_dim();
        let (Ok(a), Ok(b)) = (fact.shape[0].to_usize(), fact.shape[1].to_usize()) else {
            return Ok(None);
        };
        if !row {
            return Ok(None);
        }
        let (outputs, inputs) = if transposed { (b, a) } else { (a, b) };
        let mut weight = values;
        if transposed {
            let by_input = weight;
            weight = (0..outputs * inputs)
                .map(|at| by_input[at % inputs * outputs + at / inputs])
                .collect();
        }
        let mut nodes = vec![id];
        let mut output = OutletId::new(id, 0);
        let mut bias = vec![0.0; outputs];
        if let Some((next, other)) = self.reader::<Add>(output)
            && let Some(terms) = self.constant(other)
            && (terms.len() == outputs || terms.len() == 1)
        {
            for (o, b) in bias.iter_mut().enumerate() {
                *b = terms[o % terms.len()];
            }
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        let mut function = Activation::Identity;
        if let Some((found, next)) = self.function(output) {
            function = found;
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        let step = DenseStep {
            name: node.name.clone(),
            input,
            inputs,
            outputs,
            weight,
            bias,
            function,
            output,
        };
        Ok(Some((step, nodes)))
    }

    /// Concatenation of maximum and mean over axis 2 of `[1, C, T / 3, 3]`.
    pub(super) fn frames(&self, id: usize) -> Option<(Step, Vec<usize>)> {
        let node = self.model.node(id);
        node.op_as::<TypedConcat>()
            .filter(|concat| concat.axis == 1)?;
        let [first, second] = node.inputs.as_slice() else {
            return None;
        };
        let mut nodes = vec![id];
        let maximum = self.behind_views(*first, &mut nodes);
        let is = |outlet: OutletId, reducer: Reducer| {
            let reduce = self.model.node(outlet.node).op_as::<Reduce>()?;
            (reduce.reducer == reducer && *reduce.axes == [2]).then_some(outlet.node)
        };
        let max_node = is(maximum, Reducer::Max)?;
        let mean = self.behind_views(*second, &mut nodes);
        let division = self.model.node(mean.node);
        let op = self.binary(division)?;
        let count = self.constant(division.inputs[1])?;
        let sum_node = is(division.inputs[0], Reducer::Sum)?;
        let from = self.model.node(max_node).inputs[0];
        if self.model.node(sum_node).inputs[0] != from {
            return None;
        }
        let reshape = self.model.node(from.node);
        let Some(AxisOp::Reshape(2, _, _)) = reshape.op_as::<AxisOp>() else {
            return None;
        };
        let shape = &self.model.outlet_fact(from).ok()?.shape;
        let codons = shape[2].to_usize().ok()? as f32;
        // Written as a division by the count or as a product with its inverse.
        let divides = op.0.is::<Div>() && count.iter().all(|c| *c == codons);
        let multiplies = op.0.is::<Mul>() && count.iter().all(|c| *c == 1.0 / codons);
        if shape[3] != FRAMES.to_dim() || !(divides || multiplies) {
            return None;
        }
        let channels = shape[1].to_usize().ok()?;
        if !self.is_relu(reshape.inputs[0]) {
            return None;
        }
        nodes.extend([max_node, division.id, sum_node, reshape.id]);
        let frames = Step::Frames {
            name: node.name.clone(),
            input: reshape.inputs[0],
            channels,
            output: OutletId::new(id, 0),
        };
        Some((frames, nodes))
    }

    /// Skips operators that only change the view.
    fn behind_views(&self, mut outlet: OutletId, nodes: &mut Vec<usize>) -> OutletId {
        while self.model.node(outlet.node).op_is::<AxisOp>() {
            nodes.push(outlet.node);
            outlet = self.model.node(outlet.node).inputs[0];
        }
        outlet
    }
}
