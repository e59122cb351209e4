//! Layers without weights of their own, and those between our rows and tract's tensors.

use super::spec::{Pooled, RowKind, Spec, Taken, Written};
use super::{Extent, Layer, bytes, floats};
use crate::kernels::affine::{Affine, Sink, Source};
use crate::kernels::{pool, softmax};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use tract_core::internal::*;

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A row to work in, given back when it is dropped.
struct Scratch(Vec<f32>);

fn scratch(channels: usize) -> Scratch {
    let mut row = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    row.clear();
    row.resize(channels, 0.0);
    Scratch(row)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let row = std::mem::take(&mut self.0);
        SCRATCH.with_borrow_mut(|kept| kept.push(row));
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Layer {
    pub(super) fn rows(
        &self,
        extent: Extent,
        inputs: &[TValue],
        out: &mut Tensor,
    ) -> TractResult<()> {
        let label = &self.label;
        match &self.spec {
            Spec::Affine {
                channels,
                rows,
                function,
                gain,
                output,
                ..
            } => {
                self.rows_of(&inputs[0], *channels)?;
                let first = self.halo * channels;
                let range = first..first + extent.rows_in * channels;
                let affine = Affine {
                    factor: self.floats(0)?,
                    term: self.floats(1)?,
                    activation: function.of_kernel(),
                    gain: gain.get(),
                    source: match rows {
                        RowKind::Unsigned(scale) => {
                            Source::Unsigned(&bytes(&inputs[0])?[range.clone()], scale.get())
                        }
                        RowKind::Signed(scale) => {
                            Source::Signed(&bytes(&inputs[0])?[range.clone()], scale.get())
                        }
                        RowKind::Float => Source::Float(&floats(&inputs[0])?[range.clone()]),
                        RowKind::Dynamic => bail!("{label} takes no dynamic rows"),
                    },
                };
                let mut memory = out.try_as_plain_ram_mut()?;
                let sink = match output {
                    Written::Unsigned => Sink::Unsigned(&mut memory.as_slice_mut::<u8>()?[range]),
                    Written::Signed => Sink::Signed(&mut memory.as_slice_mut::<u8>()?[range]),
                    Written::Rows => Sink::Float(&mut memory.as_slice_mut::<f32>()?[range]),
                    Written::Last => Sink::Float(&mut memory.as_slice_mut::<f32>()?[..range.len()]),
                    other => bail!("{label} does not write {other:?}"),
                };
                affine.run(self.isa, sink);
                Ok(())
            }
            Spec::Repeat {
                channels, factor, ..
            } => {
                let size = out.datum_type().size_of();
                self.rows_of(&inputs[0], *channels)?;
                let row = channels * size;
                let from = &inputs[0].as_bytes()[self.halo * row..][..extent.rows_in * row];
                let to = &mut out.as_bytes_mut()[self.halo * row..];
                for (row, copies) in from
                    .chunks_exact(row)
                    .zip(to.chunks_exact_mut(row * factor))
                {
                    copies
                        .chunks_exact_mut(row.len())
                        .for_each(|c| c.copy_from_slice(row));
                }
                Ok(())
            }
            Spec::Join {
                channels,
                rows: kinds,
                output,
                ..
            } => {
                // The second input is the length.
                let rows = inputs.iter().take(1).chain(inputs.iter().skip(2));
                ensure!(
                    inputs.len() == channels.len() + 1,
                    "{label}: {} inputs",
                    inputs.len()
                );
                let mut readers: TVec<_> = tvec!();
                for ((input, channels), kind) in rows.zip(channels).zip(kinds) {
                    readers.push((self.reader(input, *channels, *kind)?, *channels));
                }
                let all = channels.iter().sum();
                self.write_rows(*output, all, extent.rows_out, out, |row, values| {
                    let mut at = 0;
                    for (read, channels) in &readers {
                        read(row, &mut values[at..at + channels]);
                        at += channels;
                    }
                })
            }
            Spec::Sum {
                channels,
                rows,
                relu,
                output,
                ..
            } => {
                ensure!(inputs.len() == 3, "{label}: {} inputs", inputs.len());
                // Values as they are, so that a sum is rounded once.
                let (first, second) = (self.reader(&inputs[0], *channels, rows[0])?, rows[1]);
                let one = super::spec::Real::try_from(1.0).map_err(|e| format_err!("{e}"))?;
                let (kind, scale) = match second {
                    RowKind::Unsigned(scale) => (RowKind::Unsigned(one), scale.get()),
                    RowKind::Signed(scale) => (RowKind::Signed(one), scale.get()),
                    other => (other, 1.0),
                };
                let second = self.reader(&inputs[2], *channels, kind)?;
                let mut added = scratch(*channels);
                self.write_rows(*output, *channels, extent.rows_out, out, |row, values| {
                    first(row, values);
                    second(row, &mut added);
                    for (y, x) in values.iter_mut().zip(added.iter()) {
                        let sum = x.mul_add(scale, *y);
                        *y = if !*relu || sum > 0.0 { sum } else { 0.0 };
                    }
                })
            }
            Spec::Widen { channels, to, .. } => {
                let size = out.datum_type().size_of();
                self.rows_of(&inputs[0], *channels)?;
                let (row, wide) = (channels * size, to * size);
                let from = &inputs[0].as_bytes()[self.halo * row..][..extent.rows_in * row];
                let to = &mut out.as_bytes_mut()[self.halo * wide..];
                for (row, wide) in from.chunks_exact(row).zip(to.chunks_exact_mut(wide)) {
                    wide[..row.len()].copy_from_slice(row);
                    wide[row.len()..].fill(0);
                }
                Ok(())
            }
            Spec::Window {
                channels,
                width,
                stride,
                before,
                taken,
                output,
                ..
            } => {
                let one = super::spec::Real::try_from(1.0).map_err(|e| format_err!("{e}"))?;
                let kind = match output {
                    Written::Unsigned => RowKind::Unsigned(one),
                    Written::Signed => RowKind::Signed(one),
                    _ => RowKind::Float,
                };
                let read = self.reader(&inputs[0], *channels, kind)?;
                let mut one = scratch(*channels);
                self.write_rows(*output, *channels, extent.rows_out, out, |row, values| {
                    let first = (row * stride).saturating_sub(*before);
                    let last = (row * stride + width - before).min(extent.rows_in);
                    read(first, values);
                    for from in first + 1..last {
                        read(from, &mut one);
                        for (y, x) in values.iter_mut().zip(one.iter()) {
                            *y = match taken {
                                Taken::Max => y.max(*x),
                                _ => *y + x,
                            };
                        }
                    }
                    let count = match taken {
                        Taken::Max => return,
                        Taken::Mean => last - first,
                        Taken::PaddedMean => *width,
                    };
                    values.iter_mut().for_each(|y| *y /= count as f32);
                })
            }
            Spec::Softmax {
                channels, vector, ..
            } => {
                let count = if *vector { 1 } else { extent.rows_in } * channels;
                let mut memory = out.try_as_plain_ram_mut()?;
                let target = &mut memory.as_slice_mut::<f32>()?[..count];
                let values = &floats(&inputs[0])?[..count];
                softmax::softmax(self.isa, values, *channels, target);
                Ok(())
            }
            Spec::Frames { channels, rows } => {
                let geometry = self.rows_of(&inputs[0], *channels)?;
                let used = crate::kernels::Rows {
                    positions: extent.rows_in,
                    ..geometry
                };
                let mut memory = out.try_as_plain_ram_mut()?;
                let target = memory.as_slice_mut::<f32>()?;
                match rows {
                    RowKind::Unsigned(scale) => {
                        let input = &bytes(&inputs[0])?[..used.len(*channels)];
                        pool::frames_unsigned(input, used, *channels, scale.get(), target);
                    }
                    RowKind::Float => {
                        let input = &floats(&inputs[0])?[self.halo * channels..];
                        let input = &input[..extent.rows_in * channels];
                        pool::frames_float(input, extent.rows_in, *channels, target);
                    }
                    _ => bail!("{label} takes unsigned or float rows"),
                }
                Ok(())
            }
            Spec::Pool {
                channels,
                rows,
                pooled,
                ..
            } => {
                ensure!(extent.rows_in > 0, "{label}: nothing to pool");
                let read = self.reader(&inputs[0], *channels, *rows)?;
                let mut memory = out.try_as_plain_ram_mut()?;
                let target = memory.as_slice_mut::<f32>()?;
                read(0, target);
                if *pooled == Pooled::First {
                    return Ok(());
                }
                let mut one = scratch(*channels);
                for row in 1..extent.rows_in {
                    read(row, &mut one);
                    for (y, x) in target.iter_mut().zip(one.iter()) {
                        *y = match pooled {
                            Pooled::Max => y.max(*x),
                            _ => *y + x,
                        };
                    }
                }
                if *pooled == Pooled::Mean {
                    let count = extent.rows_in as f32;
                    target.iter_mut().for_each(|y| *y /= count);
                }
                Ok(())
            }
            Spec::OneHot => {
                let codes = &bytes(&inputs[0])?[..extent.rows_in];
                let room = inputs[0].shape()[0];
                let mut memory = out.try_as_plain_ram_mut()?;
                let target = memory.as_slice_mut::<f32>()?;
                target.fill(0.0);
                for (t, &code) in codes.iter().enumerate() {
                    if code < 4 {
                        target[usize::from(code) * room + t] = 1.0;
                    }
                }
                Ok(())
            }
            Spec::ToPlain { channels, rows, .. } => {
                let read = self.reader(&inputs[0], *channels, *rows)?;
                let room = out.shape()[2];
                let mut memory = out.try_as_plain_ram_mut()?;
                let target = memory.as_slice_mut::<f32>()?;
                let mut values = scratch(*channels);
                for t in 0..extent.rows_in {
                    read(t, &mut values);
                    for (c, y) in values.iter().enumerate() {
                        target[c * room + t] = *y;
                    }
                }
                Ok(())
            }
            Spec::FromPlain {
                channels, output, ..
            } => {
                let input = floats(&inputs[0])?;
                let room = inputs[0].shape()[2];
                self.write_rows(*output, *channels, extent.rows_out, out, |row, values| {
                    for (c, y) in values.iter_mut().enumerate() {
                        *y = input[c * room + row];
                    }
                })
            }
            _ => bail!("{label} is no layer of rows"),
        }
    }

    /// Reads a row as floats.
    fn reader<'a>(
        &self,
        value: &'a Tensor,
        channels: usize,
        kind: RowKind,
    ) -> TractResult<impl Fn(usize, &mut [f32]) + 'a> {
        let rows = self.rows_of(value, channels)?;
        let (mut integers, mut values, mut scale, mut signed) = (&[][..], &[][..], 1.0, false);
        match kind {
            RowKind::Unsigned(s) => (integers, scale) = (bytes(value)?, s.get()),
            RowKind::Signed(s) => (integers, scale, signed) = (bytes(value)?, s.get(), true),
            RowKind::Float => values = floats(value)?,
            RowKind::Dynamic => bail!("{} takes no dynamic rows", self.label),
        }
        let halo = rows.halo;
        Ok(move |row: usize, out: &mut [f32]| {
            let range = (halo + row) * channels..(halo + row + 1) * channels;
            if !values.is_empty() {
                out.copy_from_slice(&values[range]);
            } else if signed {
                for (y, x) in out.iter_mut().zip(&integers[range]) {
                    *y = f32::from(*x as i8) * scale;
                }
            } else {
                for (y, x) in out.iter_mut().zip(&integers[range]) {
                    *y = f32::from(*x) * scale;
                }
            }
        })
    }

    /// Writes rows that `fill` gives as floats, rounded as a convolution rounds.
    fn write_rows(
        &self,
        output: Written,
        channels: usize,
        count: usize,
        out: &mut Tensor,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> TractResult<()> {
        let mut memory = out.try_as_plain_ram_mut()?;
        match output {
            Written::Rows | Written::Last => {
                let halo = if output == Written::Rows {
                    self.halo
                } else {
                    0
                };
                let rows = &mut memory.as_slice_mut::<f32>()?[halo * channels..];
                for (row, values) in rows.chunks_exact_mut(channels).take(count).enumerate() {
                    fill(row, values);
                }
            }
            Written::Unsigned | Written::Signed => {
                let (low, high) = match output {
                    Written::Unsigned => (0.0, 255.0),
                    _ => (-127.0, 127.0),
                };
                let rows = &mut memory.as_slice_mut::<u8>()?[self.halo * channels..];
                let mut values = scratch(channels);
                for (row, bytes) in rows.chunks_exact_mut(channels).take(count).enumerate() {
                    fill(row, &mut values);
                    for (b, y) in bytes.iter_mut().zip(values.iter()) {
                        *b = y.clamp(low, high).round_ties_even() as i16 as u8;
                    }
                }
            }
            other => bail!("{} does not write {other:?}", self.label),
        }
        Ok(())
    }
}
