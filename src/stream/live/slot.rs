//! A piece and its calls on their way, and what a live run knows of its lanes.

use super::admission::{Admission, Ticket};
use super::config::LiveConfig;
use super::piece::Piece;
use super::source::SourceError;
use crate::call::Call;
use crate::stream::engine::mode::Mode;
use crate::stream::engine::shared::Engine;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// The read as the admission knows it.
    pub(super) ticket: Option<Ticket>,
    /// What can be scored with the piece, as the admission knows it.
    pub(super) positions: u64,
    /// The read is shed: it is over with this slot.
    pub(super) shed: bool,
    /// The read counts as out with this slot: its length.
    pub(super) out: Option<u64>,
    /// There is nothing to write: the read was over before.
    pub(super) silent: bool,
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
            ticket: None,
            positions: 0,
            shed: false,
            out: None,
            silent: false,
            closes: false,
            rejected: None,
        })
    }
}

/// What the threads of a live run share.
pub(super) struct Live {
    /// Where reads are shed under overload.
    admission: Option<Mutex<Admission>>,
    /// Reads open on each lane.
    lanes: Vec<AtomicUsize>,
    /// For each source one a lane, for its end.
    closing: Vec<Mutex<Vec<Slot>>>,
    errors: Mutex<Vec<SourceError>>,
}

impl Live {
    /// `context` bases must follow a position before it can be scored.
    pub(super) fn new(config: &LiveConfig, context: u64, threads: usize, sources: usize) -> Live {
        let (policy, deadline) = (config.overload, config.deadline);
        let closing = |source| (0..threads).map(|_| *Slot::new(source, 0)).collect();
        Live {
            admission: Admission::new(policy, deadline, context, threads, sources).map(Mutex::new),
            lanes: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            closing: (0..sources).map(|s| Mutex::new(closing(s))).collect(),
            errors: Mutex::new(vec![]),
        }
    }

    /// Who says which reads are begun; `None`: all are.
    pub(super) fn admission(&self) -> Option<MutexGuard<'_, Admission>> {
        let admission = self.admission.as_ref()?;
        Some(admission.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lane for a new read: that with the fewest.
    pub(super) fn lane_for_read(&self) -> usize {
        let reads = self.lanes.iter().map(|lane| lane.load(SeqCst));
        let lane = reads.enumerate().min_by_key(|&(_, reads)| reads);
        let lane = lane.map_or(0, |(lane, _)| lane);
        self.lanes[lane].fetch_add(1, SeqCst);
        lane
    }

    pub(super) fn read_over(&self, lane: usize) {
        self.lanes[lane].fetch_sub(1, SeqCst);
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
        slot.ticket = None;
        slot.positions = 0;
        slot.shed = false;
        slot.out = None;
        slot.silent = false;
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
