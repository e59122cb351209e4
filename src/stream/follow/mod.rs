//! A folder that a basecaller fills: FASTQ and BAM files that grow, are renamed, compressed,
//! completed; each read exactly once.
//!
//! A [`Follower`] is the whole of it. It looks for files with something new in them, and a journal
//! remembers how far each was annotated. A pass takes the records of one file to the output, up to
//! the last that has its end; when these are written and safe on disk, one line goes to the
//! journal, with the output's length and the hash of what was added to it. Whatever ends the
//! program in between, `kill -9` and power included: the next run cuts output and journal back to
//! the last line that is true of both, and makes what came later again. All passes of a run share
//! one engine, whose source asks for the next file when the one before is committed.
//!
//! A file is known by the hash of its unpacked bytes up to where it was read: not by its name,
//! which changes when it is complete, nor by the bytes on disk, which change when it is compressed.
//! So renamed, compressed, copied and restored files are the same file, and one with other bytes is
//! another, also under an old name. Inode, size and time spare reading it again. Reads are not
//! compared between files: a file that was sorted anew is annotated anew.
//!
//! A pass ends where the parser had judged its last record, with the parser's state: the next one
//! goes on as if there had been no end. When the run ends because nothing new comes, what has no
//! end yet is taken for whole.

mod finder;
mod folder;
mod follower;
mod header;
mod identify;
mod journal;
mod progress;
#[cfg(test)]
mod tests;
mod tick;

pub use folder::{may_hold_reads, reads_of};
pub use follower::{FollowConfig, FollowError, FollowOutcome, Follower, journal_of};
pub use journal::options_of;
pub use tick::Tick;
