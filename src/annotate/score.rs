//! Scores instead of calls: of every base, or of a sequence as a whole.

use super::error::AnnotateError;
use super::options::{Options, Priors};
use super::piece::Piece;
use super::scan::{Room, Rows, Scan};
use super::starts;
use super::task::Task;
use super::tokens::Intake;
use super::windows::WindowScorer;
use crate::call::Strand;
use crate::model::carried::Altered;
use crate::model::manifest::Manifest;
use crate::model::{Model, Runner};
use crate::reads::nucleotide;
use std::ops::Range;

/// A part of a sequence whose bases are changed one at a time.
struct Part {
    codes: Vec<u8>,
    first: u64,
    ended: bool,
    wanted: Range<usize>,
    strand: Strand,
    /// Raw outputs of the wanted rows.
    raw: Vec<f32>,
}

/// Scores a whole sequence base by base, for `score` and for evaluation.
pub struct Scorer {
    scan: Scan,
    runner: Runner,
    room: Room,
    /// Of one position.
    scores: Vec<f32>,
    part: Part,
    altered: Altered,
}

impl Scorer {
    /// Prepares a model of a scanning task.
    ///
    /// # Errors
    /// Where the model cannot be run.
    pub fn new(model: Model) -> Result<Scorer, AnnotateError> {
        Scorer::with_priors(model, &Priors::default())
    }

    /// The same with other rates of features than those of the model's population.
    ///
    /// # Errors
    /// As [`Scorer::new`]; where a rate is of no use to the model.
    pub fn with_priors(model: Model, priors: &Priors) -> Result<Scorer, AnnotateError> {
        Task::of_model(&model)?;
        priors.check([&model])?;
        if !model.manifest().is_scan() {
            let name = &model.manifest().name;
            let reason = format!("{name} scores windows or whole sequences, not single bases");
            return Err(AnnotateError::Options(reason));
        }
        let runner = model.spawn()?;
        let options = Options {
            priors: priors.clone(),
            ..Options::default()
        };
        Ok(Scorer {
            scan: Scan::new(model, 0, &options),
            runner,
            room: Room::default(),
            scores: Vec::new(),
            part: Part {
                codes: Vec::new(),
                first: 0,
                ended: true,
                wanted: 0..0,
                strand: Strand::Forward,
                raw: Vec::new(),
            },
            altered: Altered::default(),
        })
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        self.scan.model().manifest()
    }

    /// Gives calibrated scores, `[positions, outputs]` in forward order, piece by piece to `take`.
    ///
    /// # Errors
    /// Where the model or `take` fails.
    pub fn score<E: From<AnnotateError>>(
        &mut self,
        codes: &[u8],
        strand: Strand,
        mut take: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.run(codes, strand, |rows, scan| {
            let mut scores = Vec::with_capacity(rows.count() * rows.columns());
            rows.each(|index, row| {
                let after = codes.len() - 1 - index;
                scores.extend(scan.scores(row, index as u64, after as u64));
            });
            take(&scores)
        })
    }

    /// Gives the raw outputs of each position, in forward order, to `take`.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn each_raw(
        &mut self,
        codes: &[u8],
        strand: Strand,
        mut take: impl FnMut(&[f32]),
    ) -> Result<(), AnnotateError> {
        self.run(codes, strand, |rows, _| {
            rows.each(|_, row| take(row));
            Ok(())
        })
    }

    /// Gives raw outputs, `[positions, outputs]` in forward order.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn raw(&mut self, codes: &[u8], strand: Strand) -> Result<Vec<f32>, AnnotateError> {
        let mut all = vec![];
        self.each_raw(codes, strand, |row| all.extend_from_slice(row))?;
        Ok(all)
    }

    /// Bases on each side of a position that its scores depend on, or the calls around it.
    pub fn margin(&self) -> usize {
        self.scan.margin()
    }

    /// Calibrated scores of positions `wanted` of a part of a longer sequence, to `take` in forward
    /// order, some at a time. `first` is where the part begins in it, and `ended` is true where it
    /// ends with it. They are those of the whole sequence where the part holds the margin of what
    /// is wanted.
    ///
    /// # Errors
    /// Where the model fails.
    ///
    /// # Panics
    /// Where the part has no such positions.
    pub fn part(
        &mut self,
        codes: &[u8],
        (first, ended): (u64, bool),
        wanted: Range<usize>,
        strand: Strand,
        mut take: impl FnMut(&[f32]),
    ) -> Result<(), AnnotateError> {
        assert!(wanted.end <= codes.len());
        let piece = Piece {
            codes,
            first,
            ended,
        };
        let step = self.scan.tile() - 2 * self.scan.margin();
        let mut from = wanted.start;
        while from < wanted.end {
            let to = wanted.end.min(from + step);
            let range = first + from as u64..first + to as u64;
            let room = &mut self.room;
            let rows = self
                .scan
                .rows(&mut self.runner, &piece, range, strand, room)?;
            let scan = &self.scan;
            rows.each(|index, row| {
                let after = if ended {
                    (codes.len() - 1 - index) as u64
                } else {
                    u64::MAX
                };
                self.scores.clear();
                let scores = scan.scores(row, first + index as u64, after);
                self.scores.extend(scores);
                take(&self.scores);
            });
            from = to;
        }
        Ok(())
    }

    /// Takes in a part of a sequence to change its bases one at a time; as [`Scorer::part`], whose
    /// scores go to `take`. Where every layer is an integer convolution of stride 1, a change then
    /// costs the rows that it reaches and no others.
    ///
    /// # Errors
    /// Where the model fails.
    ///
    /// # Panics
    /// Where the part has no such positions.
    pub fn take_in(
        &mut self,
        codes: &[u8],
        (first, ended): (u64, bool),
        wanted: Range<usize>,
        strand: Strand,
        take: impl FnMut(&[f32]),
    ) -> Result<(), AnnotateError> {
        assert!(wanted.end <= codes.len());
        self.part.codes.clear();
        self.part.codes.extend_from_slice(codes);
        (self.part.first, self.part.ended) = (first, ended);
        (self.part.wanted, self.part.strand) = (wanted.clone(), strand);
        let Some(carried) = self.scan.model().carried() else {
            return self.part(codes, (first, ended), wanted, strand, take);
        };
        let mirrored = strand == Strand::Reverse;
        self.altered.take(carried, mirrored, codes, wanted);
        self.part.raw.clear();
        self.part.raw.extend_from_slice(self.altered.output());
        self.calibrate(take);
        Ok(())
    }

    /// The scores of the part that was taken in, with another code at an index of it.
    ///
    /// # Errors
    /// Where the model fails.
    ///
    /// # Panics
    /// Where the part has no such index.
    pub fn with(
        &mut self,
        index: usize,
        code: u8,
        take: impl FnMut(&[f32]),
    ) -> Result<(), AnnotateError> {
        let Some(carried) = self.scan.model().carried() else {
            let mut codes = std::mem::take(&mut self.part.codes);
            let own = std::mem::replace(&mut codes[index], code);
            let place = (self.part.first, self.part.ended);
            let (wanted, strand) = (self.part.wanted.clone(), self.part.strand);
            let result = self.part(&codes, place, wanted, strand, take);
            codes[index] = own;
            self.part.codes = codes;
            return result;
        };
        self.altered.with(carried, index, code, &mut self.part.raw);
        self.calibrate(take);
        Ok(())
    }

    /// Rows of all layers that changes have cost since the part was taken in; 0 where whole parts
    /// are run.
    pub fn rows(&self) -> u64 {
        self.altered.rows()
    }

    /// Scores of the part's raw outputs.
    fn calibrate(&mut self, mut take: impl FnMut(&[f32])) {
        let part = &self.part;
        let columns = self.scan.model().manifest().outputs.len();
        let rows = part.raw.chunks_exact(columns);
        for (index, row) in part.wanted.clone().zip(rows) {
            let after = if part.ended {
                (part.codes.len() - 1 - index) as u64
            } else {
                u64::MAX
            };
            let scores = self.scan.scores(row, part.first + index as u64, after);
            self.scores.clear();
            self.scores.extend(scores);
            take(&self.scores);
        }
    }

    fn run<E: From<AnnotateError>>(
        &mut self,
        codes: &[u8],
        strand: Strand,
        mut take: impl FnMut(Rows<'_>, &Scan) -> Result<(), E>,
    ) -> Result<(), E> {
        let piece = Piece {
            codes,
            first: 0,
            ended: true,
        };
        let step = self.scan.tile() - 2 * self.scan.margin();
        let mut from = 0;
        while from < codes.len() {
            let to = codes.len().min(from + step);
            let range = from as u64..to as u64;
            let rows = self
                .scan
                .rows(&mut self.runner, &piece, range, strand, &mut self.room)?;
            take(rows, &self.scan)?;
            from = to;
        }
        Ok(())
    }
}

/// A sequence as its model took it, and what the model gave.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSequence {
    /// Codes, padded and cut to the model's lengths.
    pub padded: Vec<u8>,
    /// Raw outputs.
    pub raw: Vec<f32>,
}

/// Scores sequences as wholes: promoter windows, splice windows, 5'UTRs.
pub struct WholeScorer {
    kind: WholeKind,
}

enum WholeKind {
    Scan(Box<Scorer>),
    Sequence {
        model: Box<Model>,
        runner: Box<Runner>,
        intake: Intake,
    },
    Windows(Box<WindowScorer>, Option<usize>),
}

impl WholeScorer {
    /// Prepares a model.
    ///
    /// # Errors
    /// Where the model cannot be run.
    pub fn new(model: Model) -> Result<WholeScorer, AnnotateError> {
        WholeScorer::with_stride(model, None)
    }

    /// The same; windows of long sequences are `stride` bases apart.
    ///
    /// # Errors
    /// As [`WholeScorer::new`].
    pub fn with_stride(model: Model, stride: Option<usize>) -> Result<WholeScorer, AnnotateError> {
        let task = Task::of_model(&model)?;
        if model.manifest().is_scan() {
            let kind = WholeKind::Scan(Box::new(Scorer::new(model)?));
            return Ok(WholeScorer { kind });
        }
        let intake = Intake::of(model.manifest()).map_err(AnnotateError::Options)?;
        let kind = match intake {
            Some(intake) if intake.vocabulary().is_none() || task.is_of_leaders() => {
                WholeKind::Sequence {
                    runner: Box::new(model.spawn()?),
                    model: Box::new(model),
                    intake,
                }
            }
            _ => WholeKind::Windows(Box::new(WindowScorer::new(model)?), stride),
        };
        Ok(WholeScorer { kind })
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        match &self.kind {
            WholeKind::Scan(scorer) => scorer.manifest(),
            WholeKind::Sequence { model, .. } => model.manifest(),
            WholeKind::Windows(windows, _) => windows.manifest(),
        }
    }

    /// Bases of the shortest sequence that it scores.
    pub fn shortest(&self) -> usize {
        match &self.kind {
            WholeKind::Scan(_) => 1,
            WholeKind::Sequence { intake, .. } => intake.sequence().shortest,
            WholeKind::Windows(windows, _) => windows.intake().sequence().shortest,
        }
    }

    /// One score an output. `None` where the sequence is too short for the model. Where it is too
    /// long: of a 5'UTR the last bases count; of a model whose tokens are made of letters this is
    /// the mean over [windows](WindowScorer).
    ///
    /// # Errors
    /// Where the model fails.
    pub fn score(
        &mut self,
        codes: &[u8],
        strand: Strand,
    ) -> Result<Option<Vec<f32>>, AnnotateError> {
        match &mut self.kind {
            WholeKind::Scan(scorer) => {
                if codes.is_empty() {
                    return Ok(None);
                }
                let raw = scorer.raw(codes, strand)?;
                Ok(Some(scorer.scan.whole(&raw, strand)))
            }
            WholeKind::Windows(windows, stride) => windows.mean(codes, *stride, strand),
            WholeKind::Sequence {
                model,
                runner,
                intake,
            } => {
                let mut sequence = codes.to_vec();
                if strand == Strand::Reverse {
                    nucleotide::reverse_complement(codes, &mut sequence);
                }
                let Some(padded) = starts::padded(intake.sequence(), &sequence) else {
                    return Ok(None);
                };
                let raw = intake.run(runner, &padded, &mut vec![])?;
                Ok(Some(starts::calibrated(model.manifest(), raw)))
            }
        }
    }

    /// A sequence as a model that scores sequences whole takes it (padded, cut to its last bases),
    /// with the raw outputs; `None` where it is too short, or the model scans.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn raw(&mut self, codes: &[u8]) -> Result<Option<RawSequence>, AnnotateError> {
        let WholeKind::Sequence { runner, intake, .. } = &mut self.kind else {
            return Ok(None);
        };
        let Some(padded) = starts::padded(intake.sequence(), codes) else {
            return Ok(None);
        };
        let raw = intake.run(runner, &padded, &mut vec![])?.to_vec();
        Ok(Some(RawSequence { padded, raw }))
    }
}
