//! Records of a file as pieces.

use super::piece::{Piece, PieceEnd};
use super::source::{LiveSource, LiveStep, SourceError};
use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use crate::reads::source::{Input, InputError};
use std::sync::Arc;

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
            Step::End => return reader.all_rejected().map_or(Ok(LiveStep::End), Err),
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
