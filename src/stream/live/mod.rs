//! Reads that are still being sequenced: thousands at once, from several sources, against the
//! clock.
//!
//! ```text
//!   source 0 --\          /--> lane 0 --> worker 0 --\
//!   source 1 ---+--------+                            +--> finished --> sink (the caller's thread)
//!   source 2 --/          \--> lane 1 --> worker 1 --/
//! ```
//!
//! A source is a thread that turns what it hears into [`Piece`]s: the next bases of a channel's
//! read. All pieces of a read go down one lane, in order; its worker holds the read's state, scores
//! every position whose context is there, and gives the calls on at once. Slots for pieces are made
//! once, and each source has its own, so that one that hears much does not silence another. States
//! are recycled: a channel has one read at a time, and [`LiveConfig::channels`] bounds how many
//! there may be.
//!
//! **Stretches.** Where bases are missing, because the link lost them or because they were shed, a
//! read falls into stretches. Each is annotated as if it were a read of its own, at its place in
//! the read, and its calls carry [`Flags::PARTIAL`](crate::call::Flags::PARTIAL). Nothing is joined
//! across a gap, and the calls of a read without one are exactly those of the same read from a
//! file.
//!
//! **Overload.** With a deadline each piece has a time by which its calls should have been written;
//! [`OverloadPolicy`] says what becomes of pieces that cannot keep it. Beginnings and ends of reads
//! are never shed, only bases.
//!
//! **Nothing disappears.** reads in = reads out + rejected + shed, and bases received = scored +
//! without context + shed + rejected. A run that is stopped finishes what it has received, or
//! counts it, within a second.

mod overload;
mod queue;
mod source;
#[cfg(test)]
mod tests;
mod worker;

pub use overload::OverloadPolicy;
pub use source::{Records, SourceError};

use crate::annotate::Annotate;
use crate::call::Call;
use crate::metrics::{Metrics, SourceCounters};
use crate::reads::fastx::Reject;
use queue::{Shared, Slot};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often a waiting sink looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(20);

/// The next bases of a channel's read.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The channel; it has one read at a time.
    pub channel: u16,
    /// The read's number on its channel, as the source counts.
    pub read: u32,
    /// The read's name; needed on its first piece only.
    pub name: Vec<u8>,
    /// This piece begins its read.
    pub first: bool,
    /// Bases as codes, 0 to 4.
    pub codes: Vec<u8>,
    /// Bases of the read that were lost before these.
    pub lost: u64,
    /// `Some` on the read's last piece.
    pub end: Option<PieceEnd>,
    /// When the last of the bytes it was made from came in.
    pub received: Instant,
}

impl Piece {
    /// An empty piece with room for `bases`.
    pub fn with_capacity(bases: usize) -> Piece {
        Piece {
            channel: 0,
            read: 0,
            name: Vec::with_capacity(64),
            first: false,
            codes: Vec::with_capacity(bases),
            lost: 0,
            end: None,
            received: Instant::now(),
        }
    }

    /// Empties it, keeping its buffers.
    pub fn clear(&mut self) {
        self.name.clear();
        self.codes.clear();
        self.first = false;
        self.lost = 0;
        self.end = None;
    }
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceEnd {
    /// As the sequencer meant it to.
    Complete,
    /// Its end was lost: the link broke, the device began anew, or the run was stopped.
    Partial,
}

/// What a source came upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveStep {
    /// The piece was filled.
    Piece,
    /// A record that is bad. The piece's content means nothing.
    Rejected(Box<Reject>),
    /// Nothing, for some 50 ms.
    Idle,
    /// There will be no more.
    End,
}

/// Where pieces come from. Implementations return within some 50 ms, so that a run can stop; one
/// that does not is left behind.
pub trait LiveSource: Send {
    /// The name in messages and counters.
    fn name(&self) -> String;

    /// Fills `piece`, which is clear.
    ///
    /// # Errors
    /// What ends the source; its open reads then end as [`PieceEnd::Partial`].
    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError>;

    /// Pieces of this source that may be on their way at a time, and the bases each has room for
    /// from the start.
    fn slots(&self) -> (usize, usize) {
        (2048, 1024)
    }

    /// Every piece has been dealt with, so that no more replies will come: the time to send the
    /// last of them.
    fn part(&mut self) {}

    /// The way back, where there is one.
    fn replies(&self) -> Option<Arc<dyn Replies>> {
        None
    }

    /// Counters of its own, readable while it runs.
    fn counters(&self) -> Option<Arc<dyn SourceCounters>> {
        None
    }
}

/// Sends something back to where a read comes from. Implementations never block: what finds no room
/// is dropped and counted.
pub trait Replies: Send + Sync {
    /// Keep the read, or eject it.
    fn decision(&self, channel: u16, read: u32, eject: bool);

    /// A call of the read.
    fn call(&self, channel: u16, read: u32, call: &Call);
}

/// How a live run is done.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// Workers; at least 1.
    pub threads: usize,
    /// From a piece received to its calls written.
    pub deadline: Option<Duration>,
    /// What becomes of pieces that cannot keep it.
    pub overload: OverloadPolicy,
    /// Reads of one source at a time; another's beginning is rejected.
    pub channels: usize,
}

impl Default for LiveConfig {
    /// A worker a core, no deadline, 4,096 channels a source.
    fn default() -> LiveConfig {
        LiveConfig {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            deadline: None,
            overload: OverloadPolicy::Block,
            channels: 4096,
        }
    }
}

/// A piece that was dealt with.
#[derive(Debug, Clone, Copy)]
pub struct FinishedPiece<'a> {
    /// Which source, from 0.
    pub source: usize,
    /// The channel.
    pub channel: u16,
    /// The read's number on its channel.
    pub read: u32,
    /// The read's name.
    pub name: &'a [u8],
    /// This piece began the read.
    pub first: bool,
    /// The calls that it made certain, in order of position.
    pub calls: &'a [Call],
    /// Calls of positions before this one are all known.
    pub known_to: u64,
    /// `Some` where the read is over.
    pub end: Option<PieceEnd>,
    /// When the piece came in.
    pub received: Instant,
}

/// Where a live run writes.
pub trait LiveOutput {
    /// Takes a piece. Those of one read come in order, mixed with those of others.
    ///
    /// # Errors
    /// Stop the run.
    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()>;

    /// Nothing more is waiting at this moment: a time to flush.
    ///
    /// # Errors
    /// Stop the run.
    fn pause(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Learns of a rejected read. Logs a warning unless overridden.
    fn rejected(&mut self, reason: &str) {
        log::warn!("{reason}");
    }
}

/// How a live run ended that nothing broke off.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct LiveOutcome {
    /// What ended sources early, each logged as an error when it happened.
    pub errors: Vec<SourceError>,
    /// The run was stopped before the end of its sources.
    pub stopped: bool,
}

/// What breaks a live run off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The output took no more.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Hears all `sources` at once, annotates, and writes to `output`, on this thread. Returns when all
/// sources have ended, or within a second of `stop`.
///
/// # Errors
/// What breaks the run off. A source that fails does not.
pub fn run<A: Annotate>(
    config: &LiveConfig,
    sources: Vec<Box<dyn LiveSource>>,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn LiveOutput,
) -> Result<LiveOutcome, LiveError> {
    let threads = config.threads.max(1);
    let named = sources.iter().map(|s| (s.name(), s.counters()));
    metrics.live(named, config.deadline);
    let (shared, bells) = Shared::new(config, threads, &sources, metrics.clone(), stop.clone());
    let shared = Arc::new(shared);
    for (number, (source, bell)) in sources.into_iter().zip(bells.sources).enumerate() {
        source::spawn(shared.clone(), bell, number, source, config.channels).map_err(|e| {
            shared.halt();
            LiveError::Thread(e)
        })?;
    }
    let written = std::thread::scope(|scope| {
        // Also when `output` panics: the scope waits for the workers, and they for the sources.
        let _halt = queue::HaltOnDrop(&shared);
        for (lane, bell) in bells.lanes.into_iter().enumerate() {
            let shared = &*shared;
            std::thread::Builder::new()
                .name(format!("worker {lane}"))
                .spawn_scoped(scope, move || worker::work(shared, lane, &bell, annotator))
                .map_err(|e| {
                    shared.lanes_without_worker(threads - lane);
                    LiveError::Thread(e)
                })?;
        }
        write(&shared, &bells.sink, output)
    });
    written?;
    shared.wait_for_parting();
    Ok(LiveOutcome {
        errors: shared.take_errors(),
        stopped: shared.stopped_early(),
    })
}

/// Pieces written before the output is told to flush, where it never has a pause.
const FLUSH: usize = 256;

/// The sink.
fn write(
    shared: &Shared,
    bell: &queue::Bell,
    output: &mut dyn LiveOutput,
) -> Result<(), LiveError> {
    let mut result = Ok(());
    // When the pieces came in whose calls lie in the output's buffer: they are written when it is
    // flushed.
    let mut unflushed = Vec::with_capacity(FLUSH);
    loop {
        let waiting = shared.try_finished();
        if !unflushed.is_empty() && (waiting.is_none() || unflushed.len() == FLUSH) {
            if result.is_ok() {
                result = output.pause();
            }
            shared.metrics.flushed(&unflushed);
            unflushed.clear();
        }
        let Some(slot) = waiting.or_else(|| shared.next_finished(bell, LOOK)) else {
            break;
        };
        if result.is_ok() {
            result = write_slot(shared, &slot, output);
        }
        if result.is_err() {
            shared.halt();
        }
        if !slot.piece.codes.is_empty() {
            unflushed.push(slot.piece.received);
        }
        shared.give_back(slot);
    }
    result.map_err(LiveError::Output)
}

fn write_slot(shared: &Shared, slot: &Slot, output: &mut dyn LiveOutput) -> io::Result<()> {
    if slot.closes {
        return Ok(());
    }
    if let Some(reason) = &slot.rejected {
        output.rejected(reason);
    }
    output.piece(&FinishedPiece {
        source: slot.source,
        channel: slot.piece.channel,
        read: slot.piece.read,
        name: &slot.piece.name,
        first: slot.piece.first,
        calls: &slot.calls,
        known_to: slot.known_to,
        end: slot.piece.end,
        received: slot.piece.received,
    })?;
    shared
        .metrics
        .calls(slot.calls.iter().map(|call| call.kind as usize));
    Ok(())
}
