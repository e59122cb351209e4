//! One vector from all rows.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run};
use super::scratch::zeros;
use crate::kernels::pool::Pooling;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// One vector from all rows. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Channels of the rows.
    pub channels: usize,
    /// What the rows are.
    pub rows: RowKind,
    /// What is kept of them: the mean, the maximum or the first row.
    #[serde(rename = "pooled")]
    pub pooling: Pooling,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
}

impl Operator for PoolSpec {
    fn name(&self) -> &'static str {
        "strandline_pool"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Rows(self.channels, self.rows), Operand::Length]
    }

    fn written(&self) -> Written {
        Written::Vector
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn keeps_apart(&self) -> bool {
        self.rate == 1
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_in);
        let each = rows / run.sequences;
        ensure!(each > 0, "{}: nothing to pool", attributes.label);
        let read = attributes.reader(&run.inputs[0], self.channels, self.rows, rows)?;
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        let targets = target.chunks_exact_mut(self.channels);
        for (sequence, target) in targets.take(run.sequences).enumerate() {
            let first = sequence * each;
            read(first, target);
            if self.pooling == Pooling::First {
                continue;
            }
            let one = zeros(&mut run.scratch.row, self.channels);
            for row in first + 1..first + each {
                read(row, one);
                self.pooling.join(attributes.isa, one, target);
            }
            self.pooling.finish(each, target);
        }
        Ok(())
    }
}
