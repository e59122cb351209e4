//! Decisions in a live run.

use super::judge::Judge;
use super::policy::{Decision, Policy};
use super::writer::{Decisions, ReadDecision};
use crate::metrics::Metrics;
use crate::stream::live::output::{FinishedPiece, LiveOutput, SourceInfo};
use std::io;
use std::sync::Arc;

/// Stands before the output of a live run and decides on its reads: each decision is sent back to
/// where the read comes from, counted, and given to `decisions`.
pub struct Decider<O, D> {
    output: O,
    judge: Judge,
    decisions: D,
    metrics: Arc<Metrics>,
    sources: Vec<SourceInfo>,
    lost: u64,
    failed: Option<io::Error>,
}

impl<O: LiveOutput, D: Decisions> Decider<O, D> {
    /// Pieces go on to `output`; `metrics` are those of the run.
    pub fn new(output: O, policy: Policy, decisions: D, metrics: Arc<Metrics>) -> Decider<O, D> {
        Decider {
            output,
            judge: Judge::new(policy),
            decisions,
            metrics,
            sources: vec![],
            lost: 0,
            failed: None,
        }
    }

    /// Why [`Decisions`] first failed.
    pub fn decision_error(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Decisions that [`Decisions`] lost, or could not write so far. They were sent back and
    /// counted all the same.
    pub fn lost(&self) -> u64 {
        self.lost + self.decisions.unwritten()
    }

    /// Gives the output and the taker of decisions back.
    pub fn into_inner(self) -> (O, D) {
        (self.output, self.decisions)
    }

    /// Decisions that nobody can note down are still decisions: the run goes on.
    fn noted(&mut self, error: io::Error) {
        if self.failed.is_none() {
            log::error!("decisions cannot be written, and the run goes on: {error}");
            self.failed = Some(error);
        }
    }
}

impl<O: LiveOutput, D: Decisions> LiveOutput for Decider<O, D> {
    fn begin(&mut self, sources: &[SourceInfo]) {
        self.sources = sources.to_vec();
        self.output.begin(sources);
    }

    fn piece(&mut self, piece: &FinishedPiece<'_>) -> io::Result<()> {
        self.output.piece(piece)?;
        let Some(decided) = self.judge.piece(piece) else {
            return Ok(());
        };
        let source = &self.sources[piece.source];
        let eject = decided.decision == Decision::Eject;
        if let Some(replies) = &source.replies {
            replies.decision(piece.channel, piece.read, eject);
        }
        self.metrics.decided(eject, piece.received);
        let result = self.decisions.decision(&ReadDecision {
            source: &source.name,
            piece,
            decided,
        });
        if let Err(error) = result {
            self.lost += 1;
            self.noted(error);
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        self.output.pause()?;
        if let Err(error) = self.decisions.flush() {
            self.noted(error);
        }
        Ok(())
    }

    fn rejected(&mut self, reason: &str) {
        self.output.rejected(reason);
    }
}
