//! The way back to a board.

use super::counters::LinkCounters;
use crate::call::{Call, CallKind, Strand};
use crate::stream::live::source::Replies;
use crossbeam::queue::ArrayQueue;
use firmware_bridge::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Replies that wait to be sent.
const REPLIES: usize = 4096;

/// A reply on its way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    Decision(u16, u32, bool),
    Call(u16, u32, Call),
}

/// Calls and decisions on their way back.
pub(super) struct Outbox {
    queue: ArrayQueue<Reply>,
    counters: Arc<LinkCounters>,
}

impl Outbox {
    pub(super) fn new(counters: Arc<LinkCounters>) -> Outbox {
        Outbox {
            queue: ArrayQueue::new(REPLIES),
            counters,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next reply to send.
    pub(super) fn pop(&self) -> Option<Reply> {
        self.queue.pop()
    }

    /// A reply was not sent.
    pub(super) fn dropped(&self) {
        self.counters.replies_dropped.fetch_add(1, Relaxed);
    }

    fn put(&self, reply: Reply) {
        if self.queue.push(reply).is_err() {
            self.dropped();
        }
    }
}

impl Replies for Outbox {
    fn decision(&self, channel: u16, read: u32, eject: bool) {
        self.put(Reply::Decision(channel, read, eject));
    }

    fn call(&self, channel: u16, read: u32, call: &Call) {
        self.put(Reply::Call(channel, read, *call));
    }
}

impl Reply {
    pub(super) fn message(&self) -> Message<'static> {
        match *self {
            Reply::Decision(channel, read, eject) => Message::Decision {
                channel,
                read,
                eject,
            },
            Reply::Call(channel, read, call) => Message::Call {
                channel,
                read,
                position: u32::try_from(call.start).unwrap_or(u32::MAX),
                kind: match call.kind {
                    CallKind::Donor => 0,
                    CallKind::Acceptor => 1,
                    CallKind::Promoter => 2,
                    CallKind::Expression => 3,
                    CallKind::PromoterStrength => 4,
                },
                reverse: call.strand == Strand::Reverse,
                score: call.score,
            },
        }
    }
}
