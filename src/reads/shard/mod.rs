//! Shards: contiguous ranges of the records of some files, for several processes that share them.
//!
//! The files count as one, end to end, in bytes as they lie on the disk. Shard I of N begins at the
//! first record behind (I - 1) / N of these bytes and ends where the next one begins, so every
//! record falls in exactly one shard, whatever N is. Where a record begins behind a byte is found
//! as the parser finds its way back after a broken record (`enter`). A plain gzip file cannot be
//! entered in its middle: its records are counted, and shared by their numbers.
//!
//! A search from the middle could take for a record what is none: lines of qualities that are
//! wrapped, bytes of a tag. So a shard reads on until it comes to a record behind its end, which
//! must be the very one that the next shard begins with; anything else is an error. As shard 1
//! begins at the first record, shards without errors give the records of the files.

mod enter;

use super::bam::BamHeader;
use super::fastx::{Chunk, Entry, Limits, Place, Reader, RecordEnd, Step};
use super::source::{Input, InputError, Packing, packing};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Which of how many shards, as in `3/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    index: u32,
    of: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&index).then_some(Shard { index, of })
        });
        numbers.ok_or_else(|| "expected I/N with I from 1 to N, such as 3/8".to_string())
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What a shard reads of a file.
#[derive(Debug)]
pub struct Section {
    path: PathBuf,
    /// What messages call it.
    name: Arc<str>,
    range: Kind,
}

#[derive(Debug)]
enum Kind {
    /// From a record to another; `None` are the ends of the file.
    Places(Option<Place>, Option<Place>),
    /// By number in the file, from 0.
    Records(Range<u64>),
}

impl Shard {
    /// What it reads of some files, of each that it reads anything of.
    ///
    /// # Errors
    /// For a file that is missing, is none, or cannot be read where its records are looked for.
    pub fn sections(self, files: &[PathBuf], limits: Limits) -> Result<Vec<Section>, InputError> {
        let mut sizes = vec![];
        for path in files {
            sizes.push(size_of(path)?);
        }
        let total: u64 = sizes.iter().sum();
        let border = |index: u32| {
            let bytes = u128::from(total) * u128::from(index) / u128::from(self.of);
            u64::try_from(bytes).unwrap_or(total)
        };
        let (from, to) = (border(self.index - 1), border(self.index));
        let mut sections = vec![];
        let mut before = 0;
        for (path, size) in files.iter().zip(sizes) {
            let own = from.max(before)..to.min(before + size);
            if own.start < own.end {
                let range = own.start - before..own.end - before;
                sections.extend(self.section(path, size, range, limits)?);
            }
            before += size;
        }
        Ok(sections)
    }

    /// What it reads of a file, of which it has some bytes; `None` where no record begins there.
    fn section(
        self,
        path: &Path,
        size: u64,
        bytes: Range<u64>,
        limits: Limits,
    ) -> Result<Option<Section>, InputError> {
        let name = path.display();
        let range = if bytes == (0..size) {
            Kind::Places(None, None)
        } else if packing(path)? == Packing::Gzip {
            // Where it ends early, the shard that reads so far says so.
            let records = count(path, limits)?.0.records;
            // The number of the first record behind a byte, were all records of one size.
            let number = |byte: u64| {
                let records = u128::from(byte) * u128::from(records) / u128::from(size);
                u64::try_from(records).unwrap_or(u64::MAX)
            };
            Kind::Records(number(bytes.start)..number(bytes.end))
        } else {
            let mut ends = [None; 2];
            for (end, byte) in ends.iter_mut().zip([bytes.start, bytes.end]) {
                if byte > 0 && byte < size {
                    *end = enter::first_behind(path, byte, limits)?;
                }
            }
            let [from, to] = ends;
            let begins = from.is_some() || bytes.start == 0;
            if !begins || (from == to && from.is_some()) {
                return Ok(None);
            }
            Kind::Places(from, to)
        };
        Ok(Some(Section {
            path: path.to_owned(),
            name: format!("{name} (shard {self})").into(),
            range,
        }))
    }
}

fn size_of(path: &Path) -> Result<u64, InputError> {
    let file: Arc<str> = path.display().to_string().into();
    let about = fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => InputError::Missing { file: file.clone() },
        _ => InputError::Io {
            file: file.clone(),
            offset: 0,
            source,
        },
    })?;
    if about.is_dir() {
        return Err(InputError::Folder { file });
    }
    if !about.is_file() {
        return Err(InputError::NoFile { file });
    }
    Ok(about.len())
}

impl Section {
    /// Opens it; `gate` may put something between the file and the parser. Its records are numbered
    /// from `first_record`. With `keep` they are kept ([`Reader::keep`]).
    ///
    /// # Errors
    /// As [`Reader::open`] and [`Reader::keep`].
    pub fn open(
        self,
        limits: Limits,
        first_record: u64,
        keep: Option<&BamHeader>,
        gate: impl FnOnce(Box<dyn Read + Send>) -> Box<dyn Read + Send>,
    ) -> Result<Reader, InputError> {
        let (from, to) = match self.range {
            Kind::Places(from, to) => (from, to),
            Kind::Records(_) => (None, None),
        };
        let whole = Input::Path(self.path.clone());
        let (entry, bytes) = match from {
            None => (None, whole.open()?),
            Some(place) => {
                let mut begin = Reader::open(whole, limits, 0)?;
                if let Some(header) = keep {
                    begin.keep(header.clone())?;
                }
                let entry = Entry {
                    layout: begin.layout()?,
                    place,
                    lost: false,
                };
                let bytes: Box<dyn Read + Send> = Box::new(opened_at(&self.path, place.at)?);
                (Some(entry), bytes)
            }
        };
        let mut reader = Reader::section(self.name, gate(bytes), limits, first_record, entry, to)?;
        if let Some(header) = keep {
            reader.keep(header.clone())?;
        }
        if let Kind::Records(range) = self.range {
            reader.only(range);
        }
        Ok(reader)
    }
}

/// A file from a byte on.
fn opened_at(path: &Path, at: u64) -> Result<File, InputError> {
    let failed = |source| InputError::Io {
        file: path.display().to_string().into(),
        offset: at,
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    Ok(file)
}

/// What there is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Records, as numbers of records count: good, rejected and passed over.
    pub records: u64,
    /// Those that would be annotated.
    pub reads: u64,
    /// Their bases.
    pub bases: u64,
}

/// Counts the records of a file, or of standard input (`-`).
///
/// # Errors
/// As [`Reader::open`]. Where the input ends early, what there is before is counted, and the reason
/// stands beside it.
pub fn count(path: &Path, limits: Limits) -> Result<(Count, Option<InputError>), InputError> {
    let mut reader = Reader::open(Input::from_argument(path), limits, 0)?;
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let (mut reads, mut bases, mut own) = (0, 0, 0);
    let end = loop {
        match reader.next_chunk(&mut chunk) {
            Ok(Step::Chunk) => {
                own = if chunk.first { 0 } else { own } + chunk.codes.len() as u64;
                if chunk.end == Some(RecordEnd::Complete) {
                    reads += 1;
                    bases += own;
                }
            }
            Ok(Step::Rejected(_)) => {}
            Ok(Step::End) => break None,
            Err(error) => break Some(error),
        }
    };
    let count = Count {
        records: reader.records(),
        reads,
        bases,
    };
    Ok((count, end))
}
