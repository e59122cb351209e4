//! Codes as rows of channels.

use crate::kernels::{BASES, Rows, View};

/// Codes as rows with zeros before and behind, made in `kept`, which may hold those of another
/// layer.
pub(super) fn code_rows<'a, T: Copy + Default>(
    codes: &[u8],
    halo: usize,
    kept: &'a mut Vec<T>,
    one_hot: impl FnOnce(&[u8], &mut [T]),
) -> View<'a, T> {
    let rows = Rows {
        halo,
        positions: codes.len(),
    };
    let len = rows.len(BASES);
    kept.reserve_exact(len.saturating_sub(kept.len()));
    kept.resize(len, T::default());
    let (start, data) = kept.split_at_mut(halo * BASES);
    let (data, end) = data.split_at_mut(codes.len() * BASES);
    start.fill(T::default());
    one_hot(codes, data);
    end.fill(T::default());
    rows.view(kept, BASES)
}
