//! Float convolutions against naive sums in f64.

use crate::case::Bytes;
use half::f16;
use proptest::prelude::*;
use strandline::kernels::float::{ConvFloat, Weights};
use strandline::kernels::{ConvShape, Isa, Rows, padded};

/// A float convolution with all it needs; `halves` are the weights rounded to fp16.
struct Floats {
    shape: ConvShape,
    rows: Rows,
    input: Vec<f32>,
    weights: Vec<f32>,
    halves: Vec<f16>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Floats {
    fn new(shape: ConvShape, positions: usize, seed: u64) -> Floats {
        let mut bytes = Bytes(seed | 1);
        let rows = Rows {
            halo: shape.reach() + (seed % 2) as usize,
            positions,
        };
        let mut input = vec![0.0; rows.len(shape.channels_in)];
        let (from, to) = (rows.halo, rows.halo + positions);
        for x in &mut input[from * shape.channels_in..to * shape.channels_in] {
            *x = bytes.float(4.0);
        }
        let weights: Vec<f32> = (0..shape.packed_len()).map(|_| bytes.float(1.0)).collect();
        Floats {
            shape,
            rows,
            input,
            halves: weights.iter().map(|&w| f16::from_f32(w)).collect(),
            weights,
            bias: (0..padded(shape.channels_out))
                .map(|_| bytes.float(2.0))
                .collect(),
            residual: (0..rows.len(shape.channels_out))
                .map(|_| bytes.float(2.0))
                .collect(),
        }
    }

    fn conv(&self, half: bool, residual: bool, relu: bool) -> ConvFloat<'_> {
        ConvFloat {
            shape: self.shape,
            rows: self.rows,
            input: &self.input,
            weights: if half {
                Weights::F16(&self.halves)
            } else {
                Weights::F32(&self.weights)
            },
            bias: &self.bias,
            residual: residual.then_some(&self.residual),
            relu,
        }
    }

    /// The value of a position and channel, and the sum of its terms' magnitudes, which rounding errors are measured by.
    fn naive(
        &self,
        half: bool,
        residual: bool,
        relu: bool,
        position: usize,
        channel: usize,
    ) -> (f64, f64) {
        let s = &self.shape;
        let lanes = padded(s.channels_out);
        let mut y = f64::from(self.bias[channel]);
        let mut magnitude = y.abs();
        for tap in 0..s.width {
            let row = self.rows.halo + position + tap * s.dilation - s.before * s.dilation;
            for c in 0..s.channels_in {
                let at = (tap * s.channels_in + c) * lanes + channel;
                let w = if half {
                    self.halves[at].to_f64()
                } else {
                    f64::from(self.weights[at])
                };
                let term = f64::from(self.input[row * s.channels_in + c]) * w;
                y += term;
                magnitude += term.abs();
            }
        }
        if residual {
            let term = self.residual[(self.rows.halo + position) * s.channels_out + channel];
            y += f64::from(term);
            magnitude += f64::from(term).abs();
        }
        (if relu { y.max(0.0) } else { y }, magnitude)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]
    #[test]
    fn every_instruction_set_is_near_the_sum(
        channels_in in 1usize..20, channels_out in 1usize..40, width in 1usize..8, before in 0usize..8,
        dilation in 1usize..4, positions in 0usize..30, residual: bool, relu: bool, halo_out: bool, seed: u64,
    ) {
        let shape =
            ConvShape { channels_in, channels_out, width, dilation, before: before.min(width - 1) };
        let case = Floats::new(shape, positions, seed);
        let first = if halo_out { case.rows.halo } else { 0 };
        for half in [false, true] {
            for isa in Isa::available() {
                let mut out = vec![f32::INFINITY; (positions + 2 * first) * channels_out];
                case.conv(half, residual, relu).run(isa, &mut out, halo_out);
                let (before, data) = out.split_at(first * channels_out);
                let (data, after) = data.split_at(positions * channels_out);
                let halo = before.iter().chain(after);
                prop_assert!(halo.into_iter().all(|&x| x == f32::INFINITY), "halo written");
                for (i, &found) in data.iter().enumerate() {
                    let (position, channel) = (i / channels_out, i % channels_out);
                    let (expected, magnitude) =
                        case.naive(half, residual, relu, position, channel);
                    let error = (f64::from(found) - expected).abs();
                    // At most 161 terms, each rounded twice by half of 2^-23.
                    prop_assert!(
                        error <= magnitude * 2e-5,
                        "{} position {} channel {}: {} for {}", isa, position, channel, found, expected
                    );
                }
            }
        }
    }
}
