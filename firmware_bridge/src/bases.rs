//! Bases in two bits each, with runs of N beside them; the layout is in the crate's documentation.

use crate::{MAX_BODY, MAX_PAYLOAD};
use heapless::{CapacityError, Vec};

/// Most bytes that packed bases and their runs of N take in a payload.
pub const MAX_BASES_BYTES: usize = MAX_PAYLOAD - 4;

/// Most bases of a frame.
pub const MAX_BASES: usize = MAX_BASES_BYTES * 4;

/// Bytes of a run of N.
const RUN: usize = 4;

/// Packed bases, borrowed from the buffer they were packed into or received in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bases<'a> {
    count: u16,
    packed: &'a [u8],
    runs: &'a [u8],
}

impl<'a> Bases<'a> {
    /// Packs as many of `codes` (0 to 3 = A C G T, anything else N) as one frame takes, at least one if there is any, and says
    /// how many those are: [`MAX_BASES`] without N.
    pub fn pack(codes: &[u8], room: &'a mut [u8; MAX_BASES_BYTES]) -> (Bases<'a>, usize) {
        let mut runs = 0;
        let mut count = 0;
        for (i, &code) in codes.iter().enumerate() {
            let new_run = code > 3 && (i == 0 || codes[i - 1] <= 3);
            runs += usize::from(new_run);
            if (i + 1).div_ceil(4) + runs * RUN > room.len() {
                runs -= usize::from(new_run);
                break;
            }
            count = i + 1;
        }
        let (packed, rest) = room.split_at_mut(count.div_ceil(4));
        let runs = &mut rest[..runs * RUN];
        packed.fill(0);
        let mut start = 0;
        let mut run = 0;
        while start < count {
            if codes[start] <= 3 {
                packed[start / 4] |= codes[start] << (start % 4 * 2);
                start += 1;
                continue;
            }
            let length = codes[start..count].iter().take_while(|&&c| c > 3).count();
            // Both are at most MAX_BASES, which fits 16 bits.
            runs[run..run + 2].copy_from_slice(&(start as u16).to_le_bytes());
            runs[run + 2..run + RUN].copy_from_slice(&(length as u16).to_le_bytes());
            run += RUN;
            start += length;
        }
        let bases = Bases {
            count: count as u16,
            packed,
            runs,
        };
        (bases, count)
    }

    /// Number of bases.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The codes in order: 0 to 3 = A C G T, 4 = N.
    pub fn codes(&self) -> impl Iterator<Item = u8> + use<'a> {
        let packed = self.packed;
        let mut runs = runs(self.runs).peekable();
        (0..self.len()).map(move |i| {
            while runs
                .next_if(|&(start, length)| i >= start + length)
                .is_some()
            {}
            match runs.peek() {
                Some(&(start, _)) if i >= start => 4,
                _ => base(packed, i),
            }
        })
    }

    pub(crate) fn write(&self, body: &mut Vec<u8, MAX_BODY>) -> Result<(), CapacityError> {
        body.extend_from_slice(&self.count.to_le_bytes())?;
        body.extend_from_slice(self.packed)?;
        body.extend_from_slice(self.runs)
    }

    /// Checks `bytes` whole; an error is the offset at which they break the layout.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Bases<'a>, usize> {
        let (count, rest) = bytes.split_first_chunk::<2>().ok_or(0usize)?;
        let count = u16::from_le_bytes(*count);
        let total = usize::from(count);
        if total > MAX_BASES || total.div_ceil(4) > rest.len() {
            return Err(0);
        }
        let (packed, run_bytes) = rest.split_at(total.div_ceil(4));
        let runs_at = 2 + packed.len();
        if !run_bytes.len().is_multiple_of(RUN) {
            return Err(runs_at);
        }
        if !total.is_multiple_of(4) && packed[total / 4] >> (total % 4 * 2) != 0 {
            return Err(runs_at - 1);
        }
        let mut free = 0;
        for (i, (start, length)) in runs(run_bytes).enumerate() {
            let blank = |i| base(packed, i) == 0;
            if start < free
                || length == 0
                || start + length > total
                || !(start..start + length).all(blank)
            {
                return Err(runs_at + i * RUN);
            }
            // A run that touched this one would be part of it.
            free = start + length + 1;
        }
        Ok(Bases {
            count,
            packed,
            runs: run_bytes,
        })
    }
}

fn base(packed: &[u8], i: usize) -> u8 {
    packed[i / 4] >> (i % 4 * 2) & 3
}

/// Start and length of each run.
fn runs(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> + use<'_> {
    bytes.chunks_exact(RUN).map(|run| {
        let start = u16::from_le_bytes([run[0], run[1]]);
        let length = u16::from_le_bytes([run[2], run[3]]);
        (usize::from(start), usize::from(length))
    })
}
