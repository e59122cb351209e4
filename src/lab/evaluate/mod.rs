//! How good scores are: top-k accuracy, area under the precision-recall curve, precision and recall
//! at a threshold, per kind of site, over all reads and by read length.
//!
//! Every base of every strand that is added is one decision. With k true sites,
//! - **top-k** is the share of true sites among the k highest scores;
//! - **AUPRC** is the average precision, Σ (recallᵢ − recallᵢ₋₁) · precisionᵢ over the distinct
//!   scores from the highest down;
//! - **precision and recall** count every score at or above the threshold as a call.
//!
//! Equal scores are one step: top-k takes the expected share of a random choice among those that
//! tie with the k-th, and the curve has no point within a tie. So the figures depend on the scores
//! alone, not on the order of reads.
//!
//! Memory is bounded: scores below [`FLOOR`] are only counted, and of the others a cell (a kind and
//! a length) holds at most [`MAX_DISTINCT`] distinct values; beyond that its floor rises. Counted
//! scores are one tie at the bottom of the curve. Top-k stays exact unless the k-th score lies
//! below the floor; the AUPRC misses at most what the true sites below the floor would have added
//! at their own, tiny precision. Precision and recall at the threshold are always exact.

mod curve;

use crate::call::CallKind;
use crate::call::Strand;
use curve::Curve;
use std::fmt;

/// Scores below this are counted, not kept.
pub const FLOOR: f32 = 1e-3;

/// Distinct scores that a cell keeps, in about 8 MB.
pub const MAX_DISTINCT: usize = 1 << 18;

/// A class of read lengths in nt: its name, and the length of the longest read in it.
const LENGTHS: [(&str, u64); 5] = [
    ("<1k", 999),
    ("1k-2k", 1_999),
    ("2k-5k", 4_999),
    ("5k-10k", 9_999),
    (">=10k", u64::MAX),
];

/// Why the scores of a read cannot be judged.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A score is no probability.
    #[error("the score at position {position} is {score}, not a probability")]
    NotAProbability {
        /// 0-based.
        position: usize,
        /// The score.
        score: f32,
    },
    /// A true site lies beyond the read: truth and reads do not belong together.
    #[error("a true site at position {position} of a read of {length} bases")]
    TruthBeyondRead {
        /// 0-based.
        position: u64,
        /// The read's length.
        length: usize,
    },
    /// No threshold was given for the kind.
    #[error("no threshold for {0}")]
    NoThreshold(CallKind),
}

/// One kind at one class of lengths.
#[derive(Debug, Default)]
struct Cell {
    curve: Curve,
    /// Of the forward and of the reverse strand.
    reads: [u64; 2],
    called: u64,
    called_true: u64,
}

#[derive(Debug)]
struct KindCells {
    kind: CallKind,
    threshold: f32,
    cells: [Cell; LENGTHS.len()],
}

/// Takes the scores and the true sites of read after read.
#[derive(Debug)]
pub struct Evaluation {
    kinds: Vec<KindCells>,
    is_true: Vec<bool>,
}

impl Evaluation {
    /// An evaluation of the given kinds, each with the threshold at which a score makes a call.
    pub fn new(thresholds: &[(CallKind, f32)]) -> Evaluation {
        Evaluation {
            kinds: thresholds
                .iter()
                .map(|&(kind, threshold)| KindCells {
                    kind,
                    threshold,
                    cells: Default::default(),
                })
                .collect(),
            is_true: Vec::new(),
        }
    }

    /// Adds one strand of one read: the score of each base, by forward position, and the forward
    /// positions of the true sites of that kind and strand, in any order.
    ///
    /// # Errors
    /// [`EvaluateError`]; nothing of the strand has been added then.
    pub fn add_read(
        &mut self,
        kind: CallKind,
        strand: Strand,
        scores: &[f32],
        truth: impl IntoIterator<Item = u64>,
    ) -> Result<(), EvaluateError> {
        let Some(cells) = self.kinds.iter_mut().find(|cells| cells.kind == kind) else {
            return Err(EvaluateError::NoThreshold(kind));
        };
        let length = scores.len();
        self.is_true.clear();
        self.is_true.resize(length, false);
        for position in truth {
            match usize::try_from(position)
                .ok()
                .and_then(|p| self.is_true.get_mut(p))
            {
                Some(is_true) => *is_true = true,
                None => return Err(EvaluateError::TruthBeyondRead { position, length }),
            }
        }
        if let Some(position) = scores.iter().position(|s| !(0.0..=1.0).contains(s)) {
            let score = scores[position];
            return Err(EvaluateError::NotAProbability { position, score });
        }

        let class = LENGTHS
            .iter()
            .position(|&(_, longest)| length as u64 <= longest)
            .unwrap_or(LENGTHS.len() - 1);
        let cell = &mut cells.cells[class];
        cell.reads[usize::from(strand == Strand::Reverse)] += 1;
        for (&score, &is_true) in scores.iter().zip(&self.is_true) {
            cell.curve.add(score, is_true);
            if score >= cells.threshold {
                cell.called += 1;
                cell.called_true += u64::from(is_true);
            }
        }
        Ok(())
    }

    /// The figures so far: for each kind a row over all reads, then one for each class of lengths
    /// that has a read.
    pub fn report(&self) -> Report {
        let mut rows = Vec::new();
        for cells in &self.kinds {
            let mut all = Cell::default();
            for cell in &cells.cells {
                all.curve.merge(&cell.curve);
                all.called += cell.called;
                all.called_true += cell.called_true;
                for (sum, reads) in all.reads.iter_mut().zip(cell.reads) {
                    *sum += reads;
                }
            }
            rows.push(row(cells, "all", &all));
            rows.extend(
                LENGTHS
                    .iter()
                    .zip(&cells.cells)
                    .filter(|(_, cell)| cell.reads != [0, 0])
                    .map(|((name, _), cell)| row(cells, name, cell)),
            );
        }
        Report { rows }
    }
}

fn row(cells: &KindCells, lengths: &'static str, cell: &Cell) -> ReportRow {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let sites = cell.curve.positives();
    ReportRow {
        kind: cells.kind,
        lengths,
        reads: cell.reads[0].max(cell.reads[1]),
        decisions: cell.curve.total(),
        sites,
        top_k: cell.curve.top_k(),
        auprc: cell.curve.average_precision(),
        threshold: cells.threshold,
        calls: cell.called,
        precision: share(cell.called_true, cell.called),
        recall: share(cell.called_true, sites),
        floor: cell.curve.floor(),
    }
}

/// The figures of one kind over one class of read lengths. Shares are between 0 and 1, and none
/// where there is nothing to divide by.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportRow {
    /// The kind of site.
    pub kind: CallKind,
    /// The class of read lengths, or `all`.
    pub lengths: &'static str,
    /// Reads.
    pub reads: u64,
    /// Scores: bases times strands.
    pub decisions: u64,
    /// True sites.
    pub sites: u64,
    /// Share of true sites among the highest scores, as many as there are true sites.
    pub top_k: Option<f64>,
    /// Average precision.
    pub auprc: Option<f64>,
    /// The score from which on a base is a call.
    pub threshold: f32,
    /// Scores at or above the threshold.
    pub calls: u64,
    /// Share of calls that are true sites.
    pub precision: Option<f64>,
    /// Share of true sites that are calls.
    pub recall: Option<f64>,
    /// Scores below this were counted, not kept.
    pub floor: f32,
}

/// The figures of an [`Evaluation`]; prints as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// By kind, then by length, `all` first.
    pub rows: Vec<ReportRow>,
}

impl Report {
    /// The row of a kind over all reads.
    pub fn overall(&self, kind: CallKind) -> Option<&ReportRow> {
        self.rows
            .iter()
            .find(|row| row.kind == kind && row.lengths == "all")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<9} {:<7} {:>8} {:>12} {:>7} {:>6} {:>6} {:>9} {:>8} {:>9} {:>6}",
            "kind",
            "length",
            "reads",
            "decisions",
            "sites",
            "top-k",
            "AUPRC",
            "threshold",
            "calls",
            "precision",
            "recall"
        )?;
        let share = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
        for row in &self.rows {
            writeln!(
                f,
                "{:<9} {:<7} {:>8} {:>12} {:>7} {:>6} {:>6} {:>9.4} {:>8} {:>9} {:>6}",
                row.kind.name(),
                row.lengths,
                row.reads,
                row.decisions,
                row.sites,
                share(row.top_k),
                share(row.auprc),
                row.threshold,
                row.calls,
                share(row.precision),
                share(row.recall),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
