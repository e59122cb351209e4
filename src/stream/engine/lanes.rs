//! A worker's queue.

use super::queue::{put, wait};
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// The queue of one worker.
pub(super) struct Lane<S> {
    queue: ArrayQueue<Box<S>>,
    waker: Unparker,
    /// What is queued and being worked on.
    load: AtomicU64,
    has_worker: AtomicBool,
}

impl<S> Lane<S> {
    /// A lane whose worker waits on the parker of `waker`.
    pub(super) fn new(room: usize, waker: Unparker) -> Lane<S> {
        Lane {
            queue: ArrayQueue::new(room),
            waker,
            load: AtomicU64::new(0),
            has_worker: AtomicBool::new(true),
        }
    }

    pub(super) fn push(&self, slot: Box<S>, load: u64) {
        self.load.fetch_add(load, SeqCst);
        put(&self.queue, slot);
        self.waker.unpark();
    }

    /// The next slot; `None` when `ended` and nothing is left.
    pub(super) fn next(&self, parker: &Parker, ended: impl Fn() -> bool) -> Option<Box<S>> {
        wait(parker, None, || {
            // In this order: what was sent before the end is still there.
            let ended = ended();
            match self.queue.pop() {
                Some(slot) => Some(Some(slot)),
                None => ended.then_some(None),
            }
        })
        .flatten()
    }

    /// Work of this load is done.
    pub(super) fn relieve(&self, load: u64) {
        self.load.fetch_sub(load, SeqCst);
    }

    pub(super) fn load(&self) -> u64 {
        self.load.load(SeqCst)
    }

    pub(super) fn wake(&self) {
        self.waker.unpark();
    }

    pub(super) fn worker_ended(&self) {
        self.has_worker.store(false, SeqCst);
    }

    /// The next slot that no worker will come for. Asked by the one who sends after each push and
    /// by the worker's end, so that neither can miss a slot.
    pub(super) fn orphan(&self) -> Option<Box<S>> {
        if self.has_worker.load(SeqCst) {
            return None;
        }
        self.queue.pop()
    }
}
