//! Models that score a record as a whole: a promoter that was cut out already.

use super::calibrate::Calibration;
use super::error::AnnotateError;
use super::starts::pad;
use super::task::{Task, called};
use super::tokens::Intake;
use crate::call::{Call, CallKind, Flags, Strand};
use crate::model::{Model, ModelError, Runner};
use crate::reads::nucleotide::{self, N};

pub(crate) struct Whole {
    model: Model,
    number: u8,
    kind: CallKind,
    calibration: Calibration,
    intake: Intake,
}

/// The first bases of a read, which are the last of its reverse complement.
pub(crate) struct WholeState {
    first: Vec<u8>,
    reverse: Vec<u8>,
    padded: Vec<u8>,
    ids: Vec<u32>,
}

impl WholeState {
    pub fn reset(&mut self) {
        self.first.clear();
    }
}

impl Whole {
    pub fn new(model: Model, number: u8, intake: Intake) -> Whole {
        let output = &model.manifest().outputs[0];
        Whole {
            number,
            kind: called(output),
            calibration: Calibration::new(&output.calibration, output.link),
            intake,
            model,
        }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bases of a read that must be at hand at its end.
    pub fn margin(&self) -> usize {
        self.intake.sequence().longest
    }

    pub fn state(&self) -> WholeState {
        WholeState {
            first: Vec::with_capacity(self.intake.sequence().longest),
            reverse: Vec::with_capacity(self.intake.sequence().longest),
            padded: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Sees the codes of a read as they come.
    pub fn push(&self, state: &mut WholeState, codes: &[u8]) {
        let missing = self.intake.sequence().longest - state.first.len();
        state
            .first
            .extend_from_slice(&codes[..missing.min(codes.len())]);
    }

    /// Scores a read of `length` bases that ended with `last`.
    pub fn finish(
        &self,
        runner: &mut Runner,
        state: &mut WholeState,
        last: &[u8],
        length: u64,
        strands: &[Strand],
        calls: &mut Vec<Call>,
    ) -> Result<(), ModelError> {
        if length < self.intake.sequence().shortest as u64 {
            return Ok(());
        }
        state.reverse.resize(state.first.len(), N);
        nucleotide::reverse_complement(&state.first, &mut state.reverse);
        for &strand in strands {
            let codes = match strand {
                Strand::Forward => last,
                Strand::Reverse => &state.reverse,
            };
            let codes = &codes[codes.len().saturating_sub(self.intake.sequence().longest)..];
            pad(self.intake.sequence(), codes, &mut state.padded);
            let raw = self.intake.run(runner, &state.padded, &mut state.ids)?[0];
            calls.push(Call {
                start: 0,
                end: length,
                strand,
                kind: self.kind,
                score: self.calibration.score(raw),
                flags: if codes.contains(&N) {
                    Flags::AMBIGUOUS
                } else {
                    Flags::NONE
                },
                model: self.number,
            });
        }
        Ok(())
    }
}

/// Refuses models whose scores do not become calls, or whose calls would come twice.
pub(super) fn check(model: &Model) -> Result<(), AnnotateError> {
    let manifest = model.manifest();
    if manifest.cascade.is_some() {
        let reason = format!("{} has tiers: open it with one", manifest.name);
        return Err(AnnotateError::Options(reason));
    }
    if Task::of_model(model)?.makes_calls() {
        return Ok(());
    }
    Err(AnnotateError::Options(format!(
        "{} is for task {}, which makes no calls: `score` serves it",
        manifest.name, manifest.task
    )))
}
