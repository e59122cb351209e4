//! Whether a file, or a part of it, was annotated before: by its bytes, not by its name.

use super::header::read_bam_header;
use super::journal::{Entry, HEAD, Head, Journal};
use super::progress::State;
use super::tick::{Tick, Ticking};
use crate::reads::bam;
use crate::reads::growing::Position;
use crate::reads::source::{InputError, Stream};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at a time.
const BLOCK: usize = 1 << 16;

/// A file, ready to be read from where its last pass ended.
pub(super) struct Found {
    pub(super) bytes: Stream,
    pub(super) from: Position,
    pub(super) head: Head,
    /// Its first bytes, those of [`START`].
    pub(super) start: Vec<u8>,
    pub(super) is_bam: bool,
    /// It, or its beginning, was annotated before.
    pub(super) is_known: bool,
}

/// The most bytes, behind a BAM header, that files are told apart by before they are compared.
const START: usize = 64;

/// What a file is.
pub(super) enum Identified {
    Ready(Box<Found>),
    /// Its beginning is not there yet.
    Early,
    /// All of it so far is what this file begins with, which was annotated further.
    Copy(PathBuf),
    /// It begins as a file did that was annotated further than it goes, and that is not there.
    Shorter(Box<Found>),
}

/// Finds how far a file was annotated: at `expected`, or at the furthest position of the journal
/// that its bytes lead to. A file that is being copied or compressed is found to be one.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn identify(
    path: &Path,
    expected: Option<&Entry>,
    state: &State,
    tick: &Tick,
) -> Result<Identified, InputError> {
    let journal = &state.journal;
    let reach = |offset| reach(path, offset, tick);
    let mut bytes = Unpacked::open(path, tick)?;
    let mut start = vec![0; bam::MAGIC.len()];
    let there = bytes.fill(&mut start)?;
    start.truncate(there);
    let is_bam = start == bam::MAGIC;
    if is_bam && !read_bam_header(&mut bytes, &mut start).map_err(|e| bytes.failed(e))? {
        return Ok(Identified::Early);
    }
    // The files of a run have their BAM headers in common: what tells them apart comes behind.
    let header = if is_bam { start.len() } else { 0 };
    let mut first = vec![0; HEAD];
    let there = bytes.fill(&mut first)?;
    first.truncate(there);
    let first = [&start[header..], &first].concat();
    let hash_of = |n: usize| first.get(..n).map(blake3::hash);
    let length = first.len().min(HEAD);
    let head = Head {
        length,
        hash: blake3::hash(&first[..length]),
    };
    let start = &first[..first.len().min(START)];
    let found = |bytes, from, is_known| {
        Box::new(Found {
            bytes,
            from,
            head,
            start: start.to_vec(),
            is_bam,
            is_known,
        })
    };
    if let Some(expected) = expected
        && let Some((bytes, hash)) = reach(expected.offset)?
        && hash.finalize() == expected.hash
    {
        return Ok(match original(path, start, expected.offset, state, tick) {
            Some(original) => Identified::Copy(original),
            None => Identified::Ready(found(bytes, expected.position(hash), true)),
        });
    }
    let (from, is_shorter) = furthest(path, &journal.offsets(hash_of), journal, tick)?;
    let is_known = from.is_some();
    let from = from.unwrap_or_else(|| Position {
        offset: header as u64,
        hash: blake3::Hasher::new(),
        ..Position::default()
    });
    if let Some(original) = original(path, start, from.offset, state, tick) {
        return Ok(Identified::Copy(original));
    }
    let Some((bytes, hash)) = reach(from.offset)? else {
        return Ok(Identified::Early);
    };
    let found = found(bytes, Position { hash, ..from }, is_known);
    Ok(if is_shorter {
        Identified::Shorter(found)
    } else {
        Identified::Ready(found)
    })
}

/// A file that is there, was annotated beyond `offset`, and begins with all that there is of the
/// file at hand.
fn original(path: &Path, start: &[u8], offset: u64, state: &State, tick: &Tick) -> Option<PathBuf> {
    // Of a file that has just been made there is nothing to compare, and nothing to annotate.
    if start.is_empty() {
        return None;
    }
    let candidates = state.known.iter().filter(|(other, known)| {
        let alike = start.iter().zip(&known.start).all(|(a, b)| a == b);
        other.as_path() != path && known.position.offset > offset && alike
    });
    // One that cannot be read by now, or has gone, says nothing.
    let mut begins =
        candidates.filter(|(other, _)| is_beginning(path, other, tick).unwrap_or(false));
    begins.next().map(|(other, _)| other.clone())
}

/// True where all bytes that there are of a file are the first of another.
fn is_beginning(path: &Path, of: &Path, tick: &Tick) -> Result<bool, InputError> {
    let (mut one, mut other) = (Unpacked::open(path, tick)?, Unpacked::open(of, tick)?);
    let (mut block, mut expected) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let there = one.fill(&mut block)?;
        let expected = &mut expected[..there];
        if other.fill(expected)? < there || block[..there] != *expected {
            return Ok(false);
        }
        if there < BLOCK {
            return Ok(true);
        }
    }
}

/// A file's bytes from `offset` on, and the hash of those before; `None` where it is shorter.
fn reach(
    path: &Path,
    offset: u64,
    tick: &Tick,
) -> Result<Option<(Stream, blake3::Hasher)>, InputError> {
    let mut bytes = Unpacked::open(path, tick)?;
    let mut hash = blake3::Hasher::new();
    let mut left = offset;
    let mut block = vec![0; BLOCK];
    while left > 0 {
        let most = left.min(BLOCK as u64) as usize;
        let read = bytes.fill(&mut block[..most])?;
        if read == 0 {
            return Ok(None);
        }
        hash.update(&block[..read]);
        left -= read as u64;
    }
    Ok(Some((bytes.stream, hash)))
}

/// The furthest of these offsets up to which the file's bytes were committed, and whether it is too
/// short for one of them.
fn furthest(
    path: &Path,
    offsets: &[u64],
    journal: &Journal,
    tick: &Tick,
) -> Result<(Option<Position>, bool), InputError> {
    let mut found = None;
    if offsets.is_empty() {
        return Ok((None, false));
    }
    let mut bytes = Unpacked::open(path, tick)?;
    let mut hash = blake3::Hasher::new();
    let mut at = 0;
    let mut block = vec![0; BLOCK];
    for &offset in offsets {
        while at < offset {
            let most = (offset - at).min(BLOCK as u64) as usize;
            let read = bytes.fill(&mut block[..most])?;
            if read == 0 {
                return Ok((found, true));
            }
            hash.update(&block[..read]);
            at += read as u64;
        }
        if let Some(entry) = journal.entry(offset, &hash.finalize()) {
            found = Some(entry.position(hash.clone()));
        }
    }
    Ok((found, false))
}

/// The uncompressed bytes that are there of a file that may still grow.
struct Unpacked {
    stream: Stream,
    file: Arc<str>,
}

impl Unpacked {
    fn open(path: &Path, tick: &Tick) -> Result<Unpacked, InputError> {
        let file: Arc<str> = path.display().to_string().into();
        let opened = File::open(path).map_err(|source| failed(&file, source))?;
        let opened = Ticking {
            file: opened,
            tick: tick.clone(),
        };
        let stream = Stream::new(file.clone(), Box::new(opened))?;
        Ok(Unpacked { stream, file })
    }

    /// Fills `out`, unless there is less.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, InputError> {
        let mut filled = 0;
        while filled < out.len() {
            match self.stream.read(&mut out[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.may_grow() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn failed(&self, source: io::Error) -> InputError {
        failed(&self.file, source)
    }
}

impl Read for Unpacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill(out).map_err(io::Error::other)
    }
}

fn failed(file: &Arc<str>, source: io::Error) -> InputError {
    match source.kind() {
        io::ErrorKind::NotFound => InputError::Missing { file: file.clone() },
        _ => InputError::Io {
            file: file.clone(),
            offset: 0,
            source,
        },
    }
}
