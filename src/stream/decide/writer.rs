//! What is done with decisions, and the file of them.

use super::judge::Decided;
use crate::stream::live::output::FinishedPiece;
use std::io::{self, Write};
use std::time::Instant;

/// A decision on a read.
#[derive(Debug, Clone, Copy)]
pub struct ReadDecision<'a> {
    /// The name of the source that the read comes from.
    pub source: &'a str,
    /// The piece that made the decision certain.
    pub piece: &'a FinishedPiece<'a>,
    /// What was decided.
    pub decided: Decided,
}

/// Takes decisions. Every `FnMut(&ReadDecision) -> io::Result<()>` does.
pub trait Decisions {
    /// Takes a decision, one a read.
    ///
    /// # Errors
    /// The decision is lost here, and is counted. The run goes on.
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()>;

    /// Nothing more is waiting at this moment.
    ///
    /// # Errors
    /// What is not written is kept for the next time, or lost and counted.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Decisions that were taken and could not be written yet.
    fn unwritten(&self) -> u64 {
        0
    }
}

impl<F: FnMut(&ReadDecision<'_>) -> io::Result<()>> Decisions for F {
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()> {
        self(made)
    }
}

/// `None` lets them pass.
impl<D: Decisions> Decisions for Option<D> {
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()> {
        match self {
            Some(decisions) => decisions.decision(made),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Some(decisions) => decisions.flush(),
            None => Ok(()),
        }
    }

    fn unwritten(&self) -> u64 {
        self.as_ref().map_or(0, Decisions::unwritten)
    }
}

/// Bytes that wait for a flush, and those that a full disk leaves waiting at most.
const BUFFER: usize = 1 << 13;
const MOST: usize = 1 << 16;

/// Writes decisions as tab-separated lines, a header line first: the read, its source and channel,
/// the decision, the rule's number, `default` or `overload`, seconds since the writer was made, and
/// milliseconds since the piece came in that made the decision certain.
///
/// Lines that cannot be written wait until they can. There is room for some hundreds of them;
/// further ones are lost.
#[derive(Debug)]
pub struct DecisionWriter<W: Write> {
    writer: W,
    waiting: Vec<u8>,
    /// Decisions since all was last flushed.
    unwritten: u64,
    start: Instant,
}

impl<W: Write> DecisionWriter<W> {
    /// Writes the header line; the clock starts.
    ///
    /// # Errors
    /// The writer's, but for a full disk: then the header waits, too.
    pub fn new(writer: W) -> io::Result<DecisionWriter<W>> {
        let header = "#read\tsource\tchannel\tdecision\trule\tseconds\tmilliseconds_from_chunk\n";
        let mut decisions = DecisionWriter {
            writer,
            waiting: header.into(),
            unwritten: 0,
            start: Instant::now(),
        };
        match decisions.write() {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            _ => Ok(decisions),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let left = &self.waiting[written..];
            if left.is_empty() {
                break self.writer.flush();
            }
            match self.writer.write(left) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // A line that was cut goes on where it was cut.
        self.waiting.drain(..written);
        if result.is_ok() {
            self.unwritten = 0;
        }
        result
    }

    /// Writes what is left, if it can be written, and gives the writer back.
    pub fn into_inner(mut self) -> W {
        // Whoever asks has asked what is unwritten.
        let _ = self.write();
        self.writer
    }
}

impl<W: Write> Decisions for DecisionWriter<W> {
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()> {
        let ReadDecision {
            source,
            piece,
            decided,
        } = made;
        let name = String::from_utf8_lossy(piece.name);
        let rule = match decided.rule {
            Some(rule) => rule.to_string(),
            None if decided.overload => "overload".to_string(),
            None => "default".to_string(),
        };
        let before = self.waiting.len();
        writeln!(
            self.waiting,
            "{name}\t{source}\t{}\t{}\t{rule}\t{:.3}\t{:.3}",
            piece.channel,
            decided.decision,
            self.start.elapsed().as_secs_f64(),
            piece.received.elapsed().as_secs_f64() * 1000.0,
        )?;
        self.unwritten += 1;
        if before < BUFFER {
            return Ok(());
        }
        let line = self.waiting.len() - before;
        match self.write() {
            Err(error) if self.waiting.len() > MOST => {
                self.waiting.truncate(self.waiting.len() - line);
                self.unwritten -= 1;
                Err(error)
            }
            // The line waits.
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write()
    }

    fn unwritten(&self) -> u64 {
        self.unwritten
    }
}
