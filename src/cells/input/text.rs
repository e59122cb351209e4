//! Lines of a text, plain or gzip. A last line without its end is an error where programs write the
//! text: a number that was cut off is a number too, so nothing else could tell such a file from a
//! whole one. Editors leave that end out, so that lists may lack it.

use crate::cells::error::CellsError;
use crate::reads::source::{Input, Stream};
use std::path::Path;

/// Bytes read at once.
const BUFFER: usize = 1 << 16;

/// What some programs write before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest line in bytes: a row of a table with a million genes has less.
const LONGEST_LINE: usize = 1 << 26;

/// Lines, one after another.
pub(super) struct Text {
    stream: Stream,
    buffer: Vec<u8>,
    /// What is left of the buffer.
    from: usize,
    to: usize,
    /// The last line's number, from 1.
    number: u64,
    /// Whether the last line may lack its end.
    by_hand: bool,
}

impl Text {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> Result<Text, CellsError> {
        Text::new(path, false)
    }

    /// Opens a text that people write.
    pub(super) fn by_hand(path: &Path) -> Result<Text, CellsError> {
        Text::new(path, true)
    }

    fn new(path: &Path, by_hand: bool) -> Result<Text, CellsError> {
        let input = Input::Path(path.into());
        let name = input.name().into();
        Ok(Text {
            stream: Stream::new(name, input.open()?)?,
            buffer: vec![0; BUFFER],
            from: 0,
            to: 0,
            number: 0,
            by_hand,
        })
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        self.stream.file()
    }

    /// An error at the last line; at the first where none was read.
    pub(super) fn wrong(&self, reason: impl ToString) -> CellsError {
        CellsError::line(self.file(), self.number.max(1), reason)
    }

    /// The last line's number, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, CellsError> {
        self.next_that(|_| true)
    }

    /// The next line that is `wanted`; those before it are passed over.
    pub(super) fn next_that(
        &mut self,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<&[u8]>, CellsError> {
        loop {
            let Some(length) = self.find()? else {
                return Ok(None);
            };
            let own = self.from..self.from + length;
            self.number += 1;
            self.from = (own.end + 1).min(self.to);
            if wanted(&self.buffer[own.clone()]) {
                let mut line = &self.buffer[own];
                if self.number == 1 {
                    line = line.strip_prefix(MARK).unwrap_or(line);
                }
                return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
            }
        }
    }

    /// The length of the next line, all of which is then in the buffer.
    fn find(&mut self) -> Result<Option<usize>, CellsError> {
        let mut looked = 0;
        loop {
            let rest = &self.buffer[self.from + looked..self.to];
            if let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(looked + at));
            }
            looked = self.to - self.from;
            if looked > LONGEST_LINE {
                self.number += 1;
                return Err(self.wrong(format!("it is longer than {LONGEST_LINE} bytes")));
            }
            if !self.fill()? {
                if looked == 0 {
                    return Ok(None);
                }
                if self.by_hand {
                    return Ok(Some(looked));
                }
                self.number += 1;
                return Err(self.wrong(
                    "the last line does not end with a line feed: the file may have been cut off",
                ));
            }
        }
    }

    /// Reads more behind what is left; false at the end of the file.
    fn fill(&mut self) -> Result<bool, CellsError> {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        if self.to == self.buffer.len() {
            self.buffer.resize(2 * self.to, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.to..])?;
        self.to += read;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(content: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut text = Text::open(file.path()).unwrap();
        let mut all = vec![];
        loop {
            match text.next() {
                Ok(Some(line)) => all.push(line.to_vec()),
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error.to_string())),
            }
            assert_eq!(text.number(), all.len() as u64);
        }
    }

    #[test]
    fn lines_of_any_length() {
        assert_eq!(lines(b""), (vec![], None));
        let long = vec![b'x'; 3 * BUFFER];
        let content = [b"a\r\n\n", &long[..], b"\nb\n"].concat();
        let expected = vec![b"a".to_vec(), vec![], long, b"b".to_vec()];
        assert_eq!(lines(&content), (expected, None));
    }

    #[test]
    fn a_byte_order_mark_is_no_letter() {
        assert_eq!(lines(b"\xef\xbb\xbfa\n").0, [b"a"]);
    }

    #[test]
    fn a_text_by_hand_may_lack_its_last_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\nbc").unwrap();
        let mut text = Text::by_hand(file.path()).unwrap();
        assert_eq!(text.next().unwrap(), Some(&b"a"[..]));
        assert_eq!(text.next().unwrap(), Some(&b"bc"[..]));
        assert_eq!(text.next().unwrap(), None);
    }

    #[test]
    fn a_last_line_without_its_end_is_an_error() {
        let (all, error) = lines(b"a\nb");
        assert_eq!(all, [b"a"]);
        assert!(
            error
                .unwrap()
                .contains("line 2: the last line does not end")
        );
    }
}
