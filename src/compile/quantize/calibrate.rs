//! Scales of activations, from what the float network computes of sample input.
//!
//! A scale is chosen from a histogram of the values, as the clipping point at which the squared
//! error of rounding and clipping together is least.

use crate::compile::Watch;
use crate::compile::lower::Network;
use crate::kernels::NO_BASE;
use crate::model::error::ModelError;
use crate::model::manifest::Manifest;
use tract_nnef::internal::*;

const BINS: usize = 2048;

/// Most positions of sample input that are used.
const MOST_BASES: usize = 400_000;

/// From so many multiply-accumulates a position on, they are fewer: what these may come to in all,
/// but for so many positions in any case.
const LARGE: u64 = 150_000;
const MACS: u64 = 15_000_000_000;
const LEAST: usize = 512;

/// Longest piece of a sample, so that memory stays bounded.
const PIECE: usize = 20_000;

/// What calibration has found of a value.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The clipping point of least squared error.
    clip: f32,
    /// Mean square of the values.
    power: f64,
    /// Mean squared error of one scale for all rows, clipping included.
    fixed: f64,
    /// Mean squared error of a scale for each row.
    by_row: f64,
}

impl Range {
    /// The scale of one step: unsigned rows reach 255, signed ones 127.
    pub fn scale(&self, positive: bool) -> f32 {
        self.clip / if positive { 255.0 } else { 127.0 }
    }

    /// True where a scale for each row is worth its price: one scale for all costs more than twice
    /// its error, and more than 1e-4 of the power.
    pub fn by_row(&self) -> bool {
        self.fixed > 2.0 * self.by_row && self.fixed > 1e-4 * self.power
    }

    /// Power of the values over that of the error, in decibels.
    pub fn signal_to_noise(&self, by_row: bool) -> f32 {
        let error = if by_row { self.by_row } else { self.fixed };
        (10.0 * (self.power / error.max(f64::MIN_POSITIVE)).log10()).min(200.0) as f32
    }
}

/// What calibration has found of the values that become integers.
#[derive(Debug, Default)]
pub struct Ranges {
    found: HashMap<OutletId, Range>,
    /// Mean of each channel.
    means: HashMap<OutletId, Vec<f32>>,
}

impl Ranges {
    /// Of one value.
    pub fn of(&self, outlet: OutletId) -> TractResult<Range> {
        let range = self.found.get(&outlet).copied();
        range.with_context(|| format!("no calibration for {outlet:?}"))
    }

    /// Mean of each channel of one value, where it was measured.
    pub fn means(&self, outlet: OutletId) -> Option<&[f32]> {
        self.means.get(&outlet).map(Vec::as_slice)
    }
}

/// Runs the float network over the samples and measures every hidden value of rows; `progress` is
/// called after each.
pub fn measure(
    network: &Network,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    progress: Watch,
) -> Result<Ranges, ModelError> {
    let wanted = network.hidden();
    if wanted.is_empty() {
        return Ok(Ranges::default());
    }
    let most = match network.macs() {
        macs if macs < LARGE => MOST_BASES,
        macs => ((MACS / macs) as usize).clamp(LEAST, MOST_BASES),
    };
    let pieces = pieces(samples, manifest, most);
    if pieces.is_empty() {
        return Err(ModelError::Pack(
            "int8 needs sample reads to calibrate on (--calibrate)".to_string(),
        ));
    }
    if !varies(&pieces, manifest) {
        return Err(ModelError::Pack(
            "the sequences to calibrate on hold one letter again and again, or N alone: scales \
             chosen on them would fit no others"
                .to_string(),
        ));
    }
    let run = || -> TractResult<Ranges> {
        let mut model = network.model.clone();
        let outlets: Vec<OutletId> = wanted.iter().map(|(outlet, _)| *outlet).collect();
        model.select_output_outlets(&outlets)?;
        let plan = SimplePlan::new(model.into_optimized()?)?;
        let mut largest = vec![0f32; wanted.len()];
        for (at, piece) in pieces.iter().enumerate() {
            for (large, value) in largest.iter_mut().zip(plan.run(network.feed(piece)?)?) {
                for x in value.try_as_plain_ram()?.as_slice::<f32>()? {
                    *large = large.max(x.abs());
                }
            }
            progress("calibrating", at + 1, 2 * pieces.len());
        }
        let mut sums: Vec<Sums> = wanted.iter().map(|(_, c)| Sums::new(*c)).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let values = plan.run(network.feed(piece)?)?;
            for (((sums, large), value), (outlet, channels)) in
                sums.iter_mut().zip(&largest).zip(values).zip(&wanted)
            {
                let values = value.try_as_plain_ram()?.as_slice::<f32>()?;
                // Rows lie one after the other only where channels come last.
                let by_row = network.channels_last(*outlet)?;
                sums.add(values, *large, by_row.then_some(*channels));
            }
            progress("calibrating", pieces.len() + at + 1, 2 * pieces.len());
        }
        let ranges = sums.iter().zip(&largest).map(|(s, large)| s.range(*large));
        let found = outlets.iter().copied().zip(ranges).collect();
        let means = outlets.iter().copied().zip(sums.iter().map(Sums::means));
        Ok(Ranges {
            found,
            means: means.collect(),
        })
    };
    run().map_err(|error| ModelError::Pack(format!("calibrating: {error:#}")))
}

#[derive(Clone)]
struct Sums {
    counts: Vec<u64>,
    values: u64,
    power: f64,
    by_row: f64,
    negative: bool,
    channels: Vec<f64>,
}

impl Sums {
    fn new(channels: usize) -> Sums {
        Sums {
            negative: false,
            channels: vec![0.0; channels],
            counts: vec![0; BINS],
            values: 0,
            power: 0.0,
            by_row: 0.0,
        }
    }

    fn add(&mut self, values: &[f32], largest: f32, channels: Option<usize>) {
        let per_bin = BINS as f32 / largest.max(f32::MIN_POSITIVE);
        for x in values {
            self.power += f64::from(*x).powi(2);
            self.negative |= *x < 0.0;
            // Zero is exact at any scale and would drown the rest.
            if *x != 0.0 {
                self.counts[((x.abs() * per_bin) as usize).min(BINS - 1)] += 1;
            }
        }
        self.values += values.len() as u64;
        // Channels come last, or each has its positions in a row.
        let count = self.channels.len();
        let apart = values.len() / count.max(1);
        for (c, sum) in self.channels.iter_mut().enumerate() {
            *sum += match channels {
                Some(_) => values
                    .iter()
                    .skip(c)
                    .step_by(count)
                    .map(|x| f64::from(*x))
                    .sum::<f64>(),
                None => values[c * apart..(c + 1) * apart]
                    .iter()
                    .map(|x| f64::from(*x))
                    .sum(),
            };
        }
        for row in channels
            .map(|c| values.chunks_exact(c))
            .into_iter()
            .flatten()
        {
            let most = row.iter().fold(0f32, |m, x| m.max(x.abs()));
            self.by_row += row.len() as f64 * f64::from(most / 127.0).powi(2) / 12.0;
        }
    }

    fn means(&self) -> Vec<f32> {
        let positions = (self.values as f64 / self.channels.len().max(1) as f64).max(1.0);
        self.channels
            .iter()
            .map(|sum| (sum / positions) as f32)
            .collect()
    }

    fn range(&self, largest: f32) -> Range {
        // A value that is never negative will have twice the steps.
        let levels = if self.negative { 127.0 } else { 255.0 };
        let (clip, error) = best_clip(&self.counts, largest, levels);
        let count = self.values.max(1) as f64;
        Range {
            clip,
            power: self.power / count,
            fixed: error / count,
            by_row: self.by_row / count,
        }
    }
}

/// True where the pieces hold two different tokens, or letters beside N.
fn varies(pieces: &[Vec<u32>], manifest: &Manifest) -> bool {
    let ids = manifest.tokeniser.reads_ids();
    let means = |token: &u32| ids || *token < u32::from(NO_BASE);
    let tokens = pieces.iter().flat_map(|piece| piece.iter());
    let mut tokens = tokens
        .step_by(manifest.tokeniser.words())
        .copied()
        .filter(means);
    let first = tokens.next();
    tokens.any(|token| Some(token) != first)
}

/// Sample sequences as the model will see them.
fn pieces(samples: &[Vec<u32>], manifest: &Manifest, most: usize) -> Vec<Vec<u32>> {
    let mut total = 0;
    let mut pieces = vec![];
    let whole = |len: usize| len - len % manifest.multiple;
    for sample in samples {
        let words = manifest.tokeniser.words();
        match &manifest.sequence {
            None if manifest.cells.is_some() => {
                pieces.push(sample[..sample.len().min(manifest.tile * words)].to_vec());
            }
            Some(sequence) => {
                // The imported graph has one length: the longest, padded.
                let longest = sequence.longest.next_multiple_of(sequence.multiple);
                let tail = &sample[sample.len().saturating_sub(sequence.longest)..];
                let mut piece = vec![u32::from(NO_BASE); longest - tail.len()];
                piece.extend_from_slice(tail);
                pieces.push(piece);
            }
            None => {
                // Tokens have a longest sequence, bases may be cut anywhere.
                let longest = if manifest.tokeniser.reads_ids() {
                    manifest.tile
                } else {
                    whole(PIECE)
                };
                let left = match most {
                    // The last one whole, where that is no matter.
                    MOST_BASES => sample.len(),
                    _ => sample.len().min(most.saturating_sub(total)),
                };
                let cut = sample[..whole(left)].chunks(longest.max(1));
                pieces.extend(cut.map(<[u32]>::to_vec));
            }
        }
        total += sample.len() / words;
        if total > most {
            break;
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The clipping point of least squared error for so many steps and that error, from counts of
/// magnitudes up to `largest`.
fn best_clip(counts: &[u64], largest: f32, levels: f64) -> (f32, f64) {
    if largest <= 0.0 {
        return (1.0, 0.0);
    }
    let width = f64::from(largest) / counts.len() as f64;
    let error = |bins: usize| -> f64 {
        let clip = bins as f64 * width;
        let step = clip / levels;
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
    let best = best.unwrap_or(counts.len());
    ((best as f64 * width) as f32, error(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_keeps_a_flat_range_and_cuts_a_lone_outlier() {
        let flat = vec![10u64; BINS];
        assert!(best_clip(&flat, 2.0, 127.0).0 > 1.9);
        let mut outlier = vec![0u64; BINS];
        outlier[..BINS / 8].fill(1_000_000);
        outlier[BINS - 1] = 1;
        let (clip, _) = best_clip(&outlier, 8.0, 127.0);
        assert!((0.9..2.0).contains(&clip), "{clip}");
    }
}
