//! Scales, and the weights in the layouts that the kernels read.
//!
//! An activation's scale is chosen from a histogram of its values on sample input, as the clipping point at which the squared error of rounding and
//! clipping together is least. A weight's scale is its output channel's largest magnitude over 127.

use super::error::ModelError;
use super::lower::{ConvStep, DenseStep, Network, Step};
use super::manifest::Manifest;
use crate::kernels::table::CODES;
use crate::kernels::{LANES, padded};
use crate::model::manifest::Sequence;
use tract_nnef::internal::*;

const BINS: usize = 2048;

/// Most bases of sample input that are used.
const MOST_BASES: usize = 400_000;

/// Longest piece of a sample, so that memory stays bounded.
const PIECE: usize = 20_000;

/// Scales of the values that become integers.
#[derive(Debug, Default)]
pub struct Ranges {
    clips: HashMap<OutletId, f32>,
}

impl Ranges {
    /// The scale of a value of seven bits, or of eight with a sign: both reach 127.
    pub fn scale(&self, outlet: OutletId) -> TractResult<f32> {
        let clip = self
            .clips
            .get(&outlet)
            .with_context(|| format!("no calibration for {outlet:?}"))?;
        Ok(clip / 127.0)
    }
}

/// Runs the float network over the samples and measures every hidden value that a convolution gives.
pub fn measure(
    network: &Network,
    manifest: &Manifest,
    samples: &[Vec<u8>],
) -> Result<Ranges, ModelError> {
    let outputs = network
        .model
        .output_outlets()
        .map_err(|e| ModelError::Pack(e.to_string()))?;
    let wanted: Vec<OutletId> = network
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Conv(conv) if !outputs.contains(&conv.output) => Some(conv.output),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Ranges::default());
    }
    let pieces = pieces(samples, manifest.sequence.as_ref());
    if pieces.is_empty() {
        return Err(ModelError::Pack(
            "int8 needs sample reads to calibrate on (--calibrate)".to_string(),
        ));
    }
    let run = || -> TractResult<Ranges> {
        let mut model = network.model.clone();
        model.select_output_outlets(&wanted)?;
        let plan = SimplePlan::new(model.into_optimized()?)?;
        let mut state = plan.spawn()?;
        let mut largest = vec![0f32; wanted.len()];
        for piece in &pieces {
            for (large, value) in largest.iter_mut().zip(state.run(tvec!(one_hot(piece)?))?) {
                for x in value.try_as_plain_ram()?.as_slice::<f32>()? {
                    *large = large.max(x.abs());
                }
            }
        }
        let mut counts = vec![vec![0u64; BINS]; wanted.len()];
        for piece in &pieces {
            let values = state.run(tvec!(one_hot(piece)?))?;
            for ((counts, large), value) in counts.iter_mut().zip(&largest).zip(values) {
                let per_bin = BINS as f32 / large.max(f32::MIN_POSITIVE);
                for x in value.try_as_plain_ram()?.as_slice::<f32>()? {
                    // Zero is exact at any scale and would drown the rest.
                    if *x != 0.0 {
                        counts[((x.abs() * per_bin) as usize).min(BINS - 1)] += 1;
                    }
                }
            }
        }
        let clips = wanted
            .iter()
            .zip(counts.iter().zip(&largest))
            .map(|(outlet, (counts, &large))| (*outlet, best_clip(counts, large)));
        Ok(Ranges {
            clips: clips.collect(),
        })
    };
    run().map_err(|error| ModelError::Pack(format!("calibrating: {error:#}")))
}

/// Sample sequences as the model will see them.
fn pieces(samples: &[Vec<u8>], sequence: Option<&Sequence>) -> Vec<Vec<u8>> {
    let mut total = 0;
    let mut pieces = vec![];
    for sample in samples {
        match sequence {
            Some(sequence) => {
                // The imported graph has one length: the longest, padded.
                let longest = sequence.longest.next_multiple_of(sequence.multiple);
                let tail = &sample[sample.len().saturating_sub(sequence.longest)..];
                let mut piece = vec![crate::nucleotide::N; longest - tail.len()];
                piece.extend_from_slice(tail);
                pieces.push(piece);
            }
            None => pieces.extend(sample.chunks(PIECE).map(<[u8]>::to_vec)),
        }
        total += sample.len();
        if total > MOST_BASES {
            break;
        }
    }
    pieces
}

/// Codes as tract's one-hot `[1, 4, T]`.
pub fn one_hot(codes: &[u8]) -> TractResult<TValue> {
    let mut tensor = Tensor::zero::<f32>(&[1, 4, codes.len()])?;
    let mut view = tensor.try_as_plain_ram_mut()?;
    let values = view.as_slice_mut::<f32>()?;
    for (t, &code) in codes.iter().enumerate() {
        if code < 4 {
            values[usize::from(code) * codes.len() + t] = 1.0;
        }
    }
    Ok(tensor.into_tvalue())
}

/// The clipping point of least squared error for 127 steps, from counts of magnitudes up to `largest`.
fn best_clip(counts: &[u64], largest: f32) -> f32 {
    if largest <= 0.0 {
        return 1.0;
    }
    let width = f64::from(largest) / counts.len() as f64;
    let error = |bins: usize| -> f64 {
        let clip = bins as f64 * width;
        let step = clip / 127.0;
        // Rounding is uniform within a step; what lies beyond is clipped.
        let inside: u64 = counts[..bins].iter().sum();
        let rounding = inside as f64 * step * step / 12.0;
        let clipping: f64 = counts[bins..]
            .iter()
            .enumerate()
            .map(|(i, &n)| n as f64 * ((i as f64 + 0.5) * width).powi(2))
            .sum();
        rounding + clipping
    };
    let smallest = counts.len() / 16;
    let best = (smallest..=counts.len()).min_by(|&a, &b| error(a).total_cmp(&error(b)));
    (best.unwrap_or(counts.len()) as f64 * width) as f32
}

/// An int8 layer's parameters.
pub struct Quantised {
    /// In the kernel's layout.
    pub weight: Vec<i8>,
    /// Sum to output units, one a padded output channel.
    pub scale: Vec<f32>,
    /// In output units.
    pub bias: Vec<f32>,
}

/// Integer weights of one output channel and their scale.
fn quantise_channel(step: &ConvStep, channel: usize) -> (Vec<i8>, f32) {
    let per = step.shape.channels_in * step.shape.width;
    let weights = &step.weight[channel * per..(channel + 1) * per];
    let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let quantised = weights
        .iter()
        .map(|w| (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8)
        .collect();
    (quantised, scale)
}

fn scales(step: &ConvStep, input: f32, output: f32) -> (Vec<Vec<i8>>, Vec<f32>, Vec<f32>) {
    let lanes = padded(step.shape.channels_out);
    let mut weights = vec![];
    let (mut scale, mut bias) = (vec![0f32; lanes], vec![0f32; lanes]);
    for channel in 0..step.shape.channels_out {
        let (quantised, own) = quantise_channel(step, channel);
        scale[channel] = own * input / output;
        bias[channel] = step.bias[channel] / output;
        weights.push(quantised);
    }
    (weights, scale, bias)
}

/// `[tap][channels_in / 4][channels_out padded][4]`.
pub fn conv_weights(step: &ConvStep, input: f32, output: f32) -> Quantised {
    let s = &step.shape;
    let lanes = padded(s.channels_out);
    let (weights, scale, bias) = scales(step, input, output);
    let mut weight = vec![0i8; s.packed_len()];
    for (o, own) in weights.iter().enumerate() {
        for i in 0..s.channels_in {
            for tap in 0..s.width {
                let at = ((tap * (s.channels_in / 4) + i / 4) * lanes + o) * 4 + i % 4;
                weight[at] = own[i * s.width + tap];
            }
        }
    }
    Quantised {
        weight,
        scale,
        bias,
    }
}

/// `[tap][code][channels_out padded]`, the fifth code being zeros.
pub fn codes_weights(step: &ConvStep, output: f32) -> Quantised {
    let s = &step.shape;
    let lanes = padded(s.channels_out);
    let (weights, scale, bias) = scales(step, 1.0, output);
    let mut weight = vec![0i8; s.width * CODES * lanes];
    for (o, own) in weights.iter().enumerate() {
        for base in 0..4 {
            for tap in 0..s.width {
                weight[(tap * CODES + base) * lanes + o] = own[base * s.width + tap];
            }
        }
    }
    Quantised {
        weight,
        scale,
        bias,
    }
}

/// `[tap][channel_in][channels_out padded]` in float, and the padded bias.
pub fn float_conv_weights(step: &ConvStep) -> (Vec<f32>, Vec<f32>) {
    let s = &step.shape;
    let lanes = padded(s.channels_out);
    let mut weight = vec![0f32; s.packed_len()];
    for o in 0..s.channels_out {
        for i in 0..s.channels_in {
            for tap in 0..s.width {
                weight[(tap * s.channels_in + i) * lanes + o] =
                    step.weight[(o * s.channels_in + i) * s.width + tap];
            }
        }
    }
    let mut bias = step.bias.clone();
    bias.resize(lanes, 0.0);
    (weight, bias)
}

/// `[input][outputs padded]` in float, and the padded bias.
pub fn dense_weights(step: &DenseStep) -> (Vec<f32>, Vec<f32>) {
    let lanes = step.outputs.next_multiple_of(LANES);
    let mut weight = vec![0f32; step.inputs * lanes];
    for o in 0..step.outputs {
        for i in 0..step.inputs {
            weight[i * lanes + o] = step.weight[o * step.inputs + i];
        }
    }
    let mut bias = step.bias.clone();
    bias.resize(lanes, 0.0);
    (weight, bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_keeps_a_flat_range_and_cuts_a_lone_outlier() {
        let flat = vec![10u64; BINS];
        assert!(best_clip(&flat, 2.0) > 1.9);
        let mut outlier = vec![0u64; BINS];
        outlier[..BINS / 8].fill(1_000_000);
        outlier[BINS - 1] = 1;
        let clip = best_clip(&outlier, 8.0);
        assert!((0.9..2.0).contains(&clip), "{clip}");
    }
}
