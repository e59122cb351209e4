//! Norms, attention, embeddings, soft-max, pooling and non-linearities: every instruction set has
//! the bits of the reference, and the reference is close to f64.

use crate::case::Bytes;
use half::f16;
use proptest::prelude::*;
use strandline::kernels::embed::{EmbedError, Embedding, Table};
use strandline::kernels::norm::{Input, Int8Rows, LayerNorm, quantise};
use strandline::kernels::pool::{Pooling, pool};
use strandline::kernels::softmax::softmax;
use strandline::kernels::{Activation, Isa, Real};

pub fn floats(bytes: &mut Bytes, count: usize, range: f32) -> Vec<f32> {
    (0..count).map(|_| bytes.float(range)).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Runs on every instruction set and compares the bits of what comes out with the reference's,
/// which is returned.
fn same_everywhere(mut run: impl FnMut(Isa) -> Vec<f32>) -> Vec<f32> {
    let expected = run(Isa::SCALAR);
    for isa in Isa::available() {
        assert_eq!(bits(&run(isa)), bits(&expected), "{isa}");
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn non_linearities(count in 0usize..70, range in 0.1f32..200.0, seed: u64) {
        let x = floats(&mut Bytes(seed | 1), count, range);
        use Activation::{Exp, Gelu, GeluTanh, Identity, Relu, Sigmoid, Tanh};
        let real = |x: f32| Real::try_from(x).unwrap();
        let parameters = [
            Activation::Swish { rate: real(1.702) },
            Activation::Softplus,
            Activation::Mish,
            Activation::LeakyRelu { slope: real(0.1) },
            Activation::Elu { above: real(1.05), below: real(1.76), rate: real(0.9) },
            Activation::Clip { low: real(-1.0), high: real(6.0) },
            Activation::HardSigmoid { factor: real(0.2), term: real(0.5) },
            Activation::HardSwish,
        ];
        let all = [Identity, Relu, Exp, Sigmoid, Tanh, Gelu, GeluTanh];
        for activation in all.into_iter().chain(parameters) {
            same_everywhere(|isa| {
                let mut y = x.clone();
                activation.apply(isa, &mut y);
                y
            });
        }
    }

    #[test]
    fn norms(
        rows in 0usize..5,
        width in 1usize..150,
        range in 0.01f32..100.0,
        centred: bool,
        seed: u64,
    ) {
        let mut bytes = Bytes(seed | 1);
        let x = floats(&mut bytes, rows * width, range);
        let residual = floats(&mut bytes, rows * width, range);
        let gamma = floats(&mut bytes, width, 3.0);
        let beta = floats(&mut bytes, width, 3.0);
        let norm = LayerNorm { gamma: &gamma, beta: &beta, epsilon: 1e-5, centred };
        let plain = same_everywhere(|isa| {
            let mut y = vec![0.0; x.len()];
            norm.run(isa, Input::Plain(&x), Some(&mut y), None);
            y
        });
        for (row, y) in x.chunks(width).zip(plain.chunks(width)) {
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let mean = if centred { mean } else { 0.0 };
            let squares = row.iter().map(|x| (f64::from(*x) - mean).powi(2));
            let variance = squares.sum::<f64>() / width as f64;
            for (i, (x, y)) in row.iter().zip(y).enumerate() {
                let expected = (f64::from(*x) - mean) / (variance + 1e-5).sqrt()
                    * f64::from(gamma[i]) + f64::from(beta[i]);
                prop_assert!((f64::from(*y) - expected).abs() < 1e-4, "{y}, {expected}");
            }
        }
        let sum = same_everywhere(|isa| {
            let mut y = vec![0.0; x.len()];
            norm.run(isa, Input::Sum(&x, &residual), Some(&mut y), None);
            y
        });
        same_everywhere(|isa| {
            let mut stream = x.clone();
            let mut y = vec![0.0; x.len()];
            norm.run(isa, Input::Accumulate(&mut stream, &residual), Some(&mut y), None);
            assert_eq!(bits(&y), bits(&sum));
            for ((stream, x), residual) in stream.iter().zip(&x).zip(&residual) {
                assert_eq!(*stream, x + residual);
            }
            stream
        });
        // Bytes are those of the rows, alone, beside them, or made of them later.
        for isa in Isa::available() {
            let scale = range / 300.0;
            let mut float = vec![0.0; x.len()];
            let (mut alone, mut beside, mut later) =
                (vec![0; x.len()], vec![0; x.len()], vec![0; x.len()]);
            let rows = Int8Rows::Static { bytes: &mut alone, scale };
            norm.run(isa, Input::Plain(&x), None, Some(rows));
            let rows = Int8Rows::Static { bytes: &mut beside, scale };
            norm.run(isa, Input::Plain(&x), Some(&mut float), Some(rows));
            quantise(isa, &float, width, Int8Rows::Static { bytes: &mut later, scale });
            prop_assert_eq!(bits(&float), bits(&plain));
            prop_assert_eq!(&alone, &later);
            prop_assert_eq!(&beside, &later);
            for (x, byte) in plain.iter().zip(&later) {
                let expected = (x * (1.0 / scale)).clamp(-127.0, 127.0).round_ties_even();
                prop_assert_eq!(f32::from(*byte as i8), expected);
            }
            let mut own = vec![1; rows_len(x.len(), width)];
            let mut own_later = own.clone();
            norm.run(isa, Input::Plain(&x), None, Some(Int8Rows::Dynamic { bytes: &mut own }));
            quantise(isa, &float, width, Int8Rows::Dynamic { bytes: &mut own_later });
            prop_assert_eq!(&own, &own_later);
            for (y, row) in plain.chunks(width).zip(own.chunks(width + 4)) {
                let largest = y.iter().fold(0f32, |m, y| m.max(y.abs()));
                let found = f32::from_le_bytes(*row[width..].first_chunk().unwrap());
                prop_assert_eq!(found, largest / 127.0);
                for (y, byte) in y.iter().zip(row) {
                    prop_assert!((f32::from(*byte as i8) * found - y).abs() <= found * 0.5001);
                }
            }
        }
    }

    #[test]
    fn embeddings(
        count in 0usize..9, width in 1usize..60, kinds in (0usize..3, 0usize..4), seed: u64,
    ) {
        let mut bytes = Bytes(seed | 1);
        let rows = 11;
        let wide = [floats(&mut bytes, rows * width, 2.0), floats(&mut bytes, rows * width, 2.0)];
        let halves = wide.clone().map(|w| w.into_iter().map(f16::from_f32).collect::<Vec<_>>());
        let int8 = [(); 2].map(|()| {
            (0..rows * width).map(|_| ((bytes.next() % 255) as i16 - 127) as i8).collect::<Vec<_>>()
        });
        let scales = floats(&mut bytes, rows, 0.1);
        let table = |which: usize, kind: usize| match kind {
            0 => Some(Table::Int8 { values: &int8[which], scales: &scales }),
            1 => Some(Table::F16(&halves[which])),
            2 => Some(Table::F32(&wide[which])),
            _ => None,
        };
        let value = |which: usize, kind: usize, row: usize, i: usize| match kind {
            0 => f32::from(int8[which][row * width + i]) * scales[row],
            1 => halves[which][row * width + i].to_f32(),
            2 => wide[which][row * width + i],
            _ => 0.0,
        };
        let tokens = table(0, kinds.0).unwrap();
        let embedding = Embedding { width, tokens, positions: table(1, kinds.1) };
        let ids: Vec<u32> = (0..count).map(|_| (bytes.next() % rows as u64) as u32).collect();
        let out = same_everywhere(|isa| {
            let mut out = vec![0.0; count * width];
            embedding.run(isa, &ids, &mut out).unwrap();
            out
        });
        for (t, row) in out.chunks(width).enumerate() {
            for (i, y) in row.iter().enumerate() {
                let token = value(0, kinds.0, ids[t] as usize, i);
                prop_assert_eq!(*y, token + value(1, kinds.1, t, i));
            }
        }
    }

    #[test]
    fn soft_max(rows in 0usize..40, width in 1usize..70, range in 0.1f32..60.0, seed: u64) {
        let x = floats(&mut Bytes(seed | 1), rows * width, range);
        let y = same_everywhere(|isa| {
            let mut y = vec![1.0; x.len()];
            softmax(isa, &x, width, &mut y);
            y
        });
        for (x, y) in x.chunks(width).zip(y.chunks(width)) {
            let largest = x.iter().fold(f32::MIN, |a, b| a.max(*b));
            let e: Vec<f64> = x.iter().map(|x| f64::from(x - largest).exp()).collect();
            let sum: f64 = e.iter().sum();
            for (y, e) in y.iter().zip(e) {
                prop_assert!((f64::from(*y) - e / sum).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn pools(tokens in 0usize..9, width in 1usize..60, masked: bool, seed: u64) {
        let mut bytes = Bytes(seed | 1);
        let x = floats(&mut bytes, tokens * width, 9.0);
        let mask: Vec<u8> = (0..tokens).map(|_| (bytes.next() % 3) as u8).collect();
        let kept: Vec<usize> = (0..tokens).filter(|t| !masked || mask[*t] != 0).collect();
        for kind in [Pooling::Mean, Pooling::Max, Pooling::First] {
            let y = same_everywhere(|isa| {
                let mut y = vec![1.0; width];
                pool(isa, kind, &x, masked.then_some(&mask), &mut y);
                y
            });
            for (i, y) in y.iter().enumerate() {
                let mut column = kept.iter().map(|t| x[t * width + i]);
                let expected = match kind {
                    _ if kept.is_empty() => 0.0,
                    Pooling::Mean => column.sum::<f32>() / kept.len() as f32,
                    Pooling::Max => column.fold(f32::MIN, f32::max),
                    Pooling::First => column.next().unwrap(),
                };
                prop_assert_eq!(*y, expected);
            }
        }
    }
}

fn rows_len(values: usize, width: usize) -> usize {
    values / width * (width + 4)
}

#[test]
fn rows_without_magnitude_are_zeros() {
    for isa in Isa::available() {
        for x in [0.0f32, -0.0, 1e-31, -1e-40] {
            let mut bytes = vec![9; 24];
            quantise(isa, &[x; 20], 20, Int8Rows::Dynamic { bytes: &mut bytes });
            assert_eq!(bytes, [0; 24]);
        }
    }
}

#[test]
fn ids_without_a_row_are_named() {
    let table = Table::F32(&[1.0, 2.0]);
    let embedding = Embedding {
        width: 1,
        tokens: table,
        positions: Some(table),
    };
    let mut out = [5.0; 3];
    for isa in Isa::available() {
        let unknown = embedding.run(isa, &[0, 1, 2], &mut out).unwrap_err();
        let (index, id, vocabulary) = (2, 2, 2);
        let expected = EmbedError::UnknownToken {
            index,
            id,
            vocabulary,
        };
        assert_eq!(unknown, expected);
        let long = embedding.run(isa, &[0; 3], &mut out).unwrap_err();
        let (tokens, positions) = (3, 2);
        assert_eq!(long, EmbedError::TooLong { tokens, positions });
        assert_eq!(out, [5.0; 3]);
    }
}
