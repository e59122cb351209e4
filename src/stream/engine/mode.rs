//! What a kind of run brings to the engine.

use std::time::Duration;

/// A kind of run: what its slots are and how they end. Shared by all threads.
pub(crate) trait Mode: Send + Sync + Sized + 'static {
    /// Work on its way.
    type Slot: Send + 'static;

    /// How often a waiting sink looks whether the run is to stop.
    const LOOK: Duration;

    /// How long a source may sit in a read after a stop, before the run goes on without it.
    const READ_LIMIT: Duration;

    /// The source whose slot it is, counted from 0.
    fn source(slot: &Self::Slot) -> usize;

    /// What the slot adds to the load of its lane until it is worked on.
    fn load(slot: &Self::Slot) -> u64;

    /// Empties a slot that was written, for its next use.
    fn clear(slot: &mut Self::Slot);

    /// Called once when a source has ended or was abandoned: gives `send` the slots, each with its
    /// lane, that the source keeps for its end.
    fn close(&self, source: usize, send: &mut dyn FnMut(usize, Box<Self::Slot>));
}
