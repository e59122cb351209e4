//! A folder that a basecaller fills: FASTQ and BAM files that grow, are renamed, compressed,
//! completed; each read exactly once.
//!
//! A [`Follower`] is the whole of it. Its [`Folder`] finds files with something new in them,
//! [`Growing`] gives what is complete of one, and a [`Journal`] remembers how far each was
//! annotated. A pass takes the complete records of one file to the output; when these are written
//! and safe on disk, one line goes to the journal, with the output's length. Whatever ends the
//! program in between, `kill -9` and power included: the next run cuts the output back to the
//! journal's last length and makes the pass again. All passes of a run share one engine, whose
//! source asks for the next file when the one before is committed.
//!
//! A file is known by its first header line, or a BAM file by its first record's name, which is a
//! read's and therefore no other file's: not by its name, which changes when it is complete, nor by
//! its bytes, which change when it is compressed. How far it was read is counted in uncompressed
//! bytes. What follows a BAM file's header cannot be understood without it, so each pass begins
//! with the header.

mod finder;
mod folder;
mod follower;
mod frames;
mod growing;
mod journal;
mod progress;
#[cfg(test)]
mod tests;

pub(crate) use folder::may_hold_reads;
pub use follower::{FollowConfig, FollowError, FollowOutcome, Follower, journal_of};
