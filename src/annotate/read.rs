//! One read that may still be growing: its bases come in, its calls go out.

use super::annotation::Annotation;
use super::carry::{Carries, Carry};
use super::error::AnnotateError;
use super::models::{Models, Runners};
use super::options::AROUND_PROMOTERS;
use super::piece::Piece;
use super::starts::StartsState;
use super::whole::{Whole, WholeState};
use crate::call::{Call, CallSink, Flags, Strand};
use crate::model::{Runner, SecondLook};
use crate::reads::nucleotide;
use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One read, whole or still growing. After [`ReadState::finish`], [`ReadState::abort`] or
/// [`ReadState::reset`] it is ready for the next; its buffers stay.
pub struct ReadState {
    shared: Arc<Models>,
    /// Codes from position `first` on, as far back as context needs.
    codes: Vec<u8>,
    letters: Vec<u8>,
    first: u64,
    /// How far each scanning model has come, then each that scores start codons; last, what the
    /// others need of the read's end.
    reached: Vec<Reached>,
    carries: Vec<Carries>,
    /// There was no room to keep the rows of some model.
    without: bool,
    starts: Vec<StartsState>,
    wholes: Vec<WholeState>,
    calls: Vec<Call>,
    /// Positions that models with a gate look around, ascending.
    around: VecDeque<u64>,
    /// Room for how far each model can go.
    limits: Vec<u64>,
    use_fast: bool,
}

/// How far a model has come.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// Every position before this one has been scored.
    done: u64,
    /// Bases that must be known behind a position before it is scored.
    margin: u64,
    /// It looks around the calls of this model only.
    gate: Option<usize>,
}

impl Reached {
    /// Positions before this one can be scored.
    fn limit(self, known: u64, ended: bool) -> u64 {
        if ended {
            known
        } else {
            known.saturating_sub(self.margin)
        }
    }
}

impl ReadState {
    pub(super) fn new(shared: Arc<Models>) -> ReadState {
        let strands = shared.options.strands.each();
        let reverse = strands.contains(&Strand::Reverse);
        let margins = shared.margins();
        let gates = shared.gates.iter().copied().chain(iter::repeat(None));
        let reached = margins.zip(gates).map(|(margin, gate)| Reached {
            done: 0,
            margin,
            gate,
        });
        ReadState {
            reached: reached.collect(),
            carries: Carries::of(&shared),
            without: false,
            starts: shared.starts.iter().map(|s| s.state(reverse)).collect(),
            wholes: shared.wholes.iter().map(Whole::state).collect(),
            shared,
            codes: Vec::new(),
            letters: Vec::new(),
            first: 0,
            calls: Vec::new(),
            around: VecDeque::new(),
            limits: Vec::new(),
            use_fast: false,
        }
    }

    /// Takes the next bases of the read, as letters (case, U and IUPAC codes as in [`nucleotide`];
    /// anything else counts as N), and gives the calls that they make certain to `sink`. Those of a
    /// read come in order of start, end, strand and kind; with
    /// [`Options::eager`](super::Options::eager) those of each model do.
    ///
    /// # Errors
    /// Where a model fails; the read is lost then, and the state must be reset.
    pub fn push(&mut self, bases: &[u8], sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        let mut letters = std::mem::take(&mut self.letters);
        let mut result = Ok(());
        for piece in bases.chunks(1 << 16) {
            letters.clear();
            nucleotide::encode(piece, &mut letters);
            result = self.push_codes(&letters, sink);
            if result.is_err() {
                break;
            }
        }
        self.letters = letters;
        result
    }

    /// The same for bases that are codes already.
    ///
    /// # Errors
    /// As [`ReadState::push`].
    pub fn push_codes(
        &mut self,
        codes: &[u8],
        sink: &mut dyn CallSink,
    ) -> Result<(), AnnotateError> {
        for (whole, state) in self.shared.wholes.iter().zip(&mut self.wholes) {
            whole.push(state, codes);
        }
        let step = self.shared.step;
        for piece in codes.chunks(step) {
            self.codes.extend_from_slice(piece);
            let known = self.known();
            let least = if self.shared.options.eager {
                1
            } else {
                step as u64
            };
            let enough = |of: &Reached| self.limit(*of, known, false) >= of.done + least;
            if self.reached.iter().any(enough) {
                self.score(false, sink)?;
            }
        }
        Ok(())
    }

    /// Ends the read: its last positions are scored, with the context they have.
    ///
    /// # Errors
    /// As [`ReadState::push`].
    pub fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        self.score(true, sink)?;
        self.reset();
        Ok(())
    }

    /// Positions before this one can be scored by a model that has come so far.
    fn limit(&self, of: Reached, known: u64, ended: bool) -> u64 {
        let own = of.limit(known, ended);
        let Some(gate) = of.gate else {
            return own;
        };
        let gate = self.reached[gate].done;
        if ended && gate == known {
            return own;
        }
        own.min(gate.saturating_sub(AROUND_PROMOTERS))
    }

    /// Bases of the read so far.
    fn known(&self) -> u64 {
        self.first + self.codes.len() as u64
    }

    /// From now on positions are scored by the models that stand in (true), or no longer (false).
    /// Calls that these make carry [`Flags::FAST_TIER`](crate::call::Flags::FAST_TIER). Which
    /// positions these are depends on the pushes.
    pub fn use_fast_tier(&mut self, on: bool) {
        self.use_fast = on;
    }

    /// Positions before this one have been scored by every model, and their calls have left.
    pub fn scored(&self) -> u64 {
        self.reached.iter().map(|of| of.done).min().unwrap_or(0)
    }

    /// Drops the read; no more calls are made of it.
    pub fn abort(&mut self) {
        self.reset();
    }

    /// Makes the state ready for another read, whatever became of the last.
    pub fn reset(&mut self) {
        self.codes.clear();
        self.calls.clear();
        self.around.clear();
        self.first = 0;
        self.reached.iter_mut().for_each(|of| of.done = 0);
        self.carries.iter_mut().for_each(Carries::reset);
        self.without = false;
        self.starts.iter_mut().for_each(StartsState::reset);
        self.wholes.iter_mut().for_each(WholeState::reset);
    }

    /// Scores what the bases so far make certain.
    fn score(&mut self, ended: bool, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        let shared = self.shared.clone();
        let mut runners = shared.runners()?;
        let known = self.known();
        let mut looked = SecondLook::default();
        while self
            .reached
            .iter()
            .any(|of| of.done < self.limit(*of, known, ended))
        {
            let more = self.step(&shared, &mut runners, known, ended)?;
            looked.positions += more.positions;
            looked.looked += more.looked;
            // The last go with those that the read's end makes certain, in one order; all do where
            // calls that begin at the read's start may still come.
            let more = !ended || self.scored() < known;
            if more && (shared.options.eager || shared.scans_only()) {
                self.emit(sink);
            }
            self.forget();
        }
        if ended {
            self.finish_sequences(&shared, &mut runners, known)?;
            self.emit(sink);
        }
        let runs = runners.scans.iter_mut().map(Runner::take_second_look);
        for SecondLook { positions, looked } in runs.chain([looked]) {
            shared.positions.fetch_add(positions, Ordering::Relaxed);
            shared.looked.fetch_add(looked, Ordering::Relaxed);
        }
        // A full queue means more idle runners than anybody can use.
        let _ = shared.idle.push(runners);
        Ok(())
    }

    /// The next positions of each model, a step at most.
    fn step(
        &mut self,
        shared: &Models,
        runners: &mut Runners,
        known: u64,
        ended: bool,
    ) -> Result<SecondLook, AnnotateError> {
        let Runners {
            scans,
            fast,
            starts: starts_runners,
            context,
            work,
            room,
            ..
        } = runners;
        let piece = Piece {
            codes: &self.codes,
            first: self.first,
            ended,
        };
        let strands = shared.options.strands.each();
        // A model with a gate takes what its gate had done before this step.
        let mut limits = mem::take(&mut self.limits);
        limits.clear();
        let of = |of: &Reached| self.limit(*of, known, ended);
        limits.extend(self.reached.iter().map(of));
        let mut ranges = self.reached.iter_mut().zip(&limits).map(|(of, limit)| {
            let from = of.done;
            let to = (*limit).min(from + shared.step as u64);
            of.done = from.max(to);
            from..of.done
        });
        let mut kept_looked = SecondLook::default();
        let scanning = shared.scans.iter().zip(&mut *scans);
        let stand_ins = shared.fast.iter().zip(&mut *fast);
        let models = scanning.zip(stand_ins).zip(&mut self.carries);
        let models = models.zip(&shared.gates).enumerate();
        for ((number, ((((mut scan, mut runner), stand_in), carries), gate)), range) in
            models.zip(&mut ranges)
        {
            if range.is_empty() {
                continue;
            }
            if gate.is_some() {
                for range in near(&self.around, &range) {
                    for &strand in strands {
                        let (range, calls) = (range.clone(), &mut self.calls);
                        runner.with_context(context, |runner| {
                            scan.call(runner, &piece, range, strand, room, calls)
                        })?;
                    }
                }
                // Later positions lie behind the range.
                let least = range.end.saturating_sub(AROUND_PROMOTERS);
                while self.around.front().is_some_and(|&at| at < least) {
                    self.around.pop_front();
                }
                continue;
            }
            let (mut carry, mut other) = (&mut carries.own, &mut carries.fast);
            let mut flags = Flags::NONE;
            if let (true, (Some(fast), Some(its))) = (self.use_fast, stand_in) {
                (scan, runner, flags) = (fast, its, Flags::FAST_TIER);
                mem::swap(&mut carry, &mut other);
            }
            // What it does not see of the read it could not go on from.
            other.iter_mut().for_each(Carry::release);
            let made = self.calls.len();
            if let Some(carry) = carry.as_mut().filter(|carry| carry.is_kept()) {
                let more = carry.call(scan, work, &piece, range, strands, &mut self.calls);
                kept_looked.positions += more.positions;
                kept_looked.looked += more.looked;
                if !carry.is_kept() && !mem::replace(&mut self.without, true) {
                    shared.keeping.count_recomputed();
                }
            } else {
                for &strand in strands {
                    let (range, calls) = (range.clone(), &mut self.calls);
                    runner.with_context(context, |runner| {
                        scan.call(runner, &piece, range, strand, room, calls)
                    })?;
                }
            }
            let first_made = made;
            let made = &mut self.calls[first_made..];
            made.iter_mut().for_each(|c| c.flags |= flags);
            if shared.gates.contains(&Some(number)) {
                let old = self.around.len();
                self.around.extend(made.iter().map(|call| call.start));
                // Strand by strand, so that a step's calls come twice in order.
                self.around.make_contiguous()[old..].sort_unstable();
                if let Some(least) = shared.options.min_score {
                    let low = self
                        .calls
                        .extract_if(first_made.., |call| call.score < least);
                    low.for_each(drop);
                }
            }
        }
        let starts = shared.starts.iter().zip(&mut self.starts);
        let starts = starts.zip(&mut *starts_runners);
        for (((starts, state), runner), range) in starts.zip(&mut ranges) {
            if range.is_empty() {
                continue;
            }
            let calls = &mut self.calls;
            runner.with_context(context, |runner| {
                starts.call(runner, state, &piece, range, strands, calls)
            })?;
        }
        // What the others need moves on, too.
        ranges.for_each(drop);
        self.limits = limits;
        Ok(kept_looked)
    }

    /// Calls that need the read's end.
    fn finish_sequences(
        &mut self,
        shared: &Models,
        runners: &mut Runners,
        length: u64,
    ) -> Result<(), AnnotateError> {
        let context = &mut runners.context;
        let starts = shared.starts.iter().zip(&mut self.starts);
        for ((starts, state), runner) in starts.zip(&mut runners.starts) {
            let calls = &mut self.calls;
            runner.with_context(context, |runner| {
                starts.finish(runner, state, length, calls)
            })?;
        }
        let wholes = shared.wholes.iter().zip(&mut self.wholes);
        for ((whole, state), runner) in wholes.zip(&mut runners.wholes) {
            let (last, strands) = (&self.codes, shared.options.strands.each());
            let calls = &mut self.calls;
            runner.with_context(context, |runner| {
                whole.finish(runner, state, last, length, strands, calls)
            })?;
        }
        Ok(())
    }

    fn emit(&mut self, sink: &mut dyn CallSink) {
        self.calls
            .sort_unstable_by_key(|c| (c.start, c.end, c.strand, c.kind, c.model));
        for call in self.calls.drain(..) {
            sink.take(call);
        }
    }

    /// Drops codes that no later position needs.
    fn forget(&mut self) {
        let needed = self.reached.iter();
        let needed = needed.map(|of| of.done.saturating_sub(of.margin)).min();
        let drop = needed.unwrap_or(0).saturating_sub(self.first) as usize;
        if drop > 0 {
            self.codes.drain(..drop);
            self.first += drop as u64;
        }
    }
}

/// The parts of a range that lie near some positions, ascending and apart.
fn near(positions: &VecDeque<u64>, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = vec![];
    for &at in positions {
        let from = at.saturating_sub(AROUND_PROMOTERS).max(range.start);
        let to = (at + AROUND_PROMOTERS + 1).min(range.end);
        match parts.last_mut() {
            _ if from >= to => {}
            Some(last) if from <= last.end => last.end = last.end.max(to),
            _ => parts.push(from..to),
        }
    }
    parts
}

impl Annotation for ReadState {
    type Error = AnnotateError;

    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        ReadState::push_codes(self, codes, sink)
    }

    fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        ReadState::finish(self, sink)
    }

    fn abort(&mut self) {
        ReadState::abort(self);
    }

    fn use_fast_tier(&mut self, on: bool) {
        ReadState::use_fast_tier(self, on);
    }

    fn scored(&self) -> u64 {
        ReadState::scored(self)
    }
}
