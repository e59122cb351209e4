//! The way back to a board.

use super::counters::LinkCounters;
use crate::call::{Call, CallKind, Strand};
use crate::stream::live::source::Replies;
use crossbeam::queue::ArrayQueue;
use firmware_bridge::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Calls that wait to be sent: what comes beyond is dropped and counted.
const CALLS: usize = 4096;

/// Decisions that wait: all are sent between two pieces, and twice as many as pieces of a link can
/// be on their way, each with one decision at most.
const DECISIONS: usize = 4096;

/// A reply on its way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    Decision(u16, u32, bool),
    Call(u16, u32, Call),
}

/// Calls and decisions on their way back. Decisions have a queue of their own and go first: a flood
/// of calls costs none of them, nor their time.
pub(super) struct Outbox {
    decisions: ArrayQueue<Reply>,
    calls: ArrayQueue<Reply>,
    counters: Arc<LinkCounters>,
}

impl Outbox {
    pub(super) fn new(counters: Arc<LinkCounters>) -> Outbox {
        Outbox {
            decisions: ArrayQueue::new(DECISIONS),
            calls: ArrayQueue::new(CALLS),
            counters,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.calls.is_empty()
    }

    /// The next decision to send.
    pub(super) fn decision(&self) -> Option<Reply> {
        self.decisions.pop()
    }

    /// The next call to send.
    pub(super) fn call(&self) -> Option<Reply> {
        self.calls.pop()
    }

    /// A reply was not sent.
    pub(super) fn dropped(&self, reply: &Reply) {
        let counter = match reply {
            Reply::Decision(..) => &self.counters.decisions_dropped,
            Reply::Call(..) => &self.counters.calls_dropped,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Drops all that waits: the board that it is for is gone.
    pub(super) fn clear(&self) {
        while let Some(reply) = self.decision().or_else(|| self.call()) {
            self.dropped(&reply);
        }
    }

    fn put(&self, queue: &ArrayQueue<Reply>, reply: Reply) {
        if let Err(reply) = queue.push(reply) {
            self.dropped(&reply);
        }
    }
}

impl Replies for Outbox {
    fn decision(&self, channel: u16, read: u32, eject: bool) {
        self.put(&self.decisions, Reply::Decision(channel, read, eject));
    }

    fn call(&self, channel: u16, read: u32, call: &Call) {
        self.put(&self.calls, Reply::Call(channel, read, *call));
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
                    CallKind::Tf => 5,
                },
                reverse: call.strand == Strand::Reverse,
                score: call.score,
            },
        }
    }
}
