//! What the fused operators compute, in plain arithmetic.

use crate::kernels::{Activation, Real};

pub fn layer_norm(
    row: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    centred: bool,
    out: &mut [f32],
) {
    let count = row.len() as f32;
    let mean = if centred {
        row.iter().sum::<f32>() / count
    } else {
        0.0
    };
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    let factor = 1.0 / (variance + epsilon).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        *out = (row[i] - mean) * factor * gamma[i] + beta[i];
    }
}

/// `x Φ(x)`, the error function by the rational approximation 7.1.26 of Abramowitz and Stegun in
/// f64, off by 1.5e-7 at most.
pub fn gelu(x: f32) -> f32 {
    let z = f64::from(x).abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = ((((1.061_405_429 * t - 1.453_152_027) * t + 1.421_413_741) * t - 0.284_496_736)
        * t
        + 0.254_829_592)
        * t;
    let erf = (1.0 - poly * (-z * z).exp()).copysign(f64::from(x));
    (0.5 * f64::from(x) * (1.0 + erf)) as f32
}

pub fn gelu_tanh(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// A function of one value, by its definition.
pub fn apply(function: Activation, x: f64) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = x.max(0.0) + (-x.abs()).exp().ln_1p();
    let of = |x: Real| f64::from(x.get());
    match function {
        Activation::Identity => x,
        Activation::Relu | Activation::ReluFirst => x.max(0.0),
        Activation::Gelu => f64::from(gelu(x as f32)),
        Activation::GeluTanh => f64::from(gelu_tanh(x as f32)),
        Activation::Sigmoid => logistic(x),
        Activation::Tanh => x.tanh(),
        Activation::Swish { rate } => x * logistic(x * of(rate)),
        Activation::Softplus => softplus,
        Activation::Mish => x * softplus.tanh(),
        Activation::LeakyRelu { slope } if x < 0.0 => x * of(slope),
        Activation::LeakyRelu { .. } => x,
        Activation::Elu { below, rate, .. } if x < 0.0 => (x * of(rate)).exp_m1() * of(below),
        Activation::Elu { above, .. } => x * of(above),
        Activation::Clip { low, high } => x.max(of(low)).min(of(high)),
        Activation::HardSigmoid { factor, term } => (x * of(factor) + of(term)).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Exp => x.exp(),
    }
}

/// Turns the halves of each head of each row against each other by its position.
pub fn rotate(x: &mut [f32], width: usize, heads: usize, base: f32) {
    let size = width / heads;
    let half = size / 2;
    for (t, row) in x.chunks_mut(width).enumerate() {
        for head in row.chunks_mut(size) {
            for j in 0..half {
                let angle = t as f32 * base.powf(-2.0 * j as f32 / size as f32);
                let (sin, cos) = angle.sin_cos();
                let (a, b) = (head[j], head[j + half]);
                head[j] = a * cos - b * sin;
                head[j + half] = b * cos + a * sin;
            }
        }
    }
}

/// Of queries, keys and values.
pub fn attention(
    [q, k, v]: [&[f32]; 3],
    width: usize,
    heads: usize,
    scale: f32,
    real: &[bool],
    out: &mut [f32],
) {
    let size = width / heads;
    let rows = real.len();
    let mut scores = vec![0f32; rows];
    for head in 0..heads {
        let of = |t: usize| t * width + head * size..t * width + (head + 1) * size;
        for t in 0..rows {
            let q = &q[of(t)];
            let mut top = f32::NEG_INFINITY;
            for (u, score) in scores.iter_mut().enumerate() {
                let dot: f32 = q.iter().zip(&k[of(u)]).map(|(a, b)| a * b).sum();
                *score = if real[u] {
                    dot * scale
                } else {
                    f32::NEG_INFINITY
                };
                top = top.max(*score);
            }
            let mut sum = 0.0;
            for score in &mut scores {
                *score = (*score - top).exp();
                sum += *score;
            }
            let range = of(t);
            let out = &mut out[range];
            out.fill(0.0);
            for (u, score) in scores.iter().enumerate() {
                let weight = score / sum;
                out.iter_mut()
                    .zip(&v[of(u)])
                    .for_each(|(o, v)| *o += weight * v);
            }
        }
    }
}
