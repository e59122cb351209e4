//! One read that may still be growing: its bases come in, its calls go out.

use super::annotation::Annotation;
use super::carry::Carry;
use super::error::AnnotateError;
use super::models::{Models, Runners};
use super::piece::Piece;
use super::starts::StartsState;
use super::whole::{Whole, WholeState};
use crate::call::{Call, CallSink, Flags, Strand};
use crate::model::SecondLook;
use crate::reads::nucleotide;
use std::mem;
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
    /// Every position before this one has been scored.
    done: u64,
    carries: Vec<Option<Carry>>,
    /// There was no room to keep the rows of some model.
    without: bool,
    starts: Vec<StartsState>,
    wholes: Vec<WholeState>,
    calls: Vec<Call>,
    use_fast: bool,
}

impl ReadState {
    pub(super) fn new(shared: Arc<Models>) -> ReadState {
        let strands = shared.options.strands.each();
        let reverse = strands.contains(&Strand::Reverse);
        ReadState {
            carries: Carry::of(&shared),
            without: false,
            starts: shared.starts.iter().map(|s| s.state(reverse)).collect(),
            wholes: shared.wholes.iter().map(Whole::state).collect(),
            shared,
            codes: Vec::new(),
            letters: Vec::new(),
            first: 0,
            done: 0,
            calls: Vec::new(),
            use_fast: false,
        }
    }

    /// Takes the next bases of the read, as letters (case, U and IUPAC codes as in [`nucleotide`];
    /// anything else counts as N), and gives every call that they make certain to `sink`, in order
    /// of the call's end.
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
            let known = self.first + self.codes.len() as u64;
            let limit = known.saturating_sub(self.shared.margin as u64);
            let least = if self.shared.options.eager {
                1
            } else {
                step as u64
            };
            if limit >= self.done + least {
                self.score(limit, false, sink)?;
            }
        }
        Ok(())
    }

    /// Ends the read: its last positions are scored, with the context they have.
    ///
    /// # Errors
    /// As [`ReadState::push`].
    pub fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        let end = self.first + self.codes.len() as u64;
        self.score(end, true, sink)?;
        self.reset();
        Ok(())
    }

    /// From now on positions are scored by the models that stand in (true), or no longer (false).
    /// Calls that these make carry [`Flags::FAST_TIER`](crate::call::Flags::FAST_TIER). Which
    /// positions these are depends on the pushes.
    pub fn use_fast_tier(&mut self, on: bool) {
        self.use_fast = on;
    }

    /// Positions before this one have been scored, and their calls have left.
    pub fn scored(&self) -> u64 {
        self.done
    }

    /// Drops the read; no more calls are made of it.
    pub fn abort(&mut self) {
        self.reset();
    }

    /// Makes the state ready for another read, whatever became of the last.
    pub fn reset(&mut self) {
        self.codes.clear();
        self.calls.clear();
        self.first = 0;
        self.done = 0;
        self.carries.iter_mut().flatten().for_each(Carry::reset);
        self.without = false;
        self.starts.iter_mut().for_each(StartsState::reset);
        self.wholes.iter_mut().for_each(WholeState::reset);
    }

    /// Scores positions `done..limit`.
    fn score(
        &mut self,
        limit: u64,
        ended: bool,
        sink: &mut dyn CallSink,
    ) -> Result<(), AnnotateError> {
        let shared = self.shared.clone();
        let mut runners = shared.runners()?;
        let Runners {
            scans,
            fast,
            starts: starts_runners,
            wholes: whole_runners,
            context,
            work,
            reverse,
        } = &mut *runners;
        let mut kept_looked = SecondLook::default();
        while self.done < limit {
            let to = limit.min(self.done + shared.step as u64);
            let piece = Piece {
                codes: &self.codes,
                first: self.first,
                ended,
            };
            let strands = shared.options.strands.each();
            let scanning = shared.scans.iter().zip(&mut *scans);
            let stand_ins = shared.fast.iter().zip(&mut *fast);
            let carries = self.carries.iter_mut();
            for (((mut scan, mut runner), fast), carry) in scanning.zip(stand_ins).zip(carries) {
                if let Some(carry) = carry.as_mut().filter(|carry| carry.is_kept()) {
                    let (range, calls) = (self.done..to, &mut self.calls);
                    let more = carry.call(scan, work, &piece, range, strands, calls);
                    kept_looked.positions += more.positions;
                    kept_looked.looked += more.looked;
                    if !carry.is_kept() && !mem::replace(&mut self.without, true) {
                        shared.keeping.count_recomputed();
                    }
                    continue;
                }
                let made = self.calls.len();
                let mut flags = Flags::NONE;
                if let (true, (Some(stand_in), Some(its))) = (self.use_fast, fast) {
                    (scan, runner, flags) = (stand_in, its, Flags::FAST_TIER);
                }
                for &strand in strands {
                    let range = self.done..to;
                    let calls = &mut self.calls;
                    runner.with_context(context, |runner| {
                        scan.call(runner, &piece, range, strand, reverse, calls)
                    })?;
                }
                self.calls[made..].iter_mut().for_each(|c| c.flags |= flags);
            }
            let starts = shared.starts.iter().zip(&mut self.starts);
            for ((starts, state), runner) in starts.zip(&mut *starts_runners) {
                let (range, calls) = (self.done..to, &mut self.calls);
                runner.with_context(context, |runner| {
                    starts.call(runner, state, &piece, range, strands, calls)
                })?;
            }
            // The last go with those that the read's end makes certain, in one order.
            if !ended || to < limit {
                self.emit(sink);
            }
            self.done = to;
            self.forget();
        }
        if ended {
            let starts = shared.starts.iter().zip(&mut self.starts);
            for ((starts, state), runner) in starts.zip(starts_runners) {
                let calls = &mut self.calls;
                runner
                    .with_context(context, |runner| starts.finish(runner, state, limit, calls))?;
            }
            let wholes = shared.wholes.iter().zip(&mut self.wholes);
            for ((whole, state), runner) in wholes.zip(whole_runners) {
                let (last, strands) = (&self.codes, shared.options.strands.each());
                let calls = &mut self.calls;
                runner.with_context(context, |runner| {
                    whole.finish(runner, state, last, limit, strands, calls)
                })?;
            }
            self.emit(sink);
        }
        let SecondLook { positions, looked } = kept_looked;
        shared.positions.fetch_add(positions, Ordering::Relaxed);
        shared.looked.fetch_add(looked, Ordering::Relaxed);
        for runner in scans {
            let SecondLook { positions, looked } = runner.take_second_look();
            shared.positions.fetch_add(positions, Ordering::Relaxed);
            shared.looked.fetch_add(looked, Ordering::Relaxed);
        }
        // A full queue means more idle runners than anybody can use.
        let _ = shared.idle.push(runners);
        Ok(())
    }

    fn emit(&mut self, sink: &mut dyn CallSink) {
        self.calls
            .sort_unstable_by_key(|c| (c.end, c.strand, c.kind, c.model, c.start));
        for call in self.calls.drain(..) {
            sink.take(call);
        }
    }

    /// Drops codes that no later position needs.
    fn forget(&mut self) {
        let keep_from = self.done.saturating_sub(self.shared.margin as u64);
        let drop = (keep_from.saturating_sub(self.first)) as usize;
        if drop > 0 {
            self.codes.drain(..drop);
            self.first += drop as u64;
        }
    }
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
