//! Embedding, layer norm and attention.

use super::emitter::Emitter;
use super::form::{Form, RowsRecord, Value, real};
use crate::compile::lower::{AttentionStep, EmbedStep, LayerNormStep, LevelsStep, ScalarStep};
use crate::compile::quantize;
use crate::model::manifest::Precision;
use crate::model::ops::attention::AttentionSpec;
use crate::model::ops::embed::EmbedSpec;
use crate::model::ops::form::{RowKind, Written};
use crate::model::ops::layer_norm::LayerNormSpec;
use crate::model::ops::levels::LevelsSpec;
use crate::model::ops::scalar::ScalarSpec;
use crate::model::ops::spec::Spec;
use crate::model::ops::vector_norm::VectorNormSpec;
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn embed(&mut self, step: &EmbedStep) -> TractResult<bool> {
        let Some(Value::Ids(ids)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        let tables = [
            ("tokens", "token_scales", &step.tokens),
            ("positions", "position_scales", &step.positions),
        ];
        for (name, scales, values) in tables {
            if values.is_empty() {
                continue;
            }
            if self.precision == Precision::Int8 {
                let (bytes, units) = quantize::table_rows(values, step.width);
                self.integers(format!("{label}.{name}"), &bytes);
                self.floats(format!("{label}.{scales}"), &units);
            } else {
                self.float_weights(format!("{label}.{name}"), values);
            }
        }
        let spec = Spec::from(EmbedSpec {
            channels: step.width,
            vocabulary: step.tokens.len() / step.width,
            positions: step.positions.len() / step.width,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[ids, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(step.output, Value::Rows { outlet, rate: 1 }))
    }

    pub(super) fn scalar(&mut self, step: &ScalarStep) -> TractResult<bool> {
        let Some(Value::Values(values)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        self.floats(format!("{label}.weight"), &step.weight);
        self.floats(format!("{label}.bias"), &step.bias);
        let [least, most] = step.clamp;
        let spec = Spec::from(ScalarSpec {
            channels: step.weight.len(),
            least: real(least)?,
            most: real(most)?,
            activation: step.function,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[values, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(step.output, Value::Rows { outlet, rate: 1 }))
    }

    pub(super) fn levels(&mut self, step: &LevelsStep) -> TractResult<bool> {
        let Some(Value::Values(values)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        self.floats(format!("{label}.levels"), &step.levels);
        self.floats(format!("{label}.table"), &step.table);
        let spec = Spec::from(LevelsSpec {
            channels: step.width,
            levels: step.levels.len(),
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[values, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(step.output, Value::Rows { outlet, rate: 1 }))
    }

    fn vector_norm(&mut self, step: &LayerNormStep) -> TractResult<bool> {
        let Some(Value::Vector(vector)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        self.floats(format!("{label}.gamma"), &step.gamma);
        self.floats(format!("{label}.beta"), &step.beta);
        let spec = Spec::from(VectorNormSpec {
            channels: step.gamma.len(),
            epsilon: real(step.epsilon)?,
            centred: step.centred,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[vector])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(step.output, Value::Vector(outlet)))
    }

    pub(super) fn layer_norm(&mut self, step: &LayerNormStep) -> TractResult<bool> {
        if step.vector {
            return self.vector_norm(step);
        }
        let Some(Value::Rows { outlet: rows, .. }) = self.float(step.input)? else {
            return Ok(false);
        };
        let (output, channels) = (step.output, step.gamma.len());
        // The graph's output, too, is made of float rows.
        let plain = self.wanted_float.contains(&output)
            || self.kept.contains(&output)
            || self.plainly_read.contains(&output)
            || self.without_halo.contains(&output);
        let integer = self.precision == Precision::Int8 && !plain;
        let label = self.label(&step.name);
        self.floats(format!("{label}.gamma"), &step.gamma);
        self.floats(format!("{label}.beta"), &step.beta);
        let range = if integer {
            Some(self.ranges.of(output)?)
        } else {
            None
        };
        let (written, scale) = match range {
            None => (Written::Rows, 1.0),
            Some(range) if range.by_row() && channels.is_multiple_of(4) => (Written::Dynamic, 1.0),
            Some(range) => (Written::Signed, range.scale(false)),
        };
        let spec = Spec::from(LayerNormSpec {
            channels,
            epsilon: real(step.epsilon)?,
            centred: step.centred,
            scale: real(scale)?,
            output: written,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        let record = range.map(|range| RowsRecord {
            scale: (written == Written::Signed).then_some(scale),
            signal_to_noise: range.signal_to_noise(written == Written::Dynamic),
        });
        self.record(&label, operator, 0, record);
        let value = match written {
            Written::Rows => Value::Rows { outlet, rate: 1 },
            Written::Dynamic => Value::Integer {
                outlet,
                kind: RowKind::Dynamic,
                rate: 1,
            },
            _ => Value::Integer {
                outlet,
                kind: RowKind::Signed(real(scale)?),
                rate: 1,
            },
        };
        Ok(self.put(output, value))
    }

    pub(super) fn attention(&mut self, step: &AttentionStep) -> TractResult<bool> {
        let mut kinds = [RowKind::Float; 3];
        let mut wires = [self.length; 3];
        for (slot, of) in step.inputs.iter().enumerate() {
            let Some((outlet, kind, 1)) = self.rows_of(*of)? else {
                return Ok(false);
            };
            (wires[slot], kinds[slot]) = (outlet, kind);
        }
        if kinds
            .iter()
            .any(|kind| matches!(kind, RowKind::Unsigned(_)))
        {
            return Ok(false);
        }
        let mut form = self.form(step.output, false)?;
        if form.written == Written::Last {
            form = Form::float(Written::Rows);
        }
        let label = self.label(&step.name);
        let mut positions = 0;
        if let Some(base) = step.rotary {
            positions = self.manifest.tile;
            let half = step.width / 2;
            let angles = (0..positions * half).map(|at| {
                let power = -2.0 * (at % half) as f64 / step.width as f64;
                (at / half) as f64 * f64::from(base).powf(power)
            });
            let cos: Vec<f32> = angles.clone().map(|angle| angle.cos() as f32).collect();
            let sin: Vec<f32> = angles.map(|angle| angle.sin() as f32).collect();
            self.floats(format!("{label}.cos"), &cos);
            self.floats(format!("{label}.sin"), &sin);
        }
        let spec = Spec::from(AttentionSpec {
            heads: step.heads,
            width: step.width,
            scale: real(step.scale)?,
            rotary: positions,
            rows: kinds,
            output_scale: real(form.scale)?,
            output: form.written,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[wires[0], self.length, wires[1], wires[2]])?;
        self.record(&label, operator, 0, form.record);
        let value = form.value(outlet, 1)?;
        Ok(self.put(step.output, value))
    }
}
