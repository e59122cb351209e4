//! Where pieces come from, and the way back.

use super::piece::Piece;
use crate::call::Call;
use crate::metrics::SourceCounters;
use crate::reads::fastx::Reject;
use crate::reads::source::InputError;
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
    /// What ends the source; its open reads then end as
    /// [`PieceEnd::Partial`](super::PieceEnd::Partial).
    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError>;

    /// Pieces of this source that may be on their way at a time, and the bases each has room for
    /// from the start.
    fn slots(&self) -> (usize, usize) {
        (2048, 1024)
    }

    /// Every piece has been dealt with, so that no more replies will come: the time to send the
    /// last of them.
    fn close(&mut self) {}

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
