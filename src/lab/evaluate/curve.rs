//! Scores and labels, kept so that ties are exact and memory is bounded.

use super::{FLOOR, MAX_DISTINCT};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    positives: u64,
    negatives: u64,
}

impl Counts {
    fn total(self) -> u64 {
        self.positives + self.negatives
    }

    fn add(&mut self, other: Counts) {
        self.positives += other.positives;
        self.negatives += other.negatives;
    }
}

/// The labels at each distinct score.
#[derive(Debug)]
pub(super) struct Curve {
    /// By the bits of the score: for numbers from 0 on they have the order of the numbers.
    kept: BTreeMap<u32, Counts>,
    /// Labels of scores below the floor.
    below: Counts,
    /// Bits of the lowest score that is kept.
    floor: u32,
    max_distinct: usize,
}

impl Default for Curve {
    fn default() -> Curve {
        Curve::new(MAX_DISTINCT)
    }
}

impl Curve {
    pub(super) fn new(max_distinct: usize) -> Curve {
        Curve {
            kept: BTreeMap::new(),
            below: Counts::default(),
            floor: FLOOR.to_bits(),
            max_distinct,
        }
    }

    /// Adds a score in \[0, 1\].
    pub(super) fn add(&mut self, score: f32, is_true: bool) {
        let counts = Counts {
            positives: u64::from(is_true),
            negatives: u64::from(!is_true),
        };
        // Minus zero would have the greatest bits.
        self.add_counts((score + 0.0).to_bits(), counts);
    }

    fn add_counts(&mut self, bits: u32, counts: Counts) {
        if bits < self.floor {
            self.below.add(counts);
            return;
        }
        self.kept.entry(bits).or_default().add(counts);
        if self.kept.len() > self.max_distinct {
            while self.kept.len() > self.max_distinct / 2
                && let Some((bits, counts)) = self.kept.pop_first()
            {
                self.below.add(counts);
                self.floor = bits + 1;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Curve) {
        if other.floor > self.floor {
            self.floor = other.floor;
            let kept = self.kept.split_off(&self.floor);
            for counts in std::mem::replace(&mut self.kept, kept).into_values() {
                self.below.add(counts);
            }
        }
        self.below.add(other.below);
        for (&bits, &counts) in &other.kept {
            self.add_counts(bits, counts);
        }
    }

    /// The labels from the highest score down, those below the floor as one step.
    fn steps(&self) -> impl Iterator<Item = Counts> {
        let below = (self.below.total() > 0).then_some(self.below);
        self.kept.values().rev().copied().chain(below)
    }

    pub(super) fn positives(&self) -> u64 {
        self.steps().map(|c| c.positives).sum()
    }

    pub(super) fn total(&self) -> u64 {
        self.steps().map(Counts::total).sum()
    }

    pub(super) fn floor(&self) -> f32 {
        f32::from_bits(self.floor)
    }

    /// The share of positives among the k highest scores, k the number of positives.
    pub(super) fn top_k(&self) -> Option<f64> {
        let k = self.positives();
        if k == 0 {
            return None;
        }
        let (mut passed, mut found) = (0, 0.0);
        for step in self.steps() {
            let room = k - passed;
            if step.total() >= room {
                found += step.positives as f64 * room as f64 / step.total() as f64;
                break;
            }
            passed += step.total();
            found += step.positives as f64;
        }
        Some(found / k as f64)
    }

    /// The average precision.
    pub(super) fn average_precision(&self) -> Option<f64> {
        let positives = self.positives();
        if positives == 0 {
            return None;
        }
        let mut so_far = Counts::default();
        let mut sum = 0.0;
        for step in self.steps() {
            so_far.add(step);
            let precision = so_far.positives as f64 / so_far.total() as f64;
            sum += step.positives as f64 * precision;
        }
        Some(sum / positives as f64)
    }
}
