//! What a runner lends to each layer that it runs: buffers, working memory, and the rows that are
//! asked for.

use super::arena::Arena;
use super::scratch::Scratch;
use std::ops::Range;

/// The mutable state of one runner. It grows to what its graphs need and stays as it is then.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(super) arena: Arena,
    pub(super) scratch: Scratch,
    /// The rows of the graph's output that are asked for, ascending and apart; `None`: every row.
    /// Layers near the output compute what these need and leave the rest as it was.
    pub(crate) wanted: Option<Vec<Range<usize>>>,
    pub(crate) sequences: Sequences,
    /// The first row of each of them.
    pub(super) firsts: Vec<Range<usize>>,
}

/// Sequences of one length that a run computes side by side: their rows follow one another, and
/// where a layer writes a vector, it writes one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequences {
    /// How many there are in this run.
    pub count: usize,
    /// How many a tile holds.
    pub room: usize,
}

impl Default for Sequences {
    fn default() -> Sequences {
        Sequences { count: 1, room: 1 }
    }
}

impl Context {
    /// Bytes of the buffers that layers write to.
    #[cfg(all(test, feature = "pack"))]
    pub(crate) fn activation_bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Bytes of working memory.
    #[cfg(all(test, feature = "pack"))]
    pub(crate) fn scratch_bytes(&self) -> usize {
        self.scratch.bytes()
    }
}
