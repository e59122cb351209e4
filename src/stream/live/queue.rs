//! Slots, the queues they travel in, and how threads wait for them and end.

use super::{LiveConfig, LiveSource, OverloadPolicy, Piece, SourceError};
use crate::call::Call;
use crate::metrics::Metrics;
use crate::stream::batch::queue::{put, wait};
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(super) use crate::stream::batch::queue::Bell;

/// Room for calls of a piece from the start, and that above which a slot gives its memory back.
const CALLS: usize = 8;
const MANY: usize = 4096;

/// Bases above which a slot gives its memory back.
const LONG: usize = 1 << 17;

/// After a stop: how long a source may sit in a read, and how long workers score what was received.
const HEARING: Duration = Duration::from_millis(200);
const SCORING: Duration = Duration::from_millis(600);
/// How long sources may take to send their last replies.
const PARTING: Duration = Duration::from_millis(300);

/// A piece and its calls, on their way.
pub(super) struct Slot {
    pub(super) source: usize,
    pub(super) piece: Piece,
    /// Position of the first base in its read.
    pub(super) start: u64,
    pub(super) calls: Vec<Call>,
    pub(super) known_to: u64,
    /// The source has ended: so do its reads on this lane.
    pub(super) closes: bool,
    /// Why the read was rejected.
    pub(super) rejected: Option<String>,
}

impl Slot {
    fn new(source: usize, bases: usize) -> Box<Slot> {
        Box::new(Slot {
            source,
            piece: Piece::with_capacity(bases),
            start: 0,
            calls: Vec::with_capacity(CALLS),
            known_to: 0,
            closes: false,
            rejected: None,
        })
    }

    fn clear(&mut self) {
        self.piece.clear();
        self.calls.clear();
        self.rejected = None;
        self.closes = false;
        self.known_to = 0;
        if self.piece.codes.capacity() > LONG {
            self.piece.codes = Vec::new();
        }
        if self.calls.capacity() > MANY {
            self.calls = Vec::with_capacity(CALLS);
        }
    }
}

pub(super) struct Bells {
    pub(super) sources: Vec<Bell>,
    pub(super) lanes: Vec<Bell>,
    pub(super) sink: Bell,
}

struct Lane {
    queue: ArrayQueue<Box<Slot>>,
    waker: Unparker,
    /// Bases that wait or are being scored.
    load: AtomicU64,
    /// Picoseconds a base takes.
    pace: AtomicU64,
    /// Reads open on it.
    reads: AtomicUsize,
}

// Where a source is. A blocking read cannot be interrupted, so a stopped run leaves a source that
// is in one behind.
const HEARS: u8 = 0;
const TELLS: u8 = 1;
const ABANDONED: u8 = 2;

struct Heard {
    free: ArrayQueue<Box<Slot>>,
    waker: Unparker,
    gate: AtomicU8,
    /// One a lane, for the source's end.
    closing: Mutex<Vec<Slot>>,
}

pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) policy: OverloadPolicy,
    pub(super) deadline: Option<Duration>,
    sources: Vec<Heard>,
    lanes: Vec<Lane>,
    finished: ArrayQueue<Box<Slot>>,
    sink_waker: Unparker,
    errors: Mutex<Vec<SourceError>>,
    stop: Arc<AtomicBool>,
    stopped_at: OnceLock<Instant>,
    halted: AtomicBool,
    early: AtomicBool,
    /// Sources that may still send.
    open: AtomicUsize,
    /// Workers that may still finish a slot.
    workers: AtomicUsize,
    /// Sources that have ended and have replies to send.
    parting: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        config: &LiveConfig,
        threads: usize,
        sources: &[Box<dyn LiveSource>],
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
    ) -> (Shared, Bells) {
        let bells = Bells {
            sources: sources.iter().map(|_| Bell::new()).collect(),
            lanes: (0..threads).map(|_| Bell::new()).collect(),
            sink: Bell::new(),
        };
        let mut room = 0;
        let heard = sources.iter().zip(&bells.sources).enumerate();
        let heard = heard.map(|(number, (source, bell))| {
            let (slots, bases) = source.slots();
            let slots = slots.max(4);
            room += slots + threads;
            let free = ArrayQueue::new(slots + threads);
            for _ in 0..slots {
                put(&free, Slot::new(number, bases));
            }
            let closing = (0..threads).map(|_| *Slot::new(number, 0)).collect();
            Heard {
                free,
                waker: bell.unparker().clone(),
                gate: AtomicU8::new(TELLS),
                closing: Mutex::new(closing),
            }
        });
        let heard: Vec<Heard> = heard.collect();
        let lanes = bells.lanes.iter().map(|bell| Lane {
            queue: ArrayQueue::new(room.max(1)),
            waker: bell.unparker().clone(),
            load: AtomicU64::new(0),
            pace: AtomicU64::new(0),
            reads: AtomicUsize::new(0),
        });
        let shared = Shared {
            metrics,
            policy: config.overload,
            deadline: config.deadline,
            open: AtomicUsize::new(heard.len()),
            sources: heard,
            lanes: lanes.collect(),
            finished: ArrayQueue::new(room.max(1)),
            sink_waker: bells.sink.unparker().clone(),
            errors: Mutex::new(vec![]),
            stop,
            stopped_at: OnceLock::new(),
            halted: AtomicBool::new(false),
            early: AtomicBool::new(false),
            workers: AtomicUsize::new(threads),
            parting: AtomicUsize::new(0),
        };
        (shared, bells)
    }

    // ---- sources ----

    /// A free slot of a source; `None` once no more is to be heard.
    pub(super) fn free_slot(&self, source: usize, bell: &Bell) -> Option<Box<Slot>> {
        wait(bell, None, || match self.stopping() {
            true => Some(None),
            false => self.sources[source].free.pop().map(Some),
        })
        .flatten()
    }

    /// The same for a worker that ends reads, who waits for nothing but the sink.
    pub(super) fn free_slot_at_end(&self, source: usize) -> Option<Box<Slot>> {
        while !self.halted.load(SeqCst) {
            if let Some(slot) = self.sources[source].free.pop() {
                return Some(slot);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    }

    pub(super) fn return_unused(&self, slot: Box<Slot>) {
        put(&self.sources[slot.source].free, slot);
    }

    pub(super) fn stopping(&self) -> bool {
        let stopping = self.halted.load(SeqCst) || self.stop.load(SeqCst);
        if stopping {
            self.stopped_at.get_or_init(Instant::now);
        }
        stopping
    }

    /// Before a read that may not return.
    pub(super) fn hears(&self, source: usize) {
        self.sources[source].gate.store(HEARS, SeqCst);
    }

    /// After it: false where the run went on without the source, which must touch nothing any more.
    pub(super) fn tells(&self, source: usize) -> bool {
        let gate = &self.sources[source].gate;
        gate.compare_exchange(HEARS, TELLS, SeqCst, SeqCst).is_ok()
    }

    /// The lane for a new read: that with the fewest.
    pub(super) fn lane(&self) -> usize {
        let reads = self.lanes.iter().map(|lane| lane.reads.load(SeqCst));
        let lane = reads.enumerate().min_by_key(|&(_, reads)| reads);
        let lane = lane.map_or(0, |(lane, _)| lane);
        self.lanes[lane].reads.fetch_add(1, SeqCst);
        lane
    }

    /// How long it would take until a piece of `bases` that comes now is scored.
    pub(super) fn wait_on(&self, lane: usize, bases: usize) -> Duration {
        let lane = &self.lanes[lane];
        let bases = lane.load.load(SeqCst) + bases as u64;
        Duration::from_nanos(bases.saturating_mul(lane.pace.load(SeqCst)) / 1000)
    }

    pub(super) fn send(&self, lane: usize, slot: Box<Slot>) {
        self.metrics.queued();
        let lane = &self.lanes[lane];
        let bases = slot.piece.codes.len() as u64;
        lane.load.fetch_add(bases, SeqCst);
        put(&lane.queue, slot);
        lane.waker.unpark();
    }

    /// Straight to the sink.
    pub(super) fn send_rejected(&self, slot: Box<Slot>) {
        self.metrics.queued();
        self.finish(slot);
    }

    pub(super) fn report(&self, error: SourceError) {
        log::error!("{error}");
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push(error);
    }

    pub(super) fn take_errors(&self) -> Vec<SourceError> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A source will send no more: its reads end. By the source, or in its stead.
    pub(super) fn end_source(&self, source: usize, early: bool) {
        if early {
            self.early.store(true, SeqCst);
        }
        let closing = &self.sources[source].closing;
        let closing = std::mem::take(&mut *closing.lock().unwrap_or_else(PoisonError::into_inner));
        for (lane, mut slot) in closing.into_iter().enumerate() {
            slot.closes = true;
            slot.piece.received = Instant::now();
            self.send(lane, Box::new(slot));
        }
        self.open.fetch_sub(1, SeqCst);
        self.lanes.iter().for_each(|lane| lane.waker.unpark());
        self.sink_waker.unpark();
    }

    /// A source that is about to end will send its last replies; before [`Shared::end_source`].
    pub(super) fn parts(&self) {
        self.parting.fetch_add(1, SeqCst);
    }

    /// Waits until every piece of a source has been dealt with.
    pub(super) fn wait_for_pieces(&self, source: usize) {
        let free = &self.sources[source].free;
        let since = Instant::now();
        while free.len() < free.capacity() && since.elapsed() < PARTING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn has_parted(&self) {
        self.parting.fetch_sub(1, SeqCst);
    }

    pub(super) fn wait_for_parting(&self) {
        let begun = Instant::now();
        while self.parting.load(SeqCst) > 0 && begun.elapsed() < PARTING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // ---- workers ----

    pub(super) fn next_job(&self, lane: usize, bell: &Bell) -> Option<Box<Slot>> {
        let queue = &self.lanes[lane].queue;
        wait(bell, None, || {
            // In this order: what was sent before the end is still there.
            let ended = self.open.load(SeqCst) == 0;
            match queue.pop() {
                Some(slot) => Some(Some(slot)),
                None => ended.then_some(None),
            }
        })
        .flatten()
    }

    /// A piece of `bases` is dealt with; a base takes `pace` nanoseconds.
    pub(super) fn relieve(&self, lane: usize, bases: usize, pace: f64) {
        let lane = &self.lanes[lane];
        lane.load.fetch_sub(bases as u64, SeqCst);
        lane.pace.store((pace * 1000.0) as u64, SeqCst);
    }

    pub(super) fn read_over(&self, lane: usize) {
        self.lanes[lane].reads.fetch_sub(1, SeqCst);
    }

    pub(super) fn finish(&self, slot: Box<Slot>) {
        put(&self.finished, slot);
        self.sink_waker.unpark();
    }

    /// True once there is no time left to score what was received.
    pub(super) fn out_of_time(&self) -> bool {
        if self.halted.load(SeqCst) {
            return true;
        }
        let stopped = self.stopped_at.get();
        stopped.is_some_and(|at| at.elapsed() > SCORING)
    }

    pub(super) fn lanes_without_worker(&self, n: usize) {
        self.workers.fetch_sub(n, SeqCst);
        self.sink_waker.unpark();
    }

    // ---- sink ----

    pub(super) fn try_finished(&self) -> Option<Box<Slot>> {
        self.finished.pop()
    }

    /// The next finished slot; `None` when there will be none.
    pub(super) fn next_finished(&self, bell: &Bell, look: Duration) -> Option<Box<Slot>> {
        loop {
            let found = wait(bell, Some(look), || {
                let ended = self.open.load(SeqCst) == 0 && self.workers.load(SeqCst) == 0;
                match self.finished.pop() {
                    Some(slot) => Some(Some(slot)),
                    None => ended.then_some(None),
                }
            });
            if let Some(found) = found {
                return found;
            }
            self.leave_deaf_sources_behind();
        }
    }

    pub(super) fn give_back(&self, mut slot: Box<Slot>) {
        self.metrics.unqueued();
        slot.clear();
        let source = &self.sources[slot.source];
        put(&source.free, slot);
        source.waker.unpark();
    }

    pub(super) fn halt(&self) {
        self.halted.store(true, SeqCst);
        self.stopping();
        self.sources.iter().for_each(|source| source.waker.unpark());
    }

    /// Goes on without sources that were told to stop and sit in a read.
    fn leave_deaf_sources_behind(&self) {
        if !self.stopping() {
            return;
        }
        // Those that wait for a slot see the stop once they are awake.
        self.sources.iter().for_each(|source| source.waker.unpark());
        let since = self
            .stopped_at
            .get()
            .map_or(Duration::ZERO, Instant::elapsed);
        if since < HEARING {
            return;
        }
        for (number, source) in self.sources.iter().enumerate() {
            let gate = &source.gate;
            if gate
                .compare_exchange(HEARS, ABANDONED, SeqCst, SeqCst)
                .is_ok()
            {
                self.end_source(number, true);
            }
        }
    }

    pub(super) fn stopped_early(&self) -> bool {
        self.early.load(SeqCst)
    }
}

/// Halts the run when the sink is left, by a panic too.
pub(super) struct HaltOnDrop<'a>(pub(super) &'a Shared);

impl Drop for HaltOnDrop<'_> {
    fn drop(&mut self) {
        // After an orderly end there is nothing left to halt.
        if self.0.open.load(SeqCst) > 0 || std::thread::panicking() {
            self.0.halt();
        }
    }
}
