//! A folder that a basecaller fills: FASTQ and BAM files that grow, are renamed, compressed, completed; each read exactly once.
//!
//! [`Folder`] finds files with something new in them, [`Growing`] gives what is complete of one, and a [`Journal`] remembers how far each was
//! annotated. A pass takes the complete records of one file to the output; when these are written and safe on disk, one line
//! goes to the journal, with the output's length. Whatever ends the program in between, `kill -9` and power included: the next run
//! cuts the output back to the journal's last length and takes the pass again.
//!
//! A file is known by its first header line, or a BAM file by its first record's name, which is a read's and therefore no other file's: not by
//! its name, which changes when it is complete, nor by its bytes, which change when it is compressed. How far it was read is counted in
//! uncompressed bytes. What follows a BAM file's header cannot be understood without it, so each pass begins with the header.

use crate::fastx::bam;
use flate2::bufread::MultiGzDecoder;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// The first line of a journal.
const TITLE: &str = "strandline journal 1";

/// Bytes read at a time.
const BLOCK: usize = 1 << 16;

/// The longest record that is waited for.
const LONGEST: usize = 64 << 20;

/// Files under a folder that may hold reads.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Size and time of change when a file was last taken.
    seen: HashMap<PathBuf, (u64, SystemTime)>,
}

impl Folder {
    /// Nothing seen yet.
    pub fn new(path: PathBuf) -> Folder {
        Folder {
            path,
            seen: HashMap::new(),
        }
    }

    /// Files that are new or have changed, in order of name; nested folders too. A file that cannot be looked at is logged and looked at again.
    ///
    /// # Errors
    /// Where the folder itself cannot be read.
    pub fn changed(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![];
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if folder == self.path => return Err(error),
                // It may have gone since.
                Err(error) => {
                    log::debug!("{}: {error}", folder.display());
                    continue;
                }
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(about) = fs::metadata(&path) else {
                    continue;
                };
                if about.is_dir() {
                    folders.push(path);
                } else if may_hold_reads(&path) {
                    let state = (
                        about.len(),
                        about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    );
                    if self.seen.insert(path.clone(), state) != Some(state) {
                        found.push(path);
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// True for `.fastq`, `.fq` and `.bam`, compressed or not, also while a suffix such as `.part` or `.tmp` says that they grow; not for indices.
fn may_hold_reads(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| {
        let mut parts = name.split('.').skip(1);
        let index = [".bai", ".csi", ".fai", ".gzi"]
            .iter()
            .any(|i| name.ends_with(i));
        !index && parts.any(|part| ["fastq", "fq", "bam"].contains(&part))
    })
}

/// Where records end.
enum Frames {
    /// FASTQ: where the line at hand begins in the buffer, and lines of the record at hand.
    Lines { begin: usize, lines: u8 },
    /// BAM: bytes of the next size that are there, and bytes that the record at hand still lacks.
    Sizes { size: Vec<u8>, lacks: u64 },
    /// BAM whose next size is none: the parser tells.
    Broken,
}

impl Frames {
    /// Looks at the buffer from `at` on; gives where in it the last complete record ends, if one does.
    fn look(&mut self, buffer: &[u8], mut at: usize) -> Option<usize> {
        let mut complete = None;
        match self {
            Frames::Lines { begin, lines } => {
                while let Some(end) = buffer[at..].iter().position(|&b| b == b'\n') {
                    at += end + 1;
                    *lines = line_ends(*lines, buffer[*begin]);
                    *begin = at;
                    if *lines == 0 {
                        complete = Some(at);
                    }
                }
            }
            Frames::Sizes { size, lacks } => loop {
                let there = (buffer.len() - at) as u64;
                if *lacks > 0 {
                    let part = there.min(*lacks);
                    at += part as usize;
                    *lacks -= part;
                    if *lacks > 0 {
                        break;
                    }
                    complete = Some(at);
                    continue;
                }
                let part = (there as usize).min(4 - size.len());
                size.extend_from_slice(&buffer[at..at + part]);
                at += part;
                let Ok(whole) = <[u8; 4]>::try_from(&size[..]) else {
                    break;
                };
                size.clear();
                *lacks = match u64::try_from(i32::from_le_bytes(whole)) {
                    Ok(length) if length > 0 => length,
                    _ => {
                        *self = Frames::Broken;
                        return Some(buffer.len());
                    }
                };
            },
            Frames::Broken => return Some(buffer.len()),
        }
        complete
    }

    /// The buffer's first `n` bytes are gone.
    fn drained(&mut self, n: usize) {
        if let Frames::Lines { begin, .. } = self {
            *begin -= n;
        }
    }
}

/// Lines of the record at hand after one that begins with `first`. A record that is broken must not shift where the others end, so what cannot
/// be the line that is due begins the count anew, as the parser does.
fn line_ends(lines: u8, first: u8) -> u8 {
    match (lines, first) {
        (0, b'@') => 1,
        (0, _) => 0,
        (1, _) => 2,
        (2, b'+') => 3,
        (2, b'@') => 1,
        _ => 0,
    }
}

/// The header of a BAM file behind its magic, which is in `header`; false where it is not there whole.
fn read_bam_header(bytes: &mut dyn Read, header: &mut Vec<u8>) -> io::Result<bool> {
    let mut take = |n: u64| {
        let got = Read::take(&mut *bytes, n).read_to_end(header);
        match got {
            Ok(got) if got as u64 == n => Ok(header.last_chunk().map(|l| i32::from_le_bytes(*l))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    };
    let length = |field: Option<i32>| field.map(|n| u64::try_from(n).unwrap_or(u64::MAX >> 1));
    let Some(text) = length(take(4)?) else {
        return Ok(false);
    };
    if take(text)?.is_none() {
        return Ok(false);
    }
    let Some(references) = length(take(4)?) else {
        return Ok(false);
    };
    for _ in 0..references {
        let Some(name) = length(take(4)?) else {
            return Ok(false);
        };
        // The name, and the reference's length.
        if take(name + 4)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The complete records of a file that may still grow: what lies behind the last of them is not given out.
pub struct Growing {
    bytes: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Of the buffer: given out, and complete.
    given: usize,
    complete: usize,
    /// Of the buffer: looked at.
    looked: usize,
    frames: Frames,
    /// Uncompressed bytes to pass over: taken before.
    skip: u64,
    /// Bytes to give out that were taken before: the header.
    again: usize,
    reached: Arc<AtomicU64>,
    ended: bool,
}

impl Growing {
    /// Opens a file of which `skip` uncompressed bytes were taken before. `reached` is where the last complete record given out ends.
    ///
    /// # Errors
    /// Where it cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path, skip: u64, reached: Arc<AtomicU64>) -> io::Result<Growing> {
        reached.store(skip, Relaxed);
        let (mut bytes, mut buffer) = begin(path)?;
        let is_bam = buffer == bam::MAGIC;
        let ended = is_bam && !read_bam_header(&mut bytes, &mut buffer)?;
        if ended {
            buffer.clear();
        }
        let header = buffer.len() as u64;
        let mut growing = Growing {
            bytes,
            given: 0,
            complete: buffer.len(),
            looked: buffer.len(),
            buffer,
            frames: Frames::Sizes {
                size: vec![],
                lacks: 0,
            },
            skip: skip.saturating_sub(header),
            again: header.min(skip) as usize,
            reached,
            ended,
        };
        if !is_bam {
            // Its first bytes are as good as the others.
            growing.frames = Frames::Lines { begin: 0, lines: 0 };
            let start = std::mem::take(&mut growing.buffer);
            growing.bytes = Box::new(io::Cursor::new(start).chain(growing.bytes));
            (growing.complete, growing.looked, growing.again) = (0, 0, 0);
            growing.skip = skip;
        }
        Ok(growing)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.given);
        self.looked -= self.given;
        self.frames.drained(self.given);
        (self.given, self.complete) = (0, 0);
        while self.complete == 0 && !self.ended {
            let before = self.buffer.len();
            if before > LONGEST {
                return Err(io::Error::other(format!(
                    "a record of more than {LONGEST} bytes"
                )));
            }
            self.buffer.resize(before + BLOCK, 0);
            let read = self.bytes.read(&mut self.buffer[before..]);
            let mut n = match read {
                Ok(n) => n,
                // A compressed file that has grown no further yet.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(before);
                    continue;
                }
                Err(e) => {
                    self.buffer.truncate(before);
                    return Err(e);
                }
            };
            self.ended = n == 0;
            let skipped = self.skip.min(n as u64) as usize;
            self.skip -= skipped as u64;
            self.buffer
                .copy_within(before + skipped..before + n, before);
            n -= skipped;
            self.buffer.truncate(before + n);
            if let Some(complete) = self.frames.look(&self.buffer, self.looked) {
                self.complete = complete;
            }
            self.looked = self.buffer.len();
        }
        Ok(())
    }
}

impl Read for Growing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.complete {
            self.fill()?;
        }
        let n = out.len().min(self.complete - self.given);
        out[..n].copy_from_slice(&self.buffer[self.given..self.given + n]);
        self.given += n;
        let again = n.min(self.again);
        self.again -= again;
        self.reached.fetch_add((n - again) as u64, Relaxed);
        Ok(n)
    }
}

fn uncompressed(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(BLOCK, File::open(path)?);
    Ok(match file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    })
}

/// The uncompressed bytes of a file, and up to four of them that were read.
fn begin(path: &Path) -> io::Result<(Box<dyn Read + Send>, Vec<u8>)> {
    let mut bytes = uncompressed(path)?;
    let mut start = vec![];
    match bytes.by_ref().take(4).read_to_end(&mut start) {
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => Err(e),
        _ => Ok((bytes, start)),
    }
}

/// What a file is known by, once its first line, or its first record's name, is there.
///
/// # Errors
/// Where it cannot be read.
pub fn identity(path: &Path) -> io::Result<Option<String>> {
    let (mut bytes, start) = begin(path)?;
    let known = match start == bam::MAGIC {
        true => first_name(&mut bytes),
        false => first_line(io::Cursor::new(start).chain(bytes)),
    };
    match known {
        Ok(line) => Ok(line.map(|line| blake3::hash(&line).to_hex().to_string())),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn first_line(bytes: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut line = vec![];
    BufReader::new(bytes.take(1 << 16)).read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then_some(line))
}

/// The name of a BAM file's first record, behind the magic.
fn first_name(bytes: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    if !read_bam_header(bytes, &mut vec![])? {
        return Ok(None);
    }
    let mut fixed = [0; 4 + bam::FIXED as usize];
    bytes.read_exact(&mut fixed)?;
    let mut name = vec![0; usize::from(fixed[12])];
    bytes.read_exact(&mut name)?;
    Ok(Some(name))
}

/// Bytes behind the last complete record; to be asked at the end of a run.
///
/// # Errors
/// Where the file cannot be read.
pub fn incomplete(path: &Path, taken: u64) -> io::Result<u64> {
    let mut bytes = uncompressed(path)?;
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        match bytes.read(&mut block) {
            Ok(0) => break,
            Ok(n) => length += n as u64,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        }
    }
    Ok(length.saturating_sub(taken))
}

/// How far each file was annotated, and how long the output was then.
#[derive(Debug)]
pub struct Journal {
    file: File,
    taken: HashMap<String, u64>,
    output: Option<u64>,
}

impl Journal {
    /// Opens a journal, or begins one. A last line that was cut off counts as not written.
    ///
    /// # Errors
    /// Where it cannot be read or written, or is something else.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        // A last line without its end was never committed.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut taken = HashMap::new();
        let mut output = None;
        for (number, line) in whole.lines().enumerate() {
            if number == 0 && line == TITLE {
                continue;
            }
            let mut fields = line.splitn(4, '\t');
            let entry = (|| {
                let file = fields.next().filter(|f| f.len() == 64)?;
                Some((
                    file,
                    fields.next()?.parse().ok()?,
                    fields.next()?.parse().ok()?,
                ))
            })();
            let Some((file, bytes, length)) = entry.filter(|_| number > 0) else {
                let message = format!("line {} is none of a journal", number + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            taken.insert(file.to_string(), bytes);
            output = Some(length);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole.len() as u64)?;
        if whole.is_empty() {
            writeln!(file, "{TITLE}")?;
            file.sync_all()?;
        }
        Ok(Journal {
            file,
            taken,
            output,
        })
    }

    /// Uncompressed bytes of a file that were taken.
    pub fn taken(&self, identity: &str) -> u64 {
        self.taken.get(identity).copied().unwrap_or(0)
    }

    /// Length of the output at the last commit; `None` before the first.
    pub fn output(&self) -> Option<u64> {
        self.output
    }

    /// Commits a pass: `bytes` of the file are taken, the output is `output` bytes long, and both are on disk.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn commit(
        &mut self,
        identity: &str,
        bytes: u64,
        output: u64,
        path: &Path,
    ) -> io::Result<()> {
        let name = path.display().to_string().replace(['\n', '\t'], " ");
        // One write: a line is there whole, or its end is missing.
        let line = format!("{identity}\t{bytes}\t{output}\t{name}\n");
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.taken.insert(identity.to_string(), bytes);
        self.output = Some(output);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn records(n: usize) -> Vec<u8> {
        let record = |i: usize| {
            format!(
                "@r{i}\n{}\n+\n{}\n",
                "ACGT".repeat(i % 5),
                "IIII".repeat(i % 5)
            )
        };
        (0..n).map(record).collect::<String>().into_bytes()
    }

    fn read(path: &Path, skip: u64) -> (Vec<u8>, u64) {
        let reached = Arc::new(AtomicU64::new(0));
        let mut out = vec![];
        Growing::open(path, skip, reached.clone())
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        (out, reached.load(Relaxed))
    }

    #[test]
    fn a_growing_file_is_given_out_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let whole = records(40);
        let mut packed = GzEncoder::new(vec![], Compression::fast());
        packed.write_all(&whole).unwrap();
        let packed = packed.finish().unwrap();
        for (name, bytes) in [("a.fastq", &whole), ("a.fastq.gz", &packed)] {
            let path = folder.path().join(name);
            let (mut got, mut taken) = (vec![], 0);
            for length in (1..=bytes.len()).step_by(7).chain([bytes.len()]) {
                fs::write(&path, &bytes[..length]).unwrap();
                let (new, reached) = read(&path, taken);
                assert_eq!(reached, taken + new.len() as u64);
                assert_eq!(new.iter().filter(|&&b| b == b'\n').count() % 4, 0);
                got.extend(new);
                taken = reached;
            }
            assert_eq!(got, whole, "{name}");
            assert_eq!(incomplete(&path, taken).unwrap(), 0);
        }
        // Compressed, it is the same file.
        let of = |name: &str| identity(&folder.path().join(name)).unwrap().unwrap();
        assert_eq!(of("a.fastq"), of("a.fastq.gz"));
    }

    #[test]
    fn a_bam_file_begins_each_pass_with_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bam");
        let header = b"BAM\x01\x03\0\0\0@CO\x01\0\0\0\x02\0\0\0c\0\x09\0\0\0";
        let record = |n: u8| {
            let size = 40 + u32::from(n);
            let mut bytes = size.to_le_bytes().to_vec();
            bytes.resize(4 + size as usize, n);
            bytes[12] = 3;
            bytes
        };
        let whole: Vec<u8> = header
            .iter()
            .copied()
            .chain((0..20).flat_map(record))
            .collect();
        let mut packed = GzEncoder::new(vec![], Compression::fast());
        packed.write_all(&whole).unwrap();
        for bytes in [&whole, &packed.finish().unwrap()] {
            let mut got: Vec<u8> = vec![];
            let mut taken = 0;
            for length in 4..=bytes.len() {
                fs::write(&path, &bytes[..length]).unwrap();
                let (new, reached) = read(&path, taken);
                let again = if taken > 0 { header.len() } else { 0 };
                assert_eq!(reached - taken, (new.len() - again) as u64);
                assert!(new.is_empty() || new.starts_with(header));
                got.extend(&new[again..]);
                taken = reached;
            }
            assert!(got == whole);
            assert_eq!(incomplete(&path, taken).unwrap(), 0);
        }
        let known = identity(&path).unwrap();
        fs::write(&path, &whole).unwrap();
        assert!(known.is_some() && identity(&path).unwrap() == known);
        fs::write(&path, &whole[..header.len() + 38]).unwrap();
        assert_eq!(identity(&path).unwrap(), None);
        // A size that is none: the parser is to tell, so it gets the rest.
        let broken = [header, &[0xff; 40][..]].concat();
        fs::write(&path, &broken).unwrap();
        assert!(read(&path, 0).0 == broken);
    }

    #[test]
    fn what_has_no_end_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fq");
        fs::write(&path, b"@r").unwrap();
        assert_eq!(identity(&path).unwrap(), None);
        fs::write(&path, b"@r\nAC\n+\nII\n@s\nAC").unwrap();
        assert_eq!(read(&path, 0), (b"@r\nAC\n+\nII\n".to_vec(), 11));
        assert_eq!(incomplete(&path, 11).unwrap(), 5);
    }

    #[test]
    fn a_broken_record_does_not_shift_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fq");
        let good = "@r\nAC\n+\nII\n";
        for bad in [
            "@r\nAC\n+\n@s\nAC\n+\nII\n",
            "@r\nAC\nII\n",
            "AC\n+\nII\n",
            "@r\n+\nII\n",
            "@r\n@r\nAC\n+\nII\n",
            "\n\nrubbish\n",
            "@r\nAC\n+\nII\nII\nII\n",
        ] {
            let text = format!("{good}{bad}{good}{good}");
            fs::write(&path, &text).unwrap();
            assert_eq!(
                read(&path, 0),
                (text.clone().into_bytes(), text.len() as u64),
                "{bad:?}"
            );
            // A record without its end behind it is still waited for.
            fs::write(&path, text.clone() + "@r\nAC\n+\nI").unwrap();
            assert_eq!(read(&path, 0).1, text.len() as u64, "{bad:?}");
        }
    }

    #[test]
    fn a_folder_tells_what_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("pass/barcode01");
        fs::create_dir_all(&nested).unwrap();
        let file = nested.join("x.fastq.gz.part");
        fs::write(&file, b"1").unwrap();
        fs::write(folder.path().join("summary.txt"), b"1").unwrap();
        let mut watched = Folder::new(folder.path().to_owned());
        assert_eq!(watched.changed().unwrap(), std::slice::from_ref(&file));
        assert!(watched.changed().unwrap().is_empty());
        fs::write(&file, b"22").unwrap();
        assert_eq!(watched.changed().unwrap(), [file]);
        assert!(Folder::new("nowhere".into()).changed().is_err());
    }

    #[test]
    fn a_journal_forgets_what_was_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let id = "a".repeat(64);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.taken(&id), journal.output()), (0, None));
        journal.commit(&id, 10, 100, Path::new("x\ty")).unwrap();
        journal.commit(&id, 20, 200, Path::new("x")).unwrap();
        let text = fs::read(&path).unwrap();
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let lines = text[..cut].iter().filter(|&&b| b == b'\n').count();
            let journal = Journal::open(&path).unwrap();
            let expected = [(0, None), (0, None), (10, Some(100)), (20, Some(200))][lines];
            assert_eq!(
                (journal.taken(&id), journal.output()),
                expected,
                "cut at {cut}"
            );
        }
        fs::write(&path, b"something else\n").unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
