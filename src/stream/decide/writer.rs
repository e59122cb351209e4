//! What is done with decisions, and the file of them.

use super::judge::Decided;
use crate::sink::clean;
use crate::stream::live::output::FinishedPiece;
use std::io::{self, BufWriter, Write};
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
    /// Stop the run.
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()>;

    /// Nothing more is waiting at this moment.
    ///
    /// # Errors
    /// Stop the run.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
}

/// Writes decisions as tab-separated lines, a header line first: the read, its source and channel,
/// the decision, the rule's number or `default`, seconds since the writer was made, and
/// milliseconds since the piece came in that made the decision certain. Names are made fit for a
/// column as in the [formats of calls](crate::sink).
#[derive(Debug)]
pub struct DecisionWriter<W: Write> {
    writer: BufWriter<W>,
    start: Instant,
}

impl<W: Write> DecisionWriter<W> {
    /// Writes the header line; the clock starts.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(writer: W) -> io::Result<DecisionWriter<W>> {
        let mut writer = BufWriter::new(writer);
        writeln!(
            writer,
            "#read\tsource\tchannel\tdecision\trule\tseconds\tmilliseconds_from_chunk"
        )?;
        Ok(DecisionWriter {
            writer,
            start: Instant::now(),
        })
    }
}

impl<W: Write> DecisionWriter<W> {
    /// Writes what is left, and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> io::Result<W> {
        self.writer.into_inner().map_err(io::Error::from)
    }
}

impl<W: Write> Decisions for DecisionWriter<W> {
    fn decision(&mut self, made: &ReadDecision<'_>) -> io::Result<()> {
        let ReadDecision {
            source,
            piece,
            decided,
        } = made;
        let (name, source) = (clean(piece.name), clean(source.as_bytes()));
        let rule = decided
            .rule
            .map_or("default".to_string(), |rule| rule.to_string());
        writeln!(
            self.writer,
            "{name}\t{source}\t{}\t{}\t{rule}\t{:.3}\t{:.3}",
            piece.channel,
            decided.decision,
            self.start.elapsed().as_secs_f64(),
            piece.received.elapsed().as_secs_f64() * 1000.0,
        )
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
