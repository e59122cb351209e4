//! Weights in the layouts that the kernels read. The scale of integer ones is their output
//! channel's largest magnitude over 127.

use crate::compile::lower::ConvStep;
use crate::kernels::{ConvShape, LANES, PAIR_LIMIT, padded};

/// An int8 layer's parameters.
pub struct Quantised {
    /// In the kernel's layout.
    pub weight: Vec<i8>,
    /// Sum to output units, one a padded output channel.
    pub scale: Vec<f32>,
    /// In output units.
    pub bias: Vec<f32>,
}

/// Integer weights of one output channel and their scale. Where the input is unsigned they are
/// *paired*: see [`PAIR_LIMIT`].
fn quantise_channel(step: &ConvStep, channel: usize, paired: bool) -> (Vec<i8>, f32) {
    let (inputs, width) = (step.shape.channels_in, step.shape.width);
    let per = inputs * width;
    let weights = &step.weight[channel * per..(channel + 1) * per];
    let mut scale = weights.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0;
    let partner = |at: usize| {
        let other = ((at / width) ^ 1) * width + at % width;
        (other < per).then_some(other)
    };
    if paired {
        for (at, &w) in weights.iter().enumerate() {
            let other = partner(at).map_or(0.0, |other| weights[other]);
            let (up, down) = (
                w.max(0.0) + other.max(0.0),
                (-w).max(0.0) + (-other).max(0.0),
            );
            scale = scale.max(up.max(down) / PAIR_LIMIT as f32);
        }
    }
    if scale <= 0.0 {
        scale = 1.0;
    }
    let mut quantised = vec![0i8; per];
    for (at, &w) in weights.iter().enumerate() {
        let mut q = (w / scale).round_ties_even().clamp(-127.0, 127.0) as i32;
        if paired {
            // Rounding may have taken a pair over its limit by one.
            let other = partner(at).map_or(0, |other| i32::from(quantised[other]));
            q = q.clamp(-PAIR_LIMIT - other.min(0), PAIR_LIMIT - other.max(0));
        }
        quantised[at] = q as i8;
    }
    (quantised, scale)
}

/// How a convolution is laid out for the kernel: several of the network's rows may share a step.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// What the kernel computes at a step.
    pub shape: ConvShape,
    /// The network's output rows in a step.
    pub step: usize,
    /// Taps by which the weights of a row lie behind those of the row before it.
    pub shift: usize,
}

impl Layout {
    /// The layout of a convolution. A few output channels share 16 lanes with those of neighbouring
    /// positions, and a convolution behind an upsampling writes all rows that it would repeat.
    pub fn of(step: &ConvStep, integer: bool, codes: bool) -> Layout {
        let s = step.shape;
        let shared = LANES / s.channels_out.max(1);
        if integer && step.repeat > 1 {
            Layout {
                shape: ConvShape {
                    channels_out: s.channels_out * step.repeat,
                    ..s
                },
                step: step.repeat,
                shift: 0,
            }
        } else if integer && !codes && shared > 1 && (s.dilation, s.stride) == (1, 1) && s.width > 1
        {
            Layout {
                shape: ConvShape {
                    channels_out: s.channels_out * shared,
                    width: s.width + shared - 1,
                    stride: shared,
                    ..s
                },
                step: shared,
                shift: 1,
            }
        } else {
            Layout {
                shape: s,
                step: 1,
                shift: 0,
            }
        }
    }
}

/// Weights of the kernel's layout, with scales from sums to units of the output. `means` are those
/// of the input's channels: what rounding the weights takes off on average is given back in the
/// bias.
pub fn conv_weights(
    step: &ConvStep,
    layout: &Layout,
    (input, output): (f32, f32),
    paired: bool,
    means: Option<&[f32]>,
) -> Quantised {
    let s = &step.shape;
    let packed = &layout.shape;
    let lanes = padded(packed.channels_out);
    let (mut scale, mut bias) = (vec![0f32; lanes], vec![0f32; lanes]);
    let mut weight = vec![0i8; packed.packed_len()];
    for channel in 0..s.channels_out {
        let (own, unit) = quantise_channel(step, channel, paired);
        let mut lost = 0.0;
        for (at, q) in own.iter().enumerate() {
            // Channels that only fill up have none.
            let mean = means
                .and_then(|means| means.get(at / s.width))
                .copied()
                .unwrap_or(0.0);
            let weight = step.weight[channel * own.len() + at];
            lost += f64::from(mean) * f64::from(weight - unit * f32::from(*q));
        }
        for row in 0..layout.step {
            let o = row * s.channels_out + channel;
            scale[o] = unit * input / output;
            bias[o] = (step.bias[channel] + lost as f32) / output;
            for i in 0..s.channels_in {
                for tap in 0..s.width {
                    let at = packed.packed_at(o, tap + row * layout.shift, i);
                    weight[at] = own[i * s.width + tap];
                }
            }
        }
    }
    Quantised {
        weight,
        scale,
        bias,
    }
}

/// Rows of a table in signed bytes, and the scale of each.
pub fn table_rows(values: &[f32], width: usize) -> (Vec<i8>, Vec<f32>) {
    let mut scales = vec![];
    let mut bytes = Vec::with_capacity(values.len());
    for row in values.chunks_exact(width) {
        let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let rounded = row.iter().map(|x| (x / scale).round_ties_even());
        bytes.extend(rounded.map(|x| x.clamp(-127.0, 127.0) as i8));
        scales.push(scale);
    }
    (bytes, scales)
}

/// Weights in float in the kernel's layout, and the padded bias.
pub fn float_conv_weights(step: &ConvStep) -> (Vec<f32>, Vec<f32>) {
    let s = &step.shape;
    let lanes = padded(s.channels_out);
    let mut weight = vec![0f32; s.packed_len()];
    for o in 0..s.channels_out {
        for i in 0..s.channels_in {
            for tap in 0..s.width {
                weight[s.packed_float_at(o, tap, i)] =
                    step.weight[(o * s.channels_in + i) * s.width + tap];
            }
        }
    }
    let mut bias = step.bias.clone();
    bias.resize(lanes, 0.0);
    (weight, bias)
}

/// `[input][outputs padded]` in float, and the padded bias.
pub fn dense_weights(by_output: &[f32], bias: &[f32], inputs: usize) -> (Vec<f32>, Vec<f32>) {
    let lanes = bias.len().next_multiple_of(LANES);
    let mut weight = vec![0f32; inputs * lanes];
    for (o, row) in by_output.chunks_exact(inputs).enumerate() {
        for (i, value) in row.iter().enumerate() {
            weight[i * lanes + o] = *value;
        }
    }
    let mut bias = bias.to_vec();
    bias.resize(lanes, 0.0);
    (weight, bias)
}
