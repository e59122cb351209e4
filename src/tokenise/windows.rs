//! Long input cut into windows of a model's length.

use std::ops::Range;

/// Windows of one length over a sequence, so many bases from one to the next. The last one ends
/// with the sequence, so that every base lies in one. A sequence no longer than a window is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    length: usize,
    window: usize,
    stride: usize,
}

impl Windows {
    /// Windows of `window` bases over `length`, each `stride` bases behind the one before.
    ///
    /// # Panics
    /// Where `window` or `stride` is 0, or `stride` exceeds `window`: bases would lie in none.
    pub fn new(length: usize, window: usize, stride: usize) -> Windows {
        assert!(stride > 0 && stride <= window);
        Windows {
            length,
            window,
            stride,
        }
    }

    /// How many there are: at least one.
    pub fn count(&self) -> usize {
        1 + self
            .length
            .saturating_sub(self.window)
            .div_ceil(self.stride)
    }

    /// Bases of a window, by its number.
    pub fn range(&self, number: usize) -> Range<usize> {
        let last = self.length.saturating_sub(self.window);
        let start = (number * self.stride).min(last);
        start..(start + self.window).min(self.length)
    }

    /// All of them.
    pub fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count()).map(move |number| self.range(number))
    }

    /// The number of the window whose centre is nearest to a base, the first of two that are as
    /// near.
    pub fn nearest(&self, position: usize) -> usize {
        // Twice the distance, so that centres between two bases count as they are.
        let distance = |number: &usize| {
            let range = self.range(*number);
            (range.start + range.end - 1).abs_diff(2 * position)
        };
        let about = position.saturating_sub(self.window / 2) / self.stride;
        let last = self.count() - 1;
        let near = about.saturating_sub(1).min(last)..=(about + 2).min(last);
        near.min_by_key(distance).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_lies_in_a_window_and_none_reaches_beyond() {
        for length in 0..60 {
            for (window, stride) in [(1, 1), (7, 1), (7, 3), (7, 7), (8, 5), (50, 20)] {
                let windows = Windows::new(length, window, stride);
                let ranges: Vec<_> = windows.ranges().collect();
                assert_eq!(ranges.len(), windows.count());
                assert_eq!(ranges[0].start, 0);
                assert_eq!(ranges[ranges.len() - 1].end, length);
                for pair in ranges.windows(2) {
                    assert!(pair[1].start > pair[0].start && pair[1].start <= pair[0].end);
                    assert_eq!(pair[0].len(), window);
                }
            }
        }
    }

    #[test]
    fn the_nearest_window_is_that_of_a_search() {
        for length in 1..80 {
            for (window, stride) in [(1, 1), (7, 1), (7, 3), (7, 7), (8, 5), (50, 20), (9, 4)] {
                let windows = Windows::new(length, window, stride);
                for position in 0..length {
                    let distance = |number: &usize| {
                        let range = windows.range(*number);
                        (range.start + range.end - 1).abs_diff(2 * position)
                    };
                    let searched = (0..windows.count()).min_by_key(distance);
                    assert_eq!(Some(windows.nearest(position)), searched);
                }
            }
        }
    }
}
