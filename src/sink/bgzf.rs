//! BGZF (SAM/BAM specification, section 4.1): gzip in blocks, each of which can be read by itself,
//! as BAM has it and as tabix indexes it.
//!
//! Written here, since the libraries that write it would build tract's dependencies anew with other
//! features.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::io::{self, Write};

/// Uncompressed bytes of a full block, as htslib makes them.
const BLOCK: usize = 0xff00;

/// Bytes around a block's compressed data: a gzip header with the field BC, CRC-32 and length.
const HEAD: [u8; 18] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0, 0,
];

/// The empty block that marks a whole file.
pub(super) const END: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    0, 0,
];

/// Writes blocks. What was flushed can be read without what comes later.
#[derive(Debug)]
pub struct BgzfWriter<W: Write> {
    writer: W,
    held: Vec<u8>,
    block: Vec<u8>,
    deflate: Compress,
}

impl<W: Write> BgzfWriter<W> {
    /// Blocks that go to `writer`.
    pub fn new(writer: W) -> BgzfWriter<W> {
        BgzfWriter {
            writer,
            held: Vec::with_capacity(BLOCK),
            block: Vec::with_capacity(1 << 16),
            deflate: Compress::new(Compression::default(), false),
        }
    }

    /// Writes what is held, behind it the mark of a file that is `whole`, and gives the writer
    /// back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self, whole: bool) -> io::Result<W> {
        self.end_block()?;
        if whole {
            self.writer.write_all(&END)?;
        }
        self.writer.flush()?;
        Ok(self.writer)
    }

    /// Writes what is held as a block.
    fn end_block(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let block = &mut self.block;
        block.clear();
        block.extend_from_slice(&HEAD);
        self.deflate.reset();
        let status = self
            .deflate
            .compress_vec(&self.held, block, FlushCompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            // Even stored, these bytes take less than a block may have.
            return Err(io::Error::other("internal error: a block does not fit"));
        }
        let mut crc = Crc::new();
        crc.update(&self.held);
        block.extend(crc.sum().to_le_bytes());
        block.extend((self.held.len() as u32).to_le_bytes());
        let size = (block.len() - 1) as u16;
        block[16..18].copy_from_slice(&size.to_le_bytes());
        self.held.clear();
        self.writer.write_all(block)
    }
}

impl<W: Write> Write for BgzfWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = &bytes[..bytes.len().min(BLOCK - self.held.len())];
        self.held.extend_from_slice(now);
        if self.held.len() == BLOCK {
            self.end_block()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_block()?;
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn blocks_hold_what_was_written_and_end_where_they_say() {
        // What does not compress too.
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let text: Vec<u8> = noise.take(100_000).chain(vec![b'A'; 100_000]).collect();
        let mut writer = BgzfWriter::new(vec![]);
        for part in text.chunks(70_001) {
            writer.write_all(part).unwrap();
        }
        writer.flush().unwrap();
        writer.flush().unwrap();
        let packed = writer.finish(true).unwrap();
        let mut unpacked = vec![];
        let mut reader = flate2::read::MultiGzDecoder::new(&packed[..]);
        reader.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == text);
        let mut at = 0;
        let mut blocks = 0;
        while at < packed.len() {
            assert_eq!(packed[at..at + 16], HEAD[..16]);
            let size = [16, 17].map(|byte| packed[at + byte]);
            at += usize::from(u16::from_le_bytes(size)) + 1;
            blocks += 1;
        }
        assert_eq!((at, blocks), (packed.len(), text.len().div_ceil(BLOCK) + 1));
        assert_eq!(packed[at - END.len()..], END);
    }
}
