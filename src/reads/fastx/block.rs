//! A window on the uncompressed stream, and lines read from it piece by piece.

use super::MAX_HEADER;
use super::reject::{RejectReason, shown};
use crate::reads::nucleotide;
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

/// Bytes since a mark that are kept, so that they can be read again.
struct Mark {
    /// Those before the window.
    kept: Vec<u8>,
    offset: u64,
    /// The most that is kept.
    limit: usize,
}

/// How far an input was judged that may still grow.
struct Judged {
    /// Where the last record ends that was handed out or rejected.
    offset: u64,
    /// A broken stretch goes on there.
    lost: bool,
    /// Of all bytes up to there.
    hash: blake3::Hasher,
    /// Bytes behind them that have left the window.
    pending: Vec<u8>,
    /// What comes is the record that was cut off.
    frozen: bool,
}

pub(super) struct Blocks {
    stream: Stream,
    buffer: Vec<u8>,
    at: usize,
    len: usize,
    /// Stream bytes before the buffer.
    before: u64,
    received: Instant,
    ended: bool,
    failure: Option<InputError>,
    mark: Option<Mark>,
    judged: Option<Judged>,
    /// The input may still grow: what has no end yet will have one.
    growing: bool,
}

impl Blocks {
    pub(super) fn new(stream: Stream) -> Blocks {
        Blocks {
            stream,
            buffer: vec![0; WINDOW],
            at: 0,
            len: 0,
            before: 0,
            received: Instant::now(),
            ended: false,
            failure: None,
            mark: None,
            judged: None,
            growing: false,
        }
    }

    /// Counts bytes from `offset` on, and passes over so many.
    pub(super) fn begin_at(&mut self, offset: u64, mut behind: u64) {
        self.before = offset;
        while behind > 0 && self.fill() {
            let passed = behind.min(self.rest().len() as u64);
            self.consume(passed as usize);
            behind -= passed;
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Keeps account of how far the input was judged, which begins at `offset` with the hash of
    /// what lies before. Where it is `growing`, its end is not the end of its last record.
    pub(super) fn keep_account(&mut self, offset: u64, hash: blake3::Hasher, growing: bool) {
        self.before = offset;
        self.growing = growing;
        self.judged = Some(Judged {
            offset,
            lost: false,
            hash,
            pending: vec![],
            frozen: false,
        });
    }

    /// True where what lacks its end will be read again.
    pub(super) fn growing(&self) -> bool {
        self.growing
    }

    /// Everything up to here was handed out or rejected; `lost` in a broken stretch.
    pub(super) fn judge(&mut self, lost: bool) {
        let offset = self.offset();
        let Some(judged) = self.judged.as_mut().filter(|judged| !judged.frozen) else {
            return;
        };
        judged.lost = lost;
        // What of it lies in the window, and was not hashed.
        let from = judged.offset.max(self.before);
        judged.hash.update(&judged.pending);
        judged.pending.clear();
        let window = (from - self.before) as usize..self.at;
        judged.hash.update(&self.buffer[window]);
        judged.offset = offset;
    }

    /// Where judgement ended, whether a broken stretch goes on there, and the hash of all before.
    pub(super) fn account(&self) -> Option<(u64, bool, &blake3::Hasher)> {
        let judged = self.judged.as_ref()?;
        Some((judged.offset, judged.lost, &judged.hash))
    }

    /// Bytes are kept from here on, up to `limit`, for [`rewind`](Self::rewind).
    pub(super) fn mark(&mut self, limit: usize) {
        self.mark = Some(Mark {
            kept: vec![],
            offset: self.offset(),
            limit,
        });
    }

    /// True while the bytes since the mark are there.
    pub(super) fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// Forgets the mark.
    pub(super) fn unmark(&mut self) {
        self.mark = None;
    }

    /// Goes back to the mark; false where there is none any more.
    pub(super) fn rewind(&mut self) -> bool {
        let Some(mut mark) = self.mark.take() else {
            return false;
        };
        if mark.offset >= self.before {
            self.at = (mark.offset - self.before) as usize;
            return true;
        }
        mark.kept.extend_from_slice(&self.buffer[..self.len]);
        self.len = mark.kept.len();
        self.buffer = mark.kept;
        self.before = mark.offset;
        self.at = 0;
        if let Some(judged) = &mut self.judged {
            let pending = self.before.saturating_sub(judged.offset);
            judged.pending.truncate(pending as usize);
        }
        true
    }

    /// Takes note of the window's bytes, which are used up.
    fn leave_window(&mut self) {
        if let Some(mark) = &mut self.mark {
            let from = mark.offset.saturating_sub(self.before) as usize;
            mark.kept
                .extend_from_slice(&self.buffer[from.min(self.len)..self.len]);
            if mark.kept.len() > mark.limit {
                self.mark = None;
            }
        }
        if let Some(judged) = &mut self.judged {
            let from = judged.offset.saturating_sub(self.before) as usize;
            judged
                .pending
                .extend_from_slice(&self.buffer[from.min(self.len)..self.len]);
        }
        self.before += self.len as u64;
        self.at = 0;
        self.len = 0;
        if self.buffer.len() > WINDOW {
            // It held what was read again.
            self.buffer.truncate(WINDOW);
            self.buffer.shrink_to_fit();
        }
        self.buffer.resize(WINDOW, 0);
    }

    /// True while there is a byte to look at.
    pub(super) fn fill(&mut self) -> bool {
        if self.at < self.len {
            return true;
        }
        if self.ended {
            return false;
        }
        self.leave_window();
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
            // A compressed file that has grown no further yet.
            Err(e) if self.growing && e.may_grow() => self.ended = true,
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
        if let Some(judged) = &mut self.judged {
            judged.frozen = true;
        }
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

    /// Makes the window hold `n` bytes, where the stream has them. At its beginning only.
    fn require(&mut self, n: usize) {
        while self.len - self.at < n && self.len < self.buffer.len() && self.extend() {}
    }

    /// Reads to the end of the line and hands its content to `visit`, in pieces with their offsets,
    /// without LF, and without the blanks, tabs and CR before it.
    pub(super) fn line(&mut self, mut visit: impl FnMut(&[u8], u64)) -> LineEnd {
        // Blanks that end what came before: they count if more follows.
        let mut blanks: Vec<u8> = vec![];
        loop {
            if !self.fill() {
                return LineEnd::Input;
            }
            let offset = self.offset();
            let rest = &self.buffer[self.at..self.len];
            let newline = nucleotide::position(rest, b'\n');
            let line = &rest[..newline.unwrap_or(rest.len())];
            let end = line
                .iter()
                .rposition(|b| !matches!(b, b' ' | b'\t' | b'\r'));
            let piece = &line[..end.map_or(0, |last| last + 1)];
            if !piece.is_empty() {
                if !blanks.is_empty() {
                    visit(&blanks, offset - blanks.len() as u64);
                    blanks.clear();
                }
                visit(piece, offset);
            }
            match newline {
                Some(n) => {
                    self.at += n + 1;
                    return LineEnd::Newline;
                }
                None => {
                    // Whoever has more blanks than a window at the end of a line does not mean it.
                    let more = &line[piece.len()..];
                    blanks.extend_from_slice(&more[..more.len().min(WINDOW - blanks.len())]);
                    self.at = self.len;
                }
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

    /// True where a line behind `+` holds nothing, or the `first` header or its name again.
    pub(super) fn repeats(&self, first: &Header) -> bool {
        let text = self.text.get(1..).unwrap_or_default();
        text.is_empty() || Some(text) == first.text.get(1..) || text == first.name()
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
