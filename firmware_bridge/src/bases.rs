//! Bases in two bits each, with runs of N and qualities beside them; the layout is in the crate's
//! documentation.

use crate::{MAX_BODY, MAX_PAYLOAD};
use heapless::{CapacityError, Vec};

/// Most bytes that packed bases, their runs of N and their qualities take in a payload.
pub const MAX_BASES_BYTES: usize = MAX_PAYLOAD - 4;

/// Most bases of a frame.
pub const MAX_BASES: usize = MAX_BASES_BYTES * 4;

/// Bytes of a run of N.
const RUN: usize = 4;

const HAS_RUNS: u8 = 0x40;
const HAS_QUALITIES: u8 = 0x80;

/// The bin of a Phred quality: 0 below 10, 1 below 15, 2 below 20, 3 from there on.
pub fn quality_bin(phred: u8) -> u8 {
    match phred {
        0..10 => 0,
        10..15 => 1,
        15..20 => 2,
        _ => 3,
    }
}

/// Packed bases, borrowed from the buffer they were packed into or received in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bases<'a> {
    count: u16,
    packed: &'a [u8],
    runs: &'a [u8],
    /// As long as `packed`, or empty.
    qualities: &'a [u8],
}

impl<'a> Bases<'a> {
    /// Packs as many of `codes` (0 to 3 = A C G T, anything else N) as one frame takes, at least
    /// one if there is any, and says how many those are: [`MAX_BASES`] without N.
    pub fn pack(codes: &[u8], room: &'a mut [u8; MAX_BASES_BYTES]) -> (Bases<'a>, usize) {
        let mut runs = 0;
        let mut count = 0;
        for (i, &code) in codes.iter().enumerate() {
            let new_run = code > 3 && (i == 0 || codes[i - 1] <= 3);
            runs += usize::from(new_run);
            // One byte for their number, which it must fit.
            let bytes_of_runs = if runs > 0 { 1 + runs * RUN } else { 0 };
            if (i + 1).div_ceil(4) + bytes_of_runs > room.len() || runs > 255 {
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
            qualities: &[],
        };
        (bases, count)
    }

    /// The same with bins of qualities, packed as the bases are; `None` where they have another
    /// length or together no room.
    pub fn with_qualities(self, bins: &'a [u8]) -> Option<Bases<'a>> {
        let runs = if self.runs.is_empty() {
            0
        } else {
            1 + self.runs.len()
        };
        let fits = runs + 2 * self.packed.len() <= MAX_BASES_BYTES;
        let blank = Self::blank_beyond(bins, self.len());
        (bins.len() == self.packed.len() && fits && blank).then_some(Bases {
            qualities: bins,
            ..self
        })
    }

    fn blank_beyond(packed: &[u8], count: usize) -> bool {
        count.is_multiple_of(4)
            || packed
                .get(count / 4)
                .is_some_and(|last| last >> (count % 4 * 2) == 0)
    }

    /// The bins of the qualities ([`quality_bin`]), where they were sent.
    pub fn quality_bins(&self) -> Option<impl Iterator<Item = u8> + use<'a>> {
        let qualities = self.qualities;
        let bins = (0..self.len()).map(move |i| base(qualities, i));
        (!qualities.is_empty()).then_some(bins)
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

    pub(crate) fn flags(&self) -> u8 {
        let empty = (self.packed.len() * 4 - self.len()) as u8;
        let runs = if self.runs.is_empty() { 0 } else { HAS_RUNS };
        let qualities = if self.qualities.is_empty() {
            0
        } else {
            HAS_QUALITIES
        };
        empty << 4 | runs | qualities
    }

    pub(crate) fn write(&self, body: &mut Vec<u8, MAX_BODY>) -> Result<(), CapacityError> {
        if !self.runs.is_empty() {
            body.extend_from_slice(&[(self.runs.len() / RUN) as u8])?;
            body.extend_from_slice(self.runs)?;
        }
        body.extend_from_slice(self.packed)?;
        body.extend_from_slice(self.qualities)
    }

    /// Checks `bytes` whole; an error is the offset at which they break the layout.
    pub(crate) fn read(flags: u8, bytes: &'a [u8]) -> Result<Bases<'a>, usize> {
        let (runs_at, run_bytes, rest) = if flags & HAS_RUNS == 0 {
            (0, &[][..], bytes)
        } else {
            let (&count, rest) = bytes.split_first().ok_or(0usize)?;
            let length = usize::from(count) * RUN;
            if count == 0 || length > rest.len() {
                return Err(0);
            }
            (1, &rest[..length], &rest[length..])
        };
        let packed_at = runs_at + run_bytes.len();
        let (packed, qualities) = if flags & HAS_QUALITIES == 0 {
            (rest, &[][..])
        } else if rest.is_empty() || !rest.len().is_multiple_of(2) {
            return Err(packed_at);
        } else {
            rest.split_at(rest.len() / 2)
        };
        let empty = usize::from(flags >> 4 & 3);
        let total = (packed.len() * 4).checked_sub(empty).ok_or(packed_at)?;
        if !Self::blank_beyond(packed, total) {
            return Err(packed_at + packed.len() - 1);
        }
        if !qualities.is_empty() && !Self::blank_beyond(qualities, total) {
            return Err(packed_at + rest.len() - 1);
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
            count: total as u16,
            packed,
            runs: run_bytes,
            qualities,
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
