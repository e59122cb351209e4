//! A piece and its calls on their way, and what a live run knows of its lanes.

use super::config::LiveConfig;
use super::overload::OverloadPolicy;
use super::piece::Piece;
use super::source::SourceError;
use crate::call::Call;
use crate::stream::engine::mode::Mode;
use crate::stream::engine::shared::Engine;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Room for calls of a piece from the start, and that above which a slot gives its memory back.
const CALLS: usize = 8;
const MANY: usize = 4096;

/// Bases above which a slot gives its memory back.
const LONG: usize = 1 << 17;

/// After a stop: how long workers score what was received.
const SCORING: Duration = Duration::from_millis(600);

/// A piece and its calls, on their way.
pub(super) struct Slot {
    pub(super) source: usize,
    pub(super) piece: Piece,
    /// Tells the read from every other one of its source.
    pub(super) id: u64,
    /// Bases of the read have been received, be it that they were shed.
    pub(super) received: bool,
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
    pub(super) fn new(source: usize, bases: usize) -> Box<Slot> {
        Box::new(Slot {
            source,
            piece: Piece::with_capacity(bases),
            id: 0,
            received: false,
            start: 0,
            calls: Vec::with_capacity(CALLS),
            known_to: 0,
            closes: false,
            rejected: None,
        })
    }
}

/// What a live run knows of a lane.
struct LiveLane {
    /// Picoseconds a base takes.
    pace: AtomicU64,
    /// Reads open on it.
    reads: AtomicUsize,
}

/// What the threads of a live run share.
pub(super) struct Live {
    pub(super) policy: OverloadPolicy,
    pub(super) deadline: Option<Duration>,
    lanes: Vec<LiveLane>,
    /// For each source one a lane, for its end.
    closing: Vec<Mutex<Vec<Slot>>>,
    errors: Mutex<Vec<SourceError>>,
}

impl Live {
    pub(super) fn new(config: &LiveConfig, threads: usize, sources: usize) -> Live {
        let lane = |_| LiveLane {
            pace: AtomicU64::new(0),
            reads: AtomicUsize::new(0),
        };
        let closing = |source| (0..threads).map(|_| *Slot::new(source, 0)).collect();
        Live {
            policy: config.overload,
            deadline: config.deadline,
            lanes: (0..threads).map(lane).collect(),
            closing: (0..sources).map(|s| Mutex::new(closing(s))).collect(),
            errors: Mutex::new(vec![]),
        }
    }

    /// The lane for a new read: that with the fewest.
    pub(super) fn lane_for_read(&self) -> usize {
        let reads = self.lanes.iter().map(|lane| lane.reads.load(SeqCst));
        let lane = reads.enumerate().min_by_key(|&(_, reads)| reads);
        let lane = lane.map_or(0, |(lane, _)| lane);
        self.lanes[lane].reads.fetch_add(1, SeqCst);
        lane
    }

    pub(super) fn read_over(&self, lane: usize) {
        self.lanes[lane].reads.fetch_sub(1, SeqCst);
    }

    /// A base takes `pace` nanoseconds on a lane.
    pub(super) fn set_pace(&self, lane: usize, pace: f64) {
        self.lanes[lane].pace.store((pace * 1000.0) as u64, SeqCst);
    }

    pub(super) fn report(&self, error: SourceError) {
        log::error!("{error}");
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push(error);
    }

    pub(super) fn take_errors(&self) -> Vec<SourceError> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long it would take until a piece of `bases` that comes now is scored.
pub(super) fn wait_on(engine: &Engine<Live>, lane: usize, bases: usize) -> Duration {
    let bases = engine.load(lane) + bases as u64;
    let pace = engine.mode.lanes[lane].pace.load(SeqCst);
    Duration::from_nanos(bases.saturating_mul(pace) / 1000)
}

/// True once there is no time left to score what was received.
pub(super) fn out_of_time(engine: &Engine<Live>) -> bool {
    engine.halted() || engine.since_stop().is_some_and(|since| since > SCORING)
}

impl Mode for Live {
    type Slot = Slot;

    const LOOK: Duration = Duration::from_millis(20);

    const READ_LIMIT: Duration = Duration::from_millis(200);

    fn source(slot: &Slot) -> usize {
        slot.source
    }

    /// Bases.
    fn load(slot: &Slot) -> u64 {
        slot.piece.codes.len() as u64
    }

    fn clear(slot: &mut Slot) {
        slot.piece.clear();
        slot.calls.clear();
        slot.rejected = None;
        slot.closes = false;
        slot.known_to = 0;
        (slot.id, slot.received) = (0, false);
        if slot.piece.codes.capacity() > LONG {
            slot.piece.codes = Vec::new();
        }
        if slot.calls.capacity() > MANY {
            slot.calls = Vec::with_capacity(CALLS);
        }
    }

    /// Tells each worker that the source's reads are over.
    fn close(&self, source: usize, send: &mut dyn FnMut(usize, Box<Slot>)) {
        let closing = self.closing[source].lock();
        let closing = std::mem::take(&mut *closing.unwrap_or_else(PoisonError::into_inner));
        for (lane, mut slot) in closing.into_iter().enumerate() {
            slot.closes = true;
            slot.piece.received = Instant::now();
            send(lane, Box::new(slot));
        }
    }
}
