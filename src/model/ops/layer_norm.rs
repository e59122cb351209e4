//! Layer norm.

use super::form::{RowKind, Written};
use super::int8_rows::int8_rows;
use super::operator::{Need, Operand, Operator, Run, floats};
use super::wanted::each_range;
use crate::kernels::Real;
use crate::kernels::norm::{Input, LayerNorm};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Layer norm of float rows, or their root mean square norm. Inputs: rows and the length. Tensors:
/// `gamma`, `beta`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNormSpec {
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: Real,
    /// False where the mean is not subtracted.
    #[serde(default = "centred", skip_serializing_if = "Clone::clone")]
    pub centred: bool,
    /// The scale of signed rows.
    pub scale: Real,
    /// What is written: float, signed or dynamic rows.
    pub output: Written,
}

/// What a file says that does not state it.
pub(super) fn centred() -> bool {
    true
}

impl Operator for LayerNormSpec {
    fn name(&self) -> &'static str {
        "strandline_norm"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        if self.epsilon.get() <= 0.0 || self.scale.get() <= 0.0 {
            return Err("epsilon and scale are positive".to_string());
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

    fn reach(&self) -> usize {
        0
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        let norm = LayerNorm {
            gamma: attributes.floats(0)?,
            beta: attributes.floats(1)?,
            epsilon: self.epsilon.get(),
            centred: self.centred,
        };
        attributes.rows_of(&run.inputs[0], self.channels, rows)?;
        let data = attributes.data(rows, self.channels);
        let input = &floats(&run.inputs[0])?[data.clone()];
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let form = (self.output, self.scale.get());
        each_range(run.wanted, run.spread, rows, 1, |own| {
            let values = own.start * self.channels..own.end * self.channels;
            let input = Input::Plain(&input[values.clone()]);
            if self.output == Written::Rows {
                let target = &mut memory.as_slice_mut::<f32>()?[data.clone()][values];
                norm.run(attributes.isa, input, Some(target), None);
                return Ok(());
            }
            let target = memory.as_slice_mut::<u8>()?;
            let target = int8_rows(attributes, target, form, (&own, self.channels))?;
            norm.run(attributes.isa, input, None, Some(target));
            Ok(())
        })
    }
}
