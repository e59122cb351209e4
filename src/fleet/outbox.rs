//! The lines of a file that may still be growing.

use super::envelope::Envelope;
use super::error::FleetError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a run writes, as the one who publishes it reads it: whole lines, up to where they will not
/// change any more.
#[derive(Debug)]
pub struct Outbox {
    file: File,
    path: PathBuf,
    /// Whose lines they are.
    run: String,
    source: String,
    /// Lines behind this byte may still be taken back.
    settled: Arc<AtomicU64>,
}

impl Outbox {
    /// The file at `path`, of this run and source. Lines count up to `settled` bytes.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(
        path: &Path,
        run: &str,
        source: &str,
        settled: Arc<AtomicU64>,
    ) -> Result<Outbox, FleetError> {
        let file = File::open(path).map_err(|source| FleetError::Io {
            file: path.to_owned(),
            source,
        })?;
        Ok(Outbox {
            file,
            path: path.to_owned(),
            run: run.to_owned(),
            source: source.to_owned(),
            settled,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn subject(&self, stream: &str) -> String {
        format!("{stream}.{}.{}", self.run, self.source)
    }

    /// Bytes that can be published by now, as far as the file's length says.
    pub fn length(&self) -> Result<u64, FleetError> {
        let about = self.file.metadata().map_err(|error| self.failed(error))?;
        Ok(about.len().min(self.settled.load(Ordering::Acquire)))
    }

    /// Whole lines from `offset` on, of up to `limit` bytes; no bytes where there is none.
    pub fn lines(&mut self, offset: u64, limit: usize) -> Result<Vec<u8>, FleetError> {
        let there = self.length()?.saturating_sub(offset);
        let mut lines = self.bytes(offset, there.min(limit as u64))?;
        let end = lines.iter().rposition(|&byte| byte == b'\n');
        let end = end.map_or(0, |last| last + 1);
        if end == 0 && lines.len() == limit {
            return Err(FleetError::TooLong {
                what: format!("{}: the line at byte {offset}", self.path.display()),
                limit,
            });
        }
        lines.truncate(end);
        Ok(lines)
    }

    fn bytes(&mut self, offset: u64, count: u64) -> Result<Vec<u8>, FleetError> {
        let mut bytes = vec![];
        let mut read = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(offset))?;
            (&self.file).take(count).read_to_end(&mut bytes)?;
            Ok(())
        };
        read().map_err(|error| self.failed(error))?;
        Ok(bytes)
    }

    /// The envelope of lines that begin there.
    pub fn envelope(&self, offset: u64, lines: &[u8]) -> Envelope {
        Envelope {
            run: self.run.clone(),
            source: self.source.clone(),
            offset,
            bytes: lines.len() as u64,
            lines: lines.iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }

    /// Where to go on behind a message that a broker has.
    ///
    /// # Errors
    /// [`FleetError::Conflict`] where the file does not hold what the message does.
    pub fn behind(&mut self, message: &[u8], subject: &str) -> Result<u64, FleetError> {
        let conflict = FleetError::Conflict {
            subject: subject.to_owned(),
            file: self.path.clone(),
        };
        let Some((envelope, lines)) = Envelope::open(message) else {
            return Err(conflict);
        };
        let own = self.envelope(envelope.offset, lines);
        let end = envelope.offset.checked_add(envelope.bytes);
        let end = end.filter(|_| own == envelope).ok_or(conflict)?;
        if self.bytes(envelope.offset, envelope.bytes)? != lines {
            return Err(FleetError::Conflict {
                subject: subject.to_owned(),
                file: self.path.clone(),
            });
        }
        Ok(end)
    }

    fn failed(&self, source: io::Error) -> FleetError {
        FleetError::Io {
            file: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn outbox(text: &str, settled: u64) -> (tempfile::NamedTempFile, Outbox) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let settled = Arc::new(AtomicU64::new(settled));
        let outbox = Outbox::open(file.path(), "run", "box", settled).unwrap();
        (file, outbox)
    }

    #[test]
    fn only_whole_lines_that_are_settled_come_out() {
        let (_file, mut outbox) = outbox("one\ntwo\nthr", u64::MAX);
        assert_eq!(outbox.lines(0, 100).unwrap(), b"one\ntwo\n");
        assert_eq!(outbox.lines(0, 7).unwrap(), b"one\n");
        assert_eq!(outbox.lines(4, 100).unwrap(), b"two\n");
        assert_eq!(outbox.lines(8, 100).unwrap(), b"");
        assert_eq!(outbox.lines(99, 100).unwrap(), b"");
        outbox.settled.store(7, Ordering::Release);
        assert_eq!(outbox.lines(0, 100).unwrap(), b"one\n");
        let long = outbox.lines(0, 3).unwrap_err();
        assert!(long.to_string().contains("the line at byte 0"), "{long}");
    }

    #[test]
    fn it_goes_on_behind_what_a_broker_has_and_only_if_that_is_its_own() {
        let (_file, mut outbox) = outbox("one\ntwo\n", u64::MAX);
        let message = |run: &str, offset: u64, lines: &str| {
            let (_file, other) = self::outbox("", 0);
            let mut envelope = other.envelope(offset, lines.as_bytes());
            envelope.run = run.into();
            envelope.seal(lines.as_bytes()).unwrap()
        };
        let mut behind = |message: &[u8]| outbox.behind(message, "CALLS.run.box").ok();
        assert_eq!(behind(&message("run", 0, "one\n")), Some(4));
        assert_eq!(behind(&message("run", 4, "two\n")), Some(8));
        for foreign in [
            message("run", 0, "two\n"),
            message("run", 8, "two\n"),
            message("run", u64::MAX, "two\n"),
            message("else", 0, "one\n"),
            b"something else".to_vec(),
        ] {
            assert_eq!(behind(&foreign), None);
        }
    }
}
