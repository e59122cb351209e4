//! The threads that hear sources, and records of a file as pieces.

use super::queue::{Bell, Shared, Slot};
use super::{LiveSource, LiveStep, OverloadPolicy, Piece, PieceEnd};
use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use crate::reads::source::{Input, InputError};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// What ended a source before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or a stream of records.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Anything else; the message names the source.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts a source. It is not joined: it may sit in a read that nothing can end.
pub(super) fn spawn(
    shared: Arc<Shared>,
    bell: Bell,
    number: usize,
    source: Box<dyn LiveSource>,
    channels: usize,
) -> io::Result<()> {
    let name = format!("source {number}");
    let ear = Ear {
        shared,
        bell,
        number,
        open: HashMap::with_capacity(channels.min(4096)),
        channels,
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(move || ear.hear(source))
        .map(drop)
}

/// A read that has begun and not ended.
struct Open {
    lane: usize,
    read: u32,
    /// Bases so far, those that were lost or shed included.
    position: u64,
    /// Its beginning was rejected: its bases count, and go nowhere.
    refused: bool,
}

struct Ear {
    shared: Arc<Shared>,
    bell: Bell,
    number: usize,
    open: HashMap<u16, Open>,
    channels: usize,
}

impl Ear {
    fn hear(mut self, mut source: Box<dyn LiveSource>) {
        let name = source.name();
        let early = loop {
            let Some(mut slot) = self.shared.free_slot(self.number, &self.bell) else {
                break true;
            };
            self.shared.hears(self.number);
            let step = source.next(&mut slot.piece);
            if !self.shared.tells(self.number) {
                return;
            }
            match step {
                Ok(LiveStep::Piece) => {
                    if !self.tell(slot, &name) {
                        break true;
                    }
                }
                Ok(LiveStep::Rejected(reject)) => {
                    self.shared.metrics.heard(self.number, 1, 0);
                    if reject.reason.passes_over() {
                        self.shared.metrics.read_passed();
                        reject.log();
                        self.shared.return_unused(slot);
                        continue;
                    }
                    self.shared.metrics.read_rejected();
                    slot.piece.clear();
                    slot.rejected = Some(reject.to_string());
                    self.shared.send_rejected(slot);
                }
                Ok(LiveStep::Idle) => self.shared.return_unused(slot),
                Ok(LiveStep::End) => {
                    self.shared.return_unused(slot);
                    break false;
                }
                Err(error) => {
                    self.shared.report(error);
                    self.shared.return_unused(slot);
                    break false;
                }
            }
            if self.shared.stopping() {
                break true;
            }
        };
        self.shared.parts();
        self.shared.end_source(self.number, early);
        self.shared.wait_for_pieces(self.number);
        source.part();
        self.shared.has_parted();
    }

    /// Sends a piece on; false where the run stops.
    fn tell(&mut self, mut slot: Box<Slot>, name: &str) -> bool {
        let metrics = &self.shared.metrics;
        let channel = slot.piece.channel;
        let bases = slot.piece.codes.len() as u64;
        metrics.heard(self.number, u64::from(slot.piece.first), bases);
        if slot.piece.first {
            if let Some(open) = self.open.remove(&channel)
                && !open.refused
                && !self.end(channel, &open)
            {
                metrics.read_rejected();
                metrics.bases_rejected(bases);
                return false;
            }
            let refused = self.open.len() >= self.channels;
            if refused {
                metrics.read_rejected();
                slot.rejected = Some(format!(
                    "{name}: channel {channel}: more than {} reads at a time",
                    self.channels
                ));
            }
            let lane = if refused { 0 } else { self.shared.lane() };
            let open = Open {
                lane,
                read: slot.piece.read,
                position: 0,
                refused,
            };
            self.open.insert(channel, open);
        }
        let ends = slot.piece.end.is_some();
        let Some(open) = self.open.get_mut(&channel) else {
            // Bases of a read whose beginning was never heard.
            metrics.bases_rejected(bases);
            self.shared.return_unused(slot);
            return true;
        };
        open.position += slot.piece.lost;
        slot.start = open.position;
        slot.piece.read = open.read;
        open.position += bases;
        let (lane, refused) = (open.lane, open.refused);
        if ends {
            self.open.remove(&channel);
        }
        if refused {
            metrics.bases_rejected(bases);
            slot.piece.clear();
            match slot.rejected {
                Some(_) => self.shared.send_rejected(slot),
                None => self.shared.return_unused(slot),
            }
            return true;
        }
        if let (OverloadPolicy::ShedNewest, Some(deadline)) =
            (self.shared.policy, self.shared.deadline)
            && self.shared.wait_on(lane, bases as usize) > deadline
        {
            metrics.bases_shed(bases);
            slot.piece.codes.clear();
            if !slot.piece.first && !ends {
                self.shared.return_unused(slot);
                return true;
            }
        }
        self.shared.send(lane, slot);
        true
    }

    /// Ends a read in whose place another has begun.
    fn end(&self, channel: u16, open: &Open) -> bool {
        let Some(mut slot) = self.shared.free_slot(self.number, &self.bell) else {
            return false;
        };
        slot.piece.channel = channel;
        slot.piece.read = open.read;
        slot.piece.end = Some(PieceEnd::Partial);
        slot.piece.received = std::time::Instant::now();
        slot.start = open.position;
        self.shared.send(open.lane, slot);
        true
    }
}

/// The records of a FASTA or FASTQ input, one after another, as reads of one channel.
pub struct Records {
    name: Arc<str>,
    input: Option<Input>,
    reader: Option<Reader>,
    limits: Limits,
    chunk: Chunk,
    read: u32,
}

impl Records {
    /// Reads `input` when first asked.
    pub fn new(input: Input, limits: Limits) -> Records {
        Records {
            name: input.name().into(),
            input: Some(input),
            reader: None,
            chunk: Chunk::with_capacity(limits.chunk_bases),
            limits,
            read: 0,
        }
    }

    fn step(&mut self, piece: &mut Piece) -> Result<LiveStep, InputError> {
        if let Some(input) = self.input.take() {
            let bytes = input.open()?;
            self.reader = Some(Reader::new(self.name.clone(), bytes, self.limits, 0)?);
        }
        let Some(reader) = &mut self.reader else {
            return Ok(LiveStep::End);
        };
        let chunk = &mut self.chunk;
        match reader.next_chunk(chunk)? {
            Step::End => return Ok(LiveStep::End),
            Step::Rejected(reject) => return Ok(LiveStep::Rejected(reject)),
            Step::Chunk => {}
        }
        if chunk.first {
            self.read = self.read.wrapping_add(1);
        }
        piece.read = self.read;
        piece.first = chunk.first;
        piece.name.extend_from_slice(&chunk.name);
        std::mem::swap(&mut piece.codes, &mut chunk.codes);
        piece.received = chunk.received;
        piece.end = match &chunk.end {
            None => None,
            Some(RecordEnd::Complete) => Some(PieceEnd::Complete),
            Some(RecordEnd::Rejected(reject)) => {
                log::warn!("{reject}");
                Some(PieceEnd::Partial)
            }
        };
        Ok(LiveStep::Piece)
    }
}

impl LiveSource for Records {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError> {
        Ok(self.step(piece)?)
    }

    fn slots(&self) -> (usize, usize) {
        (16, self.limits.chunk_bases)
    }
}
