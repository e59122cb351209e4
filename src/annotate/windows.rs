//! Scores of windows: models that take a sequence at once, on sequences of any length.

use super::calibrate::Calibration;
use super::error::AnnotateError;
use super::tokens::{Batch, Intake};
use crate::call::Strand;
use crate::model::manifest::Manifest;
use crate::model::{Model, Runner};
use crate::reads::nucleotide;
use crate::tokenise::Windows;
use std::ops::Range;

/// Scores windows of a model whose tokens are made of letters, one after another.
pub struct WindowScorer {
    model: Model,
    runner: Runner,
    intake: Intake,
    calibrations: Vec<Calibration>,
    batch: Batch,
    scores: Vec<f32>,
}

impl WindowScorer {
    /// Prepares a model.
    ///
    /// # Errors
    /// Where the model cannot be run, reads no letters, or has a row for each token.
    pub fn new(model: Model) -> Result<WindowScorer, AnnotateError> {
        let manifest = model.manifest();
        let refuse = |why: &str| {
            let name = &model.manifest().name;
            Err(AnnotateError::Options(format!("{name} {why}")))
        };
        let intake = Intake::of(manifest).map_err(AnnotateError::Options)?;
        let Some(intake) = intake.filter(|intake| intake.vocabulary().is_some()) else {
            return refuse("reads no letters: `bench-model` gives its numbers");
        };
        if !model.is_pooled() {
            return refuse("gives a row for each token: `bench-model` shows them");
        }
        let outputs = manifest.outputs.iter();
        Ok(WindowScorer {
            calibrations: outputs
                .map(|output| Calibration::new(&output.calibration, output.link))
                .collect(),
            runner: model.spawn()?,
            intake,
            model,
            batch: Batch::default(),
            scores: Vec::new(),
        })
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        self.model.manifest()
    }

    /// How it takes a sequence.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Gives the scores of each window, one an output, in order of position. On the reverse strand
    /// a window is the reverse complement of the same bases. Sequences that are too short have
    /// none.
    ///
    /// # Errors
    /// Where the model or `take` fails.
    pub fn each<E: From<AnnotateError>>(
        &mut self,
        codes: &[u8],
        windows: Windows,
        strand: Strand,
        mut take: impl FnMut(Range<usize>, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        if codes.len() < self.intake.sequence().shortest {
            return Ok(());
        }
        let mut numbers = 0..windows.count();
        let next = |window: &mut Vec<u8>| {
            let number = numbers.next()?;
            let own = &codes[windows.range(number)];
            window.extend_from_slice(own);
            if strand == Strand::Reverse {
                nucleotide::reverse_complement(own, window);
            }
            Some(number)
        };
        let (runner, batch) = (&mut self.runner, &mut self.batch);
        let (calibrations, room) = (&self.calibrations, &mut self.scores);
        self.intake.each(runner, batch, next, |number, raw| {
            room.clear();
            let calibrated = calibrations.iter().zip(raw);
            room.extend(calibrated.map(|(c, &raw)| c.score(raw)));
            take(windows.range(number), room)
        })
    }

    /// The mean of all windows, `stride` bases apart, one an output; `None` where the sequence is
    /// too short.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn mean(
        &mut self,
        codes: &[u8],
        stride: Option<usize>,
        strand: Strand,
    ) -> Result<Option<Vec<f32>>, AnnotateError> {
        let windows = self.intake.windows(codes.len(), stride);
        let mut sums = vec![0f64; self.calibrations.len()];
        let mut count = 0u32;
        self.each(codes, windows, strand, |_, scores| {
            count += 1;
            for (sum, score) in sums.iter_mut().zip(scores) {
                *sum += f64::from(*score);
            }
            Ok::<(), AnnotateError>(())
        })?;
        let mean = |sum: &f64| (sum / f64::from(count)) as f32;
        Ok((count > 0).then(|| sums.iter().map(mean).collect()))
    }
}
