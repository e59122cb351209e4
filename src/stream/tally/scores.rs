//! Calls by kind, strand and score.

use crate::call::{Call, CallKind, Flags, Strand};

/// Bins of a histogram of scores.
pub const BINS: usize = 20;

/// Kinds of caveats.
pub const FLAGS: usize = Flags::NAMES.len();

/// What the bins of a kind's histogram reach from and to; scores beyond count in the outer ones.
pub fn range(kind: CallKind) -> (f32, f32) {
    match kind {
        CallKind::Expression => (0.0, 10.0),
        CallKind::PromoterStrength => (-5.0, 5.0),
        CallKind::Donor | CallKind::Acceptor | CallKind::Promoter | CallKind::Tf => (0.0, 1.0),
    }
}

/// Where a score stands in the range of its kind, from 0 to 1.
pub fn height(kind: CallKind, score: f32) -> f32 {
    let (low, high) = range(kind);
    ((score - low) / (high - low)).clamp(0.0, 1.0)
}

/// Calls of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scores {
    /// By score, on the forward strand and on the reverse one.
    pub bins: [[u64; BINS]; 2],
    /// All scores added: of probabilities, the expected number of true calls.
    pub sum: f64,
    /// How many carry each flag, in the order of their names.
    pub flags: [u64; FLAGS],
}

impl Scores {
    /// Counts a call.
    pub(super) fn add(&mut self, call: &Call) {
        let bin = (height(call.kind, call.score) * BINS as f32) as usize;
        let strand = usize::from(call.strand == Strand::Reverse);
        self.bins[strand][bin.min(BINS - 1)] += 1;
        self.sum += f64::from(call.score);
        for (count, (flag, _)) in self.flags.iter_mut().zip(Flags::NAMES) {
            *count += u64::from(call.flags.contains(flag));
        }
    }

    /// Calls on each strand, forward first.
    pub fn strands(&self) -> [u64; 2] {
        self.bins.map(|bins| bins.iter().sum())
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.strands().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: CallKind, strand: Strand, score: f32) -> Call {
        Call {
            start: 0,
            end: 1,
            strand,
            kind,
            score,
            flags: Flags::PARTIAL | Flags::AMBIGUOUS,
            model: 0,
        }
    }

    #[test]
    fn every_score_has_a_bin() {
        let mut scores = Scores::default();
        let (donor, forward) = (CallKind::Donor, Strand::Forward);
        for score in [0.0, 0.049, 0.05, 0.999, 1.0] {
            scores.add(&call(donor, forward, score));
        }
        scores.add(&call(donor, Strand::Reverse, f32::NAN));
        let [ahead, behind] = scores.bins;
        assert_eq!((ahead[0], ahead[1], ahead[BINS - 1]), (2, 1, 2));
        assert_eq!(
            behind[0], 1,
            "a score that is no number counts all the same"
        );
        assert_eq!((scores.calls(), scores.strands()), (6, [5, 1]));
        assert_eq!(scores.flags, [0, 6, 0, 6, 0]);
        let mut loads = Scores::default();
        for score in [-3.0, 0.2, 7.0, 99.0] {
            loads.add(&call(CallKind::Expression, forward, score));
        }
        let [bins, _] = loads.bins;
        assert_eq!((bins[0], bins[14], bins[BINS - 1]), (2, 1, 1));
    }
}
