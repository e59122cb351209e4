//! Soft-max over channels.

use super::form::{Input, Written};
use super::operator::{Operand, Operator, Run, floats};
use crate::kernels::softmax;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Soft-max over the channels of float rows without halo, with the length as second input; or over
/// a vector, its only input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxSpec {
    /// Channels.
    pub channels: usize,
    /// True for a vector.
    pub vector: bool,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
}

impl Operator for SoftmaxSpec {
    fn name(&self) -> &'static str {
        "strandline_softmax"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        if self.vector {
            vec![Operand::Vector(self.channels)]
        } else {
            vec![Operand::Unpadded(self.channels), Operand::Length]
        }
    }

    fn input(&self) -> Input {
        if self.vector {
            Input::Vector
        } else {
            Input::Unpadded
        }
    }

    fn written(&self) -> Written {
        if self.vector {
            Written::Vector
        } else {
            Written::Last
        }
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn reach(&self) -> usize {
        0
    }

    fn keeps_apart(&self) -> bool {
        true
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            inputs,
            output,
            extent,
            sequences,
            ..
        } = run;
        let shape = inputs[0].shape();
        let rows = if self.vector {
            sequences
        } else {
            extent.rows_in
        };
        let last = shape.last().copied().unwrap_or(0);
        ensure!(
            last == self.channels || (self.vector && last >= rows * self.channels),
            "{}: {shape:?}, not {} channels",
            attributes.label,
            self.channels
        );
        let count = rows * self.channels;
        let mut memory = output.try_as_plain_ram_mut()?;
        let target = &mut memory.as_slice_mut::<f32>()?[..count];
        let values = &floats(&inputs[0])?[..count];
        softmax::softmax(attributes.isa, values, self.channels, target);
        Ok(())
    }
}
