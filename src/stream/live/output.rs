//! Where a live run writes, and how it ends.

use super::piece::PieceEnd;
use super::source::{Replies, SourceError};
use crate::call::Call;
use crate::sink::CallWriter;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

/// A piece that was dealt with.
#[derive(Debug, Clone, Copy)]
pub struct FinishedPiece<'a> {
    /// Which source, from 0.
    pub source: usize,
    /// The channel.
    pub channel: u16,
    /// The read's number on its channel, which a source may give twice.
    pub read: u32,
    /// Tells the read from every other one of its source in this run.
    pub id: u64,
    /// The read's name.
    pub name: &'a [u8],
    /// This piece began the read.
    pub first: bool,
    /// The calls that it made certain: those of each model in order of position.
    pub calls: &'a [Call],
    /// Calls of positions before this one are all known.
    pub known_to: u64,
    /// `Some` where the read is over.
    pub end: Option<PieceEnd>,
    /// It is over because of overload: it was not begun, or was given up.
    pub shed: bool,
    /// `Some` where the read counts as out with this piece: the bases from its first to the last
    /// one that was taken in.
    pub out: Option<u64>,
    /// When the piece came in.
    pub received: Instant,
}

/// A source as outputs know it.
#[derive(Clone)]
pub struct SourceInfo {
    /// Its name in messages.
    pub name: String,
    /// The way back, where there is one.
    pub replies: Option<Arc<dyn Replies>>,
}

/// Where a live run writes. The calls have been sent on the way back of their source before.
pub trait LiveOutput {
    /// The run begins; [`FinishedPiece::source`] counts these sources.
    fn begin(&mut self, _sources: &[SourceInfo]) {}

    /// Takes a piece. Those of one read come in order, mixed with those of others; a channel's next
    /// read may begin before the last pieces of the one before.
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
    /// A thread died where none can; a bug.
    #[error("internal error: a thread of the live run died")]
    ThreadDied,
}

/// Writes the calls.
impl<W: Write> LiveOutput for CallWriter<W> {
    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        self.write_calls(finished.name, finished.calls)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl<O: LiveOutput + ?Sized> LiveOutput for &mut O {
    fn begin(&mut self, sources: &[SourceInfo]) {
        (**self).begin(sources);
    }

    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        (**self).piece(finished)
    }

    fn pause(&mut self) -> io::Result<()> {
        (**self).pause()
    }

    fn rejected(&mut self, reason: &str) {
        (**self).rejected(reason);
    }
}
