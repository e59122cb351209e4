//! Rows of any kind, read and written one at a time as floats.

use super::form::{RowKind, Written};
use super::operator::{Attributes, bytes, floats};
use super::scratch::zeros;
use tract_core::internal::*;

impl Attributes {
    /// Reads rows as floats, the first `count` of them.
    pub(super) fn reader<'a>(
        &self,
        value: &'a Tensor,
        channels: usize,
        kind: RowKind,
        count: usize,
    ) -> TractResult<impl Fn(usize, &mut [f32]) + use<'a>> {
        let halo = self.rows_of(value, channels, count)?.halo;
        let (mut integers, mut values, mut scale, mut signed) = (&[][..], &[][..], 1.0, false);
        match kind {
            RowKind::Unsigned(s) => (integers, scale) = (bytes(value)?, s.get()),
            RowKind::Signed(s) => (integers, scale, signed) = (bytes(value)?, s.get(), true),
            RowKind::Float => values = floats(value)?,
            RowKind::Dynamic => bail!("{} takes no dynamic rows", self.label),
        }
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

    /// Writes `count` rows that `fill` gives as floats, rounded as a convolution rounds.
    pub(super) fn write_rows(
        &self,
        output: &mut Tensor,
        (form, channels, count): (Written, usize, usize),
        unrounded: &mut Vec<f32>,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> TractResult<()> {
        let mut memory = output.try_as_plain_ram_mut()?;
        let (low, high) = match form {
            Written::Rows | Written::Last => {
                let data = match form {
                    Written::Rows => self.data(count, channels),
                    _ => 0..count * channels,
                };
                let rows = &mut memory.as_slice_mut::<f32>()?[data];
                for (row, values) in rows.chunks_exact_mut(channels).enumerate() {
                    fill(row, values);
                }
                return Ok(());
            }
            Written::Unsigned => (0.0, 255.0),
            Written::Signed => (-127.0, 127.0),
            other => bail!("{} does not write {other:?}", self.label),
        };
        let rows = &mut memory.as_slice_mut::<u8>()?[self.data(count, channels)];
        let values = zeros(unrounded, channels);
        for (row, bytes) in rows.chunks_exact_mut(channels).enumerate() {
            fill(row, values);
            for (b, y) in bytes.iter_mut().zip(values.iter()) {
                *b = y.clamp(low, high).round_ties_even() as i16 as u8;
            }
        }
        Ok(())
    }

    /// The bytes of `count` rows of the input, and those of the output from its first row on, where
    /// both are of one type.
    pub(super) fn row_bytes<'a>(
        &self,
        (input, channels): (&'a Tensor, usize),
        (output, channels_out): (&'a mut Tensor, usize),
        count: usize,
    ) -> TractResult<(&'a [u8], &'a mut [u8])> {
        self.rows_of(input, channels, count)?;
        let (from, to) = (input.datum_type(), output.datum_type());
        ensure!(from == to, "{}: rows of {from:?} to {to:?}", self.label);
        let (row, wide) = (channels * to.size_of(), channels_out * to.size_of());
        let data = self.data(count, row);
        let first = self.halo * wide;
        Ok((&input.as_bytes()[data], &mut output.as_bytes_mut()[first..]))
    }
}
