//! Our operators inside tract's graph.
//!
//! All of them are one type, [`Layer`], with a [`Spec`]: that keeps buffers, weights and checks in one place. Weights are
//! [`Region`]s of the model file, read in place. Each layer's state holds its output tensor and hands it out again on the next run, so
//! that nothing is allocated in steady state.
//!
//! A graph has two sources: `codes`, u8 `[T]`, and `length`, an i64 of which T is the most. Hidden rows are `[T + 2 · halo,
//! channels]` with `halo` zero rows before and after the first `length` data rows: a read's end is the zero padding
//! that the network was trained with, whatever the tile's size.

use super::map::Region;
use crate::kernels::float::{ConvFloat, Weights};
use crate::kernels::pool::{self, DenseWeights};
use crate::kernels::table::ConvCodes;
use crate::kernels::{ConvInt8, ConvShape, Isa, Output, Rows};
use crate::model::manifest::Precision;
use tract_nnef::internal::*;

/// What a layer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// Rows of 0 to 127 after a ReLU.
    Unsigned,
    /// Rows of -127 to 127.
    Signed,
    /// Float rows with halo, for float layers; true after a ReLU.
    Rows(bool),
    /// Float rows without halo, the graph's output; true after a ReLU.
    Last(bool),
}

impl Written {
    pub(super) fn name(self) -> &'static str {
        match self {
            Written::Unsigned => "unsigned",
            Written::Signed => "signed",
            Written::Rows(false) => "rows",
            Written::Rows(true) => "rows-relu",
            Written::Last(false) => "last",
            Written::Last(true) => "last-relu",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Written> {
        [
            Written::Unsigned,
            Written::Signed,
            Written::Rows(false),
            Written::Rows(true),
            Written::Last(false),
            Written::Last(true),
        ]
        .into_iter()
        .find(|o| o.name() == name)
    }
}

/// What a layer does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Spec {
    /// Convolution over base codes. Inputs: codes, length.
    CodesConv {
        /// `channels_in` is 4.
        shape: ConvShape,
        /// What it writes.
        output: Written,
    },
    /// Convolution over rows. Inputs: rows, length and, with `residual`, rows to add.
    Conv {
        /// Its shape.
        shape: ConvShape,
        /// True where the input rows are signed.
        signed: bool,
        /// True where rows are added before the activation.
        residual: bool,
        /// What it writes.
        output: Written,
    },
    /// Maximum and mean by reading frame. Inputs: rows, length. Output: f32 `[6 · channels]`.
    Frames {
        /// Channels of the rows.
        channels: usize,
    },
    /// Dense layer on a vector. Output: f32 `[outputs]`.
    Dense {
        /// Length of the input.
        inputs: usize,
        /// Length of the output.
        outputs: usize,
        /// Negative values become 0.
        relu: bool,
    },
    /// Codes to tract's own one-hot f32 `[1, 4, T]`. Inputs: codes, length.
    OneHot,
    /// Rows to tract's own f32 `[1, channels, T]`. Inputs: rows, length.
    ToPlain {
        /// Channels of the rows.
        channels: usize,
        /// True where the rows are signed.
        signed: bool,
    },
    /// tract's own f32 `[1, channels, T]` to float rows without halo, the graph's output. Inputs: plain, length.
    FromPlain {
        /// Channels.
        channels: usize,
    },
}

/// Parameters of a layer, in place in the model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Weights: i8, fp16 or f32.
    pub weight: Region,
    /// f32: one a padded output channel.
    pub bias: Region,
    /// f32: one a padded output channel, int8 only.
    pub scale: Option<Region>,
    /// Scale of the residual in units of the output.
    pub residual_scale: u32,
}

/// One of our operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub spec: Spec,
    /// Precision of weights and of the input rows (`Int8`: integer rows).
    pub precision: Precision,
    /// Zero rows at each end of every buffer of the graph.
    pub halo: usize,
    /// Name of its tensors in the file.
    pub label: String,
    /// Its weights, where it has some.
    pub parameters: Option<Parameters>,
    /// Scale of integer input rows (`Frames`, `ToPlain`), as bits of an f32.
    pub input_scale: u32,
    /// Instruction set.
    pub isa: Isa,
}

impl Layer {
    fn output_shape(&self, input: &[TDim]) -> TractResult<(DatumType, TVec<TDim>)> {
        let halo = 2 * self.halo as i64;
        let rows_in = |halo: i64| -> TractResult<TDim> {
            ensure!(!input.is_empty(), "an input of rank 0");
            Ok(input[0].clone() - halo)
        };
        let conv = |positions: TDim, channels: usize, output: Written| match output {
            Written::Unsigned | Written::Signed => {
                (u8::datum_type(), tvec!(positions + halo, channels.to_dim()))
            }
            Written::Rows(_) => (
                f32::datum_type(),
                tvec!(positions + halo, channels.to_dim()),
            ),
            Written::Last(_) => (f32::datum_type(), tvec!(positions, channels.to_dim())),
        };
        Ok(match &self.spec {
            Spec::CodesConv { shape, output } => conv(rows_in(0)?, shape.channels_out, *output),
            Spec::Conv { shape, output, .. } => conv(rows_in(halo)?, shape.channels_out, *output),
            Spec::Frames { channels } => (
                f32::datum_type(),
                tvec!((2 * pool::FRAMES * channels).to_dim()),
            ),
            Spec::Dense { outputs, .. } => (f32::datum_type(), tvec!(outputs.to_dim())),
            Spec::OneHot => (
                f32::datum_type(),
                tvec!(1.to_dim(), 4.to_dim(), rows_in(0)?),
            ),
            Spec::ToPlain { channels, .. } => (
                f32::datum_type(),
                tvec!(1.to_dim(), channels.to_dim(), rows_in(halo)?),
            ),
            Spec::FromPlain { channels } => {
                ensure!(input.len() == 3, "plain tensors have rank 3");
                (
                    f32::datum_type(),
                    tvec!(input[2].clone(), channels.to_dim()),
                )
            }
        })
    }

    fn parameters(&self) -> TractResult<&Parameters> {
        self.parameters
            .as_ref()
            .with_context(|| format!("layer {} has no weights", self.label))
    }

    /// Multiply-accumulates a position, or in all for layers that pool or follow a pool.
    pub fn macs(&self) -> u64 {
        let conv = |s: &ConvShape| (s.channels_in * s.channels_out * s.width) as u64;
        match &self.spec {
            Spec::CodesConv { shape, .. } | Spec::Conv { shape, .. } => conv(shape),
            Spec::Dense {
                inputs, outputs, ..
            } => (inputs * outputs) as u64,
            _ => 0,
        }
    }
}

impl Op for Layer {
    fn name(&self) -> StaticName {
        match self.spec {
            Spec::CodesConv { .. } => "strandline_codes_conv",
            Spec::Conv {
                residual: false, ..
            } => "strandline_conv",
            Spec::Conv { residual: true, .. } => "strandline_conv_add",
            Spec::Frames { .. } => "strandline_frames",
            Spec::Dense { .. } => "strandline_dense",
            Spec::OneHot => "strandline_one_hot",
            Spec::ToPlain { .. } => "strandline_to_plain",
            Spec::FromPlain { .. } => "strandline_from_plain",
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    not_out_of_plan!();

    fn state(&self, _ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(LayerState {
            output: None,
            length: 0,
        })))
    }
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (dt, shape) = self.output_shape(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(dt.fact(&shape)))
    }
}

/// The output tensor, kept from run to run.
#[derive(Debug, Clone)]
struct LayerState {
    output: Option<Arc<Tensor>>,
    length: usize,
}

impl OpState for LayerState {
    fn eval(
        &mut self,
        _ctx: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let layer = op
            .downcast_ref::<Layer>()
            .context("state of another operator")?;
        let dims: TVec<TDim> = inputs[0].shape().iter().map(|d| d.to_dim()).collect();
        let (dt, shape) = layer.output_shape(&dims)?;
        let mut concrete: TVec<usize> = tvec!();
        for dim in &shape {
            concrete.push(dim.to_usize()?);
        }
        let fits = |t: &Arc<Tensor>| t.shape() == &*concrete && Arc::strong_count(t) == 1;
        let mut output = match self.output.take().filter(fits) {
            Some(output) => output,
            None => {
                self.length = 0;
                Arc::new(Tensor::zero_dt(dt, &concrete)?)
            }
        };
        let tensor = Arc::get_mut(&mut output).context("an output is still in use")?;
        layer.compute(&inputs, tensor, &mut self.length)?;
        self.output = Some(output.clone());
        Ok(tvec!(TValue::from_const(output)))
    }

    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        Ok(())
    }
}

fn bytes(value: &Tensor) -> TractResult<&[u8]> {
    value.try_as_plain_ram()?.as_slice::<u8>()
}

fn floats(value: &Tensor) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}

impl Layer {
    /// Runs the layer. `cleared` is the length whose end halo is already zero.
    fn compute(&self, inputs: &[TValue], out: &mut Tensor, cleared: &mut usize) -> TractResult<()> {
        let out_rows = out.shape()[0];
        if let Spec::Dense { relu, .. } = self.spec {
            let p = self.parameters()?;
            let weights = match self.precision {
                Precision::F32 => DenseWeights::F32(p.weight.f32().context("weights")?),
                _ => DenseWeights::F16(p.weight.f16().context("weights")?),
            };
            let bias = p.bias.f32().context("bias")?;
            let mut view = out.try_as_plain_ram_mut()?;
            let target = view.as_slice_mut::<f32>()?;
            pool::dense(floats(&inputs[0])?, weights, bias, relu, target);
            return Ok(());
        }
        let length = *inputs[1]
            .try_as_plain_ram()?
            .as_slice::<i64>()?
            .first()
            .context("an empty length")?;
        let positions = usize::try_from(length)?;
        let room = match self.spec {
            Spec::CodesConv { .. } | Spec::OneHot => inputs[0].shape()[0],
            Spec::FromPlain { .. } => inputs[0].shape()[2],
            _ => inputs[0].shape()[0] - 2 * self.halo,
        };
        ensure!(
            positions <= room,
            "{positions} positions in a tile of {room}"
        );
        let rows = Rows {
            halo: self.halo,
            positions,
        };
        match &self.spec {
            Spec::CodesConv { shape, output } => {
                let codes = &bytes(&inputs[0])?[..positions];
                self.codes_conv(shape, *output, rows, codes, out)?;
                self.clear_end(rows, shape.channels_out, *output, out_rows, out, cleared)?;
            }
            Spec::Conv {
                shape,
                signed,
                output,
                ..
            } => {
                self.conv(shape, *signed, *output, rows, inputs, out)?;
                self.clear_end(rows, shape.channels_out, *output, out_rows, out, cleared)?;
            }
            Spec::Frames { channels } => {
                let mut view = out.try_as_plain_ram_mut()?;
                let target = view.as_slice_mut::<f32>()?;
                let len = rows.len(*channels);
                if self.precision == Precision::Int8 {
                    let input = &bytes(&inputs[0])?[..len];
                    let scale = f32::from_bits(self.input_scale);
                    pool::frames_unsigned(input, rows, *channels, scale, target);
                } else {
                    let input = &floats(&inputs[0])?[self.halo * channels..];
                    let input = &input[..positions * channels];
                    pool::frames_float(input, positions, *channels, target);
                }
            }
            Spec::OneHot => {
                let codes = &bytes(&inputs[0])?[..positions];
                let mut view = out.try_as_plain_ram_mut()?;
                let target = view.as_slice_mut::<f32>()?;
                target.fill(0.0);
                for (t, &code) in codes.iter().enumerate() {
                    if code < 4 {
                        target[usize::from(code) * room + t] = 1.0;
                    }
                }
            }
            Spec::ToPlain { channels, signed } => {
                let mut view = out.try_as_plain_ram_mut()?;
                let target = view.as_slice_mut::<f32>()?;
                let scale = f32::from_bits(self.input_scale);
                for t in 0..positions {
                    for c in 0..*channels {
                        let at = (self.halo + t) * channels + c;
                        target[c * room + t] = if self.precision != Precision::Int8 {
                            floats(&inputs[0])?[at]
                        } else if *signed {
                            f32::from(bytes(&inputs[0])?[at] as i8) * scale
                        } else {
                            f32::from(bytes(&inputs[0])?[at]) * scale
                        };
                    }
                }
            }
            Spec::FromPlain { channels } => {
                let input = floats(&inputs[0])?;
                let mut view = out.try_as_plain_ram_mut()?;
                let target = view.as_slice_mut::<f32>()?;
                for t in 0..positions {
                    for c in 0..*channels {
                        target[t * channels + c] = input[c * room + t];
                    }
                }
            }
            Spec::Dense { .. } => unreachable!("returned above"),
        }
        Ok(())
    }

    /// Zeroes the halo after the last row, which a longer run may have written.
    fn clear_end(
        &self,
        rows: Rows,
        channels: usize,
        output: Written,
        out_rows: usize,
        out: &mut Tensor,
        cleared: &mut usize,
    ) -> TractResult<()> {
        let first = rows.halo + rows.positions;
        let range = first * channels..(first + rows.halo).min(out_rows) * channels;
        if *cleared == rows.positions {
            return Ok(());
        }
        let mut view = out.try_as_plain_ram_mut()?;
        match output {
            Written::Unsigned | Written::Signed => view.as_slice_mut::<u8>()?[range].fill(0),
            Written::Rows(_) => view.as_slice_mut::<f32>()?[range].fill(0.0),
            Written::Last(_) => (),
        }
        *cleared = rows.positions;
        Ok(())
    }

    fn codes_conv(
        &self,
        shape: &ConvShape,
        output: Written,
        rows: Rows,
        codes: &[u8],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let p = self.parameters()?;
        let bias = p.bias.f32().context("bias")?;
        let mut view = out.try_as_plain_ram_mut()?;
        if self.precision == Precision::Int8 {
            let conv = ConvCodes {
                shape: *shape,
                rows,
                codes,
                table: p.weight.i8(),
                scale: p.scale.as_ref().and_then(Region::f32).context("scale")?,
                bias,
            };
            let len = rows.len(shape.channels_out);
            let mut target = match output {
                Written::Unsigned => Output::Unsigned(&mut view.as_slice_mut::<u8>()?[..len]),
                Written::Signed => Output::Signed(&mut view.as_slice_mut::<u8>()?[..len]),
                Written::Last(relu) => Output::Float {
                    out: &mut view.as_slice_mut::<f32>()?[..rows.positions * shape.channels_out],
                    relu,
                },
                Written::Rows(_) => bail!("integer layers write no float rows"),
            };
            conv.run(self.isa, &mut target);
            return Ok(());
        }
        // Float: the same sum of weight rows, one a tap.
        let (relu, first) = match output {
            Written::Rows(relu) => (relu, rows.halo),
            Written::Last(relu) => (relu, 0),
            _ => bail!("float layers write float rows"),
        };
        let weights = self.float_weights()?;
        let target = view.as_slice_mut::<f32>()?;
        crate::kernels::float::conv_codes(shape, codes, weights, bias, relu, target, first);
        Ok(())
    }

    fn float_weights(&self) -> TractResult<Weights<'_>> {
        let p = self.parameters()?;
        Ok(match self.precision {
            Precision::F32 => Weights::F32(p.weight.f32().context("weights")?),
            _ => Weights::F16(p.weight.f16().context("weights")?),
        })
    }

    fn conv(
        &self,
        shape: &ConvShape,
        signed: bool,
        output: Written,
        rows: Rows,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let p = self.parameters()?;
        let bias = p.bias.f32().context("bias")?;
        let mut view = out.try_as_plain_ram_mut()?;
        let (len_in, len_out) = (rows.len(shape.channels_in), rows.len(shape.channels_out));
        let last = rows.positions * shape.channels_out;
        if self.precision == Precision::Int8 {
            let residual = match inputs.get(2) {
                Some(r) => Some((&bytes(r)?[..len_out], f32::from_bits(p.residual_scale))),
                None => None,
            };
            let conv = ConvInt8 {
                shape: *shape,
                rows,
                signed_input: signed,
                input: &bytes(&inputs[0])?[..len_in],
                weights: p.weight.i8(),
                scale: p.scale.as_ref().and_then(Region::f32).context("scale")?,
                bias,
                residual,
            };
            let mut target = match output {
                Written::Unsigned => Output::Unsigned(&mut view.as_slice_mut::<u8>()?[..len_out]),
                Written::Signed => Output::Signed(&mut view.as_slice_mut::<u8>()?[..len_out]),
                Written::Last(relu) => Output::Float {
                    out: &mut view.as_slice_mut::<f32>()?[..last],
                    relu,
                },
                Written::Rows(_) => bail!("integer layers write no float rows"),
            };
            conv.run(self.isa, &mut target);
            return Ok(());
        }
        let (relu, with_halo) = match output {
            Written::Rows(relu) => (relu, true),
            Written::Last(relu) => (relu, false),
            _ => bail!("float layers write float rows"),
        };
        let residual = match inputs.get(2) {
            Some(r) => Some(&floats(r)?[..len_out]),
            None => None,
        };
        let conv = ConvFloat {
            shape: *shape,
            rows,
            input: &floats(&inputs[0])?[..len_in],
            weights: self.float_weights()?,
            bias,
            residual,
            relu,
        };
        let len = if with_halo { len_out } else { last };
        let target = view.as_slice_mut::<f32>()?;
        conv.run(self.isa, &mut target[..len], with_halo);
        Ok(())
    }
}
