//! A dense layer on a vector.

use super::form::{Input, Written};
use super::operator::{Attributes, Need, Operand, Operator, Run, check_size, floats};
use crate::kernels::dense::dense;
use crate::kernels::float::Weights;
use crate::kernels::{Activation, padded};
use crate::model::manifest::Precision;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// A dense layer: weights of fp16 or f32. Its only input is a vector. Tensors: `weight`, `bias`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseSpec {
    /// Length of the input.
    pub inputs: usize,
    /// Length of the output.
    pub outputs: usize,
    /// What follows.
    #[serde(rename = "function")]
    pub activation: Activation,
}

impl Operator for DenseSpec {
    fn name(&self) -> &'static str {
        "strandline_dense"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        check_size("inputs", self.inputs)
    }

    fn tensors(&self, precision: Precision) -> Vec<Need> {
        tensors(self.inputs, self.outputs, precision)
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Vector(self.inputs)]
    }

    fn input(&self) -> Input {
        Input::Vector
    }

    fn written(&self) -> Written {
        Written::Vector
    }

    fn channels(&self) -> usize {
        self.outputs
    }

    fn keeps_apart(&self) -> bool {
        true
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let attributes = run.attributes;
        let weights = weights(attributes)?;
        let input = floats(&run.inputs[0])?;
        let fits = input.len() >= run.sequences * self.inputs;
        ensure!(fits, "a vector of {}", input.len());
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        let (isa, bias) = (attributes.isa, attributes.floats(1)?);
        let vectors = input.chunks_exact(self.inputs).take(run.sequences);
        for (input, target) in vectors.zip(target.chunks_exact_mut(self.outputs)) {
            dense(isa, input, weights, bias, self.activation, target);
        }
        Ok(())
    }
}

/// Tensors of a dense layer.
pub(super) fn tensors(inputs: usize, outputs: usize, precision: Precision) -> Vec<Need> {
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::Int8 | Precision::Fp16 => Dtype::F16,
    };
    let lanes = padded(outputs);
    vec![
        Need::new("weight", dtype, inputs * lanes),
        Need::floats("bias", lanes),
    ]
}

/// The first of them.
pub(super) fn weights(attributes: &Attributes) -> TractResult<Weights<'_>> {
    let weight = attributes.tensor(0)?;
    Ok(match attributes.precision {
        Precision::F32 => Weights::F32(weight.f32().context("weights")?),
        _ => Weights::F16(weight.f16().context("weights")?),
    })
}
