//! What an annotator of reads is to the threads that drive it.

use crate::call::CallSink;
use std::fmt;

/// Makes the states that workers push bases into.
pub trait Annotate: Sync {
    /// The state of one worker.
    type State: Annotation;

    /// A fresh state.
    fn read(&self) -> Self::State;

    /// Bases on either side of a position that its calls depend on.
    fn context(&self) -> usize {
        0
    }

    /// What reads keep of what was computed.
    fn kept(&self) -> Kept {
        Kept::default()
    }

    /// True where [`Annotation::use_fast_tier`] makes a difference.
    fn has_fast_tier(&self) -> bool {
        false
    }
}

/// What reads keep of what was computed, so that later bases need not compute it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Bytes in use.
    pub bytes: usize,
    /// Reads that went on without because there was no room.
    pub recomputed: u64,
}

/// A read being annotated.
pub trait Annotation {
    /// Why it failed.
    type Error: fmt::Display;

    /// Takes the next bases, as codes.
    ///
    /// # Errors
    /// Lose the record, not the run.
    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), Self::Error>;

    /// Ends the read; the state is then ready for the next.
    ///
    /// # Errors
    /// Lose the record, not the run.
    fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), Self::Error>;

    /// Forgets the read.
    fn abort(&mut self);

    /// Scores what comes next by cheaper models (true), or no longer.
    fn use_fast_tier(&mut self, _on: bool) {}

    /// Positions of the read whose calls have been given out; the read so far, unless something
    /// else is known.
    fn scored(&self) -> u64 {
        u64::MAX
    }
}
