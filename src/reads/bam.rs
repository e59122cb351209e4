//! How BAM records lie in a file (SAM/BAM specification, section 4.2).

use std::sync::{Arc, OnceLock};

/// What a BAM stream begins with.
pub(crate) const MAGIC: &[u8; 4] = b"BAM\x01";

/// Bytes of a record's fields of fixed length, without its block size.
pub(crate) const FIXED: u64 = 32;

/// The header of a BAM input whose records are kept, as it lies in the file: magic, text,
/// references. It is there before the first record is.
pub type BamHeader = Arc<OnceLock<Vec<u8>>>;

/// A record that was kept, for who writes it on with other tags.
#[derive(Debug, Clone, Copy)]
pub struct BamRecord<'a> {
    /// Its block size, its fields, its bases and qualities.
    pub fields: &'a [u8],
    tags: &'a [u8],
}

impl<'a> BamRecord<'a> {
    /// The parts of a record that begins with its block size; `None` where it ends before its tags
    /// would begin.
    pub fn parse(record: &'a [u8]) -> Option<BamRecord<'a>> {
        let (fields, tags) = record.split_at(tags_begin(record)?);
        Some(BamRecord { fields, tags })
    }

    /// Its tags, each with its two letters and its type; `None` for a broken one, the last then.
    pub fn tags(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = self.tags;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some(length) = tag_length(rest) else {
                rest = &[];
                return Some(None);
            };
            let (tag, behind) = rest.split_at(length);
            rest = behind;
            Some(Some(tag))
        })
    }
}

/// Where a record's tags begin: behind its bases and qualities. It begins with its block size.
fn tags_begin(record: &[u8]) -> Option<usize> {
    let fixed: &[u8; 36] = record.first_chunk()?;
    let bases = u32::from_le_bytes([20, 21, 22, 23].map(|i| fixed[i])) as usize;
    let cigar = usize::from(u16::from_le_bytes([fixed[16], fixed[17]]));
    let begin = 36 + usize::from(fixed[12]) + 4 * cigar + bases.div_ceil(2) + bases;
    (begin <= record.len()).then_some(begin)
}

/// The bytes of the tag that `tags` begins with, its two letters and its type included; `None`
/// where it is broken.
fn tag_length(tags: &[u8]) -> Option<usize> {
    let size = |kind: u8| match kind {
        b'A' | b'c' | b'C' => Some(1),
        b's' | b'S' => Some(2),
        b'i' | b'I' | b'f' => Some(4),
        _ => None,
    };
    let length = match *tags.get(2)? {
        b'Z' | b'H' => 3 + tags[3..].iter().position(|&b| b == 0)? + 1,
        b'B' => {
            let count = u32::from_le_bytes(*tags.get(4..)?.first_chunk()?) as usize;
            8 + count.checked_mul(size(tags[3])?)?
        }
        kind => 3 + size(kind)?,
    };
    (length <= tags.len()).then_some(length)
}

/// True where the tags of a record, which begins with its block size, are framed well.
pub(crate) fn has_whole_tags(record: &[u8]) -> bool {
    BamRecord::parse(record).is_none_or(|record| record.tags().all(|tag| tag.is_some()))
}
