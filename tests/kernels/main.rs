//! Every instruction set of this machine: to the bit against the scalar reference, within tolerance
//! against naive sums in f64, and never outside its buffers.

mod affine;
mod attention;
#[cfg(unix)]
mod bounds;
mod case;
mod codes;
mod dense;
mod float;
mod transformer;
#[cfg(unix)]
mod transformer_bounds;

use case::{ADDEND_SCALE, ADDENDS, Addend, Case, GAIN, activations, shapes};
use proptest::prelude::*;
use strandline::kernels::{
    Activation, ConvInt8, ConvShape, Isa, Output, Residual, Scratch, Target, View,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn every_instruction_set_gives_the_bits_of_the_reference(
        shape in shapes(), positions in 0usize..45, signed: bool, seed: u64,
    ) {
        let case = Case::new(shape, positions, signed, seed);
        for addend in ADDENDS {
            for activation in activations() {
                let expected = case.outputs(Isa::SCALAR, addend, activation);
                for isa in Isa::available() {
                    let found = case.outputs(isa, addend, activation);
                    prop_assert!(found == expected, "{}, {:?}, {:?}", isa, addend, activation);
                }
            }
        }
    }

    /// Sums by the textbook, in i64.
    #[test]
    fn the_reference_adds_up(
        shape in shapes(), positions in 0usize..9, signed: bool, seed: u64,
    ) {
        let mut case = Case::new(shape, positions, signed, seed);
        case.scale.fill(1.0);
        case.bias.fill(0.0);
        let out = case.floats_out(Isa::SCALAR, Addend::None, Activation::Identity);
        for (i, found) in out.into_iter().enumerate() {
            let (position, channel) = (i / shape.channels_out, i % shape.channels_out);
            prop_assert_eq!(found, sum(&case, position, channel));
        }
    }

    /// What follows the sum, in f64.
    #[test]
    fn the_reference_finishes_as_it_says(
        shape in shapes(), positions in 1usize..9, signed: bool, seed: u64,
    ) {
        let case = Case::new(shape, positions, signed, seed);
        for addend in ADDENDS {
            for activation in activations() {
                let out = case.outputs(Isa::SCALAR, addend, activation);
                let count = positions * shape.channels_out;
                for i in 0..count {
                    let (position, channel) = (i / shape.channels_out, i % shape.channels_out);
                    let sum = f64::from(sum(&case, position, channel));
                    let at = case.place_out.at(position, channel);
                    let (scale, bias) = (case.scale[channel], case.bias[channel]);
                    let mut y = sum * f64::from(scale) + f64::from(bias);
                    if activation == Activation::ReluFirst {
                        y = y.max(0.0);
                    }
                    let scale = f64::from(ADDEND_SCALE);
                    y += match addend {
                        Addend::None => 0.0,
                        Addend::Unsigned => f64::from(case.bytes[0][at]) * scale,
                        Addend::Signed => f64::from(case.bytes[1][at] as i8) * scale,
                        Addend::Float => f64::from(case.floats[at]),
                    };
                    let y = match activation {
                        Activation::Relu => y.max(0.0),
                        Activation::Gelu => f64::from(Activation::Gelu.one(y as f32) * GAIN),
                        Activation::LeakyRelu { slope } if y < 0.0 => y * f64::from(slope.get()),
                        _ => y,
                    };
                    let close = |found: f64, expected: f64, error: f64| {
                        (found - expected).abs() <= error + 1e-4 + 1e-5 * (sum * 0.002).abs()
                    };
                    let unsigned = f64::from(out[i]);
                    let signed = f64::from(out[count + i] as i8);
                    let float = out[2 * count + 4 * i..].first_chunk::<4>().unwrap();
                    let float = f64::from(f32::from_le_bytes(*float));
                    let (of_unsigned, of_signed) = (y.clamp(0.0, 255.0), y.clamp(-127.0, 127.0));
                    prop_assert!(close(unsigned, of_unsigned, 0.5), "{} for {}", unsigned, y);
                    prop_assert!(close(signed, of_signed, 0.5), "{} for {}", signed, y);
                    prop_assert!(close(float, y, 0.0), "{} for {}", float, y);
                }
            }
        }
    }
}

fn sum(case: &Case, position: usize, channel: usize) -> f32 {
    let s = &case.shape;
    let mut sum = 0i64;
    for tap in 0..s.width {
        for c in 0..s.channels_in {
            let row = position * s.stride + tap * s.dilation;
            let x = case.input[case.place_in.at(row, c)];
            let x = if case.signed {
                i64::from(x as i8)
            } else {
                i64::from(x)
            };
            sum += x * i64::from(case.weights[s.packed_at(channel, tap, c)]);
        }
    }
    if !case.row_scales {
        return sum as f32;
    }
    let at = case.place_in.at(position, s.channels_in);
    let bytes = case.input[at..].first_chunk::<4>().unwrap();
    sum as f32 * f32::from_le_bytes(*bytes)
}

#[test]
fn each_weight_has_a_place_of_its_own() {
    let shape = ConvShape {
        channels_in: 12,
        channels_out: 35,
        width: 3,
        ..ConvShape::linear(12, 35)
    };
    let mut seen = vec![0; shape.packed_len()];
    for channel_out in 0..48 {
        for tap in 0..3 {
            for channel_in in 0..12 {
                seen[shape.packed_at(channel_out, tap, channel_in)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| count == 1));
}

/// Ties, clamps, both zeros, and scales so large that values leave the range of i32: what an
/// epilogue could round or compare otherwise.
#[test]
fn edges_of_requantisation() {
    let mut case = Case::new(ConvShape::linear(4, 16), 13, false, 3);
    for (i, w) in case.weights.iter_mut().enumerate() {
        *w = i8::from(i % 4 == 0);
    }
    for (i, x) in case.input.iter_mut().enumerate() {
        *x = (i / 4 * 9 % 256) as u8;
    }
    let bounded = [0.5, -0.5, 0.0, -0.0, 1.0, -1.0, 1e-40, 0.25];
    let huge = [0.5, -0.5, 0.0, -0.0, f32::MAX, f32::MIN, 1.0, 1e-40];
    let biases = [0.0, -0.0, 0.5, -0.5, 254.5, -127.5, 1e-45, -1e-45];
    for (scales, shift) in [bounded, huge]
        .into_iter()
        .flat_map(|s| (0..8).map(move |i| (s, i)))
    {
        for i in 0..16 {
            case.scale[i] = scales[i % 8];
            case.bias[i] = biases[(i / 2 + shift) % 8];
        }
        same_everywhere(&case, &format!("scales {scales:?}, shift {shift}"));
    }
}

/// Parts that are not known before the run may be large.
#[test]
fn values_beyond_i32_saturate() {
    for seed in [4, 12] {
        for large in [3e9f32, 1e20, -3e9, -1e20] {
            let mut case = Case::new(ConvShape::linear(8, 37), 14, true, seed);
            for (i, value) in case.floats.iter_mut().enumerate() {
                *value *= if i % 3 == 0 { large } else { 1.0 };
            }
            for row in (0..14).step_by(3) {
                let at = case.place_in.at(row, 8);
                case.input[at..at + 4].copy_from_slice(&large.to_le_bytes());
            }
            assert!(case.row_scales);
            same_everywhere(&case, &format!("{large:e}"));
        }
    }
}

fn same_everywhere(case: &Case, what: &str) {
    for addend in ADDENDS {
        for activation in activations() {
            let expected = case.outputs(Isa::SCALAR, addend, activation);
            for isa in Isa::available() {
                let found = case.outputs(isa, addend, activation);
                assert!(
                    found == expected,
                    "{isa}, {addend:?}, {activation:?}, {what}"
                );
            }
        }
    }
}

/// Runs a width of 3 over 5 positions with `before` rows ahead of row 0, `rows` from it on, and
/// that much room to write.
fn run_with(before: usize, rows: usize, residual: usize, out: usize) {
    let shape = ConvShape {
        width: 3,
        dilation: 2,
        before: 1,
        ..ConvShape::linear(4, 1)
    };
    let (input, residual) = (vec![0; (before + rows) * 4], vec![0; residual]);
    let conv = ConvInt8 {
        shape,
        positions: 5,
        signed_input: false,
        input: View {
            data: &input,
            first: before * 4,
            pitch: 4,
        },
        row_scales: false,
        weights: &vec![0; shape.packed_len()],
        scale: &[0.0; 16],
        bias: &[0.0; 16],
        residual: Residual::Unsigned(
            View {
                data: &residual,
                first: 0,
                pitch: 1,
            },
            1.0,
        ),
        activation: Activation::Identity,
        gain: 1.0,
    };
    let mut bytes = vec![0; out];
    conv.run(
        Isa::selected(),
        &mut Scratch::default(),
        &mut Output::Unsigned(Target::dense(&mut bytes, 1)),
    );
}

#[test]
fn buffers_may_be_exact() {
    run_with(2, 7, 5, 5);
}

#[test]
#[should_panic(expected = "halo too small")]
fn a_halo_too_small_before_is_refused() {
    run_with(1, 8, 5, 5);
}

#[test]
#[should_panic(expected = "halo too small")]
fn a_halo_too_small_behind_is_refused() {
    run_with(3, 6, 5, 5);
}

#[test]
#[should_panic(expected = "residual too small")]
fn a_residual_too_small_is_refused() {
    run_with(2, 7, 4, 5);
}

#[test]
#[should_panic(expected = "output too small")]
fn an_output_too_small_is_refused() {
    run_with(2, 7, 5, 4);
}
