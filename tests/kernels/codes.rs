//! Base codes as rows of four channels, against sums of weights picked by code.

use crate::case::Bytes;
use proptest::prelude::*;
use strandline::kernels::{
    Activation, ConvInt8, ConvShape, Isa, Output, Residual, Rows, Scratch, Target, float, one_hot,
    padded,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_convolution_over_codes_picks_weights(
        channels_out in 1usize..40, width in 1usize..14, before in 0usize..14, dilation in 1usize..5,
        positions in 0usize..40, seed: u64,
    ) {
        let shape = ConvShape {
            width, dilation, before: before.min(width - 1), ..ConvShape::linear(4, channels_out)
        };
        let rows = Rows { halo: shape.reach(), positions };
        let lanes = padded(channels_out);
        let mut numbers = Bytes(seed | 1);
        // 4 is "no base".
        let codes: Vec<u8> = (0..positions).map(|_| numbers.below(5) as u8).collect();
        let weights = crate::case::weights(&mut numbers, shape.packed_len(), false);
        let (scale, bias) = (vec![1f32; lanes], vec![0f32; lanes]);
        let mut input = vec![0u8; rows.len(4)];
        one_hot(&codes, &mut input[rows.halo * 4..(rows.halo + positions) * 4]);
        let conv = ConvInt8 {
            shape, positions, signed_input: false, input: rows.view(&input, 4), row_scales: false,
            weights: &weights, scale: &scale, bias: &bias, residual: Residual::None, activation: Activation::Identity,
            gain: 1.0,
        };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; positions * channels_out];
            let target = Target::dense(&mut out, channels_out);
            conv.run(isa, &mut Scratch::default(), &mut Output::Float(target));
            for (i, found) in out.into_iter().enumerate() {
                let (position, channel) = (i / channels_out, i % channels_out);
                let picked = (0..width).filter_map(|tap| {
                    let at = (position + tap * dilation).checked_sub(shape.before * dilation)?;
                    let code = codes.get(at).filter(|&&code| code < 4)?;
                    Some(f32::from(weights[shape.packed_at(channel, tap, usize::from(*code))]))
                });
                prop_assert_eq!(found, picked.sum::<f32>(), "{}", isa);
            }
        }
    }
}

#[test]
fn no_base_is_a_row_of_zeros() {
    let mut bytes = [9; 24];
    one_hot(&[0, 1, 2, 3, 4, 255], &mut bytes);
    let expected = [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0; 4],
        [0; 4],
    ];
    assert_eq!(bytes, *expected.as_flattened());
    let mut floats = [9.0; 24];
    float::one_hot(&[0, 1, 2, 3, 4, 255], &mut floats);
    assert_eq!(floats, bytes.map(f32::from));
}
