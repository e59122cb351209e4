//! Slots, the queues they travel in, and how threads wait for them and end.

use super::PipelineConfig;
use crate::call::Call;
use crate::metrics::Metrics;
use crate::reads::fastx::{Chunk, RecordEnd, RejectReason};
use crate::reads::source::InputError;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::Backoff;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Calls that a slot has room for from the start, and those above which it gives its memory back.
const CALLS: usize = 256;
const MANY_CALLS: usize = 16_384;

/// Bytes of a kept record above which a slot gives its memory back.
const LARGE_RECORD: usize = 1 << 20;

/// What a worker is charged for a record, in bases, besides its bases.
const RECORD_COST: u64 = 64;

/// A chunk and its calls, on their way.
pub(super) struct Slot {
    pub(super) chunk: Chunk,
    pub(super) calls: Vec<Call>,
}

impl Slot {
    fn new(chunk_bases: usize) -> Box<Slot> {
        Box::new(Slot {
            chunk: Chunk::with_capacity(chunk_bases),
            calls: Vec::with_capacity(CALLS),
        })
    }

    fn cost(&self) -> u64 {
        self.chunk.codes.len() as u64 + RECORD_COST
    }
}

/// What a thread sleeps on; each queue has one consumer, and this is its.
pub(crate) type Bell = Parker;

/// The bells of a pipeline's threads.
pub(super) struct Bells {
    pub(super) source: Bell,
    pub(super) lanes: Vec<Bell>,
    pub(super) sink: Bell,
}

struct Lane {
    queue: ArrayQueue<Box<Slot>>,
    waker: Unparker,
    /// What is queued and being worked on, in bases.
    load: AtomicU64,
}

/// A record of several chunks whose end was not read yet.
struct Open {
    lane: Option<usize>,
    /// Ends it where no more of it can be read.
    closing: Option<Box<Slot>>,
}

// Where the source is. A blocking read cannot be interrupted, so a stopped run leaves a source that
// is in one behind.
const RUNNING: u8 = 0;
const READING: u8 = 1;
const ABANDONED: u8 = 2;

pub(super) struct Shared {
    pub(super) pool: usize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) errors: Mutex<Vec<InputError>>,
    free: ArrayQueue<Box<Slot>>,
    source_waker: Unparker,
    lanes: Vec<Lane>,
    finished: ArrayQueue<Box<Slot>>,
    sink_waker: Unparker,
    open: Mutex<Open>,
    gate: AtomicU8,
    /// The caller's wish: read no more.
    stop: Arc<AtomicBool>,
    /// Ours: read no more and annotate no more.
    halted: AtomicBool,
    source_ended: AtomicBool,
    stopped_early: AtomicBool,
    died: AtomicBool,
    /// Workers that may still finish a slot.
    workers: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        config: &PipelineConfig,
        threads: usize,
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
    ) -> (Shared, Bells) {
        let pool = config.pool.max(1);
        let bases = config.limits.chunk_bases.max(1);
        let bells = Bells {
            source: Bell::new(),
            lanes: (0..threads).map(|_| Bell::new()).collect(),
            sink: Bell::new(),
        };
        // One more than the pool for the slot that closes an open record: then no push can fail.
        let room = pool + 1;
        let free = ArrayQueue::new(room);
        for _ in 0..pool {
            put(&free, Slot::new(bases));
        }
        let lanes = bells.lanes.iter().map(|bell| Lane {
            queue: ArrayQueue::new(room),
            waker: bell.unparker().clone(),
            load: AtomicU64::new(0),
        });
        let shared = Shared {
            pool,
            metrics,
            errors: Mutex::new(Vec::new()),
            free,
            source_waker: bells.source.unparker().clone(),
            lanes: lanes.collect(),
            finished: ArrayQueue::new(room),
            sink_waker: bells.sink.unparker().clone(),
            open: Mutex::new(Open {
                lane: None,
                closing: Some(Slot::new(0)),
            }),
            gate: AtomicU8::new(RUNNING),
            stop,
            halted: AtomicBool::new(false),
            source_ended: AtomicBool::new(false),
            stopped_early: AtomicBool::new(false),
            died: AtomicBool::new(false),
            workers: AtomicUsize::new(threads),
        };
        (shared, bells)
    }

    // ---- source ----

    /// A free slot; `None` once no more is to be read.
    pub(super) fn free_slot(&self, bell: &Bell) -> Option<Box<Slot>> {
        wait(bell, None, || {
            if self.stopping() {
                return Some(None);
            }
            self.free.pop().map(Some)
        })
        .flatten()
    }

    /// A slot that there was nothing for.
    pub(super) fn return_unused(&self, slot: Box<Slot>) {
        put(&self.free, slot);
    }

    pub(super) fn stopping(&self) -> bool {
        self.halted.load(SeqCst) || self.stop.load(SeqCst)
    }

    /// Before a read that may block. False: do not read.
    pub(super) fn enter_read(&self) -> bool {
        let entered = self.gate.compare_exchange(RUNNING, READING, SeqCst, SeqCst);
        if entered.is_err() {
            return false;
        }
        // Looked at after the gate is closed, so that either this or the one who says stop sees the
        // other.
        if self.stopping() {
            self.leave_read();
            return false;
        }
        true
    }

    /// After it. False: the run went on without the source, which must touch nothing any more.
    pub(super) fn leave_read(&self) -> bool {
        self.gate
            .compare_exchange(READING, RUNNING, SeqCst, SeqCst)
            .is_ok()
    }

    pub(super) fn abandoned(&self) -> bool {
        self.gate.load(SeqCst) == ABANDONED
    }

    /// Sends a filled slot down its lane.
    pub(super) fn send(&self, slot: Box<Slot>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = open.lane.unwrap_or_else(|| self.least_loaded());
        if slot.chunk.end.is_some() {
            open.lane = None;
        } else {
            open.lane = Some(lane);
            if let Some(closing) = &mut open.closing {
                let (to, from) = (&mut closing.chunk, &slot.chunk);
                to.record = from.record;
                to.number = from.number;
                to.offset = from.offset;
                to.start = from.start + from.codes.len() as u64;
                to.received = from.received;
                if from.first {
                    to.file.clone_from(&from.file);
                    to.name.clone_from(&from.name);
                }
            }
        }
        drop(open);
        self.metrics.bases_in(slot.chunk.codes.len() as u64);
        self.push_lane(lane, slot);
    }

    /// Sends a record that no worker need see straight to the sink.
    pub(super) fn send_rejected(&self, slot: Box<Slot>) {
        self.metrics.queued();
        put(&self.finished, slot);
        self.sink_waker.unpark();
    }

    fn least_loaded(&self) -> usize {
        let loads = self.lanes.iter().map(|lane| lane.load.load(SeqCst));
        loads
            .enumerate()
            .min_by_key(|&(_, load)| load)
            .map_or(0, |(i, _)| i)
    }

    fn push_lane(&self, lane: usize, slot: Box<Slot>) {
        self.metrics.queued();
        let lane = &self.lanes[lane];
        lane.load.fetch_add(slot.cost(), SeqCst);
        put(&lane.queue, slot);
        lane.waker.unpark();
    }

    /// No more comes: ends an open record and lets the workers run dry. By the source, or in its
    /// stead.
    pub(super) fn end_source(&self, early: bool) {
        self.stopped_early.store(early, SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(lane), Some(mut slot)) = (open.lane.take(), open.closing.take()) {
            let reject = slot.chunk.reject(RejectReason::Stopped);
            slot.chunk.first = false;
            slot.chunk.end = Some(RecordEnd::Rejected(Box::new(reject)));
            self.push_lane(lane, slot);
        }
        drop(open);
        self.source_ended.store(true, SeqCst);
        for lane in &self.lanes {
            lane.waker.unpark();
        }
        self.sink_waker.unpark();
    }

    // ---- workers ----

    /// The next slot of a lane; `None` when there will be none.
    pub(super) fn next_job(&self, lane: usize, bell: &Bell) -> Option<Box<Slot>> {
        let queue = &self.lanes[lane].queue;
        wait(bell, None, || {
            // In this order: what was sent before the end is still there.
            let ended = self.source_ended.load(SeqCst);
            match queue.pop() {
                Some(slot) => Some(Some(slot)),
                None => ended.then_some(None),
            }
        })
        .flatten()
    }

    pub(super) fn finish(&self, lane: usize, cost: u64, slot: Box<Slot>) {
        self.lanes[lane].load.fetch_sub(cost, SeqCst);
        put(&self.finished, slot);
        self.sink_waker.unpark();
    }

    pub(super) fn cost(slot: &Slot) -> u64 {
        slot.cost()
    }

    pub(super) fn worker_ended(&self) {
        if std::thread::panicking() {
            self.died.store(true, SeqCst);
            self.halt();
        }
        self.lanes_without_worker(1);
    }

    pub(super) fn lanes_without_worker(&self, n: usize) {
        self.workers.fetch_sub(n, SeqCst);
        self.sink_waker.unpark();
    }

    pub(super) fn halted(&self) -> bool {
        self.halted.load(SeqCst)
    }

    // ---- sink ----

    /// The next finished slot; `None` when there will be none.
    pub(super) fn next_finished(&self, bell: &Bell, look: Duration) -> Option<Box<Slot>> {
        loop {
            let found = wait(bell, Some(look), || {
                let ended = self.source_ended.load(SeqCst) && self.workers.load(SeqCst) == 0;
                match self.finished.pop() {
                    Some(slot) => Some(Some(slot)),
                    None => ended.then_some(None),
                }
            });
            if let Some(found) = found {
                return found;
            }
            self.abandon_blocked_source();
        }
    }

    pub(super) fn give_back(&self, mut slot: Box<Slot>) {
        self.metrics.unqueued();
        slot.chunk.end = None;
        slot.calls.clear();
        if slot.calls.capacity() > MANY_CALLS {
            slot.calls = Vec::with_capacity(CALLS);
        }
        slot.chunk.bam.clear();
        slot.chunk.bam.shrink_to(LARGE_RECORD);
        // The closing slot has no room for bases, and comes only when the source needs none.
        put(&self.free, slot);
        self.source_waker.unpark();
    }

    /// Reads and annotates no more.
    pub(super) fn halt(&self) {
        self.halted.store(true, SeqCst);
        self.source_waker.unpark();
        self.abandon_blocked_source();
    }

    /// Goes on without a source that was told to stop and sits in a read.
    fn abandon_blocked_source(&self) {
        if self.stopping()
            && self
                .gate
                .compare_exchange(READING, ABANDONED, SeqCst, SeqCst)
                .is_ok()
        {
            self.end_source(true);
        }
    }

    pub(super) fn stopped_early(&self) -> bool {
        self.stopped_early.load(SeqCst)
    }

    pub(super) fn source_died(&self) {
        self.died.store(true, SeqCst);
    }

    pub(super) fn thread_died(&self) -> bool {
        self.died.load(SeqCst)
    }
}

/// Halts the run when the sink is left, by a panic too.
pub(super) struct HaltOnDrop<'a>(pub(super) &'a Shared);

impl Drop for HaltOnDrop<'_> {
    fn drop(&mut self) {
        self.0.halt();
    }
}

/// Puts a slot into a queue that has room for all there are.
pub(crate) fn put<T>(queue: &ArrayQueue<T>, slot: T) {
    let pushed = queue.push(slot);
    debug_assert!(pushed.is_ok(), "every queue has room for every slot");
}

/// Asks `ready` until it answers, asleep in between; `None` where `limit` passes first.
pub(crate) fn wait<T>(
    bell: &Bell,
    limit: Option<Duration>,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let backoff = Backoff::new();
    loop {
        if let Some(answer) = ready() {
            return Some(answer);
        }
        if !backoff.is_completed() {
            backoff.snooze();
            continue;
        }
        match limit {
            None => bell.park(),
            Some(limit) => {
                bell.park_timeout(limit);
                return ready();
            }
        }
    }
}
