//! Float rows to integer rows.

use super::form::{RowKind, Written};
use super::int8_rows::int8_rows;
use super::operator::{Operand, Operator, Run, floats};
use super::wanted::each_range;
use crate::kernels::Real;
use crate::kernels::norm;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Float rows to signed or dynamic ones. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantiseSpec {
    /// Channels.
    pub channels: usize,
    /// The scale of signed rows.
    pub scale: Real,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for QuantiseSpec {
    fn name(&self) -> &'static str {
        "strandline_quantise"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        if self.scale.get() <= 0.0 {
            return Err("the scale is positive".to_string());
        }
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![
            Operand::Rows(self.channels, RowKind::Float),
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

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        attributes.rows_of(&run.inputs[0], self.channels, rows)?;
        let input = &floats(&run.inputs[0])?[attributes.data(rows, self.channels)];
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<u8>()?;
        let form = (self.output, self.scale.get());
        each_range(run.wanted, run.spread, rows, 1, |own| {
            let input = &input[own.start * self.channels..own.end * self.channels];
            let target = int8_rows(attributes, target, form, (&own, self.channels))?;
            norm::quantise(attributes.isa, input, self.channels, target);
            Ok(())
        })
    }
}
