//! Reads that are still being sequenced: thousands at once, from several sources, against the
//! clock.
//!
//! ```text
//!   source 0 --\          /--> lane 0 --> worker 0 --\
//!   source 1 ---+--------+                            +--> finished --> sink (the caller's thread)
//!   source 2 --/          \--> lane 1 --> worker 1 --/
//! ```
//!
//! A source is a thread that turns what it receives into [`Piece`]s: the next bases of a channel's
//! read. All pieces of a read go down one lane, in order; its worker holds the read's state, scores
//! every position whose context is there, and gives the calls on at once. Each source has its own
//! slots, so that one that receives much does not silence another. The threads, the queues and the
//! end of a run are those of `stream::engine`. States are recycled: a channel has one read at a
//! time, and [`LiveConfig::channels`] bounds how many there may be.
//!
//! **Stretches.** Where bases are missing, because the link lost them or because they were shed, a
//! read falls into stretches. Each is annotated as if it were a read of its own, at its place in
//! the read, and its calls carry [`Flags::PARTIAL`](crate::call::Flags::PARTIAL). Nothing is joined
//! across a gap, and the calls of a read without one are exactly those of the same read from a
//! file.
//!
//! **Overload.** With a deadline each piece has a time by which its calls should have been written;
//! [`OverloadPolicy`] says what becomes of reads that cannot keep it. Reads are shed, not bases, so
//! that those that are scored are whole: most are refused when they begin, and a begun one is given
//! up only where the deadline is missed nevertheless. `admission` has the rules, and `simulation`
//! proves them.
//!
//! **Nothing disappears.** reads in = reads out + rejected + shed, and bases received = scored +
//! without context + shed + rejected. A run that is stopped finishes what it has received, or
//! counts it, within a second. Only in a run that an output's error or a panic broke off, what was
//! on its way then is not counted; the run ends with that error.

mod admission;
mod config;
pub(super) mod output;
mod overload;
pub(super) mod piece;
mod reader;
mod records;
mod run;
#[cfg(test)]
mod simulation;
mod slot;
pub(super) mod source;
#[cfg(test)]
mod tests;
mod worker;

pub use config::LiveConfig;
pub use output::{FinishedPiece, LiveError, LiveOutcome, LiveOutput, SourceInfo};
pub use overload::OverloadPolicy;
pub use piece::{Piece, PieceEnd};
pub use records::Records;
pub use run::run;
pub use source::{LiveSource, LiveStep, Replies, SourceError};
