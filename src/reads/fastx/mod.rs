//! FASTA, FASTQ and BAM: bytes in, pooled [`Chunk`]s of base codes out.
//!
//! The parser is our own because no library offers all of: going on after a bad record, byte
//! offsets, memory bounded whatever the input, and contigs that stream.
//!
//! - **FASTQ** records have their sequence and their qualities on one line each or on several;
//!   qualities end when there are as many as bases. A record is validated whole before its first
//!   chunk is handed out. After a bad one the parser goes on at the next line with `@`, lines of
//!   letters, and a line with `+`; what lies between is one rejected record.
//! - **FASTA** contigs of any length stream chunk by chunk, so a contig can turn out bad after part
//!   of it was handed out: its last chunk then ends in [`RecordEnd::Rejected`].
//! - **BAM** records, aligned or not, give their read as it was sequenced; what is no primary
//!   record, or lacks bases, is passed over.
//! - Blank lines between records, blanks, tabs and CR at the end of a line, lower case, U and a
//!   missing last line end are accepted.
//!   Qualities must be printable (33 to 126); only their number is kept.

mod bam_records;
mod block;
mod fasta;
mod fastq;
mod reject;
#[cfg(test)]
mod tests;

pub use reject::{Reject, RejectReason};

use crate::reads::bam::{self, BamHeader};
use crate::reads::growing::{Growing, Position, Reached};
use crate::reads::source::{Input, InputError, Stream};
use bam_records::Bam;
use block::{Blocks, Header};
use fasta::Fasta;
use fastq::Fastq;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The longest header line, in bytes.
pub const MAX_HEADER: usize = 64 * 1024;

/// Limits of a [`Reader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bases of the longest FASTQ read that is accepted.
    pub max_read_len: usize,
    /// Bases of the longest chunk; at least 1.
    pub chunk_bases: usize,
}

impl Default for Limits {
    /// Reads of up to 16,000,000 bases, chunks of up to 65,536.
    fn default() -> Limits {
        Limits {
            max_read_len: 16_000_000,
            chunk_bases: 65_536,
        }
    }
}

/// How a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEnd {
    /// All of it was read.
    Complete,
    /// It turned out bad after part of it had been handed out.
    Rejected(Box<Reject>),
}

/// A record, or a part of one: up to [`Limits::chunk_bases`] bases. A longer record is several
/// chunks, in order.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The record's number over all inputs, from 0; rejected records have one too.
    pub record: u64,
    /// The input.
    pub file: Arc<str>,
    /// The record's number in its input, from 1.
    pub number: u64,
    /// Where the record begins in its input, in uncompressed bytes.
    pub offset: u64,
    /// The header after `@` or `>`, up to the first space or tab.
    pub name: Vec<u8>,
    /// Bases of the record before this chunk.
    pub start: u64,
    /// The bases as codes, 0 to 4.
    pub codes: Vec<u8>,
    /// This chunk begins its record.
    pub first: bool,
    /// `Some` on the record's last chunk.
    pub end: Option<RecordEnd>,
    /// When the last of the bytes it was made from came in.
    pub received: Instant,
    /// On a BAM record's last chunk the whole record, as it lies in the file, its size first; empty
    /// unless records are kept ([`Reader::keep`]).
    pub bam: Vec<u8>,
}

impl Chunk {
    /// An empty chunk with room for `bases`.
    pub fn with_capacity(bases: usize) -> Chunk {
        Chunk {
            record: 0,
            file: Arc::from(""),
            number: 0,
            offset: 0,
            name: Vec::with_capacity(128),
            start: 0,
            codes: Vec::with_capacity(bases),
            first: false,
            end: None,
            received: Instant::now(),
            bam: vec![],
        }
    }

    /// The rejection of the record that this chunk belongs to.
    pub fn reject(&self, reason: RejectReason) -> Reject {
        Reject {
            file: self.file.clone(),
            record: self.record,
            number: self.number,
            name: reject::short_name(&self.name),
            offset: self.offset,
            reason,
        }
    }
}

/// What [`Reader::next_chunk`] came upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The chunk was filled.
    Chunk,
    /// A record none of which was handed out. The chunk's content means nothing, but for
    /// [`Chunk::bam`].
    Rejected(Box<Reject>),
    /// The end of the input.
    End,
}

/// What the records of an input look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// There are none.
    Nothing,
    Fasta,
    Fastq,
    Bam {
        /// Sequences that records are aligned to, where the header was read.
        references: u32,
    },
}

/// A place in a file: so many uncompressed bytes behind one of its bytes, where a block begins if
/// it is BGZF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub at: u64,
    pub behind: u64,
}

/// Where a reader begins that does not begin at the first byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub layout: Layout,
    pub place: Place,
    /// The first record behind is to be found.
    pub lost: bool,
}

/// Reads the records of one input.
pub struct Reader {
    blocks: Blocks,
    ids: Ids,
    format: Format,
    /// Where it is told how far an input was read that may still grow.
    reached: Option<Reached>,
    /// Where somebody else's records begin.
    end: Option<Place>,
    /// Those that are wanted, by number in the input, from 0.
    only: Option<Range<u64>>,
    /// It began or ends between records, so it says nothing of the input as a whole.
    is_section: bool,
    /// Records by how they ended; those that were passed over are neither.
    accepted: u64,
    rejected: u64,
}

/// What is said of an input that begins as nothing that is read here.
fn not_sequences(file: Arc<str>, blocks: &mut Blocks) -> InputError {
    InputError::NotSequences {
        file,
        offset: blocks.offset(),
        found: blocks.describe(),
    }
}

enum Format {
    Empty,
    Bam(Bam),
    Fasta(Fasta),
    Fastq(Fastq),
}

/// Numbers of the record at hand.
struct Ids {
    file: Arc<str>,
    first_record: u64,
    /// Records of the file that were read earlier.
    before: u64,
    begun: u64,
}

impl Ids {
    fn new(file: Arc<str>, first_record: u64, before: u64) -> Ids {
        Ids {
            file,
            first_record,
            before,
            begun: before,
        }
    }

    fn begin(&mut self) {
        self.begun += 1;
    }

    /// The record at hand was begun too early.
    fn put_off(&mut self) {
        self.begun -= 1;
    }

    /// The record's number over all inputs.
    fn record(&self) -> u64 {
        self.first_record + (self.begun - self.before) - 1
    }

    fn reject(&self, header: &Header, reason: RejectReason) -> Box<Reject> {
        Box::new(Reject {
            file: self.file.clone(),
            record: self.record(),
            number: self.begun,
            name: reject::short_name(header.name()),
            offset: header.offset,
            reason,
        })
    }

    fn label(&self, chunk: &mut Chunk, header: &Header) {
        chunk.record = self.record();
        chunk.number = self.begun;
        if !Arc::ptr_eq(&chunk.file, &self.file) {
            chunk.file = self.file.clone();
        }
        chunk.offset = header.offset;
        chunk.name.clear();
        chunk.name.extend_from_slice(header.name());
    }

    fn cut_off(&self, header: &Header) -> InputError {
        InputError::CutOff {
            file: self.file.clone(),
            number: self.begun,
            name: reject::short_name(header.name()),
            offset: header.offset,
        }
    }
}

/// A record that was read whole, to be handed out chunk by chunk.
#[derive(Default)]
struct Whole {
    codes: Vec<u8>,
    given: usize,
    ready: bool,
}

impl Whole {
    fn begin(&mut self) {
        (self.given, self.ready) = (0, true);
    }

    fn give(
        &mut self,
        chunk_bases: usize,
        blocks: &Blocks,
        ids: &Ids,
        header: &Header,
        chunk: &mut Chunk,
    ) {
        let rest = &self.codes[self.given..];
        let part = &rest[..rest.len().min(chunk_bases.max(1))];
        chunk.first = self.given == 0;
        chunk.start = self.given as u64;
        chunk.codes.clear();
        chunk.codes.extend_from_slice(part);
        chunk.received = blocks.received();
        ids.label(chunk, header);
        self.given += part.len();
        self.ready = self.given < self.codes.len();
        chunk.end = (!self.ready).then_some(RecordEnd::Complete);
    }
}

impl Reader {
    /// Opens `input`; its records are numbered from `first_record`.
    ///
    /// # Errors
    /// As [`Input::open`] and [`Reader::new`].
    pub fn open(input: Input, limits: Limits, first_record: u64) -> Result<Reader, InputError> {
        let file = input.name().into();
        Reader::new(file, input.open()?, limits, first_record)
    }

    /// Reads from `reader`, called `file` in messages, after a look at what it begins with.
    ///
    /// # Errors
    /// [`InputError::NotSequences`] where it holds something other than FASTA, FASTQ or BAM, and
    /// what keeps its first bytes from being read.
    pub fn new(
        file: Arc<str>,
        reader: Box<dyn Read + Send>,
        limits: Limits,
        first_record: u64,
    ) -> Result<Reader, InputError> {
        Reader::section(file, reader, limits, first_record, None, None)
    }

    /// The same of a section: it begins at an entry, or at the first byte, and ends before the
    /// record that begins at a place, or with the input. Then `reader` gives the file from the byte
    /// of its entry on, and places in a compressed file count from there.
    ///
    /// # Errors
    /// As [`Reader::new`]; where it has come to its end, if no record begins there.
    pub(crate) fn section(
        file: Arc<str>,
        reader: Box<dyn Read + Send>,
        limits: Limits,
        first_record: u64,
        entry: Option<Entry>,
        end: Option<Place>,
    ) -> Result<Reader, InputError> {
        let before = entry.map_or(0, |entry| entry.place.at);
        let mut stream = Stream::behind(file.clone(), reader, before)?;
        if let Some(place) = end {
            // Before anything is read: the end may lie in the very first block.
            stream.watch(place.at);
        }
        let is_packed = stream.is_packed();
        let mut blocks = Blocks::new(stream);
        let format = match entry {
            None => match blocks.first_after_blanks() {
                None => Format::Empty,
                Some(b'B') if blocks.starts_with(bam::MAGIC) => Format::Bam(Bam::new(limits)),
                Some(b'>') => Format::Fasta(Fasta::new(limits)),
                Some(b'@') if !blocks.is_sam() => Format::Fastq(Fastq::new(limits, false)),
                Some(_) => return Err(not_sequences(file, &mut blocks)),
            },
            Some(entry) => {
                let offset = if is_packed { 0 } else { before };
                blocks.begin_at(offset, entry.place.behind);
                match entry.layout {
                    Layout::Nothing => Format::Empty,
                    Layout::Bam { .. } => Format::Bam(Bam::behind_header(limits)),
                    Layout::Fasta if entry.lost => Format::Fasta(Fasta::lost(limits)),
                    Layout::Fasta => Format::Fasta(Fasta::new(limits)),
                    Layout::Fastq => Format::Fastq(Fastq::new(limits, entry.lost)),
                }
            }
        };
        let mut made = Reader::of(blocks, format, Ids::new(file, first_record, 0));
        made.end = end;
        made.is_section = entry.is_some() || end.is_some();
        Ok(made)
    }

    fn of(blocks: Blocks, format: Format, ids: Ids) -> Reader {
        Reader {
            blocks,
            format,
            ids,
            reached: None,
            end: None,
            only: None,
            is_section: false,
            accepted: 0,
            rejected: 0,
        }
    }

    /// Gives some records only, by their numbers in the input from 0. The run's numbers leave the
    /// others out.
    pub(crate) fn only(&mut self, range: Range<u64>) {
        self.only = Some(range);
        self.is_section = true;
    }

    /// What its records look like. A BAM header is read for it.
    ///
    /// # Errors
    /// A BAM header that is broken or cut off.
    pub(crate) fn layout(&mut self) -> Result<Layout, InputError> {
        Ok(match &mut self.format {
            Format::Empty => Layout::Nothing,
            Format::Fasta(_) => Layout::Fasta,
            Format::Fastq(_) => Layout::Fastq,
            Format::Bam(bam) => {
                let references = bam.references(&mut self.blocks, &self.ids);
                match (references, self.blocks.take_failure()) {
                    (None, Some(failure)) => return Err(failure),
                    (references, _) => Layout::Bam {
                        references: references.unwrap_or_default(),
                    },
                }
            }
        })
    }

    /// The uncompressed byte where somebody else's records begin, once it has come so far.
    fn ends_at(&self) -> Option<u64> {
        let Place { at, behind } = self.end?;
        let stream = self.blocks.stream();
        if stream.is_packed() {
            stream.before_watched().map(|before| before + behind)
        } else {
            Some(at + behind)
        }
    }

    /// Where a record begins that a step tells of.
    fn begun_at(step: &Step, chunk: &Chunk) -> Option<u64> {
        match step {
            Step::Chunk => chunk.first.then_some(chunk.offset),
            Step::Rejected(reject) => Some(reject.offset),
            Step::End => None,
        }
    }

    /// Ends before somebody else's records.
    fn end_of_section(&mut self, step: Step, chunk: &Chunk) -> Result<Step, InputError> {
        let begun = Reader::begun_at(&step, chunk);
        let (end, place) = (self.ends_at(), self.end);
        match (begun, end) {
            (Some(begun), Some(end)) if begun >= end => {
                self.ids.put_off();
                self.format = Format::Empty;
                self.end = None;
                if begun == end {
                    return Ok(Step::End);
                }
            }
            _ if step != Step::End => return Ok(step),
            _ => {
                self.end = None;
                if let Some(failure) = self.blocks.take_failure() {
                    return Err(failure);
                }
            }
        }
        Err(InputError::NoRecord {
            file: self.ids.file.clone(),
            offset: place.map_or(0, |place| place.at),
        })
    }

    /// What becomes of a step where some records are wanted only; `None`: it is left out.
    fn wanted(&mut self, step: Step, chunk: &Chunk) -> Option<Step> {
        let Some(range) = &self.only else {
            return Some(step);
        };
        let (number, is_over) = match &step {
            Step::Chunk => (chunk.number, chunk.end.is_some()),
            Step::Rejected(reject) => (reject.number, true),
            Step::End => return Some(step),
        };
        if number > range.end {
            self.ids.put_off();
            self.format = Format::Empty;
            return Some(Step::End);
        }
        if number > range.start {
            return Some(step);
        }
        self.ids.before += u64::from(is_over);
        None
    }

    /// Goes on with an input that may still grow: a last record without its end is left for later.
    /// Numbers of records go on from where the last reader ended.
    ///
    /// # Errors
    /// [`InputError::NotSequences`] where it begins as something other than FASTQ or BAM, and what
    /// keeps its bytes from being read.
    pub fn go_on(
        growing: Growing,
        limits: Limits,
        first_record: u64,
    ) -> Result<Reader, InputError> {
        let from = growing.from;
        let file: Arc<str> = growing.name.into();
        let mut blocks = Blocks::new(growing.bytes);
        blocks.keep_account(from.offset, from.hash, !growing.is_whole);
        let format = if growing.is_bam {
            Format::Bam(Bam::behind_header(limits))
        } else if from.offset == 0 {
            match blocks.first_after_blanks() {
                None => Format::Empty,
                Some(b'@') if !blocks.is_sam() => Format::Fastq(Fastq::new(limits, false)),
                Some(_) => return Err(not_sequences(file, &mut blocks)),
            }
        } else {
            Format::Fastq(Fastq::new(limits, from.lost))
        };
        let ids = Ids::new(file, first_record, from.records);
        let mut made = Reader::of(blocks, format, ids);
        made.reached = Some(growing.reached);
        Ok(made)
    }

    /// Keeps the records of a BAM input for [`Chunk::bam`], and puts its header into `header`
    /// before the first of them is handed out.
    ///
    /// # Errors
    /// [`InputError::NotBam`] for anything else.
    pub fn keep(&mut self, header: BamHeader) -> Result<(), InputError> {
        match &mut self.format {
            Format::Bam(bam) => {
                bam.keep(header);
                Ok(())
            }
            _ => Err(InputError::NotBam {
                file: self.ids.file.clone(),
            }),
        }
    }

    /// Records begun so far by this reader, good and bad, but for those that were left out.
    pub fn records(&self) -> u64 {
        self.ids.begun - self.ids.before
    }

    /// The same with those that were left out.
    pub(crate) fn all_records(&self) -> u64 {
        self.ids.begun
    }

    /// What is wrong with an input that was read to its end, and of which every record was
    /// rejected: most likely it is something else than it seems. `None` for one that may still
    /// grow.
    pub fn all_rejected(&self) -> Option<InputError> {
        let whole = self.blocks.account().is_none() && !self.is_section;
        (whole && self.accepted == 0 && self.rejected > 0).then(|| InputError::AllRejected {
            file: self.ids.file.clone(),
            records: self.records(),
        })
    }

    /// Fills `chunk` with the next piece of the input, reusing its buffers. After [`Step::End`] or
    /// an error it stays at [`Step::End`].
    ///
    /// # Errors
    /// What ended the input early; a record that it interrupted has been handed out as rejected
    /// before.
    pub fn next_chunk(&mut self, chunk: &mut Chunk) -> Result<Step, InputError> {
        let step = loop {
            chunk.bam.clear();
            let mut step = match &mut self.format {
                Format::Empty => Step::End,
                Format::Bam(bam) => bam.next_chunk(&mut self.blocks, &mut self.ids, chunk),
                Format::Fasta(fasta) => fasta.next_chunk(&mut self.blocks, &mut self.ids, chunk),
                Format::Fastq(fastq) => fastq.next_chunk(&mut self.blocks, &mut self.ids, chunk),
            };
            if self.end.is_some() {
                step = self.end_of_section(step, chunk)?;
            }
            if let Some(step) = self.wanted(step, chunk) {
                break step;
            }
        };
        let end = match &step {
            Step::Chunk => chunk.end.as_ref(),
            Step::Rejected(reject) => {
                self.rejected += u64::from(!reject.reason.passes_over());
                None
            }
            Step::End => None,
        };
        match end {
            Some(RecordEnd::Complete) => self.accepted += 1,
            Some(RecordEnd::Rejected(_)) => self.rejected += 1,
            None => (),
        }
        if step != Step::End {
            return Ok(step);
        }
        if let (Some(reached), Some(account)) = (self.reached.take(), self.blocks.account()) {
            let (offset, lost, hash) = account;
            let position = Position {
                offset,
                records: self.ids.begun,
                lost,
                hash: hash.clone(),
            };
            reached.set(position, self.blocks.offset() - offset);
        }
        self.blocks.take_failure().map_or(Ok(Step::End), Err)
    }
}
