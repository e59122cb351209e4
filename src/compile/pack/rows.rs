//! Rows: functions, sums, concatenation, pools and what follows them.

use super::emitter::Emitter;
use super::form::{Form, Value, real};
use super::listing::Wire;
use crate::compile::lower::{AffineStep, Step};
use crate::kernels::Activation;
use crate::kernels::Real;
use crate::kernels::pool::Pooling;
use crate::model::ops::affine::AffineSpec;
use crate::model::ops::form::{RowKind, Written};
use crate::model::ops::frames::FramesSpec;
use crate::model::ops::join::JoinSpec;
use crate::model::ops::pool::PoolSpec;
use crate::model::ops::repeat::RepeatSpec;
use crate::model::ops::softmax::SoftmaxSpec;
use crate::model::ops::spec::Spec;
use crate::model::ops::sum::SumSpec;
use crate::model::ops::widen::WidenSpec;
use crate::model::ops::window::WindowSpec;
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn affine(&mut self, step: &AffineStep) -> TractResult<bool> {
        let Some((rows, kind, rate)) = self.any_rows(step.input)? else {
            return Ok(false);
        };
        let positive = match step.function {
            Activation::Relu => true,
            Activation::Clip { low, .. } => low.get() >= 0.0,
            _ => false,
        };
        let form = self.form(step.output, positive)?;
        let linear = matches!(step.function, Activation::Identity | Activation::Relu);
        let unit = if linear { form.scale } else { 1.0 };
        let label = self.label(&step.name);
        let scaled = |values: &[f32]| values.iter().map(|x| x / unit).collect::<Vec<f32>>();
        self.floats(format!("{label}.factor"), &scaled(&step.factor));
        self.floats(format!("{label}.term"), &scaled(&step.term));
        let spec = Spec::from(AffineSpec {
            channels: step.factor.len(),
            rows: kind,
            activation: step.function,
            gain: real(if linear { 1.0 } else { 1.0 / form.scale })?,
            rate,
            output: form.written,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, form.record);
        let value = form.value(outlet, rate)?;
        Ok(self.put(step.output, value))
    }

    pub(super) fn repeat_rows(
        &mut self,
        name: &str,
        rows: Wire,
        channels: usize,
        factor: usize,
        rate: usize,
        kind: RowKind,
    ) -> TractResult<Wire> {
        let label = self.label(&format!("{name}_repeat"));
        let output = same_kind(kind);
        let spec = Spec::from(RepeatSpec {
            channels,
            factor,
            rate,
            output,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(outlet)
    }

    pub(super) fn repeat(
        &mut self,
        name: &str,
        input: OutletId,
        factor: usize,
        output: OutletId,
    ) -> TractResult<bool> {
        let Some((rows, kind, rate)) = self.any_rows(input)? else {
            return Ok(false);
        };
        if kind == RowKind::Dynamic || rate % factor != 0 {
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

    pub(super) fn join(
        &mut self,
        name: &str,
        inputs: &[OutletId],
        output: OutletId,
    ) -> TractResult<bool> {
        let (mut wires, mut kinds, mut channels) = (vec![], vec![], vec![]);
        let mut common = None;
        for of in inputs {
            let Some((outlet, kind, rate)) = self.any_rows(*of)? else {
                return Ok(false);
            };
            if kind == RowKind::Dynamic || *common.get_or_insert(rate) != rate {
                return Ok(false);
            }
            wires.push(outlet);
            kinds.push(kind);
            channels.push(self.layout(*of)?.0);
        }
        let rate = common.unwrap_or(1);
        let (written, unit, rows) = together(&kinds)?;
        let spec = Spec::from(JoinSpec {
            channels,
            rows,
            rate,
            output: written,
        });
        let label = self.label(name);
        let operator = spec.name();
        wires.insert(1, self.length);
        let outlet = self.wire(&label, spec, &wires)?;
        self.record(&label, operator, 0, None);
        let form = Form {
            written,
            scale: unit,
            record: None,
        };
        let value = form.value(outlet, rate)?;
        Ok(self.put(output, value))
    }

    pub(super) fn sum(
        &mut self,
        name: &str,
        inputs: [OutletId; 2],
        (relu, product): (bool, bool),
        output: OutletId,
    ) -> TractResult<bool> {
        let (Some(a), Some(b)) = (self.any_rows(inputs[0])?, self.any_rows(inputs[1])?) else {
            return Ok(false);
        };
        if a.2 != b.2 || [a.1, b.1].contains(&RowKind::Dynamic) {
            return Ok(false);
        }
        let unsigned = |kind: RowKind| matches!(kind, RowKind::Unsigned(_));
        let mut form = self.form(output, relu || (unsigned(a.1) && unsigned(b.1)))?;
        let mut spec = SumSpec {
            channels: self.layout(inputs[0])?.0,
            rows: [in_units(a.1, form.scale)?, in_units(b.1, form.scale)?],
            relu,
            product,
            rate: a.2,
            output: form.written,
        };
        if product {
            spec.rows[1] = b.1;
        }
        // Float rows cannot be brought to the steps of an integer output: that is made when it is
        // read.
        if [a.1, b.1].contains(&RowKind::Float) && !form.is_float() {
            form = Form::float(Written::Rows);
            (spec.rows, spec.output) = ([a.1, b.1], form.written);
        }
        let spec = Spec::from(spec);
        let label = self.label(name);
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[a.0, self.length, b.0])?;
        self.record(&label, operator, 0, form.record);
        let value = form.value(outlet, a.2)?;
        Ok(self.put(output, value))
    }

    /// Rows and vectors are the same with their axes in another order.
    pub(super) fn view(&mut self, input: OutletId, output: OutletId) -> bool {
        let rank = |outlet| {
            self.network
                .model
                .outlet_fact(outlet)
                .map(|fact| fact.rank())
                .ok()
        };
        let rows = (rank(input), rank(output)) == (Some(3), Some(3));
        match self.values.get(&input).copied() {
            None | Some(Value::Plain(_)) => false,
            Some(vector @ Value::Vector(_)) => self.put(output, vector),
            Some(_) if !rows => false,
            Some(value) => {
                if let Some(integers) = self.quantised.get(&input).copied() {
                    self.quantised.insert(output, integers);
                }
                self.put(output, value)
            }
        }
    }

    /// Integer rows with channels of zeros behind their own.
    pub(super) fn widen(
        &mut self,
        of: OutletId,
        rows: Wire,
        (channels, to): (usize, usize),
        rate: usize,
        kind: RowKind,
    ) -> TractResult<Wire> {
        let label = self.label(&format!(
            "{}_widened",
            self.network.model.node(of.node).name
        ));
        let spec = Spec::from(WidenSpec {
            from: channels,
            to,
            rate,
            output: same_kind(kind),
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(outlet)
    }

    pub(super) fn window(&mut self, step: &Step) -> TractResult<bool> {
        let Step::Window {
            name,
            input,
            width,
            stride,
            before,
            pooling,
            output,
        } = step
        else {
            return Ok(false);
        };
        let Some((rows, kind, rate)) = self.any_rows(*input)? else {
            return Ok(false);
        };
        if kind == RowKind::Dynamic {
            return Ok(false);
        }
        let written = same_kind(kind);
        let (channels, _) = self.layout(*input)?;
        let spec = Spec::from(WindowSpec {
            channels,
            width: *width,
            stride: *stride,
            before: *before,
            pooling: *pooling,
            rate,
            output: written,
        });
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

    pub(super) fn softmax(
        &mut self,
        name: &str,
        input: OutletId,
        output: OutletId,
    ) -> TractResult<bool> {
        let vector = self.vector(input)?;
        let label = self.label(name);
        let (channels, inputs, rate) = match vector {
            Some(vector) => {
                let shape = &self.network.model.outlet_fact(input)?.shape;
                (shape[1].to_usize()?, tvec!(vector), 1)
            }
            None => match self.last_rows(input)? {
                Some((outlet, rate)) => (self.layout(input)?.0, tvec!(outlet, self.length), rate),
                None => return Ok(false),
            },
        };
        let spec = Spec::from(SoftmaxSpec {
            channels,
            vector: vector.is_some(),
            rate,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &inputs)?;
        self.record(&label, operator, 0, None);
        let value = match vector {
            Some(_) => Value::Vector(outlet),
            None => Value::Last { outlet, rate },
        };
        Ok(self.put(output, value))
    }

    pub(super) fn frames(
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
        let spec = Spec::from(FramesSpec {
            channels,
            rows: kind,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(output, Value::Vector(outlet)))
    }

    pub(super) fn pool(
        &mut self,
        name: &str,
        input: OutletId,
        pooling: Pooling,
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
        let spec = Spec::from(PoolSpec {
            channels,
            rows: kind,
            pooling,
            rate,
        });
        let operator = spec.name();
        let outlet = self.wire(&label, spec, &[rows, self.length])?;
        self.record(&label, operator, 0, None);
        Ok(self.put(output, Value::Vector(outlet)))
    }
}

/// How rows are written that stay what they are.
fn same_kind(kind: RowKind) -> Written {
    match kind {
        RowKind::Unsigned(_) => Written::Unsigned,
        RowKind::Signed(_) => Written::Signed,
        RowKind::Float | RowKind::Dynamic => Written::Rows,
    }
}

fn scale_of(kind: RowKind) -> f32 {
    match kind {
        RowKind::Unsigned(scale) | RowKind::Signed(scale) => scale.get(),
        RowKind::Float | RowKind::Dynamic => 1.0,
    }
}

/// The same rows with a scale in steps of `unit`.
fn in_units(kind: RowKind, unit: f32) -> TractResult<RowKind> {
    let scaled = |scale: Real| real(scale.get() / unit);
    Ok(match kind {
        RowKind::Unsigned(scale) => RowKind::Unsigned(scaled(scale)?),
        RowKind::Signed(scale) => RowKind::Signed(scaled(scale)?),
        other => other,
    })
}

/// How rows of several kinds are written side by side: the form, its step, and each kind in that
/// step. None of them is clipped.
fn together(kinds: &[RowKind]) -> TractResult<(Written, f32, Vec<RowKind>)> {
    if kinds.contains(&RowKind::Float) {
        return Ok((Written::Rows, 1.0, kinds.to_vec()));
    }
    let signed = kinds.iter().any(|kind| matches!(kind, RowKind::Signed(_)));
    let reach = |kind: &RowKind| match kind {
        RowKind::Unsigned(_) if signed => scale_of(*kind) * 255.0 / 127.0,
        _ => scale_of(*kind),
    };
    let unit = kinds.iter().map(reach).fold(0f32, f32::max);
    let rows = kinds.iter().map(|kind| in_units(*kind, unit));
    let written = if signed {
        Written::Signed
    } else {
        Written::Unsigned
    };
    Ok((written, unit, rows.collect::<TractResult<_>>()?))
}
