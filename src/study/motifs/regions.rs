//! Runs of bases with high scores.

use crate::study::motifs::input::Scored;
use std::ops::Range;

/// A score counts as high above this times the lowest one of its sequence.
const TIMES_MINIMUM: f64 = 10.0;

/// Where a run lies: the number of its positive sequence, and the 0-based, half-open range in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) sequence: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The longest runs of at least `min_length` bases whose scores are all above the mean and above 10
/// times the minimum of the given ones: 0-based, half-open, in order. This is
/// `find_high_attention` of DNABERT's `motif_utils.py`.
///
/// If the minimum is 0 or less, nearly every score is above 10 times it, and the mean alone
/// decides. Both comparisons are strict, so that equal scores give no run. Where a score is no
/// number there is none either.
pub fn regions(scores: &[f32], min_length: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut lowest = f64::INFINITY;
    let mut sum = 0.0;
    // In double precision the sum of up to 2^29 equal scores is exact, and so is their mean.
    for &score in scores {
        lowest = lowest.min(f64::from(score));
        sum += f64::from(score);
    }
    let limit = (sum / scores.len() as f64).max(TIMES_MINIMUM * lowest);

    let mut start = None;
    // One more score that is not high ends the last run.
    let high = scores.iter().map(|&score| f64::from(score) > limit);
    for (position, high) in high.chain([false]).enumerate() {
        if high {
            start.get_or_insert(position);
        } else if let Some(start) = start.take()
            && position - start >= min_length
        {
            found.push(start..position);
        }
    }
    found
}

/// The regions of all positives that have no N, by their letters, then by sequence and position.
pub(crate) fn in_sequences(
    positives: &[Scored<'_>],
    letters: &[Vec<u8>],
    min_length: usize,
) -> Vec<Region> {
    let mut found = Vec::new();
    for (sequence, positive) in positives.iter().enumerate() {
        let known = |range: &Range<usize>| !letters[sequence][range.clone()].contains(&b'N');
        let ranges = regions(positive.scores, min_length).into_iter();
        found.extend(ranges.filter(known).map(|range| Region {
            sequence,
            start: range.start,
            end: range.end,
        }));
    }
    // Stable: equal strings stay in the order in which they were found.
    found.sort_by_key(|region| &letters[region.sequence][region.start..region.end]);
    found
}

#[cfg(test)]
mod tests {
    use crate::study::motifs::regions::regions;

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        let scores = [
            9.0, 9.0, 9.0, 0.1, 9.0, 9.0, 0.1, 0.1, 0.1, 9.0, 9.0, 9.0, 9.0,
        ];
        assert_eq!(regions(&scores, 3), [0..3, 9..13]);
        assert_eq!(regions(&scores, 2), [0..3, 4..6, 9..13]);
        assert!(regions(&scores, 5).is_empty());
    }

    #[test]
    fn a_score_must_be_above_the_mean_and_ten_times_the_minimum() {
        // Mean 3; ten times the minimum is 10, and a score of just 10 is not above it.
        assert!(regions(&[1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 1.0], 2).is_empty());
        assert!(regions(&[1.0, 1.0, 1.0, 1.0, 10.0, 10.0], 2).is_empty());
        assert_eq!(
            regions(&[1.0, 1.0, 1.0, 1.0, 10.5, 10.5], 2),
            std::slice::from_ref(&(4..6))
        );
        // A zero takes the second test away.
        assert_eq!(
            regions(&[1.0, 1.0, 1.0, 0.0, 9.0, 9.0], 2),
            std::slice::from_ref(&(4..6))
        );
        assert_eq!(
            regions(&[-1.0, 1.0, 1.0, 1.0, 9.0, 9.0], 2),
            std::slice::from_ref(&(4..6))
        );
    }

    #[test]
    fn there_may_be_nothing() {
        assert!(regions(&[], 1).is_empty());
        assert!(regions(&[0.1; 7], 1).is_empty());
        assert!(regions(&[0.0; 7], 1).is_empty());
        assert!(regions(&[f32::NAN; 7], 1).is_empty());
        assert!(regions(&[0.0, 1.0], 3).is_empty());
    }
}
