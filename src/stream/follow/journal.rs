//! How far files were annotated, and what came of it.
//!
//! The first line says which options the output depends on. Each other line commits a pass over a
//! file: how far it was read, the hash of all its bytes up to there, and the output's length and
//! what was added to it. Every line begins with a checksum of itself, so that one that was torn is
//! known.

use crate::reads::growing::Position;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What the first line begins with, behind its checksum.
const TITLE: &str = "strandline journal 2";

/// Hexadecimal digits of a checksum.
const CHECK: usize = 16;

/// The first bytes of a file, by which most others are told apart from it without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) hash: blake3::Hash,
}

/// The most bytes of a [`Head`].
pub(super) const HEAD: usize = 4096;

/// A position in a file that was committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) records: u64,
    pub(super) lost: bool,
    /// Of all bytes before it.
    pub(super) hash: blake3::Hash,
    pub(super) head: Head,
}

impl Entry {
    pub(super) fn new(position: &Position, head: Head) -> Entry {
        Entry {
            offset: position.offset,
            records: position.records,
            lost: position.lost,
            hash: position.hash.finalize(),
            head,
        }
    }

    /// The position, in a file with this `hash` of what lies before it.
    pub(super) fn position(&self, hash: blake3::Hasher) -> Position {
        Position {
            offset: self.offset,
            records: self.records,
            lost: self.lost,
            hash,
        }
    }
}

/// A line of the journal.
#[derive(Debug, Clone)]
struct Commit {
    entry: Entry,
    /// Length of the output, and the hash of what the pass added to it.
    output: u64,
    added: blake3::Hash,
    path: PathBuf,
    /// Where the line ends in the journal.
    end: u64,
}

/// How far each file was annotated.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// By their offsets.
    entries: HashMap<u64, Vec<Entry>>,
    paths: HashSet<PathBuf>,
    /// Of the output, at the last commit.
    length: u64,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub(super) enum JournalError {
    Io(io::Error),
    /// Another run has it.
    Locked,
    /// A line that is none, with others behind it.
    Damaged(usize),
    /// The output depends on options that were others.
    Options(String),
    /// There is nothing in it, though the output holds something.
    Missing,
    /// It is that of the run, and nothing in it is true of the output, which begins as one of the
    /// run does.
    Cut {
        /// Nothing was ever committed.
        begun: bool,
    },
    /// Nothing in it is true of the output.
    Mismatch,
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> JournalError {
        JournalError::Io(error)
    }
}

impl Journal {
    /// Opens a journal, or begins one, and cuts the output and it back to the last commit that is
    /// true of both. `header` is what the output begins with. Also gives the files whose commits
    /// were given up, and how far they had been annotated.
    pub(super) fn open(
        path: &Path,
        options: &str,
        output: &mut File,
        header: &[u8],
    ) -> Result<(Journal, Vec<(PathBuf, Entry)>), JournalError> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = open?;
        match file.try_lock() {
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => (),
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked),
        }
        let mut text = vec![];
        file.read_to_end(&mut text)?;
        let title = format!("{TITLE}\t{}", clean(options));
        let (mut commits, title_end) = parse(&text, &title)?;
        let length = output.metadata()?.len();
        // A run that was ended before its first commit wrote no more than the header.
        let mut start = vec![0; length.min(header.len() as u64) as usize];
        output.seek(SeekFrom::Start(0))?;
        output.read_exact(&mut start)?;
        let is_ours = start == header[..start.len()] || start.iter().all(|&b| b == 0);
        let just_begun = length <= header.len() as u64 && is_ours;
        if title_end == 0 && !is_torn_title(&text, &title) {
            return Err(JournalError::Damaged(1));
        }
        while let Some(last) = commits.last() {
            let before = match commits.len() {
                1 => 0,
                n => commits[n - 2].output,
            };
            if last.output <= length && added(output, before..last.output)? == last.added {
                break;
            }
            commits.pop();
        }
        if commits.is_empty() && !just_begun {
            return Err(match (title_end, is_ours) {
                (0, _) => JournalError::Missing,
                (_, true) => JournalError::Cut {
                    begun: title_end == text.len() as u64,
                },
                (_, false) => JournalError::Mismatch,
            });
        }
        let given_up = parse(&text, &title)?.0.split_off(commits.len());
        let end = commits.last().map_or(title_end, |last| last.end);
        if end == 0 {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(line(&title).as_bytes())?;
        } else {
            file.set_len(end)?;
            file.seek(SeekFrom::End(0))?;
        }
        file.sync_all()?;
        let length = commits.last().map_or(0, |last| last.output);
        output.set_len(length)?;
        output.seek(SeekFrom::End(0))?;
        let mut journal = Journal {
            file,
            entries: HashMap::new(),
            paths: HashSet::new(),
            length,
        };
        for commit in commits {
            journal.remember(commit.entry, &commit.path, commit.output);
        }
        // Of each file the furthest.
        let mut furthest: BTreeMap<PathBuf, Entry> = BTreeMap::new();
        for Commit { path, entry, .. } in given_up {
            let before = furthest.get(&path).map_or(0, |before| before.offset);
            if entry.offset >= before {
                furthest.insert(path, entry);
            }
        }
        Ok((journal, furthest.into_iter().collect()))
    }

    fn remember(&mut self, entry: Entry, path: &Path, output: u64) {
        self.entries.entry(entry.offset).or_default().push(entry);
        if !self.paths.contains(path) {
            self.paths.insert(path.to_owned());
        }
        self.length = output;
    }

    /// Lets another run have it.
    pub(super) fn release(&self) {
        let _ = self.file.unlock();
    }

    /// Length of the output at the last commit.
    pub(super) fn output_length(&self) -> u64 {
        self.length
    }

    /// True where a file of this name was annotated.
    pub(super) fn knows_path(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// Offsets that were committed of files that begin so, in order. `head_of` gives the hash of so
    /// many first bytes of the file at hand, if it has so many.
    pub(super) fn offsets(
        &self,
        mut head_of: impl FnMut(usize) -> Option<blake3::Hash>,
    ) -> Vec<u64> {
        let mut heads = HashMap::new();
        let mut fits = |entry: &Entry| {
            let Head { length, hash } = entry.head;
            *heads.entry(length).or_insert_with(|| head_of(length)) == Some(hash)
        };
        let all = self.entries.iter();
        let fitting = all.filter(|(_, entries)| entries.iter().any(&mut fits));
        let mut offsets: Vec<u64> = fitting.map(|(&offset, _)| offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// What was committed at `offset` of a file with this hash of its bytes up to there.
    pub(super) fn entry(&self, offset: u64, hash: &blake3::Hash) -> Option<&Entry> {
        let mut entries = self.entries.get(&offset)?.iter().rev();
        entries.find(|entry| entry.hash == *hash)
    }

    /// Commits a pass: the calls of a file up to `entry` are written, the output is `output`
    /// bytes long, `added` is the hash of what the pass added, and all is on disk.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn commit(
        &mut self,
        entry: Entry,
        output: u64,
        added: blake3::Hash,
        path: &Path,
    ) -> io::Result<()> {
        let text = format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{output}\t{}\t{}",
            entry.offset,
            entry.records,
            u8::from(entry.lost),
            entry.hash.to_hex(),
            entry.head.length,
            entry.head.hash.to_hex(),
            added.to_hex(),
            clean(&path.to_string_lossy()),
        );
        // One write: a line is there whole, or is torn.
        self.file.write_all(line(&text).as_bytes())?;
        self.file.sync_data()?;
        self.remember(entry, path, output);
        Ok(())
    }
}

/// The hash of a part of the output.
fn added(output: &mut File, part: std::ops::Range<u64>) -> io::Result<blake3::Hash> {
    output.seek(SeekFrom::Start(part.start))?;
    let mut hash = blake3::Hasher::new();
    let length = part.end.saturating_sub(part.start);
    io::copy(&mut output.take(length), &mut hash)?;
    Ok(hash.finalize())
}

fn line(text: &str) -> String {
    format!("{}\t{text}\n", check(text))
}

fn check(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..CHECK].to_string()
}

/// On one line.
fn clean(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}

/// True for what a power cut may leave of the first line: nothing, or its beginning and zeros.
fn is_torn_title(text: &[u8], title: &str) -> bool {
    let zeros = text.iter().rev().take_while(|&&b| b == 0).count();
    line(title)
        .as_bytes()
        .starts_with(&text[..text.len() - zeros])
}

/// What the output of a journal depends on; `None` where there is no journal with a whole title.
pub fn options_of(path: &Path) -> Option<String> {
    let mut title = vec![];
    let file = File::open(path).ok()?.take(1 << 20);
    BufReader::new(file).read_until(b'\n', &mut title).ok()?;
    let options = checked(&title)?.strip_prefix(TITLE)?;
    Some(options.trim_start().to_string())
}

/// The commits of a journal, and where its title ends, 0 without one. What was torn at its end is
/// left out.
fn parse(text: &[u8], title: &str) -> Result<(Vec<Commit>, u64), JournalError> {
    let mut commits = vec![];
    let mut title_end = 0;
    let mut end = 0;
    let mut torn = None;
    for (number, raw) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        end += raw.len() as u64;
        let Some(text) = checked(raw) else {
            torn.get_or_insert(number + 1);
            continue;
        };
        if let Some(number) = torn {
            return Err(JournalError::Damaged(number));
        }
        if number == 0 {
            if text != title {
                let options = text.strip_prefix(TITLE).map(str::trim_start);
                return Err(match options {
                    Some(options) => JournalError::Options(options.to_string()),
                    None => JournalError::Damaged(1),
                });
            }
            title_end = end;
            continue;
        }
        let commit = commit(text, end).ok_or(JournalError::Damaged(number + 1))?;
        commits.push(commit);
    }
    Ok((commits, title_end))
}

/// The text of a line whose checksum is right.
fn checked(raw: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(raw.strip_suffix(b"\n")?).ok()?;
    let (sum, text) = line.split_once('\t')?;
    (sum == check(text)).then_some(text)
}

fn commit(text: &str, end: u64) -> Option<Commit> {
    let mut fields = text.splitn(9, '\t');
    let mut next = || fields.next();
    let hash = |text: Option<&str>| blake3::Hash::from_hex(text?).ok();
    let offset = next()?.parse().ok()?;
    let records = next()?.parse().ok()?;
    let lost = next()? == "1";
    let own = hash(next())?;
    let head = Head {
        length: next()?.parse().ok()?,
        hash: hash(next())?,
    };
    Some(Commit {
        entry: Entry {
            offset,
            records,
            lost,
            hash: own,
            head,
        },
        output: next()?.parse().ok()?,
        added: hash(next())?,
        path: next()?.into(),
        end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HEADER: &[u8] = b"#calls\n";

    struct Scratch {
        folder: tempfile::TempDir,
    }

    impl Scratch {
        fn new() -> Scratch {
            Scratch {
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn journal(&self) -> PathBuf {
            self.folder.path().join("journal")
        }

        fn output(&self) -> PathBuf {
            self.folder.path().join("output")
        }

        fn open(&self) -> Result<(Journal, Vec<(PathBuf, Entry)>), JournalError> {
            let mut open = OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false);
            let mut output = open.open(self.output()).unwrap();
            Journal::open(&self.journal(), "options", &mut output, HEADER)
        }

        /// Three passes over a file, each of which adds 100 bytes.
        fn filled() -> Scratch {
            let scratch = Scratch::new();
            let (mut journal, _) = scratch.open().unwrap();
            let mut output = vec![];
            for pass in 1..=3u8 {
                let added = vec![pass; 100];
                output.extend_from_slice(&added);
                fs::write(scratch.output(), &output).unwrap();
                let position = position(u64::from(pass) * 10);
                let (added, length) = (blake3::hash(&added), output.len() as u64);
                journal
                    .commit(
                        Entry::new(&position, head()),
                        length,
                        added,
                        Path::new("x\ty"),
                    )
                    .unwrap();
            }
            scratch
        }
    }

    fn position(offset: u64) -> Position {
        let mut hash = blake3::Hasher::new();
        hash.update(&vec![7; offset as usize]);
        Position {
            offset,
            records: 1,
            lost: offset == 20,
            hash,
        }
    }

    fn head() -> Head {
        Head {
            length: 2,
            hash: blake3::hash(&[7, 7]),
        }
    }

    #[test]
    fn positions_are_found_by_what_lies_before_them() {
        let scratch = Scratch::filled();
        let (journal, given_up) = scratch.open().unwrap();
        assert!(given_up.is_empty());
        assert_eq!(journal.output_length(), 300);
        let offsets = journal.offsets(|n| Some(blake3::hash(&vec![7; n])));
        assert_eq!(offsets, [10, 20, 30]);
        assert!(journal.offsets(|_| Some(blake3::hash(b"other"))).is_empty());
        let entry = journal.entry(20, &position(20).hash.finalize()).unwrap();
        assert!(entry.lost && entry.records == 1);
        assert!(journal.entry(20, &position(10).hash.finalize()).is_none());
        assert!(journal.knows_path(Path::new("x y")));
    }

    #[test]
    fn one_run_at_a_time_and_with_the_same_options() {
        let scratch = Scratch::filled();
        let (held, _) = scratch.open().unwrap();
        assert!(matches!(scratch.open(), Err(JournalError::Locked)));
        drop(held);
        let mut output = File::open(scratch.output()).unwrap();
        let other = Journal::open(&scratch.journal(), "others", &mut output, HEADER);
        assert!(matches!(other, Err(JournalError::Options(text)) if text == "options"));
    }

    /// Whatever a power cut takes from the ends of both, they agree afterwards.
    #[test]
    fn what_was_cut_off_is_noticed() {
        let text = fs::read(Scratch::filled().journal()).unwrap();
        let ends: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'\n').collect();
        for cut in (0..=text.len()).step_by(7) {
            for (kept, zeros) in [(300, 0), (299, 0), (299, 1), (150, 0), (150, 77), (100, 0)] {
                let scratch = Scratch::filled();
                fs::write(scratch.journal(), &text[..cut]).unwrap();
                let output = fs::read(scratch.output()).unwrap();
                let output = [&output[..kept], &vec![0; zeros]].concat();
                fs::write(scratch.output(), &output).unwrap();
                let lines = ends.iter().filter(|&&end| end < cut).count();
                let commits = lines.saturating_sub(1).min(kept / 100);
                match scratch.open() {
                    Ok((journal, given_up)) => {
                        assert_eq!(journal.output_length(), 100 * commits as u64);
                        let given_up = !given_up.is_empty();
                        assert_eq!(given_up, lines.saturating_sub(1) > commits);
                        let left = fs::read(scratch.output()).unwrap();
                        assert_eq!(left, output[..100 * commits]);
                    }
                    Err(error) => {
                        let titled = lines > 0;
                        match error {
                            JournalError::Missing => assert!(!titled),
                            JournalError::Mismatch => assert!(titled),
                            other => panic!("{other:?}"),
                        }
                        assert_eq!(commits, 0);
                        assert_eq!(fs::read(scratch.output()).unwrap(), output);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_journal_is_left_alone() {
        let scratch = Scratch::new();
        fs::write(scratch.journal(), b"something\nelse\n").unwrap();
        assert!(matches!(scratch.open(), Err(JournalError::Damaged(1))));
        assert_eq!(fs::read(scratch.journal()).unwrap(), b"something\nelse\n");
        let scratch = Scratch::filled();
        fs::write(scratch.output(), [9; 1000]).unwrap();
        assert!(matches!(scratch.open(), Err(JournalError::Mismatch)));
        let mut text = fs::read(scratch.journal()).unwrap();
        let middle = text.iter().position(|&b| b == b'\n').unwrap() + 30;
        text[middle] ^= 1;
        fs::write(scratch.journal(), &text).unwrap();
        assert!(matches!(scratch.open(), Err(JournalError::Damaged(2))));
    }
}
