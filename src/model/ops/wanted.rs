//! The rows that a layer computes where only some rows of the graph's output are asked for.

use std::ops::Range;
use tract_core::internal::*;

/// Gives the ranges that are to be computed of `count` rows, each beginning at a multiple of
/// `step`: those no farther than `spread` from a range that is `wanted`. Without either, all rows
/// are.
pub(super) fn each_range(
    wanted: Option<&[Range<usize>]>,
    spread: Option<usize>,
    count: usize,
    step: usize,
    mut run: impl FnMut(Range<usize>) -> TractResult<()>,
) -> TractResult<()> {
    let (Some(wanted), Some(spread)) = (wanted, spread) else {
        return run(0..count);
    };
    let mut open: Option<Range<usize>> = None;
    for range in wanted {
        let start = range.start.saturating_sub(spread) / step * step;
        let end = range.end.saturating_add(spread).min(count);
        let end = end.next_multiple_of(step).min(count);
        match &mut open {
            Some(open) if start <= open.end => open.end = end,
            _ => {
                if let Some(done) = open.replace(start..end) {
                    run(done)?;
                }
            }
        }
    }
    open.map_or(Ok(()), run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(
        wanted: Option<&[Range<usize>]>,
        spread: usize,
        count: usize,
        step: usize,
    ) -> Vec<Range<usize>> {
        let mut found = vec![];
        each_range(wanted, Some(spread), count, step, |range| {
            found.push(range);
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn ranges_grow_join_and_end_with_the_rows() {
        let all: Vec<_> = std::iter::once(0..50).collect();
        assert_eq!(ranges(None, 3, 50, 1), all);
        let rows = [2..3, 10..12, 20..21, 47..50];
        let rows = Some(&rows[..]);
        assert_eq!(ranges(rows, 0, 50, 1), [2..3, 10..12, 20..21, 47..50]);
        assert_eq!(ranges(rows, 4, 50, 1), [0..25, 43..50]);
        assert_eq!(ranges(rows, 1, 50, 8), [0..24, 40..50]);
        assert_eq!(ranges(rows, 100, 50, 8), all);
        assert!(ranges(Some(&[]), 3, 50, 1).is_empty());
    }
}
