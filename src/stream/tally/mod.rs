//! What a run saw, in numbers and in the calls of its longest reads; in bounded memory.

mod lengths;
mod scores;
mod strongest;

pub use lengths::{LengthBin, Lengths};
pub use scores::{BINS, FLAGS, Scores, height, range};
pub use strongest::Strongest;

use super::observe::{ReadObserver, SeenRead};
use crate::call::{Call, CallKind};
use crate::sink::clean;
use std::collections::HashMap;

/// The longest reads whose calls are kept.
const READS: usize = 10;

/// Calls that are kept of each.
const CALLS: usize = 500;

/// A read and its strongest calls.
#[derive(Debug)]
pub struct LongRead {
    /// Its name, without control characters.
    pub name: String,
    /// Its length, in bases.
    pub length: u64,
    /// Its calls.
    pub calls: Strongest,
}

/// What a run saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of reads that are out.
    pub lengths: Lengths,
    /// Calls that were written, by kind.
    pub scores: [Scores; CallKind::ALL.len()],
    /// The longest reads, the longest first; of equal ones those that ended first.
    pub longest: Vec<LongRead>,
    /// Calls of reads that are not over.
    open: HashMap<(usize, u64), Strongest>,
}

impl ReadObserver for Tally {
    fn calls(&mut self, read: SeenRead<'_>, calls: &[Call]) {
        for call in calls {
            self.scores[call.kind as usize].add(call);
        }
        let open = self.open.entry(read.id);
        open.or_insert_with(|| Strongest::new(CALLS)).add(calls);
    }

    fn end(&mut self, read: SeenRead<'_>, length: Option<u64>) {
        let calls = self.open.remove(&read.id);
        let Some(length) = length else {
            return;
        };
        self.lengths.add(length);
        let place = self.longest.partition_point(|own| own.length >= length);
        if place < READS {
            self.longest.truncate(READS - 1);
            let own = LongRead {
                name: clean(read.name),
                length,
                calls: calls.unwrap_or_else(|| Strongest::new(CALLS)),
            };
            self.longest.insert(place, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Flags, Strand};

    fn call(start: u64) -> Call {
        Call {
            start,
            end: start + 1,
            strand: Strand::Reverse,
            kind: CallKind::Acceptor,
            score: 0.5,
            flags: Flags::NONE,
            model: 0,
        }
    }

    fn read(source: usize, id: u64) -> SeenRead<'static> {
        SeenRead {
            id: (source, id),
            name: b"r\x1b",
        }
    }

    #[test]
    fn reads_that_take_turns_are_kept_apart_and_none_stays() {
        let mut tally = Tally::default();
        for id in 0..40 {
            tally.calls(read(0, id), &[call(1)]);
            tally.calls(read(1, id), &[call(2), call(3)]);
        }
        for id in 0..40 {
            // The reads of the second source are rejected.
            tally.end(read(0, id), Some(100 + id % 20));
            tally.end(read(1, id), None);
        }
        assert!(tally.open.is_empty());
        assert_eq!(tally.scores[CallKind::Acceptor as usize].calls(), 120);
        assert_eq!((tally.lengths.reads(), tally.lengths.longest()), (40, 119));
        let lengths: Vec<u64> = tally.longest.iter().map(|own| own.length).collect();
        assert_eq!(lengths, [119, 119, 118, 118, 117, 117, 116, 116, 115, 115]);
        assert!(tally.longest.iter().all(|own| own.calls.seen() == 1));
        assert_eq!(tally.longest[0].name, "r\u{fffd}");
    }
}
