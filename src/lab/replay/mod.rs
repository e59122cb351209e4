//! A flow cell in a box: reads dealt to channels, and what each channel says when.
//!
//! A [`FlowCell`] is a schedule made from a seed: it depends on nothing that happens while it is
//! played, so that a slow listener does not slow the clock. [`Paced`] plays it to a live run in
//! this process; the program's `replay` writes it as files or link frames.

mod over_link;
mod paced;
mod targets;
#[cfg(test)]
mod tests;

pub use over_link::OverLink;
pub use paced::Paced;
pub use targets::{Bursts, FastqStream, Folder, Played, Target, play};

use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use crate::reads::source::{Input, InputError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A read to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadData {
    /// Its name.
    pub name: Vec<u8>,
    /// Its bases, A, C, G, T or N.
    pub letters: Vec<u8>,
}

/// All good records of `input`. Bad ones are logged and left out.
///
/// # Errors
/// Where the input cannot be read to its end.
pub fn load(input: Input) -> Result<Vec<ReadData>, InputError> {
    let mut reader = Reader::open(input, Limits::default(), 0)?;
    let mut chunk = Chunk::with_capacity(1 << 16);
    let mut reads: Vec<ReadData> = vec![];
    loop {
        match reader.next_chunk(&mut chunk)? {
            Step::End => return Ok(reads),
            Step::Rejected(reject) => log::warn!("{reject}"),
            Step::Chunk => {
                if chunk.first {
                    let (name, letters) = (chunk.name.clone(), vec![]);
                    reads.push(ReadData { name, letters });
                }
                if let Some(read) = reads.last_mut() {
                    let letters = chunk.codes.iter().map(|&code| b"ACGTN"[usize::from(code)]);
                    read.letters.extend(letters);
                }
                if let Some(RecordEnd::Rejected(reject)) = &chunk.end {
                    log::warn!("{reject}");
                    reads.pop();
                }
            }
        }
    }
}

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowCellConfig {
    /// Channels; at least 1. A MinION has 512, a PromethION cell 3,000 (2,675 in use).
    pub channels: u16,
    /// Bases a second and channel: 400 for DNA, 130 for direct RNA.
    pub rate: f64,
    /// Bases of a chunk.
    pub chunk: usize,
    /// Mean time between two reads of a channel, in seconds.
    pub pause: f64,
    /// How much faster than life.
    pub speed: f64,
    /// The schedule depends on this.
    pub seed: u64,
    /// Seconds of the schedule, the reads beginning anew as often as it takes; a read is cut off
    /// where its next chunk would come later. `None`: each once.
    pub duration: Option<f64>,
}

impl Default for FlowCellConfig {
    /// A MinION with chunks of a second.
    fn default() -> FlowCellConfig {
        FlowCellConfig {
            channels: 512,
            rate: 400.0,
            chunk: 400,
            pause: 0.5,
            speed: 1.0,
            seed: 1,
            duration: None,
        }
    }
}

/// A piece of a read at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When its last base has been sequenced, since the start.
    pub at: Duration,
    /// The channel.
    pub channel: u16,
    /// The read's number on its channel, from 1.
    pub number: u32,
    /// Which of the reads.
    pub read: usize,
    /// Which bases of it.
    pub bases: Range<usize>,
    /// The read's last piece.
    pub last: bool,
}

impl Event {
    /// The read's first piece.
    pub fn first(&self) -> bool {
        self.bases.start == 0
    }
}

/// What a channel does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// Nanoseconds of the schedule.
    at: u64,
    channel: u16,
    number: u32,
    read: usize,
    from: usize,
    to: usize,
}

/// The events of all channels, in order of time.
#[derive(Debug, Clone)]
pub struct FlowCell {
    reads: Arc<[ReadData]>,
    config: FlowCellConfig,
    random: ChaCha8Rng,
    turns: BinaryHeap<Reverse<Turn>>,
    dealt: usize,
}

impl FlowCell {
    /// Deals the first reads to the channels.
    pub fn new(reads: Arc<[ReadData]>, config: FlowCellConfig) -> FlowCell {
        let mut cell = FlowCell {
            random: ChaCha8Rng::seed_from_u64(config.seed),
            turns: BinaryHeap::with_capacity(config.channels.into()),
            reads,
            config,
            dealt: 0,
        };
        for channel in 1..=config.channels.max(1) {
            // Any moment of a chunk, so that chunks do not all come at once.
            let phase = cell.random.random::<f64>() * config.chunk as f64 / config.rate;
            cell.deal(phase, channel, 1);
        }
        cell
    }

    /// The reads.
    pub fn reads(&self) -> &Arc<[ReadData]> {
        &self.reads
    }

    fn deal(&mut self, start: f64, channel: u16, number: u32) {
        let again = self.config.duration.is_some();
        if self.reads.is_empty() || (self.dealt >= self.reads.len() && !again) {
            return;
        }
        let read = self.dealt % self.reads.len();
        self.dealt += 1;
        self.push(start, channel, number, read, 0);
    }

    /// The piece of `read` from base `from` on, the one before which ended at `start`; false where
    /// it would end too late.
    fn push(&mut self, start: f64, channel: u16, number: u32, read: usize, from: usize) -> bool {
        let length = self.reads[read].letters.len();
        let to = (from + self.config.chunk.max(1)).min(length);
        let at = start + (to - from) as f64 / self.config.rate;
        let in_time = self.config.duration.is_none_or(|end| at <= end);
        if in_time {
            self.turns.push(Reverse(Turn {
                at: (at * 1e9) as u64,
                channel,
                number,
                read,
                from,
                to,
            }));
        }
        in_time
    }
}

impl Iterator for FlowCell {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let Reverse(turn) = self.turns.pop()?;
        let Turn {
            channel,
            number,
            read,
            from,
            to,
            ..
        } = turn;
        let at = turn.at as f64 / 1e9;
        let whole = to == self.reads[read].letters.len();
        let last = whole || !self.push(at, channel, number, read, to);
        if last {
            // Exponential: pores catch molecules by chance.
            let pause = -self.config.pause * (1.0 - self.random.random::<f64>()).ln();
            self.deal(at + pause, channel, number + 1);
        }
        Some(Event {
            at: Duration::from_nanos((turn.at as f64 / self.config.speed) as u64),
            channel,
            number,
            read,
            bases: from..to,
            last,
        })
    }
}
