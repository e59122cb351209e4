//! Where the first record behind a byte begins.

use super::opened_at;
use crate::reads::bam::FIXED;
use crate::reads::fastx::{Chunk, Entry, Layout, Limits, Place, Reader, Step};
use crate::reads::source::{Input, InputError, Packing, Stream, block_size, packing};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a block's header up to its size, and of its end, where the size of what it holds is.
const HEADER: u64 = 18;
const TRAILER: u64 = 4;

/// Bytes of BAM that a search begins with.
const SEARCHED: usize = 1 << 20;

/// Bytes of the largest record that a search takes for one.
const LARGEST_RECORD: usize = 256 << 20;

/// Records that must follow one another where the first is found.
const CHAIN: usize = 3;

/// Largest block of BGZF in bytes.
const LARGEST_BLOCK: usize = 1 << 16;

/// Blocks that must follow one another where the first is found.
const BLOCKS: usize = 3;

/// What a file's records look like.
pub(super) fn layout_of(path: &Path, limits: Limits) -> Result<Layout, InputError> {
    Reader::open(Input::Path(path.to_owned()), limits, 0)?.layout()
}

/// The first record behind a byte of a file that can be entered in its middle: whose line begins
/// behind it, or in the first block behind it, behind its first line; `None` where there is none.
pub(super) fn first_behind(
    path: &Path,
    byte: u64,
    limits: Limits,
) -> Result<Option<Place>, InputError> {
    let layout = layout_of(path, limits)?;
    let packed = packing(path)? == Packing::Bgzf;
    let block = if packed {
        block_behind(path, byte)?
    } else {
        Some(byte)
    };
    let Some(at) = block else {
        return Ok(None);
    };
    let place = match layout {
        Layout::Nothing => None,
        Layout::Bam { references } => bam_record(path, at, references)?,
        _ => line(path, at, packed, layout, limits)?,
    };
    match place {
        Some(place) if packed => in_its_block(path, place).map(Some),
        place => Ok(place),
    }
}

/// The same place, from the block that holds it: places of one record are equal then, wherever the
/// search for it began.
fn in_its_block(path: &Path, place: Place) -> Result<Place, InputError> {
    let failed = |source| InputError::Io {
        file: path.display().to_string().into(),
        offset: place.at,
        source,
    };
    let mut file = opened_at(path, place.at)?;
    let Place { mut at, mut behind } = place;
    loop {
        // What is no block is as far as one can count.
        let Some(size) = size_of_block(&mut file, at).map_err(failed)? else {
            return Ok(Place { at, behind });
        };
        let mut trailer = vec![];
        file.seek(SeekFrom::Start(at + size - TRAILER))
            .and_then(|_| (&mut file).take(TRAILER).read_to_end(&mut trailer))
            .map_err(failed)?;
        // Where the file is cut off, there are no more blocks.
        let held = trailer
            .try_into()
            .map_or(u64::MAX, |held| u64::from(u32::from_le_bytes(held)));
        if behind < held {
            return Ok(Place { at, behind });
        }
        (at, behind) = (at + size, behind - held);
    }
}

/// Bytes of the block that begins at a byte, if one does.
fn size_of_block(file: &mut File, at: u64) -> io::Result<Option<u64>> {
    let mut head = vec![];
    file.seek(SeekFrom::Start(at))?;
    (&mut *file).take(HEADER).read_to_end(&mut head)?;
    Ok(block_size(&head).filter(|size| *size >= HEADER + TRAILER))
}

/// A place so many uncompressed bytes behind a byte. Plain bytes have places of their own.
fn place_of(packed: bool, at: u64, behind: u64) -> Place {
    if packed {
        Place { at, behind }
    } else {
        Place {
            at: at + behind,
            behind: 0,
        }
    }
}

/// The first record whose header is a line behind a byte.
fn line(
    path: &Path,
    at: u64,
    packed: bool,
    layout: Layout,
    limits: Limits,
) -> Result<Option<Place>, InputError> {
    let file: Arc<str> = path.display().to_string().into();
    // In plain text the byte before tells whether a line begins.
    let from = if packed { at } else { at - 1 };
    let mut stream = Stream::behind(file.clone(), Box::new(opened_at(path, from)?), from)?;
    let mut buffer = [0; 4096];
    let mut behind = 0;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(None);
        }
        match buffer[..read].iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                behind += end as u64 + 1;
                break;
            }
            None => behind += read as u64,
        }
    }
    let place = place_of(packed, from, behind);
    let entry = Entry {
        layout,
        place,
        lost: true,
    };
    // One base of a record is enough.
    let limits = Limits {
        chunk_bases: 1,
        ..limits
    };
    let bytes = Box::new(opened_at(path, place.at)?);
    let mut reader = Reader::section(file, bytes, limits, 0, Some(entry), None)?;
    let mut chunk = Chunk::with_capacity(1);
    let found = match reader.next_chunk(&mut chunk)? {
        Step::Chunk => chunk.offset,
        Step::Rejected(reject) => reject.offset,
        Step::End => return Ok(None),
    };
    let before = if packed { 0 } else { at };
    Ok(Some(place_of(packed, at, found - before)))
}

/// The first block of BGZF at a byte or behind it, which others follow or the end of the file.
fn block_behind(path: &Path, byte: u64) -> Result<Option<u64>, InputError> {
    let failed = |source| InputError::Io {
        file: path.display().to_string().into(),
        offset: byte,
        source,
    };
    let mut file = opened_at(path, byte)?;
    let mut bytes = vec![];
    // A block begins in these, if one does.
    let most = 2 * LARGEST_BLOCK as u64;
    (&mut file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let begins = (byte..).zip(&bytes).filter(|(_, first)| **first == 0x1f);
    for (at, _) in begins {
        if follows(&mut file, at).map_err(failed)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// True where some blocks follow one another from a byte on.
fn follows(file: &mut File, mut at: u64) -> io::Result<bool> {
    for block in 0..BLOCKS {
        match size_of_block(file, at)? {
            Some(size) => at += size,
            None => return Ok(block > 0 && at >= file.metadata()?.len()),
        }
    }
    Ok(true)
}

/// The first record of a BAM file behind a byte, of a block where it is packed.
fn bam_record(path: &Path, at: u64, references: u32) -> Result<Option<Place>, InputError> {
    let file: Arc<str> = path.display().to_string().into();
    let mut stream = Stream::behind(file, Box::new(opened_at(path, at)?), at)?;
    let mut window = Window::default();
    window.fill(&mut stream, SEARCHED)?;
    let mut offset = 0;
    // The window grows only for a record that may be one.
    while offset < window.bytes.len() {
        let mut next = Some(offset);
        for _ in 0..CHAIN {
            let Some(from) = next else { break };
            window.fill(&mut stream, from + LARGEST_BLOCK)?;
            // The last one may be cut off.
            if from >= window.bytes.len() {
                break;
            }
            next = record_size(&window.bytes[from..], references).map(|size| from + size);
        }
        if next.is_some() {
            return Ok(Some(place_of(stream.is_packed(), at, offset as u64)));
        }
        offset += 1;
        if offset + LARGEST_BLOCK > window.bytes.len() {
            window.fill(&mut stream, window.bytes.len() + SEARCHED)?;
        }
    }
    Ok(None)
}

/// What was read of a stream.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    /// There is no more.
    ended: bool,
}

impl Window {
    /// Reads up to `len` bytes in all.
    fn fill(&mut self, stream: &mut Stream, len: usize) -> Result<(), InputError> {
        let mut have = self.bytes.len();
        if have >= len || self.ended {
            return Ok(());
        }
        self.bytes.resize(len, 0);
        while have < len {
            match stream.read(&mut self.bytes[have..])? {
                0 => {
                    self.ended = true;
                    break;
                }
                read => have += read,
            }
        }
        self.bytes.truncate(have);
        Ok(())
    }
}

/// Bytes of the record that `bytes` begin with, where that looks like one (SAM/BAM specification,
/// section 4.2).
fn record_size(bytes: &[u8], references: u32) -> Option<usize> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(i32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    };
    let size = usize::try_from(number(0)?).ok()?;
    if size > LARGEST_RECORD {
        return None;
    }
    let is_reference = |id: i32| id >= -1 && i64::from(id) < i64::from(references);
    let places = is_reference(number(4)?) && number(8)? >= -1;
    let mates = is_reference(number(24)?) && number(28)? >= -1;
    if !places || !mates {
        return None;
    }
    let name_length = usize::from(bytes[12]);
    let cigar = usize::from(u16::from_le_bytes([bytes[16], bytes[17]]));
    let bases = usize::try_from(number(20)?).ok()?;
    let fixed = FIXED as usize + 4;
    let used = fixed + name_length + 4 * cigar + bases.div_ceil(2) + bases;
    let name = bytes.get(fixed..fixed + name_length)?;
    let (end, letters) = name.split_last()?;
    let is_name = *end == 0 && letters.iter().all(|byte| (b'!'..=b'~').contains(byte));
    (is_name && !letters.is_empty() && used <= size + 4).then_some(size + 4)
}
