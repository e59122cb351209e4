//! The compressed side of an input: its members one after another, how many bytes were used, and
//! whether BGZF has its end (SAM specification, section 4.1.2: an empty block).

use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// Bytes that distinguish plain, gzip and BGZF.
const HEAD: usize = 14;

/// True where a gzip header has BGZF's extra field in its usual, first place.
pub(super) fn is_bgzf(head: &[u8]) -> bool {
    head.len() >= HEAD && head[3] & 4 != 0 && &head[12..14] == b"BC"
}

/// Bytes of the block of BGZF whose header this is.
pub(crate) fn block_size(head: &[u8]) -> Option<u64> {
    let is_block = head.starts_with(&[0x1f, 0x8b, 8]) && is_bgzf(head);
    let size = head.get(16..18).filter(|_| is_block)?;
    Some(u64::from(u16::from_le_bytes([size[0], size[1]])) + 1)
}

/// A buffered reader that counts what was taken from it.
pub(super) struct Compressed {
    inner: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    at: usize,
    len: usize,
    read: u64,
    failed: bool,
}

impl Compressed {
    /// Of an input whose first `before` bytes are left out.
    pub(super) fn new(inner: Box<dyn Read + Send>, capacity: usize, before: u64) -> Compressed {
        Compressed {
            inner,
            buffer: vec![0; capacity.max(HEAD)].into_boxed_slice(),
            at: 0,
            len: 0,
            read: before,
            failed: false,
        }
    }

    /// The first bytes of the input, fewer only where the input has fewer. Plain text is known by
    /// its first byte, so that a live source is not made to wait for more.
    pub(super) fn head(&mut self) -> io::Result<&[u8]> {
        while self.len < HEAD && (self.len == 0 || self.buffer[0] == 0x1f) {
            match self.inner.read(&mut self.buffer[self.len..]) {
                Ok(0) => break,
                Ok(n) => {
                    self.read += n as u64;
                    self.len += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(&self.buffer[..self.len])
    }

    /// Bytes of the input used so far.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.len - self.at) as u64
    }

    /// True once the input itself, rather than a decoder above, has returned an error.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Bytes at hand, without reading more.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.at..self.len]
    }
}

impl BufRead for Compressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.len {
            self.at = 0;
            self.len = 0;
            match self.inner.read(&mut self.buffer) {
                Ok(n) => {
                    self.read += n as u64;
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

/// Largest window of the deflate format, as a power of two.
const WINDOW_BITS: u8 = 15;

/// The bytes of concatenated gzip members. Unlike flate2's reader it hands out what was inflated
/// before an error in the same call, so that what is readable does not depend on how the bytes
/// arrive.
pub(super) struct Gunzip {
    raw: Compressed,
    inflate: Decompress,
    /// Between a member's first byte and its end.
    inside: bool,
    /// The first bytes of the member at hand, or of the last.
    head: Vec<u8>,
    /// It has given bytes.
    full: bool,
    /// More output may be waiting than the last call had room for.
    more: bool,
    error: Option<io::Error>,
    /// Bytes given.
    given: u64,
    /// The byte of the input where a member is watched for, and bytes given before it.
    watched: Option<(u64, Option<u64>)>,
}

impl Gunzip {
    pub(super) fn new(raw: Compressed) -> Gunzip {
        Gunzip {
            raw,
            inflate: Decompress::new_gzip(WINDOW_BITS),
            inside: false,
            head: Vec::with_capacity(HEAD),
            full: false,
            more: false,
            error: None,
            given: 0,
            watched: None,
        }
    }

    pub(super) fn watch(&mut self, at: u64) {
        self.watched = Some((at, None));
    }

    pub(super) fn before_watched(&self) -> Option<u64> {
        self.watched?.1
    }

    pub(super) fn get_ref(&self) -> &Compressed {
        &self.raw
    }

    /// True where the last member was a block of BGZF, and not the empty one: the file may have
    /// been cut off between two blocks, which the gzip format cannot tell.
    pub(super) fn lacks_end_block(&self) -> bool {
        is_bgzf(&self.head) && self.full
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "header, data or checksum damaged",
    )
}

impl Read for Gunzip {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while !out.is_empty() {
            if !self.more && self.raw.fill_buf()?.is_empty() {
                return if self.inside {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(0)
                };
            }
            if !self.inside {
                // Tapes and some tools fill up with zeros.
                let zeros = self.raw.buffered().iter().take_while(|&&b| b == 0).count();
                if zeros > 0 && !self.more {
                    self.raw.consume(zeros);
                    continue;
                }
                self.inside = true;
                self.head.clear();
                self.full = false;
                if let Some((at, before)) = &mut self.watched
                    && *at == self.raw.position()
                {
                    *before = Some(self.given);
                }
            }
            let (used, made) = (self.inflate.total_in(), self.inflate.total_out());
            let input = self.raw.buffered();
            let result = self.inflate.decompress(input, out, FlushDecompress::None);
            let used = (self.inflate.total_in() - used) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            let head = &self.raw.buffered()[..used.min(HEAD - self.head.len())];
            self.head.extend_from_slice(head);
            self.full |= made > 0;
            let stuck = used == 0 && made == 0 && !self.raw.buffered().is_empty();
            self.raw.consume(used);
            self.more = made == out.len();
            match result {
                Ok(Status::StreamEnd) => {
                    self.inflate.reset(true);
                    self.inside = false;
                    self.more = false;
                }
                Ok(_) if stuck => self.error = Some(damaged()),
                Ok(_) => {}
                // Its own words for the reason depend on where in the data a call happens to end.
                Err(_) => self.error = Some(damaged()),
            }
            if made > 0 {
                self.given += made as u64;
                return Ok(made);
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    /// A reader that gives at most so many bytes at a time.
    struct Pieces(Vec<u8>, usize, usize);

    impl Read for Pieces {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let left = &self.0[self.1..];
            let n = left.len().min(self.2).min(out.len());
            out[..n].copy_from_slice(&left[..n]);
            self.1 += n;
            Ok(n)
        }
    }

    /// Everything before the first error or the end, and the error's kind.
    fn inflate(bytes: &[u8], piece: usize, room: usize) -> (Vec<u8>, Option<io::ErrorKind>) {
        let raw = Compressed::new(Box::new(Pieces(bytes.to_vec(), 0, piece)), 64, 0);
        let mut gunzip = Gunzip::new(raw);
        let mut all = vec![];
        let mut out = vec![0; room];
        loop {
            match gunzip.read(&mut out) {
                Ok(0) => return (all, None),
                Ok(n) => all.extend_from_slice(&out[..n]),
                Err(e) => return (all, Some(e.kind())),
            }
        }
    }

    #[test]
    fn damage_costs_the_same_however_the_bytes_arrive() {
        let mut members = vec![];
        let mut text = vec![];
        for part in ["ACGTTGCA".repeat(200), String::new(), "GGATCC".repeat(50)] {
            text.extend_from_slice(part.as_bytes());
            let mut member = GzEncoder::new(&mut members, Compression::best());
            member.write_all(part.as_bytes()).unwrap();
            member.finish().unwrap();
        }
        assert_eq!(inflate(&members, 3, 7), (text.clone(), None));
        for at in 0..members.len() {
            let mut damaged = members.clone();
            damaged[at] ^= 0x24;
            let whole = inflate(&damaged, usize::MAX, 1 << 16);
            for (piece, room) in [(1, 1 << 16), (5, 3), (usize::MAX, 1)] {
                assert_eq!(inflate(&damaged, piece, room), whole, "byte {at}");
            }
            let cut = inflate(&members[..at], 2, 100);
            assert!(text.starts_with(&cut.0));
        }
    }
}
