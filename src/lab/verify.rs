//! A packed model against the float network it came from.

use crate::annotate::{AnnotateError, Scorer, WholeScorer};
use crate::call::Strand;
use crate::compile::float::{FloatModel, Rows};
use crate::kernels::NO_BASE;
use crate::model::{Model, ModelError};
use std::path::Path;

/// Longest piece that is compared at once.
const PIECE: usize = 20_000;

/// The same for other networks; a multiple of every stride.
const RAW_PIECE: usize = 4_096;

/// One output column of two models.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnComparison {
    /// The column's name.
    pub name: String,
    /// Largest difference of the raw outputs.
    pub largest: f64,
    /// Mean difference of the raw outputs.
    pub mean: f64,
    /// Cosine similarity of the raw outputs.
    pub cosine: f64,
    /// Positions whose score reaches the default threshold, in either.
    pub calls: u64,
    /// Of them, those in one only.
    pub changed: u64,
}

/// All columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// One an output.
    pub columns: Vec<ColumnComparison>,
    /// Positions compared; sequences, for a model that scores them whole.
    pub bases: u64,
    /// Cosine similarity of all columns together.
    pub cosine: f64,
    /// Why the network was run as the compiler rewrites it, not as its file has it.
    pub rewritten: Option<String>,
}

#[derive(Default, Clone)]
struct Sums {
    largest: f64,
    difference: f64,
    dot: f64,
    own: f64,
    other: f64,
    calls: u64,
    changed: u64,
}

/// Pieces of at most so many positions, by length: the network is read anew for each.
fn by_length(samples: &[Vec<u32>], most: usize) -> Vec<&[u32]> {
    let pieces = samples.iter().flat_map(|sample| sample.chunks(most.max(1)));
    let mut pieces: Vec<&[u32]> = pieces.collect();
    pieces.sort_by_key(|piece| piece.len());
    pieces
}

fn codes(piece: &[u32]) -> Vec<u8> {
    let code = |&code: &u32| u8::try_from(code).unwrap_or(NO_BASE);
    piece.iter().map(code).collect()
}

/// Runs both over the samples, forward strand; `progress` is called after each piece.
///
/// # Errors
/// Where either cannot be run.
pub fn compare(
    model: Model,
    onnx: &Path,
    samples: &[Vec<u32>],
    progress: &dyn Fn(),
) -> Result<Comparison, AnnotateError> {
    let manifest = model.manifest().clone();
    let columns = manifest.outputs.len();
    let floors: Vec<f32> = manifest
        .outputs
        .iter()
        .map(|o| {
            let calibration = crate::annotate::calibrate::Calibration::new(&o.calibration, o.link);
            calibration.raw_floor(o.threshold)
        })
        .collect();
    let mut sums = vec![Sums::default(); columns];
    let mut bases = 0;
    let mut add = |own: &[f32], other: &Rows| -> Result<(), ModelError> {
        progress();
        // Both have rows there.
        let [first, last] = other.cut.map(|positions| positions * columns);
        let own = own.get(first..own.len().saturating_sub(last));
        let own = own.unwrap_or_default();
        let other = &other.values;
        if own.len() != other.len() {
            let (own, other) = (own.len(), other.len());
            return Err(ModelError::Pack(format!(
                "{own} numbers of the file, {other} of the network: these are two networks"
            )));
        }
        for (rows, others) in own.chunks_exact(columns).zip(other.chunks_exact(columns)) {
            bases += 1;
            for (c, sum) in sums.iter_mut().enumerate() {
                let (a, b) = (f64::from(rows[c]), f64::from(others[c]));
                // What has no value has none in either.
                if a.is_nan() && b.is_nan() {
                    continue;
                }
                sum.largest = sum.largest.max((a - b).abs());
                sum.difference += (a - b).abs();
                sum.dot += a * b;
                sum.own += a * a;
                sum.other += b * b;
                let (called, was_called) = (rows[c] >= floors[c], others[c] >= floors[c]);
                sum.calls += u64::from(called || was_called);
                sum.changed += u64::from(called != was_called);
            }
        }
        Ok(())
    };
    let mut reference = FloatModel::read(onnx, &manifest)?;
    let least = reference.cut().iter().sum::<usize>() + 1;
    // As many positions as an output has columns could be either; token models have channels last.
    let ids = manifest.tokeniser.reads_ids();
    let least = if ids { least } else { least + columns };
    if manifest.is_raw() || ids {
        // A sequence of tokens is scored as it is, bases may be cut anywhere.
        let words = manifest.tokeniser.words();
        let most = if ids {
            manifest.tile * words
        } else {
            RAW_PIECE
        };
        let mut runner = model.spawn()?;
        for piece in by_length(samples, most) {
            let whole = manifest.multiple * words;
            let piece = &piece[..piece.len() - piece.len() % whole];
            if piece.len() < least {
                continue;
            }
            let own = runner.run_sample(piece)?.to_vec();
            let other = reference.run(piece)?;
            add(&own, &other)?;
        }
    } else if manifest.is_scan() {
        let mut scorer = Scorer::new(model)?;
        for piece in by_length(samples, PIECE)
            .into_iter()
            .filter(|p| p.len() >= least)
        {
            let own = scorer.raw(&codes(piece), Strand::Forward)?;
            let other = reference.run(piece)?;
            add(&own, &other)?;
        }
    } else {
        let mut scorer = WholeScorer::new(model)?;
        for sample in by_length(samples, usize::MAX) {
            if let Some(own) = scorer.raw(&codes(sample))? {
                let padded: Vec<u32> = own.padded.iter().map(|&code| u32::from(code)).collect();
                add(&own.raw, &reference.run(&padded)?)?;
            }
        }
    }
    let rewritten = reference.rewritten().map(str::to_string);
    if bases == 0 {
        let reason = "no sample is long enough to compare on".to_string();
        return Err(ModelError::Pack(reason).into());
    }
    let columns = manifest.outputs.iter().zip(&sums).map(|(output, s)| {
        let norm = (s.own * s.other).sqrt();
        ColumnComparison {
            name: output.name.clone(),
            largest: s.largest,
            mean: s.difference / bases as f64,
            cosine: if norm > 0.0 { s.dot / norm } else { 1.0 },
            calls: s.calls,
            changed: s.changed,
        }
    });
    let sum = |of: fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
    let norm = (sum(|s| s.own) * sum(|s| s.other)).sqrt();
    Ok(Comparison {
        cosine: if norm > 0.0 {
            sum(|s| s.dot) / norm
        } else {
            1.0
        },
        columns: columns.collect(),
        bases,
        rewritten,
    })
}
