//! One run of a graph.

use super::ops::context::Context;
use super::ops::layer::Layer;
use tract_core::internal::*;
use tract_core::plan;

/// The state of one graph.
pub(super) type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// Runs a graph: layers of ours with the context, operators of tract's own as tract runs them. What
/// those keep from one run to the next, a recurrent layer's last state above all, is of another
/// sequence, and dropped.
pub(super) fn execute(
    state: &mut State,
    context: &mut Context,
    inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    if state.op_states.iter().any(Option::is_some) {
        *state = State::new(state.plan())?;
    }
    let result = state.run_plan_with_eval(inputs, |tract, state, node, inputs| {
        let Some(layer) = node.op_as::<Layer>() else {
            return plan::eval(tract, state, node, inputs);
        };
        let outputs = layer.run(context, &inputs);
        outputs.with_context(|| format!("Evaluating {node}"))
    });
    if result.is_err() {
        // It still holds values, which the next run would find in use.
        state.reset_turn()?;
    }
    result
}
