//! The sum or the product of two rows.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run};
use super::scratch::{Scratch, zeros};
use crate::kernels::Real;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use std::ops::Not;
use tract_core::internal::*;

/// `y = fma(b, scale b, a · scale a)` of the values a and b of two rows, and a ReLU; or `y = (a ·
/// scale a) · (b · scale b)`. Inputs: rows, the length, rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumSpec {
    /// Channels.
    pub channels: usize,
    /// What the inputs are; scales in units of the output, but those of the second factor of a
    /// product, which are in units of the value.
    pub rows: [RowKind; 2],
    /// True where negative sums become 0.
    pub relu: bool,
    /// True for a product.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub product: bool,
    /// Positions of the network's input that one row of these inputs stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for SumSpec {
    fn name(&self) -> &'static str {
        "strandline_sum"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        if self.product && self.relu {
            return Err("a product has no ReLU".to_string());
        }
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        let rows = self.rows.map(|kind| Operand::Rows(self.channels, kind));
        vec![rows[0], Operand::Length, rows[1]]
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
        let Run {
            attributes,
            inputs,
            output,
            ..
        } = run;
        let (channels, count) = (self.channels, run.extent.rows_out);
        let Scratch { row, unrounded, .. } = run.scratch;
        // Values as they are, so that a sum is rounded once.
        let (kind, scale) = match self.rows[1] {
            RowKind::Unsigned(scale) => (RowKind::Unsigned(Real::ONE), scale.get()),
            RowKind::Signed(scale) => (RowKind::Signed(Real::ONE), scale.get()),
            other => (other, 1.0),
        };
        let first = attributes.reader(&inputs[0], channels, self.rows[0], count)?;
        let second = attributes.reader(&inputs[2], channels, kind, count)?;
        let added = zeros(row, channels);
        let form = (self.output, channels, count);
        attributes.write_rows(output, form, unrounded, |row, values| {
            first(row, values);
            second(row, added);
            for (y, x) in values.iter_mut().zip(added.iter()) {
                if self.product {
                    *y *= x * scale;
                    continue;
                }
                let sum = x.mul_add(scale, *y);
                *y = if !self.relu || sum > 0.0 { sum } else { 0.0 };
            }
        })
    }
}
