//! Every instruction set of this machine: to the bit against the scalar reference, within tolerance against naive sums
//! in f64, and never outside its buffers.

#[cfg(unix)]
mod bounds;
mod case;
mod codes;
mod float;

use case::Case;
use proptest::prelude::*;
use strandline::kernels::{ConvInt8, ConvShape, Isa, Output};

fn shapes() -> impl Strategy<Value = ConvShape> {
    (1usize..=12, 1usize..=70, 1usize..=11, 1usize..=9).prop_flat_map(
        |(quads, channels_out, width, dilation)| {
            (0..width).prop_map(move |before| ConvShape {
                channels_in: quads * 4,
                channels_out,
                width,
                dilation,
                before,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn every_instruction_set_gives_the_bits_of_the_reference(
        shape in shapes(), positions in 0usize..45, signed: bool, residual: bool, seed: u64,
    ) {
        let case = Case::new(shape, positions, signed, seed);
        let expected = case.outputs(Isa::Scalar, residual);
        for isa in Isa::available() {
            prop_assert_eq!(&case.outputs(isa, residual), &expected, "{}", isa);
        }
    }
}

/// Sums by the textbook, in i64.
#[test]
fn the_reference_adds_up() {
    for (seed, signed) in [(11, false), (12, true)] {
        let shape = ConvShape {
            channels_in: 12,
            channels_out: 19,
            width: 4,
            dilation: 3,
            before: 1,
        };
        let mut case = Case::new(shape, 9, signed, seed);
        case.scale.fill(1.0);
        case.bias.fill(0.0);
        let mut out = vec![0f32; 9 * 19];
        let mut target = Output::Float {
            out: &mut out,
            relu: false,
        };
        case.conv(false).run(Isa::Scalar, &mut target);
        for position in 0..9 {
            for channel in 0..19 {
                let mut sum = 0i64;
                for tap in 0..4 {
                    for c in 0..12 {
                        let row = case.rows.halo + position + tap * 3 - 3;
                        let x = case.input[row * 12 + c];
                        let x = if signed {
                            i64::from(x as i8)
                        } else {
                            i64::from(x)
                        };
                        let w = case.weights[((tap * 3 + c / 4) * 32 + channel) * 4 + c % 4];
                        sum += x * i64::from(w);
                    }
                }
                assert_eq!(out[position * 19 + channel], sum as f32);
            }
        }
    }
}

/// Ties, clamps, infinities, both zeros: what an epilogue could round or compare otherwise.
#[test]
fn edges_of_requantisation() {
    let shape = ConvShape {
        channels_in: 4,
        channels_out: 16,
        width: 1,
        dilation: 1,
        before: 0,
    };
    let mut case = Case::new(shape, 13, false, 3);
    for (i, w) in case.weights.iter_mut().enumerate() {
        *w = i8::from(i % 4 == 0);
    }
    for (i, x) in case.input.iter_mut().enumerate() {
        *x = (i / 4 * 9 % 128) as u8;
    }
    let scales = [0.5, -0.5, 0.0, -0.0, f32::MAX, f32::MIN, 1.0, 1e-40];
    let biases = [0.0, -0.0, 0.5, -0.5, 126.5, -127.5, 1e-45, -1e-45];
    for shift in 0..8 {
        for i in 0..16 {
            case.scale[i] = scales[i % 8];
            case.bias[i] = biases[(i / 2 + shift) % 8];
        }
        for residual in [false, true] {
            let expected = case.outputs(Isa::Scalar, residual);
            for isa in Isa::available() {
                assert_eq!(
                    case.outputs(isa, residual),
                    expected,
                    "{isa}, shift {shift}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "halo too small")]
fn a_halo_that_is_too_small_is_refused() {
    let shape = ConvShape {
        channels_in: 4,
        channels_out: 1,
        width: 3,
        dilation: 2,
        before: 1,
    };
    let mut case = Case::new(shape, 5, false, 0);
    case.rows.halo = 1;
    let conv: ConvInt8 = case.conv(false);
    conv.run(Isa::Scalar, &mut Output::Unsigned(&mut []));
}
