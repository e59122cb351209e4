//! Convolutions and dense layers of any size. Whether a run is refused is compared with the rules
//! in 128 bits, where nothing wraps.

use crate::{ABSURD, returns, sizes, wrapped};
use half::f16;
use proptest::prelude::*;
use strandline::kernels::dense::dense;
use strandline::kernels::float::{ConvFloat, Weights, one_hot};
use strandline::kernels::{
    self, Activation, ConvInt8, ConvShape, Isa, Output, Real, Residual, Rows, Scratch, Target,
    View, padded,
};

/// Where rows lie.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: usize,
    pitch: usize,
}

/// All sizes of a convolution, and the lengths of its buffers.
#[derive(Debug, Clone)]
struct Sizes {
    shape: ConvShape,
    positions: usize,
    row_scales: bool,
    input: Place,
    output: Place,
    input_len: usize,
    output_len: usize,
    weights_len: usize,
    lanes_len: usize,
}

/// Four channels to four, three taps, five positions: it fits.
fn fitting() -> Sizes {
    let shape = ConvShape {
        width: 3,
        before: 1,
        ..ConvShape::linear(4, 4)
    };
    Sizes {
        shape,
        positions: 5,
        row_scales: false,
        input: Place { first: 4, pitch: 4 },
        output: Place { first: 0, pitch: 4 },
        input_len: 7 * 4,
        output_len: 5 * 4,
        weights_len: shape.packed_len(),
        lanes_len: 16,
    }
}

impl Sizes {
    /// Buffers as long as checks that wrap would want them.
    fn wrap(mut self) -> Sizes {
        let s = self.shape;
        let lanes = s.channels_out.wrapping_add(15) / 16 * 16;
        self.weights_len = wrapped(&[s.width, s.channels_in, lanes]);
        self.lanes_len = wrapped(&[lanes]);
        let rows = self.positions.wrapping_sub(1).wrapping_mul(s.stride);
        let rows = rows.wrapping_add(s.width.wrapping_sub(1).wrapping_mul(s.dilation));
        let rows = rows.wrapping_add(1).wrapping_mul(self.input.pitch);
        let back = s.before.wrapping_mul(s.dilation);
        let back = back.wrapping_mul(self.input.pitch);
        self.input_len = wrapped(&[self.input.first.wrapping_sub(back).wrapping_add(rows)]);
        let rows = self.positions.wrapping_mul(self.output.pitch);
        self.output_len = wrapped(&[self.output.first.wrapping_add(rows)]);
        self
    }

    /// True where everything lies inside its buffer, for values of so many bytes.
    fn fits(&self, int8: bool) -> bool {
        let s = self.shape;
        let bytes = if int8 { 1 } else { 4 };
        let channels = [s.channels_in, if self.row_scales { 4 } else { 0 }];
        let positive = [s.channels_in, s.channels_out, s.width, s.stride];
        let step = s.stride.max(s.dilation);
        let back = product(&[s.before, s.dilation, self.input.pitch]);
        let strides = product(&[self.positions.saturating_sub(1), s.stride]);
        let taps = product(&[s.width.saturating_sub(1), s.dilation]);
        let rows = strides.saturating_add(taps).saturating_add(1);
        let start = (self.input.first as u128).saturating_sub(back);
        let lanes = (s.channels_out as u128).next_multiple_of(16);
        !positive.contains(&0)
            && s.before < s.width
            && (!int8 || s.channels_in.is_multiple_of(4))
            && (!self.row_scales || (s.width == 1 && s.stride == 1))
            && product(&[step, self.input.pitch, bytes]) <= isize::MAX as u128
            // Rows are counted before they are multiplied by a pitch, which may be 0.
            && product(&[s.before, s.dilation]) <= usize::MAX as u128
            && back <= self.input.first as u128
            && (self.positions == 0
                || within(self.input_len, start, self.input.pitch, rows, &channels))
            && product(&[s.width, s.channels_in]).saturating_mul(lanes) == self.weights_len as u128
            && lanes == self.lanes_len as u128
            && within(
                self.output_len,
                self.output.first as u128,
                self.output.pitch,
                self.positions as u128,
                &[s.channels_out],
            )
    }

    /// Runs both kinds on every instruction set; each is refused where it does not fit.
    fn run(&self) {
        for isa in Isa::available() {
            let returned = returns(|| self.int8(isa));
            assert_eq!(returned, self.fits(true), "int8 on {isa}: {self:?}");
            if !self.row_scales {
                let returned = returns(|| self.float(isa));
                assert_eq!(returned, self.fits(false), "float on {isa}: {self:?}");
            }
        }
    }

    fn int8(&self, isa: Isa) {
        let input = vec![1; self.input_len];
        let weights = vec![1; self.weights_len];
        let lanes = vec![1.0; self.lanes_len];
        let added = vec![1; self.output_len];
        let mut out = vec![0; self.output_len];
        let Place { first, pitch } = self.output;
        let conv = ConvInt8 {
            shape: self.shape,
            positions: self.positions,
            signed_input: self.positions % 2 == 1,
            input: View {
                data: &input,
                first: self.input.first,
                pitch: self.input.pitch,
            },
            row_scales: self.row_scales,
            weights: &weights,
            scale: &lanes,
            bias: &lanes,
            residual: Residual::Unsigned(
                View {
                    data: &added,
                    first,
                    pitch,
                },
                1.0,
            ),
            activation: Activation::Identity,
            gain: 1.0,
        };
        let target = Target {
            data: &mut out,
            first,
            pitch,
        };
        conv.run(isa, &mut Scratch::default(), &mut Output::Signed(target));
    }

    fn float(&self, isa: Isa) {
        let input = vec![1.0; self.input_len];
        let weights = vec![f16::ONE; self.weights_len];
        let lanes = vec![1.0; self.lanes_len];
        let added = vec![1.0; self.output_len];
        let mut out = vec![0.0; self.output_len];
        let Place { first, pitch } = self.output;
        let conv = ConvFloat {
            shape: self.shape,
            positions: self.positions,
            input: View {
                data: &input,
                first: self.input.first,
                pitch: self.input.pitch,
            },
            weights: Weights::F16(&weights),
            bias: &lanes,
            residual: Some(View {
                data: &added,
                first,
                pitch,
            }),
            activation: Activation::Identity,
        };
        conv.run(
            isa,
            &mut Target {
                data: &mut out,
                first,
                pitch,
            },
        );
    }
}

fn product(sizes: &[usize]) -> u128 {
    let sizes = sizes.iter().map(|size| *size as u128);
    sizes.fold(1, u128::saturating_mul)
}

fn within(len: usize, first: u128, pitch: usize, rows: u128, channels: &[usize]) -> bool {
    let channels: u128 = channels.iter().map(|c| *c as u128).sum();
    let end = match rows {
        0 => first,
        rows => (rows - 1)
            .saturating_mul(pitch as u128)
            .saturating_add(channels)
            .saturating_add(first),
    };
    pitch as u128 >= channels && end <= len as u128
}

/// Every number of a convolution.
fn numbers(sizes: &mut Sizes) -> [&mut usize; 11] {
    let s = &mut sizes.shape;
    [
        &mut s.channels_in,
        &mut s.channels_out,
        &mut s.width,
        &mut s.dilation,
        &mut s.before,
        &mut s.stride,
        &mut sizes.positions,
        &mut sizes.input.first,
        &mut sizes.input.pitch,
        &mut sizes.output.first,
        &mut sizes.output.pitch,
    ]
}

#[test]
fn what_fits_runs() {
    assert!(fitting().fits(true));
    fitting().run();
}

/// Empty weights are as long as 2^60 taps of four channels are, where products wrap.
#[test]
fn a_width_that_wraps_is_refused() {
    let mut sizes = fitting();
    sizes.shape.width = 1 << 60;
    sizes.weights_len = 0;
    assert!(!sizes.fits(true));
    sizes.run();
}

#[test]
fn one_or_two_absurd_numbers_are_refused() {
    let count = numbers(&mut fitting()).len();
    for (first, second) in (0..count).flat_map(|a| (0..=a).map(move |b| (a, b))) {
        for size in ABSURD.into_iter().chain([0]) {
            for other in [1 << 60, usize::MAX / 2, 4] {
                let mut sizes = fitting();
                *numbers(&mut sizes)[second] = other;
                *numbers(&mut sizes)[first] = size;
                sizes.run();
                sizes.wrap().run();
            }
        }
    }
}

#[test]
fn buffers_of_another_length_are_refused() {
    for less in [true, false] {
        for which in 0..4 {
            let mut sizes = fitting();
            let len = match which {
                0 => &mut sizes.input_len,
                1 => &mut sizes.output_len,
                2 => &mut sizes.weights_len,
                _ => &mut sizes.lanes_len,
            };
            *len = if less { *len - 1 } else { 0 };
            assert!(!sizes.fits(true));
            sizes.run();
        }
    }
}

#[test]
fn activations_that_no_convolution_applies_are_refused() {
    use Activation::{Exp, GeluTanh, LeakyRelu, Sigmoid, Tanh};
    let steep = LeakyRelu {
        slope: Real::try_from(-1.5).unwrap(),
    };
    for activation in [Exp, GeluTanh, Sigmoid, Tanh, steep] {
        let conv = ConvFloat {
            shape: ConvShape::linear(1, 1),
            positions: 0,
            input: View {
                data: &[],
                first: 0,
                pitch: 1,
            },
            weights: Weights::F32(&[0.0; 16]),
            bias: &[0.0; 16],
            residual: None,
            activation,
        };
        let mut out = Target::dense(&mut [], 1);
        assert!(!returns(|| conv.run(Isa::detect(), &mut out)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_of_any_size(
        all in proptest::collection::vec(sizes(), 11),
        lens in proptest::collection::vec(0usize..300, 4), row_scales: bool, wrap: bool,
    ) {
        let mut sizes = fitting();
        for (number, size) in numbers(&mut sizes).into_iter().zip(all) {
            *number = size;
        }
        sizes.row_scales = row_scales;
        [sizes.input_len, sizes.output_len, sizes.weights_len, sizes.lanes_len] =
            [lens[0], lens[1], lens[2], lens[3]];
        if wrap {
            sizes = sizes.wrap();
        }
        sizes.run();
    }

    #[test]
    fn dense_layers_of_any_size(
        inputs in 0usize..40, outputs in 0usize..40, weights in 0usize..700, bias in 0usize..50,
    ) {
        let (input, weights, bias) = (vec![1.0; inputs], vec![1.0; weights], vec![1.0; bias]);
        let fits = bias.len() == padded(outputs) && weights.len() == inputs * padded(outputs);
        for isa in Isa::available() {
            let mut out = vec![0.0; outputs];
            let weights = Weights::F32(&weights);
            let run = || dense(isa, &input, weights, &bias, Activation::Tanh, &mut out);
            prop_assert_eq!(returns(run), fits);
        }
    }

    /// Sizes are counted as far as they can be.
    #[test]
    fn shapes_of_any_size(all in proptest::collection::vec(sizes(), 6)) {
        let shape = ConvShape {
            channels_in: all[0],
            channels_out: all[1],
            width: all[2],
            dilation: all[3],
            before: all[4],
            stride: all[5],
        };
        let lanes = (shape.channels_out as u128).next_multiple_of(16);
        let len = product(&[shape.width, shape.channels_in]).saturating_mul(lanes);
        prop_assert!(shape.packed_len() as u128 == len || shape.packed_len() > isize::MAX as usize);
        let reach = product(&[shape.before, shape.dilation]).min(usize::MAX as u128);
        prop_assert!(shape.reach() as u128 >= reach);
        let rows = Rows { halo: all[0], positions: all[1] };
        let len = product(&[2, rows.halo]) + rows.positions as u128;
        let len = len.saturating_mul(all[2] as u128);
        prop_assert_eq!(rows.len(all[2]) as u128, len.min(usize::MAX as u128));
        let _ = rows.view(&[0u8; 3], all[2]);
        let _ = Target::rows(&mut [0u8; 3], rows, all[2]);
    }

    #[test]
    fn codes_of_any_length(codes in 0usize..20, len in 0usize..90) {
        let codes = vec![3; codes];
        let fits = len == 4 * codes.len();
        prop_assert_eq!(returns(|| kernels::one_hot(&codes, &mut vec![0; len])), fits);
        prop_assert_eq!(returns(|| one_hot(&codes, &mut vec![0.0; len])), fits);
    }
}
