//! A thread that annotates.

use super::overload::{Overload, Treatment};
use super::queue::{Bell, Shared, Slot};
use super::{Piece, PieceEnd};
use crate::annotate::{Annotate, Annotation};
use crate::call::{Call, Flags};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Works through a lane to its end.
pub(super) fn work<A: Annotate>(shared: &Shared, lane: usize, bell: &Bell, annotator: &A) {
    let _ending = Ending(shared);
    let mut worker = Worker {
        shared,
        lane,
        annotator,
        overload: Overload::new(shared.policy, shared.deadline),
        reads: HashMap::new(),
        idle: vec![],
    };
    while let Some(mut slot) = shared.next_job(lane, bell) {
        if slot.closes {
            worker.close(slot.source);
        } else {
            let bases = slot.piece.codes.len();
            worker.take(&mut slot);
            shared.relieve(lane, bases, worker.overload.pace());
        }
        shared.finish(slot);
    }
}

struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.halt();
        }
        self.0.lanes_without_worker(1);
    }
}

/// A read on its way.
struct Read<S> {
    state: S,
    name: Vec<u8>,
    number: u32,
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

struct Worker<'a, A: Annotate> {
    shared: &'a Shared,
    lane: usize,
    annotator: &'a A,
    overload: Overload,
    reads: HashMap<(usize, u16), Read<A::State>>,
    /// States and names of reads that are over.
    idle: Vec<Read<A::State>>,
}

impl<A: Annotate> Worker<'_, A> {
    fn take(&mut self, slot: &mut Slot) {
        let key = (slot.source, slot.piece.channel);
        let mut read = match self.reads.remove(&key) {
            Some(read) => read,
            None => self.begin(&slot.piece),
        };
        if slot.piece.lost > 0 && slot.piece.codes.is_empty() {
            read.partial = true;
        }
        let bases = slot.piece.codes.len();
        if bases > 0 {
            self.score(&mut read, slot);
        }
        slot.piece.name.clone_from(&read.name);
        match slot.piece.end {
            Some(end) => self.end(read, end, slot),
            None => {
                slot.known_to = read.stretch + read.scored;
                self.reads.insert(key, read);
            }
        }
    }

    fn begin(&mut self, piece: &Piece) -> Read<A::State> {
        let mut read = self.idle.pop().unwrap_or_else(|| Read {
            state: self.annotator.read(),
            name: vec![],
            number: 0,
            stretch: 0,
            next: 0,
            scored: 0,
            any: false,
            partial: false,
            failure: None,
        });
        read.name.clone_from(&piece.name);
        read.number = piece.read;
        (read.stretch, read.next, read.scored) = (0, 0, 0);
        (read.any, read.partial, read.failure) = (false, false, None);
        read
    }

    fn score(&mut self, read: &mut Read<A::State>, slot: &mut Slot) {
        let metrics = &self.shared.metrics;
        let bases = slot.piece.codes.len();
        if read.failure.is_some() {
            metrics.bases_rejected(bases as u64);
            return;
        }
        let begun = Instant::now();
        let treatment = match self.shared.out_of_time() {
            true => Treatment::Shed,
            false => self.overload.treat(slot.piece.received, bases, begun),
        };
        metrics.fast_tier(self.lane, self.overload.is_fast());
        if treatment == Treatment::Shed {
            metrics.bases_shed(bases as u64);
            return;
        }
        let fast = treatment == Treatment::ScoreFast && self.annotator.has_fast_tier();
        if slot.start != read.next {
            read.partial = true;
            self.end_stretch(read, &mut slot.calls);
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
            self.fail(read, reason);
            return;
        }
        self.count_scored(read);
        read.any = true;
        self.overload.took(bases, begun.elapsed());
    }

    /// Scores what the stretch's end makes certain.
    fn end_stretch(&mut self, read: &mut Read<A::State>, calls: &mut Vec<Call>) {
        let length = read.next - read.stretch;
        if length == 0 || read.failure.is_some() {
            return;
        }
        let metrics = &self.shared.metrics;
        if self.shared.out_of_time() {
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
                self.fail(read, reason);
                return;
            }
            metrics.bases_scored(length - read.scored);
            let context = 2 * self.annotator.context() as u64;
            metrics.without_context(length.min(context));
        }
        read.scored = 0;
        read.stretch = read.next;
    }

    fn count_scored(&self, read: &mut Read<A::State>) {
        let scored = read.state.scored().min(read.next - read.stretch);
        self.shared.metrics.bases_scored(scored - read.scored);
        read.scored = scored;
    }

    /// Gives a read up; a state that failed may be in any condition.
    fn fail(&mut self, read: &mut Read<A::State>, reason: String) {
        let lost = read.next - read.stretch - read.scored;
        self.shared.metrics.bases_rejected(lost);
        read.failure = Some(reason);
        let broken = std::mem::replace(&mut read.state, self.annotator.read());
        // Dropping what a panic left half-done may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        read.stretch = read.next;
        read.scored = 0;
    }

    fn end(&mut self, mut read: Read<A::State>, end: PieceEnd, slot: &mut Slot) {
        let metrics = &self.shared.metrics;
        // What came after the last base that was scored is missing.
        let missing = slot.start + slot.piece.codes.len() as u64 > read.next;
        if end == PieceEnd::Partial || missing {
            read.partial = true;
        }
        let bases = read.any || slot.start > 0 || !slot.piece.codes.is_empty();
        self.end_stretch(&mut read, &mut slot.calls);
        slot.known_to = u64::MAX;
        slot.piece.read = read.number;
        if let Some(reason) = read.failure.take() {
            metrics.read_rejected();
            let name = String::from_utf8_lossy(&read.name);
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
        self.shared.read_over(self.lane);
        self.idle.push(read);
    }

    /// Ends the reads of a source that has ended.
    fn close(&mut self, source: usize) {
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
            let Some(mut slot) = self.shared.free_slot_at_end(source) else {
                let lost = read.next - read.stretch - read.scored;
                self.shared.metrics.bases_shed(lost);
                self.shared.metrics.read_rejected();
                continue;
            };
            slot.piece.channel = channel;
            slot.piece.name.clone_from(&read.name);
            slot.piece.received = Instant::now();
            slot.piece.end = Some(PieceEnd::Partial);
            slot.start = read.next;
            self.end(read, PieceEnd::Partial, &mut slot);
            self.shared.metrics.queued();
            self.shared.finish(slot);
        }
    }
}

fn flags(partial: bool) -> Flags {
    match partial {
        true => Flags::PARTIAL,
        false => Flags::NONE,
    }
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
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(payload) => Err(crate::stream::batch::panic_text(&*payload)),
    }
}
