//! Messages to pieces of reads: which read bases belong to, and what is missing of it.

use super::counters::LinkCounters;
use crate::stream::live::piece::{Piece, PieceEnd};
use firmware_bridge::{EndReason, MAX_BASES, Message};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Missing frames above which positions, which wrap at 65,536, no longer tell how many bases they
/// held.
const AMBIGUOUS: u64 = 65_536 / MAX_BASES as u64;

struct Open {
    read: u32,
    /// Where the next base is expected.
    position: u64,
    /// Frames of the link that were missing when the read's last message came.
    missing: u64,
    marked: bool,
}

/// Whether the numbers of a board's reads count up by one on each channel. Bases carry only the
/// last four bits of their read's number; on those alone they may be placed behind missing frames
/// only where numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// Not seen yet: a gap ends the read.
    Unknown,
    Seen,
    /// Seen not to, which the board is to know.
    Broken {
        said: bool,
    },
}

/// The read that a channel began last.
struct Last {
    read: u32,
    /// Frames that were missing then.
    missing: u64,
}

/// The open reads of a link.
pub struct Reads {
    open: HashMap<u16, Open>,
    last: HashMap<u16, Last>,
    counting: Counting,
    /// Channels whose reads are over without an end.
    closing: Vec<(u16, u32)>,
    counters: Arc<LinkCounters>,
}

impl Reads {
    /// None open.
    pub fn new(counters: Arc<LinkCounters>) -> Reads {
        Reads {
            open: HashMap::new(),
            last: HashMap::new(),
            counting: Counting::Unknown,
            closing: vec![],
            counters,
        }
    }

    /// True where a read has begun and not ended.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// True once, where the board's numbers were seen not to count up.
    pub fn miscounts(&mut self) -> bool {
        let new = self.counting == Counting::Broken { said: false };
        if new {
            self.counting = Counting::Broken { said: true };
        }
        new
    }

    /// Takes note of the number of a read that begins.
    fn count(&mut self, channel: u16, read: u32, from: u32, missing: u64) {
        let Some(last) = self.last.insert(channel, Last { read, missing }) else {
            return;
        };
        let again = read == last.read && from > 0;
        let next = read == last.read.wrapping_add(1);
        if next && self.counting == Counting::Unknown {
            self.counting = Counting::Seen;
        }
        // Starts that are missing may have had the numbers between.
        let excused = missing > last.missing && read > last.read;
        if !(next || again || excused || matches!(self.counting, Counting::Broken { .. })) {
            self.counting = Counting::Broken { said: false };
        }
    }

    /// All open reads are over: their board is gone, or another one.
    pub fn close(&mut self) {
        self.last.clear();
        // A board that has begun anew is the same kind of board.
        if self.counting != Counting::Seen {
            self.counting = Counting::Unknown;
        }
        let open = self.open.drain();
        self.closing
            .extend(open.map(|(channel, open)| (channel, open.read)));
        // In any order; this one is the same each time.
        self.closing.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// The same, and who comes next may be any kind of board.
    pub fn forget(&mut self) {
        self.close();
        self.counting = Counting::Unknown;
    }

    /// Gives the end of a read that is over without one; false where there is none.
    pub fn next_end(&mut self, piece: &mut Piece, received: Instant) -> bool {
        let Some((channel, read)) = self.closing.pop() else {
            return false;
        };
        self.counters.reads_marked.fetch_add(1, Relaxed);
        piece.channel = channel;
        piece.read = read;
        piece.end = Some(PieceEnd::Partial);
        piece.received = received;
        true
    }

    /// Takes a read start, bases or a read end; `missing` frames of the link so far. True where it
    /// filled `piece`, which is clear.
    pub fn receive(&mut self, message: &Message<'_>, missing: u64, piece: &mut Piece) -> bool {
        match *message {
            Message::ReadStart {
                channel,
                read,
                from,
                name,
                ..
            } => {
                self.count(channel, read, from, missing);
                // A read that is open there ends as partial: the live run sees to it.
                let position = u64::from(from);
                if self.open.remove(&channel).is_some() || from > 0 {
                    self.counters.reads_marked.fetch_add(1, Relaxed);
                }
                self.counters.lost_bases.fetch_add(position, Relaxed);
                let open = Open {
                    read,
                    position,
                    missing,
                    marked: from > 0,
                };
                self.open.insert(channel, open);
                (piece.channel, piece.read, piece.first) = (channel, read, true);
                piece.name.extend_from_slice(name);
                piece.lost = position;
                true
            }
            Message::Bases {
                channel,
                read,
                position,
                bases,
            } => {
                let count = bases.len() as u64;
                let own = self.open.get_mut(&channel);
                let own = own.filter(|open| open.read & 0xf == u32::from(read));
                let Some(open) = own else {
                    self.counters.orphaned_bases.fetch_add(count, Relaxed);
                    return self.end(channel, piece);
                };
                let lost = u64::from(position.wrapping_sub(open.position as u16));
                // Bases are lost with frames, or not at all.
                let gap = missing - open.missing;
                let doubtful = gap > 0 && self.counting != Counting::Seen;
                if doubtful || gap >= AMBIGUOUS || (lost > 0 && lost > gap * MAX_BASES as u64) {
                    self.counters.orphaned_bases.fetch_add(count, Relaxed);
                    return self.end(channel, piece);
                }
                if lost > 0 && !open.marked {
                    open.marked = true;
                    self.counters.reads_marked.fetch_add(1, Relaxed);
                }
                self.counters.lost_bases.fetch_add(lost, Relaxed);
                open.position += lost + count;
                open.missing = missing;
                (piece.channel, piece.read, piece.lost) = (channel, open.read, lost);
                piece.codes.extend(bases.codes());
                true
            }
            Message::ReadEnd {
                channel,
                read,
                length,
                reason,
            } => {
                let Some(open) = self.open.get(&channel) else {
                    return false;
                };
                let (length, position) = (u64::from(length), open.position);
                if open.read != read || length < position {
                    return self.end(channel, piece);
                }
                let marked = open.marked;
                self.open.remove(&channel);
                let lost = length - position;
                self.counters.lost_bases.fetch_add(lost, Relaxed);
                let whole = lost == 0 && !marked && reason != EndReason::Aborted;
                if !whole && !marked {
                    self.counters.reads_marked.fetch_add(1, Relaxed);
                }
                (piece.channel, piece.read, piece.lost) = (channel, read, lost);
                piece.end = Some(if whole {
                    PieceEnd::Complete
                } else {
                    PieceEnd::Partial
                });
                true
            }
            _ => false,
        }
    }

    /// Ends the read that is open on a channel, of which nothing more can be placed.
    fn end(&mut self, channel: u16, piece: &mut Piece) -> bool {
        let Some(open) = self.open.remove(&channel) else {
            return false;
        };
        if !open.marked {
            self.counters.reads_marked.fetch_add(1, Relaxed);
        }
        (piece.channel, piece.read) = (channel, open.read);
        piece.end = Some(PieceEnd::Partial);
        true
    }
}
