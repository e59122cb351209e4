//! Values of which there are few, as rows of a table.

use super::form::{Input, Written};
use super::operator::{Need, Operand, Operator, Run, check_size, floats};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// The row of the value of each token. Inputs: values and the length. Tensors: `levels`, ascending,
/// and `table`, a row for each, f32.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelsSpec {
    /// Channels.
    pub channels: usize,
    /// Values that there are.
    pub levels: usize,
}

impl Operator for LevelsSpec {
    fn name(&self) -> &'static str {
        "strandline_levels"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        check_size("levels", self.levels)
    }

    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        vec![
            Need::floats("levels", self.levels),
            Need::floats("table", self.levels.saturating_mul(self.channels)),
        ]
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Values, Operand::Length]
    }

    fn input(&self) -> Input {
        Input::Codes
    }

    fn written(&self) -> Written {
        Written::Rows
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        let values = floats(&run.inputs[0])?;
        let (levels, table) = (attributes.floats(0)?, attributes.floats(1)?);
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let range = attributes.data(rows, self.channels);
        let target = &mut memory.as_slice_mut::<f32>()?[range];
        for (token, (value, row)) in values[..rows]
            .iter()
            .zip(target.chunks_exact_mut(self.channels))
            .enumerate()
        {
            // -0 is 0.
            let found = levels.binary_search_by(|level| level.total_cmp(&(value + 0.0)));
            let level = found.ok().with_context(|| {
                format!("the value {value} of token {token} is none of the model's bins")
            })?;
            row.copy_from_slice(&table[level * self.channels..][..self.channels]);
        }
        Ok(())
    }
}
