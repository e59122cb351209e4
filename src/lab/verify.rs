//! A packed model against the float network it came from.

use crate::annotate::{AnnotateError, Scorer, WholeScorer};
use crate::call::Strand;
use crate::compile::float;
use crate::model::manifest::Tokeniser;
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

/// Runs both over the samples, forward strand; `progress` is called after each piece.
///
/// # Errors
/// Where either cannot be run.
pub fn compare(
    model: Model,
    onnx: &Path,
    samples: &[Vec<u8>],
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
    let mut add = |own: &[f32], other: &[f32]| {
        progress();
        for (rows, others) in own.chunks_exact(columns).zip(other.chunks_exact(columns)) {
            bases += 1;
            for (c, sum) in sums.iter_mut().enumerate() {
                let (a, b) = (f64::from(rows[c]), f64::from(others[c]));
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
    };
    let mut reference = float::FloatModel::read(onnx, &manifest)?;
    if manifest.is_raw() {
        if manifest.tokeniser == Tokeniser::Ids {
            let reason = "reads hold no token ids to compare on".to_string();
            return Err(ModelError::Pack(reason).into());
        }
        let mut runner = model.spawn()?;
        for piece in samples.iter().flat_map(|sample| sample.chunks(RAW_PIECE)) {
            let piece = &piece[..piece.len() - piece.len() % manifest.multiple];
            if !piece.is_empty() {
                let own = runner.run(piece)?.to_vec();
                add(&own, &reference.run(piece)?);
            }
        }
    } else if manifest.is_scan() {
        let mut scorer = Scorer::new(model)?;
        for piece in samples.iter().flat_map(|sample| sample.chunks(PIECE)) {
            let own = scorer.raw(piece, Strand::Forward)?;
            add(&own, &reference.run(piece)?);
        }
    } else {
        let mut scorer = WholeScorer::new(model)?;
        for sample in samples {
            if let Some(own) = scorer.raw(sample)? {
                add(&own.raw, &reference.run(&own.padded)?);
            }
        }
    }
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
    Ok(Comparison {
        columns: columns.collect(),
        bases,
    })
}
