//! Convolutions, linear and dense layers.

use super::emitter::Emitter;
use super::form::{Form, Value, real};
use super::listing::Wire;
use crate::compile::lower::{ConvStep, DenseStep};
use crate::compile::quantize::{self, Layout};
use crate::kernels::Activation;
use crate::model::manifest::Precision;
use crate::model::ops::conv::spec::{Added, ConvSpec};
use crate::model::ops::dense::DenseSpec;
use crate::model::ops::form::{RowKind, Written};
use crate::model::ops::rows_dense::RowsDenseSpec;
use crate::model::ops::spec::Spec;
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn conv(&mut self, step: &ConvStep) -> TractResult<bool> {
        let mut step = step.clone();
        if let Some(by_input) = step.by_input {
            step.weight = self.transposed(by_input, step.shape.channels_out)?;
        }
        if self.scalars.contains(&step.input) && self.precision == Precision::Int8 {
            return self.rows_dense(&step);
        }
        let whole = self.precision;
        if self.kept.contains(&step.input) {
            self.precision = Precision::Fp16;
        }
        let done = self.conv_of_precision(&step);
        self.precision = whole;
        done
    }

    /// A linear layer of rows that stay float, by a kernel that gives the same bits everywhere.
    fn rows_dense(&mut self, step: &ConvStep) -> TractResult<bool> {
        let plain = step.residual.is_none() && step.repeat == 1;
        let Some(Value::Rows { outlet, rate: 1 }) = self.float(step.input)?.filter(|_| plain)
        else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        let (inputs, outputs) = (step.shape.channels_in, step.shape.channels_out);
        let (weight, bias) = quantize::dense_weights(&step.weight, &step.bias, inputs);
        self.float_weights(format!("{label}.weight"), &weight);
        self.floats(format!("{label}.bias"), &bias);
        let spec = Spec::from(RowsDenseSpec {
            inputs,
            outputs,
            activation: step.function,
        });
        let operator = spec.name();
        let rows = self.wire(&label, spec, &[outlet, self.length])?;
        self.record(&label, operator, (inputs * outputs) as u64, None);
        let value = Value::Rows {
            outlet: rows,
            rate: 1,
        };
        Ok(self.put(step.output, value))
    }

    /// A constant of two axes, its rows as columns.
    fn transposed(&self, constant: OutletId, columns: usize) -> TractResult<Vec<f32>> {
        let konst = self.network.model.outlet_fact(constant)?.konst.clone();
        let values = konst.context("weights that are no constant")?;
        let values = values.cast_to::<f32>()?;
        let values = values.try_as_plain_ram()?.as_slice::<f32>()?;
        let rows = values.len() / columns.max(1);
        let by_output = |at: usize| values[at % rows * columns + at / rows];
        Ok((0..values.len()).map(by_output).collect())
    }

    fn conv_of_precision(&mut self, step: &ConvStep) -> TractResult<bool> {
        let integer = self.precision == Precision::Int8;
        let codes = matches!(self.values.get(&step.input), Some(Value::Codes));
        if codes && (step.shape.channels_in != 4 || step.repeat != 1) {
            return Ok(false);
        }
        let (rows, kind, rate) = if codes {
            (self.input, RowKind::Unsigned(real(1.0)?), 1)
        } else {
            match self.rows_of(step.input)? {
                Some(found) => found,
                None => return Ok(false),
            }
        };
        if matches!(kind, RowKind::Dynamic) && (step.shape.width, step.shape.stride) != (1, 1) {
            return Ok(false);
        }
        let channels = step.shape.channels_in;
        if integer && !channels.is_multiple_of(4) {
            if kind == RowKind::Dynamic {
                return Ok(false);
            }
            let wide = widened(step);
            let rows = self.widen(
                step.input,
                rows,
                (channels, wide.shape.channels_in),
                rate,
                kind,
            )?;
            return self.conv_of(&wide, false, rows, kind, rate);
        }
        if !integer && step.repeat > 1 {
            if rate % step.repeat != 0 {
                return Ok(false);
            }
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
        rows: Wire,
        kind: RowKind,
        rate: usize,
    ) -> TractResult<bool> {
        let integer = self.precision == Precision::Int8;
        if !(rate * step.shape.stride).is_multiple_of(step.repeat) {
            return Ok(false);
        }
        let layout = Layout::of(step, integer, codes);
        let mut inputs = vec![rows, self.length];
        let mut residual = None;
        if let Some(of) = step.residual {
            let Some((outlet, kind, other)) = self.any_rows(of)? else {
                return Ok(false);
            };
            if other * step.repeat != rate * step.shape.stride {
                return Ok(false);
            }
            inputs.push(outlet);
            residual = Some(kind);
        }
        let positive = match step.function {
            Activation::Relu => true,
            Activation::ReluFirst => matches!(residual, Some(RowKind::Unsigned(_))),
            _ => false,
        };
        let mut form = self.form(step.output, positive)?;
        if let Some(kind) = residual {
            // Float rows cannot be brought to the steps of an integer output: that is made when it
            // is read.
            if kind == RowKind::Float && !form.is_float() {
                form = Form::float(Written::Rows);
            }
        }
        let unit = unit(step, &form);
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
            activation: step.function,
            gain: real(1.0 / form.scale)?,
            rate,
            output: form.written,
        };
        let scale_in = match kind {
            RowKind::Unsigned(scale) | RowKind::Signed(scale) => scale.get(),
            RowKind::Dynamic | RowKind::Float => 1.0,
        };
        self.emit_conv(step, &layout, spec, &inputs, scale_in, form)
    }

    fn emit_conv(
        &mut self,
        step: &ConvStep,
        layout: &Layout,
        spec: ConvSpec,
        inputs: &[Wire],
        scale_in: f32,
        form: Form,
    ) -> TractResult<bool> {
        let label = self.label(&step.name);
        if self.precision == Precision::Int8 {
            let paired = !spec.codes && !spec.signed;
            let means = self.ranges.means(step.input);
            let units = (scale_in, unit(step, &form));
            let packed = quantize::conv_weights(step, layout, units, paired, means);
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

    pub(super) fn dense(&mut self, step: &DenseStep) -> TractResult<bool> {
        let Some(Value::Vector(input)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        let (weight, bias) = quantize::dense_weights(&step.weight, &step.bias, step.inputs);
        self.float_weights(format!("{label}.weight"), &weight);
        self.floats(format!("{label}.bias"), &bias);
        let spec = Spec::Dense(DenseSpec {
            inputs: step.inputs,
            outputs: step.outputs,
            activation: step.function,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[input])?;
        self.record(&label, operator, (step.inputs * step.outputs) as u64, None);
        Ok(self.put(step.output, Value::Vector(outlet)))
    }
}

/// What a convolution's epilogue counts in. A GELU needs the value in its own unit; other functions
/// are as well applied to steps of the output.
fn unit(step: &ConvStep, form: &Form) -> f32 {
    match step.function {
        Activation::Gelu => 1.0,
        _ => form.scale,
    }
}

/// The same convolution of rows whose channels are a multiple of 4, the last of them zeros.
fn widened(step: &ConvStep) -> ConvStep {
    let (channels, taps) = (step.shape.channels_in, step.shape.width);
    let mut wide = step.clone();
    wide.shape.channels_in = channels.next_multiple_of(4);
    let row = wide.shape.channels_in * taps;
    wide.weight = vec![0.0; step.shape.channels_out * row];
    for (to, from) in wide
        .weight
        .chunks_exact_mut(row)
        .zip(step.weight.chunks_exact(channels * taps))
    {
        to[..from.len()].copy_from_slice(from);
    }
    wide
}
