//! A flow cell as a live source of this process.

use super::{Event, FlowCell};
use crate::reads::nucleotide;
use crate::stream::live::{LiveSource, LiveStep, Piece, PieceEnd, SourceError};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Longest sleep at a time, so that a run can stop.
const NAP: Duration = Duration::from_millis(20);

/// Plays a [`FlowCell`] by the clock. A piece counts as received at the time that its schedule
/// says, whether anybody was there to take it or not: a listener that falls behind sees its latency
/// grow.
pub struct Paced {
    cell: FlowCell,
    next: Option<Event>,
    start: Option<Instant>,
    slots: usize,
}

impl Paced {
    /// Starts with the first call of `next`.
    pub fn new(mut cell: FlowCell) -> Paced {
        Paced {
            next: cell.next(),
            slots: (2 * usize::from(cell.config.channels)).max(64),
            cell,
            start: None,
        }
    }
}

impl LiveSource for Paced {
    fn name(&self) -> String {
        format!("replay of {} channels", self.cell.config.channels)
    }

    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError> {
        let start = *self.start.get_or_insert_with(Instant::now);
        let Some(event) = &self.next else {
            return Ok(LiveStep::End);
        };
        let due = start + event.at;
        let wait = due.saturating_duration_since(Instant::now());
        if wait > NAP {
            std::thread::sleep(NAP);
            return Ok(LiveStep::Idle);
        }
        std::thread::sleep(wait);
        let read = &self.cell.reads[event.read];
        piece.channel = event.channel;
        piece.read = event.number;
        piece.first = event.first();
        if piece.first {
            piece.name.extend_from_slice(&read.name);
            if self.cell.config.duration.is_some() {
                // Reads come more than once. Writing to memory cannot fail.
                let _ = write!(piece.name, "/{}/{}", event.channel, event.number);
            }
        }
        nucleotide::encode(&read.letters[event.bases.clone()], &mut piece.codes);
        piece.end = event.last.then_some(PieceEnd::Complete);
        piece.received = due;
        self.next = self.cell.next();
        Ok(LiveStep::Piece)
    }

    fn slots(&self) -> (usize, usize) {
        (self.slots, self.cell.config.chunk)
    }
}
