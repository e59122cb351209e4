//! Where a replay goes as files: a FASTQ stream, or a folder that fills.

use super::{Event, FlowCell, ReadData};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest sleep at a time, so that a replay can be stopped.
const NAP: Duration = Duration::from_millis(20);

impl<T: Target + ?Sized> Target for &mut T {
    fn event(&mut self, event: &Event, reads: &[ReadData]) -> io::Result<()> {
        (**self).event(event, reads)
    }

    fn idle(&mut self) -> io::Result<()> {
        (**self).idle()
    }

    fn finish(&mut self) -> io::Result<()> {
        (**self).finish()
    }
}

/// Takes events at their time.
pub trait Target {
    /// Takes a piece of a read.
    ///
    /// # Errors
    /// End the replay.
    fn event(&mut self, event: &Event, reads: &[ReadData]) -> io::Result<()>;

    /// Nothing is due for some 20 ms.
    ///
    /// # Errors
    /// End the replay.
    fn idle(&mut self) -> io::Result<()> {
        std::thread::sleep(NAP);
        Ok(())
    }

    /// The replay is over, or was stopped.
    ///
    /// # Errors
    /// Where what is left cannot be written.
    fn finish(&mut self) -> io::Result<()>;
}

/// What was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Played {
    /// Reads begun.
    pub reads: u64,
    /// Reads played to their end.
    pub complete: u64,
    /// Bases.
    pub bases: u64,
    /// The longest that a piece came after its time.
    pub latest: Duration,
}

/// Plays `cell` by the clock until its end, or until `stop`.
///
/// # Errors
/// Those of the target.
pub fn play(cell: FlowCell, target: &mut dyn Target, stop: &AtomicBool) -> io::Result<Played> {
    let start = Instant::now();
    let reads = cell.reads().clone();
    let mut played = Played::default();
    for event in cell {
        let due = start + event.at;
        loop {
            if stop.load(Ordering::Relaxed) {
                target.finish()?;
                return Ok(played);
            }
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            if wait > NAP {
                target.idle()?
            } else {
                std::thread::sleep(wait)
            }
        }
        played.latest = played.latest.max(due.elapsed());
        target.event(&event, &reads)?;
        played.reads += u64::from(event.first());
        played.complete += u64::from(event.last);
        played.bases += event.bases.len() as u64;
    }
    target.finish()?;
    Ok(played)
}

/// Writes a read as FASTQ. The qualities of the file it came from are not kept: all are Q20.
fn write_fastq(out: &mut Vec<u8>, name: &[u8], letters: &[u8]) {
    out.push(b'@');
    out.extend_from_slice(name);
    out.push(b'\n');
    out.extend_from_slice(letters);
    out.extend_from_slice(b"\n+\n");
    out.resize(out.len() + letters.len(), b'5');
    out.push(b'\n');
}

/// Every read as FASTQ when it ends.
pub struct FastqStream<W: Write> {
    out: W,
    text: Vec<u8>,
}

impl<W: Write> FastqStream<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> FastqStream<W> {
        FastqStream { out, text: vec![] }
    }
}

impl<W: Write> Target for FastqStream<W> {
    fn event(&mut self, event: &Event, reads: &[ReadData]) -> io::Result<()> {
        if !event.last {
            return Ok(());
        }
        let read = &reads[event.read];
        self.text.clear();
        write_fastq(&mut self.text, &read.name, &read.letters[..event.bases.end]);
        self.out.write_all(&self.text)?;
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

enum Growing {
    Plain(File),
    Gzip(Box<GzEncoder<File>>),
}

/// FASTQ files in a folder, the last of them growing, as basecallers leave them:
/// `reads_1.fastq.gz.part` until it is full, then without `.part`. A file that is there is an
/// error.
pub struct Folder {
    path: PathBuf,
    per_file: u64,
    gzip: bool,
    number: u64,
    within: u64,
    open: Option<(PathBuf, Growing)>,
    text: Vec<u8>,
}

impl Folder {
    /// Makes the folder where there is none. `per_file` reads go to each file.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn new(path: &Path, per_file: u64, gzip: bool) -> io::Result<Folder> {
        fs::create_dir_all(path)?;
        Ok(Folder {
            path: path.to_owned(),
            per_file: per_file.max(1),
            gzip,
            number: 0,
            within: 0,
            open: None,
            text: vec![],
        })
    }

    fn close(&mut self) -> io::Result<()> {
        if let Some((path, file)) = self.open.take() {
            match file {
                Growing::Plain(file) => file.sync_all()?,
                Growing::Gzip(encoder) => encoder.finish()?.sync_all()?,
            }
            // `.part` is the whole extension behind the last dot.
            let name = path.with_extension("");
            if name.try_exists()? {
                let message = format!("{} is there already", name.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            fs::rename(&path, name)?;
        }
        Ok(())
    }
}

impl Target for Folder {
    fn event(&mut self, event: &Event, reads: &[ReadData]) -> io::Result<()> {
        if !event.last {
            return Ok(());
        }
        if self.open.is_none() {
            self.number += 1;
            self.within = 0;
            let ending = if self.gzip { ".gz" } else { "" };
            let name = format!("reads_{}.fastq{ending}.part", self.number);
            let path = self.path.join(name);
            let file = File::create_new(&path)?;
            let file = if self.gzip {
                Growing::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
            } else {
                Growing::Plain(file)
            };
            self.open = Some((path, file));
        }
        let read = &reads[event.read];
        self.text.clear();
        write_fastq(&mut self.text, &read.name, &read.letters[..event.bases.end]);
        if let Some((_, file)) = &mut self.open {
            match file {
                Growing::Plain(file) => file.write_all(&self.text)?,
                Growing::Gzip(encoder) => {
                    encoder.write_all(&self.text)?;
                    encoder.flush()?;
                }
            }
        }
        self.within += 1;
        if self.within == self.per_file {
            self.close()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close()
    }
}

/// Breaks bytes on their way, in bursts.
pub struct Bursts<W: Write> {
    out: W,
    random: ChaCha8Rng,
    /// Mean bytes from one burst to the next.
    every: f64,
    /// Bytes until the next burst begins, or ends.
    left: u64,
    broken: bool,
    buffer: Vec<u8>,
}

impl<W: Write> Bursts<W> {
    /// A burst of 1 to 32 broken bytes every so many bytes on average, none where that is `None`.
    pub fn new(out: W, every: Option<u64>, seed: u64) -> Bursts<W> {
        let mut bursts = Bursts {
            out,
            random: ChaCha8Rng::seed_from_u64(seed ^ 0x6275_7273_7473),
            every: every.unwrap_or(0) as f64,
            left: u64::MAX,
            broken: false,
            buffer: vec![],
        };
        if every.is_some() {
            bursts.left = bursts.gap();
        }
        bursts
    }

    fn gap(&mut self) -> u64 {
        1 + (-self.every * (1.0 - self.random.random::<f64>()).ln()) as u64
    }
}

impl<W: Write> Write for Bursts<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.clear();
        for &byte in bytes {
            if self.left == 0 {
                self.broken = !self.broken;
                self.left = if self.broken {
                    self.random.random_range(1..=32)
                } else {
                    self.gap()
                };
            }
            self.left -= 1;
            let damage = if self.broken { self.random.random() } else { 0 };
            self.buffer.push(byte ^ damage);
        }
        self.out.write_all(&self.buffer)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::replay::{FlowCellConfig, load};
    use crate::reads::source::Input;

    fn cell() -> FlowCell {
        let read = |i: usize| ReadData {
            name: format!("r{i}").into_bytes(),
            letters: (0..300 + i * 7).map(|at| b"ACGTN"[at * i % 5]).collect(),
        };
        let config = FlowCellConfig {
            channels: 5,
            speed: 1e5,
            ..FlowCellConfig::default()
        };
        FlowCell::new((0..23).map(read).collect(), config)
    }

    fn sorted(mut reads: Vec<ReadData>) -> Vec<ReadData> {
        reads.sort_by(|a, b| a.name.cmp(&b.name));
        reads
    }

    #[test]
    fn files_hold_every_read() {
        let folder = tempfile::tempdir().unwrap();
        for gzip in [false, true] {
            let path = folder.path().join(if gzip { "gz" } else { "plain" });
            let mut target = Folder::new(&path, 10, gzip).unwrap();
            let played = play(cell(), &mut target, &AtomicBool::new(false)).unwrap();
            assert_eq!((played.reads, played.complete), (23, 23));
            let ending = if gzip { ".gz" } else { "" };
            let files = (1..=3).map(|n| path.join(format!("reads_{n}.fastq{ending}")));
            let read: Vec<Vec<ReadData>> = files.map(|f| load(Input::Path(f)).unwrap()).collect();
            assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
            assert_eq!(sorted(read.concat()), sorted(cell().reads().to_vec()));
            assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
        }
    }

    #[test]
    fn a_stream_holds_every_read_and_bursts_break_some() {
        let mut whole = vec![];
        play(
            cell(),
            &mut FastqStream::new(&mut whole),
            &AtomicBool::new(false),
        )
        .unwrap();
        let broken = |every| {
            let mut bytes = vec![];
            let mut bursts = Bursts::new(&mut bytes, every, 3);
            bursts.write_all(&whole).unwrap();
            bytes
        };
        assert_eq!(broken(None), whole);
        let some = broken(Some(1000));
        let differ = some.iter().zip(&whole).filter(|(a, b)| a != b).count();
        // Bursts of 16 bytes on average, one in a thousand bytes.
        let expected = whole.len() * 16 / 1000;
        assert!(
            differ > expected / 3 && differ < expected * 3,
            "{differ} of {expected}"
        );
        assert_eq!(broken(Some(1000)), some);
    }
}
