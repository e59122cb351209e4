//! A window on the uncompressed stream, and lines read from it piece by piece.

use super::MAX_HEADER;
use super::reject::{RejectReason, shown};
use crate::reads::source::{InputError, Stream};
use std::time::Instant;

/// Bytes of the stream held at a time.
const WINDOW: usize = 64 * 1024;

/// First bytes of files that are handed in by mistake.
const SIGNATURES: [(&[u8], &str); 9] = [
    (b"CRAM", "CRAM data"),
    (b"\x8bPOD\r\n\x1a\n", "POD5 data"),
    (b"\x89HDF\r\n\x1a\n", "FAST5 (HDF5) data"),
    (b"\x1f\x8b", "gzip data inside gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (b"\xfd7zXZ", "xz data"),
    (b"BZh", "bzip2 data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xef\xbb\xbf", "a byte order mark"),
];

/// Bytes needed to distinguish the signatures.
const SIGNATURE: usize = 8;

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    Newline,
    /// The input ended, well or badly, before a line end.
    Input,
}

pub(super) struct Blocks {
    stream: Stream,
    buffer: Box<[u8]>,
    at: usize,
    len: usize,
    /// Stream bytes before the buffer.
    before: u64,
    received: Instant,
    ended: bool,
    failure: Option<InputError>,
}

impl Blocks {
    pub(super) fn new(stream: Stream) -> Blocks {
        Blocks {
            stream,
            buffer: vec![0; WINDOW].into_boxed_slice(),
            at: 0,
            len: 0,
            before: 0,
            received: Instant::now(),
            ended: false,
            failure: None,
        }
    }

    /// True while there is a byte to look at.
    pub(super) fn fill(&mut self) -> bool {
        if self.at < self.len {
            return true;
        }
        self.before += self.len as u64;
        self.at = 0;
        self.len = 0;
        self.extend()
    }

    fn extend(&mut self) -> bool {
        if self.ended {
            return false;
        }
        match self.stream.read(&mut self.buffer[self.len..]) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                self.len += n;
                self.received = Instant::now();
            }
            Err(e) => {
                self.failure = Some(e);
                self.ended = true;
            }
        }
        !self.ended
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        self.fill().then(|| self.buffer[self.at])
    }

    /// What is in the window; [`fill`](Self::fill) first.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.at..self.len]
    }

    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len - self.at);
        self.at += n;
    }

    /// Where the next byte lies in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// When the bytes in the window came in.
    pub(super) fn received(&self) -> Instant {
        self.received
    }

    /// True where the stream broke off rather than ended.
    pub(super) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Ends the stream with `failure`, unless it has broken off already.
    pub(super) fn fail(&mut self, failure: InputError) {
        self.failure.get_or_insert(failure);
    }

    /// Gives no more of the stream.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.at = self.len;
    }

    /// True for what stands in a file of that kind.
    pub(super) fn starts_with(&mut self, magic: &[u8]) -> bool {
        self.require(magic.len());
        self.rest().starts_with(magic)
    }

    pub(super) fn take_failure(&mut self) -> Option<InputError> {
        self.failure.take()
    }

    /// The next byte after spaces, tabs and line ends.
    pub(super) fn first_after_blanks(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.consume(1),
                byte => return Some(byte),
            }
        }
    }

    /// SAM headers begin with `@` as well; no read is called `HD` or `SQ` with a tab behind.
    pub(super) fn is_sam(&mut self) -> bool {
        self.require(4);
        let start = self.rest();
        start.len() >= 4
            && start[3] == b'\t'
            && matches!(&start[..3], b"@HD" | b"@SQ" | b"@RG" | b"@PG" | b"@CO")
    }

    /// What the stream holds here, for an error message.
    pub(super) fn describe(&mut self) -> String {
        self.require(SIGNATURE);
        if self.is_sam() {
            return "SAM text".into();
        }
        let start = self.rest();
        for (signature, name) in SIGNATURES {
            if start.starts_with(signature) {
                return name.into();
            }
        }
        start.first().map_or_else(String::new, |&b| shown(b))
    }

    /// Makes the window hold `n` bytes, where the stream has them.
    fn require(&mut self, n: usize) {
        if self.len - self.at >= n {
            return;
        }
        self.buffer.copy_within(self.at..self.len, 0);
        self.before += self.at as u64;
        self.len -= self.at;
        self.at = 0;
        while self.len < n && self.extend() {}
    }

    /// Reads to the end of the line and hands its content to `visit`, in pieces with their offsets,
    /// without LF or CRLF.
    pub(super) fn line(&mut self, mut visit: impl FnMut(&[u8], u64)) -> LineEnd {
        let mut held_cr = false;
        loop {
            if !self.fill() {
                return LineEnd::Input;
            }
            let offset = self.offset();
            let rest = &self.buffer[self.at..self.len];
            if held_cr && rest[0] != b'\n' {
                visit(b"\r", offset - 1);
            }
            let newline = rest.iter().position(|&b| b == b'\n');
            let mut piece = &rest[..newline.unwrap_or(rest.len())];
            held_cr = piece.last() == Some(&b'\r');
            if held_cr {
                piece = &piece[..piece.len() - 1];
            }
            if !piece.is_empty() {
                visit(piece, offset);
            }
            match newline {
                Some(n) => {
                    self.at += n + 1;
                    return LineEnd::Newline;
                }
                None => self.at = self.len,
            }
        }
    }

    pub(super) fn skip_line(&mut self) -> LineEnd {
        self.line(|_, _| ())
    }
}

/// A header line, its marker included.
#[derive(Default)]
pub(super) struct Header {
    pub(super) text: Vec<u8>,
    pub(super) offset: u64,
    length: u64,
    control: Option<(u8, u64)>,
}

impl Header {
    pub(super) fn start(&mut self, offset: u64) {
        self.text.clear();
        self.offset = offset;
        self.length = 0;
        self.control = None;
    }

    /// Appends a piece of the line, as far as it fits.
    pub(super) fn take(&mut self, piece: &[u8], at: u64) {
        let room = MAX_HEADER - self.text.len();
        self.text.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len() as u64;
        if self.control.is_none() {
            let bad = |b: &u8| b.is_ascii_control() && *b != b'\t';
            if let Some(i) = piece.iter().position(bad) {
                self.control = Some((piece[i], at + i as u64));
            }
        }
    }

    pub(super) fn read(&mut self, blocks: &mut Blocks) -> LineEnd {
        self.start(blocks.offset());
        blocks.line(|piece, at| self.take(piece, at))
    }

    /// The text after the marker, up to the first blank.
    pub(super) fn name(&self) -> &[u8] {
        let text = self.text.get(1..).unwrap_or_default();
        let end = text.iter().position(|&b| b == b' ' || b == b'\t');
        &text[..end.unwrap_or(text.len())]
    }

    /// Why a record with this header cannot be accepted.
    pub(super) fn fault(&self) -> Option<RejectReason> {
        if let Some((byte, at)) = self.control {
            Some(RejectReason::ControlByte { byte, at })
        } else if self.length > MAX_HEADER as u64 {
            Some(RejectReason::LongHeader)
        } else if self.name().is_empty() {
            Some(RejectReason::NoName)
        } else {
            None
        }
    }
}
