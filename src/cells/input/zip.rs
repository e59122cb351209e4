//! Zip archives as NumPy writes them: members stored or deflated, with or without zip64.
//!
//! Members are found by the central directory at the end of the file, so an archive that was cut
//! off has none. Each is read by a handle of its own, so that several stream side by side.

use crate::cells::error::CellsError;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

/// The end of central directory, without its comment.
const END: usize = 22;

/// Longest comment behind it.
const COMMENT: usize = u16::MAX as usize;

/// An entry of the central directory, without name, extra fields and comment.
const ENTRY: usize = 46;

/// A member's own header, without name and extra fields.
const LOCAL: usize = 30;

const BUFFER: usize = 1 << 16;

/// What the directory says of a member.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    method: u16,
    flags: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    header: u64,
}

/// The directory of an archive.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    path: PathBuf,
    file: String,
    members: Vec<Member>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

impl Archive {
    /// Reads the directory.
    pub(super) fn open(path: &Path) -> Result<Archive, CellsError> {
        let name = path.display().to_string();
        let failed = |source| CellsError::io(&name, source);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let tail = length.min((END + COMMENT) as u64);
        let bytes = read_at(&mut file, length - tail, tail).map_err(failed)?;
        let wrong = |byte: u64, reason: &str| CellsError::byte(&name, byte, reason);
        let ends = bytes.windows(END).rposition(|end| {
            let comment = u16_at(end, END - 2).unwrap_or(0);
            end.starts_with(b"PK\x05\x06") && usize::from(comment) <= COMMENT
        });
        let Some(at) = ends else {
            return Err(wrong(
                length,
                "the zip archive has no directory at its end: it may have been cut off",
            ));
        };
        let end_at = length - tail + at as u64;
        let end = &bytes[at..];
        let comment = u64::from(u16_at(end, END - 2).unwrap_or(0));
        if end_at + END as u64 + comment != length {
            return Err(wrong(
                end_at,
                "the zip archive does not end where its directory says",
            ));
        }
        let fields = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
        let (Some(count), Some(size), Some(start)) = fields else {
            return Err(wrong(end_at, "the zip directory is cut off"));
        };
        let mut directory = (u64::from(count), u64::from(size), u64::from(start));
        let mut directory_end = end_at;
        if count == u16::MAX || size == u32::MAX || start == u32::MAX {
            (directory, directory_end) =
                zip64(&mut file, end_at).map_err(failed)?.ok_or_else(|| {
                    wrong(
                        end_at,
                        "the zip archive lacks the zip64 directory that it speaks of",
                    )
                })?;
        }
        let (count, size, start) = directory;
        if start.checked_add(size) != Some(directory_end) {
            return Err(wrong(
                end_at,
                "the zip directory does not lie before its end",
            ));
        }
        let bytes = read_at(&mut file, start, size).map_err(failed)?;
        let members = members(&bytes).map_err(|at| {
            wrong(
                start + at as u64,
                "the zip directory has an entry that is damaged",
            )
        })?;
        if members.len() as u64 != count {
            let found = members.len();
            let reason = format!("the zip directory has {found} entries and says {count}");
            return Err(wrong(start, &reason));
        }
        let archive = Archive {
            path: path.into(),
            file: name,
            members,
        };
        // Names have no checksum, but each stands twice.
        for member in &archive.members {
            archive.seek(&mut file, member)?;
        }
        Ok(archive)
    }

    /// Puts the file at a member's first byte.
    fn seek(&self, file: &mut File, member: &Member) -> Result<(), CellsError> {
        let failed = |source| CellsError::io(&self.file, source);
        let own = LOCAL as u64 + member.name.len() as u64;
        let header = read_at(file, member.header, own).map_err(failed)?;
        let begins = header.starts_with(b"PK\x03\x04")
            && u16_at(&header, 26).map(usize::from) == Some(member.name.len())
            && header[LOCAL..] == *member.name.as_bytes();
        let Some(extra) = u16_at(&header, 28).filter(|_| begins) else {
            return Err(CellsError::byte(
                &self.file,
                member.header,
                format!(
                    "{} does not begin here, where the zip directory says",
                    member.name
                ),
            ));
        };
        file.seek_relative(i64::from(extra)).map_err(failed)
    }

    /// The archive's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Names of all members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.name)
    }

    /// Opens a member at its first byte; `None` where there is none of this name.
    pub(super) fn member(&self, name: &str) -> Result<Option<MemberReader>, CellsError> {
        let mut named = self.members.iter().filter(|member| member.name == name);
        let Some(member) = named.next() else {
            return Ok(None);
        };
        let wrong = |reason: &str| CellsError::part(&self.file, name, reason);
        if named.next().is_some() {
            return Err(wrong("the archive has it twice"));
        }
        if member.flags & 1 != 0 {
            return Err(wrong("it is encrypted"));
        }
        let failed = |source| CellsError::io(&self.file, source);
        let mut file = File::open(&self.path).map_err(failed)?;
        self.seek(&mut file, member)?;
        let raw = BufReader::with_capacity(BUFFER, file.take(member.compressed));
        let bytes = match member.method {
            0 if member.compressed != member.size => {
                return Err(wrong("it is stored, and its two sizes differ"));
            }
            0 => Bytes::Stored(raw),
            8 => Bytes::Deflated(Box::new(DeflateDecoder::new(raw))),
            method => {
                return Err(wrong(&format!(
                    "its compression is method {method}, where stored (0) and deflated (8) are read"
                )));
            }
        };
        Ok(Some(MemberReader {
            file: self.file.clone(),
            name: name.into(),
            bytes,
            crc: Crc::new(),
            expected: member.crc,
            left: member.size,
        }))
    }
}

/// Up to `length` bytes from `at`; fewer where the file ends.
fn read_at(file: &mut File, at: u64, length: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![];
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Count, size and start of the directory, and where the record that says so begins.
type Directory = ((u64, u64, u64), u64);

fn zip64(file: &mut File, end: u64) -> std::io::Result<Option<Directory>> {
    let Some(at) = end.checked_sub(20) else {
        return Ok(None);
    };
    let locator = read_at(file, at, 20)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let Some(start) = u64_at(&locator, 8) else {
        return Ok(None);
    };
    let record = read_at(file, start, 56)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Ok(None);
    }
    let fields = (
        u64_at(&record, 32),
        u64_at(&record, 40),
        u64_at(&record, 48),
    );
    let (Some(count), Some(size), Some(directory)) = fields else {
        return Ok(None);
    };
    Ok(Some(((count, size, directory), start)))
}

/// Entries of a directory; `Err` is where one is damaged.
fn members(bytes: &[u8]) -> Result<Vec<Member>, usize> {
    let (mut members, mut at) = (vec![], 0);
    while at < bytes.len() {
        let (member, length) = entry(&bytes[at..]).ok_or(at)?;
        members.push(member);
        at += length;
    }
    Ok(members)
}

fn entry(bytes: &[u8]) -> Option<(Member, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(bytes, at).map(usize::from));
    let (name, extra) = (ENTRY + name?, extra?);
    let length = name + extra + comment?;
    if length > bytes.len() {
        return None;
    }
    let mut member = Member {
        name: String::from_utf8_lossy(&bytes[ENTRY..name]).into_owned(),
        flags: u16_at(bytes, 8)?,
        method: u16_at(bytes, 10)?,
        crc: u32_at(bytes, 16)?,
        compressed: u64::from(u32_at(bytes, 20)?),
        size: u64::from(u32_at(bytes, 24)?),
        header: u64::from(u32_at(bytes, 42)?),
    };
    // Fields that have no room stand in an extra field, in this order.
    let mut extra = &bytes[name..name + extra];
    while extra.len() >= 4 {
        let length = usize::from(u16_at(extra, 2)?);
        let field = extra.get(4..4 + length)?;
        if u16_at(extra, 0)? == 1 {
            let mut at = 0;
            for value in [&mut member.size, &mut member.compressed, &mut member.header] {
                if *value == u64::from(u32::MAX) {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Some((member, length))
}

enum Bytes {
    Stored(BufReader<Take<File>>),
    Deflated(Box<DeflateDecoder<BufReader<Take<File>>>>),
}

/// A member's bytes, unpacked.
pub(super) struct MemberReader {
    file: String,
    name: String,
    bytes: Bytes,
    crc: Crc,
    expected: u32,
    left: u64,
}

impl MemberReader {
    /// Bytes that are left, as the directory says.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// An error that names archive and member.
    pub(super) fn wrong(&self, reason: impl ToString) -> CellsError {
        CellsError::part(&self.file, &self.name, reason)
    }

    /// Fills `out`. With the last byte the checksum is compared.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<(), CellsError> {
        if (out.len() as u64) > self.left {
            let (more, left) = (out.len(), self.left);
            return Err(self.wrong(format!("it ends {left} bytes on, where {more} are needed")));
        }
        let read = match &mut self.bytes {
            Bytes::Stored(bytes) => bytes.read_exact(out),
            Bytes::Deflated(bytes) => bytes.read_exact(out),
        };
        read.map_err(|source| self.wrong(format!("it cannot be unpacked: {source}")))?;
        self.crc.update(out);
        self.left -= out.len() as u64;
        if self.left == 0 && self.crc.sum() != self.expected {
            return Err(self.wrong("its checksum is wrong: the archive is damaged"));
        }
        Ok(())
    }
}
