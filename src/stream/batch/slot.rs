//! A chunk and its calls on their way, and the record that is open.

use crate::call::Call;
use crate::reads::fastx::{Chunk, RecordEnd, RejectReason};
use crate::reads::source::InputError;
use crate::stream::engine::mode::Mode;
use crate::stream::engine::shared::Engine;
use std::sync::{Mutex, PoisonError};
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
    /// Not a chunk: all records of an input were written.
    pub(super) input_end: Option<InputEnd>,
}

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    Complete,
    Failed,
}

impl Slot {
    pub(super) fn new(chunk_bases: usize) -> Box<Slot> {
        Box::new(Slot {
            chunk: Chunk::with_capacity(chunk_bases),
            calls: Vec::with_capacity(CALLS),
            input_end: None,
        })
    }
}

/// A record of several chunks whose end was not read yet.
struct Open {
    lane: Option<usize>,
    /// Ends it where no more of it can be read.
    closing: Option<Box<Slot>>,
}

/// What the threads of a batch run share.
pub(super) struct Batch {
    open: Mutex<Open>,
    errors: Mutex<Vec<InputError>>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            open: Mutex::new(Open {
                lane: None,
                closing: Some(Slot::new(0)),
            }),
            errors: Mutex::new(Vec::new()),
        }
    }

    /// Takes note of an input that cannot be read to its end.
    pub(super) fn report(&self, error: InputError) {
        log::error!("{error}");
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push(error);
    }

    pub(super) fn take_errors(&self) -> Vec<InputError> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends a filled slot down its record's lane.
pub(super) fn send(engine: &Engine<Batch>, slot: Box<Slot>) {
    let open = engine.mode.open.lock();
    let mut open = open.unwrap_or_else(PoisonError::into_inner);
    let lane = open.lane.unwrap_or_else(|| engine.least_loaded());
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
    engine.metrics.bases_in(slot.chunk.codes.len() as u64);
    engine.send(lane, slot);
}

impl Mode for Batch {
    type Slot = Slot;

    const LOOK: Duration = Duration::from_millis(50);

    const READ_LIMIT: Duration = Duration::ZERO;

    fn source(_: &Slot) -> usize {
        0
    }

    fn load(slot: &Slot) -> u64 {
        slot.chunk.codes.len() as u64 + RECORD_COST
    }

    fn clear(slot: &mut Slot) {
        slot.input_end = None;
        slot.chunk.end = None;
        slot.calls.clear();
        if slot.calls.capacity() > MANY_CALLS {
            slot.calls = Vec::with_capacity(CALLS);
        }
        slot.chunk.bam.clear();
        slot.chunk.bam.shrink_to(LARGE_RECORD);
        // The closing slot has no room for bases, and comes only when the source needs none.
    }

    /// Ends a record that is open.
    fn close(&self, _: usize, send: &mut dyn FnMut(usize, Box<Slot>)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(lane), Some(mut slot)) = (open.lane.take(), open.closing.take()) {
            let reject = slot.chunk.reject(RejectReason::Stopped);
            slot.chunk.first = false;
            slot.chunk.end = Some(RecordEnd::Rejected(Box::new(reject)));
            send(lane, slot);
        }
    }
}
