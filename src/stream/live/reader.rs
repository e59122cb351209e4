//! The thread that reads a source: which lane a read goes down, and where its pieces belong.

use super::admission::{Arrival, Ticket};
use super::piece::PieceEnd;
use super::slot::{Live, Slot};
use super::source::{LiveSource, LiveStep};
use crate::metrics::Channels;
use crate::stream::engine::port::Port;
use crate::stream::engine::run::{Ended, Source};
use crate::stream::engine::shared::Engine;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// A read that has begun and not ended.
struct Open {
    lane: usize,
    read: u32,
    id: u64,
    /// Bases were received.
    received: bool,
    /// Bases so far, those that were lost or shed included.
    position: u64,
    /// Its beginning was rejected: its bases count, and go nowhere.
    refused: bool,
    /// The read as the admission knows it.
    ticket: Option<Ticket>,
    /// It is shed: its bases count, and go nowhere.
    shed: bool,
}

/// Reads one source.
pub(super) struct Reader {
    source: Box<dyn LiveSource>,
    open: HashMap<u16, Open>,
    channels: usize,
    /// Those that reads have come from.
    seen: HashSet<u16>,
    /// Reads begun so far.
    begun: u64,
}

impl Reader {
    pub(super) fn new(source: Box<dyn LiveSource>, channels: usize) -> Reader {
        Reader {
            source,
            open: HashMap::with_capacity(channels.min(4096)),
            channels,
            seen: HashSet::new(),
            begun: 0,
        }
    }
}

impl Source<Live> for Reader {
    fn read(&mut self, port: &Port<Live>) -> Ended {
        let name = self.source.name();
        let engine = &*port.engine;
        while let Some(mut slot) = port.free_slot() {
            let Some(step) = port.blocking(|| self.source.next(&mut slot.piece)) else {
                if !port.is_abandoned() {
                    engine.return_unused(slot);
                }
                return Ended::Early;
            };
            match step {
                Ok(LiveStep::Piece) => {
                    if self.send(port, slot, &name).is_none() {
                        return Ended::Early;
                    }
                }
                Ok(LiveStep::Rejected(reject)) => {
                    engine.metrics.received(port.source, 1, 0);
                    if reject.reason.passes_over() {
                        engine.metrics.read_passed();
                        reject.log();
                        engine.return_unused(slot);
                        continue;
                    }
                    engine.metrics.read_rejected();
                    slot.piece.clear();
                    slot.rejected = Some(reject.to_string());
                    engine.send_to_sink(slot);
                }
                Ok(LiveStep::Idle) => engine.return_unused(slot),
                Ok(LiveStep::End) => {
                    engine.return_unused(slot);
                    return Ended::Complete;
                }
                Err(error) => {
                    engine.mode.report(error);
                    engine.return_unused(slot);
                    return Ended::Complete;
                }
            }
        }
        Ended::Early
    }

    /// Waits until no more replies will come, and lets the source send the last of them.
    fn close(&mut self, port: &Port<Live>) {
        port.all_written();
        self.source.close();
    }
}

impl Reader {
    /// Sends a piece on; `None` where the run stops.
    fn send(&mut self, port: &Port<Live>, mut slot: Box<Slot>, name: &str) -> Option<()> {
        let engine = &*port.engine;
        let metrics = &engine.metrics;
        let channel = slot.piece.channel;
        let bases = slot.piece.codes.len() as u64;
        metrics.received(port.source, u64::from(slot.piece.first), bases);
        if slot.piece.first {
            if let Some(mut open) = self.open.remove(&channel)
                && !open.refused
                && open.is_with_worker()
                && end_read(port, channel, &mut open).is_none()
            {
                metrics.read_rejected();
                metrics.bases_rejected(bases);
                engine.return_unused(slot);
                return None;
            }
            let refused = self.open.len() >= self.channels;
            if refused {
                metrics.read_rejected();
                slot.rejected = Some(format!(
                    "{name}: channel {channel}: more than {} reads at a time",
                    self.channels
                ));
            }
            let lane = if refused {
                0
            } else {
                engine.mode.lane_for_read()
            };
            self.begun += 1;
            let mut open = Open {
                lane,
                read: slot.piece.read,
                id: self.begun,
                received: false,
                position: 0,
                refused,
                ticket: None,
                shed: false,
            };
            if !refused && let Some(mut admission) = engine.mode.admission() {
                let who = (port.source, channel);
                open.ticket = admission.ask(who, lane, Instant::now());
                open.shed = open.ticket.is_none();
            }
            if open.shed {
                engine.mode.read_over(lane);
            }
            self.open.insert(channel, open);
            self.seen.insert(channel);
        }
        let ends = slot.piece.end.is_some();
        let Some(open) = self.open.get_mut(&channel) else {
            // Bases of a read whose beginning was never received.
            metrics.bases_rejected(bases);
            engine.return_unused(slot);
            return Some(());
        };
        open.position += slot.piece.lost;
        slot.start = open.position;
        slot.piece.read = open.read;
        open.position += bases;
        open.received |= bases > 0;
        (slot.id, slot.received) = (open.id, open.received);
        let (lane, refused) = (open.lane, open.refused);
        let was_shed = open.shed;
        let kept = refused || open.keeps(engine, &mut slot);
        let with_worker = open.is_with_worker();
        let changed = slot.piece.first || ends || open.shed != was_shed;
        if ends {
            self.open.remove(&channel);
        }
        if changed {
            metrics.channels(port.source, self.states());
        }
        if refused {
            metrics.bases_rejected(bases);
            slot.piece.clear();
            // No read of the output's.
            slot.id = 0;
            match slot.rejected {
                Some(_) => engine.send_to_sink(slot),
                None => engine.return_unused(slot),
            }
            return Some(());
        }
        if !kept {
            metrics.bases_shed(bases);
            slot.piece.codes.clear();
            slot.shed = !with_worker;
            // A worker is to know when a read is shed, and where it was begun, when it ends.
            if was_shed && !slot.piece.first && !(ends && with_worker) {
                engine.return_unused(slot);
                return Some(());
            }
        }
        engine.send(lane, slot);
        Some(())
    }
}

impl Reader {
    /// What the channels do. Looked at when a read begins, ends or is shed: seldom.
    fn states(&self) -> Channels {
        let mut states = Channels::default();
        for open in self.open.values() {
            if open.refused {
                states.refused += 1;
            } else if open.shed {
                states.shed += 1;
            } else {
                states.reading += 1;
            }
        }
        states.waiting = (self.seen.len() - self.open.len()) as u64;
        states
    }
}

impl Open {
    /// True where a worker waits for the read's end.
    fn is_with_worker(&self) -> bool {
        !self.shed || self.ticket.is_some()
    }

    /// True where the piece in `slot` is to be scored, as far as is known now.
    fn keeps(&mut self, engine: &Engine<Live>, slot: &mut Slot) -> bool {
        let Some(mut admission) = engine.mode.admission() else {
            return true;
        };
        let (piece, now) = (&slot.piece, Instant::now());
        let arrival = Arrival {
            bases: piece.codes.len() as u64,
            last: piece.end.is_some(),
            received: piece.received,
        };
        slot.ticket = self.ticket;
        if let Some(ticket) = self.ticket {
            let positions = admission.arrived(ticket, arrival, now);
            self.shed = positions.is_none();
            slot.positions = positions.unwrap_or(0);
        } else if !piece.first {
            admission.passed((slot.source, piece.channel), arrival, now);
        }
        !self.shed
    }
}

/// Ends a read in whose place another has begun; `None` where the run stops.
fn end_read(port: &Port<Live>, channel: u16, open: &mut Open) -> Option<()> {
    let mut slot = port.free_slot()?;
    slot.piece.channel = channel;
    slot.piece.read = open.read;
    (slot.id, slot.received) = (open.id, open.received);
    slot.piece.end = Some(PieceEnd::Partial);
    slot.piece.received = Instant::now();
    slot.start = open.position;
    open.keeps(&port.engine, &mut slot);
    port.engine.send(open.lane, slot);
    Some(())
}
