//! One step of the network, one layer; or none, where its input is not what our operators take.

use super::super::lower::{AffineStep, AttentionStep, ConvStep, DenseStep, EmbedStep, Step};
use super::super::manifest::Precision;
use super::super::ops::Spec;
use super::super::ops::spec::{Added, ConvSpec, DenseSpec, Function, Pooled, RowKind, Written};
use super::super::quantize::{self, Layout};
use super::values::{Value, real};
use super::{Emitter, RowsRecord};
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn step(&mut self, step: &Step) -> TractResult<()> {
        let (done, output) = match step {
            Step::Conv(conv) => (self.conv(conv)?, conv.output),
            Step::Dense(dense) => (self.dense(dense)?, dense.output),
            Step::Affine(affine) => (self.affine(affine)?, affine.output),
            Step::Embed(embed) => (self.embed(embed)?, embed.output),
            Step::Attention(attention) => (self.attention(attention)?, attention.output),
            Step::Norm {
                name,
                input,
                gamma,
                beta,
                epsilon,
                output,
            } => (
                self.norm(name, *input, gamma, beta, *epsilon, *output)?,
                *output,
            ),
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
                pooled,
                output,
            } => (self.pool(name, *input, *pooled, *output)?, *output),
            Step::Plain(node) => return self.plain_node(*node),
        };
        if !done {
            self.plain_nodes(output)?;
        }
        Ok(())
    }

    /// Lists a layer and remembers what its output became.
    fn put(&mut self, output: OutletId, value: Value) -> bool {
        self.values.insert(output, value);
        true
    }

    /// Rows of a value as a layer of this precision reads them.
    fn rows_of(&mut self, of: OutletId) -> TractResult<Option<(OutletId, RowKind, usize)>> {
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
    fn any_rows(&mut self, of: OutletId) -> TractResult<Option<(OutletId, RowKind, usize)>> {
        Ok(match self.values.get(&of).copied() {
            Some(Value::Integer { outlet, kind, rate }) => Some((outlet, kind, rate)),
            _ => match self.float(of)? {
                Some(Value::Rows { outlet, rate }) => Some((outlet, RowKind::Float, rate)),
                _ => None,
            },
        })
    }

    /// The form in which a value, never negative or any, is written, its scale, and what there is to record of it.
    fn form(&self, output: OutletId, positive: bool) -> TractResult<Form> {
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

    fn conv(&mut self, step: &ConvStep) -> TractResult<bool> {
        let integer = self.precision == Precision::Int8;
        let codes = matches!(self.values.get(&step.input), Some(Value::Codes));
        if codes && (step.shape.channels_in != 4 || step.shape.stride != 1 || step.repeat != 1) {
            return Ok(false);
        }
        let (rows, kind, rate) = match codes {
            true => (self.input, RowKind::Unsigned(real(1.0)?), 1),
            false => match self.rows_of(step.input)? {
                Some(found) => found,
                None => return Ok(false),
            },
        };
        let quads = step.shape.channels_in.is_multiple_of(4);
        let whole = matches!(kind, RowKind::Dynamic) && step.shape.width > 1;
        if (integer && !quads) || whole {
            return Ok(false);
        }
        if !integer && step.repeat > 1 {
            let repeated = self.repeat_rows(
                &step.name,
                rows,
                step.shape.channels_in,
                step.repeat,
                rate,
                kind,
            )?;
            let mut once = step.clone();
            once.repeat = 1;
            return self.conv_of(&once, false, repeated, kind, rate / step.repeat);
        }
        self.conv_of(step, codes, rows, kind, rate)
    }

    fn conv_of(
        &mut self,
        step: &ConvStep,
        codes: bool,
        rows: OutletId,
        kind: RowKind,
        rate: usize,
    ) -> TractResult<bool> {
        let integer = self.precision == Precision::Int8;
        let layout = Layout::of(step, integer, codes);
        let mut inputs = vec![rows, self.length];
        let mut residual = None;
        if let Some(of) = step.residual {
            let Some((outlet, kind, _)) = self.any_rows(of)? else {
                return Ok(false);
            };
            inputs.push(outlet);
            residual = Some(kind);
        }
        let positive = match step.function {
            Function::Relu => true,
            Function::ReluFirst => matches!(residual, Some(RowKind::Unsigned(_))),
            _ => false,
        };
        let mut form = self.form(step.output, positive)?;
        if let Some(kind) = residual {
            // Float rows cannot be brought to the steps of an integer output: that is made when it is read.
            if kind == RowKind::Float && !form.is_float() {
                form = Form::float(Written::Rows);
            }
        }
        // A GELU needs the value in its own unit; other functions are as well applied to steps of the output.
        let unit = match step.function {
            Function::Gelu => 1.0,
            _ => form.scale,
        };
        let added = match residual {
            None => Added::None,
            Some(RowKind::Unsigned(scale)) => Added::Unsigned(real(scale.get() / unit)?),
            Some(RowKind::Signed(scale)) => Added::Signed(real(scale.get() / unit)?),
            Some(RowKind::Float) => Added::Float,
            Some(RowKind::Dynamic) => return Ok(false),
        };
        let spec = ConvSpec {
            shape: layout.shape,
            step: layout.step,
            codes,
            signed: matches!(kind, RowKind::Signed(_) | RowKind::Dynamic),
            row_scales: matches!(kind, RowKind::Dynamic),
            added,
            function: step.function,
            gain: real(1.0 / form.scale)?,
            rate,
            output: form.written,
        };
        let scale_in = match kind {
            RowKind::Unsigned(scale) | RowKind::Signed(scale) => scale.get(),
            RowKind::Dynamic | RowKind::Float => 1.0,
        };
        self.emit_conv(step, &layout, spec, &inputs, scale_in, unit, form)
    }

    #[allow(clippy::too_many_arguments)]
    fn emit_conv(
        &mut self,
        step: &ConvStep,
        layout: &Layout,
        spec: ConvSpec,
        inputs: &[OutletId],
        scale_in: f32,
        unit: f32,
        form: Form,
    ) -> TractResult<bool> {
        let label = self.label(&step.name);
        if self.precision == Precision::Int8 {
            let paired = !spec.codes && !spec.signed;
            let means = self.ranges.means(step.input);
            let packed = quantize::conv_weights(step, layout, (scale_in, unit), paired, means);
            self.integers(format!("{label}.weight"), &packed.weight);
            self.floats(format!("{label}.bias"), &packed.bias);
            self.floats(format!("{label}.scale"), &packed.scale);
        } else {
            let (weight, bias) = quantize::float_conv_weights(step);
            self.float_weights(format!("{label}.weight"), &weight);
            self.floats(format!("{label}.bias"), &bias);
        }
        let (channels, taps) = (step.shape.channels_in, step.shape.width);
        let per_row = (channels * taps * step.shape.channels_out) as u64;
        // Per position of the network's input, of what is computed.
        let rate = spec.rate * step.shape.stride / step.repeat;
        let macs = per_row / rate.max(1) as u64;
        let rate_out = rate.max(1);
        let spec = Spec::Conv(spec);
        let operator = spec.name();
        let outlet = self.wire(&label, spec, inputs)?;
        self.record(&label, operator, macs, form.record);
        let value = form.value(outlet, rate_out)?;
        Ok(self.put(step.output, value))
    }

    fn affine(&mut self, step: &AffineStep) -> TractResult<bool> {
        let Some((rows, kind, rate)) = self.any_rows(step.input)? else {
            return Ok(false);
        };
        let form = self.form(step.output, step.function == Function::Relu)?;
        let linear = matches!(step.function, Function::Identity | Function::Relu);
        let unit = if linear { form.scale } else { 1.0 };
        let label = self.label(&step.name);
        let scaled = |values: &[f32]| values.iter().map(|x| x / unit).collect::<Vec<f32>>();
        self.floats(format!("{label}.factor"), &scaled(&step.factor));
        self.floats(format!("{label}.term"), &scaled(&step.term));
        let spec = Spec::Affine {
            channels: step.factor.len(),
            rows: kind,
            function: step.function,
            gain: real(if linear { 1.0 } else { 1.0 / form.scale })?,
            rate,
            output: form.written,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, form.record);
        let value = form.value(outlet, rate)?;
        Ok(self.put(step.output, value))
    }

    fn embed(&mut self, step: &EmbedStep) -> TractResult<bool> {
        if !matches!(self.values.get(&step.input), Some(Value::Ids)) {
            return Ok(false);
        }
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
        let spec = Spec::Embed {
            channels: step.width,
            vocabulary: step.tokens.len() / step.width,
            positions: step.positions.len() / step.width,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[self.input, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(step.output, Value::Rows { outlet, rate: 1 }))
    }

    #[allow(clippy::too_many_arguments)]
    fn norm(
        &mut self,
        name: &str,
        input: OutletId,
        gamma: &[f32],
        beta: &[f32],
        epsilon: f32,
        output: OutletId,
    ) -> TractResult<bool> {
        let Some(Value::Rows { outlet: rows, .. }) = self.float(input)? else {
            return Ok(false);
        };
        if self.bare.contains(&output) {
            return Ok(false);
        }
        let integer = self.precision == Precision::Int8 && !self.wanted_float.contains(&output);
        let label = self.label(name);
        self.floats(format!("{label}.gamma"), gamma);
        self.floats(format!("{label}.beta"), beta);
        let range = match integer {
            true => Some(self.ranges.of(output)?),
            false => None,
        };
        let (written, scale) = match range {
            None => (Written::Rows, 1.0),
            Some(range) if range.by_row() => (Written::Dynamic, 1.0),
            Some(range) => (Written::Signed, range.scale(false)),
        };
        let spec = Spec::Norm {
            channels: gamma.len(),
            epsilon: real(epsilon)?,
            scale: real(scale)?,
            output: written,
        };
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

    fn attention(&mut self, step: &AttentionStep) -> TractResult<bool> {
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
        let form = self.form(step.output, false)?;
        if form.written == Written::Last {
            return Ok(false);
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
        let spec = Spec::Attention {
            heads: step.heads,
            width: step.width,
            scale: real(step.scale)?,
            rotary: positions,
            rows: kinds,
            output_scale: real(form.scale)?,
            output: form.written,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[wires[0], self.length, wires[1], wires[2]])?;
        self.record(&label, operator, 0, form.record);
        let value = form.value(outlet, 1)?;
        Ok(self.put(step.output, value))
    }

    fn repeat_rows(
        &mut self,
        name: &str,
        rows: OutletId,
        channels: usize,
        factor: usize,
        rate: usize,
        kind: RowKind,
    ) -> TractResult<OutletId> {
        let label = self.label(&format!("{name}_repeat"));
        let output = match kind {
            RowKind::Unsigned(_) => Written::Unsigned,
            RowKind::Signed(_) => Written::Signed,
            _ => Written::Rows,
        };
        let spec = Spec::Repeat {
            channels,
            factor,
            rate,
            output,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(outlet)
    }

    fn repeat(
        &mut self,
        name: &str,
        input: OutletId,
        factor: usize,
        output: OutletId,
    ) -> TractResult<bool> {
        let Some((rows, kind, rate)) = self.any_rows(input)? else {
            return Ok(false);
        };
        if kind == RowKind::Dynamic || rate % factor != 0 || self.bare.contains(&output) {
            return Ok(false);
        }
        let (channels, _) = self.layout(input)?;
        let outlet = self.repeat_rows(name, rows, channels, factor, rate, kind)?;
        let rate = rate / factor;
        let value = match kind {
            RowKind::Float => Value::Rows { outlet, rate },
            kind => Value::Integer { outlet, kind, rate },
        };
        Ok(self.put(output, value))
    }

    fn join(&mut self, name: &str, inputs: &[OutletId], output: OutletId) -> TractResult<bool> {
        if self.bare.contains(&output) {
            return Ok(false);
        }
        let (mut wires, mut kinds, mut channels) = (vec![], vec![], vec![]);
        let mut common = None;
        for of in inputs {
            let Some((outlet, kind, rate)) = self.any_rows(*of)? else {
                return Ok(false);
            };
            if *common.get_or_insert(rate) != rate {
                return Ok(false);
            }
            wires.push(outlet);
            kinds.push(kind);
            channels.push(self.layout(*of)?.0);
        }
        let rate = common.unwrap_or(1);
        // All in the form of the first; integer rows in steps of the largest scale.
        let scales: Option<Vec<f32>> = kinds
            .iter()
            .map(|kind| match (kind, &kinds[0]) {
                (RowKind::Unsigned(s), RowKind::Unsigned(_))
                | (RowKind::Signed(s), RowKind::Signed(_)) => Some(s.get()),
                (RowKind::Float, RowKind::Float) => Some(1.0),
                _ => None,
            })
            .collect();
        let Some(scales) = scales else {
            return Ok(false);
        };
        let largest = scales.iter().fold(0f32, |m, s| m.max(*s));
        let written = match kinds[0] {
            RowKind::Unsigned(_) => Written::Unsigned,
            RowKind::Signed(_) => Written::Signed,
            _ => Written::Rows,
        };
        let factors = scales.iter().map(|s| real(s / largest));
        let spec = Spec::Join {
            channels,
            factors: factors.collect::<TractResult<_>>()?,
            rate,
            output: written,
        };
        let label = self.label(name);
        let operator = spec.name();
        wires.insert(1, self.length);
        let outlet = self.wire(&label, spec, &wires)?;
        self.record(&label, operator, 0, None);
        let value = match written {
            Written::Unsigned => Value::Integer {
                outlet,
                kind: RowKind::Unsigned(real(largest)?),
                rate,
            },
            Written::Signed => Value::Integer {
                outlet,
                kind: RowKind::Signed(real(largest)?),
                rate,
            },
            _ => Value::Rows { outlet, rate },
        };
        Ok(self.put(output, value))
    }

    fn window(&mut self, step: &Step) -> TractResult<bool> {
        let Step::Window {
            name,
            input,
            width,
            stride,
            before,
            mean,
            output,
        } = step
        else {
            return Ok(false);
        };
        let Some((rows, kind, rate)) = self.any_rows(*input)? else {
            return Ok(false);
        };
        let written = match kind {
            RowKind::Unsigned(_) => Written::Unsigned,
            RowKind::Signed(_) => Written::Signed,
            RowKind::Float => Written::Rows,
            RowKind::Dynamic => return Ok(false),
        };
        if self.bare.contains(output) {
            return Ok(false);
        }
        let (channels, _) = self.layout(*input)?;
        let spec = Spec::Window {
            channels,
            width: *width,
            stride: *stride,
            before: *before,
            mean: *mean,
            rate,
            output: written,
        };
        let label = self.label(name);
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        let rate = rate * stride;
        let value = match kind {
            RowKind::Float => Value::Rows { outlet, rate },
            kind => Value::Integer { outlet, kind, rate },
        };
        Ok(self.put(*output, value))
    }

    fn softmax(&mut self, name: &str, input: OutletId, output: OutletId) -> TractResult<bool> {
        let Some(Value::Bare { outlet, rate }) = self.values.get(&input).copied() else {
            return Ok(false);
        };
        let (channels, _) = self.layout(input)?;
        let label = self.label(name);
        let spec = Spec::Softmax { channels, rate };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[outlet, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(output, Value::Bare { outlet, rate }))
    }

    fn frames(
        &mut self,
        name: &str,
        input: OutletId,
        channels: usize,
        output: OutletId,
    ) -> TractResult<bool> {
        let Some((rows, kind, 1)) = self.any_rows(input)? else {
            return Ok(false);
        };
        let label = self.label(name);
        let spec = Spec::Frames {
            channels,
            rows: kind,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(output, Value::Vector(outlet)))
    }

    fn pool(
        &mut self,
        name: &str,
        input: OutletId,
        pooled: Pooled,
        output: OutletId,
    ) -> TractResult<bool> {
        let Some((rows, kind, rate)) = self.any_rows(input)? else {
            return Ok(false);
        };
        if kind == RowKind::Dynamic {
            return Ok(false);
        }
        let (channels, _) = self.layout(input)?;
        let label = self.label(name);
        let spec = Spec::Pool {
            channels,
            rows: kind,
            pooled,
            rate,
        };
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(output, Value::Vector(outlet)))
    }

    fn dense(&mut self, step: &DenseStep) -> TractResult<bool> {
        let Some(Value::Vector(input)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        let (weight, bias) = quantize::dense_weights(step);
        self.float_weights(format!("{label}.weight"), &weight);
        self.floats(format!("{label}.bias"), &bias);
        let spec = Spec::Dense(DenseSpec {
            inputs: step.inputs,
            outputs: step.outputs,
            function: step.function,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[input])?;
        self.record(&label, operator, (step.inputs * step.outputs) as u64, None);
        Ok(self.put(step.output, Value::Vector(outlet)))
    }
}

/// How a layer's output is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    written: Written,
    /// Of integer rows; 1 for float ones.
    scale: f32,
    record: Option<RowsRecord>,
}

impl Form {
    fn float(written: Written) -> Form {
        Form {
            written,
            scale: 1.0,
            record: None,
        }
    }

    fn is_float(&self) -> bool {
        matches!(self.written, Written::Rows | Written::Last)
    }

    fn value(&self, outlet: OutletId, rate: usize) -> TractResult<Value> {
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
