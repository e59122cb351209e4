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
            failed: None,
        }
    }

    /// Why [`Decisions`] failed, where it was they and not the output that ended the run.
    pub fn decision_error(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Gives the output and the taker of decisions back.
    pub fn into_inner(self) -> (O, D) {
        (self.output, self.decisions)
    }

    fn decided(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
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
        self.decided(result)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.output.pause()?;
        let flushed = self.decisions.flush();
        self.decided(flushed)
    }

    fn rejected(&mut self, reason: &str) {
        self.output.rejected(reason);
    }
}
