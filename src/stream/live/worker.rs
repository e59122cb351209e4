//! A thread that annotates.

use super::config::LiveConfig;
use super::overload::{Overload, Treatment};
use super::piece::PieceEnd;
use super::slot::{Live, Slot, out_of_time};
use crate::annotate::{Annotate, Annotation};
use crate::call::{Call, Flags};
use crate::sink::clean;
use crate::stream::engine::guard::{caught, drop_broken};
use crate::stream::engine::run;
use crate::stream::engine::shared::Engine;
use std::collections::HashMap;
use std::time::Instant;

/// A read on its way.
struct Read<S> {
    state: S,
    name: Vec<u8>,
    number: u32,
    id: u64,
    /// Where in the read the stretch at hand begins.
    stretch: u64,
    /// Where the next base is expected.
    next: u64,
    /// Positions of the stretch that have been scored.
    scored: u64,
    /// Bases have been scored at all.
    any: bool,
    /// Bases are missing, or its end.
    partial: bool,
    /// Why it was given up.
    failure: Option<String>,
}

/// Annotates the reads of a lane.
pub(super) struct Worker<'a, A: Annotate> {
    lane: usize,
    annotator: &'a A,
    overload: Overload,
    reads: HashMap<(usize, u16), Read<A::State>>,
    /// States and names of reads that are over.
    idle: Vec<Read<A::State>>,
}

impl<A: Annotate> run::Worker<Live> for Worker<'_, A> {
    fn work(&mut self, engine: &Engine<Live>, slot: &mut Slot) {
        if slot.closes {
            self.close(engine, slot.source);
        } else {
            self.annotate(engine, slot);
            engine.mode.set_pace(self.lane, self.overload.pace());
        }
    }
}

impl<'a, A: Annotate> Worker<'a, A> {
    pub(super) fn new(annotator: &'a A, lane: usize, config: &LiveConfig) -> Worker<'a, A> {
        Worker {
            lane,
            annotator,
            overload: Overload::new(config.overload, config.deadline),
            reads: HashMap::new(),
            idle: vec![],
        }
    }

    fn annotate(&mut self, engine: &Engine<Live>, slot: &mut Slot) {
        let key = (slot.source, slot.piece.channel);
        let mut read = match self.reads.remove(&key) {
            Some(read) => read,
            None => self.begin(slot),
        };
        if slot.piece.lost > 0 && slot.piece.codes.is_empty() {
            read.partial = true;
        }
        let bases = slot.piece.codes.len();
        if bases > 0 {
            self.score(engine, &mut read, slot);
        }
        slot.piece.name.clone_from(&read.name);
        match slot.piece.end {
            Some(end) => self.end(engine, read, end, slot),
            None => {
                slot.known_to = read.stretch + read.scored;
                self.reads.insert(key, read);
            }
        }
    }

    fn begin(&mut self, slot: &Slot) -> Read<A::State> {
        let piece = &slot.piece;
        let mut read = self.idle.pop().unwrap_or_else(|| Read {
            state: self.annotator.read(),
            name: vec![],
            number: 0,
            id: 0,
            stretch: 0,
            next: 0,
            scored: 0,
            any: false,
            partial: false,
            failure: None,
        });
        read.name.clone_from(&piece.name);
        (read.number, read.id) = (piece.read, slot.id);
        (read.stretch, read.next, read.scored) = (0, 0, 0);
        (read.any, read.partial, read.failure) = (false, false, None);
        read
    }

    fn score(&mut self, engine: &Engine<Live>, read: &mut Read<A::State>, slot: &mut Slot) {
        let metrics = &engine.metrics;
        let bases = slot.piece.codes.len();
        if read.failure.is_some() {
            metrics.bases_rejected(bases as u64);
            return;
        }
        let begun = Instant::now();
        let treatment = if out_of_time(engine) {
            Treatment::Shed
        } else {
            self.overload.treat(slot.piece.received, bases, begun)
        };
        metrics.fast_tier(self.lane, self.overload.is_fast());
        if treatment == Treatment::Shed {
            metrics.bases_shed(bases as u64);
            return;
        }
        let fast = treatment == Treatment::ScoreFast && self.annotator.has_fast_tier();
        if slot.start != read.next {
            read.partial = true;
            self.end_stretch(engine, read, &mut slot.calls);
            read.stretch = slot.start;
        }
        read.next = slot.start + bases as u64;
        let (stretch, codes) = (read.stretch, &slot.piece.codes);
        let flags = flags(read.partial);
        let calls = &mut slot.calls;
        let state = &mut read.state;
        let result = guarded(|| {
            state.use_fast_tier(fast);
            let mut sink = |call| calls.push(placed(call, stretch, flags));
            state.push_codes(codes, &mut sink)
        });
        if let Err(reason) = result {
            self.fail(engine, read, reason);
            return;
        }
        self.count_scored(engine, read);
        read.any = true;
        self.overload.took(bases, begun.elapsed());
    }

    /// Scores what the stretch's end makes certain.
    fn end_stretch(
        &mut self,
        engine: &Engine<Live>,
        read: &mut Read<A::State>,
        calls: &mut Vec<Call>,
    ) {
        let length = read.next - read.stretch;
        if length == 0 || read.failure.is_some() {
            return;
        }
        let metrics = &engine.metrics;
        if out_of_time(engine) {
            read.state.abort();
            metrics.bases_shed(length - read.scored);
            read.partial = true;
        } else {
            let (stretch, flags) = (read.stretch, flags(read.partial));
            let state = &mut read.state;
            let result = guarded(|| {
                let mut sink = |call| calls.push(placed(call, stretch, flags));
                state.finish(&mut sink)
            });
            if let Err(reason) = result {
                self.fail(engine, read, reason);
                return;
            }
            metrics.bases_scored(length - read.scored);
            let context = 2 * self.annotator.context() as u64;
            metrics.without_context(length.min(context));
        }
        read.scored = 0;
        read.stretch = read.next;
    }

    fn count_scored(&self, engine: &Engine<Live>, read: &mut Read<A::State>) {
        let scored = read.state.scored().min(read.next - read.stretch);
        engine.metrics.bases_scored(scored - read.scored);
        read.scored = scored;
    }

    /// Gives a read up; a state that failed may be in any condition.
    fn fail(&mut self, engine: &Engine<Live>, read: &mut Read<A::State>, reason: String) {
        let lost = read.next - read.stretch - read.scored;
        engine.metrics.bases_rejected(lost);
        read.failure = Some(reason);
        let broken = std::mem::replace(&mut read.state, self.annotator.read());
        drop_broken(broken);
        read.stretch = read.next;
        read.scored = 0;
    }

    fn end(
        &mut self,
        engine: &Engine<Live>,
        mut read: Read<A::State>,
        end: PieceEnd,
        slot: &mut Slot,
    ) {
        let metrics = &engine.metrics;
        // What came after the last base that was scored is missing.
        let missing = slot.start + slot.piece.codes.len() as u64 > read.next;
        if end == PieceEnd::Partial || missing {
            read.partial = true;
        }
        // Bases that the wire lost were not shed.
        let bases = read.any || slot.received;
        self.end_stretch(engine, &mut read, &mut slot.calls);
        slot.known_to = u64::MAX;
        slot.piece.read = read.number;
        if let Some(reason) = read.failure.take() {
            metrics.read_rejected();
            let name = clean(&read.name);
            slot.rejected = Some(format!("read {name}: {reason}"));
        } else if !read.any && bases {
            metrics.read_shed();
        } else {
            if read.partial {
                metrics.read_partial();
                slot.piece.end = Some(PieceEnd::Partial);
            }
            metrics.read_out();
        }
        engine.mode.read_over(self.lane);
        self.idle.push(read);
    }

    /// Ends the reads of a source that has ended.
    fn close(&mut self, engine: &Engine<Live>, source: usize) {
        let mut open: Vec<u16> = self
            .reads
            .keys()
            .filter(|k| k.0 == source)
            .map(|k| k.1)
            .collect();
        open.sort_unstable();
        for channel in open {
            let Some(read) = self.reads.remove(&(source, channel)) else {
                continue;
            };
            let Some(mut slot) = engine.free_slot_at_end(source) else {
                let lost = read.next - read.stretch - read.scored;
                engine.metrics.bases_shed(lost);
                engine.metrics.read_rejected();
                continue;
            };
            slot.piece.channel = channel;
            slot.id = read.id;
            slot.piece.name.clone_from(&read.name);
            slot.piece.received = Instant::now();
            slot.piece.end = Some(PieceEnd::Partial);
            slot.start = read.next;
            self.end(engine, read, PieceEnd::Partial, &mut slot);
            engine.send_to_sink(slot);
        }
    }
}

fn flags(partial: bool) -> Flags {
    if partial { Flags::PARTIAL } else { Flags::NONE }
}

/// A call of a stretch in its read.
fn placed(mut call: Call, stretch: u64, flags: Flags) -> Call {
    call.start += stretch;
    call.end += stretch;
    call.flags |= flags;
    call
}

/// Errors and panics as text.
fn guarded<E: std::fmt::Display>(work: impl FnOnce() -> Result<(), E>) -> Result<(), String> {
    caught(work)?.map_err(|error| error.to_string())
}
