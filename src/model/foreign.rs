//! The one door through which a graph with operators of tract's own comes in: this wing reads
//! layers of ours only.

use super::file::ModelFile;
use std::fmt;
use tract_core::internal::*;

/// Reads graphs that hold operators of tract's own beside ours.
pub trait ForeignGraph: fmt::Debug + Sync {
    /// The graph of such a file.
    ///
    /// # Errors
    /// Where the text of the graph or a tensor that it names is wrong.
    fn read(&self, file: &Arc<ModelFile>) -> TractResult<TypedModel>;

    /// The same graph, made to run fast. It is not done here because it would bring nearly all of
    /// tract into every program.
    ///
    /// # Errors
    /// Where tract finds the graph to be wrong.
    fn optimise(&self, graph: TypedModel) -> TractResult<TypedModel>;
}
