//! The gate around a read that may block.
//!
//! A blocking read cannot be interrupted, so a run that is stopped leaves a source behind that sits
//! in one. The gate settles who ends the source: the source itself, or the run in its place.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

const RUNNING: u8 = 0;
const READING: u8 = 1;
const ABANDONED: u8 = 2;
const ENDED: u8 = 3;

/// Where a source is: running, in a read, abandoned in one, or at its end.
pub(crate) struct Gate(AtomicU8);

impl Gate {
    pub(super) fn new() -> Gate {
        Gate(AtomicU8::new(RUNNING))
    }

    /// Before a read. False: do not read, since the run is `stopping`, or went on without the
    /// source.
    pub(super) fn enter(&self, stopping: impl Fn() -> bool) -> bool {
        if !self.change(RUNNING, READING) {
            return false;
        }
        // Asked after the gate is closed, so that either this or the one who stops the run sees the
        // other.
        if stopping() {
            self.leave();
            return false;
        }
        true
    }

    /// After a read: false where the run went on without the source, which must touch nothing any
    /// more.
    pub(super) fn leave(&self) -> bool {
        self.change(READING, RUNNING)
    }

    /// True where the source sits in a read, and is now for the caller to end.
    pub(super) fn abandon(&self) -> bool {
        self.change(READING, ABANDONED)
    }

    /// The source has come to its end, out of a read too if that panicked. False where the run has
    /// ended it in its place: one of the two does.
    pub(super) fn end(&self) -> bool {
        let ended = |state| (state != ABANDONED).then_some(ENDED);
        self.0.fetch_update(SeqCst, SeqCst, ended).is_ok()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.0.load(SeqCst) == ABANDONED
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}
