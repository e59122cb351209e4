//! Rows with channels of zeros behind their own.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, check_padded, check_size};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Rows with channels of zeros behind their own: kernels take integer channels by fours. Inputs:
/// rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WidenSpec {
    /// Channels of the input.
    #[serde(rename = "channels")]
    pub from: usize,
    /// Channels of the output.
    pub to: usize,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is read and written.
    pub output: Written,
}

impl Operator for WidenSpec {
    fn name(&self) -> &'static str {
        "strandline_widen"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (from, to) = (self.from, self.to);
        check_size("channels", from)?;
        if from > to {
            return Err(format!("{from} channels widened to {to}"));
        }
        check_padded(self.output)
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![
            Operand::Rows(self.from, RowKind::unscaled(self.output)),
            Operand::Length,
        ]
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.to
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            inputs,
            output,
            ..
        } = run;
        let size = output.datum_type().size_of();
        let (from, to) = attributes.row_bytes(
            (&inputs[0], self.from),
            (output, self.to),
            run.extent.rows_in,
        )?;
        let wide_rows = to.chunks_exact_mut(self.to * size);
        for (row, wide) in from.chunks_exact(self.from * size).zip(wide_rows) {
            wide[..row.len()].copy_from_slice(row);
            wide[row.len()..].fill(0);
        }
        Ok(())
    }
}
