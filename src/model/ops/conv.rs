//! Convolutions and linear layers.

use super::form::{Input, Real, RowKind, Written};
use super::operator::{
    Attributes, Extent, Need, Operand, Operator, Run, bytes, check_size, floats, weight_type,
};
use super::scratch::{OneHotRows, Scratch, ScratchBytes, StepRows};
use super::wanted::each_range;
use crate::kernels::float::{ConvFloat, Weights};
use crate::kernels::{
    self, Activation, ConvInt8, ConvShape, Output, Residual, Rows, Target, View, padded,
};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tract_core::internal::*;

/// Channels of codes as rows: one a code, zeros for any other.
const CODE_CHANNELS: usize = 4;

/// Most weights, before they are padded.
const MOST_WEIGHTS: u64 = 1 << 31;

/// Farthest that a convolution over codes may reach.
const MOST_REACH: usize = 1 << 16;

/// What is added to a convolution before its activation: the third input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Added {
    /// Nothing.
    None,
    /// Unsigned rows times a scale.
    Unsigned(Real),
    /// Signed rows times a scale.
    Signed(Real),
    /// Float rows.
    Float,
}

impl Added {
    fn kind(self) -> Option<RowKind> {
        match self {
            Added::None => None,
            Added::Unsigned(scale) => Some(RowKind::Unsigned(scale)),
            Added::Signed(scale) => Some(RowKind::Signed(scale)),
            Added::Float => Some(RowKind::Float),
        }
    }
}

/// A convolution over rows or codes, or a linear layer. Inputs: rows or codes, the length, and what
/// is added. Tensors: `weight`, `bias`, and with int8 weights their `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// What the kernel computes at a step: `channels_out` holds the channels of all rows of the
    /// step.
    pub shape: ConvShape,
    /// Output rows of a step: more than one where a few channels share the lanes of several
    /// positions, or where rows are repeated.
    pub step: usize,
    /// True where the input is codes.
    pub codes: bool,
    /// True where the input rows are signed.
    pub signed: bool,
    /// True where each input row is followed by its own scale.
    pub row_scales: bool,
    /// What is added.
    pub added: Added,
    /// What follows.
    #[serde(rename = "function")]
    pub activation: Activation,
    /// Inverse of the scale of an integer output, for functions that need the value in its own
    /// unit.
    pub gain: Real,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl Operator for ConvSpec {
    fn name(&self) -> &'static str {
        if self.codes {
            "strandline_codes_conv"
        } else if self.shape.width == 1 && self.step == 1 {
            "strandline_linear"
        } else if self.added != Added::None {
            "strandline_conv_add"
        } else {
            "strandline_conv"
        }
    }

    fn validate(&self, precision: Precision, halo: usize) -> Result<(), String> {
        let s = &self.shape;
        for (name, value) in [
            ("channels_in", s.channels_in),
            ("channels_out", s.channels_out),
            ("width", s.width),
            ("dilation", s.dilation),
            ("stride", s.stride),
            ("step", self.step),
        ] {
            check_size(name, value)?;
        }
        let weights = s.channels_in as u64 * s.channels_out as u64 * s.width as u64;
        if weights > MOST_WEIGHTS {
            return Err(format!("a convolution of {weights} weights"));
        }
        if s.before >= s.width || !s.channels_out.is_multiple_of(self.step) {
            return Err(format!("a convolution of {s:?} in steps of {}", self.step));
        }
        // Codes have no halo of their own: their rows are made for each run.
        let reach = s.reach().saturating_add(self.step);
        if self.codes && (reach > MOST_REACH || s.channels_in != CODE_CHANNELS) {
            return Err(format!("a convolution over codes of {s:?}"));
        }
        if !self.codes && s.reach() > halo {
            return Err(format!("{s:?} reaches beyond a halo of {halo}"));
        }
        if precision == Precision::Int8 && !s.channels_in.is_multiple_of(4) {
            return Err(format!(
                "{} input channels: no multiple of 4",
                s.channels_in
            ));
        }
        if self.row_scales && (s.width, s.stride) != (1, 1) {
            return Err(format!("rows with scales of their own and {s:?}"));
        }
        Ok(())
    }

    fn tensors(&self, precision: Precision) -> Vec<Need> {
        let lanes = padded(self.shape.channels_out);
        let mut all = vec![
            Need::new("weight", weight_type(precision), self.shape.packed_len()),
            Need::floats("bias", lanes),
        ];
        if precision == Precision::Int8 {
            all.push(Need::floats("scale", lanes));
        }
        all
    }

    fn operands(&self, precision: Precision) -> Vec<Operand> {
        let kind = match precision {
            Precision::Int8 if self.row_scales => RowKind::Dynamic,
            Precision::Int8 => RowKind::Unsigned(Real::ONE),
            Precision::Fp16 | Precision::F32 => RowKind::Float,
        };
        let first = if self.codes {
            Operand::Codes
        } else {
            Operand::Rows(self.shape.channels_in, kind)
        };
        let added = self.added.kind();
        let added = added.map(|kind| Operand::Rows(self.channels(), kind));
        [first, Operand::Length].into_iter().chain(added).collect()
    }

    fn input(&self) -> Input {
        if self.codes {
            Input::Codes
        } else {
            Input::Rows
        }
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.shape.channels_out / self.step.max(1)
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn rows_ratio(&self) -> (usize, usize) {
        (self.step, self.shape.stride)
    }

    fn reach(&self) -> usize {
        if self.step == 1 && self.shape.stride == 1 {
            return self.shape.reach();
        }
        // A step writes several rows.
        let taps = (self.shape.width - 1).saturating_mul(self.shape.dilation);
        taps.saturating_add(self.step)
    }

    fn scratch(&self, attributes: &Attributes, tile: usize) -> ScratchBytes {
        if !self.codes {
            return ScratchBytes::default();
        }
        let rows = Rows {
            halo: self.shape.reach(),
            positions: tile,
        };
        let size = match attributes.precision {
            Precision::Int8 => size_of::<u8>(),
            Precision::Fp16 | Precision::F32 => size_of::<f32>(),
        };
        ScratchBytes {
            one_hot: rows.len(CODE_CHANNELS) * size,
            ..ScratchBytes::default()
        }
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            extent,
            inputs,
            output,
            scratch,
            wanted,
        } = run;
        let Scratch {
            one_hot,
            step,
            kernels,
            ..
        } = scratch;
        let OneHotRows {
            integers,
            floats: values,
        } = one_hot;
        let integer = attributes.precision == Precision::Int8;
        let (first, reach) = (&inputs[0], self.shape.reach());
        let mut conv = Conv {
            spec: self,
            attributes,
            added: inputs.get(2),
            output,
            step,
            kernels,
        };
        if integer {
            let input = if self.codes {
                let codes = &bytes(first)?[..extent.rows_in];
                code_rows(codes, reach, integers, kernels::one_hot)
            } else {
                self.rows(attributes, first, extent, bytes(first)?)?
            };
            let count = extent.rows_out;
            return each_range(wanted, attributes.spread, count, self.step, |rows| {
                conv.int8(rows, input)
            });
        }
        let input = if self.codes {
            let codes = &bytes(first)?[..extent.rows_in];
            code_rows(codes, reach, values, kernels::float::one_hot)
        } else {
            self.rows(attributes, first, extent, floats(first)?)?
        };
        conv.float(extent.rows_out, input)
    }
}

impl ConvSpec {
    /// Input rows with halo as a kernel reads them.
    fn rows<'a, T>(
        &self,
        attributes: &Attributes,
        value: &Tensor,
        extent: Extent,
        data: &'a [T],
    ) -> TractResult<View<'a, T>> {
        let channels = self.shape.channels_in;
        let pitch = if self.row_scales {
            RowKind::Dynamic.pitch(channels)
        } else {
            channels
        };
        let rows = attributes.rows_of(value, pitch, extent.rows_in)?;
        Ok(rows.view(data, pitch))
    }

    /// What follows, if it can follow a convolution.
    fn activation(&self) -> TractResult<Activation> {
        match self.activation {
            Activation::Identity | Activation::Relu | Activation::ReluFirst | Activation::Gelu => {
                Ok(self.activation)
            }
            other => bail!("{other:?} does not follow a convolution"),
        }
    }
}

/// Codes as rows with zeros before and behind, made in `kept`, which may hold those of another
/// layer.
fn code_rows<'a, T: Copy + Default>(
    codes: &[u8],
    halo: usize,
    kept: &'a mut Vec<T>,
    one_hot: impl FnOnce(&[u8], &mut [T]),
) -> View<'a, T> {
    let rows = Rows {
        halo,
        positions: codes.len(),
    };
    let len = rows.len(CODE_CHANNELS);
    kept.reserve_exact(len.saturating_sub(kept.len()));
    kept.resize(len, T::default());
    let (start, data) = kept.split_at_mut(halo * CODE_CHANNELS);
    let (data, end) = data.split_at_mut(codes.len() * CODE_CHANNELS);
    start.fill(T::default());
    one_hot(codes, data);
    end.fill(T::default());
    rows.view(kept, CODE_CHANNELS)
}

/// A convolution on its way from tensors to a kernel.
struct Conv<'a> {
    spec: &'a ConvSpec,
    attributes: &'a Attributes,
    /// What is added.
    added: Option<&'a TValue>,
    output: &'a mut Tensor,
    step: &'a mut StepRows,
    kernels: &'a mut kernels::Scratch,
}

impl Conv<'_> {
    /// Rows `rows` of the output of integer rows; they begin with a step.
    fn int8(&mut self, rows: Range<usize>, input: View<u8>) -> TractResult<()> {
        let (spec, attributes) = (self.spec, self.attributes);
        let channels = spec.channels();
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
        let activation = match (spec.activation()?, spec.output) {
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

    /// All rows of the output of float rows.
    fn float(&mut self, count: usize, input: View<f32>) -> TractResult<()> {
        let (spec, attributes) = (self.spec, self.attributes);
        let channels = spec.channels();
        ensure!(spec.step == 1, "float rows go one at a time");
        let weight = attributes.tensor(0)?;
        let weights = match attributes.precision {
            Precision::F32 => Weights::F32(weight.f32().context("weights")?),
            _ => Weights::F16(weight.f16().context("weights")?),
        };
        let first = attributes.halo * channels;
        let residual = match (spec.added, self.added) {
            (Added::None, _) => None,
            (Added::Float, Some(rows)) => {
                attributes.rows_of(rows, channels, count)?;
                Some(View {
                    data: floats(rows)?,
                    first,
                    pitch: channels,
                })
            }
            (other, _) => bail!("float rows and {other:?}"),
        };
        let conv = ConvFloat {
            shape: spec.shape,
            positions: count,
            input,
            weights,
            bias: attributes.floats(1)?,
            residual,
            activation: spec.activation()?,
        };
        let mut memory = self.output.try_as_plain_ram_mut()?;
        let data = memory.as_slice_mut::<f32>()?;
        let first = match spec.output {
            Written::Rows => first,
            Written::Last => 0,
            other => bail!("a float convolution does not write {other:?}"),
        };
        let pitch = channels;
        conv.run(attributes.isa, &mut Target { data, first, pitch });
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

/// Runs the step behind the last whole one of a convolution, of which only the first `kept` values
/// are wanted: what is added there is copied first, because rows behind the last one need not
/// exist.
fn last_step(
    step: &mut StepRows,
    conv: &ConvInt8,
    kept: usize,
    run: impl FnOnce(&ConvInt8, &mut Vec<f32>, &mut Vec<u8>),
) {
    let StepRows {
        floats,
        bytes,
        added_floats,
        added_bytes,
    } = step;
    let (steps, pitch) = (conv.positions, conv.shape.channels_out);
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
}
