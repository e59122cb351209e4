//! Each row several times.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, check_padded, check_size};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Each row `factor` times. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatSpec {
    /// Channels.
    pub channels: usize,
    /// Rows out of one.
    pub factor: usize,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is read and written.
    pub output: Written,
}

impl Operator for RepeatSpec {
    fn name(&self) -> &'static str {
        "strandline_repeat"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        check_size("factor", self.factor)?;
        check_padded(self.output)
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![
            Operand::Rows(self.channels, RowKind::unscaled(self.output)),
            Operand::Length,
        ]
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn rows_ratio(&self) -> (usize, usize) {
        (self.factor, 1)
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            inputs,
            output,
            ..
        } = run;
        let row = self.channels * output.datum_type().size_of();
        let (from, to) = attributes.row_bytes(
            (&inputs[0], self.channels),
            (output, self.channels),
            run.extent.rows_in,
        )?;
        let copies = to.chunks_exact_mut(row * self.factor);
        for (row, copies) in from.chunks_exact(row).zip(copies) {
            for copy in copies.chunks_exact_mut(row.len()) {
                copy.copy_from_slice(row);
            }
        }
        Ok(())
    }
}
