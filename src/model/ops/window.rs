//! Pooling of neighbouring rows.

use super::form::{RowKind, Written};
use super::operator::{Operand, Operator, Run, check_size};
use super::scratch::{Scratch, zeros};
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tract_core::internal::*;

/// What is kept of a window, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowPooling {
    /// The largest.
    Max,
    /// The mean of those rows that there are.
    Mean,
    /// The mean with zeros for rows beyond the ends.
    PaddedMean,
}

/// The maximum or mean of `width` rows every `stride` rows. Inputs: rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Channels.
    pub channels: usize,
    /// Rows of a window.
    pub width: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Rows before the output's own position.
    pub before: usize,
    /// What is kept of a window.
    #[serde(rename = "taken")]
    pub pooling: WindowPooling,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is read and written.
    pub output: Written,
}

impl Operator for WindowSpec {
    fn name(&self) -> &'static str {
        "strandline_window"
    }

    fn validate(&self, _precision: Precision, _halo: usize) -> Result<(), String> {
        let (width, before) = (self.width, self.before);
        check_size("width", width)?;
        check_size("stride", self.stride)?;
        if before >= width {
            return Err(format!("a window of {width} with {before} before it"));
        }
        Ok(())
    }

    fn operands(&self, _precision: Precision) -> Vec<Operand> {
        vec![
            Operand::Rows(self.channels, RowKind::unscaled(self.output)),
            Operand::Length,
        ]
    }

    fn written(&self) -> Written {
        self.output
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn rate(&self) -> usize {
        self.rate
    }

    fn rows_ratio(&self) -> (usize, usize) {
        (1, self.stride)
    }

    fn run(&self, run: Run) -> TractResult<()> {
        let Run {
            attributes,
            extent,
            inputs,
            output,
            ..
        } = run;
        let Scratch {
            row,
            unrounded,
            window,
            ..
        } = run.scratch;
        let kind = RowKind::unscaled(self.output);
        let read = attributes.reader(&inputs[0], self.channels, kind, extent.rows_in)?;
        let one = zeros(row, self.channels);
        let form = (self.output, self.channels, extent.rows_out);
        let wide = self.width >= WIDE && self.width.saturating_mul(self.channels) <= MOST_HELD;
        // Sums of floats depend on their order, which must not depend on where a tile begins.
        let mut shared = match self.pooling {
            WindowPooling::Max if wide => Shared::maxima(window, self.width, self.channels),
            WindowPooling::Mean | WindowPooling::PaddedMean if wide && kind != RowKind::Float => {
                Shared::sum(window, self.channels)
            }
            _ => Shared::Nothing,
        };
        attributes.write_rows(output, form, unrounded, |row, values| {
            let first = (row * self.stride).saturating_sub(self.before);
            let last = (row * self.stride + self.width - self.before).min(extent.rows_in);
            if !shared.pool(&read, first..last, extent.rows_in, one, values) {
                read(first, values);
                for from in first + 1..last {
                    read(from, one);
                    for (y, x) in values.iter_mut().zip(one.iter()) {
                        *y = match self.pooling {
                            WindowPooling::Max => y.max(*x),
                            WindowPooling::Mean | WindowPooling::PaddedMean => *y + x,
                        };
                    }
                }
                shared.keep(first..last, values);
            }
            let count = match self.pooling {
                WindowPooling::Max => return,
                WindowPooling::Mean => last - first,
                WindowPooling::PaddedMean => self.width,
            };
            values.iter_mut().for_each(|y| *y /= count as f32);
        })
    }
}

/// Rows from which on a window is computed from the one before.
const WIDE: usize = 8;

/// Most values that are held for that.
const MOST_HELD: usize = 1 << 20;

/// What a window has in common with the one before, so that its cost does not grow with its width.
enum Shared<'a> {
    Nothing,
    /// The sum of a window's rows: whole numbers, so that rows can be taken away again.
    Sum {
        rows: Range<usize>,
        sum: &'a mut [f32],
    },
    /// Maxima from each row of a block of `width` rows to the block's end, and from the next
    /// block's beginning to a row of it (van Herk 1992).
    Maxima {
        width: usize,
        /// The block's first row.
        block: Option<usize>,
        to_end: &'a mut [f32],
        /// The row behind those of the next block that `from_begin` covers.
        reached: usize,
        from_begin: &'a mut [f32],
    },
}

impl<'a> Shared<'a> {
    fn sum(held: &'a mut Vec<f32>, channels: usize) -> Shared<'a> {
        let sum = zeros(held, channels);
        Shared::Sum { rows: 0..0, sum }
    }

    fn maxima(held: &'a mut Vec<f32>, width: usize, channels: usize) -> Shared<'a> {
        let (to_end, from_begin) =
            zeros(held, (width + 1) * channels).split_at_mut(width * channels);
        Shared::Maxima {
            width,
            block: None,
            to_end,
            reached: 0,
            from_begin,
        }
    }

    /// Puts the sum or the maximum of a window's rows into `values`; false where it has nothing in
    /// common with the one before. `count` are all rows that there are.
    fn pool(
        &mut self,
        read: &impl Fn(usize, &mut [f32]),
        window: Range<usize>,
        count: usize,
        one: &mut [f32],
        values: &mut [f32],
    ) -> bool {
        match self {
            Shared::Nothing => false,
            Shared::Sum { rows, sum } => {
                if !rows.contains(&window.start) || window.end < rows.end {
                    return false;
                }
                for row in rows.start..window.start {
                    read(row, one);
                    sum.iter_mut().zip(one.iter()).for_each(|(y, x)| *y -= x);
                }
                for row in rows.end..window.end {
                    read(row, one);
                    sum.iter_mut().zip(one.iter()).for_each(|(y, x)| *y += x);
                }
                *rows = window;
                values.copy_from_slice(sum);
                true
            }
            Shared::Maxima {
                width,
                block,
                to_end,
                reached,
                from_begin,
            } => {
                let channels = values.len();
                let begin = window.start - window.start % *width;
                let end = (begin + *width).min(count);
                if window.end < end {
                    // Cut short by the first row.
                    return false;
                }
                if *block != Some(begin) {
                    *block = Some(begin);
                    *reached = end;
                    for row in (window.start..end).rev() {
                        let at = (row - begin) * channels;
                        let (own, behind) = to_end[at..].split_at_mut(channels);
                        read(row, own);
                        if row + 1 < end {
                            own.iter_mut().zip(behind).for_each(|(y, x)| *y = y.max(*x));
                        }
                    }
                }
                let at = (window.start - begin) * channels;
                values.copy_from_slice(&to_end[at..at + channels]);
                for row in *reached..window.end {
                    read(row, one);
                    if row == end {
                        from_begin.copy_from_slice(one);
                    } else {
                        from_begin
                            .iter_mut()
                            .zip(one.iter())
                            .for_each(|(y, x)| *y = y.max(*x));
                    }
                }
                *reached = window.end.max(*reached);
                if window.end > end {
                    values
                        .iter_mut()
                        .zip(from_begin.iter())
                        .for_each(|(y, x)| *y = y.max(*x));
                }
                true
            }
        }
    }

    /// Keeps what was computed row by row.
    fn keep(&mut self, window: Range<usize>, values: &[f32]) {
        if let Shared::Sum { rows, sum } = self {
            *rows = window;
            sum.copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever windows have in common, they are those of all their rows.
    #[test]
    fn wide_windows_are_those_of_all_their_rows() {
        let channels = 3;
        for (count, width, stride, before) in [
            (100, 8, 1, 4),
            (100, 25, 1, 12),
            (100, 25, 3, 0),
            (100, 25, 40, 24),
            (7, 20, 1, 10),
            (64, 8, 8, 7),
            (1, 9, 1, 8),
            (50, 50, 1, 25),
        ] {
            let value = |row: usize, c: usize| ((row * 37 + c * 11 + row * row) % 255) as f32;
            let read = |row: usize, out: &mut [f32]| {
                assert!(row < count);
                for (c, y) in out.iter_mut().enumerate() {
                    *y = value(row, c);
                }
            };
            let (mut held, mut more) = (vec![], vec![]);
            let mut sum = Shared::sum(&mut held, channels);
            let mut maxima = Shared::maxima(&mut more, width, channels);
            let (mut one, mut values) = (vec![0.0; channels], vec![0.0; channels]);
            let mut common = 0;
            for row in 0..count.div_ceil(stride) {
                let first = (row * stride).saturating_sub(before);
                let last = (row * stride + width - before).min(count);
                let rows = || first..last;
                let of = |fold: fn(f32, f32) -> f32| -> Vec<f32> {
                    let own = |c| rows().map(|row| value(row, c)).reduce(fold).unwrap();
                    (0..channels).map(own).collect()
                };
                if sum.pool(&read, rows(), count, &mut one, &mut values) {
                    assert_eq!(values, of(|a, b| a + b), "{count} {width} {stride} {row}");
                } else {
                    sum.keep(rows(), &of(|a, b| a + b));
                }
                if maxima.pool(&read, rows(), count, &mut one, &mut values) {
                    assert_eq!(values, of(f32::max), "{count} {width} {stride} {row}");
                    common += 1;
                }
            }
            assert!(common > 0 || count < width, "{count} {width}");
        }
    }
}
