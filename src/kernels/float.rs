//! Convolutions in f32 with weights of f32 or fp16: for comparison, and for networks that do not bear eight bits.
//!
//! Layouts are those of the int8 kernels: input and residual `[position][channel]` with halo rows of zeros, weights
//! `[tap][channel_in][channels_out rounded up to 16]`. fp16 weights are widened exactly, so arithmetic is that of f32.
//! Summation order is fixed (tap, then input channel), but an unfused multiply-add is allowed: no file that uses these declares
//! `reproducible: bits`.

use super::{ConvShape, Isa, LANES, Rows, padded};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Positions computed together, so that each row of weights is read (and widened) once for all of them.
const POSITIONS: usize = 8;

/// Weights in one of two precisions.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Weights::F16(w) => w.len(),
            Weights::F32(w) => w.len(),
        }
    }

    #[inline(always)]
    fn lanes(&self, start: usize) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        match self {
            Weights::F16(w) => w[start..start + LANES].convert_to_f32_slice(&mut out),
            Weights::F32(w) => out.copy_from_slice(&w[start..start + LANES]),
        }
        out
    }
}

/// A float convolution, ready to run.
pub struct ConvFloat<'a> {
    /// Its shape; any number of input channels.
    pub shape: ConvShape,
    /// Rows of input, output and residual.
    pub rows: Rows,
    /// `rows.len(channels_in)` values.
    pub input: &'a [f32],
    /// [`ConvShape::packed_len`] weights.
    pub weights: Weights<'a>,
    /// One a padded output channel.
    pub bias: &'a [f32],
    /// Rows of `channels_out` to add.
    pub residual: Option<&'a [f32]>,
    /// Negative values become 0.
    pub relu: bool,
}

impl ConvFloat<'_> {
    /// Runs, writing positions of `out`. With `out_halo` the output has halo rows, which are left alone; without, it holds
    /// positions only.
    ///
    /// # Panics
    /// Where a length does not fit the shape.
    pub fn run(&self, isa: Isa, out: &mut [f32], out_halo: bool) {
        let s = &self.shape;
        assert!(s.width > 0 && s.before < s.width && s.reach() <= self.rows.halo);
        assert_eq!(self.input.len(), self.rows.len(s.channels_in));
        assert_eq!(self.weights.len(), s.packed_len());
        assert_eq!(self.bias.len(), padded(s.channels_out));
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), self.rows.len(s.channels_out));
        }
        let rows_out = self.rows.positions + if out_halo { 2 * self.rows.halo } else { 0 };
        assert_eq!(out.len(), rows_out * s.channels_out);
        let first = if out_halo { self.rows.halo } else { 0 };
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => super::x86::conv_float(self, out, first),
            _ => run_anywhere(self, out, first),
        }
    }
}

/// The loop itself, compiled again with wider vectors where an instruction set asks for it.
#[inline(always)]
pub(super) fn run_anywhere(conv: &ConvFloat, out: &mut [f32], first_out: usize) {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let first_row = s.first_row(conv.rows.halo);
    let mut start = 0;
    while start < conv.rows.positions {
        let count = POSITIONS.min(conv.rows.positions - start);
        for block in 0..lanes / LANES {
            let mut sums = [[0f32; LANES]; POSITIONS];
            for sum in &mut sums {
                sum.copy_from_slice(&conv.bias[block * LANES..(block + 1) * LANES]);
            }
            for tap in 0..s.width {
                let row = first_row + start + tap * s.dilation;
                for channel in 0..s.channels_in {
                    let at = (tap * s.channels_in + channel) * lanes + block * LANES;
                    let w = conv.weights.lanes(at);
                    for (p, sum) in sums.iter_mut().enumerate().take(count) {
                        let x = conv.input[(row + p) * s.channels_in + channel];
                        for lane in 0..LANES {
                            sum[lane] += x * w[lane];
                        }
                    }
                }
            }
            let first = block * LANES;
            let kept = LANES.min(s.channels_out - first);
            for (p, sum) in sums.iter().enumerate().take(count) {
                let to = (first_out + start + p) * s.channels_out + first;
                let from = (conv.rows.halo + start + p) * s.channels_out + first;
                for lane in 0..kept {
                    let mut y = sum[lane];
                    if let Some(residual) = conv.residual {
                        y += residual[from + lane];
                    }
                    out[to + lane] = if conv.relu { y.max(0.0) } else { y };
                }
            }
        }
        start += count;
    }
}

/// A convolution over base codes in float: a sum of weight rows, one a tap. Weights are `[tap][base][channels_out rounded up
/// to 16]`; `first` is the row of `out` that holds position 0.
///
/// # Panics
/// Where a length does not fit the shape.
pub fn conv_codes(
    shape: &ConvShape,
    codes: &[u8],
    weights: Weights,
    bias: &[f32],
    relu: bool,
    out: &mut [f32],
    first: usize,
) {
    let lanes = padded(shape.channels_out);
    assert_eq!(weights.len(), shape.width * 4 * lanes);
    assert_eq!(bias.len(), lanes);
    let back = (shape.before * shape.dilation) as isize;
    for position in 0..codes.len() {
        for block in 0..lanes / LANES {
            let mut sum = [0f32; LANES];
            sum.copy_from_slice(&bias[block * LANES..(block + 1) * LANES]);
            for tap in 0..shape.width {
                let at = position as isize - back + (tap * shape.dilation) as isize;
                let code = match usize::try_from(at).ok().and_then(|at| codes.get(at)) {
                    Some(&code) if code < 4 => usize::from(code),
                    _ => continue,
                };
                let w = weights.lanes((tap * 4 + code) * lanes + block * LANES);
                for lane in 0..LANES {
                    sum[lane] += w[lane];
                }
            }
            let kept = LANES.min(shape.channels_out - block * LANES);
            let to = (first + position) * shape.channels_out + block * LANES;
            for lane in 0..kept {
                let y = sum[lane];
                out[to + lane] = if relu { y.max(0.0) } else { y };
            }
        }
    }
}
