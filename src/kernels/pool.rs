//! Pooling: from the rows of a sequence to one, over all of them or by reading frame.

use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES, Rows};
use serde::{Deserialize, Serialize};

/// What pooling makes of the values of a channel. A graph's text has its name in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The sum in the order of the tokens, divided by their number; 0 where there are none.
    Mean,
    /// The largest value, of equal ones the first; 0 where there are none.
    Max,
    /// The first value; 0 where there are none.
    First,
}

/// Pools the rows of `[token][out.len()]` finite values whose byte in `mask` is not 0, or all.
///
/// # Panics
/// Where the width is 0, the values are not whole rows, or the mask is not one byte a row.
pub fn pool(isa: Isa, pooling: Pooling, values: &[f32], mask: Option<&[u8]>, out: &mut [f32]) {
    assert!(!out.is_empty() && values.len().is_multiple_of(out.len()));
    if let Some(mask) = mask {
        assert_eq!(mask.len(), values.len() / out.len());
    }
    let tokens = Tokens {
        pooling,
        values,
        mask,
        out,
    };
    dispatch(isa, tokens);
}

struct Tokens<'a> {
    pooling: Pooling,
    values: &'a [f32],
    mask: Option<&'a [u8]>,
    out: &'a mut [f32],
}

impl Kernel for Tokens<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let width = self.out.len();
        let mut count = 0usize;
        for (t, row) in self.values.chunks_exact(width).enumerate() {
            if self.mask.is_some_and(|mask| mask[t] == 0) {
                continue;
            }
            count += 1;
            if count == 1 {
                self.out.copy_from_slice(row);
                if self.pooling == Pooling::First {
                    break;
                }
                continue;
            }
            join_row(s, self.pooling, row, self.out);
        }
        self.pooling.finish(count, self.out);
    }
}

impl Pooling {
    /// Takes in one more row of finite values; `out` holds what those before it gave, which is the
    /// first row itself at first.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn join(self, isa: Isa, row: &[f32], out: &mut [f32]) {
        assert_eq!(row.len(), out.len());
        let pooling = self;
        dispatch(isa, Join { pooling, row, out });
    }

    /// Makes of `count` rows taken in what is kept of them.
    pub fn finish(self, count: usize, out: &mut [f32]) {
        if count == 0 {
            out.fill(0.0);
        } else if self == Pooling::Mean {
            out.iter_mut().for_each(|y| *y /= count as f32);
        }
    }
}

struct Join<'a> {
    pooling: Pooling,
    row: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Join<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        join_row(s, self.pooling, self.row, self.out);
    }
}

#[inline(always)]
fn join_row<S: Lanes>(s: S, pooling: Pooling, row: &[f32], out: &mut [f32]) {
    let (groups, tail) = out.as_chunks_mut::<LANES>();
    let (x_groups, x_tail) = row.as_chunks::<LANES>();
    for (y, x) in groups.iter_mut().zip(x_groups) {
        s.store(join(s, pooling, s.load(y), s.load(x)), y);
    }
    if !tail.is_empty() {
        let y = join(s, pooling, s.load_part(tail), s.load_part(x_tail));
        s.store_part(y, tail);
    }
}

#[inline(always)]
fn join<S: Lanes>(s: S, pooling: Pooling, y: S::F, x: S::F) -> S::F {
    match pooling {
        Pooling::Mean => s.add(y, x),
        Pooling::Max => s.select_less(y, x, x, y),
        Pooling::First => y,
    }
}

/// Bases of a codon, so reading frames.
pub const FRAMES: usize = 3;

/// Maximum and mean of each channel over the positions of each reading frame, counted from the
/// *last* position back, so that frame 2 always holds the last base. Writes `[maximum |
/// mean][channel][frame]`, `2 · 3 · channels` values, each byte times `scale`. Sums are exact, so
/// the result does not depend on any order.
///
/// # Panics
/// Where there are no channels, `positions` is no positive multiple of 3 or a length does not fit.
pub fn frames_unsigned(input: &[u8], rows: Rows, channels: usize, scale: f32, out: &mut [f32]) {
    assert!(channels > 0);
    assert!(rows.positions > 0 && rows.positions.is_multiple_of(FRAMES));
    assert_eq!(input.len(), rows.len(channels));
    assert_eq!(Some(out.len()), channels.checked_mul(2 * FRAMES));
    let data = &input[rows.halo * channels..(rows.halo + rows.positions) * channels];
    let count = (rows.positions / FRAMES) as f32;
    let (maxima, means) = out.split_at_mut(FRAMES * channels);
    for c in 0..channels {
        for frame in 0..FRAMES {
            let mut maximum = 0u8;
            let mut sum = 0u32;
            for codon in data.chunks_exact(FRAMES * channels) {
                let value = codon[frame * channels + c];
                maximum = maximum.max(value);
                sum += u32::from(value);
            }
            maxima[c * FRAMES + frame] = f32::from(maximum) * scale;
            means[c * FRAMES + frame] = (sum as f32 / count) * scale;
        }
    }
}

/// The same for float rows (no halo), summed in order of position.
///
/// # Panics
/// As [`frames_unsigned`].
pub fn frames_float(input: &[f32], positions: usize, channels: usize, out: &mut [f32]) {
    assert!(channels > 0 && positions > 0 && positions.is_multiple_of(FRAMES));
    assert_eq!(Some(input.len()), positions.checked_mul(channels));
    assert_eq!(Some(out.len()), channels.checked_mul(2 * FRAMES));
    let count = (positions / FRAMES) as f32;
    let (maxima, means) = out.split_at_mut(FRAMES * channels);
    for c in 0..channels {
        for frame in 0..FRAMES {
            let mut maximum = f32::NEG_INFINITY;
            let mut sum = 0f32;
            for codon in input.chunks_exact(FRAMES * channels) {
                let value = codon[frame * channels + c];
                maximum = maximum.max(value);
                sum += value;
            }
            maxima[c * FRAMES + frame] = maximum;
            means[c * FRAMES + frame] = sum / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_from_the_end() {
        let rows = Rows {
            halo: 1,
            positions: 6,
        };
        // One channel; zeros of the halo must not be seen.
        let input = [0, 10, 20, 30, 40, 5, 6, 0];
        let mut out = [0.0; 6];
        frames_unsigned(&input, rows, 1, 0.5, &mut out);
        assert_eq!(out, [20.0, 10.0, 15.0, 12.5, 6.25, 9.0]);
        let floats: Vec<f32> = input[1..7].iter().map(|&b| f32::from(b) * 0.5).collect();
        let mut same = [0.0; 6];
        frames_float(&floats, 6, 1, &mut same);
        assert_eq!(out, same);
    }
}
