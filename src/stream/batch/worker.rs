//! A thread that annotates.

use super::queue::{Bell, Shared, Slot};
use super::{Annotate, Annotation};
use crate::reads::fastx::{RecordEnd, RejectReason};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Works through a lane to its end.
pub(super) fn work<A: Annotate>(shared: &Shared, lane: usize, bell: &Bell, annotator: &A) {
    let _ending = Ending(shared);
    let mut worker = Worker {
        annotator,
        state: None,
        failure: None,
    };
    while let Some(mut slot) = shared.next_job(lane, bell) {
        let cost = Shared::cost(&slot);
        if !shared.halted() {
            worker.annotate(&mut slot);
        }
        shared.finish(lane, cost, slot);
    }
}

struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

struct Worker<'a, A: Annotate> {
    annotator: &'a A,
    /// Made when first needed, and again after a panic, which may have left it in any condition.
    state: Option<A::State>,
    /// Why the record at hand was given up.
    failure: Option<String>,
}

impl<A: Annotate> Worker<'_, A> {
    fn annotate(&mut self, slot: &mut Slot) {
        if slot.chunk.first {
            self.failure = None;
        }
        if self.failure.is_none() {
            let result = catch_unwind(AssertUnwindSafe(|| {
                push(self.annotator, &mut self.state, slot)
            }));
            self.failure = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(payload) => {
                    let broken = self.state.take();
                    // Dropping what a panic left half-done may panic again.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                    Some(panic_text(&*payload))
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

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panicked").to_owned()
}
