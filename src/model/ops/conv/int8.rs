//! A convolution of integer rows: whole steps, then the one that the rows do not fill.

use super::last_step::last_step;
use super::spec::{Added, ConvSpec};
use crate::kernels::{Activation, ConvInt8, Output, Residual, Scratch, Target, View};
use crate::model::ops::form::Written;
use crate::model::ops::operator::{Attributes, bytes, floats};
use crate::model::ops::scratch::StepRows;
use std::ops::Range;
use tract_core::internal::*;

/// A convolution of integer rows on its way from tensors to a kernel.
pub(super) struct Int8<'a> {
    pub spec: &'a ConvSpec,
    pub attributes: &'a Attributes,
    /// What is added.
    pub added: Option<&'a TValue>,
    pub output: &'a mut Tensor,
    pub step: &'a mut StepRows,
    pub kernels: &'a mut Scratch,
}

impl Int8<'_> {
    /// Computes rows `rows` of the output; they begin with a step.
    pub(super) fn run(&mut self, rows: Range<usize>, input: View<u8>) -> TractResult<()> {
        let (spec, attributes) = (self.spec, self.attributes);
        let channels = spec.row_channels();
        let pitch = spec.shape.channels_out;
        let (steps, rest) = (rows.len() / spec.step, rows.len() % spec.step);
        let halo = attributes.halo * channels;
        let first = halo + rows.start * channels;
        if let Some(added) = self.added {
            attributes.rows_of(added, channels, rows.end)?;
        }
        let view = |data| View { data, first, pitch };
        let residual = match (spec.added, self.added) {
            (Added::None, _) => Residual::None,
            (Added::Unsigned(scale), Some(rows)) => {
                Residual::Unsigned(view(bytes(rows)?), scale.get())
            }
            (Added::Signed(scale), Some(rows)) => Residual::Signed(view(bytes(rows)?), scale.get()),
            (Added::Float, Some(rows)) => {
                let data = floats(rows)?;
                Residual::Float(View { data, first, pitch })
            }
            (_, None) => bail!("{} lacks what it adds", attributes.label),
        };
        // Unsigned rows clamp at 0 by themselves.
        let activation = match (spec.activation, spec.output) {
            (Activation::Relu, Written::Unsigned) => Activation::Identity,
            (other, _) => other,
        };
        let input = rows_read(spec, rows.start / spec.step, steps + rest.min(1), input);
        let conv = ConvInt8 {
            shape: spec.shape,
            positions: steps,
            signed_input: spec.signed,
            input,
            row_scales: spec.row_scales,
            weights: attributes.tensor(0)?.i8(),
            scale: attributes.floats(2)?,
            bias: attributes.floats(1)?,
            residual,
            activation,
            gain: spec.gain.get(),
        };
        let (isa, kept) = (attributes.isa, rest * channels);
        let mut memory = self.output.try_as_plain_ram_mut()?;
        match spec.output {
            Written::Unsigned | Written::Signed => {
                let data = memory.as_slice_mut::<u8>()?;
                let end = first + rows.len() * channels;
                let signed = spec.output == Written::Signed;
                let whole = Target { data, first, pitch };
                conv.run(isa, self.kernels, &mut integers(signed, whole));
                if rest > 0 {
                    let data = memory.as_slice_mut::<u8>()?;
                    last_step(self.step, &conv, kept, |conv, _, bytes| {
                        bytes.resize(pitch, 0);
                        conv.run(
                            isa,
                            self.kernels,
                            &mut integers(signed, Target::dense(bytes, pitch)),
                        );
                        data[end - kept..end].copy_from_slice(&bytes[..kept]);
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
                conv.run(
                    isa,
                    self.kernels,
                    &mut Output::Float(Target { data, first, pitch }),
                );
                if rest > 0 {
                    let data = memory.as_slice_mut::<f32>()?;
                    last_step(self.step, &conv, kept, |conv, floats, _| {
                        floats.resize(pitch, 0.0);
                        conv.run(
                            isa,
                            self.kernels,
                            &mut Output::Float(Target::dense(floats, pitch)),
                        );
                        data[end - kept..end].copy_from_slice(&floats[..kept]);
                    });
                }
            }
            other => bail!("a convolution does not write {other:?}"),
        }
        Ok(())
    }
}

/// Where integer rows go.
fn integers(signed: bool, target: Target<u8>) -> Output {
    if signed {
        Output::Signed(target)
    } else {
        Output::Unsigned(target)
    }
}

/// The rows that some steps read: kernels that copy what they read copy no more than that.
fn rows_read<'a>(spec: &ConvSpec, first: usize, steps: usize, input: View<'a, u8>) -> View<'a, u8> {
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
