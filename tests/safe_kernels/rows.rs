//! Kernels of single rows: embedding, norms, pooling, soft-max and activations, of any size.

use crate::{ABSURD, returns, sizes, wrapped};
use half::f16;
use proptest::prelude::*;
use strandline::kernels::affine::{Affine, Sink, Source};
use strandline::kernels::embed::{EmbedError, Embedding, Table};
use strandline::kernels::norm::{Input, Int8Rows, LayerNorm, quantise};
use strandline::kernels::pool::{Pooling, frames_float, frames_unsigned, pool};
use strandline::kernels::softmax::softmax;
use strandline::kernels::{Activation, Isa, Rows};

/// True where `len` values are whole rows of `width`.
fn whole(len: usize, width: usize) -> bool {
    width > 0 && len.is_multiple_of(width)
}

#[test]
fn a_width_that_wraps_is_refused() {
    for width in ABSURD {
        for isa in Isa::available() {
            // No rows are whole rows of any width; one value is none.
            assert!(returns(|| softmax(isa, &[], width, &mut [])));
            assert!(!returns(|| softmax(isa, &[1.0], width, &mut [0.0])));
            let embedding = Embedding {
                width,
                tokens: Table::F16(&[f16::ONE; 4]),
                positions: None,
            };
            let ids = [0; 16];
            let mut out = vec![0.0; wrapped(&[ids.len(), width])];
            assert!(!returns(|| embedding.run(isa, &ids, &mut out)));
            let table = Table::Int8 {
                values: &[],
                scales: &[1.0; 16],
            };
            let embedding = Embedding {
                tokens: table,
                ..embedding
            };
            assert!(!returns(|| embedding.run(isa, &ids, &mut out)));
        }
        let rows = Rows {
            halo: width,
            positions: 3,
        };
        for channels in [4, width] {
            let input = vec![1; wrapped(&[3usize.wrapping_add(width.wrapping_mul(2)), channels])];
            let mut out = vec![0.0; wrapped(&[6, channels])];
            assert!(!returns(|| frames_unsigned(
                &input, rows, channels, 1.0, &mut out
            )));
            let positions = width / 3 * 3;
            let input = vec![1.0; wrapped(&[positions, channels])];
            assert!(!returns(|| frames_float(
                &input, positions, channels, &mut out
            )));
        }
    }
}

#[test]
fn ids_beyond_the_table_are_an_error() {
    let embedding = Embedding {
        width: 2,
        tokens: Table::F32(&[1.0; 6]),
        positions: Some(Table::F32(&[1.0; 4])),
    };
    for isa in Isa::available() {
        let found = embedding.run(isa, &[u32::MAX], &mut [0.0; 2]);
        assert!(matches!(found, Err(EmbedError::UnknownToken { .. })));
        let found = embedding.run(isa, &[0; 3], &mut [0.0; 6]);
        assert!(matches!(found, Err(EmbedError::TooLong { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_size(
        width in sizes(), lens in proptest::collection::vec(0usize..80, 4), other in 0usize..20,
    ) {
        let x = vec![1.0; lens[0]];
        let constants = vec![1.0; other];
        let norm = LayerNorm { gamma: &constants, beta: &constants, epsilon: 1e-5, centred: true };
        let affine = || Affine {
            factor: &constants,
            term: &constants,
            activation: Activation::Sigmoid,
            gain: 2.0,
            source: Source::Float(&x),
        };
        for isa in Isa::available() {
            let mut out = vec![0.0; lens[1]];
            let fits = whole(x.len(), width) && x.len() == out.len();
            prop_assert_eq!(returns(|| softmax(isa, &x, width, &mut out)), fits);

            let mut bytes = vec![0; lens[2]];
            let rows = x.len().checked_div(width).unwrap_or(0);
            let own = rows as u128 * (width as u128 + 4);
            let rows = Int8Rows::Static { bytes: &mut bytes, scale: 1.0 };
            let fits = whole(x.len(), width) && x.len() == lens[2];
            prop_assert_eq!(returns(|| quantise(isa, &x, width, rows)), fits);
            let rows = Int8Rows::Dynamic { bytes: &mut bytes };
            let counted = width.checked_add(4).is_some();
            let fits = whole(x.len(), width) && counted && own == lens[2] as u128;
            prop_assert_eq!(returns(|| quantise(isa, &x, width, rows)), fits);

            let fits = whole(x.len(), other) && x.len() == out.len();
            let returned = returns(|| norm.run(isa, Input::Plain(&x), Some(&mut out), None));
            prop_assert_eq!(returned, fits);
            let second = vec![1.0; lens[3]];
            let both = whole(x.len(), other) && x.len() == second.len();
            prop_assert_eq!(returns(|| norm.run(isa, Input::Sum(&x, &second), None, None)), both);

            prop_assert_eq!(returns(|| affine().run(isa, Sink::Float(&mut out))), fits);
            let fits = whole(x.len(), other) && x.len() == bytes.len();
            prop_assert_eq!(returns(|| affine().run(isa, Sink::Unsigned(&mut bytes))), fits);

            let mask = vec![1; lens[3]];
            for kind in [Pooling::Mean, Pooling::Max, Pooling::First] {
                let fits = whole(x.len(), out.len()) && mask.len() == x.len() / out.len();
                let returned = returns(|| pool(isa, kind, &x, Some(&mask), &mut out));
                prop_assert_eq!(returned, fits);
            }
            Activation::Gelu.apply(isa, &mut out);
        }
    }

    #[test]
    fn embeddings_of_any_size(
        width in sizes(), ids in proptest::collection::vec(0u32..5, 0..6), wrap: bool,
        lens in proptest::collection::vec(0usize..40, 3),
    ) {
        let len = if wrap { wrapped(&[ids.len(), width]) } else { lens[0] };
        let (values, scales) = (vec![1; lens[1]], vec![1.0; lens[2]]);
        let embedding = Embedding {
            width,
            tokens: Table::Int8 { values: &values, scales: &scales },
            positions: None,
        };
        let fits = width > 0
            && ids.len() as u128 * width as u128 == len as u128
            && scales.len() as u128 * width as u128 == values.len() as u128;
        for isa in Isa::available() {
            let mut out = vec![0.0; len];
            let mut result = Ok(());
            prop_assert_eq!(returns(|| result = embedding.run(isa, &ids, &mut out)), fits);
            let known = ids.iter().all(|id| (*id as usize) < scales.len());
            prop_assert!(!fits || result.is_ok() == known);
        }
    }

    #[test]
    fn frames_of_any_size(
        all in proptest::collection::vec(sizes(), 3), wrap: bool,
        lens in proptest::collection::vec(0usize..200, 2),
    ) {
        let [halo, positions, channels] = [all[0], all[1], all[2]];
        let rows = Rows { halo, positions };
        let (mut input_len, mut out_len) = (lens[0], lens[1]);
        if wrap {
            let all = positions.wrapping_add(halo.wrapping_mul(2));
            input_len = wrapped(&[all, channels]);
            out_len = wrapped(&[6, channels]);
        }
        let out_fits = channels > 0
            && positions > 0
            && positions.is_multiple_of(3)
            && 6 * channels as u128 == out_len as u128;
        let mut out = vec![0.0; out_len];
        let all = (positions as u128 + 2 * halo as u128).saturating_mul(channels as u128);
        let fits = out_fits && all == input_len as u128;
        let input = vec![1; input_len];
        let returned = returns(|| frames_unsigned(&input, rows, channels, 1.0, &mut out));
        prop_assert_eq!(returned, fits);
        let fits = out_fits && positions as u128 * channels as u128 == input_len as u128;
        let input = vec![1.0; input_len];
        prop_assert_eq!(returns(|| frames_float(&input, positions, channels, &mut out)), fits);
    }
}
