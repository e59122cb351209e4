//! Who looks at reads that go by: at their calls, once they are written, and at their ends.

use super::batch::output::{FinishedChunk, Output};
use super::live::output::{FinishedPiece, LiveOutput, SourceInfo};
use crate::call::Call;
use crate::reads::fastx::{RecordEnd, Reject};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A read among all of its run.
#[derive(Debug, Clone, Copy)]
pub struct SeenRead<'a> {
    /// Its source, and what tells it from every other one there.
    pub id: (usize, u64),
    /// Its name.
    pub name: &'a [u8],
}

/// Looks at reads, on the thread that writes: it must be quick.
pub trait ReadObserver: Send {
    /// Calls of a read were written. Those of other reads may come between its own.
    fn calls(&mut self, read: SeenRead<'_>, calls: &[Call]);

    /// A read is over: its length in bases where it counts as out, `None` where it was rejected or
    /// shed.
    fn end(&mut self, read: SeenRead<'_>, length: Option<u64>);
}

/// An observer that a run shares with who asks it afterwards.
#[derive(Clone)]
pub struct Observed(pub Arc<Mutex<dyn ReadObserver>>);

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

/// An output whose reads are looked at, if there is an observer.
pub struct Observing<'a, O: ?Sized> {
    output: &'a mut O,
    observer: Option<Observed>,
}

impl<'a, O: ?Sized> Observing<'a, O> {
    /// `output`, with `observer` behind it.
    pub fn new(output: &'a mut O, observer: Option<Observed>) -> Observing<'a, O> {
        Observing { output, observer }
    }

    /// Shows a part of a read that was written; `end` is `Some` where the read is over with it.
    fn show(&self, read: SeenRead<'_>, calls: &[Call], end: Option<Option<u64>>) {
        let Some(Observed(observer)) = &self.observer else {
            return;
        };
        if calls.is_empty() && end.is_none() {
            return;
        }
        let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.is_empty() {
            observer.calls(read, calls);
        }
        if let Some(length) = end {
            observer.end(read, length);
        }
    }
}

impl<O: Output + ?Sized> Output for Observing<'_, O> {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self.output.chunk(finished)?;
        let chunk = finished.chunk;
        let read = SeenRead {
            id: (0, chunk.record),
            name: &chunk.name,
        };
        let length = chunk.start + chunk.codes.len() as u64;
        let end = chunk.end.as_ref();
        let end = end.map(|end| (*end == RecordEnd::Complete).then_some(length));
        self.show(read, finished.calls, end);
        Ok(())
    }

    fn rejected(&mut self, reject: &Reject) {
        self.output.rejected(reject);
    }

    fn input_written(&mut self, whole: bool) -> io::Result<()> {
        self.output.input_written(whole)
    }

    fn unannotated(&mut self, record: &[u8]) -> io::Result<()> {
        self.output.unannotated(record)
    }
}

impl<O: LiveOutput + ?Sized> LiveOutput for Observing<'_, O> {
    fn begin(&mut self, sources: &[SourceInfo]) {
        self.output.begin(sources);
    }

    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        self.output.piece(finished)?;
        let read = SeenRead {
            id: (finished.source, finished.id),
            name: finished.name,
        };
        let end = finished.end.map(|_| finished.out);
        self.show(read, finished.calls, end);
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        self.output.pause()
    }

    fn rejected(&mut self, reason: &str) {
        self.output.rejected(reason);
    }
}
