//! How far files were annotated, and what came of it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The first line of a journal.
const TITLE: &str = "strandline journal 1";

/// How far each file was annotated, and how long the output was then.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    committed: HashMap<String, u64>,
    output: Option<u64>,
}

impl Journal {
    /// Opens a journal, or begins one. A last line that was cut off counts as not written.
    ///
    /// # Errors
    /// Where it cannot be read or written, or is something else.
    pub(super) fn open(path: &Path) -> io::Result<Journal> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        // A last line without its end was never committed.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut committed = HashMap::new();
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
            committed.insert(file.to_string(), bytes);
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
            committed,
            output,
        })
    }

    /// Uncompressed bytes of a file whose calls were committed.
    pub(super) fn committed(&self, identity: &str) -> u64 {
        self.committed.get(identity).copied().unwrap_or(0)
    }

    /// Length of the output at the last commit; `None` before the first.
    pub(super) fn output_length(&self) -> Option<u64> {
        self.output
    }

    /// Commits a pass: the calls of `bytes` of the file are written, the output is `output` bytes
    /// long, and both are on disk.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn commit(
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
        self.committed.insert(identity.to_string(), bytes);
        self.output = Some(output);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_forgets_what_was_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let id = "a".repeat(64);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.committed(&id), journal.output_length()), (0, None));
        journal.commit(&id, 10, 100, Path::new("x\ty")).unwrap();
        journal.commit(&id, 20, 200, Path::new("x")).unwrap();
        let text = fs::read(&path).unwrap();
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let lines = text[..cut].iter().filter(|&&b| b == b'\n').count();
            let journal = Journal::open(&path).unwrap();
            let expected = [(0, None), (0, None), (10, Some(100)), (20, Some(200))][lines];
            assert_eq!(
                (journal.committed(&id), journal.output_length()),
                expected,
                "cut at {cut}"
            );
        }
        fs::write(&path, b"something else\n").unwrap();
        assert!(Journal::open(&path).is_err());
    }
}
