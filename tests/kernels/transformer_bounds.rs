//! The kernels of transformers between pages that must not be touched.

use crate::attention::{Case, SCALE};
use crate::bounds::{Flush, Guarded};
use half::f16;
use strandline::kernels::attention::{Attention, Output, Projection, Rotary};
use strandline::kernels::embed::{Embedding, Table};
use strandline::kernels::norm::{Input, Int8Rows, LayerNorm, quantise};
use strandline::kernels::pool::{Pooling, pool};
use strandline::kernels::softmax::softmax;
use strandline::kernels::{Activation, Isa, Scratch};

const WIDTHS: [usize; 9] = [1, 3, 4, 8, 15, 16, 17, 33, 64];

fn each(mut run: impl FnMut(Flush, Isa)) {
    for flush in [Flush::Start, Flush::End] {
        for isa in Isa::available() {
            run(flush, isa);
        }
    }
}

#[test]
fn rows_stay_inside() {
    each(|flush, isa| {
        for (width, rows) in WIDTHS.into_iter().flat_map(|w| [(w, 0), (w, 1), (w, 19)]) {
            let len = rows * width;
            let x = Guarded::new(&vec![1.5f32; len], flush);
            let other = Guarded::new(&vec![0.5f32; len], flush);
            let gamma = Guarded::new(&vec![1f32; width], flush);
            let beta = Guarded::new(&vec![1f32; width], flush);
            let mut out = Guarded::new(&vec![0f32; len], flush);
            let mut bytes = Guarded::new(&vec![0u8; len], flush);
            let mut own = Guarded::new(&vec![0u8; rows * (width + 4)], flush);
            let norm = LayerNorm {
                gamma: &gamma,
                beta: &beta,
                epsilon: 1e-5,
                centred: true,
            };
            let rows = Int8Rows::Static {
                bytes: &mut bytes,
                scale: SCALE,
            };
            norm.run(isa, Input::Plain(&x), Some(&mut out), Some(rows));
            let rows = Int8Rows::Dynamic { bytes: &mut own };
            norm.run(isa, Input::Sum(&x, &other), None, Some(rows));
            let input = Input::Accumulate(&mut out, &other);
            norm.run(isa, input, None, None);
            quantise(isa, &x, width, Int8Rows::Dynamic { bytes: &mut own });
            Activation::Gelu.apply(isa, &mut out);
            softmax(isa, &x, width, &mut out);
            let mask = Guarded::new(&vec![1u8; len / width], flush);
            let mut pooled = Guarded::new(&vec![0f32; width], flush);
            pool(isa, Pooling::Max, &x, Some(&mask), &mut pooled);
            pool(isa, Pooling::Mean, &x, None, &mut pooled);
        }
    });
}

#[test]
fn embeddings_stay_inside() {
    each(|flush, isa| {
        for width in WIDTHS {
            let int8 = Guarded::new(&vec![1i8; 3 * width], flush);
            let scales = Guarded::new(&[1f32; 3], flush);
            let halves = Guarded::new(&vec![f16::ONE; 3 * width], flush);
            let singles = Guarded::new(&vec![1f32; 3 * width], flush);
            let ids = Guarded::new(&[2u32, 0, 1], flush);
            let mut out = Guarded::new(&vec![0f32; 3 * width], flush);
            let tables = [
                Table::Int8 {
                    values: &int8,
                    scales: &scales,
                },
                Table::F16(&halves),
                Table::F32(&singles),
            ];
            for tokens in tables {
                let embedding = Embedding {
                    width,
                    tokens,
                    positions: Some(tokens),
                };
                embedding.run(isa, &ids, &mut out).unwrap();
                assert!(out.iter().all(|y| *y == 2.0));
            }
        }
    });
}

#[test]
fn attention_stays_inside() {
    each(|flush, isa| {
        for (tokens, width) in [1, 2, 4, 5, 7, 16, 33]
            .into_iter()
            .flat_map(|t| WIDTHS.map(|w| (t, w)))
        {
            let case = Case::new(tokens, 2, width, 3);
            // Each projection a buffer of its own, without a gap.
            let part = |which: usize| -> (Vec<u8>, Vec<u8>, Vec<f32>) {
                let pitch = 6 * width + 3;
                let from = which * 2 * width + 1;
                let (mut fixed, mut own, mut floats) = (Vec::new(), Vec::new(), Vec::new());
                for token in 0..tokens {
                    let row = token * pitch + from..token * pitch + from + 2 * width;
                    fixed.extend_from_slice(&case.bytes[row.clone()]);
                    own.extend_from_slice(&case.bytes[row.clone()]);
                    own.extend_from_slice(&SCALE.to_le_bytes());
                    floats.extend_from_slice(&case.floats[row]);
                }
                (fixed, own, floats)
            };
            let parts = [part(0), part(1), part(2)].map(|(fixed, own, floats)| {
                (
                    Guarded::new(&fixed, flush),
                    Guarded::new(&own, flush),
                    Guarded::new(&floats, flush),
                )
            });
            let mask = Guarded::new(&case.mask, flush);
            let cos = Guarded::new(&case.cos, flush);
            let sin = Guarded::new(&case.sin, flush);
            let mut float = Guarded::new(&vec![0f32; tokens * 2 * width], flush);
            let mut bytes = Guarded::new(&vec![0u8; tokens * 2 * width], flush);
            let mut own = Guarded::new(&vec![0u8; tokens * (2 * width + 4)], flush);
            let mut scratch = Scratch::default();
            for kind in 0..3 {
                let projection = |which: usize| match kind {
                    0 => Projection::Static {
                        bytes: &parts[which].0,
                        pitch: 2 * width,
                        offset: 0,
                        scale: SCALE,
                    },
                    1 => Projection::Dynamic {
                        bytes: &parts[which].1,
                        pitch: 2 * width + 4,
                        offset: 0,
                    },
                    _ => Projection::Float {
                        values: &parts[which].2,
                        pitch: 2 * width,
                        offset: 0,
                    },
                };
                let attention = Attention {
                    tokens,
                    queries: tokens,
                    heads: 2,
                    width,
                    q: projection(0),
                    k: projection(1),
                    v: projection(2),
                    scale: 0.3,
                    mask: (kind > 0).then_some(&mask[..]),
                    rotary: (kind > 0 && width % 2 == 0).then_some(Rotary {
                        cos: &cos,
                        sin: &sin,
                    }),
                };
                attention.run_float(isa, &mut scratch, &mut float);
                attention.run_int8(isa, &mut scratch, Output::Float(&mut float));
                let rows = Int8Rows::Static {
                    bytes: &mut bytes,
                    scale: SCALE,
                };
                attention.run_int8(isa, &mut scratch, Output::Int8(rows));
                let rows = Int8Rows::Dynamic { bytes: &mut own };
                attention.run_int8(isa, &mut scratch, Output::Int8(rows));
            }
        }
    });
}
