//! A file that may still grow.

use super::frames::{Frames, read_bam_header};
use crate::reads::bam;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes read at a time.
const BLOCK: usize = 1 << 16;

/// The longest record that is waited for.
const LONGEST: usize = 64 << 20;

/// The complete records of a file that may still grow: what lies behind the last of them is not
/// given out.
pub(super) struct Growing {
    bytes: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Of the buffer: given out, and complete.
    given: usize,
    complete: usize,
    /// Of the buffer: looked at.
    looked: usize,
    frames: Frames,
    /// Uncompressed bytes to pass over: committed before.
    skip: u64,
    /// Bytes to give out that were committed before: the header.
    again: usize,
    reached: Arc<AtomicU64>,
    ended: bool,
}

impl Growing {
    /// Opens a file of which `skip` uncompressed bytes were committed before. `reached` is where
    /// the last complete record given out ends.
    ///
    /// # Errors
    /// Where it cannot be opened or its first bytes cannot be read.
    pub(super) fn open(path: &Path, skip: u64, reached: Arc<AtomicU64>) -> io::Result<Growing> {
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
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(MultiGzDecoder::new(file)))
    } else {
        Ok(Box::new(file))
    }
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
pub(super) fn identity(path: &Path) -> io::Result<Option<String>> {
    let (mut bytes, start) = begin(path)?;
    let known = if start == bam::MAGIC {
        first_name(&mut bytes)
    } else {
        first_line(io::Cursor::new(start).chain(bytes))
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
pub(super) fn incomplete(path: &Path, committed: u64) -> io::Result<u64> {
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
    Ok(length.saturating_sub(committed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs;
    use std::io::Write;

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
            let (mut got, mut read_to) = (vec![], 0);
            for length in (1..=bytes.len()).step_by(7).chain([bytes.len()]) {
                fs::write(&path, &bytes[..length]).unwrap();
                let (new, reached) = read(&path, read_to);
                assert_eq!(reached, read_to + new.len() as u64);
                assert_eq!(new.iter().filter(|&&b| b == b'\n').count() % 4, 0);
                got.extend(new);
                read_to = reached;
            }
            assert_eq!(got, whole, "{name}");
            assert_eq!(incomplete(&path, read_to).unwrap(), 0);
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
            let mut read_to = 0;
            for length in 4..=bytes.len() {
                fs::write(&path, &bytes[..length]).unwrap();
                let (new, reached) = read(&path, read_to);
                let again = if read_to > 0 { header.len() } else { 0 };
                assert_eq!(reached - read_to, (new.len() - again) as u64);
                assert!(new.is_empty() || new.starts_with(header));
                got.extend(&new[again..]);
                read_to = reached;
            }
            assert!(got == whole);
            assert_eq!(incomplete(&path, read_to).unwrap(), 0);
        }
        let known = identity(&path).unwrap();
        fs::write(&path, &whole).unwrap();
        assert!(known.is_some() && identity(&path).unwrap() == known);
        fs::write(&path, &whole[..header.len() + 38]).unwrap();
        assert_eq!(identity(&path).unwrap(), None);
        // A size that is none: the parser is to say so, so it gets the rest.
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
}
