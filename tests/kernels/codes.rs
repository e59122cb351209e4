//! The table of the first layer against the convolution it stands for.

use crate::case::{Bytes, every_output};
use half::f16;
use proptest::prelude::*;
use strandline::kernels::float::{ConvFloat, Weights, conv_codes};
use strandline::kernels::table::{CODES, ConvCodes};
use strandline::kernels::{ConvInt8, ConvShape, Isa, Rows, padded};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn table_rows_are_a_convolution_over_one_hot_columns(
        channels_out in 1usize..40, width in 1usize..14, before in 0usize..14, dilation in 1usize..5,
        positions in 0usize..40, seed: u64,
    ) {
        let shape = ConvShape {
            channels_in: 4, channels_out, width, dilation, before: before.min(width - 1),
        };
        let rows = Rows { halo: shape.reach(), positions };
        let lanes = padded(channels_out);
        let mut bytes = Bytes(seed | 1);
        let codes: Vec<u8> = (0..positions).map(|_| (bytes.next() % 5) as u8).collect();
        let weights: Vec<i8> = (0..shape.packed_len()).map(|_| match bytes.next() % 3 {
            0 => 127,
            1 => -127,
            _ => ((bytes.next() % 255) as i16 - 127) as i8,
        }).collect();
        let scale: Vec<f32> = (0..lanes).map(|_| bytes.float(0.2)).collect();
        let bias: Vec<f32> = (0..lanes).map(|_| bytes.float(100.0)).collect();

        let mut input = vec![0u8; rows.len(4)];
        for (i, &code) in codes.iter().enumerate() {
            if code < 4 {
                input[(rows.halo + i) * 4 + usize::from(code)] = 1;
            }
        }
        let mut table = vec![0i8; ConvCodes::table_len(&shape)];
        for tap in 0..width {
            for channel in 0..lanes {
                for code in 0..4 {
                    table[(tap * CODES + code) * lanes + channel] =
                        weights[(tap * lanes + channel) * 4 + code];
                }
            }
        }
        let one_hot = ConvInt8 {
            shape, rows, signed_input: false, input: &input, weights: &weights,
            scale: &scale, bias: &bias, residual: None,
        };
        let by_table =
            ConvCodes { shape, rows, codes: &codes, table: &table, scale: &scale, bias: &bias };
        let expected = every_output(shape, rows, |out| one_hot.run(Isa::Scalar, out));
        for isa in Isa::available() {
            let found = every_output(shape, rows, |out| by_table.run(isa, out));
            prop_assert_eq!(&found, &expected, "{}", isa);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn float_weight_rows_are_a_float_convolution_over_one_hot_columns(
        channels_out in 1usize..40, width in 1usize..14, before in 0usize..14, dilation in 1usize..5,
        positions in 0usize..40, relu: bool, half: bool, seed: u64,
    ) {
        let shape = ConvShape {
            channels_in: 4, channels_out, width, dilation, before: before.min(width - 1),
        };
        let rows = Rows { halo: shape.reach(), positions };
        let mut bytes = Bytes(seed | 1);
        let codes: Vec<u8> = (0..positions).map(|_| (bytes.next() % 5) as u8).collect();
        let singles: Vec<f32> = (0..shape.packed_len()).map(|_| bytes.float(2.0)).collect();
        let halves: Vec<f16> = singles.iter().map(|&w| f16::from_f32(w)).collect();
        let weights = if half { Weights::F16(&halves) } else { Weights::F32(&singles) };
        let bias: Vec<f32> = (0..padded(channels_out)).map(|_| bytes.float(2.0)).collect();
        let mut input = vec![0f32; rows.len(4)];
        for (i, &code) in codes.iter().enumerate() {
            if code < 4 {
                input[(rows.halo + i) * 4 + usize::from(code)] = 1.0;
            }
        }
        let one_hot =
            ConvFloat { shape, rows, input: &input, weights, bias: &bias, residual: None, relu };
        let mut expected = vec![0f32; positions * channels_out];
        one_hot.run(Isa::Scalar, &mut expected, false);
        let mut found = vec![f32::NAN; (positions + 1) * channels_out];
        conv_codes(&shape, &codes, weights, &bias, relu, &mut found, 1);
        prop_assert!(found[..channels_out].iter().all(|x| x.is_nan()));
        // Adding 0 · w changes no sum, so the two agree exactly.
        prop_assert_eq!(&found[channels_out..], &expected[..]);
    }
}
