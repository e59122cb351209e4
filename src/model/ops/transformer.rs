//! Embedding, layer norm, quantisation of rows and attention: from tensors to kernels.

use super::conv::SCRATCH;
use super::spec::{RowKind, Written};
use super::{Extent, Layer, Spec, bytes, floats};
use crate::kernels::attention::{self, Attention, Projection, Rotary};
use crate::kernels::embed::{Embedding, Table};
use crate::kernels::norm::{self, Input, Int8Rows, LayerNorm, SCALE_BYTES};
use crate::model::manifest::Precision;
use tract_core::internal::*;

impl Layer {
    pub(super) fn transformer(
        &self,
        extent: Extent,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let rows = extent.rows_out;
        let mut memory = out.try_as_plain_ram_mut()?;
        match &self.spec {
            Spec::Embed {
                channels,
                positions,
                ..
            } => {
                let ids = inputs[0].try_as_plain_ram()?.as_slice::<u32>()?;
                let step = if self.precision == Precision::Int8 {
                    2
                } else {
                    1
                };
                let positions = match positions {
                    0 => None,
                    _ => Some(self.table(step)?),
                };
                let embedding = Embedding {
                    width: *channels,
                    tokens: self.table(0)?,
                    positions,
                };
                let first = self.halo * channels;
                let target = &mut memory.as_slice_mut::<f32>()?[first..first + rows * channels];
                Ok(embedding.run(self.isa, &ids[..rows], target)?)
            }
            Spec::Norm {
                channels,
                epsilon,
                scale,
                output,
            } => {
                let norm = LayerNorm {
                    gamma: self.floats(0)?,
                    beta: self.floats(1)?,
                    epsilon: epsilon.get(),
                };
                let input = self.float_rows(&inputs[0], rows, *channels)?;
                if *output == Written::Rows {
                    let first = self.halo * channels;
                    let target = &mut memory.as_slice_mut::<f32>()?[first..first + rows * channels];
                    norm.run(self.isa, Input::Plain(input), Some(target), None);
                    return Ok(());
                }
                let target = memory.as_slice_mut::<u8>()?;
                let target = self.int8_rows(target, *output, rows, *channels, scale.get())?;
                norm.run(self.isa, Input::Plain(input), None, Some(target));
                Ok(())
            }
            Spec::Quantise {
                channels,
                scale,
                output,
                ..
            } => {
                let input = self.float_rows(&inputs[0], rows, *channels)?;
                let target = memory.as_slice_mut::<u8>()?;
                let target = self.int8_rows(target, *output, rows, *channels, scale.get())?;
                norm::quantise(self.isa, input, *channels, target);
                Ok(())
            }
            Spec::Attention {
                heads,
                width,
                scale,
                rotary,
                rows: kinds,
                output_scale,
                output,
            } => {
                let channels = heads * width;
                ensure!(inputs.len() == 4, "{}: {} inputs", self.label, inputs.len());
                ensure!(rows <= attention::MAX_TOKENS, "{rows} tokens");
                ensure!(
                    *rotary == 0 || rows <= *rotary,
                    "{rows} tokens, but rotations for {rotary}"
                );
                let q = self.projection(&inputs[0], kinds[0], channels)?;
                let k = self.projection(&inputs[2], kinds[1], channels)?;
                let v = self.projection(&inputs[3], kinds[2], channels)?;
                let rotary = match rotary {
                    0 => None,
                    _ => Some(Rotary {
                        cos: self.floats(0)?,
                        sin: self.floats(1)?,
                    }),
                };
                let attention = Attention {
                    tokens: rows,
                    heads: *heads,
                    width: *width,
                    q,
                    k,
                    v,
                    scale: scale.get(),
                    mask: None,
                    rotary,
                };
                SCRATCH.with_borrow_mut(|scratch| {
                    // For the largest that may come, so that it grows once.
                    let room = inputs[0].shape()[0].min(attention::MAX_TOKENS);
                    scratch.reserve_attention(room.max(rows), *width);
                    if *output == Written::Rows {
                        let first = self.halo * channels;
                        let target = memory.as_slice_mut::<f32>()?;
                        let target = &mut target[first..first + rows * channels];
                        match self.precision {
                            Precision::Int8 => {
                                let target = attention::Output::Float(target);
                                attention.run_int8(self.isa, scratch, target);
                            }
                            _ => attention.run_float(self.isa, scratch, target),
                        }
                        return Ok(());
                    }
                    let target = memory.as_slice_mut::<u8>()?;
                    let scale = output_scale.get();
                    let target = self.int8_rows(target, *output, rows, channels, scale)?;
                    attention.run_int8(self.isa, scratch, attention::Output::Int8(target));
                    Ok(())
                })
            }
            _ => bail!("{} is no layer of a transformer", self.label),
        }
    }

    fn table(&self, index: usize) -> TractResult<Table<'_>> {
        let values = self.tensor(index)?;
        Ok(match self.precision {
            Precision::Int8 => Table::Int8 {
                values: values.i8(),
                scales: self.floats(index + 1)?,
            },
            Precision::Fp16 => Table::F16(values.f16().context("an fp16 table")?),
            Precision::F32 => Table::F32(values.f32().context("an f32 table")?),
        })
    }

    fn float_rows<'a>(
        &self,
        value: &'a Tensor,
        rows: usize,
        channels: usize,
    ) -> TractResult<&'a [f32]> {
        self.rows_of(value, channels)?;
        let first = self.halo * channels;
        Ok(&floats(value)?[first..first + rows * channels])
    }

    fn int8_rows<'a>(
        &self,
        target: &'a mut [u8],
        output: Written,
        rows: usize,
        channels: usize,
        scale: f32,
    ) -> TractResult<Int8Rows<'a>> {
        let pitch = match output {
            Written::Signed => channels,
            Written::Dynamic => channels + SCALE_BYTES,
            other => bail!("{} does not write {other:?}", self.label),
        };
        let first = self.halo * pitch;
        let bytes = &mut target[first..first + rows * pitch];
        Ok(match output {
            Written::Signed => Int8Rows::Static { bytes, scale },
            _ => Int8Rows::Dynamic { bytes },
        })
    }

    fn projection<'a>(
        &self,
        value: &'a Tensor,
        kind: RowKind,
        channels: usize,
    ) -> TractResult<Projection<'a>> {
        let scale = match kind {
            RowKind::Dynamic => SCALE_BYTES,
            _ => 0,
        };
        let pitch = channels + scale;
        self.rows_of(value, pitch)?;
        let first = self.halo * pitch;
        Ok(match kind {
            RowKind::Signed(scale) => Projection::Static {
                bytes: &bytes(value)?[first..],
                pitch,
                offset: 0,
                scale: scale.get(),
            },
            RowKind::Dynamic => Projection::Dynamic {
                bytes: &bytes(value)?[first..],
                pitch,
                offset: 0,
            },
            RowKind::Float => Projection::Float {
                values: &floats(value)?[first..],
                pitch,
                offset: 0,
            },
            RowKind::Unsigned(_) => bail!("{} takes no unsigned rows", self.label),
        })
    }
}
