//! Float convolutions against naive sums in f64, and instruction sets against each other.

use crate::case::{Bytes, Place, activations};
use half::f16;
use proptest::prelude::*;
use strandline::kernels::float::{ConvFloat, Weights};
use strandline::kernels::{Activation, ConvShape, Isa, View, padded};

/// A float convolution with all it needs; `halves` are the weights rounded to fp16.
pub struct Floats {
    pub shape: ConvShape,
    pub positions: usize,
    /// Row 0 of it is the first row that is read.
    pub place_in: Place,
    pub place_out: Place,
    pub input: Vec<f32>,
    pub weights: Vec<f32>,
    pub halves: Vec<f16>,
    pub bias: Vec<f32>,
    pub residual: Vec<f32>,
}

impl Floats {
    /// Seeds that are multiples of three have no gaps between rows.
    pub fn new(shape: ConvShape, positions: usize, seed: u64) -> Floats {
        let mut numbers = Bytes(seed | 1);
        let gap = (seed % 3) as usize * 3;
        let rows = match positions {
            0 => 0,
            _ => (positions - 1) * shape.stride + (shape.width - 1) * shape.dilation + 1,
        };
        let mut place_in = Place::new(rows, shape.channels_in, gap);
        if positions == 0 {
            place_in.first += shape.before * shape.dilation * place_in.pitch;
        }
        let place_out = Place::new(positions, shape.channels_out, gap);
        let mut floats = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| numbers.float(scale)).collect()
        };
        let weights = floats(shape.packed_len(), 1.0);
        Floats {
            shape,
            positions,
            place_in,
            place_out,
            input: floats(place_in.len(), 4.0),
            halves: weights.iter().map(|&w| f16::from_f32(w)).collect(),
            weights,
            bias: floats(padded(shape.channels_out), 2.0),
            residual: floats(place_out.len(), 2.0),
        }
    }

    pub fn conv(&self, half: bool, residual: bool, activation: Activation) -> ConvFloat<'_> {
        let back = match self.positions {
            0 => 0,
            _ => self.shape.before * self.shape.dilation * self.place_in.pitch,
        };
        ConvFloat {
            shape: self.shape,
            positions: self.positions,
            input: View {
                data: &self.input,
                first: self.place_in.first + back,
                pitch: self.place_in.pitch,
            },
            weights: if half {
                Weights::F16(&self.halves)
            } else {
                Weights::F32(&self.weights)
            },
            bias: &self.bias,
            residual: residual.then(|| self.place_out.view(&self.residual)),
            activation,
        }
    }

    fn run(&self, isa: Isa, half: bool, residual: bool, activation: Activation) -> Vec<f32> {
        let mut out = vec![1e30; self.place_out.len()];
        let conv = self.conv(half, residual, activation);
        conv.run(isa, &mut self.place_out.target(&mut out));
        self.place_out.rows_of(&out, 1e30)
    }

    /// The value of a position and channel before the activation (behind the ReLU, where that comes
    /// first), and the sum of its terms' magnitudes, which rounding errors are measured by.
    fn naive(
        &self,
        half: bool,
        residual: bool,
        activation: Activation,
        position: usize,
        channel: usize,
    ) -> (f64, f64) {
        let s = &self.shape;
        let mut y = f64::from(self.bias[channel]);
        let mut magnitude = y.abs();
        for tap in 0..s.width {
            let row = position * s.stride + tap * s.dilation;
            for c in 0..s.channels_in {
                let at = s.packed_float_at(channel, tap, c);
                let w = if half {
                    self.halves[at].to_f64()
                } else {
                    f64::from(self.weights[at])
                };
                let term = f64::from(self.input[self.place_in.at(row, c)]) * w;
                y += term;
                magnitude += term.abs();
            }
        }
        if activation == Activation::ReluFirst {
            y = y.max(0.0);
        }
        if residual {
            let term = f64::from(self.residual[self.place_out.at(position, channel)]);
            y += term;
            magnitude += term.abs();
        }
        (y, magnitude)
    }
}

/// True where products may be added in fp16.
fn half_sums(isa: Isa, half: bool) -> bool {
    half && matches!(isa.name(), "neondot" | "neoni8mm")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn every_instruction_set_gives_the_sum(
        channels_in in 1usize..40, channels_out in 1usize..70, width in 1usize..8,
        before in 0usize..8, dilation in 1usize..4, stride in 1usize..4,
        positions in 0usize..30, residual: bool, seed: u64,
    ) {
        let before = before.min(width - 1);
        let shape = ConvShape { channels_in, channels_out, width, dilation, before, stride };
        let case = Floats::new(shape, positions, seed);
        for half in [false, true] {
            for activation in activations() {
                let expected = case.run(Isa::SCALAR, half, residual, activation);
                for (i, &found) in expected.iter().enumerate() {
                    let (position, channel) = (i / channels_out, i % channels_out);
                    let (y, magnitude) = case.naive(half, residual, activation, position, channel);
                    check(found, y, magnitude, activation, 2e-5)?;
                }
                for isa in Isa::available() {
                    let found = case.run(isa, half, residual, activation);
                    if !half_sums(isa, half) {
                        prop_assert!(found == expected, "{}, {:?}", isa, activation);
                        continue;
                    }
                    for (i, &found) in found.iter().enumerate() {
                        let (position, channel) = (i / channels_out, i % channels_out);
                        let (y, magnitude) =
                            case.naive(half, residual, activation, position, channel);
                        // An input rounded to 11 bits, and each of 32 additions.
                        check(found, y, magnitude, activation, 33.0 / 2048.0)?;
                    }
                }
            }
        }
    }

    /// A position's value does not depend on how many are computed with it.
    #[test]
    fn positions_are_independent(
        channels_in in 1usize..70, channels_out in 1usize..40, positions in 1usize..20,
        half: bool, seed: u64,
    ) {
        let shape = ConvShape {
            width: 3,
            before: 1,
            ..ConvShape::linear(channels_in, channels_out)
        };
        let case = Floats::new(shape, positions, seed);
        for isa in Isa::available() {
            let all = case.run(isa, half, false, Activation::Identity);
            for position in 0..positions {
                let mut conv = case.conv(half, false, Activation::Identity);
                conv.positions = 1;
                conv.input.first += position * conv.input.pitch;
                let mut one = vec![0.0; case.place_out.len()];
                conv.run(isa, &mut case.place_out.target(&mut one));
                let first = case.place_out.first;
                let expected = &all[position * channels_out..(position + 1) * channels_out];
                prop_assert_eq!(&one[first..first + channels_out], expected, "{}", isa);
            }
        }
    }
}

/// `found` is the activation of `y`, but for an error measured by the terms' magnitudes.
fn check(
    found: f32,
    y: f64,
    magnitude: f64,
    activation: Activation,
    error: f64,
) -> Result<(), TestCaseError> {
    let (expected, steepness) = match activation {
        Activation::Relu => (y.max(0.0), 1.0),
        // Nowhere is the derivative of x · Φ(x) above 1.13.
        Activation::Gelu => (f64::from(Activation::Gelu.one(y as f32)), 1.2),
        Activation::LeakyRelu { slope } if y < 0.0 => (y * f64::from(slope.get()), 1.0),
        _ => (y, 1.0),
    };
    let off = (f64::from(found) - expected).abs();
    prop_assert!(
        off <= magnitude * error * steepness,
        "{} for {}, {:?}",
        found,
        expected,
        activation
    );
    Ok(())
}
