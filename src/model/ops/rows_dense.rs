//! A dense layer on each row, in float, and the same to the bit everywhere.

use super::dense;
use super::form::{RowKind, Written};
use super::operator::{Need, Operand, Operator, Run, check_size, floats};
use crate::kernels::Activation;
use crate::kernels::dense::dense as kernel;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// A dense layer on each float row, row by row, as [`DenseSpec`](super::dense::DenseSpec) is on a
/// vector: slower than integer rows, for the few layers that these would lose too much in. Inputs:
/// rows and the length. Tensors: `weight`, `bias`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsDenseSpec {
    /// Channels of an input row.
    pub inputs: usize,
    /// Channels of an output row.
    pub outputs: usize,
    /// What follows.
    #[serde(rename = "function")]
    pub activation: Activation,
}

impl Operator for RowsDenseSpec {
    fn name(&self) -> &'static str {
        "strandline_rows_dense"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        check_size("inputs", self.inputs)
    }

    fn tensors(&self, precision: Precision) -> Vec<Need> {
        dense::tensors(self.inputs, self.outputs, precision)
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Rows(self.inputs, RowKind::Float), Operand::Length]
    }

    fn written(&self) -> Written {
        Written::Rows
    }

    fn channels(&self) -> usize {
        self.outputs
    }

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        let weights = dense::weights(attributes)?;
        let bias = attributes.floats(1)?;
        attributes.rows_of(&run.inputs[0], self.inputs, rows)?;
        let input = &floats(&run.inputs[0])?[attributes.data(rows, self.inputs)];
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let range = attributes.data(rows, self.outputs);
        let target = &mut memory.as_slice_mut::<f32>()?[range];
        let rows = input.chunks_exact(self.inputs);
        for (row, target) in rows.zip(target.chunks_exact_mut(self.outputs)) {
            kernel(attributes.isa, row, weights, bias, self.activation, target);
        }
        Ok(())
    }
}
