//! Between our rows and tract's own tensors, which have channels first.

use super::form::{Input, RowKind, Written};
use super::operator::{Operand, Operator, Run, floats};
use super::scratch::zeros;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Rows to tract's own `[1, channels, T]`. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToPlainSpec {
    /// Channels of the rows.
    pub channels: usize,
    /// What the rows are.
    pub rows: RowKind,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
}

impl Operator for ToPlainSpec {
    fn name(&self) -> &'static str {
        "strandline_to_plain"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Rows(self.channels, self.rows), Operand::Length]
    }

    fn written(&self) -> Written {
        Written::Plain
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (channels, count) = (self.channels, run.extent.rows_in);
        let input = &run.inputs[0];
        let read = run.attributes.reader(input, channels, self.rows, count)?;
        let room = run.output.shape()[2];
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        let values = zeros(&mut run.scratch.row, channels);
        for t in 0..count {
            read(t, values);
            for (c, y) in values.iter().enumerate() {
                target[c * room + t] = *y;
            }
        }
        Ok(())
    }
}

/// tract's own `[1, channels, T]` to float rows, with halo or as the graph's output. Inputs: the
/// tensor and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromPlainSpec {
    /// Channels.
    pub channels: usize,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for FromPlainSpec {
    fn name(&self) -> &'static str {
        "strandline_from_plain"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Plain(self.channels), Operand::Length]
    }

    fn input(&self) -> Input {
        Input::Plain
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

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, shape) = (run.attributes, run.inputs[0].shape());
        let [1, channels, room] = *shape else {
            bail!("{}: a tensor of {shape:?}", attributes.label);
        };
        ensure!(
            channels == self.channels,
            "{}: {channels} channels",
            attributes.label
        );
        let input = floats(&run.inputs[0])?;
        let form = (self.output, channels, run.extent.rows_out);
        let unrounded = &mut run.scratch.unrounded;
        attributes.write_rows(run.output, form, unrounded, |row, values| {
            for (c, y) in values.iter_mut().enumerate() {
                *y = input[c * room + row];
            }
        })
    }
}
