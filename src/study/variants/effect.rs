//! Scores of both alleles side by side.

use super::genes::Gene;
use crate::annotate::{AnnotateError, Scorer, kind};
use crate::call::{CallKind, Strand};
use crate::model::Model;
use std::ops::Range;

/// A change with the bases around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Position of the first base that is replaced, 0-based.
    pub start: u64,
    /// Codes before it, as many as any model reads and the contig has.
    pub before: Vec<u8>,
    /// Codes that are replaced.
    pub replaced: Vec<u8>,
    /// Codes in their place.
    pub by: Vec<u8>,
    /// Codes behind.
    pub behind: Vec<u8>,
    /// The contig ends with `behind`.
    pub ended: bool,
}

impl Place {
    /// Position of the first code; 0 where the contig begins with it.
    fn first(&self) -> u64 {
        self.start - self.before.len() as u64
    }
}

/// How far an allele raises and lowers one score of one strand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The greatest rise of the probability, at least 0.
    pub gain: f32,
    /// Where, 0-based.
    pub gain_at: u64,
    /// The greatest fall, at least 0.
    pub loss: f32,
    /// Where, 0-based.
    pub loss_at: u64,
    /// Natural logarithm of the odds ratio, new over old, at the position that changes most.
    pub log_odds: f32,
}

impl Shift {
    /// As SpliceAI's mask has it: a gain where a transcript's exon ends already, and a loss where
    /// none does, count as nothing.
    #[must_use]
    pub fn masked(mut self, gene: &Gene) -> Shift {
        if gene.is_edge(self.gain_at) {
            self.gain = 0.0;
        }
        if !gene.is_edge(self.loss_at) {
            self.loss = 0.0;
        }
        self
    }
}

/// A score that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The column's name in the model.
    pub name: String,
    /// What its calls are.
    pub kind: CallKind,
    column: usize,
}

/// Compares alleles with one model.
pub struct Comparison {
    scorer: Scorer,
    compared: Vec<Compared>,
    /// Rows of the reference and of the other allele.
    rows: [Vec<f32>; 2],
    /// One score of either, base by base of the reference.
    pairs: Vec<(f32, f32)>,
    codes: Vec<u8>,
    distance: usize,
}

impl Comparison {
    /// Compares by a scanning model, within `distance` bases of a change.
    ///
    /// # Errors
    /// Where the model does not scan or cannot be run, or the distance is 0.
    pub fn new(model: Model, distance: usize) -> Result<Comparison, AnnotateError> {
        if distance == 0 {
            let reason = "a distance of 0 bases: at least 1".to_string();
            return Err(AnnotateError::Options(reason));
        }
        let scorer = Scorer::new(model)?;
        let outputs = scorer.manifest().outputs.iter().enumerate();
        let compared = outputs.filter_map(|(column, output)| {
            Some(Compared {
                name: output.name.clone(),
                kind: kind(output).ok().flatten()?,
                column,
            })
        });
        Ok(Comparison {
            compared: compared.collect(),
            scorer,
            rows: [vec![], vec![]],
            pairs: vec![],
            codes: vec![],
            distance,
        })
    }

    /// What is compared: a shift each.
    pub fn compared(&self) -> &[Compared] {
        &self.compared
    }

    /// The model's task.
    pub fn task(&self) -> &str {
        &self.scorer.manifest().task
    }

    /// Name and version of the model.
    pub fn model_name(&self) -> String {
        let manifest = self.scorer.manifest();
        format!("{} {}", manifest.name, manifest.version)
    }

    /// Bases on each side of a change that its shifts depend on.
    pub fn reach(&self) -> usize {
        self.distance + self.scorer.margin()
    }

    /// Puts the shift of each score into `shifts`.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn run(
        &mut self,
        place: &Place,
        strand: Strand,
        shifts: &mut Vec<Shift>,
    ) -> Result<(), AnnotateError> {
        let reach = self.reach();
        let before = &place.before[place.before.len().saturating_sub(reach)..];
        let behind = &place.behind[..place.behind.len().min(reach)];
        let first = place.first() + (place.before.len() - before.len()) as u64;
        let ended = place.ended && behind.len() == place.behind.len();
        let near = [before.len(), behind.len()].map(|there| there.min(self.distance));
        let from = before.len() - near[0];
        let [old, new] = &mut self.rows;
        for (rows, allele) in [(&mut *old, &place.replaced), (&mut *new, &place.by)] {
            rows.clear();
            let mut take = |scores: &[f32]| rows.extend_from_slice(scores);
            // One base for another: only what it reaches is computed again.
            if let (true, [base]) = (place.replaced.len() == 1 && *allele == place.by, &**allele) {
                self.scorer.with(before.len(), *base, take)?;
                continue;
            }
            self.codes.clear();
            self.codes.extend_from_slice(before);
            self.codes.extend_from_slice(allele);
            self.codes.extend_from_slice(behind);
            let wanted = from..before.len() + allele.len() + near[1];
            let ends = (first, ended);
            self.scorer
                .take_in(&self.codes, ends, wanted, strand, &mut take)?;
        }
        let lengths = Lengths {
            before: near[0],
            replaced: place.replaced.len(),
            by: place.by.len(),
            behind: near[1],
        };
        let columns = self.scorer.manifest().outputs.len();
        shifts.clear();
        for compared in &self.compared {
            let [old, new] = &self.rows;
            let of = |rows: &[f32], row: usize| rows[row * columns + compared.column];
            let (old, new) = (|row| of(old, row), |row| of(new, row));
            lengths.align(old, new, &mut self.pairs);
            let from = place.start - near[0] as u64;
            shifts.push(shift(from, &self.pairs));
        }
        Ok(())
    }
}

/// How many positions two rows of scores have in common.
struct Lengths {
    before: usize,
    replaced: usize,
    by: usize,
    behind: usize,
}

impl Lengths {
    /// Pairs of old and new scores, one a base of the reference. A base that is lost has a new
    /// score of 0. Bases that come in count with the base before them, or, at the beginning of a
    /// contig, behind them: the highest.
    fn align(
        &self,
        old: impl Fn(usize) -> f32,
        new: impl Fn(usize) -> f32,
        pairs: &mut Vec<(f32, f32)>,
    ) {
        let both = self.before + self.replaced.min(self.by);
        let [old_ends, new_ends] = [self.replaced, self.by].map(|own| self.before + own);
        pairs.clear();
        pairs.extend((0..both).map(|row| (old(row), new(row))));
        pairs.extend((both..old_ends).map(|row| (old(row), 0.0)));
        let highest = (both..new_ends).map(&new).fold(0.0, f32::max);
        let behind = 0..self.behind;
        pairs.extend(behind.map(|row| (old(old_ends + row), new(new_ends + row))));
        if let Some(pair) = pairs.get_mut(both.saturating_sub(1)) {
            pair.1 = pair.1.max(highest);
        }
    }
}

/// The shift of aligned scores, the first of which is of position `from`.
fn shift(from: u64, pairs: &[(f32, f32)]) -> Shift {
    let mut shift = Shift {
        gain: 0.0,
        gain_at: from,
        loss: 0.0,
        loss_at: from,
        log_odds: 0.0,
    };
    // The first of equals, in forward order, also where nothing rises at all.
    let (mut rise, mut fall, mut most) = (f32::NEG_INFINITY, f32::NEG_INFINITY, -1.0);
    for (at, &(old, new)) in (from..).zip(pairs) {
        let change = new - old;
        if change > rise {
            (rise, shift.gain_at) = (change, at);
        }
        if -change > fall {
            (fall, shift.loss_at) = (-change, at);
        }
        if change.abs() > most {
            most = change.abs();
            shift.log_odds = log_odds(new) - log_odds(old);
        }
    }
    (shift.gain, shift.loss) = (rise.max(0.0), fall.max(0.0));
    shift
}

/// Of a probability, which is kept away from 0 and 1 by a millionth.
fn log_odds(p: f32) -> f32 {
    let p = f64::from(p).clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln() as f32
}

/// The bases that a change and everything within `reach` of it takes of a contig.
pub fn around(replaced: &Range<u64>, reach: u64, length: u64) -> [Range<u64>; 2] {
    [
        replaced.start.saturating_sub(reach)..replaced.start,
        replaced.end..(replaced.end + reach).min(length),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(before: usize, replaced: usize, by: usize, behind: usize) -> Lengths {
        Lengths {
            before,
            replaced,
            by,
            behind,
        }
    }

    fn aligned(lengths: &Lengths, old: &[f32], new: &[f32]) -> Vec<(f32, f32)> {
        let mut pairs = vec![(0.5, 0.5)];
        lengths.align(|row| old[row], |row| new[row], &mut pairs);
        pairs
    }

    #[test]
    fn scores_are_paired_by_position() {
        let pairs = aligned(
            &lengths(2, 1, 1, 1),
            &[0.1, 0.2, 0.3, 0.4],
            &[0.5, 0.6, 0.7, 0.8],
        );
        assert_eq!(pairs, [(0.1, 0.5), (0.2, 0.6), (0.3, 0.7), (0.4, 0.8)]);
        // Two bases are lost.
        let pairs = aligned(&lengths(1, 2, 0, 1), &[0.1, 0.2, 0.3, 0.4], &[0.5, 0.8]);
        assert_eq!(pairs, [(0.1, 0.5), (0.2, 0.0), (0.3, 0.0), (0.4, 0.8)]);
        // Two come in: the higher counts with the base before.
        let pairs = aligned(&lengths(1, 0, 2, 1), &[0.1, 0.2], &[0.3, 0.9, 0.4, 0.5]);
        assert_eq!(pairs, [(0.1, 0.9), (0.2, 0.5)]);
        // One base becomes two.
        let pairs = aligned(
            &lengths(1, 1, 2, 1),
            &[0.1, 0.2, 0.3],
            &[0.4, 0.5, 0.6, 0.7],
        );
        assert_eq!(pairs, [(0.1, 0.4), (0.2, 0.6), (0.3, 0.7)]);
        // Before the first base of a contig.
        let pairs = aligned(&lengths(0, 0, 1, 1), &[0.1], &[0.9, 0.2]);
        assert_eq!(pairs, [(0.1, 0.9)]);
    }

    #[test]
    fn the_greatest_rise_and_fall_are_found() {
        let own = shift(7, &[(0.5, 0.5), (0.1, 0.9), (0.9, 0.2), (0.1, 0.9)]);
        assert_eq!((own.gain_at, own.loss_at), (8, 9));
        assert!((own.gain - 0.8).abs() < 1e-6 && (own.loss - 0.7).abs() < 1e-6);
        let expected = (0.9f32 / 0.1).ln() - (0.1f32 / 0.9).ln();
        assert!((own.log_odds - expected).abs() < 1e-4);
        let same = shift(7, &[(0.5, 0.5)]);
        assert_eq!((same.gain, same.loss, same.log_odds), (0.0, 0.0, 0.0));
    }
}
