//! The compressed side of an input: how many bytes were used, and whether a BGZF file has its end.

use std::io::{self, BufRead, Read};

/// The empty block that ends every BGZF file (SAM specification, section 4.1.2).
const END_BLOCK: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// Bytes that tell plain, gzip and BGZF apart.
const HEAD: usize = 14;

/// True where a gzip header has BGZF's extra field in its usual, first place.
pub(super) fn is_bgzf(head: &[u8]) -> bool {
    head.len() >= HEAD && head[3] & 4 != 0 && &head[12..14] == b"BC"
}

/// A buffered reader that counts what was taken from it.
pub(super) struct Compressed {
    inner: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    at: usize,
    len: usize,
    read: u64,
    last: [u8; END_BLOCK.len()],
    end_block: bool,
    failed: bool,
}

impl Compressed {
    pub(super) fn new(inner: Box<dyn Read + Send>, capacity: usize) -> Compressed {
        Compressed {
            inner,
            buffer: vec![0; capacity.max(HEAD)].into_boxed_slice(),
            at: 0,
            len: 0,
            read: 0,
            last: [0; END_BLOCK.len()],
            end_block: false,
            failed: false,
        }
    }

    /// The first bytes of the input, fewer only where the input has fewer. Plain text is told by its first byte, so that
    /// a live source is not made to wait for more.
    pub(super) fn head(&mut self) -> io::Result<&[u8]> {
        while self.len < HEAD && (self.len == 0 || self.buffer[0] == 0x1f) {
            match self.inner.read(&mut self.buffer[self.len..]) {
                Ok(0) => break,
                Ok(n) => {
                    self.remember(self.len, n);
                    self.len += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(&self.buffer[..self.len])
    }

    /// A BGZF file without its last, empty block was cut between two blocks, which the gzip format cannot tell.
    pub(super) fn expect_end_block(&mut self, expect: bool) {
        self.end_block = expect;
    }

    pub(super) fn lacks_end_block(&self) -> bool {
        self.end_block && self.last != END_BLOCK
    }

    /// Bytes of the input used so far.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.len - self.at) as u64
    }

    /// True once the input itself, rather than a decoder above, has returned an error.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    fn remember(&mut self, start: usize, n: usize) {
        self.read += n as u64;
        let new = &self.buffer[start..start + n];
        let keep = self.last.len();
        if n >= keep {
            self.last.copy_from_slice(&new[n - keep..]);
        } else {
            self.last.copy_within(n.., 0);
            self.last[keep - n..].copy_from_slice(new);
        }
    }
}

impl BufRead for Compressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.len {
            self.at = 0;
            self.len = 0;
            match self.inner.read(&mut self.buffer) {
                Ok(n) => {
                    self.remember(0, n);
                    self.len = n;
                }
                Err(e) => {
                    self.failed = e.kind() != io::ErrorKind::Interrupted;
                    return Err(e);
                }
            }
        }
        Ok(&self.buffer[self.at..self.len])
    }

    fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.len);
    }
}

impl Read for Compressed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.consume(n);
        Ok(n)
    }
}
