//! Pooling by reading frame and the dense layers behind it: what turns a 5'UTR's rows into one
//! number.

use super::{Isa, LANES, Rows, padded};
use half::f16;

/// Bases of a codon, so reading frames.
pub const FRAMES: usize = 3;

/// Maximum and mean of each channel over the positions of each reading frame, counted from the
/// *last* position back, so that frame 2 always holds the last base. Writes `[maximum |
/// mean][channel][frame]`, `2 · 3 · channels` values, each byte times `scale`. Sums are exact, so
/// the result does not depend on any order.
///
/// # Panics
/// Where `positions` is no positive multiple of 3 or a length does not fit.
pub fn frames_unsigned(input: &[u8], rows: Rows, channels: usize, scale: f32, out: &mut [f32]) {
    assert!(rows.positions > 0 && rows.positions.is_multiple_of(FRAMES));
    assert_eq!(input.len(), rows.len(channels));
    assert_eq!(out.len(), 2 * FRAMES * channels);
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
    assert!(positions > 0 && positions.is_multiple_of(FRAMES));
    assert_eq!(input.len(), positions * channels);
    assert_eq!(out.len(), 2 * FRAMES * channels);
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

/// Weights of a dense layer, `[input][outputs rounded up to 16]`.
#[derive(Clone, Copy)]
pub enum DenseWeights<'a> {
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

/// Outputs whose sums wait in registers together.
const TOGETHER: usize = 4 * LANES;

/// A dense layer on one vector: `out[o] = bias[o] + Σ input[i] · weight[i][o]`, added in order of
/// `i` with fused multiply-adds, which makes it the same to the bit everywhere.
///
/// # Panics
/// Where a length does not fit.
pub fn dense(
    isa: Isa,
    input: &[f32],
    weights: DenseWeights,
    bias: &[f32],
    relu: bool,
    out: &mut [f32],
) {
    let lanes = padded(out.len());
    assert_eq!(bias.len(), lanes);
    match weights {
        DenseWeights::F16(w) => assert_eq!(w.len(), input.len() * lanes),
        DenseWeights::F32(w) => assert_eq!(w.len(), input.len() * lanes),
    }
    for (part, out) in out.chunks_mut(TOGETHER).enumerate() {
        let first = part * TOGETHER;
        let count = TOGETHER.min(lanes - first);
        let mut sums = [[0f32; LANES]; TOGETHER / LANES];
        sums.as_flattened_mut()[..count].copy_from_slice(&bias[first..first + count]);
        let part = Columns {
            input,
            weights,
            first,
            lanes,
        };
        let sums = &mut sums[..count / LANES];
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Amx => {
                super::float_x86::dense(&part, sums)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => super::float_aarch64::dense(&part, sums),
            _ => part.add_to(sums),
        }
        for (value, &y) in out.iter_mut().zip(sums.as_flattened()) {
            *value = if !relu || y > 0.0 { y } else { 0.0 };
        }
    }
}

/// Whole blocks of output columns of a dense layer, from column `first`; lengths have been checked.
pub(super) struct Columns<'a> {
    pub(super) input: &'a [f32],
    pub(super) weights: DenseWeights<'a>,
    pub(super) first: usize,
    /// Padded outputs: from one input's weights to the next's.
    pub(super) lanes: usize,
}

impl Columns<'_> {
    /// The reference.
    fn add_to(&self, sums: &mut [[f32; LANES]]) {
        for (i, x) in self.input.iter().enumerate() {
            for (c, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                let at = i * self.lanes + self.first + c;
                let w = match self.weights {
                    DenseWeights::F16(w) => w[at].to_f32(),
                    DenseWeights::F32(w) => w[at],
                };
                *sum = x.mul_add(w, *sum);
            }
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

    #[test]
    fn dense_adds_in_order() {
        let mut w = vec![0.0; 2 * 16];
        w[0] = 2.0;
        w[1] = -1.0;
        w[16] = 3.0;
        w[17] = -4.0;
        let mut bias = vec![0.0; 16];
        bias[0] = 1.0;
        let mut out = [0.0; 2];
        let isa = Isa::selected();
        dense(
            isa,
            &[1.0, 0.5],
            DenseWeights::F32(&w),
            &bias,
            true,
            &mut out,
        );
        assert_eq!(out, [4.5, 0.0]);
        let halves: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
        dense(
            isa,
            &[1.0, 0.5],
            DenseWeights::F16(&halves),
            &bias,
            false,
            &mut out,
        );
        assert_eq!(out, [4.5, -3.0]);
    }
}
