//! One number a token, as a row of channels.

use super::form::{Input, Written};
use super::operator::{Need, Operand, Operator, Run, floats};
use crate::kernels::{Activation, Real};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// `activation(clamp(v) · weight[c] + bias[c])` of the value v of each token, to float rows: the
/// first layer of a network that reads values, which span too much for integers of one scale.
/// Inputs: values and the length. Tensors: `weight` and `bias`, f32.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalarSpec {
    /// Channels.
    pub channels: usize,
    /// Smaller values become this one.
    pub least: Real,
    /// Larger values become this one.
    pub most: Real,
    /// Of the sum.
    #[serde(rename = "function")]
    pub activation: Activation,
}

impl Operator for ScalarSpec {
    fn name(&self) -> &'static str {
        "strandline_scalar"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (least, most) = (self.least.get(), self.most.get());
        if least > most {
            return Err(format!("values from {least} to {most}"));
        }
        Ok(())
    }

    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        vec![
            Need::floats("weight", self.channels),
            Need::floats("bias", self.channels),
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
        let (weight, bias) = (attributes.floats(0)?, attributes.floats(1)?);
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let range = attributes.data(rows, self.channels);
        let target = &mut memory.as_slice_mut::<f32>()?[range];
        for (value, row) in values[..rows]
            .iter()
            .zip(target.chunks_exact_mut(self.channels))
        {
            let value = value.clamp(self.least.get(), self.most.get());
            // A product and a sum, each rounded: the same bits everywhere.
            for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
                *x = value * w + b;
            }
        }
        self.activation.apply(attributes.isa, target);
        Ok(())
    }
}
