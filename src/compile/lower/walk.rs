//! The walk over the graph: which step begins at each node.

use super::finder::Finder;
use super::network::Network;
use super::steps::Step;
use std::collections::HashSet;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::cnn::Conv;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::source::TypedSource;

/// The steps of a network, in order of evaluation.
pub fn steps(network: &Network) -> TractResult<Vec<Step>> {
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
