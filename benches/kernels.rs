//! The convolutions of the built-in models on every instruction set of this machine. Elements are multiply-accumulates,
//! so Gelem/s reads as GMAC/s; each result is compared with the scalar reference first.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use std::time::Duration;
use strandline::kernels::float::{self, ConvFloat, Weights};
use strandline::kernels::pool::{self, DenseWeights};
use strandline::kernels::table::ConvCodes;
use strandline::kernels::{ConvInt8, ConvShape, Isa, Output, Rows, padded};

/// Positions of a tile of the scanning models.
const POSITIONS: usize = 8192;

/// Positions of the longest 5'UTR.
const UTR: usize = 102;

/// `channels_in` to `channels_out`, centred.
const fn shape(
    channels_in: usize,
    channels_out: usize,
    width: usize,
    dilation: usize,
) -> ConvShape {
    ConvShape {
        channels_in,
        channels_out,
        width,
        dilation,
        before: width / 2,
    }
}

/// Hidden layers and heads: name, shape, positions. A hidden layer has a residual, a head writes floats.
const INT8: [(&str, ConvShape, usize, bool); 5] = [
    ("16_to_16_width_7", shape(16, 16, 7, 1), POSITIONS, true),
    (
        "16_to_16_width_7_dilated",
        shape(16, 16, 7, 180),
        POSITIONS,
        true,
    ),
    (
        "16_to_2_width_17_head",
        shape(16, 2, 17, 1),
        POSITIONS,
        false,
    ),
    ("16_to_1_width_1_head", shape(16, 1, 1, 1), POSITIONS, false),
    ("64_to_64_width_7", shape(64, 64, 7, 1), UTR, true),
];

/// First layers, which read base codes.
const CODES: [(&str, ConvShape, usize); 3] = [
    ("to_16_width_7", shape(4, 16, 7, 1), POSITIONS),
    ("to_16_width_15", shape(4, 16, 15, 1), POSITIONS),
    ("to_64_width_7", shape(4, 64, 7, 1), UTR),
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

    fn weight(&mut self) -> i8 {
        (self.below(255) as i16 - 127) as i8
    }

    fn float(&mut self, scale: f32) -> f32 {
        (self.below(1 << 24) as f32 / (1u64 << 24) as f32 - 0.5) * scale
    }
}

fn macs(shape: &ConvShape, positions: usize) -> Throughput {
    let one = shape.channels_in * shape.channels_out * shape.width;
    Throughput::Elements((one * positions) as u64)
}

/// Seven-bit rows with zeros in the halo.
fn rows_of(numbers: &mut Numbers, rows: Rows, channels: usize) -> Vec<u8> {
    let mut bytes = vec![0; rows.len(channels)];
    let data = rows.halo * channels..(rows.halo + rows.positions) * channels;
    bytes[data].fill_with(|| numbers.below(128) as u8);
    bytes
}

fn int8(group: &mut BenchmarkGroup<WallTime>) {
    for (name, shape, positions, hidden) in INT8 {
        let mut numbers = Numbers(1);
        let halo = shape.reach();
        let rows = Rows { halo, positions };
        let lanes = padded(shape.channels_out);
        let input = rows_of(&mut numbers, rows, shape.channels_in);
        let residual = rows_of(&mut numbers, rows, shape.channels_out);
        let weights: Vec<i8> = (0..shape.packed_len()).map(|_| numbers.weight()).collect();
        let scale: Vec<f32> = (0..lanes).map(|_| numbers.float(1e-3)).collect();
        let bias: Vec<f32> = (0..lanes).map(|_| numbers.float(100.0)).collect();
        let conv = ConvInt8 {
            shape,
            rows,
            signed_input: false,
            input: &input,
            weights: &weights,
            scale: &scale,
            bias: &bias,
            residual: hidden.then_some((&residual[..], 0.5)),
        };
        let mut bytes = vec![0u8; rows.len(shape.channels_out)];
        let mut floats = vec![0f32; positions * shape.channels_out];
        let run = |isa: Isa, bytes: &mut [u8], floats: &mut [f32]| {
            conv.run(
                isa,
                &mut match hidden {
                    true => Output::Unsigned(bytes),
                    false => Output::Float {
                        out: floats,
                        relu: false,
                    },
                },
            );
        };
        run(Isa::Scalar, &mut bytes, &mut floats);
        let expected = (bytes.clone(), floats.clone());
        assert!(bytes.iter().any(|&b| b > 0) || floats.iter().any(|&x| x != 0.0));
        group.throughput(macs(&shape, positions));
        for isa in Isa::available() {
            bytes.fill(0);
            floats.fill(0.0);
            run(isa, &mut bytes, &mut floats);
            assert!((&bytes, &floats) == (&expected.0, &expected.1), "{isa}");
            group.bench_function(format!("int8/{name}/{isa}"), |b| {
                b.iter(|| run(isa, &mut bytes, &mut floats));
            });
        }
    }
}

fn codes(group: &mut BenchmarkGroup<WallTime>) {
    for (name, shape, positions) in CODES {
        let mut numbers = Numbers(2);
        let rows = Rows { halo: 3, positions };
        let lanes = padded(shape.channels_out);
        let codes: Vec<u8> = (0..positions).map(|_| numbers.below(4) as u8).collect();
        let length = ConvCodes::table_len(&shape);
        let table: Vec<i8> = (0..length).map(|_| numbers.weight()).collect();
        let scale: Vec<f32> = (0..lanes).map(|_| numbers.float(0.2)).collect();
        let bias: Vec<f32> = (0..lanes).map(|_| numbers.float(100.0)).collect();
        let conv = ConvCodes {
            shape,
            rows,
            codes: &codes,
            table: &table,
            scale: &scale,
            bias: &bias,
        };
        let mut out = vec![0u8; rows.len(shape.channels_out)];
        conv.run(Isa::Scalar, &mut Output::Unsigned(&mut out));
        let expected = out.clone();
        assert!(out.iter().any(|&b| b > 0));
        group.throughput(macs(&shape, positions));
        for isa in Isa::available() {
            out.fill(0);
            conv.run(isa, &mut Output::Unsigned(&mut out));
            assert!(out == expected, "{isa}");
            group.bench_function(format!("codes/{name}/{isa}"), |b| {
                b.iter(|| conv.run(isa, &mut Output::Unsigned(&mut out)));
            });
        }
    }
}

fn floats(group: &mut BenchmarkGroup<WallTime>) {
    let shape = shape(16, 16, 7, 1);
    let mut numbers = Numbers(3);
    let halo = shape.reach();
    let rows = Rows {
        halo,
        positions: POSITIONS,
    };
    let input: Vec<f32> = (0..rows.len(16)).map(|_| numbers.float(1.0)).collect();
    let halves: Vec<f16> = (0..shape.packed_len())
        .map(|_| f16::from_f32(numbers.float(1.0)))
        .collect();
    let singles: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
    let bias: Vec<f32> = (0..16).map(|_| numbers.float(1.0)).collect();
    let mut expected = vec![0f32; POSITIONS * 16];
    let weights = [
        ("f32", Weights::F32(&singles)),
        ("fp16", Weights::F16(&halves)),
    ];
    group.throughput(macs(&shape, POSITIONS));
    for (precision, weights) in weights {
        let conv = ConvFloat {
            shape,
            rows,
            input: &input,
            weights,
            bias: &bias,
            residual: None,
            relu: true,
        };
        if precision == "f32" {
            conv.run(Isa::Scalar, &mut expected, false);
        }
        let mut out = vec![0f32; POSITIONS * 16];
        for isa in Isa::available() {
            conv.run(isa, &mut out, false);
            // Fused multiply-adds are allowed here, so the last bits may differ.
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
            assert!(out.iter().zip(&expected).all(close), "{isa}");
            group.bench_function(format!("{precision}/16_to_16_width_7/{isa}"), |b| {
                b.iter(|| conv.run(isa, &mut out, false));
            });
        }
    }
    let codes: Vec<u8> = (0..POSITIONS).map(|_| numbers.below(4) as u8).collect();
    let first = ConvShape {
        channels_in: 4,
        width: 11,
        before: 5,
        ..shape
    };
    let table: Vec<f32> = (0..11 * 4 * 16).map(|_| numbers.float(1.0)).collect();
    let mut out = vec![0f32; POSITIONS * 16];
    let run = |out: &mut [f32]| {
        float::conv_codes(&first, &codes, Weights::F32(&table), &bias, true, out, 0);
    };
    run(&mut out);
    // One position by hand.
    let own = |c: usize| {
        let taps = (0..11).map(|tap| {
            let code = usize::from(codes[100 + tap - 5]);
            table[(tap * 4 + code) * 16 + c]
        });
        (bias[c] + taps.sum::<f32>()).max(0.0)
    };
    assert!((0..16).all(|c| (out[100 * 16 + c] - own(c)).abs() < 1e-4));
    group.throughput(macs(&first, POSITIONS));
    group.bench_function("f32_codes/to_16_width_11", |b| b.iter(|| run(&mut out)));
}

/// What stands behind the pool of a 5'UTR; it knows no instruction sets.
fn dense(group: &mut BenchmarkGroup<WallTime>) {
    const INPUTS: usize = 384;
    const OUTPUTS: usize = 64;
    let mut numbers = Numbers(4);
    let input: Vec<f32> = (0..INPUTS).map(|_| numbers.float(1.0)).collect();
    let weights: Vec<f16> = (0..INPUTS * OUTPUTS)
        .map(|_| f16::from_f32(numbers.float(1.0)))
        .collect();
    let bias: Vec<f32> = (0..OUTPUTS).map(|_| numbers.float(1.0)).collect();
    let mut out = vec![0f32; OUTPUTS];
    let run = |out: &mut [f32]| pool::dense(&input, DenseWeights::F16(&weights), &bias, false, out);
    run(&mut out);
    for (o, y) in out.iter().enumerate() {
        let products = input.iter().zip(weights[o..].iter().step_by(OUTPUTS));
        let expected: f32 = products.map(|(x, w)| x * w.to_f32()).sum();
        assert!((y - bias[o] - expected).abs() < 1e-4);
    }
    group.throughput(Throughput::Elements((INPUTS * OUTPUTS) as u64));
    group.bench_function("fp16/dense_384_to_64", |b| b.iter(|| run(&mut out)));
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    int8(&mut group);
    codes(&mut group);
    floats(&mut group);
    dense(&mut group);
    group.finish();
}

criterion_group! {
    name = kernel_benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = benches
}
criterion_main!(kernel_benches);
