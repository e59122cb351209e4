//! Layers of the built-in and benchmark models on every instruction set of this machine, and beside
//! them the peak of each set: its multiply-accumulates on registers alone. Elements are
//! multiply-accumulates, so Gelem/s reads as GMAC/s; each result is compared with the scalar
//! reference first.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use std::time::Duration;
use strandline::kernels::dense;
use strandline::kernels::float::{ConvFloat, Weights};
use strandline::kernels::peak;
use strandline::kernels::{
    Activation, ConvInt8, ConvShape, Isa, Output, Residual, Rows, Scratch, Target, one_hot, padded,
};

/// Positions of a tile of the scanning models.
const POSITIONS: usize = 8192;

/// Positions of the longest 5'UTR.
const UTR: usize = 102;

/// Tokens of a batch of a transformer.
const TOKENS: usize = 128;

/// The scalar reference is timed on layers of at most this many multiply-accumulates.
const SCALAR: u64 = 20_000_000;

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
        stride: 1,
    }
}

/// Eight positions of a head of 2 outputs and 17 taps as 16 channels of one.
const HEAD: ConvShape = ConvShape {
    before: 8,
    stride: 8,
    ..shape(16, 16, 24, 1)
};

/// What a layer reads beside its weights, and what it writes.
#[derive(Clone, Copy, PartialEq)]
enum Layer {
    /// Base codes, to unsigned rows.
    Codes,
    /// Unsigned rows, to unsigned rows.
    Hidden,
    /// The same with an unsigned residual.
    Residual,
    /// Unsigned rows, to floats.
    Floats,
    /// Signed rows with a scale each, to floats.
    Tokens,
    /// Signed rows with a scale each, through a GELU to signed rows.
    Gelu,
}

const INT8: [(&str, ConvShape, usize, Layer); 15] = [
    (
        "codes_to_16_width_7",
        shape(4, 16, 7, 1),
        POSITIONS,
        Layer::Codes,
    ),
    (
        "codes_to_16_width_11",
        shape(4, 16, 11, 1),
        POSITIONS,
        Layer::Codes,
    ),
    (
        "16_to_16_width_7",
        shape(16, 16, 7, 1),
        POSITIONS,
        Layer::Hidden,
    ),
    (
        "16_to_16_width_7_residual",
        shape(16, 16, 7, 1),
        POSITIONS,
        Layer::Residual,
    ),
    (
        "16_to_16_width_7_dilated",
        shape(16, 16, 7, 180),
        POSITIONS,
        Layer::Residual,
    ),
    (
        "16_to_2_width_17_by_eights",
        HEAD,
        POSITIONS / 8,
        Layer::Floats,
    ),
    (
        "16_to_1_width_1",
        shape(16, 1, 1, 1),
        POSITIONS,
        Layer::Floats,
    ),
    (
        "32_to_32_width_11_residual",
        shape(32, 32, 11, 1),
        POSITIONS,
        Layer::Residual,
    ),
    ("codes_to_64_width_7", shape(4, 64, 7, 1), UTR, Layer::Codes),
    (
        "64_to_64_width_7_residual",
        shape(64, 64, 7, 1),
        UTR,
        Layer::Residual,
    ),
    (
        "linear_128_to_384",
        shape(128, 384, 1, 1),
        TOKENS,
        Layer::Tokens,
    ),
    (
        "linear_768_to_768",
        shape(768, 768, 1, 1),
        TOKENS,
        Layer::Tokens,
    ),
    (
        "linear_768_to_3072",
        shape(768, 3072, 1, 1),
        TOKENS,
        Layer::Tokens,
    ),
    (
        "linear_768_to_3072_gelu",
        shape(768, 3072, 1, 1),
        TOKENS,
        Layer::Gelu,
    ),
    (
        "linear_3072_to_768",
        shape(3072, 768, 1, 1),
        TOKENS,
        Layer::Tokens,
    ),
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

    fn signed(&mut self) -> i8 {
        (self.below(129) as i16 - 64) as i8
    }

    fn float(&mut self, scale: f32) -> f32 {
        (self.below(1 << 24) as f32 / (1u64 << 24) as f32 - 0.5) * scale
    }

    fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(scale)).collect()
    }
}

fn macs(shape: &ConvShape, positions: usize) -> u64 {
    (shape.channels_in * shape.channels_out * shape.width * positions) as u64
}

fn peaks(group: &mut BenchmarkGroup<WallTime>) {
    for isa in Isa::available() {
        for (name, kernel) in [("peak", peak::int8(isa)), ("peak_f32", peak::f32(isa))] {
            let Some(peak) = kernel else { continue };
            assert_eq!(peak.run() as u64, peak.macs(), "{isa}");
            group.throughput(Throughput::Elements(peak.macs()));
            group.bench_function(format!("{name}/{isa}"), |b| b.iter(|| peak.run()));
        }
    }
}

fn int8(group: &mut BenchmarkGroup<WallTime>) {
    for (name, shape, positions, layer) in INT8 {
        let mut numbers = Numbers(1);
        let tokens = matches!(layer, Layer::Tokens | Layer::Gelu);
        let rows = Rows {
            halo: shape.reach(),
            positions: positions * shape.stride,
        };
        let pitch = shape.channels_in + if tokens { 4 } else { 0 };
        let mut input = vec![0u8; rows.len(pitch)];
        let data = &mut input[rows.halo * pitch..(rows.halo + rows.positions) * pitch];
        match layer {
            Layer::Codes => {
                let codes: Vec<u8> = (0..positions).map(|_| numbers.below(4) as u8).collect();
                one_hot(&codes, data);
            }
            Layer::Tokens | Layer::Gelu => {
                for row in data.chunks_exact_mut(pitch) {
                    let (values, scale) = row.split_at_mut(shape.channels_in);
                    values.fill_with(|| numbers.signed() as u8);
                    scale.copy_from_slice(&(0.02 + numbers.float(0.02)).to_le_bytes());
                }
            }
            _ => data.fill_with(|| numbers.below(256) as u8),
        }
        let channels = shape.channels_out;
        let added: Vec<u8> = (0..positions * channels)
            .map(|_| numbers.below(256) as u8)
            .collect();
        let weights: Vec<i8> = (0..shape.packed_len()).map(|_| numbers.signed()).collect();
        let scale = numbers.floats(
            padded(channels),
            if layer == Layer::Codes { 1.0 } else { 1e-3 },
        );
        let bias = numbers.floats(padded(channels), 100.0);
        let out_rows = Rows { halo: 0, positions };
        let conv = ConvInt8 {
            shape,
            positions,
            signed_input: tokens,
            input: rows.view(&input, pitch),
            row_scales: tokens,
            weights: &weights,
            scale: &scale,
            bias: &bias,
            residual: match layer {
                Layer::Residual => Residual::Unsigned(out_rows.view(&added, channels), 0.5),
                _ => Residual::None,
            },
            activation: match layer {
                Layer::Gelu => Activation::Gelu,
                _ => Activation::Identity,
            },
            gain: 0.5,
        };
        let mut bytes = vec![0u8; positions * channels];
        let mut floats = vec![0f32; positions * channels];
        let mut scratch = Scratch::default();
        let mut run = |isa: Isa, bytes: &mut [u8], floats: &mut [f32]| {
            let mut out = match layer {
                Layer::Floats | Layer::Tokens => Output::Float(Target::dense(floats, channels)),
                Layer::Gelu => Output::Signed(Target::dense(bytes, channels)),
                _ => Output::Unsigned(Target::dense(bytes, channels)),
            };
            conv.run(isa, &mut scratch, &mut out);
        };
        run(Isa::SCALAR, &mut bytes, &mut floats);
        let expected = (bytes.clone(), floats.clone());
        assert!(bytes.iter().any(|&b| b > 0) || floats.iter().any(|&x| x != 0.0));
        group.throughput(Throughput::Elements(macs(&shape, positions)));
        for isa in Isa::available() {
            bytes.fill(0);
            floats.fill(0.0);
            run(isa, &mut bytes, &mut floats);
            assert!((&bytes, &floats) == (&expected.0, &expected.1), "{isa}");
            if isa == Isa::SCALAR && macs(&shape, positions) > SCALAR {
                continue;
            }
            group.bench_function(format!("int8/{name}/{isa}"), |b| {
                b.iter(|| run(isa, &mut bytes, &mut floats));
            });
        }
    }
}

fn floats(group: &mut BenchmarkGroup<WallTime>) {
    for (name, shape, positions) in [
        ("codes_to_16_width_11", shape(4, 16, 11, 1), POSITIONS),
        ("16_to_16_width_7", shape(16, 16, 7, 1), POSITIONS),
        ("32_to_32_width_11", shape(32, 32, 11, 1), POSITIONS),
        ("64_to_64_width_7", shape(64, 64, 7, 1), UTR),
        ("linear_768_to_768", ConvShape::linear(768, 768), TOKENS),
    ] {
        let mut numbers = Numbers(3);
        let rows = Rows {
            halo: shape.reach(),
            positions,
        };
        let input = numbers.floats(rows.len(shape.channels_in), 1.0);
        let halves: Vec<f16> = (0..shape.packed_len())
            .map(|_| f16::from_f32(numbers.float(1.0)))
            .collect();
        let singles: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
        let bias = numbers.floats(padded(shape.channels_out), 1.0);
        let mut expected = vec![0f32; positions * shape.channels_out];
        let weights = [
            ("f32", Weights::F32(&singles), 0.0),
            // fp16 sums, where there are any.
            ("fp16", Weights::F16(&halves), 0.1),
        ];
        group.throughput(Throughput::Elements(macs(&shape, positions)));
        for (precision, weights, error) in weights {
            let conv = ConvFloat {
                shape,
                positions,
                input: rows.view(&input, shape.channels_in),
                weights,
                bias: &bias,
                residual: None,
                activation: Activation::Relu,
            };
            if precision == "f32" {
                let out = &mut Target::dense(&mut expected, shape.channels_out);
                conv.run(Isa::SCALAR, out);
            }
            let mut out = vec![0f32; positions * shape.channels_out];
            for isa in Isa::available() {
                conv.run(isa, &mut Target::dense(&mut out, shape.channels_out));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= error;
                assert!(out.iter().zip(&expected).all(close), "{isa}");
                if isa == Isa::SCALAR && macs(&shape, positions) > SCALAR {
                    continue;
                }
                group.bench_function(format!("{precision}/{name}/{isa}"), |b| {
                    b.iter(|| conv.run(isa, &mut Target::dense(&mut out, shape.channels_out)));
                });
            }
        }
    }
}

/// What stands behind the pool of a 5'UTR.
fn dense(group: &mut BenchmarkGroup<WallTime>) {
    const INPUTS: usize = 384;
    const OUTPUTS: usize = 64;
    let mut numbers = Numbers(4);
    let input = numbers.floats(INPUTS, 1.0);
    let weights: Vec<f16> = (0..INPUTS * OUTPUTS)
        .map(|_| f16::from_f32(numbers.float(1.0)))
        .collect();
    let bias = numbers.floats(OUTPUTS, 1.0);
    let mut out = vec![0f32; OUTPUTS];
    let mut expected = vec![0f32; OUTPUTS];
    let weights = Weights::F16(&weights);
    dense::dense(
        Isa::SCALAR,
        &input,
        weights,
        &bias,
        Activation::Identity,
        &mut expected,
    );
    assert!(expected.iter().any(|&x| x != 0.0));
    group.throughput(Throughput::Elements((INPUTS * OUTPUTS) as u64));
    for isa in Isa::available() {
        dense::dense(isa, &input, weights, &bias, Activation::Identity, &mut out);
        assert!(out == expected, "{isa}");
        group.bench_function(format!("fp16/dense_384_to_64/{isa}"), |b| {
            b.iter(|| dense::dense(isa, &input, weights, &bias, Activation::Identity, &mut out));
        });
    }
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    peaks(&mut group);
    int8(&mut group);
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
