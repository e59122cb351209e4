//! Where a pipeline writes, and how it ends.

use crate::call::Call;
use crate::reads::fastx::{Chunk, Reject};
use crate::reads::source::InputError;
use std::io;

/// A chunk with its calls, about to be written.
#[derive(Debug, Clone, Copy)]
pub struct FinishedChunk<'a> {
    /// The chunk. Calls near its end come with the record's next one.
    pub chunk: &'a Chunk,
    /// The calls, in the order in which they were made.
    pub calls: &'a [Call],
}

/// Where a pipeline writes. Every `FnMut(&FinishedChunk) -> io::Result<()>` is one.
pub trait Output {
    /// Takes a chunk. The chunks of a record come in order, with none of another record between
    /// them; the last has an `end`, and where that is a rejection, no calls.
    ///
    /// # Errors
    /// Stop the run.
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()>;

    /// Learns of a record that was rejected or passed over, after its chunks if there were any.
    /// Logs it unless overridden.
    fn rejected(&mut self, reject: &Reject) {
        reject.log();
    }

    /// Learns that all records of an input have been written; `whole` is false where it could
    /// not be read to its end. Called by [`run_one_by_one`](super::run_one_by_one), and not for an
    /// input in which the run was stopped.
    ///
    /// # Errors
    /// Stop the run.
    fn input_written(&mut self, _whole: bool) -> io::Result<()> {
        Ok(())
    }

    /// Takes a BAM record that is kept and was rejected or passed over, after its chunks if there
    /// were any.
    ///
    /// # Errors
    /// Stop the run.
    fn unannotated(&mut self, _record: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&FinishedChunk<'_>) -> io::Result<()>> Output for F {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self(finished)
    }
}

/// How a run ended that nothing broke off.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Inputs that could not be read to their end, each logged as an error when it happened. The
    /// others were read.
    pub input_errors: Vec<InputError>,
    /// The run was stopped before the end of its inputs.
    pub stopped: bool,
}

/// What breaks a run off. The records then on their way count as rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The output took no more.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// A rejected record in a strict run.
    #[error("{0}")]
    Strict(Box<Reject>),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A thread died where none can; a bug.
    #[error("internal error: a thread of the pipeline died")]
    ThreadDied,
}
