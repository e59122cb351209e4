//! The second look of models with tiers.

use super::build::SecondStage;
use super::manifest::Tier;
use super::ops::context::Context;
use super::turn::{State, execute};
use std::ops::Range;
use tract_core::internal::*;

/// How often a worker took the second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecondLook {
    /// Positions that were scored, context included.
    pub positions: u64,
    /// Of them, those with a score of the better tier.
    pub looked: u64,
}

/// A worker's state of the second stage of a network.
#[derive(Debug)]
pub(super) struct SecondState {
    pub(super) state: State,
    pub(super) stage: Arc<SecondStage>,
    /// Rows that are looked at, ascending and apart.
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) looked: SecondLook,
}

impl SecondState {
    /// Rows of the better tier where they are asked for, and minus infinity elsewhere. `wanted` is
    /// what is asked for of a tier that is computed everywhere.
    pub(super) fn look(
        &mut self,
        context: &mut Context,
        first: &TValue,
        inputs: TVec<TValue>,
        wanted: Range<usize>,
        (positions, columns, rows): (usize, usize, &mut Vec<f32>),
    ) -> TractResult<()> {
        rows.resize(positions * columns, f32::NEG_INFINITY);
        let cascade = &self.stage.cascade;
        self.ranges.clear();
        if self.stage.tier == Tier::Accurate {
            self.ranges.push(wanted);
        } else {
            let values = first.try_as_plain_ram()?.as_slice::<f32>()?;
            let around = self.stage.around;
            let scores = values.chunks_exact(cascade.columns).take(positions);
            for (position, scores) in scores.enumerate() {
                if !scores
                    .iter()
                    .zip(&cascade.survive)
                    .any(|(x, least)| x >= least)
                {
                    continue;
                }
                let range = position.saturating_sub(around)..(position + around + 1).min(positions);
                match self.ranges.last_mut() {
                    Some(last) if range.start <= last.end => last.end = range.end,
                    _ => self.ranges.push(range),
                }
            }
        }
        self.looked.positions += positions as u64;
        self.looked.looked += self.ranges.iter().map(|r| r.len() as u64).sum::<u64>();
        if self.ranges.is_empty() {
            return Ok(());
        }
        context.wanted = Some(std::mem::take(&mut self.ranges));
        let outputs = execute(&mut self.state, context, inputs);
        self.ranges = context.wanted.take().unwrap_or_default();
        let outputs = outputs?;
        let output = outputs.first().context("no output")?;
        let values = output.try_as_plain_ram()?.as_slice::<f32>()?;
        for range in &self.ranges {
            let cells = range.start * columns..range.end * columns;
            let from = values
                .get(cells.clone())
                .context("an output that is too short")?;
            rows[cells].copy_from_slice(from);
        }
        Ok(())
    }
}
