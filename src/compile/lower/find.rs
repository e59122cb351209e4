//! The walk over the graph, and what patterns ask about it.

use super::{Network, Step};
use std::collections::HashSet;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_nnef::tract_core::ops::cnn::Conv;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::math::Max;
use tract_nnef::tract_core::ops::source::TypedSource;

/// The steps of a network, in order of evaluation.
pub(super) fn steps(network: &Network) -> TractResult<Vec<Step>> {
    let model = &network.model;
    let mut steps = vec![];
    let mut done: HashSet<usize> = HashSet::new();
    let mut finder = Finder {
        model,
        network,
        ready: model.input_outlets()?.iter().copied().collect(),
    };
    for id in order(model)? {
        let node = model.node(id);
        if done.contains(&id) || node.op_is::<Const>() || node.op_is::<TypedSource>() {
            continue;
        }
        let (step, nodes) = match finder.step(id)? {
            Some(found) => found,
            None => (Step::Plain(id), vec![id]),
        };
        for id in &nodes {
            let slots = 0..model.node(*id).outputs.len();
            finder
                .ready
                .extend(slots.map(|slot| OutletId::new(*id, slot)));
        }
        done.extend(nodes);
        steps.push(step);
    }
    fold_repeats(model, &mut steps)?;
    // Pooling is recognised at its end, so the nodes before it have become plain steps by then.
    for id in model.eval_order()? {
        if let Some((frames, nodes)) = finder.frames(id) {
            steps.retain(|step| !matches!(step, Step::Plain(n) if nodes.contains(n) && *n != id));
            for step in &mut steps {
                if matches!(step, Step::Plain(n) if *n == id) {
                    *step = frames.clone();
                }
            }
        }
    }
    Ok(steps)
}

/// Nodes in order of evaluation. Of a node's operands, those with the longest way behind them come
/// first, but convolutions last: what is added to a convolution should be there before it.
fn order(model: &TypedModel) -> TractResult<Vec<usize>> {
    let all = model.eval_order()?;
    let mut way: HashMap<usize, usize> = HashMap::new();
    for &id in &all {
        let inputs = model.node(id).inputs.iter();
        let longest = inputs.filter_map(|input| way.get(&input.node)).max();
        way.insert(id, longest.map_or(0, |longest| longest + 1));
    }
    let mut order = vec![];
    let mut seen: HashSet<usize> = HashSet::new();
    let mut stack: Vec<(usize, bool)> = vec![];
    for output in model.output_outlets()? {
        stack.push((output.node, false));
        while let Some((id, operands_done)) = stack.pop() {
            if operands_done {
                order.push(id);
                continue;
            }
            if !seen.insert(id) {
                continue;
            }
            stack.push((id, true));
            let mut operands: Vec<usize> = model.node(id).inputs.iter().map(|i| i.node).collect();
            let is_conv = |id: &usize| model.node(*id).op_is::<Conv>();
            operands.sort_by_key(|operand| (!is_conv(operand), way.get(operand)));
            // The last one pushed is the first to be done.
            stack.extend(operands.into_iter().map(|operand| (operand, false)));
        }
    }
    Ok(order)
}

/// A convolution of width 1 commutes with repeating rows, and is done on fewer of them.
fn fold_repeats(model: &TypedModel, steps: &mut Vec<Step>) -> TractResult<()> {
    let outputs = model.output_outlets()?;
    let mut folded = vec![];
    for (index, step) in steps.iter().enumerate() {
        let Step::Repeat {
            input,
            factor,
            output,
            ..
        } = step
        else {
            continue;
        };
        let readers = &model.node(output.node).outputs[output.slot].successors;
        if readers.len() == 1 && !outputs.contains(output) {
            folded.push((index, *input, *factor, *output));
        }
    }
    for (index, input, factor, output) in folded.into_iter().rev() {
        let conv = steps.iter_mut().find_map(|step| match step {
            Step::Conv(conv) if conv.input == output => Some(conv),
            _ => None,
        });
        if let Some(conv) = conv
            && (conv.shape.width, conv.shape.stride, conv.repeat) == (1, 1, 1)
        {
            conv.input = input;
            conv.repeat = factor;
            steps.remove(index);
        }
    }
    Ok(())
}

/// Finds patterns in a graph.
pub(super) struct Finder<'a> {
    pub(super) model: &'a TypedModel,
    network: &'a Network,
    /// Values of earlier steps: what a later one may add.
    pub(super) ready: HashSet<OutletId>,
}

impl Finder<'_> {
    /// The step that begins at a node, and the nodes it covers.
    fn step(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        if let Some((conv, nodes)) = self.conv(id)? {
            return Ok(Some((Step::Conv(conv), nodes)));
        }
        if let Some((dense, nodes)) = self.dense(id)? {
            return Ok(Some((Step::Dense(dense), nodes)));
        }
        if let Some((affine, nodes)) = self.affine(id)? {
            return Ok(Some((Step::Affine(affine), nodes)));
        }
        if let Some(found) = self.fused(id)? {
            return Ok(Some(found));
        }
        self.rows(id)
    }

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
        rows.then(|| self.network.turned(outlet).ok())
            .flatten()
            .map(|turned| if turned { 2 } else { 1 })
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
