//! Records that were not accepted, and why.

use std::fmt;
use std::sync::Arc;

/// Characters of a name that messages show.
const SHOWN: usize = 60;

/// A record that was read in and not annotated, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The input.
    pub file: Arc<str>,
    /// The record's number over all inputs, from 0.
    pub record: u64,
    /// The record's number in its input, from 1.
    pub number: u64,
    /// The name as far as it was read, shortened, with U+FFFD for what is no UTF-8 and `?` for
    /// control characters.
    pub name: String,
    /// Where the record, or the bad region, begins in the uncompressed input.
    pub offset: u64,
    /// Why.
    pub reason: RejectReason,
}

impl Reject {
    /// Logs it: as a warning, or as information where a good file of alignments has many such
    /// records.
    pub fn log(&self) {
        if self.reason.passes_over() {
            log::info!("{self}");
        } else {
            log::warn!("{self}");
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: record {}", self.file, self.number)?;
        if !self.name.is_empty() {
            write!(f, " ({})", self.name)?;
        }
        write!(f, " at byte {}: {}", self.offset, self.reason)
    }
}

/// Why a record was rejected. Positions are uncompressed bytes of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// Something other than `@` where a FASTQ record was to begin.
    #[error("expected '@', found {}", Shown(*found))]
    NoHeader {
        /// The byte there.
        found: u8,
    },
    /// Nothing, or a blank, after `@` or `>`.
    #[error("the header has no name")]
    NoName,
    /// A control character in the header line.
    #[error("{} in the header, at byte {at}", Shown(*byte))]
    ControlByte {
        /// The byte.
        byte: u8,
        /// Where.
        at: u64,
    },
    /// A header line above [`MAX_HEADER`](super::MAX_HEADER).
    #[error("the header is longer than {} bytes", super::MAX_HEADER)]
    LongHeader,
    /// A byte of the sequence that is no IUPAC nucleotide letter.
    #[error("{} at byte {at} is no nucleotide", Shown(*byte))]
    NotABase {
        /// The byte.
        byte: u8,
        /// Where.
        at: u64,
    },
    /// A FASTQ read above the limit.
    #[error("{bases} bases, more than the limit of {limit}")]
    TooLong {
        /// Its length.
        bases: u64,
        /// [`Limits::max_read_len`](super::Limits::max_read_len).
        limit: usize,
    },
    /// Another header where a FASTQ record's sequence was to end.
    #[error("no line with '+' behind the sequence")]
    NoPlus,
    /// Another name behind a FASTQ record's `+`.
    #[error("the line with '+' names another record")]
    OtherName,
    /// There are fewer or more qualities than bases.
    #[error("{bases} bases but {qualities} quality values")]
    Unequal {
        /// Length of the sequence.
        bases: u64,
        /// Length of the quality lines.
        qualities: u64,
    },
    /// A quality outside 33 to 126.
    #[error("{} at byte {at} is no quality value", Shown(*byte))]
    BadQuality {
        /// The byte.
        byte: u8,
        /// Where.
        at: u64,
    },
    /// Lengths of a BAM record that its size does not allow.
    #[error("the lengths in the BAM record do not fit its size")]
    BamLayout,
    /// A secondary or supplementary alignment.
    #[error("a secondary or supplementary record: its read comes with its primary one")]
    NotPrimary,
    /// A BAM record without some of its read's bases.
    #[error("hard-clipped: the record lacks bases of its read")]
    HardClipped,
    /// Tags that a BAM record's size does not allow, or of no known type; only where records are
    /// kept.
    #[error("the tags of the BAM record are broken")]
    BamTags,
    /// A BAM record too large to keep; only where records are kept.
    #[error("a BAM record of {bytes} bytes, more than the limit of {limit}")]
    BamSize {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The input ended, or could not be read on, inside the record.
    #[error("cut off: the input ends inside the record")]
    CutOff,
    /// Reading was stopped inside the record.
    #[error("reading was stopped inside the record")]
    Stopped,
    /// Annotating it failed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RejectReason {
    /// True where nothing is wrong with the record: a good file of alignments has many that are no
    /// read of their own, or lack bases.
    pub fn passes_over(&self) -> bool {
        matches!(self, RejectReason::NotPrimary | RejectReason::HardClipped)
    }
}

/// A byte in a message.
struct Shown(u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_byte(self.0, f)
    }
}

fn show_byte(byte: u8, f: &mut impl fmt::Write) -> fmt::Result {
    if byte.is_ascii_graphic() {
        write!(f, "'{}'", byte as char)
    } else {
        write!(f, "byte 0x{byte:02x}")
    }
}

/// `'x'`, or `byte 0x00` for what does not print.
pub(super) fn shown(byte: u8) -> String {
    Shown(byte).to_string()
}

/// A name fit for a message.
pub(super) fn short_name(name: &[u8]) -> String {
    // Four bytes a character at most.
    let part = &name[..name.len().min(4 * SHOWN + 4)];
    let text = String::from_utf8_lossy(part);
    let mut short: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}
