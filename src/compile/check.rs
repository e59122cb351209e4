//! The finished file beside the network that it was made of.

use super::Watch;
use super::float::{FloatModel, Rows};
use crate::kernels::{BASES, NO_BASE};
use crate::model::error::ModelError;
use crate::model::genes;
use crate::model::manifest::{Manifest, Precision};
use crate::model::{Model, Runner};
use std::fmt;
use std::iter;
use std::ops::Range;
use std::path::Path;

/// Most sequences that are compared, and most multiply-accumulates in all, of the network and of
/// what was understood of it: some seconds of tract.
const SEQUENCES: usize = 32;
const MACS: u64 = 40_000_000_000;
const MACS_UNDERSTOOD: u64 = 20_000_000_000;

/// Cells that a network is compared on, where there are so many.
const FEWEST_CELLS: usize = 8;

/// Half a step of probabilities in eight bits.
const HALF_STEP: f32 = 0.5 / 255.0;

/// Rows on either side of where two tiles meet, in whole multiples.
const JOINT: usize = 64;

/// How much a packed file must agree with its network.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Check {
    /// As closely as its precision can: a cosine of .98 in int8, .9998 in fp16, .99999 in f32.
    #[default]
    Precision,
    /// By this cosine at least.
    Cosine(f64),
    /// However much: it is not compared.
    Skip,
}

impl Check {
    /// The least cosine that passes.
    fn bound(self, precision: Precision) -> Option<f64> {
        match (self, precision) {
            (Check::Skip, _) => None,
            (Check::Cosine(least), _) => Some(least),
            (Check::Precision, Precision::Int8) => Some(0.98),
            (Check::Precision, Precision::Fp16) => Some(0.9998),
            (Check::Precision, Precision::F32) => Some(0.99999),
        }
    }

    /// The bound that a cosine, or what is none, falls short of.
    pub fn missed(self, precision: Precision, cosine: f64) -> Option<f64> {
        let passes = |least: &f64| cosine >= *least;
        self.bound(precision).filter(|least| !passes(least))
    }
}

/// How much a packed model and its network agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Sequences compared.
    pub sequences: usize,
    /// Positions of them.
    pub positions: usize,
    /// Largest difference of two raw outputs.
    pub largest: f32,
    /// Largest magnitude of the network's own.
    pub magnitude: f32,
    /// Cosine similarity of all raw outputs, or that around the mean of each column, if that is
    /// lower.
    pub cosine: f64,
    /// The outputs are probabilities, one of which at least is a half, and none is off by more than
    /// half a step of eight bits: where such outputs hardly vary, a cosine around the mean says
    /// little.
    pub close: bool,
    /// Why the network was run as this compiler rewrites it, not as its file has it.
    pub rewritten: Option<String>,
    /// The network's file rounds as int8 does.
    pub quantised: bool,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "agrees with the network by a cosine of {:.6}, largest difference {:.2e} of {:.2e}, in \
             {} sequences of {} positions",
            self.cosine, self.largest, self.magnitude, self.sequences, self.positions
        )?;
        match &self.rewritten {
            None => Ok(()),
            Some(reason) => write!(
                f,
                "; with the network as it is read here: tract cannot run it as it is ({reason})"
            ),
        }
    }
}

/// Compares a model with its network, where `check` asks for it. `vocabulary`: the token ids that
/// the network has rows for.
pub fn check(
    check: Check,
    model: &Model,
    onnx: &Path,
    samples: &[Vec<u32>],
    vocabulary: usize,
    progress: Watch,
) -> Result<Option<Agreement>, ModelError> {
    let manifest = model.manifest();
    if check == Check::Skip {
        return Ok(None);
    }
    let network = FloatModel::read(onnx, manifest)?;
    // tract takes a length of 1 for an axis to broadcast along, here and there.
    let least = network.cut().iter().sum::<usize>() + 2;
    let mut runner = model.spawn()?;
    let tiles = runner.takes_tiles() && !runner.reads_ids();
    let sequences = if manifest.cells.is_some() {
        cells(manifest, samples, vocabulary)
    } else {
        sequences(manifest, samples, vocabulary, (least, tiles))
    };
    let found = agreement(
        &mut runner,
        network,
        (manifest, &sequences),
        check,
        progress,
    )?;
    let precision = if found.quantised {
        Precision::Int8
    } else {
        manifest.precision
    };
    let Some(least) = check.missed(precision, found.cosine) else {
        return Ok(Some(found));
    };
    if check == Check::Precision && precision == Precision::Int8 && found.close {
        return Ok(Some(found));
    }
    let source = if found.quantised {
        "; the network itself rounds, and clips what its calibration had not: the one in float \
         that it was made of is packed with less loss"
    } else {
        ""
    };
    Err(ModelError::Pack(format!(
        "the packed file would give other numbers than the network: a cosine of {:.5}, not \
         {least}, largest difference {:.3e} of {:.3e}, in {} sequences. --precision fp16 or f32 \
         keeps more, --calibrate takes other sequences, --allow-difference {:.2} takes it as it is\
         {source}",
        found.cosine,
        found.largest,
        found.magnitude,
        found.sequences,
        (found.cosine * 100.0).floor() / 100.0,
    )))
}

fn agreement(
    runner: &mut Runner,
    mut network: FloatModel,
    (manifest, sequences): (&Manifest, &[Vec<u32>]),
    check: Check,
    progress: Watch,
) -> Result<Agreement, ModelError> {
    let mut found = Agreement {
        sequences: 0,
        positions: 0,
        largest: 0.0,
        magnitude: 0.0,
        cosine: 0.0,
        close: false,
        rewritten: None,
        quantised: network.is_quantised(),
    };
    let columns = network.columns();
    let words = manifest.tokeniser.words();
    let (mut sums, mut float) = (Sums::new(columns), Sums::new(columns));
    // Whatever int8 may cost, what was read is the network, or is not. Of a file in f32 that shows
    // in the file itself.
    let apart = manifest.precision != Precision::F32 && !found.quantised;
    let affordable = MACS_UNDERSTOOD / macs(manifest);
    let padding: usize = manifest.padding().iter().sum();
    let mut kept: Vec<(&[u32], Rows)> = vec![];
    for (at, sequence) in sequences.iter().enumerate() {
        let rows = runner.run_sample(sequence)?;
        let joint = joint(manifest, sequence.len());
        let (rows, expected, positions) = match &joint {
            Some((part, joined)) => {
                let mut expected = network.run_part(&sequence[part.clone()])?;
                expected.narrow(part, joined, columns)?;
                let rows = &rows[joined.start * columns..joined.end * columns];
                (rows, expected, joined.len())
            }
            None => (rows, network.run(sequence)?, sequence.len() / words),
        };
        sums.add(rows, &expected, positions)?;
        found.sequences += 1;
        found.positions += positions;
        let cost = |sequence: &[u32]| sequence.len() / words + padding;
        let before: usize = kept.iter().map(|(sequence, _)| cost(sequence)).sum();
        let cheap = (before + cost(sequence)) as u64 <= affordable || kept.len() < 2;
        if apart && expected.original && joint.is_none() && cheap {
            kept.push((sequence, expected));
        }
        progress("comparing", at + 1, sequences.len());
    }
    // The two graphs need not be in memory at once.
    network.forget();
    let all = kept.len();
    for (at, (sequence, expected)) in kept.into_iter().enumerate() {
        let rewritten = network.run_rewritten(sequence)?;
        float.add(&rewritten.values, &expected, sequence.len() / words)?;
        progress("comparing in float", at + 1, all);
    }
    if !apart && !found.quantised {
        float.clone_from(&sums);
    }
    (found.largest, found.magnitude) = (sums.largest, sums.magnitude);
    found.cosine = sums.cosine();
    found.close = sums.are_close();
    found.rewritten = network.rewritten().map(str::to_string);
    let understood = float.cosine() >= SAME && float.is_near();
    if check == Check::Precision && !understood {
        return Err(ModelError::Pack(format!(
            "something of the network is not understood: as it is read here, in float, it gives \
             other numbers than its file, by a cosine of {:.6} and a largest difference of {:.3e} \
             of {:.3e}; -vv says what was recognised, --allow-difference takes it as it is",
            float.cosine(),
            float.largest,
            float.magnitude
        )));
    }
    Ok(found)
}

/// Multiply-accumulates a position, at least 1.
fn macs(manifest: &Manifest) -> u64 {
    let layers = manifest.layers.iter().map(|layer| layer.macs);
    layers.sum::<u64>().max(1)
}

/// Where the first two tiles of a sequence meet, if that is long and the context is: the part that
/// the network is run on, and the rows of it that have all of their context.
fn joint(manifest: &Manifest, length: usize) -> Option<(Range<usize>, Range<usize>)> {
    if length <= manifest.tile || manifest.tokeniser.reads_ids() {
        return None;
    }
    let multiple = manifest.multiple;
    let [left, right] =
        [manifest.context.left, manifest.context.right].map(|side| side.next_multiple_of(multiple));
    let step = manifest.tile.checked_sub(left + right)? / multiple * multiple;
    let around = JOINT * multiple;
    // A network may leave out the rows at the ends of what it reads.
    let first = step.saturating_sub(around).max(left);
    let rows = first..(step + around).min(length.checked_sub(right)?);
    let part = rows.start - left..rows.end + right;
    (!rows.is_empty() && 2 * part.len() < length).then_some((part, rows))
}

/// The cosine and the largest difference, in standard deviations, of two float runs of one network.
const SAME: f64 = 0.99999;
const NEAR: f64 = 0.01;

/// Sums of one column.
#[derive(Debug, Default, Clone, Copy)]
struct Column {
    count: f64,
    own: f64,
    other: f64,
    own_squares: f64,
    other_squares: f64,
    products: f64,
}

/// What two runs have in common.
#[derive(Debug, Clone)]
struct Sums {
    columns: Vec<Column>,
    largest: f32,
    magnitude: f32,
    /// Least of the network's own values.
    least: f32,
}

impl Sums {
    fn new(columns: usize) -> Sums {
        Sums {
            columns: vec![Column::default(); columns],
            largest: 0.0,
            magnitude: 0.0,
            least: f32::INFINITY,
        }
    }

    fn add(&mut self, rows: &[f32], other: &Rows, positions: usize) -> Result<(), ModelError> {
        // Both have rows there.
        let columns = self.columns.len();
        let [first, last] = other.cut.map(|positions| positions * columns);
        let rows = rows.get(first..rows.len().saturating_sub(last));
        let rows = rows.unwrap_or_default();
        if rows.len() != other.values.len() {
            return Err(ModelError::Pack(format!(
                "{} numbers come out for {positions} positions, and {} of the network",
                rows.len(),
                other.values.len()
            )));
        }
        let both = rows.iter().zip(&other.values).enumerate();
        // What has no value has none in either.
        for (at, (a, b)) in both.filter(|(_, (a, b))| !(a.is_nan() && b.is_nan())) {
            let difference = (a - b).abs();
            // A NaN stays.
            if difference > self.largest || difference.is_nan() {
                self.largest = difference;
            }
            self.magnitude = self.magnitude.max(b.abs());
            self.least = self.least.min(*b);
            let (a, b) = (f64::from(*a), f64::from(*b));
            let column = &mut self.columns[at % columns];
            column.count += 1.0;
            column.own += a;
            column.other += b;
            column.own_squares += a * a;
            column.other_squares += b * b;
            column.products += a * b;
        }
        Ok(())
    }

    /// The lower of the cosine and that around the mean of each column: a large mean hides what
    /// differs around it.
    fn cosine(&self) -> f64 {
        let (mut plain, mut centred) = ([0.0; 3], [0.0; 3]);
        for c in &self.columns {
            let count = c.count.max(1.0);
            let own = c.own_squares - c.own * c.own / count;
            let other = c.other_squares - c.other * c.other / count;
            let both = c.products - c.own * c.other / count;
            for (sum, more) in plain
                .iter_mut()
                .zip([c.own_squares, c.other_squares, c.products])
            {
                *sum += more;
            }
            for (sum, more) in centred.iter_mut().zip([own, other, both]) {
                *sum += more;
            }
        }
        let cosine = |[own, other, both]: [f64; 3]| match (own * other).sqrt() {
            norm if norm > 0.0 => both / norm,
            _ if own == other => 1.0,
            norm => norm * f64::NAN,
        };
        // Values that hardly vary are rounding alone.
        if centred[1] < 1e-9 * plain[1] {
            return cosine(plain);
        }
        cosine(plain).min(cosine(centred))
    }

    /// True of probabilities, one of which at least is a half, where none is off by more than half
    /// a step of eight bits.
    fn are_close(&self) -> bool {
        self.least >= 0.0
            && (0.5..=1.0 + 1e-6).contains(&self.magnitude)
            && self.largest <= HALF_STEP
    }

    /// True where no value is far off, in standard deviations of all.
    fn is_near(&self) -> bool {
        let variance = |c: &Column| {
            let count = c.count.max(1.0);
            (c.other_squares - c.other * c.other / count).max(0.0)
        };
        let count: f64 = self.columns.iter().map(|c| c.count).sum();
        let deviation = (self.columns.iter().map(variance).sum::<f64>() / count.max(1.0)).sqrt();
        let rounding = 1e-5 * f64::from(self.magnitude);
        f64::from(self.largest) <= NEAR * deviation + rounding
    }
}

/// The same for a network that reads cells: samples, and every gene of the vocabulary as far as
/// there is room, with values of samples.
fn cells(manifest: &Manifest, samples: &[Vec<u32>], vocabulary: usize) -> Vec<Vec<u32>> {
    let words = genes::WORDS;
    let most = (MACS / macs(manifest)) as usize;
    // Of one length, since the network is read anew for each, and short enough for several: two
    // cells alone hardly differ.
    let mut lengths: Vec<usize> = samples.iter().map(|sample| sample.len() / words).collect();
    lengths.sort_unstable();
    let middle = lengths
        .get(lengths.len() / 2)
        .copied()
        .unwrap_or(manifest.tile);
    // tract takes a length of 1 for an axis to broadcast along, here and there.
    let length = middle.min(most / FEWEST_CELLS).min(manifest.tile).max(2);
    let own: Vec<[u32; 2]> = samples
        .iter()
        .flat_map(|sample| sample.chunks_exact(words))
        .map(|token| [token[1], token[2]])
        .collect();
    let other = |at: usize| own.get(at % own.len().max(1)).copied().unwrap_or_default();
    let every = (0..vocabulary as u32).zip(0..);
    let every: Vec<u32> = every
        .flat_map(|(id, at)| [[id, other(at)[0], other(at)[1]]].concat())
        .collect();
    let cut = samples
        .iter()
        .filter(|sample| sample.len() >= length * words);
    let cut = cut.map(|sample| &sample[..length * words]);
    let chunks = every.chunks_exact(length * words).take(FEWEST_CELLS / 2);
    let count = (most / length).clamp(2, SEQUENCES);
    let all = chunks.chain(cut).take(count);
    let mut all: Vec<Vec<u32>> = all.map(<[u32]>::to_vec).collect();
    all.sort_by_key(Vec::len);
    all
}

/// What both run on, by length, of which there are few: the shortest sequence, more than a tile
/// where there are `tiles`, one that holds N, every token of a vocabulary as far as there is room,
/// and samples. Of fewer positions than `least` nothing would come out.
fn sequences(
    manifest: &Manifest,
    samples: &[Vec<u32>],
    vocabulary: usize,
    (least, tiles): (usize, bool),
) -> Vec<Vec<u32>> {
    let ids = manifest.tokeniser.reads_ids();
    let (step, shortest, longest) = match &manifest.sequence {
        Some(sequence) => (sequence.multiple, sequence.shortest, sequence.longest),
        None if tiles => {
            let most = manifest.tile + manifest.multiple;
            (manifest.multiple, least, most.max(2 * least))
        }
        None => (
            manifest.multiple,
            least.max(manifest.shortest),
            manifest.tile,
        ),
    };
    let whole = |length: usize| (length - length % step).max(step);
    let columns = manifest.outputs.len();
    let shortest = match manifest.sequence {
        None if !ids && least + columns < longest => shortest.max(least + columns - 1),
        _ => shortest,
    };
    let shortest = shortest.next_multiple_of(step);
    let longest = whole(longest).max(shortest);
    let mut lengths: Vec<usize> = samples.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied();
    let middle = whole(median.unwrap_or(longest / 2).clamp(shortest, longest));
    let mut source = samples.concat();
    if source.len() < longest {
        source.extend(made_up(longest, if ids { vocabulary } else { BASES }));
    }
    let first = |length: usize| source[..length].to_vec();
    let mut all = vec![first(shortest), first(longest)];
    let most = (MACS / macs(manifest)) as usize;
    if ids {
        let every: Vec<u32> = (0..vocabulary as u32).collect();
        let affordable = most.saturating_sub(longest) / longest;
        let chunks = every.chunks(longest).take(affordable.clamp(1, 4));
        all.extend(chunks.map(|chunk| {
            let filled = iter::repeat_n(0, manifest.shortest.saturating_sub(chunk.len()));
            chunk.iter().copied().chain(filled).collect()
        }));
    } else {
        let mut broken = first(middle);
        broken[middle / 3..][..middle.div_ceil(4)].fill(u32::from(NO_BASE));
        all.push(broken);
    }
    let padding: usize = manifest.padding().iter().sum();
    let cost = |sequence: &Vec<u32>| match joint(manifest, sequence.len()) {
        Some((part, _)) => part.len(),
        None => sequence.len() + padding,
    };
    let mut positions: usize = all.iter().map(cost).sum();
    for sample in samples.iter().filter(|sample| sample.len() >= middle) {
        positions += middle + padding;
        if all.len() == SEQUENCES || positions > most {
            break;
        }
        all.push(sample[..middle].to_vec());
    }
    // As many positions as an output has columns could be either; token models have channels last.
    let either = |sequence: &Vec<u32>| sequence.len() - (least - 2) <= columns;
    if !ids && manifest.sequence.is_none() && !all.iter().all(either) {
        all.retain(|sequence| !either(sequence));
    }
    all.sort_by_key(Vec::len);
    all
}

/// Tokens of no meaning, always the same.
fn made_up(length: usize, kinds: usize) -> Vec<u32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % kinds.max(1) as u32
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(ids: bool, tile: usize, multiple: usize) -> Manifest {
        let text = format!(
            "name = \"n\"\nversion = \"1\"\ntask = \"raw\"\ndescription = \"\"\n\
             alphabet = \"ACGT\"\ntokeniser = \"{}\"\nstride = 1\nlicence = \"\"\n\
             tile = {tile}\nmultiple = {multiple}\ncontext = {{ left = 0, right = 0 }}\n\
             training = {{ data = \"\", split = \"\", recipe = \"\" }}\n\
             [[outputs]]\nname = \"c\"\nmeaning = \"\"\nlink = \"identity\"\n",
            if ids { "ids" } else { "one-hot" },
        );
        Manifest::from_toml(&text).unwrap()
    }

    #[test]
    fn short_long_and_special_sequences_are_among_them() {
        let samples: Vec<Vec<u32>> = (1..60).map(|n| vec![n % 4; 10 * n as usize]).collect();
        let all = sequences(&manifest(false, 128, 4), &samples, 0, (2, true));
        let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
        assert!(
            lengths.is_sorted() && lengths.iter().all(|n| n % 4 == 0),
            "{lengths:?}"
        );
        assert_eq!((lengths[0], lengths[lengths.len() - 1]), (4, 132));
        assert_eq!(all.len(), SEQUENCES);
        assert!(all.iter().any(|s| s.contains(&u32::from(NO_BASE))));
        // Few lengths: the network is read anew for each.
        assert!(lengths.chunk_by(|a, b| a == b).count() <= 3);

        let all = sequences(&manifest(true, 16, 1), &[vec![7, 8, 9]], 40, (2, false));
        for id in 0..40 {
            assert!(all.iter().any(|s| s.contains(&id)), "{id}");
        }
        assert!(all.iter().all(|s| (1..=16).contains(&s.len())));
        assert!(sequences(&manifest(true, 16, 1), &[], 1 << 20, (2, false)).len() < 8);
        // Something is left to compare, however short all are.
        let mut short = manifest(true, 2, 1);
        short.outputs.push(short.outputs[0].clone());
        assert!(!sequences(&short, &[], 9, (2, false)).is_empty());
    }

    /// Rows of two columns, and those of the network.
    fn sums(own: &[f32], network: &[f32]) -> Sums {
        let mut sums = Sums::new(2);
        let rows = Rows {
            values: network.to_vec(),
            cut: [0, 0],
            original: true,
        };
        sums.add(own, &rows, own.len() / 2).unwrap();
        sums
    }

    /// No site in sight: the probabilities hardly vary, and rounding is as large as what they vary
    /// by.
    #[test]
    fn probabilities_within_half_a_step_are_close_whatever_their_cosine() {
        let network = [0.999, 0.001, 0.9991, 0.0009, 0.9989, 0.0011];
        let near = [0.9991, 0.0009, 0.9989, 0.0011, 0.999, 0.001];
        assert!(sums(&near, &network).cosine() < 0.98);
        assert!(sums(&near, &network).are_close());
        let mut off = near;
        off[2] -= 0.0025;
        assert!(!sums(&off, &network).are_close());
        off[2] = f32::NAN;
        assert!(!sums(&off, &network).are_close());
        // Small ones alone, numbers below 0 and above 1: nothing says that these are probabilities.
        for (factor, term) in [(0.1, 0.0), (1.0, -0.01), (2.0, 0.0)] {
            let of =
                |values: &[f32]| -> Vec<f32> { values.iter().map(|x| x * factor + term).collect() };
            assert!(!sums(&of(&near), &of(&network)).are_close(), "{factor}");
        }
    }

    #[test]
    fn a_bound_is_one_of_the_precision_unless_it_is_stated() {
        assert_eq!(Check::Precision.bound(Precision::Int8), Some(0.98));
        assert_eq!(Check::Cosine(0.5).bound(Precision::F32), Some(0.5));
        assert_eq!(Check::Skip.bound(Precision::Int8), None);
    }
}
