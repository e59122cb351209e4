//! Layer norm of a vector.

use super::form::{Input, Written};
use super::layer_norm::centred;
use super::operator::{Need, Operand, Operator, Run, floats};
use crate::kernels::Real;
use crate::kernels::norm::{Input as NormInput, LayerNorm};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Layer norm of a vector. Its only input is that. Tensors: `gamma`, `beta`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorNormSpec {
    /// Length of the vector.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: Real,
    /// False where the mean is not subtracted.
    #[serde(default = "centred", skip_serializing_if = "Clone::clone")]
    pub centred: bool,
}

impl Operator for VectorNormSpec {
    fn name(&self) -> &'static str {
        "strandline_vector_norm"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        if self.epsilon.get() <= 0.0 {
            return Err("epsilon is positive".to_string());
        }
        Ok(())
    }

    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        vec![
            Need::floats("gamma", self.channels),
            Need::floats("beta", self.channels),
        ]
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Vector(self.channels)]
    }

    fn input(&self) -> Input {
        Input::Vector
    }

    fn written(&self) -> Written {
        Written::Vector
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn keeps_apart(&self) -> bool {
        true
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let attributes = run.attributes;
        let norm = LayerNorm {
            gamma: attributes.floats(0)?,
            beta: attributes.floats(1)?,
            epsilon: self.epsilon.get(),
            centred: self.centred,
        };
        let count = run.sequences * self.channels;
        let input = floats(&run.inputs[0])?;
        ensure!(input.len() >= count, "a vector of {}", input.len());
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = &mut memory.as_slice_mut::<f32>()?[..count];
        let input = NormInput::Plain(&input[..count]);
        norm.run(attributes.isa, input, Some(target), None);
        Ok(())
    }
}
