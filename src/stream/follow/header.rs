//! The header of a BAM file.

use std::io::{self, Read};

/// The header of a BAM file behind its magic, which is in `header`; false where it is not there
/// whole.
pub(super) fn read_bam_header(bytes: &mut dyn Read, header: &mut Vec<u8>) -> io::Result<bool> {
    let mut take = |n: u64| {
        let got = Read::take(&mut *bytes, n).read_to_end(header);
        match got {
            Ok(got) if got as u64 == n => Ok(header.last_chunk().map(|l| i32::from_le_bytes(*l))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    };
    let length = |field: Option<i32>| field.map(|n| u64::try_from(n).unwrap_or(u64::MAX >> 1));
    let Some(text) = length(take(4)?) else {
        return Ok(false);
    };
    if take(text)?.is_none() {
        return Ok(false);
    }
    let Some(references) = length(take(4)?) else {
        return Ok(false);
    };
    for _ in 0..references {
        let Some(name) = length(take(4)?) else {
            return Ok(false);
        };
        // The name, and the reference's length.
        if take(name + 4)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
