//! Attention of the two transformer shapes on every instruction set of this machine. Elements are
//! multiply-accumulates of scores and values, so Gelem/s reads as GMAC/s; each result is compared
//! with the scalar reference first.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use strandline::kernels::attention::{Attention, Output, Projection, Rotary};
use strandline::kernels::norm::Int8Rows;
use strandline::kernels::{Isa, Scratch};

/// Name, tokens, heads, channels of a head.
const SHAPES: [(&str, usize, usize, usize); 4] = [
    ("100_tokens_16_heads_of_8", 100, 16, 8),
    ("50_tokens_16_heads_of_8", 50, 16, 8),
    ("512_tokens_12_heads_of_64", 512, 12, 64),
    ("128_tokens_12_heads_of_64", 128, 12, 64),
];

/// A small generator, the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention_int8");
    for (name, tokens, heads, width) in SHAPES {
        let channels = heads * width;
        let mut numbers = Numbers(7);
        let static_pitch = 3 * channels;
        let bytes: Vec<u8> = (0..tokens * static_pitch)
            .map(|_| (numbers.below(255) as i16 - 127) as i8 as u8)
            .collect();
        let mut dynamic = Vec::new();
        for row in bytes.chunks_exact(static_pitch) {
            dynamic.extend_from_slice(row);
            dynamic.extend_from_slice(&0.02f32.to_le_bytes());
        }
        let angles = || (0..tokens * width / 2).map(|i| i as f32 * 0.1);
        let cos: Vec<f32> = angles().map(f32::cos).collect();
        let sin: Vec<f32> = angles().map(f32::sin).collect();
        let fixed = |i: usize| Projection::Static {
            bytes: &bytes,
            pitch: static_pitch,
            offset: i * channels,
            scale: 0.02,
        };
        let own = |i: usize| Projection::Dynamic {
            bytes: &dynamic,
            pitch: static_pitch + 4,
            offset: i * channels,
        };
        let rotary = Some(Rotary {
            cos: &cos,
            sin: &sin,
        });
        let case = |q, k, v, rotary| Attention {
            tokens,
            queries: tokens,
            heads,
            width,
            q,
            k,
            v,
            scale: 1.0 / (width as f32).sqrt(),
            mask: None,
            rotary,
        };
        let cases = [
            ("static", case(fixed(0), fixed(1), fixed(2), None), false),
            ("dynamic_rotary", case(own(0), own(1), own(2), rotary), true),
        ];
        group.throughput(Throughput::Elements(
            (2 * tokens * tokens * channels) as u64,
        ));
        let mut scratch = Scratch::default();
        for (kind, attention, own_scales) in cases {
            let pitch = channels + if own_scales { 4 } else { 0 };
            let mut out = vec![0u8; tokens * pitch];
            let mut run = |isa, bytes: &mut [u8]| {
                let rows = if own_scales {
                    Int8Rows::Dynamic { bytes }
                } else {
                    Int8Rows::Static { bytes, scale: 0.01 }
                };
                attention.run_int8(isa, &mut scratch, Output::Int8(rows));
            };
            let mut expected = out.clone();
            run(Isa::SCALAR, &mut expected);
            for isa in Isa::available()
                .into_iter()
                .filter(|isa| *isa != Isa::SCALAR)
            {
                run(isa, &mut out);
                assert!(out == expected, "{name}, {kind}: {isa} differs");
                group.bench_function(format!("{name}/{kind}/{isa}"), |b| {
                    b.iter(|| run(isa, &mut out));
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = attention
}
criterion_main!(benches);
