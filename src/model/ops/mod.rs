//! Our operators inside tract's graph.
//!
//! All of them are one type, [`Layer`], with a [`Spec`]: that keeps buffers, weights and checks in
//! one place. Weights are [`Region`]s of the model file, read in place. Outputs come from the
//! worker's [`arena`](self::arena), so that nothing is allocated in steady state and layers whose
//! outputs do not live at the same time share memory.
//!
//! A graph has two sources: `codes` (u8 `[T]`; u32 ids for networks that read tokens), and
//! `length`, an i64 of which T is the most. Hidden rows are `[T / rate + 2 · halo, channels]`, one
//! row for `rate` positions of the input, with `halo` zero rows before the first and after the last
//! of the rows that `length` fills: a read's end is the zero padding that the network was trained
//! with, whatever the tile's size.

pub mod arena;
mod check;
mod conv;
mod load;
mod rows;
pub mod spec;
mod transformer;
pub mod wanted;

use super::map::Region;
use crate::kernels::attention;
use crate::kernels::norm::SCALE_BYTES;
use crate::kernels::{Isa, Scratch};
use crate::model::manifest::Precision;
pub use spec::Spec;
use tract_core::internal::*;

/// One of our operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub spec: Spec,
    /// Precision of its weights; integer rows where `Int8`.
    pub precision: Precision,
    /// Zero rows at each end of every buffer of the graph.
    pub halo: usize,
    /// Name of its tensors in the file.
    pub label: String,
    /// Its tensors in the order of [`Spec::tensors`].
    pub tensors: Vec<Region>,
    /// Instruction set.
    pub isa: Isa,
    /// How far from a wanted row of the graph's output the rows of this layer are needed; `None`:
    /// all of them, always. See [`wanted`].
    pub spread: Option<usize>,
}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.spec.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    not_out_of_plan!();

    fn state(&self, _ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(LayerState)))
    }
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (dt, shape) = self.output_shape(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(dt.fact(&shape)))
    }
}

/// Operators keep nothing from run to run: their buffers belong to the worker.
#[derive(Debug, Clone)]
struct LayerState;

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
        let (dt, concrete) = layer.concrete_shape(inputs[0].shape())?;
        let mut buffer = arena::take(dt, &concrete, layer.halo_rows())?;
        let tensor = Arc::get_mut(&mut buffer.tensor).context("an output is still in use")?;
        layer.compute(&inputs, tensor, &mut buffer.cleared)?;
        Ok(tvec!(TValue::from_const(arena::put(buffer))))
    }

    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        Ok(())
    }
}

/// An axis of an output.
#[derive(Debug, Clone, Copy)]
enum Axis {
    One,
    /// Rows, and as many more.
    Rows(usize),
    Channels(usize),
}

/// Where a layer stands in the data: how many rows it reads and writes for a given length.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Rows of the input that hold data.
    rows_in: usize,
    /// Rows of the output that hold data.
    rows_out: usize,
}

impl Layer {
    fn output_shape(&self, input: &[TDim]) -> TractResult<(DatumType, TVec<TDim>)> {
        ensure!(!input.is_empty(), "an input of rank 0");
        let halo = 2 * self.halo as i64;
        let rows_in = match self.spec.input() {
            spec::Input::Codes | spec::Input::Bare => input[0].clone(),
            spec::Input::Rows => input[0].clone() - halo,
            spec::Input::Plain => input.last().cloned().unwrap_or_default(),
            spec::Input::Vector => 0.to_dim(),
        };
        let (multiplied, divided) = self.spec.rows_ratio();
        let rows = (rows_in * multiplied as i64).divceil(divided);
        let (dt, form) = self.form();
        let dims = form.map(|axis| match axis {
            Axis::One => 1.to_dim(),
            Axis::Rows(halo) => rows.clone() + halo as i64,
            Axis::Channels(channels) => channels.to_dim(),
        });
        Ok((dt, dims.collect()))
    }

    /// The same for a run, without allocating.
    fn concrete_shape(&self, input: &[usize]) -> TractResult<(DatumType, TVec<usize>)> {
        ensure!(!input.is_empty(), "an input of rank 0");
        let rows_in = match self.spec.input() {
            spec::Input::Codes | spec::Input::Bare => input[0],
            spec::Input::Rows => input[0].checked_sub(2 * self.halo).context("no halo")?,
            spec::Input::Plain => input[input.len() - 1],
            spec::Input::Vector => 0,
        };
        let (multiplied, divided) = self.spec.rows_ratio();
        let rows = (rows_in * multiplied).div_ceil(divided);
        let (dt, form) = self.form();
        let dims = form.map(|axis| match axis {
            Axis::One => 1,
            Axis::Rows(halo) => rows + halo,
            Axis::Channels(channels) => channels,
        });
        Ok((dt, dims.collect()))
    }

    /// Type and axes of the output.
    fn form(&self) -> (DatumType, impl Iterator<Item = Axis>) {
        use spec::Written::{Dynamic, Last, Plain, Rows, Signed, Unsigned, Vector};
        let written = self.spec.written();
        let scale = if written == Dynamic { SCALE_BYTES } else { 0 };
        let channels = Some(Axis::Channels(self.spec.channels_out() + scale));
        let halo = Some(Axis::Rows(2 * self.halo));
        let (dt, axes) = match written {
            Unsigned | Signed | Dynamic => (u8::datum_type(), [halo, channels, None]),
            Rows => (f32::datum_type(), [halo, channels, None]),
            Last => (f32::datum_type(), [Some(Axis::Rows(0)), channels, None]),
            Vector => (f32::datum_type(), [channels, None, None]),
            Plain => {
                let axes = [Some(Axis::One), channels, Some(Axis::Rows(0))];
                (f32::datum_type(), axes)
            }
        };
        (dt, axes.into_iter().flatten())
    }

    /// Runs the layer. `cleared` is the number of rows behind which the halo of the output is
    /// already zero.
    fn compute(&self, inputs: &[TValue], out: &mut Tensor, cleared: &mut usize) -> TractResult<()> {
        let extent = match self.spec.input() {
            spec::Input::Vector => Extent {
                rows_in: 0,
                rows_out: 0,
            },
            _ => self.extent(inputs)?,
        };
        match &self.spec {
            Spec::Conv(conv) => self.conv(conv, extent, inputs, out)?,
            Spec::Dense(dense) => self.dense(dense, inputs, out)?,
            Spec::Embed { .. }
            | Spec::Norm { .. }
            | Spec::Quantise { .. }
            | Spec::Attention { .. } => self.transformer(extent, inputs, out)?,
            _ => self.rows(extent, inputs, out)?,
        }
        let halo_rows = match self.spec.written() {
            spec::Written::Unsigned | spec::Written::Signed | spec::Written::Rows => self.halo,
            _ => 0,
        };
        if halo_rows == 0 {
            // What a longer run has left behind the last row is not known any more.
            *cleared = usize::MAX;
        } else if *cleared != extent.rows_out {
            let row = self.spec.channels_out() * out.datum_type().size_of();
            let first = (halo_rows + extent.rows_out) * row;
            let bytes = out.as_bytes_mut();
            let end = (first + halo_rows * row).min(bytes.len());
            bytes[first.min(end)..end].fill(0);
            *cleared = extent.rows_out;
        }
        Ok(())
    }

    /// Rows at each end of the output that it leaves alone or clears.
    fn halo_rows(&self) -> usize {
        use spec::Written::{Dynamic, Last, Plain, Rows, Signed, Unsigned, Vector};
        match self.spec.written() {
            Unsigned | Signed | Dynamic | Rows => self.halo,
            Last | Vector | Plain => 0,
        }
    }

    /// Bytes of working memory for a tile: of bases as rows, and of attention.
    pub fn scratch_bytes(&self, tile: usize) -> (usize, usize) {
        match &self.spec {
            Spec::Conv(conv) if conv.codes => {
                let rows = crate::kernels::Rows {
                    halo: conv.shape.reach(),
                    positions: tile,
                };
                let size = match self.precision {
                    Precision::Int8 => 1,
                    _ => size_of::<f32>(),
                };
                (rows.len(4) * size, 0)
            }
            Spec::Attention { width, .. } if tile <= attention::MAX_TOKENS => {
                let room = (tile + 2 * self.halo).min(attention::MAX_TOKENS);
                let mut scratch = Scratch::default();
                scratch.reserve_attention(room, *width);
                (0, scratch.attention_bytes())
            }
            _ => (0, 0),
        }
    }

    /// The rows that the run's length fills, checked against the tensors.
    fn extent(&self, inputs: &[TValue]) -> TractResult<Extent> {
        let length = *inputs[1]
            .try_as_plain_ram()?
            .as_slice::<i64>()?
            .first()
            .context("an empty length")?;
        let rows_in = usize::try_from(length)?.div_ceil(self.spec.rate());
        let shape = inputs[0].shape();
        let room = match self.spec.input() {
            spec::Input::Plain => shape.last().copied().unwrap_or(0),
            spec::Input::Rows => shape[0] - 2 * self.halo,
            _ => shape[0],
        };
        ensure!(rows_in <= room, "{rows_in} rows in a tile of {room}");
        let (multiplied, divided) = self.spec.rows_ratio();
        Ok(Extent {
            rows_in,
            rows_out: (rows_in * multiplied).div_ceil(divided),
        })
    }

    fn tensor(&self, index: usize) -> TractResult<&Region> {
        let label = &self.label;
        self.tensors
            .get(index)
            .with_context(|| format!("layer {label} lacks its tensor {index}"))
    }

    fn floats(&self, index: usize) -> TractResult<&[f32]> {
        self.tensor(index)?.f32().context("an f32 tensor")
    }
}

/// Bytes of working memory that this thread holds.
#[cfg(test)]
pub fn scratch_held() -> usize {
    conv::scratch_held()
}

fn bytes(value: &Tensor) -> TractResult<&[u8]> {
    value.try_as_plain_ram()?.as_slice::<u8>()
}

fn floats(value: &Tensor) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}
