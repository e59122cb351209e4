//! What happens when a thread panics.

use super::mode::Mode;
use super::shared::Engine;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Halts the run when the sink is left before the sources have ended, by a panic too: the workers
/// wait for the sources, and somebody for the workers.
pub(super) struct HaltOnDrop<'a, M: Mode>(pub(super) &'a Engine<M>);

impl<M: Mode> Drop for HaltOnDrop<'_, M> {
    fn drop(&mut self) {
        if self.0.has_open_sources() || std::thread::panicking() {
            self.0.halt();
            // Nobody will look later whether a source still sits in a read.
            self.0.abandon_readers(Duration::ZERO);
        }
    }
}

/// Ends a worker's lane however its thread ends.
pub(super) struct Ending<'a, M: Mode> {
    pub(super) engine: &'a Engine<M>,
    pub(super) lane: usize,
}

impl<M: Mode> Drop for Ending<'_, M> {
    fn drop(&mut self) {
        self.engine.worker_ended(self.lane);
    }
}

/// Does `work`; a panic comes back as what it said.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(&*payload))
}

/// Drops what a panic left half-done, which may panic again.
pub(crate) fn drop_broken<T>(broken: T) {
    let _ = caught(|| drop(broken));
}

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panicked").to_owned()
}
