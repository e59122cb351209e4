//! An input that may still grow, read from where it was left.

use super::source::Stream;
use std::sync::{Arc, Mutex, PoisonError};

/// How far an input was read: behind the last record that was handed out or rejected.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// Uncompressed bytes before it.
    pub offset: u64,
    /// Records before it.
    pub records: u64,
    /// A broken stretch goes on there, which was rejected.
    pub lost: bool,
    /// Of all bytes before it.
    pub hash: blake3::Hasher,
}

/// What is there of an input, from a position on. Where it ends need not be the end of its last
/// record, which is then left for later.
pub struct Growing {
    /// The name to call it by in messages.
    pub name: String,
    /// Its bytes, from the position on.
    pub bytes: Stream,
    /// Where that is.
    pub from: Position,
    /// It is BAM, and its header lies before the position.
    pub is_bam: bool,
    /// It will not grow: its end is the end.
    pub is_whole: bool,
    /// How far it was read.
    pub reached: Reached,
}

/// How far an input was read, and how many bytes were there behind; known once it was read to its
/// end.
#[derive(Debug, Clone, Default)]
pub struct Reached(Arc<Mutex<Option<(Position, u64)>>>);

impl Reached {
    /// Takes the answer, if it is there.
    pub fn take(&self) -> Option<(Position, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set(&self, position: Position, left: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((position, left));
    }
}
