//! Calls to text: TSV, BED, GFF3, bedGraph, JSON Lines and the splice scores that spliced aligners
//! read; to Parquet; and [into BAM records](bam).
//!
//! Every format but GFF3 and splice-tsv writes positions as [`Call`] holds them: forward
//! coordinates of the read, 0-based, half-open, on both strands. A donor or an acceptor is its
//! exon-edge base. Probabilities have four decimals, ribosome loads three; in Parquet both are as
//! they were computed. Of a read's name, bytes that are no UTF-8 and control characters become
//! U+FFFD, and `.` stands for an empty one. GFF3 percent-encodes what its specification does not
//! allow in column 1. Where a line that begins with `#` is a comment, `%23` stands for that `#`.
//!
//! - [`Format::Tsv`]: `read start end strand kind score model flags`; the model is `name/version`,
//!   the flags are a comma-separated list or `.`.
//! - [`Format::Bed`]: BED9, with the read, start, end, name, round(1000 P) or round(100 load) up to
//!   1000, strand; start and end again as the thick part, and a colour for each kind. Readers tell
//!   BED12 from BED9 by the number of columns, so none may follow: the name holds the kind, the
//!   score, the model and the flags as in TSV, parted by `|`.
//! - [`Format::Gff3`]: 1-based, closed; the type is a Sequence Ontology term; `ID` of read, place,
//!   strand, kind and model, `Name` the kind; the model and the flags are attributes.
//! - [`Format::Bedgraph`]: four columns, without strand and kind (see [`bedgraph`]).
//! - [`Format::Jsonl`]: one object a call, with the keys `read start end strand kind score model
//!   version flags`, and those of [`CallWriter::labelled`].
//! - [`Format::SpliceTsv`]: contig, boundary, strand, D or A, log-odds score (see [`splice_tsv`]).
//! - `Format::Parquet`, with the feature `parquet`: the columns of TSV and those of
//!   [`CallWriter::labelled`], in row groups of 65,536 calls.
//!
//! GFF3 types are `five_prime_cis_splice_site` (donor), `three_prime_cis_splice_site` (acceptor),
//! `TSS` (promoter) and `five_prime_UTR` (expression, its score in the attribute
//! `mean_ribosome_load`). The ontology draws the two splice-site terms over the intron's two
//! outermost bases; here they stand on the exon-edge base beside them, as in every other format,
//! because those two bases may lie beyond the end of a read.

pub mod bam;
pub mod bedgraph;
pub mod bgzf;
#[cfg(feature = "tract")]
pub(crate) mod markup;
pub mod npy;
#[cfg(feature = "parquet")]
mod parquet;
pub mod splice_tsv;
mod text;

use crate::call::{Call, CallKind};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

/// A name, or other text of somebody else's, fit for a column, a log or a terminal: the rule of the
/// formats.
pub fn clean(text: &[u8]) -> String {
    let mut out = String::new();
    text::clean_name(text, &mut out);
    out
}

/// An output format, by the name that `--format` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `tsv`: one tab-separated line a call, a header line first.
    Tsv,
    /// `bed`: BED9.
    Bed,
    /// `gff3`: GFF version 3.
    Gff3,
    /// `bedgraph`: one signal.
    Bedgraph,
    /// `jsonl`: one JSON object a call.
    Jsonl,
    /// `splice-tsv`: splice scores for minimap2 and miniprot.
    SpliceTsv,
    /// `parquet`: one row a call.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// Every format of this build.
    pub const ALL: &[Format] = &[
        Format::Tsv,
        Format::Bed,
        Format::Gff3,
        Format::Bedgraph,
        Format::Jsonl,
        Format::SpliceTsv,
        #[cfg(feature = "parquet")]
        Format::Parquet,
    ];

    /// The name that [`FromStr`] takes back.
    pub fn name(self) -> &'static str {
        match self {
            Format::Tsv => "tsv",
            Format::Bed => "bed",
            Format::Gff3 => "gff3",
            Format::Bedgraph => "bedgraph",
            Format::Jsonl => "jsonl",
            Format::SpliceTsv => "splice-tsv",
            #[cfg(feature = "parquet")]
            Format::Parquet => "parquet",
        }
    }

    /// True of lines of text, which may be compressed as such and put end to end.
    pub fn is_text(self) -> bool {
        match self {
            Format::Tsv
            | Format::Bed
            | Format::Gff3
            | Format::Bedgraph
            | Format::Jsonl
            | Format::SpliceTsv => true,
            #[cfg(feature = "parquet")]
            Format::Parquet => false,
        }
    }

    /// True where each call is written when it is given, and nothing stands behind the last one: a
    /// file can be continued later.
    pub fn can_be_continued(self) -> bool {
        self.is_text() && self != Format::Bedgraph
    }

    /// True where [`CallWriter::labelled`] has a place for labels.
    pub fn has_labels(self) -> bool {
        self == Format::Jsonl || !self.is_text()
    }
}

/// The names of all formats, for messages.
const NAMES: &str = if cfg!(feature = "parquet") {
    "tsv, bed, gff3, bedgraph, jsonl, splice-tsv or parquet"
} else {
    "tsv, bed, gff3, bedgraph, jsonl or splice-tsv"
};

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A format name that is none of [`Format::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`: expected {NAMES}")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        let mut all = Format::ALL.iter().copied();
        all.find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// How a written call names its model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTag {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// For each kind the probability of such a site before anything is known of the place;
    /// splice-tsv divides by it.
    pub base_rates: Vec<(CallKind, f64)>,
}

impl ModelTag {
    /// The base rate of `kind`, where the model states one.
    pub fn base_rate(&self, kind: CallKind) -> Option<f64> {
        self.base_rates
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|&(_, rate)| rate)
    }
}

/// Takes the name of a read, and calls of it that were written.
type Shown = dyn Fn(&str, &[Call]) + Send + Sync;

/// Is shown calls that were written, and the name of their read.
#[derive(Clone)]
pub struct Watch(pub Arc<Shown>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Lines of a run that are no calls, on their way between calls.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<u8>>>);

impl Notes {
    /// Adds a line, without its end. It is written with what comes next.
    pub fn add(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
    }

    fn drain(&self, out: &mut Vec<u8>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.append(&mut lines);
    }
}

/// Writes the calls of one read after another. After the first reads it allocates nothing, but for
/// Parquet, which holds back at most a row group.
///
/// Lines go to the writer in one piece a call of [`CallWriter::write_calls`], so an unbuffered
/// writer is no loss for files of reads and the right thing for a pipe that somebody waits on.
#[derive(Debug)]
pub struct CallWriter<W: Write> {
    writer: W,
    watch: Option<Watch>,
    notes: Option<Notes>,
    /// What stands at the end of each JSON object.
    fields: String,
    format: Format,
    models: Vec<ModelTag>,
    /// `name/version` of each model.
    labels: Vec<String>,
    lines: Vec<u8>,
    name: String,
    signal: bedgraph::Signal,
    #[cfg(feature = "parquet")]
    table: parquet::Table,
    written: u64,
    left_out: u64,
}

impl<W: Write> CallWriter<W> {
    /// A writer of `format`; [`Call::model`] indexes `models`.
    pub fn new(writer: W, format: Format, models: Vec<ModelTag>) -> Self {
        let labels: Vec<String> = models
            .iter()
            .map(|m| format!("{}/{}", m.name, m.version))
            .collect();
        CallWriter {
            writer,
            watch: None,
            notes: None,
            fields: String::new(),
            format,
            models,
            #[cfg(feature = "parquet")]
            table: parquet::Table::new(&labels),
            labels,
            lines: Vec::with_capacity(4096),
            name: String::with_capacity(256),
            signal: bedgraph::Signal::default(),
            written: 0,
            left_out: 0,
        }
    }

    /// Adds fields to each object of JSON Lines, or columns to Parquet, behind the others. Other
    /// formats have no place for them.
    pub fn labelled(mut self, labels: &[(String, String)]) -> Self {
        #[cfg(feature = "parquet")]
        self.table.label(labels);
        let fields = labels.iter();
        let fields = fields.map(|(key, value)| {
            let [key, value] = [key, value].map(|text| serde_json::Value::from(text.as_str()));
            format!(",{key}:{value}")
        });
        self.fields = fields.collect();
        self
    }

    /// Shows each portion of calls that is written, with the name of its read.
    pub fn watched(mut self, watch: Option<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// Writes these lines between calls, too.
    pub fn noted(mut self, notes: Option<Notes>) -> Self {
        self.notes = notes;
        self
    }

    /// Writes what stands before the first call, if the format has such a thing.
    ///
    /// # Errors
    /// The writer's.
    pub fn header(&mut self) -> io::Result<()> {
        self.writer.write_all(match self.format {
            Format::Tsv => b"#read\tstart\tend\tstrand\tkind\tscore\tmodel\tflags\n".as_slice(),
            // One line that begins with `#` is skipped by all readers, or taken for what it is.
            Format::Bed => {
                b"#chrom\tchromStart\tchromEnd\tname\tscore\tstrand\t\
                  thickStart\tthickEnd\titemRgb\n"
            }
            Format::Gff3 => b"##gff-version 3\n",
            Format::Bedgraph | Format::Jsonl | Format::SpliceTsv => b"",
            #[cfg(feature = "parquet")]
            Format::Parquet => b"",
        })
    }

    /// Writes calls of the read `name`, in order of position. A long record may come in several
    /// portions.
    ///
    /// # Errors
    /// The writer's; [`io::ErrorKind::InvalidInput`] where a call names no model of this writer, or
    /// its model states no base rate and splice-tsv needs one. Nothing of this portion has been
    /// written then.
    pub fn write_calls(&mut self, name: &[u8], calls: &[Call]) -> io::Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        let count = self.models.len();
        if let Some(call) = calls.iter().find(|c| usize::from(c.model) >= count) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a call names model {} of {count}", call.model),
            ));
        }
        self.lines.clear();
        match self.format {
            Format::Gff3 => text::seqid(name, &mut self.name),
            Format::Tsv | Format::Bed | Format::Bedgraph => {
                text::first_column(name, &mut self.name);
            }
            _ => text::clean_name(name, &mut self.name),
        }
        let mut left_out = 0;
        for call in calls {
            let model = usize::from(call.model);
            let (tag, label) = (&self.models[model], &self.labels[model]);
            let lines = &mut self.lines;
            match self.format {
                Format::Tsv => text::tsv(lines, &self.name, call, label)?,
                Format::Bed => text::bed(lines, &self.name, call, label)?,
                Format::Gff3 => text::gff3(lines, &self.name, call, label)?,
                Format::Jsonl => text::jsonl(lines, &self.name, call, tag, &self.fields)?,
                Format::Bedgraph => {
                    left_out += u64::from(!self.signal.push(lines, &self.name, call)?);
                }
                Format::SpliceTsv => {
                    left_out += u64::from(!splice_tsv::line(lines, &self.name, call, tag)?);
                }
                #[cfg(feature = "parquet")]
                Format::Parquet => self.table.push(lines, &self.name, call)?,
            }
        }
        if let Some(notes) = &self.notes {
            notes.drain(&mut self.lines);
        }
        self.written += calls.len() as u64 - left_out;
        self.left_out += left_out;
        self.writer.write_all(&self.lines)?;
        if let Some(Watch(watch)) = &self.watch {
            watch(&self.name, calls);
        }
        Ok(())
    }

    /// Calls written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Calls that the format has no place for: promoters and expression in splice-tsv, the weaker
    /// of two overlapping calls in bedGraph. Calls given are always [`written`](Self::written) plus
    /// these.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Hands what was written on to its destination; for a live stream, after each read.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(notes) = &self.notes {
            self.lines.clear();
            notes.drain(&mut self.lines);
            self.writer.write_all(&self.lines)?;
        }
        self.writer.flush()
    }

    /// Writes what was held back, flushes, and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.lines.clear();
        match self.format {
            Format::Bedgraph => self.signal.finish(&mut self.lines)?,
            #[cfg(feature = "parquet")]
            Format::Parquet => self.table.finish(&mut self.lines)?,
            _ => {}
        }
        if let Some(notes) = &self.notes {
            notes.drain(&mut self.lines);
        }
        self.writer.write_all(&self.lines)?;
        self.writer.flush()?;
        Ok(self.writer)
    }
}

#[cfg(test)]
mod tests;
