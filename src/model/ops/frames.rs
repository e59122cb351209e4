//! Maximum and mean by reading frame.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, bytes, check_size, floats};
use crate::kernels::Rows;
use crate::kernels::pool::{FRAMES, frames_float, frames_unsigned};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Maximum and mean of every third row, from each of the last three back, to a vector of
/// `6 · channels`. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FramesSpec {
    /// Channels of the rows.
    pub channels: usize,
    /// What the rows are: unsigned or float.
    pub rows: RowKind,
}

impl Operator for FramesSpec {
    fn name(&self) -> &'static str {
        "strandline_frames"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        check_size("channels", self.channels)
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Rows(self.channels, self.rows), Operand::Length]
    }

    fn written(&self) -> Written {
        Written::Vector
    }

    fn channels(&self) -> usize {
        self.channels.saturating_mul(2 * FRAMES)
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, input) = (run.attributes, &run.inputs[0]);
        let (channels, count) = (self.channels, run.extent.rows_in);
        ensure!(
            count > 0 && count.is_multiple_of(FRAMES),
            "{}: {count} rows in frames of {FRAMES}",
            attributes.label
        );
        let rows = Rows {
            positions: count,
            ..attributes.rows_of(input, channels, count)?
        };
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        match self.rows {
            RowKind::Unsigned(scale) => {
                let input = &bytes(input)?[..rows.len(channels)];
                frames_unsigned(input, rows, channels, scale.get(), target);
            }
            RowKind::Float => {
                let input = &floats(input)?[attributes.data(count, channels)];
                frames_float(input, count, channels, target);
            }
            _ => bail!("{} takes unsigned or float rows", attributes.label),
        }
        Ok(())
    }
}
