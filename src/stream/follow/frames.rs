//! Where the records of a file end that is not whole yet.

use std::io::{self, Read};

/// Where records end.
pub(super) enum Frames {
    /// FASTQ: where the line at hand begins in the buffer, and lines of the record at hand.
    Lines { begin: usize, lines: u8 },
    /// BAM: bytes of the next size that are there, and bytes that the record at hand still lacks.
    Sizes { size: Vec<u8>, lacks: u64 },
    /// BAM whose next size is none: the parser says so.
    Broken,
}

impl Frames {
    /// Looks at the buffer from `at` on; gives where in it the last complete record ends, if one
    /// does.
    pub(super) fn look(&mut self, buffer: &[u8], mut at: usize) -> Option<usize> {
        let mut complete = None;
        match self {
            Frames::Lines { begin, lines } => {
                while let Some(end) = buffer[at..].iter().position(|&b| b == b'\n') {
                    at += end + 1;
                    *lines = line_ends(*lines, buffer[*begin]);
                    *begin = at;
                    if *lines == 0 {
                        complete = Some(at);
                    }
                }
            }
            Frames::Sizes { size, lacks } => loop {
                let there = (buffer.len() - at) as u64;
                if *lacks > 0 {
                    let part = there.min(*lacks);
                    at += part as usize;
                    *lacks -= part;
                    if *lacks > 0 {
                        break;
                    }
                    complete = Some(at);
                    continue;
                }
                let part = (there as usize).min(4 - size.len());
                size.extend_from_slice(&buffer[at..at + part]);
                at += part;
                let Ok(whole) = <[u8; 4]>::try_from(&size[..]) else {
                    break;
                };
                size.clear();
                *lacks = match u64::try_from(i32::from_le_bytes(whole)) {
                    Ok(length) if length > 0 => length,
                    _ => {
                        *self = Frames::Broken;
                        return Some(buffer.len());
                    }
                };
            },
            Frames::Broken => return Some(buffer.len()),
        }
        complete
    }

    /// The buffer's first `n` bytes are gone.
    pub(super) fn drained(&mut self, n: usize) {
        if let Frames::Lines { begin, .. } = self {
            *begin -= n;
        }
    }
}

/// Lines of the record at hand after one that begins with `first`. A record that is broken must not
/// shift where the others end, so what cannot be the line that is due begins the count anew, as the
/// parser does.
fn line_ends(lines: u8, first: u8) -> u8 {
    match (lines, first) {
        (0, b'@') => 1,
        (0, _) => 0,
        (1, _) => 2,
        (2, b'+') => 3,
        (2, b'@') => 1,
        _ => 0,
    }
}

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
