//! Pooling of neighbouring rows.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, check_size};
use super::scratch::{Scratch, zeros};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// What is kept of a window, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowPooling {
    /// The largest.
    Max,
    /// The mean of those rows that there are.
    Mean,
    /// The mean with zeros for rows beyond the ends.
    PaddedMean,
}

/// The maximum or mean of `width` rows every `stride` rows. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Channels.
    pub channels: usize,
    /// Rows of a window.
    pub width: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Rows before the output's own position.
    pub before: usize,
    /// What is kept of a window.
    #[serde(rename = "taken")]
    pub pooling: WindowPooling,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is read and written.
    pub output: Written,
}

impl Operator for WindowSpec {
    fn name(&self) -> &'static str {
        "strandline_window"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (width, before) = (self.width, self.before);
        check_size("width", width)?;
        check_size("stride", self.stride)?;
        if before >= width {
            return Err(format!("a window of {width} with {before} before it"));
        }
        Ok(())
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
        (1, self.stride)
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            extent,
            inputs,
            output,
            ..
        } = run;
        let Scratch { row, unrounded, .. } = run.scratch;
        let kind = RowKind::unscaled(self.output);
        let read = attributes.reader(&inputs[0], self.channels, kind, extent.rows_in)?;
        let one = zeros(row, self.channels);
        let form = (self.output, self.channels, extent.rows_out);
        attributes.write_rows(output, form, unrounded, |row, values| {
            let first = (row * self.stride).saturating_sub(self.before);
            let last = (row * self.stride + self.width - self.before).min(extent.rows_in);
            read(first, values);
            for from in first + 1..last {
                read(from, one);
                for (y, x) in values.iter_mut().zip(one.iter()) {
                    *y = match self.pooling {
                        WindowPooling::Max => y.max(*x),
                        WindowPooling::Mean | WindowPooling::PaddedMean => *y + x,
                    };
                }
            }
            let count = match self.pooling {
                WindowPooling::Max => return,
                WindowPooling::Mean => last - first,
                WindowPooling::PaddedMean => self.width,
            };
            values.iter_mut().for_each(|y| *y /= count as f32);
        })
    }
}
