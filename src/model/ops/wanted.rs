//! The rows of a graph's output that somebody wants: layers near the output compute what these need
//! and leave the rest as it was.

use super::Layer;
use std::cell::RefCell;
use std::ops::Range;
use tract_core::internal::*;

thread_local! {
    /// Ascending and apart; `None`: every row.
    static WANTED: RefCell<Option<Vec<Range<usize>>>> = const { RefCell::new(None) };
}

/// Runs `run`, in which layers with a [`Layer::spread`] compute what `rows` need. Gives the rows
/// back.
pub fn with<R>(rows: Vec<Range<usize>>, run: impl FnOnce() -> R) -> (R, Vec<Range<usize>>) {
    /// Also where `run` panics: the thread may run other graphs.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            WANTED.set(None);
        }
    }
    WANTED.set(Some(rows));
    let reset = Reset;
    let result = run();
    let rows = WANTED.take().unwrap_or_default();
    drop(reset);
    (result, rows)
}

impl Layer {
    /// Gives the ranges that are to be computed of `count` rows, each beginning at a multiple of
    /// `step`.
    pub(super) fn each_range(
        &self,
        count: usize,
        step: usize,
        mut take: impl FnMut(Range<usize>) -> TractResult<()>,
    ) -> TractResult<()> {
        let Some(spread) = self.spread else {
            return take(0..count);
        };
        WANTED.with_borrow(|wanted| {
            let Some(wanted) = wanted else {
                return take(0..count);
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
                            take(done)?;
                        }
                    }
                }
            }
            open.map_or(Ok(()), take)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use crate::model::manifest::Precision;
    use crate::model::ops::Spec;

    fn ranges(spread: usize, count: usize, step: usize) -> Vec<Range<usize>> {
        let layer = Layer {
            spec: Spec::OneHot,
            precision: Precision::Int8,
            halo: 0,
            label: String::new(),
            tensors: vec![],
            isa: Isa::SCALAR,
            spread: Some(spread),
        };
        let mut found = vec![];
        layer
            .each_range(count, step, |range| {
                found.push(range);
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn ranges_grow_join_and_end_with_the_rows() {
        let all: Vec<_> = std::iter::once(0..50).collect();
        assert_eq!(ranges(3, 50, 1), all);
        let (found, rows) = with(vec![2..3, 10..12, 20..21, 47..50], || {
            [
                ranges(0, 50, 1),
                ranges(4, 50, 1),
                ranges(1, 50, 8),
                ranges(100, 50, 8),
            ]
        });
        assert_eq!(found[0], [2..3, 10..12, 20..21, 47..50]);
        assert_eq!(found[1], [0..25, 43..50]);
        assert_eq!(found[2], [0..24, 40..50]);
        assert_eq!(found[3], all);
        assert_eq!(rows.len(), 4);
        assert_eq!(ranges(3, 50, 1), all);
        let (none, _) = with(vec![], || ranges(3, 50, 1));
        assert!(none.is_empty());
    }
}
