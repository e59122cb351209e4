//! Rows of a table of tokens.

use super::form::{Input, Written};
use super::operator::{Attributes, Need, Operand, Operator, Run, weight_type};
use crate::kernels::embed::{Embedding, Table};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use tract_core::internal::*;

/// Most rows of a table.
const MOST_ROWS: usize = 1 << 24;

/// Rows of a table of tokens, one an id, plus those of a table of positions. Inputs: ids and the
/// length. Tensors: `tokens`, `positions` where there are some, and with int8 tables the scales of
/// their rows, `token_scales` and `position_scales`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedSpec {
    /// Channels.
    pub channels: usize,
    /// Rows of the table of tokens.
    pub vocabulary: usize,
    /// Rows of the table of positions, or 0.
    pub positions: usize,
}

impl Operator for EmbedSpec {
    fn name(&self) -> &'static str {
        "strandline_embed"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (vocabulary, positions) = (self.vocabulary, self.positions);
        if vocabulary == 0 || vocabulary > MOST_ROWS || positions > MOST_ROWS {
            return Err(format!(
                "a vocabulary of {vocabulary}, {positions} positions"
            ));
        }
        Ok(())
    }

    fn tensors(&self, precision: Precision) -> Vec<Need> {
        let tables = [
            ("tokens", "token_scales", self.vocabulary),
            ("positions", "position_scales", self.positions),
        ];
        let mut all = vec![];
        for (name, scales, rows) in tables.into_iter().filter(|(_, _, rows)| *rows > 0) {
            let values = rows.saturating_mul(self.channels);
            all.push(Need::new(name, weight_type(precision), values));
            if precision == Precision::Int8 {
                all.push(Need::floats(scales, rows));
            }
        }
        all
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![Operand::Ids, Operand::Length]
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

    fn keeps_apart(&self) -> bool {
        true
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        let ids = run.inputs[0].try_as_plain_ram()?.as_slice::<u32>()?;
        let tensors_of_tokens = match attributes.precision {
            Precision::Int8 => 2,
            Precision::Fp16 | Precision::F32 => 1,
        };
        let positions = match self.positions {
            0 => None,
            _ => Some(table(attributes, tensors_of_tokens)?),
        };
        let embedding = Embedding {
            width: self.channels,
            tokens: table(attributes, 0)?,
            positions,
        };
        let mut memory = run.output.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        let target = &mut target[attributes.data(rows, self.channels)];
        // Each sequence has positions of its own.
        let each = (rows / run.sequences).max(1);
        let targets = target.chunks_mut(each * self.channels);
        for (ids, target) in ids[..rows].chunks(each).zip(targets) {
            embedding.run(attributes.isa, ids, target)?;
        }
        Ok(())
    }
}

fn table(attributes: &Attributes, index: usize) -> TractResult<Table<'_>> {
    let values = attributes.tensor(index)?;
    Ok(match attributes.precision {
        Precision::Int8 => Table::Int8 {
            values: values.i8(),
            scales: attributes.floats(index + 1)?,
        },
        Precision::Fp16 => Table::F16(values.f16().context("an fp16 table")?),
        Precision::F32 => Table::F32(values.f32().context("an f32 table")?),
    })
}
