//! A factor and a term for each channel, and a function of the sum.

use super::form::{RowKind, Written};
use super::operator::{Need, Operand, Operator, Run, bytes, floats};
use crate::kernels::Activation;
use crate::kernels::Real;
use crate::kernels::affine::{Affine, Sink, Source};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// `function(x · factor[c] + term[c])` of each value, to rows of any kind. Inputs: rows and the
/// length. Tensors: `factor`, `term`, both in units of the output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffineSpec {
    /// Channels.
    pub channels: usize,
    /// What the rows are.
    pub rows: RowKind,
    /// Applied to the sum; integer outputs with a function other than a ReLU have their inverse
    /// scale in `gain`.
    #[serde(rename = "function")]
    pub activation: Activation,
    /// Multiplied to the function's value.
    pub gain: Real,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for AffineSpec {
    fn name(&self) -> &'static str {
        "strandline_affine"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        vec![
            Need::floats("factor", self.channels),
            Need::floats("term", self.channels),
        ]
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Rows(self.channels, self.rows), Operand::Length]
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
        let (attributes, label) = (run.attributes, &run.attributes.label);
        let (input, count) = (&run.inputs[0], run.extent.rows_in);
        attributes.rows_of(input, self.channels, count)?;
        let range = attributes.data(count, self.channels);
        let source = match self.rows {
            RowKind::Unsigned(scale) => {
                Source::Unsigned(&bytes(input)?[range.clone()], scale.get())
            }
            RowKind::Signed(scale) => Source::Signed(&bytes(input)?[range.clone()], scale.get()),
            RowKind::Float => Source::Float(&floats(input)?[range.clone()]),
            RowKind::Dynamic => bail!("{label} takes no dynamic rows"),
        };
        let affine = Affine {
            factor: attributes.floats(0)?,
            term: attributes.floats(1)?,
            activation: self.activation,
            gain: self.gain.get(),
            source,
        };
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let sink = match self.output {
            Written::Unsigned => Sink::Unsigned(&mut memory.as_slice_mut::<u8>()?[range]),
            Written::Signed => Sink::Signed(&mut memory.as_slice_mut::<u8>()?[range]),
            Written::Rows => Sink::Float(&mut memory.as_slice_mut::<f32>()?[range]),
            Written::Last => Sink::Float(&mut memory.as_slice_mut::<f32>()?[..range.len()]),
            other => bail!("{label} does not write {other:?}"),
        };
        affine.run(attributes.isa, sink);
        Ok(())
    }
}
