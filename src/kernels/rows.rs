//! Rows in memory, to be read and to be written.

/// Rows of an activation buffer: `halo` zero rows, `positions` rows of data, `halo` zero rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Rows of zeros at each end.
    pub halo: usize,
    /// Rows of data.
    pub positions: usize,
}

impl Rows {
    /// Bytes or floats of a whole buffer of `channels`; the largest number where there is none so
    /// large.
    pub fn len(self, channels: usize) -> usize {
        let rows = self.positions.saturating_add(self.halo.saturating_mul(2));
        rows.saturating_mul(channels)
    }

    /// True where there are no positions.
    pub fn is_empty(self) -> bool {
        self.positions == 0
    }

    /// A whole buffer of these rows as the operand of a kernel.
    pub fn view<T>(self, data: &[T], channels: usize) -> View<'_, T> {
        View {
            data,
            first: self.halo.saturating_mul(channels),
            pitch: channels,
        }
    }
}

/// Rows in memory: the values of row `r` begin at `first + r · pitch`. Rows before row 0 may be
/// read by a convolution.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    /// The buffer.
    pub data: &'a [T],
    /// Where row 0 begins.
    pub first: usize,
    /// From one row to the next.
    pub pitch: usize,
}

impl<T> View<'_, T> {
    /// True where `positions` rows of `channels` lie inside the buffer and do not overlap.
    pub(super) fn fits(&self, positions: usize, channels: usize) -> bool {
        within(self.data.len(), self.first, self.pitch, positions, channels)
    }
}

/// Rows to be written: row `r` begins at `first + r · pitch`.
#[derive(Debug)]
pub struct Target<'a, T> {
    /// The buffer.
    pub data: &'a mut [T],
    /// Where row 0 begins.
    pub first: usize,
    /// From one row to the next.
    pub pitch: usize,
}

impl<'a, T> Target<'a, T> {
    /// Rows without halo.
    pub fn dense(data: &'a mut [T], channels: usize) -> Target<'a, T> {
        Target {
            data,
            first: 0,
            pitch: channels,
        }
    }

    /// A whole buffer of `rows`.
    pub fn rows(data: &'a mut [T], rows: Rows, channels: usize) -> Target<'a, T> {
        Target {
            data,
            first: rows.halo.saturating_mul(channels),
            pitch: channels,
        }
    }

    /// As [`View::fits`].
    pub(super) fn fits(&self, positions: usize, channels: usize) -> bool {
        within(self.data.len(), self.first, self.pitch, positions, channels)
    }
}

/// True where `positions` rows of `channels` lie inside `len` and do not overlap. No product or sum
/// of these sizes may wrap: kernels read and write without looking again.
fn within(len: usize, first: usize, pitch: usize, positions: usize, channels: usize) -> bool {
    let rows = match positions.checked_sub(1) {
        Some(before_last) => before_last
            .checked_mul(pitch)
            .and_then(|last| last.checked_add(channels)),
        None => Some(0),
    };
    let end = rows.and_then(|rows| rows.checked_add(first));
    pitch >= channels && end.is_some_and(|end| end <= len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_inside_or_do_not() {
        // Two rows of three, four apart, from 1 on: the last value is at 7.
        assert!(within(8, 1, 4, 2, 3));
        assert!(!within(7, 1, 4, 2, 3));
        assert!(!within(8, 1, 2, 2, 3), "they overlap");
        assert!(within(1, 1, 4, 0, 3), "no rows at the end");
        assert!(!within(1, 2, 4, 0, 3), "no rows behind the end");
    }

    #[test]
    fn sizes_that_would_wrap_do_not_fit() {
        const HALF: usize = 1 << (usize::BITS - 1);
        assert!(!within(8, 0, HALF, 3, 4));
        assert!(!within(8, HALF, HALF, 2, 4));
        assert!(!within(8, usize::MAX, 4, 1, 4));
        let rows = Rows {
            halo: HALF,
            positions: 1,
        };
        assert_eq!(rows.len(4), usize::MAX);
        assert_eq!(rows.view(&[0u8; 4], 4).first, usize::MAX);
    }
}
