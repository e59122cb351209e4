//! Models that score every base: windows, strands, and the rule that turns scores into calls.

use super::calibrate::Calibration;
use super::error::AnnotateError;
use super::grid::{Grid, Place};
use super::options::Options;
use super::piece::Piece;
use super::task::kind;
use super::tokens::{Batch, Intake};
use crate::call::{Call, CallKind, Flags, Strand, grade};
use crate::model::manifest::{Link, OutputColumn};
use crate::model::{Model, Runner};
use crate::reads::nucleotide::{self, A, C, G, N, T};
use std::ops::Range;

/// Bases around a call in which an ambiguous letter is worth a flag.
const AMBIGUITY: usize = 20;

/// Bases whose windows are scored at once.
const WINDOWS_OVER: usize = 4096;

/// How far below the raw output of the fast tier that has the least score of a call a position may
/// lie and still get its second look: the tiers differ, and errors in reads lower the first one's.
const LOOK_MARGIN: f32 = 1.5;

struct Column {
    /// Which name its calls have, counted from the model's first.
    name: u8,
    /// None for a column that makes no calls, such as "none" of a soft-max.
    kind: Option<CallKind>,
    calibration: Calibration,
    /// With the distance from the nearer end of a read below which it counts.
    short: Vec<(u64, Calibration)>,
    least: f32,
    /// Raw outputs below this are not looked at twice.
    floor: f32,
    separation: usize,
}

/// A scanning model and its call rule: a position is called where its score reaches the threshold
/// and is the highest within `separation` bases, the first of equals in 5' to 3' order.
pub(crate) struct Scan {
    model: Model,
    number: u8,
    /// Of a model that scores windows.
    grid: Option<Grid>,
    columns: Vec<Column>,
    whole: Vec<Calibration>,
    /// True where splice sites are called wherever they could be, peak or not.
    every_site: bool,
}

/// Room that the runs of one worker share.
#[derive(Debug, Default)]
pub(crate) struct Room {
    reverse: Vec<u8>,
    batch: Batch,
    rows: Vec<f32>,
}

impl Column {
    /// The least score of a call is what the options ask for, where scores are probabilities.
    fn new(output: &OutputColumn, name: u8, options: &Options) -> Column {
        let own = kind(output).ok().flatten();
        let calibration = |knots: &[[f32; 2]]| {
            let calibration = Calibration::new(knots, output.link);
            match own.and_then(|kind| options.priors.of(kind)) {
                Some(prior) => calibration.with_prior(prior, output.base_rate),
                None => calibration,
            }
        };
        let short = output.short_context.iter();
        let short = short.map(|s| (s.below as u64, calibration(&s.calibration)));
        let graded = options.for_aligners && own.is_some_and(CallKind::is_splice_site);
        let probability = output.link != Link::Identity;
        let asked = options.min_score.filter(|_| probability);
        let least = if graded {
            let prior = own.and_then(|kind| options.priors.of(kind));
            let least = grade::least(prior.unwrap_or(output.base_rate));
            asked.map_or(least, |asked| asked.max(least))
        } else {
            asked.unwrap_or(output.threshold)
        };
        let column = Column {
            name,
            kind: own,
            floor: f32::NEG_INFINITY,
            short: short.collect(),
            calibration: calibration(&output.calibration),
            least,
            separation: output.separation,
        };
        column.with_least(least)
    }

    /// With this as the least score of a call.
    fn with_least(mut self, least: f32) -> Column {
        let floors = self.short.iter().map(|(_, short)| short.raw_floor(least));
        self.floor = floors.fold(self.calibration.raw_floor(least), f32::min);
        self.least = least;
        self
    }

    /// The calibration of position `before` bases from a read's start and `after` from its end.
    fn calibration(&self, before: u64, after: u64) -> &Calibration {
        let ends = before.min(after);
        let short = self.short.iter().find(|(below, _)| ends < *below);
        short.map_or(&self.calibration, |(_, calibration)| calibration)
    }
}

impl Scan {
    pub fn new(model: Model, number: u8, options: &Options) -> Scan {
        let manifest = model.manifest();
        let mut named = 0u8;
        let columns = manifest.outputs.iter().map(|output| {
            // Columns of one kind have a name each.
            let name = match kind(output).ok().flatten() {
                Some(CallKind::Tf) => {
                    // More than 255 are refused where calls are made.
                    named = named.wrapping_add(1);
                    named.wrapping_sub(1)
                }
                _ => 0,
            };
            Column::new(output, name, options)
        });
        let columns: Vec<Column> = columns.collect();
        let whole = manifest.outputs.iter().map(|output| match &manifest.whole {
            Some(whole) if !whole.calibration.is_empty() => {
                Calibration::new(&whole.calibration, output.link)
            }
            _ => Calibration::new(&output.calibration, output.link),
        });
        let whole = whole.collect();
        let survive = survive(&model, &columns, options);
        Scan {
            model: match survive {
                Some(survive) => model.with_second_look(&survive),
                None => model,
            },
            columns,
            whole,
            number,
            grid: None,
            every_site: options.for_aligners,
        }
    }

    /// The same of a model that scores windows: its positions are a stride apart.
    pub fn with_windows(mut self, intake: Intake) -> Scan {
        self.grid = Some(Grid::new(self.model.manifest(), intake));
        for column in &mut self.columns {
            // Positions without a window make no calls, whatever the least score.
            column.floor = column.floor.max(f32::MIN);
        }
        self
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Makes all calls from the model's own threshold on, whatever least score was asked for: what
    /// others look around does not depend on that.
    pub fn into_gate(mut self) -> Scan {
        let columns = std::mem::take(&mut self.columns).into_iter();
        let outputs = &self.model.manifest().outputs;
        self.columns = columns
            .zip(outputs)
            .map(|(column, output)| {
                let least = column.least.min(output.threshold);
                column.with_least(least)
            })
            .collect();
        self
    }

    /// Bases that are scored at once, margins included.
    pub fn tile(&self) -> usize {
        match self.grid {
            Some(_) => 2 * self.margin() + WINDOWS_OVER,
            None => self.model.manifest().tile,
        }
    }

    /// Bases that must be at hand on each side of a position: the network's context, the call
    /// rule's, and the flags'.
    pub fn margin(&self) -> usize {
        let (left, right) = self.reach();
        // A read that ends with its first window has it at its own place: nothing before that may
        // be done while more could come.
        let window = usize::from(self.grid.is_some());
        (left.max(right) + window + self.separation()).max(AMBIGUITY)
    }

    /// Bases before and behind a position that its score depends on.
    pub fn reach(&self) -> (usize, usize) {
        let context = &self.model.manifest().context;
        match &self.grid {
            Some(grid) => grid.reach(),
            None => (context.left, context.right),
        }
    }

    /// Calibrated scores of one row of raw outputs, `before` bases from a read's start and `after`
    /// from its end.
    pub fn scores<'a>(
        &'a self,
        row: &'a [f32],
        before: u64,
        after: u64,
    ) -> impl Iterator<Item = f32> + 'a {
        let columns = self.columns.iter().zip(row);
        columns.map(move |(column, &raw)| column.calibration(before, after).score(raw))
    }

    /// Scores of a whole window from its raw outputs in forward order: that of the stated base, or
    /// the highest.
    pub fn whole(&self, raw: &[f32], strand: Strand) -> Vec<f32> {
        let columns = self.columns.len();
        let length = raw.len() / columns;
        let whole = self.model.manifest().whole.as_ref();
        let stated = whole.filter(|w| w.length == length);
        (0..columns)
            .map(|column| {
                let of = |position: usize| raw[position * columns + column];
                let index = stated.and_then(|w| w.index.get(column)).copied();
                let best = match index {
                    Some(index) if strand == Strand::Reverse => of(length - 1 - index),
                    Some(index) => of(index),
                    None => (0..length).map(of).fold(f32::NEG_INFINITY, f32::max),
                };
                self.whole[column].score(best)
            })
            .collect()
    }

    /// Runs the model on a window around `range` that lies in `piece`, and gives the rows of
    /// `range`.
    pub fn rows<'a>(
        &self,
        runner: &'a mut Runner,
        piece: &Piece,
        range: Range<u64>,
        strand: Strand,
        room: &'a mut Room,
    ) -> Result<Rows<'a>, AnnotateError> {
        let window = self.window(piece, &range);
        let own = own_rows(piece, &window, &range, strand);
        let rows = self.run(runner, piece, (&window, own), strand, room)?;
        Ok(Rows {
            rows,
            columns: self.columns.len(),
            strand,
            window: window.clone(),
            range: (range.start - piece.first) as usize..(range.end - piece.first) as usize,
        })
    }

    /// Indices into the piece's codes.
    fn window(&self, piece: &Piece, range: &Range<u64>) -> Range<usize> {
        let margin = self.margin();
        let from = (range.start - piece.first) as usize;
        let to = (range.end - piece.first) as usize;
        from.saturating_sub(margin)..(to + margin).min(piece.codes.len())
    }

    /// Raw outputs of a window, in 5' to 3' order of the strand, of which some rows are wanted.
    fn run<'a>(
        &self,
        runner: &'a mut Runner,
        piece: &Piece,
        (window, wanted): (&Range<usize>, Range<usize>),
        strand: Strand,
        room: &'a mut Room,
    ) -> Result<&'a [f32], AnnotateError> {
        let codes = &piece.codes[window.clone()];
        let begins = piece.first == 0 && window.start == 0;
        let ends = piece.ended && window.end == piece.codes.len();
        let Room {
            reverse,
            batch,
            rows,
        } = room;
        if let Some(grid) = &self.grid {
            let place = Place {
                first: piece.first + window.start as u64,
                ends: [begins, ends],
            };
            let rows_out = (self.columns.len(), &mut *rows);
            grid.run((runner, batch), (codes, place), wanted, strand, rows_out)?;
            return Ok(rows);
        }
        let raw = match strand {
            Strand::Forward => runner.run_wanted(codes, [begins, ends], wanted),
            Strand::Reverse => {
                reverse.resize(codes.len(), N);
                nucleotide::reverse_complement(codes, reverse);
                runner.run_wanted(reverse, [ends, begins], wanted)
            }
        };
        Ok(raw?)
    }

    /// Appends the calls of positions `range` on one strand.
    pub fn call(
        &self,
        runner: &mut Runner,
        piece: &Piece,
        range: Range<u64>,
        strand: Strand,
        room: &mut Room,
        calls: &mut Vec<Call>,
    ) -> Result<(), AnnotateError> {
        let window = self.window(piece, &range);
        // The call rule looks at neighbours.
        let all = 0..window.len();
        let raw = self.run(runner, piece, (&window, all), strand, room)?;
        let width = self.columns.len();
        let own = own_rows(piece, &window, &range, strand);
        for (c, column, kind) in self.called() {
            for row in own.clone() {
                let score = raw[row * width + c];
                // Almost every position ends here.
                if score < column.floor {
                    continue;
                }
                let index = match strand {
                    Strand::Forward => window.start + row,
                    Strand::Reverse => window.end - 1 - row,
                };
                let stands = match self.site(piece, index, strand, kind) {
                    Some(site) => site,
                    None => self.is_peak(raw, row, c),
                };
                if !stands {
                    continue;
                }
                calls.extend(self.call_at(piece, index, strand, (column, kind), score));
            }
        }
        Ok(())
    }

    /// Where every site is called: whether this place has the bases of one.
    fn site(&self, piece: &Piece, index: usize, strand: Strand, kind: CallKind) -> Option<bool> {
        if !self.every_site {
            return None;
        }
        let codes = piece.codes;
        // In the order of the strand.
        let intron = match (kind, strand) {
            (CallKind::Donor, Strand::Forward) | (CallKind::Acceptor, Strand::Reverse) => {
                codes.get(index + 1..index + 3)
            }
            (CallKind::Acceptor, Strand::Forward) | (CallKind::Donor, Strand::Reverse) => {
                index.checked_sub(2).map(|from| &codes[from..index])
            }
            _ => return None,
        };
        let Some(&[x, y]) = intron else {
            return Some(false);
        };
        Some(match (kind, strand) {
            (CallKind::Donor, Strand::Forward) => matches!([x, y], [G, T | C] | [A, T]),
            (CallKind::Donor, Strand::Reverse) => matches!([y, x], [C, A | G] | [T, A]),
            (_, Strand::Forward) => matches!([x, y], [A, G | C]),
            (_, Strand::Reverse) => matches!([y, x], [T, C | G]),
        })
    }

    /// The columns that make calls, with their numbers and kinds.
    fn called(&self) -> impl Iterator<Item = (usize, &Column, CallKind)> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(number, column)| Some((number, column, column.kind?)))
    }

    /// The call of a peak at an index of the piece, where its score reaches the threshold.
    fn call_at(
        &self,
        piece: &Piece,
        index: usize,
        strand: Strand,
        (column, kind): (&Column, CallKind),
        raw: f32,
    ) -> Option<Call> {
        let start = piece.first + index as u64;
        let after = if piece.ended {
            (piece.codes.len() - 1 - index) as u64
        } else {
            u64::MAX
        };
        let score = column.calibration(start, after).score(raw);
        (score >= column.least).then(|| Call {
            start,
            end: start + 1,
            strand,
            kind,
            score,
            flags: self.flags(piece, index, strand),
            model: self.number + column.name,
        })
    }

    /// Appends the calls of positions `range` on one strand from rows that were kept: `rows` from
    /// position `first` on, in forward order.
    pub fn call_kept(
        &self,
        (first, rows): (u64, &[f32]),
        piece: &Piece,
        range: Range<u64>,
        strand: Strand,
        calls: &mut Vec<Call>,
    ) {
        let width = self.columns.len();
        let own = (range.start - first) as usize..(range.end - first) as usize;
        for (c, column, kind) in self.called() {
            for row in own.clone() {
                let score = rows[row * width + c];
                if score < column.floor {
                    continue;
                }
                let index = (first + row as u64 - piece.first) as usize;
                let stands = match self.site(piece, index, strand, kind) {
                    Some(site) => site,
                    None => self.is_kept_peak(rows, row, c, strand),
                };
                if stands {
                    calls.extend(self.call_at(piece, index, strand, (column, kind), score));
                }
            }
        }
    }

    /// [`Scan::is_peak`] of rows in forward order.
    fn is_kept_peak(&self, raw: &[f32], row: usize, column: usize, strand: Strand) -> bool {
        let width = self.columns.len();
        let separation = self.columns[column].separation;
        let own = raw[row * width + column];
        let end = (row + separation + 1).min(raw.len() / width);
        let before = row.saturating_sub(separation)..row;
        let (lower, not_higher) = match strand {
            Strand::Forward => (before, row + 1..end),
            Strand::Reverse => (row + 1..end, before),
        };
        lower.into_iter().all(|r| raw[r * width + column] < own)
            && not_higher
                .into_iter()
                .all(|r| raw[r * width + column] <= own)
    }

    /// Rows before a position that its call depends on.
    pub fn separation(&self) -> usize {
        let separations = self.columns.iter().map(|column| column.separation);
        separations.max().unwrap_or(0)
    }

    /// True where no neighbour within the separation is higher, nor an earlier one as high.
    fn is_peak(&self, raw: &[f32], row: usize, column: usize) -> bool {
        let width = self.columns.len();
        let separation = self.columns[column].separation;
        let own = raw[row * width + column];
        let rows = raw.len() / width;
        let before = row.saturating_sub(separation)..row;
        let after = row + 1..(row + separation + 1).min(rows);
        before.into_iter().all(|r| raw[r * width + column] < own)
            && after.into_iter().all(|r| raw[r * width + column] <= own)
    }

    fn flags(&self, piece: &Piece, index: usize, strand: Strand) -> Flags {
        let (left, right) = match (self.reach(), strand) {
            (reach, Strand::Forward) => reach,
            ((left, right), Strand::Reverse) => (right, left),
        };
        let before = piece.first + index as u64;
        let after = piece.codes.len() - 1 - index;
        let mut flags = Flags::NONE;
        // A piece that has not ended holds the context of every position that is scored.
        if before < left as u64 || (piece.ended && after < right) {
            flags |= Flags::SHORT_CONTEXT;
        }
        let near = index.saturating_sub(AMBIGUITY)..(index + AMBIGUITY + 1).min(piece.codes.len());
        if piece.codes[near].contains(&N) {
            flags |= Flags::AMBIGUOUS;
        }
        flags
    }
}

/// Where calls of lower scores are asked for than the file's second look is made for: from which
/// raw output of the fast tier on there is one.
fn survive(model: &Model, columns: &[Column], options: &Options) -> Option<Vec<f32>> {
    let cascade = model.second_look()?;
    let outputs = &model.file().manifest().outputs;
    let lower = columns.iter().zip(&model.manifest().outputs);
    if !lower
        .clone()
        .any(|(own, output)| own.least < output.threshold)
    {
        return None;
    }
    let fast = outputs.iter().take(cascade.columns).zip(&cascade.survive);
    let survive = fast.map(|(output, &survive)| {
        let fast = Column::new(output, 0, options);
        let alike = columns.iter().filter(|own| own.kind == fast.kind);
        let least = alike.map(|own| own.least).fold(f32::INFINITY, f32::min);
        survive.min(fast.with_least(least).floor - LOOK_MARGIN)
    });
    Some(survive.collect())
}

/// Rows of positions `range` among those of a window, in 5' to 3' order of the strand.
fn own_rows(
    piece: &Piece,
    window: &Range<usize>,
    range: &Range<u64>,
    strand: Strand,
) -> Range<usize> {
    let from = (range.start - piece.first) as usize;
    let to = (range.end - piece.first) as usize;
    match strand {
        Strand::Forward => from - window.start..to - window.start,
        Strand::Reverse => window.end - to..window.end - from,
    }
}

/// Raw outputs of a range of positions.
pub(crate) struct Rows<'a> {
    rows: &'a [f32],
    columns: usize,
    strand: Strand,
    window: Range<usize>,
    range: Range<usize>,
}

impl Rows<'_> {
    /// Positions.
    pub fn count(&self) -> usize {
        self.range.len()
    }

    /// Outputs a position.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Gives each row with its index in the piece, in forward order.
    pub fn each(&self, mut take: impl FnMut(usize, &[f32])) {
        for index in self.range.clone() {
            let row = match self.strand {
                Strand::Forward => index - self.window.start,
                Strand::Reverse => self.window.end - 1 - index,
            };
            take(
                index,
                &self.rows[row * self.columns..(row + 1) * self.columns],
            );
        }
    }
}
