//! A thread that annotates.

use super::slot::{Batch, Slot};
use crate::annotate::{Annotate, Annotation};
use crate::reads::fastx::{RecordEnd, RejectReason};
use crate::stream::engine::guard::{caught, drop_broken};
use crate::stream::engine::run;
use crate::stream::engine::shared::Engine;

/// Annotates the records of a lane.
pub(super) struct Worker<'a, A: Annotate> {
    annotator: &'a A,
    /// Made when first needed, and again after a panic, which may have left it in any condition.
    state: Option<A::State>,
    /// Why the record at hand was given up.
    failure: Option<String>,
}

impl<'a, A: Annotate> Worker<'a, A> {
    pub(super) fn new(annotator: &'a A) -> Worker<'a, A> {
        Worker {
            annotator,
            state: None,
            failure: None,
        }
    }
}

impl<A: Annotate> run::Worker<Batch> for Worker<'_, A> {
    fn work(&mut self, engine: &Engine<Batch>, slot: &mut Slot) {
        if engine.halted() {
            return;
        }
        if slot.chunk.first {
            self.failure = None;
        }
        if self.failure.is_none() {
            self.failure = match caught(|| push(self.annotator, &mut self.state, slot)) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(panic) => {
                    drop_broken(self.state.take());
                    Some(panic)
                }
            };
        }
        let Some(failure) = &self.failure else {
            return;
        };
        slot.calls.clear();
        slot.chunk.codes.clear();
        if slot.chunk.end == Some(RecordEnd::Complete) {
            let reject = slot.chunk.reject(RejectReason::Internal(failure.clone()));
            slot.chunk.end = Some(RecordEnd::Rejected(Box::new(reject)));
        }
    }
}

fn push<A: Annotate>(
    annotator: &A,
    state: &mut Option<A::State>,
    slot: &mut Slot,
) -> Result<(), String> {
    let state = state.get_or_insert_with(|| annotator.read());
    let chunk = &slot.chunk;
    let calls = &mut slot.calls;
    if matches!(chunk.end, Some(RecordEnd::Rejected(_))) {
        state.abort();
        return Ok(());
    }
    let mut result = state.push_codes(&chunk.codes, calls);
    if result.is_ok() && chunk.end.is_some() {
        result = state.finish(calls);
    }
    result.map_err(|error| {
        state.abort();
        error.to_string()
    })
}
