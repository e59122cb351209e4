//! One step of the network, one layer; or none, where its input is not what our operators take.

use super::values::{Value, real};
use super::{Emitter, RowsRecord};
use crate::compile::lower::Step;
use crate::model::manifest::Precision;
use crate::model::ops::form::{RowKind, Written};
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn step(&mut self, step: &Step) -> TractResult<()> {
        let (done, output) = match step {
            Step::Conv(conv) => (self.conv(conv)?, conv.output),
            Step::Dense(dense) => (self.dense(dense)?, dense.output),
            Step::Affine(affine) => (self.affine(affine)?, affine.output),
            Step::Embed(embed) => (self.embed(embed)?, embed.output),
            Step::Attention(attention) => (self.attention(attention)?, attention.output),
            Step::Norm(norm) => (self.norm(norm)?, norm.output),
            Step::Repeat {
                name,
                input,
                factor,
                output,
            } => (self.repeat(name, *input, *factor, *output)?, *output),
            Step::Join {
                name,
                inputs,
                output,
            } => (self.join(name, inputs, *output)?, *output),
            Step::Window { output, .. } => (self.window(step)?, *output),
            Step::Softmax {
                name,
                input,
                output,
            } => (self.softmax(name, *input, *output)?, *output),
            Step::Frames {
                name,
                input,
                channels,
                output,
            } => (self.frames(name, *input, *channels, *output)?, *output),
            Step::Pool {
                name,
                input,
                pooling,
                output,
            } => (self.pool(name, *input, *pooling, *output)?, *output),
            Step::Sum {
                name,
                inputs,
                relu,
                output,
            } => (self.sum(name, *inputs, *relu, *output)?, *output),
            Step::Turn { input, output } => (self.turned(*input, *output), *output),
            Step::Plain(node) => return self.plain_node(*node),
        };
        if !done {
            self.plain_nodes(output)?;
        }
        Ok(())
    }

    /// Lists a layer and remembers what its output became.
    pub(super) fn put(&mut self, output: OutletId, value: Value) -> bool {
        self.values.insert(output, value);
        true
    }

    /// Rows of a value as a layer of this precision reads them.
    pub(super) fn rows_of(
        &mut self,
        of: OutletId,
    ) -> TractResult<Option<(OutletId, RowKind, usize)>> {
        let value = match self.precision {
            Precision::Int8 => self.integer(of)?,
            _ => self.float(of)?,
        };
        Ok(match value {
            Some(Value::Integer { outlet, kind, rate }) => Some((outlet, kind, rate)),
            Some(Value::Rows { outlet, rate }) => Some((outlet, RowKind::Float, rate)),
            _ => None,
        })
    }

    /// Rows of a value as they are, integer or float.
    pub(super) fn any_rows(
        &mut self,
        of: OutletId,
    ) -> TractResult<Option<(OutletId, RowKind, usize)>> {
        Ok(match self.values.get(&of).copied() {
            Some(Value::Integer { outlet, kind, rate }) => Some((outlet, kind, rate)),
            _ => match self.float(of)? {
                Some(Value::Rows { outlet, rate }) => Some((outlet, RowKind::Float, rate)),
                _ => None,
            },
        })
    }

    /// The form in which a value, never negative or any, is written, its scale, and what there is
    /// to record of it.
    pub(super) fn form(&self, output: OutletId, positive: bool) -> TractResult<Form> {
        let turned = self.layout(output).is_ok_and(|(_, turned)| turned);
        if self.bare.contains(&output) {
            return Ok(Form::float(Written::Last));
        }
        let integer = self.precision == Precision::Int8;
        if !integer || (!positive && self.wanted_float.contains(&output)) {
            return Ok(Form::float(Written::Rows));
        }
        let range = self.ranges.of(output)?;
        if turned && range.by_row() {
            return Ok(Form::float(Written::Rows));
        }
        let scale = range.scale(positive);
        Ok(Form {
            written: match positive {
                true => Written::Unsigned,
                false => Written::Signed,
            },
            scale,
            record: Some(RowsRecord {
                scale: Some(scale),
                signal_to_noise: range.signal_to_noise(false),
            }),
        })
    }
}

/// How a layer's output is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) written: Written,
    /// Of integer rows; 1 for float ones.
    pub(super) scale: f32,
    pub(super) record: Option<RowsRecord>,
}

impl Form {
    pub(super) fn float(written: Written) -> Form {
        Form {
            written,
            scale: 1.0,
            record: None,
        }
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self.written, Written::Rows | Written::Last)
    }

    pub(super) fn value(&self, outlet: OutletId, rate: usize) -> TractResult<Value> {
        let scale = real(self.scale)?;
        Ok(match self.written {
            Written::Unsigned => Value::Integer {
                outlet,
                kind: RowKind::Unsigned(scale),
                rate,
            },
            Written::Signed => Value::Integer {
                outlet,
                kind: RowKind::Signed(scale),
                rate,
            },
            Written::Rows => Value::Rows { outlet, rate },
            _ => Value::Bare { outlet, rate },
        })
    }
}
