//! Convolutions, linear and dense layers: from tensors to kernels.

use super::spec::{Added, ConvSpec, DenseSpec, Function, Written};
use super::{Extent, Layer, bytes, floats};
use crate::kernels::dense;
use crate::kernels::float::{ConvFloat, Weights};
use crate::kernels::norm::SCALE_BYTES;
use crate::kernels::{self, Activation, ConvInt8, Output, Residual, Rows, Scratch, Target, View};
use crate::model::manifest::Precision;
use std::cell::RefCell;
use std::ops::Range;
use tract_core::internal::*;

thread_local! {
    /// Base codes as rows of four channels, with zeros before and behind; grows to the largest tile
    /// a thread has seen.
    static ONE_HOT: RefCell<(Vec<u8>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    /// Working memory of the kernels.
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// The last step of a layer whose rows do not fill it, and room for what is added there.
    static PART: RefCell<Part> = const { RefCell::new(Part::new()) };
}

/// Room for one step: its values as floats or bytes, and what is added to them.
struct Part {
    floats: Vec<f32>,
    bytes: Vec<u8>,
    added_floats: Vec<f32>,
    added_bytes: Vec<u8>,
}

impl Part {
    const fn new() -> Part {
        Part {
            floats: Vec::new(),
            bytes: Vec::new(),
            added_floats: Vec::new(),
            added_bytes: Vec::new(),
        }
    }
}

impl Layer {
    pub(super) fn conv(
        &self,
        conv: &ConvSpec,
        extent: Extent,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let integer = self.precision == Precision::Int8;
        if !conv.codes {
            let channels = conv.shape.channels_in;
            return match integer {
                true => {
                    let pitch = channels + if conv.row_scales { SCALE_BYTES } else { 0 };
                    let rows = self.rows_of(&inputs[0], pitch)?;
                    let input = rows.view(bytes(&inputs[0])?, pitch);
                    self.conv_int8(conv, extent, input, inputs, out)
                }
                false => {
                    let rows = self.rows_of(&inputs[0], channels)?;
                    let input = rows.view(floats(&inputs[0])?, channels);
                    self.conv_float(conv, extent, input, inputs, out)
                }
            };
        }
        let codes = &bytes(&inputs[0])?[..extent.rows_in];
        let halo = conv.shape.reach();
        let rows = Rows {
            halo,
            positions: codes.len(),
        };
        let len = rows.len(4);
        // Another model may have left its bases where this one has its halo.
        ONE_HOT.with_borrow_mut(|(integers, values)| {
            if integer {
                integers.reserve_exact(len.saturating_sub(integers.len()));
                integers.resize(len, 0);
                let (start, data) = integers.split_at_mut(halo * 4);
                let (data, end) = data.split_at_mut(codes.len() * 4);
                start.fill(0);
                kernels::one_hot(codes, data);
                end.fill(0);
                return self.conv_int8(conv, extent, rows.view(integers, 4), inputs, out);
            }
            values.reserve_exact(len.saturating_sub(values.len()));
            values.resize(len, 0.0);
            let (start, data) = values.split_at_mut(halo * 4);
            let (data, end) = data.split_at_mut(codes.len() * 4);
            start.fill(0.0);
            kernels::float::one_hot(codes, data);
            end.fill(0.0);
            self.conv_float(conv, extent, rows.view(values, 4), inputs, out)
        })
    }

    /// The geometry of a tensor of rows with halo.
    pub(super) fn rows_of(&self, value: &Tensor, channels: usize) -> TractResult<Rows> {
        let shape = value.shape();
        let fits = shape.len() == 2 && shape[0] >= 2 * self.halo && shape[1] == channels;
        ensure!(
            fits,
            "{}: rows of {shape:?}, not {channels} channels",
            self.label
        );
        Ok(Rows {
            halo: self.halo,
            positions: shape[0] - 2 * self.halo,
        })
    }

    fn conv_int8(
        &self,
        spec: &ConvSpec,
        extent: Extent,
        input: View<u8>,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let step = spec.step;
        self.each_range(extent.rows_out, step, |rows| {
            self.conv_int8_rows(spec, rows, input, inputs, out)
        })
    }

    /// Rows `rows` of the output; they begin with a step.
    fn conv_int8_rows(
        &self,
        spec: &ConvSpec,
        rows: Range<usize>,
        input: View<u8>,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let channels = spec.channels();
        let pitch = spec.shape.channels_out;
        let (steps, rest) = (rows.len() / spec.step, rows.len() % spec.step);
        let halo = self.halo * channels;
        let first = halo + rows.start * channels;
        let view = |data| View { data, first, pitch };
        let residual = match (spec.added, inputs.get(2)) {
            (Added::None, _) => Residual::None,
            (Added::Unsigned(scale), Some(rows)) => {
                Residual::Unsigned(view(bytes(rows)?), scale.get())
            }
            (Added::Signed(scale), Some(rows)) => Residual::Signed(view(bytes(rows)?), scale.get()),
            (Added::Float, Some(rows)) => {
                let data = floats(rows)?;
                Residual::Float(View { data, first, pitch })
            }
            (_, None) => bail!("{} lacks what it adds", self.label),
        };
        let activation = follows(spec.function)?;
        // Unsigned rows clamp at 0 by themselves.
        let activation = match (activation, spec.output) {
            (Activation::Relu, Written::Unsigned) => Activation::Identity,
            (other, _) => other,
        };
        let conv = ConvInt8 {
            shape: spec.shape,
            positions: steps,
            signed_input: spec.signed,
            input: part_of(spec, rows.start / spec.step, steps + rest.min(1), input),
            row_scales: spec.row_scales,
            weights: self.tensor(0)?.i8(),
            scale: self.floats(2)?,
            bias: self.floats(1)?,
            residual,
            activation,
            gain: spec.gain.get(),
        };
        let run = |conv: &ConvInt8, mut out: Output| {
            SCRATCH.with_borrow_mut(|scratch| conv.run(self.isa, scratch, &mut out));
        };
        let mut memory = out.try_as_plain_ram_mut()?;
        match spec.output {
            Written::Unsigned | Written::Signed => {
                let data = memory.as_slice_mut::<u8>()?;
                let end = first + rows.len() * channels;
                fn kind(signed: bool, target: Target<u8>) -> Output {
                    match signed {
                        true => Output::Signed(target),
                        false => Output::Unsigned(target),
                    }
                }
                let signed = spec.output == Written::Signed;
                let whole = Target { data, first, pitch };
                run(&conv, kind(signed, whole));
                if rest > 0 {
                    let data = memory.as_slice_mut::<u8>()?;
                    part(&conv, steps, rest * channels, |conv, _, bytes| {
                        bytes.resize(pitch, 0);
                        run(conv, kind(signed, Target::dense(bytes, pitch)));
                        data[end - rest * channels..end].copy_from_slice(&bytes[..rest * channels]);
                    });
                }
            }
            Written::Rows | Written::Last => {
                let first = match spec.output {
                    Written::Last => first - halo,
                    _ => first,
                };
                let data = memory.as_slice_mut::<f32>()?;
                let end = first + rows.len() * channels;
                run(&conv, Output::Float(Target { data, first, pitch }));
                if rest > 0 {
                    let data = memory.as_slice_mut::<f32>()?;
                    part(&conv, steps, rest * channels, |conv, floats, _| {
                        floats.resize(pitch, 0.0);
                        run(conv, Output::Float(Target::dense(floats, pitch)));
                        data[end - rest * channels..end]
                            .copy_from_slice(&floats[..rest * channels]);
                    });
                }
            }
            other => bail!("a convolution does not write {other:?}"),
        }
        Ok(())
    }

    fn conv_float(
        &self,
        spec: &ConvSpec,
        extent: Extent,
        input: View<f32>,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let channels = spec.channels();
        ensure!(spec.step == 1, "float rows go one at a time");
        let weight = self.tensor(0)?;
        let weights = match self.precision {
            Precision::F32 => Weights::F32(weight.f32().context("weights")?),
            _ => Weights::F16(weight.f16().context("weights")?),
        };
        let first = self.halo * channels;
        let residual = match (spec.added, inputs.get(2)) {
            (Added::None, _) => None,
            (Added::Float, Some(rows)) => Some(View {
                data: floats(rows)?,
                first,
                pitch: channels,
            }),
            (other, _) => bail!("float rows and {other:?}"),
        };
        let activation = follows(spec.function)?;
        let conv = ConvFloat {
            shape: spec.shape,
            positions: extent.rows_out,
            input,
            weights,
            bias: self.floats(1)?,
            residual,
            activation,
        };
        let mut memory = out.try_as_plain_ram_mut()?;
        let data = memory.as_slice_mut::<f32>()?;
        let first = match spec.output {
            Written::Rows => first,
            Written::Last => 0,
            other => bail!("a float convolution does not write {other:?}"),
        };
        conv.run(
            self.isa,
            &mut Target {
                data,
                first,
                pitch: channels,
            },
        );
        Ok(())
    }

    pub(super) fn dense(
        &self,
        spec: &DenseSpec,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let weight = self.tensor(0)?;
        let weights = match self.precision {
            Precision::F32 => Weights::F32(weight.f32().context("weights")?),
            _ => Weights::F16(weight.f16().context("weights")?),
        };
        let input = floats(&inputs[0])?;
        ensure!(input.len() == spec.inputs, "a vector of {}", input.len());
        let mut memory = out.try_as_plain_ram_mut()?;
        let target = memory.as_slice_mut::<f32>()?;
        let activation = spec.function.of_kernel();
        dense::dense(
            self.isa,
            input,
            weights,
            self.floats(1)?,
            activation,
            target,
        );
        Ok(())
    }
}

/// The activation of a convolution.
fn follows(function: Function) -> TractResult<Activation> {
    match function {
        Function::Identity | Function::Relu | Function::ReluFirst | Function::Gelu => {
            Ok(function.of_kernel())
        }
        other => bail!("{other:?} does not follow a convolution"),
    }
}

/// The rows that some steps read: kernels that copy what they read copy no more than that.
fn part_of<'a>(spec: &ConvSpec, first: usize, steps: usize, input: View<'a, u8>) -> View<'a, u8> {
    let s = &spec.shape;
    let before = s.before * s.dilation * input.pitch;
    let start = input.first + first * s.stride * input.pitch;
    let rows = steps.saturating_sub(1) * s.stride + (s.width - 1) * s.dilation + 1;
    match start.checked_sub(before) {
        Some(from) if from <= input.data.len() => {
            let end = (from + rows * input.pitch).min(input.data.len());
            View {
                data: &input.data[from..end],
                first: before,
                pitch: input.pitch,
            }
        }
        // The kernel says what is wrong with it.
        _ => input,
    }
}

/// Runs step `steps` of a convolution of which only the first `kept` values are wanted: what is
/// added there is copied first, because rows behind the last one need not exist.
fn part(
    conv: &ConvInt8,
    steps: usize,
    kept: usize,
    run: impl FnOnce(&ConvInt8, &mut Vec<f32>, &mut Vec<u8>),
) {
    PART.with_borrow_mut(|part| {
        let Part {
            floats,
            bytes,
            added_floats,
            added_bytes,
        } = part;
        let pitch = conv.shape.channels_out;
        let mut one = *conv;
        one.positions = 1;
        one.input.first += steps * conv.shape.stride * conv.input.pitch;
        let dense = |data| View {
            data,
            first: 0,
            pitch,
        };
        match conv.residual {
            Residual::None => (),
            Residual::Unsigned(rows, _) | Residual::Signed(rows, _) => {
                let from = rows.first + steps * rows.pitch;
                added_bytes.clear();
                added_bytes.extend_from_slice(&rows.data[from..from + kept]);
                added_bytes.resize(pitch, 0);
            }
            Residual::Float(rows) => {
                let from = rows.first + steps * rows.pitch;
                added_floats.clear();
                added_floats.extend_from_slice(&rows.data[from..from + kept]);
                added_floats.resize(pitch, 0.0);
            }
        }
        one.residual = match conv.residual {
            Residual::None => Residual::None,
            Residual::Unsigned(_, scale) => Residual::Unsigned(dense(added_bytes), scale),
            Residual::Signed(_, scale) => Residual::Signed(dense(added_bytes), scale),
            Residual::Float(_) => Residual::Float(View {
                data: added_floats,
                first: 0,
                pitch,
            }),
        };
        run(&one, floats, bytes);
    });
}

/// Bytes that this thread holds for base codes as rows and for attention.
#[cfg(test)]
pub(super) fn scratch_held() -> usize {
    let codes = ONE_HOT.with_borrow(|(integers, values)| {
        integers.capacity() + values.capacity() * size_of::<f32>()
    });
    codes + SCRATCH.with_borrow(Scratch::attention_bytes)
}
