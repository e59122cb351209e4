//! Rows side by side.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, check_size};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Rows side by side. Inputs: rows, the length, more rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpec {
    /// Channels of each input.
    pub channels: Vec<usize>,
    /// What each input is; scales in units of the output.
    pub rows: Vec<RowKind>,
    /// Positions of the network's input that one row of these inputs stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for JoinSpec {
    fn name(&self) -> &'static str {
        "strandline_join"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (channels, rows) = (&self.channels, &self.rows);
        if channels.len() != rows.len() || channels.is_empty() {
            return Err(format!("{} kinds of rows for {channels:?}", rows.len()));
        }
        channels.iter().try_for_each(|c| check_size("channels", *c))
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        let rows = self.channels.iter().zip(&self.rows);
        let mut operands: Vec<_> = rows
            .map(|(channels, kind)| Operand::Rows(*channels, *kind))
            .collect();
        operands.insert(1, Operand::Length);
        operands
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        let channels = self.channels.iter();
        channels.fold(0, |sum, channels| sum.saturating_add(*channels))
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, count) = (run.attributes, run.extent.rows_out);
        // The second input is the length.
        let rows = run.inputs.iter().take(1).chain(run.inputs.iter().skip(2));
        let mut readers: TVec<_> = tvec!();
        for ((input, channels), kind) in rows.zip(&self.channels).zip(&self.rows) {
            let reader = attributes.reader(input, *channels, *kind, count)?;
            readers.push((reader, *channels));
        }
        let form = (self.output, self.channels(), count);
        let unrounded = &mut run.scratch.unrounded;
        attributes.write_rows(run.output, form, unrounded, |row, values| {
            let mut at = 0;
            for (read, channels) in &readers {
                read(row, &mut values[at..at + channels]);
                at += channels;
            }
        })
    }
}
