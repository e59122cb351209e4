//! Lines of a text file, plain or compressed, each with its place.

use super::source::{Input, InputError, Stream};

/// Longest line in bytes that is held; a VCF of some hundred thousand samples has such.
pub const LONGEST_LINE: usize = 1 << 26;

/// Bytes read at once.
const BUFFER: usize = 1 << 16;

/// Lines, one after another.
pub struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
    /// What is left of the buffer.
    from: usize,
    to: usize,
    offset: u64,
    number: u64,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1.
    pub number: u64,
    /// Its first byte, 0-based, in the uncompressed text.
    pub offset: u64,
    /// It is longer than [`LONGEST_LINE`], and cut there.
    pub cut: bool,
}

impl Lines {
    /// Opens an input.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(input: Input) -> Result<Lines, InputError> {
        let name = input.name().into();
        let stream = Stream::new(name, input.open()?)?;
        Ok(Lines {
            stream,
            buffer: vec![0; BUFFER],
            from: 0,
            to: 0,
            offset: 0,
            number: 0,
        })
    }

    /// The input's name.
    pub fn file(&self) -> &str {
        self.stream.file()
    }

    /// Puts the next line into `line`, without its end; `None` behind the last one.
    ///
    /// # Errors
    /// Where the input cannot be read on; lines before have been given.
    pub fn next(&mut self, line: &mut Vec<u8>) -> Result<Option<Place>, InputError> {
        line.clear();
        let mut place = Place {
            number: self.number + 1,
            offset: self.offset,
            cut: false,
        };
        loop {
            if self.from == self.to {
                self.to = self.stream.read(&mut self.buffer)?;
                self.from = 0;
                if self.to == 0 {
                    break;
                }
            }
            let rest = &self.buffer[self.from..self.to];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let own = &rest[..end.unwrap_or(rest.len())];
            let room = own.len().min(LONGEST_LINE - line.len());
            place.cut |= room < own.len();
            line.extend_from_slice(&own[..room]);
            let used = own.len() + usize::from(end.is_some());
            self.from += used;
            self.offset += used as u64;
            if end.is_some() {
                break;
            }
        }
        if self.offset == place.offset {
            return Ok(None);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.number += 1;
        Ok(Some(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn lines(text: &[u8]) -> Vec<(Vec<u8>, u64, u64)> {
        let reader = Box::new(Cursor::new(text.to_vec()));
        let mut lines = Lines::open(Input::Reader("text".into(), reader)).unwrap();
        let (mut all, mut line) = (vec![], vec![]);
        while let Some(place) = lines.next(&mut line).unwrap() {
            assert!(!place.cut);
            all.push((line.clone(), place.number, place.offset));
        }
        all
    }

    #[test]
    fn lines_know_their_places() {
        assert!(lines(b"").is_empty());
        assert_eq!(lines(b"\n"), [(vec![], 1, 0)]);
        let expected = [
            (b"ab".to_vec(), 1, 0),
            (vec![], 2, 4),
            (b"c".to_vec(), 3, 5),
        ];
        assert_eq!(lines(b"ab\r\n\nc"), expected);
        let long = [vec![b'x'; 3 * BUFFER], b"\ny\n".to_vec()].concat();
        let read = lines(&long);
        assert_eq!(read[0].0.len(), 3 * BUFFER);
        assert_eq!(read[1], (b"y".to_vec(), 2, 3 * BUFFER as u64 + 1));
    }
}
