//! What the threads of a run share.

use super::gate::Gate;
use super::lanes::Lane;
use super::mode::Mode;
use super::queue::{put, wait};
use crate::metrics::Metrics;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long sources may take to close after their last slot was written.
const CLOSING: Duration = Duration::from_millis(300);

/// How an engine is built.
pub(crate) struct Setup<M: Mode> {
    pub(crate) mode: M,
    /// Workers, each with a lane; at least 1.
    pub(crate) threads: usize,
    /// The slots of each source.
    pub(crate) slots: Vec<SourceSlots<M::Slot>>,
    /// Counts what is queued.
    pub(crate) metrics: Arc<Metrics>,
    /// The caller's wish: read no more.
    pub(crate) stop: Arc<AtomicBool>,
}

/// The slots that a source has for a run.
pub(crate) struct SourceSlots<S> {
    /// Those that it fills.
    pub(crate) free: Vec<Box<S>>,
    /// How many [`Mode::close`] may send besides.
    pub(crate) closing: usize,
}

/// What each thread sleeps on.
pub(super) struct Parkers {
    pub(super) sources: Vec<Parker>,
    pub(super) lanes: Vec<Parker>,
    pub(super) sink: Parker,
}

/// A source's slots and its gate.
struct Origin<S> {
    free: ArrayQueue<Box<S>>,
    /// Slots that will have been in the queue when nothing is on its way.
    slots: AtomicUsize,
    waker: Unparker,
    gate: Gate,
}

/// The state of a run.
pub(crate) struct Engine<M: Mode> {
    /// What this kind of run shares between its threads.
    pub(crate) mode: M,
    pub(crate) metrics: Arc<Metrics>,
    sources: Vec<Origin<M::Slot>>,
    lanes: Vec<Lane<M::Slot>>,
    finished: ArrayQueue<Box<M::Slot>>,
    sink: Unparker,
    stop: Arc<AtomicBool>,
    stopped_at: OnceLock<Instant>,
    /// The run is broken off: read no more and work no more.
    halted: AtomicBool,
    stopped_early: AtomicBool,
    died: AtomicBool,
    /// Sources that may still send.
    open: AtomicUsize,
    /// Workers that may still finish a slot.
    workers: AtomicUsize,
    /// Sources that have ended and not closed yet.
    closing: AtomicUsize,
}

impl<M: Mode> Engine<M> {
    pub(super) fn new(setup: Setup<M>) -> (Engine<M>, Parkers) {
        let parkers = Parkers {
            sources: setup.slots.iter().map(|_| Parker::new()).collect(),
            lanes: (0..setup.threads).map(|_| Parker::new()).collect(),
            sink: Parker::new(),
        };
        let all = |own: &SourceSlots<M::Slot>| own.free.len() + own.closing;
        let room = setup.slots.iter().map(all).sum::<usize>().max(1);
        let sources = setup.slots.into_iter().zip(&parkers.sources);
        let sources = sources.map(|(own, parker)| {
            let free = ArrayQueue::new(all(&own).max(1));
            let slots = AtomicUsize::new(own.free.len());
            own.free.into_iter().for_each(|slot| put(&free, slot));
            Origin {
                free,
                slots,
                waker: parker.unparker().clone(),
                gate: Gate::new(),
            }
        });
        let sources: Vec<_> = sources.collect();
        let lanes = parkers.lanes.iter();
        let engine = Engine {
            mode: setup.mode,
            metrics: setup.metrics,
            open: AtomicUsize::new(sources.len()),
            sources,
            lanes: lanes
                .map(|parker| Lane::new(room, parker.unparker().clone()))
                .collect(),
            finished: ArrayQueue::new(room),
            sink: parkers.sink.unparker().clone(),
            stop: setup.stop,
            stopped_at: OnceLock::new(),
            halted: AtomicBool::new(false),
            stopped_early: AtomicBool::new(false),
            died: AtomicBool::new(false),
            workers: AtomicUsize::new(setup.threads),
            closing: AtomicUsize::new(0),
        };
        (engine, parkers)
    }

    // ---- for all threads ----

    /// True once no more is to be read.
    pub(crate) fn stopping(&self) -> bool {
        let stopping = self.halted() || self.stop.load(SeqCst);
        if stopping {
            self.stopped_at.get_or_init(Instant::now);
        }
        stopping
    }

    /// Time since somebody saw that the run is to stop.
    pub(crate) fn since_stop(&self) -> Option<Duration> {
        self.stopped_at.get().map(Instant::elapsed)
    }

    /// True once the run is broken off: what is on its way need not be worked on.
    pub(crate) fn halted(&self) -> bool {
        self.halted.load(SeqCst)
    }

    /// Breaks the run off.
    pub(crate) fn halt(&self) {
        self.halted.store(true, SeqCst);
        self.abandon_readers(M::READ_LIMIT);
    }

    /// A source was stopped before its end.
    pub(crate) fn stopped_early(&self) -> bool {
        self.stopped_early.load(SeqCst)
    }

    /// A thread panicked.
    pub(crate) fn thread_died(&self) -> bool {
        self.died.load(SeqCst)
    }

    pub(super) fn died(&self) {
        self.died.store(true, SeqCst);
    }

    // ---- for sources ----

    /// A free slot of a source; `None` once no more is to be read.
    pub(super) fn free_slot(&self, source: usize, parker: &Parker) -> Option<Box<M::Slot>> {
        wait(parker, None, || {
            if self.stopping() {
                return Some(None);
            }
            self.sources[source].free.pop().map(Some)
        })
        .flatten()
    }

    /// The same at the end of a source, when a stop no longer matters; `None` once halted. For a
    /// worker too, which has no parker for this, and waits for nothing but the sink.
    pub(crate) fn free_slot_at_end(&self, source: usize) -> Option<Box<M::Slot>> {
        while !self.halted() {
            if let Some(slot) = self.sources[source].free.pop() {
                return Some(slot);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    }

    /// A slot that there was nothing for, or nothing that is to go on.
    pub(crate) fn return_unused(&self, mut slot: Box<M::Slot>) {
        M::clear(&mut slot);
        put(&self.sources[M::source(&slot)].free, slot);
    }

    /// Sends a filled slot down a lane.
    pub(crate) fn send(&self, lane: usize, slot: Box<M::Slot>) {
        self.metrics.queued();
        let lane = &self.lanes[lane];
        let load = M::load(&slot);
        lane.push(slot, load);
        self.rescue(lane);
    }

    /// Sends a slot that no worker need see straight to the sink.
    pub(crate) fn send_to_sink(&self, slot: Box<M::Slot>) {
        self.metrics.queued();
        self.finish(slot);
    }

    /// The lane with the least load.
    pub(crate) fn least_loaded(&self) -> usize {
        let loads = self.lanes.iter().map(Lane::load);
        loads
            .enumerate()
            .min_by_key(|&(_, load)| load)
            .map_or(0, |(lane, _)| lane)
    }

    pub(super) fn gate(&self, source: usize) -> &Gate {
        &self.sources[source].gate
    }

    /// True where nothing of a source is on its way.
    pub(super) fn all_slots_back(&self, source: usize) -> bool {
        let source = &self.sources[source];
        source.free.len() >= source.slots.load(SeqCst)
    }

    /// A source sends no more. By the source, or in its place where it was abandoned.
    pub(super) fn end_source(&self, source: usize, early: bool) {
        if early {
            self.stopped_early.store(true, SeqCst);
        }
        self.mode.close(source, &mut |lane, slot| {
            self.sources[source].slots.fetch_add(1, SeqCst);
            self.send(lane, slot);
        });
        self.open.fetch_sub(1, SeqCst);
        self.lanes.iter().for_each(Lane::wake);
        self.sink.unpark();
    }

    /// A source is about to end, and has something to do then.
    pub(super) fn closes(&self) {
        self.closing.fetch_add(1, SeqCst);
    }

    pub(super) fn has_closed(&self) {
        self.closing.fetch_sub(1, SeqCst);
    }

    /// Waits until the sources that have ended have closed.
    pub(super) fn wait_for_closing(&self) {
        let begun = Instant::now();
        while self.closing.load(SeqCst) > 0 && begun.elapsed() < CLOSING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn has_open_sources(&self) -> bool {
        self.open.load(SeqCst) > 0
    }

    // ---- for workers ----

    /// The next slot of a lane; `None` when there will be none.
    pub(super) fn next_job(&self, lane: usize, parker: &Parker) -> Option<Box<M::Slot>> {
        self.lanes[lane].next(parker, || !self.has_open_sources())
    }

    pub(super) fn relieve(&self, lane: usize, load: u64) {
        self.lanes[lane].relieve(load);
    }

    pub(super) fn finish(&self, slot: Box<M::Slot>) {
        put(&self.finished, slot);
        self.sink.unpark();
    }

    /// A lane's worker has ended, or could not be started.
    pub(super) fn worker_ended(&self, lane: usize) {
        let lane = &self.lanes[lane];
        lane.worker_ended();
        self.rescue(lane);
        self.workers.fetch_sub(1, SeqCst);
        self.sink.unpark();
    }

    /// What lies in a lane without a worker goes to the sink as it is.
    fn rescue(&self, lane: &Lane<M::Slot>) {
        while let Some(slot) = lane.orphan() {
            self.finish(slot);
        }
    }

    // ---- for the sink ----

    pub(super) fn try_finished(&self) -> Option<Box<M::Slot>> {
        self.finished.pop()
    }

    /// The next finished slot; `None` when there will be none.
    pub(super) fn next_finished(
        &self,
        parker: &Parker,
        mut idle: impl FnMut(),
    ) -> Option<Box<M::Slot>> {
        loop {
            let found = wait(parker, Some(M::LOOK), || {
                let ended = !self.has_open_sources() && self.workers.load(SeqCst) == 0;
                match self.finished.pop() {
                    Some(slot) => Some(Some(slot)),
                    None => ended.then_some(None),
                }
            });
            if let Some(found) = found {
                return found;
            }
            self.abandon_readers(M::READ_LIMIT);
            idle();
        }
    }

    pub(super) fn give_back(&self, mut slot: Box<M::Slot>) {
        self.metrics.unqueued();
        M::clear(&mut slot);
        let source = &self.sources[M::source(&slot)];
        put(&source.free, slot);
        source.waker.unpark();
    }

    /// Where the run is to stop: wakes the sources, and goes on without those that have sat in a
    /// read for `limit` since.
    pub(super) fn abandon_readers(&self, limit: Duration) {
        if !self.stopping() {
            return;
        }
        // Those that wait for a slot see the stop once they are awake.
        self.sources.iter().for_each(|source| source.waker.unpark());
        if self.since_stop().is_none_or(|since| since < limit) {
            return;
        }
        for (number, source) in self.sources.iter().enumerate() {
            if source.gate.abandon() {
                self.end_source(number, true);
            }
        }
    }
}
