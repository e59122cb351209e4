//! Codes to tract's own one-hot rows.

use super::form::{Input, Written};
use super::operator::{Operand, Operator, Run, bytes};
use crate::kernels::BASES;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Codes to tract's own one-hot `[1, 4, T]`. Inputs: codes and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneHotSpec {}

impl Operator for OneHotSpec {
    fn name(&self) -> &'static str {
        "strandline_one_hot"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Codes, Operand::Length]
    }

    fn input(&self) -> Input {
        Input::Codes
    }

    fn written(&self) -> Written {
        Written::Plain
    }

    fn channels(&self) -> usize {
        BASES
    }

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let input = &run.inputs[0];
        let codes = &bytes(input)?[..run.extent.rows_in];
        let room = input.shape()[0];
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        target.fill(0.0);
        for (t, &code) in codes.iter().enumerate() {
            if usize::from(code) < BASES {
                target[usize::from(code) * room + t] = 1.0;
            }
        }
        Ok(())
    }
}
