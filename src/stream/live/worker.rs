//! A thread that annotates.

use super::admission::Ticket;
use super::config::LiveConfig;
use super::overload::Tier;
use super::piece::PieceEnd;
use super::slot::{Live, Slot, out_of_time};
use crate::annotate::{Annotate, Annotation};
use crate::call::{Call, Flags};
use crate::sink::clean;
use crate::stream::engine::guard::{caught, drop_broken};
use crate::stream::engine::run;
use crate::stream::engine::shared::Engine;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The trial: bases of a piece, positions before it is timed, and about how long it may take.
const TRIAL_PIECE: usize = 200;
const TRIAL: u64 = 1000;
const TRIAL_TIME: Duration = Duration::from_millis(200);

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
    /// Bases have been taken at all.
    any: bool,
    /// Positions of the read that have been scored.
    kept: u64,
    /// Bases are missing, or its end.
    partial: bool,
    /// Why it was given up.
    failure: Option<String>,
    ticket: Option<Ticket>,
}

/// Annotates the reads of a lane.
pub(super) struct Worker<'a, A: Annotate> {
    lane: usize,
    annotator: &'a A,
    tier: Tier,
    /// Positions so far.
    scored: u64,
    reads: HashMap<(usize, u16), Read<A::State>>,
    /// States and names of reads that are over.
    idle: Vec<Read<A::State>>,
}

impl<A: Annotate> run::Worker<Live> for Worker<'_, A> {
    fn work(&mut self, engine: &Engine<Live>, slot: &mut Slot) {
        if slot.closes {
            self.close(engine, slot.source);
            return;
        }
        let (begun, before) = (Instant::now(), self.scored);
        self.annotate(engine, slot);
        let kept = self.annotator.kept();
        engine.metrics.kept(kept.bytes as u64, kept.recomputed);
        if let Some(mut admission) = engine.mode.admission() {
            admission.worked(self.lane, self.scored - before, begun.elapsed());
        }
    }
}

impl<'a, A: Annotate> Worker<'a, A> {
    pub(super) fn new(annotator: &'a A, lane: usize, config: &LiveConfig) -> Worker<'a, A> {
        Worker {
            lane,
            annotator,
            tier: Tier::new(config.overload, config.deadline),
            scored: 0,
            reads: HashMap::new(),
            idle: vec![],
        }
    }

    fn annotate(&mut self, engine: &Engine<Live>, slot: &mut Slot) {
        if slot.shed {
            engine.metrics.read_shed();
            slot.piece.end = Some(PieceEnd::Partial);
            slot.known_to = u64::MAX;
            return;
        }
        let last = slot.piece.end.is_some();
        self.piece(engine, slot);
        if let (true, Some(ticket)) = (last, slot.ticket)
            && let Some(mut admission) = engine.mode.admission()
        {
            admission.over(ticket);
        }
    }

    fn piece(&mut self, engine: &Engine<Live>, slot: &mut Slot) {
        let key = (slot.source, slot.piece.channel);
        let known = self.reads.remove(&key);
        if !kept(engine, slot) {
            engine.metrics.bases_shed(slot.piece.codes.len() as u64);
            slot.piece.codes.clear();
            let first = slot.piece.first.then(|| self.begin(slot));
            match known.or(first) {
                Some(read) => self.give_up(engine, read, slot),
                None => slot.silent = true,
            }
            return;
        }
        let mut read = match known {
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
        let mut read = self.idle.pop().unwrap_or_else(|| Read {
            state: self.annotator.read(),
            name: vec![],
            number: 0,
            id: 0,
            stretch: 0,
            next: 0,
            scored: 0,
            any: false,
            kept: 0,
            partial: false,
            failure: None,
            ticket: None,
        });
        read.name.clone_from(&slot.piece.name);
        (read.number, read.id) = (slot.piece.read, slot.id);
        read.ticket = slot.ticket;
        (read.stretch, read.next, read.scored) = (0, 0, 0);
        (read.any, read.partial, read.kept) = (false, false, 0);
        read.failure = None;
        read
    }

    fn score(&mut self, engine: &Engine<Live>, read: &mut Read<A::State>, slot: &mut Slot) {
        let metrics = &engine.metrics;
        let bases = slot.piece.codes.len();
        if read.failure.is_some() {
            metrics.bases_rejected(bases as u64);
            return;
        }
        if out_of_time(engine) {
            metrics.bases_shed(bases as u64);
            return;
        }
        let fast = self.tier.is_fast(slot.piece.received, Instant::now());
        metrics.fast_tier(self.lane, fast);
        let fast = fast && self.annotator.has_fast_tier();
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
            self.abort(engine, read);
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
            self.scored += length - read.scored;
            read.kept += length - read.scored;
        }
        read.scored = 0;
        read.stretch = read.next;
    }

    /// Sheds what of the stretch has not been scored.
    fn abort(&self, engine: &Engine<Live>, read: &mut Read<A::State>) {
        read.state.abort();
        let length = read.next - read.stretch;
        engine.metrics.bases_shed(length - read.scored);
        // Its beginning was scored, its end was not.
        let context = self.annotator.context() as u64;
        engine.metrics.without_context(read.scored.min(context));
        read.partial = true;
    }

    fn count_scored(&mut self, engine: &Engine<Live>, read: &mut Read<A::State>) {
        let scored = read.state.scored().min(read.next - read.stretch);
        engine.metrics.bases_scored(scored - read.scored);
        self.scored += scored - read.scored;
        read.kept += scored - read.scored;
        read.scored = scored;
    }

    /// Ends a read that is given up: what was scored stays.
    fn give_up(&mut self, engine: &Engine<Live>, mut read: Read<A::State>, slot: &mut Slot) {
        let metrics = &engine.metrics;
        slot.shed = true;
        slot.piece.name.clone_from(&read.name);
        slot.piece.read = read.number;
        slot.piece.end = Some(PieceEnd::Partial);
        slot.known_to = u64::MAX;
        if let Some(reason) = read.failure.take() {
            self.reject(engine, &read.name, &reason, slot);
        } else {
            self.abort(engine, &mut read);
            if read.kept > 0 {
                metrics.read_partial(read.kept);
                metrics.read_out();
                slot.out = Some(read.next);
            } else {
                metrics.read_shed();
            }
        }
        engine.mode.read_over(self.lane);
        self.idle.push(read);
    }

    fn reject(&self, engine: &Engine<Live>, name: &[u8], reason: &str, slot: &mut Slot) {
        engine.metrics.read_rejected();
        let name = clean(name);
        slot.rejected = Some(format!("read {name}: {reason}"));
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
            self.reject(engine, &read.name, &reason, slot);
        } else if !read.any && bases {
            metrics.read_shed();
        } else {
            if read.partial {
                metrics.read_partial(read.kept);
                slot.piece.end = Some(PieceEnd::Partial);
            }
            metrics.read_out();
            slot.out = Some(read.next);
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
            slot.ticket = read.ticket;
            if kept(engine, &slot) {
                self.end(engine, read, PieceEnd::Partial, &mut slot);
            } else {
                self.give_up(engine, read, &mut slot);
            }
            if let (Some(ticket), Some(mut admission)) = (slot.ticket, engine.mode.admission()) {
                admission.over(ticket);
            }
            engine.send_to_sink(slot);
        }
    }
}

/// False where the read of a slot is given up.
fn kept(engine: &Engine<Live>, slot: &Slot) -> bool {
    let (Some(ticket), Some(mut admission)) = (slot.ticket, engine.mode.admission()) else {
        return true;
    };
    admission.goes_on(ticket, slot.positions, slot.piece.received, Instant::now())
}

/// Scores a read that nobody sent, so that the cost of a position is known before the first one
/// comes: how many positions took how long. `None` where that does not show.
pub(super) fn trial<A: Annotate>(annotator: &A) -> Option<(u64, Duration)> {
    let begun = Instant::now();
    let (mut state, mut random) = (annotator.read(), 1_u32);
    // The first positions wait for their context, and for memory.
    let (mut pushed, mut from) = (0, None);
    loop {
        let mut base = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 30) as u8
        };
        let codes: Vec<u8> = (0..TRIAL_PIECE).map(|_| base()).collect();
        if guarded(|| state.push_codes(&codes, &mut |_: Call| {})).is_err() {
            drop_broken(state);
            return None;
        }
        pushed += codes.len() as u64;
        let scored = state.scored().min(pushed);
        match from {
            None if begun.elapsed() > 5 * TRIAL_TIME => return None,
            None if scored >= TRIAL => from = Some((scored, Instant::now())),
            Some((before, since)) => {
                let enough = scored - before >= 4 * TRIAL || begun.elapsed() > TRIAL_TIME;
                if enough && scored > before {
                    state.abort();
                    return Some((scored - before, since.elapsed()));
                }
            }
            None => {}
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
