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
