//! Multi-head attention.

use super::form::{RowKind, Written};
use super::int8_rows::int8_rows;
use super::operator::{Attributes, Need, Operand, Operator, Run, bytes, check_size, floats};
use super::scratch::ScratchBytes;
use crate::kernels::Real;
use crate::kernels::Scratch;
use crate::kernels::attention::{Attention, MAX_TOKENS, MAX_WIDTH, Output, Projection, Rotary};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tract_core::internal::*;

/// Multi-head attention. Inputs: queries, the length, keys, values. Tensors where positions are
/// rotated: `cos` and `sin`, `[positions][width / 2]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionSpec {
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Factor on scores.
    pub scale: Real,
    /// Positions that queries and keys are rotated for, or 0.
    pub rotary: usize,
    /// Queries, keys and values.
    pub rows: [RowKind; 3],
    /// The scale of signed rows.
    pub output_scale: Real,
    /// What is written: float, signed or dynamic rows.
    pub output: Written,
}

impl Operator for AttentionSpec {
    fn name(&self) -> &'static str {
        "strandline_attention"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (width, rotary) = (self.width, self.rotary);
        check_size("heads", self.heads)?;
        if width == 0 || width > MAX_WIDTH {
            return Err(format!("heads of {width}"));
        }
        if self.scale.get() <= 0.0 || self.output_scale.get() <= 0.0 {
            return Err("scales are positive".to_string());
        }
        if rotary > MAX_TOKENS || (rotary > 0 && !width.is_multiple_of(2)) {
            return Err(format!("{rotary} rotations of heads of {width}"));
        }
        Ok(())
    }

    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        match self.rotary {
            0 => vec![],
            positions => {
                let count = positions * (self.width / 2);
                vec![Need::floats("cos", count), Need::floats("sin", count)]
            }
        }
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        let [q, k, v] = self.rows.map(|kind| Operand::Rows(self.channels(), kind));
        vec![q, Operand::Length, k, v]
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.heads.saturating_mul(self.width)
    }

    fn keeps_apart(&self) -> bool {
        true
    }

    fn scratch(&self, attributes: &Attributes, tile: usize) -> ScratchBytes {
        let room = tile.saturating_add(2 * attributes.halo).min(MAX_TOKENS);
        ScratchBytes {
            attention: Scratch::attention_bytes_for(room, self.width),
            ..ScratchBytes::default()
        }
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let (attributes, rows) = (run.attributes, run.extent.rows_out);
        let (rotary, channels) = (self.rotary, self.channels());
        let tokens = rows / run.sequences;
        ensure!(tokens <= MAX_TOKENS, "{tokens} tokens");
        ensure!(
            rotary == 0 || tokens <= rotary,
            "{tokens} tokens, but rotations for {rotary}"
        );
        let [q, _, k, v] = run.inputs else {
            bail!("{}: {} inputs", attributes.label, run.inputs.len());
        };
        for value in [q, k, v].iter().zip(self.rows) {
            attributes.rows_of(value.0, value.1.pitch(channels), rows)?;
        }
        let rotary = match rotary {
            0 => None,
            _ => Some(Rotary {
                cos: attributes.floats(0)?,
                sin: attributes.floats(1)?,
            }),
        };
        let scratch = &mut run.scratch.kernels;
        // For the longest sequence that may come, so that it grows once.
        let room = run.inputs[0].shape()[0].min(MAX_TOKENS);
        scratch.reserve_attention(room.max(tokens), self.width);
        let mut memory = run.output.try_as_plain_ram_mut()?;
        for sequence in 0..run.sequences {
            let own = sequence * tokens..(sequence + 1) * tokens;
            let of = |value, kind| projection(attributes, value, kind, (&own, channels));
            let attention = Attention {
                tokens,
                queries: if attributes.first {
                    tokens.min(1)
                } else {
                    tokens
                },
                heads: self.heads,
                width: self.width,
                q: of(q, self.rows[0])?,
                k: of(k, self.rows[1])?,
                v: of(v, self.rows[2])?,
                scale: self.scale.get(),
                mask: None,
                rotary,
            };
            if self.output == Written::Rows {
                let target = memory.as_slice_mut::<f32>()?;
                let target = &mut target[attributes.data(rows, channels)];
                let target = &mut target[own.start * channels..own.end * channels];
                match attributes.precision {
                    Precision::Int8 => {
                        attention.run_int8(attributes.isa, scratch, Output::Float(target));
                    }
                    _ => attention.run_float(attributes.isa, scratch, target),
                }
                continue;
            }
            let form = (self.output, self.output_scale.get());
            let target = memory.as_slice_mut::<u8>()?;
            let target = int8_rows(attributes, target, form, (&own, channels))?;
            attention.run_int8(attributes.isa, scratch, Output::Int8(target));
        }
        Ok(())
    }
}

fn projection<'a>(
    attributes: &Attributes,
    value: &'a Tensor,
    kind: RowKind,
    (tokens, channels): (&Range<usize>, usize),
) -> TractResult<Projection<'a>> {
    let (pitch, offset) = (kind.pitch(channels), 0);
    let first = (attributes.halo + tokens.start) * pitch;
    Ok(match kind {
        RowKind::Signed(scale) => Projection::Static {
            bytes: &bytes(value)?[first..],
            pitch,
            offset,
            scale: scale.get(),
        },
        RowKind::Dynamic => Projection::Dynamic {
            bytes: &bytes(value)?[first..],
            pitch,
            offset,
        },
        RowKind::Float => Projection::Float {
            values: &floats(value)?[first..],
            pitch,
            offset,
        },
        RowKind::Unsigned(_) => bail!("{} takes no unsigned rows", attributes.label),
    })
}
