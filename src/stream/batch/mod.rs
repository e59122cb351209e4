//! Source, workers and sink joined: one thread reads, N annotate, the caller's writes.
//!
//! ```text
//!            free slots (a fixed pool)
//!      +------------<-----------<-----------<--------+
//!      v                                             |
//!   source --> lane 0 --> worker 0 --> finished --> sink (the caller's thread)
//!         \--> lane 1 --> worker 1 --/
//! ```
//!
//! A slot holds a chunk and its calls. The threads, the queues and the end of a run are those of
//! `stream::engine`. The chunks of one record go down one lane; a record of one
//! chunk goes down the lane with the fewest bases in it.
//!
//! **No record disappears.** Each one read in is written, or reported as rejected: bad input, a
//! worker that failed, or a run that was stopped inside it. BAM records that are no read of their
//! own, or lack bases, are passed over and counted apart.
//!
//! **No deadlock**, since the source reads one record at a time. In input order the oldest record
//! needs only slots that are its own or that its chunks give back. When records are written as they
//! finish, one that holds half of the pool takes the floor and streams; every other record then on
//! its way is read whole already.

pub(super) mod config;
mod order;
pub(super) mod output;
pub(super) mod run;
mod slot;
mod source;
#[cfg(test)]
mod tests;
mod worker;

pub use config::{Order, PipelineConfig};
pub use output::{FinishedChunk, Outcome, Output, PipelineError};
pub use run::{run, run_one_by_one, run_sections};
