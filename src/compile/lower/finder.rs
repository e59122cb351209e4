//! What patterns ask about a graph.

use super::network::Network;
use std::collections::HashSet;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_nnef::tract_core::ops::math::Max;

/// Finds patterns in a graph.
pub(super) struct Finder<'a> {
    pub(super) model: &'a TypedModel,
    pub(super) network: &'a Network,
    /// Values of earlier steps: what a later one may add.
    pub(super) ready: HashSet<OutletId>,
}

impl Finder<'_> {
    /// The values of a constant.
    pub(super) fn constant(&self, outlet: OutletId) -> Option<Vec<f32>> {
        let konst = self.model.outlet_fact(outlet).ok()?.konst.clone()?;
        let values = konst.cast_to::<f32>().ok()?;
        let view = values.try_as_plain_ram().ok()?;
        Some(view.as_slice::<f32>().ok()?.to_vec())
    }

    /// The only reader of an outlet that is no output of the graph.
    pub(super) fn only_reader(&self, outlet: OutletId) -> Option<&TypedNode> {
        let node = self.model.node(outlet.node);
        let readers = &node.outputs[outlet.slot].successors;
        let is_output = self.model.output_outlets().ok()?.contains(&outlet);
        match (readers.as_slice(), is_output) {
            ([one], false) => Some(self.model.node(one.node)),
            _ => None,
        }
    }

    pub(super) fn binary<'n>(&self, node: &'n TypedNode) -> Option<&'n TypedBinOp> {
        node.op_as::<TypedBinOp>()
    }

    /// The reader of `outlet` if it is the binary operator B, with its other operand.
    pub(super) fn reader<B: BinMiniOp>(&self, outlet: OutletId) -> Option<(&TypedNode, OutletId)> {
        let node = self.only_reader(outlet)?;
        self.binary(node)?.0.downcast_ref::<B>()?;
        let other = match node.inputs.as_slice() {
            [a, b] if *a == outlet => *b,
            [a, b] if *b == outlet => *a,
            _ => return None,
        };
        Some((node, other))
    }

    /// A ReLU behind `outlet`.
    pub(super) fn relu(&self, outlet: OutletId) -> Option<&TypedNode> {
        let (node, other) = self.reader::<Max>(outlet)?;
        let zero = self.constant(other)?.iter().all(|x| *x == 0.0);
        zero.then_some(node)
    }

    /// A constant of one value a channel (or one for all), along the axis that `rows` have their
    /// channels on.
    pub(super) fn channel_constant(
        &self,
        outlet: OutletId,
        rows: OutletId,
        channels: usize,
    ) -> Option<Vec<f32>> {
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        let values = self.constant(outlet)?;
        if values.len() == 1 {
            return Some(vec![values[0]; channels]);
        }
        let along = shape.rank() == 3 && shape[self.axis(rows)?] == channels.to_dim();
        (along && values.len() == channels).then_some(values)
    }

    /// The axis of the channels of a value of rows.
    pub(super) fn axis(&self, outlet: OutletId) -> Option<usize> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        let rows =
            fact.rank() == 3 && fact.shape[0] == 1.to_dim() && fact.datum_type == f32::datum_type();
        rows.then(|| self.network.channels_last(outlet).ok())
            .flatten()
            .map(|channels_last| if channels_last { 2 } else { 1 })
    }

    /// Channels of a value of rows, `[1, channels, T]` or `[1, T, channels]`.
    pub(super) fn channels(&self, outlet: OutletId) -> Option<usize> {
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        shape[self.axis(outlet)?].to_usize().ok()
    }

    /// True where the value is known to be non-negative: the output of a ReLU.
    pub(super) fn is_relu(&self, outlet: OutletId) -> bool {
        let node = self.model.node(outlet.node);
        self.binary(node).is_some_and(|op| op.0.is::<Max>())
            && node
                .inputs
                .iter()
                .filter_map(|input| self.constant(*input))
                .any(|values| values.iter().all(|x| *x == 0.0))
    }
}
