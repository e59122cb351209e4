//! BAM records read for their names and bases; qualities and tags are passed over.
//!
//! An aligned record is brought back to its read's own orientation (flag 0x10). Secondary (0x100)
//! and supplementary (0x800) records, whose read comes with its primary one, and hard-clipped ones,
//! which lack bases, are passed over. Where records are kept, each that is framed well goes with
//! its last chunk, or its rejection, for who writes it on.

use super::block::{Blocks, Header};
use super::reject::{Reject, RejectReason};
use super::{Chunk, Ids, Limits, Step, Whole};
use crate::reads::bam::{BamHeader, FIXED, MAGIC, has_whole_tags};
use crate::reads::nucleotide;
use crate::reads::source::InputError;

/// Bytes of the largest record that is kept.
const KEPT: u64 = 256 << 20;

const REVERSE: u16 = 0x10;
const SECONDARY: u16 = 0x100;
const SUPPLEMENTARY: u16 = 0x800;

/// The operation of a CIGAR that stands for bases which are not there.
const HARD_CLIP: u32 = 5;

/// Codes of `=ACMGRSVTWYHKDBN`.
const CODES: [u8; 16] = [4, 0, 1, 4, 2, 4, 4, 4, 3, 4, 4, 4, 4, 4, 4, 4];

pub(super) struct Bam {
    limits: Limits,
    begun: bool,
    header: Header,
    bytes: Vec<u8>,
    whole: Whole,
    /// Sequences that the header names.
    references: Option<u32>,
    /// Where the input's header goes, if records are kept.
    keep: Option<BamHeader>,
    /// What was read of the record at hand, or of the input's header, if it is kept.
    raw: Vec<u8>,
    keeping: bool,
}

enum Record {
    Good,
    Bad(Box<Reject>),
    End,
}

impl Bam {
    pub(super) fn new(limits: Limits) -> Bam {
        Bam {
            limits,
            begun: false,
            header: Header::default(),
            bytes: vec![],
            whole: Whole::default(),
            references: None,
            keep: None,
            raw: vec![],
            keeping: false,
        }
    }

    /// For what lies behind a header that was read already.
    pub(super) fn behind_header(limits: Limits) -> Bam {
        Bam {
            begun: true,
            ..Bam::new(limits)
        }
    }

    pub(super) fn keep(&mut self, header: BamHeader) {
        self.keep = Some(header);
        self.keeping = true;
    }

    pub(super) fn next_chunk(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        chunk: &mut Chunk,
    ) -> Step {
        if !self.begin(blocks, ids) {
            return Step::End;
        }
        if !self.whole.ready {
            let record = self.read_record(blocks, ids);
            if !matches!(record, Record::End) {
                blocks.judge(false);
            }
            match record {
                Record::Good => self.whole.begin(),
                Record::Bad(reject) => {
                    std::mem::swap(&mut chunk.bam, &mut self.raw);
                    return Step::Rejected(reject);
                }
                Record::End => return Step::End,
            }
        }
        let (limit, header) = (self.limits.chunk_bases, &self.header);
        self.whole.give(limit, blocks, ids, header, chunk);
        if chunk.end.is_some() {
            std::mem::swap(&mut chunk.bam, &mut self.raw);
        }
        Step::Chunk
    }

    /// Passes the header, once; false where that fails.
    fn begin(&mut self, blocks: &mut Blocks, ids: &Ids) -> bool {
        if std::mem::replace(&mut self.begun, true) || self.pass_header(blocks) {
            return true;
        }
        let failure = InputError::NotSequences {
            file: ids.file.clone(),
            offset: blocks.offset(),
            found: "a BAM header that is broken or cut off".to_string(),
        };
        blocks.fail(failure);
        blocks.end();
        false
    }

    /// The number of sequences that the header names.
    pub(super) fn references(&mut self, blocks: &mut Blocks, ids: &Ids) -> Option<u32> {
        self.begin(blocks, ids);
        self.references
    }

    /// Reads `n` bytes; false where the stream ends before.
    fn take(&mut self, blocks: &mut Blocks, n: usize) -> bool {
        self.bytes.clear();
        while self.bytes.len() < n && blocks.fill() {
            let rest = blocks.rest();
            let part = rest.len().min(n - self.bytes.len());
            self.bytes.extend_from_slice(&rest[..part]);
            blocks.consume(part);
        }
        if self.keeping {
            self.raw.extend_from_slice(&self.bytes);
        }
        self.bytes.len() == n
    }

    fn skip(&mut self, blocks: &mut Blocks, mut n: u64) -> bool {
        while n > 0 && blocks.fill() {
            let part = (blocks.rest().len() as u64).min(n);
            if self.keeping {
                self.raw.extend_from_slice(&blocks.rest()[..part as usize]);
            }
            blocks.consume(part as usize);
            n -= part;
        }
        n == 0
    }

    fn length(&mut self, blocks: &mut Blocks) -> Option<u64> {
        let whole = self.take(blocks, 4);
        let length = whole.then(|| i32::from_le_bytes([0, 1, 2, 3].map(|i| self.bytes[i])))?;
        u64::try_from(length).ok()
    }

    fn pass_header(&mut self, blocks: &mut Blocks) -> bool {
        let mut passed = || {
            if !self.take(blocks, 4) || self.bytes != MAGIC {
                return None;
            }
            let text = self.length(blocks)?;
            if !self.skip(blocks, text) {
                return None;
            }
            let references = self.length(blocks)?;
            for _ in 0..references {
                let name = self.length(blocks)?;
                // The name, and the reference's length.
                if !self.skip(blocks, name + 4) {
                    return None;
                }
            }
            u32::try_from(references).ok()
        };
        let references = passed();
        let whole = references.is_some();
        self.references = references;
        if let (true, Some(header)) = (whole, &self.keep) {
            // Set once: a header has one reader.
            let _ = header.set(std::mem::take(&mut self.raw));
        }
        whole
    }

    fn read_record(&mut self, blocks: &mut Blocks, ids: &mut Ids) -> Record {
        self.header.start(blocks.offset());
        self.raw.clear();
        self.keeping = self.keep.is_some();
        if !blocks.fill() {
            return Record::End;
        }
        ids.begin();
        let Some(size) = self.length(blocks).filter(|size| *size >= FIXED) else {
            // Where the next record begins is unknown.
            return self.cut_off(blocks, ids);
        };
        if self.keeping && size > KEPT {
            self.keeping = false;
            let (bytes, limit) = (size, KEPT);
            return self.bad(blocks, ids, RejectReason::BamSize { bytes, limit }, size);
        }
        if !self.take(blocks, FIXED as usize) {
            return self.cut_off(blocks, ids);
        }
        let b = &self.bytes;
        let (name, cigar) = (
            u64::from(b[8]),
            u64::from(u16::from_le_bytes([b[12], b[13]])),
        );
        let flags = u16::from_le_bytes([b[14], b[15]]);
        let bases = u64::from(u32::from_le_bytes([b[16], b[17], b[18], b[19]]));
        let packed = bases.div_ceil(2);
        let rest = size - FIXED;
        let used = name + 4 * cigar + packed;
        if name == 0 || used + bases > rest {
            // Nothing that reads BAM would read on behind such a record.
            self.keeping = false;
            return self.bad(blocks, ids, RejectReason::BamLayout, rest);
        }
        if !self.take(blocks, name as usize) {
            return self.cut_off(blocks, ids);
        }
        let text = self.bytes.strip_suffix(b"\0").unwrap_or(&self.bytes);
        self.header.take(b"@", 0);
        if text != b"*" {
            self.header.take(text, self.header.offset + 4 + FIXED);
        }
        let rest = rest - name;
        if let Some(fault) = self.header.fault() {
            return self.bad(blocks, ids, fault, rest);
        }
        if flags & (SECONDARY | SUPPLEMENTARY) != 0 {
            return self.bad(blocks, ids, RejectReason::NotPrimary, rest);
        }
        if bases > self.limits.max_read_len as u64 {
            let limit = self.limits.max_read_len;
            return self.bad(blocks, ids, RejectReason::TooLong { bases, limit }, rest);
        }
        if !self.take(blocks, 4 * cigar as usize) {
            return self.cut_off(blocks, ids);
        }
        let mut operations = self.bytes.chunks_exact(4);
        let clips = |op: &[u8]| u32::from(op[0] & 0xf) == HARD_CLIP;
        let clipped = operations.any(clips);
        let rest = rest - 4 * cigar;
        if clipped {
            return self.bad(blocks, ids, RejectReason::HardClipped, rest);
        }
        if !self.take(blocks, packed as usize) {
            return self.cut_off(blocks, ids);
        }
        let kept = &mut self.whole.codes;
        kept.clear();
        let pairs = self.bytes.iter();
        let codes = pairs.flat_map(|pair| [pair >> 4, pair & 0xf].map(|b| CODES[usize::from(b)]));
        kept.extend(codes.take(bases as usize));
        if flags & REVERSE != 0 {
            let own = std::mem::take(kept);
            kept.resize(own.len(), nucleotide::N);
            nucleotide::reverse_complement(&own, kept);
        }
        if !self.skip(blocks, rest - packed) {
            return self.cut_off(blocks, ids);
        }
        if self.keeping && !has_whole_tags(&self.raw) {
            return Record::Bad(ids.reject(&self.header, RejectReason::BamTags));
        }
        Record::Good
    }

    /// Rejects the record, of which `rest` bytes follow.
    fn bad(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        reason: RejectReason,
        rest: u64,
    ) -> Record {
        if !self.skip(blocks, rest) {
            return self.cut_off(blocks, ids);
        }
        if !self.keeping {
            self.raw.clear();
        }
        Record::Bad(ids.reject(&self.header, reason))
    }

    fn cut_off(&mut self, blocks: &mut Blocks, ids: &mut Ids) -> Record {
        if blocks.growing() && !blocks.fill() {
            ids.put_off();
            return Record::End;
        }
        let failure = ids.cut_off(&self.header);
        self.raw.clear();
        blocks.fail(failure);
        blocks.end();
        Record::Bad(ids.reject(&self.header, RejectReason::CutOff))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use crate::reads::source::Input;
    use std::io::Cursor;

    fn record(name: &str, flags: u16, cigar: &[u32], letters: &str) -> Vec<u8> {
        let packed = letters.as_bytes().chunks(2).map(|pair| {
            let nibble = |b: Option<&u8>| {
                b.map_or(0, |b| {
                    b"=ACMGRSVTWYHKDBN".iter().position(|l| l == b).unwrap() as u8
                })
            };
            nibble(pair.first()) << 4 | nibble(pair.get(1))
        });
        let mut body = vec![0xff; 8];
        body.extend([name.len() as u8 + 1, 0, 0, 0]);
        body.extend((cigar.len() as u16).to_le_bytes());
        body.extend(flags.to_le_bytes());
        body.extend((letters.len() as u32).to_le_bytes());
        body.extend([0xff; 12]);
        body.extend(name.as_bytes());
        body.push(0);
        cigar.iter().for_each(|op| body.extend(op.to_le_bytes()));
        body.extend(packed);
        body.extend(vec![20; letters.len()]);
        // A tag: qs:i:9.
        body.extend(b"qsC\x09");
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn header() -> Vec<u8> {
        let text = b"@HD\tVN:1.6\n";
        let mut bytes = MAGIC.to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(5u32.to_le_bytes());
        bytes.extend(b"chr1\0");
        bytes.extend(1000u32.to_le_bytes());
        bytes
    }

    /// Names with bases, or reasons; and how it ended.
    fn read(bytes: Vec<u8>, chunk_bases: usize) -> (Vec<String>, Option<String>) {
        let input = Input::Reader("x.bam".into(), Box::new(Cursor::new(bytes)));
        let limits = Limits {
            chunk_bases,
            max_read_len: 50,
        };
        let mut reader = match Reader::open(input, limits, 0) {
            Ok(reader) => reader,
            Err(error) => return (vec![], Some(error.to_string())),
        };
        let mut chunk = Chunk::with_capacity(16);
        let mut seen: Vec<String> = vec![];
        loop {
            match reader.next_chunk(&mut chunk) {
                Ok(Step::End) => return (seen, None),
                Err(error) => {
                    assert!(matches!(reader.next_chunk(&mut chunk), Ok(Step::End)));
                    return (seen, Some(error.to_string()));
                }
                Ok(Step::Rejected(reject)) => seen.push(reject.to_string()),
                Ok(Step::Chunk) => {
                    if chunk.first {
                        seen.push(String::from_utf8_lossy(&chunk.name).into_owned() + " ");
                    }
                    let letters = chunk
                        .codes
                        .iter()
                        .map(|&c| char::from(b"ACGTN"[usize::from(c)]));
                    seen.last_mut().unwrap().extend(letters);
                }
            }
        }
    }

    fn whole() -> Vec<u8> {
        [
            header(),
            record("a", 4, &[], "ACGTRAC"),
            record("b", 0x10, &[7 << 4], "AACGTTN"),
            record("c", 0x900, &[], "AC"),
            record("d", 0, &[2 << 4 | 5, 2 << 4], "AC"),
            record("e", 4, &[], &"A".repeat(51)),
            record("f", 4, &[], ""),
            record("g", 4, &[], "GG"),
        ]
        .concat()
    }

    #[test]
    fn records_come_in_their_reads_orientation() {
        for chunk_bases in [1, 3, 100] {
            let (seen, error) = read(whole(), chunk_bases);
            assert_eq!(error, None);
            assert_eq!(seen[0], "a ACGTNAC");
            assert_eq!(seen[1], "b NAACGTT");
            assert!(
                seen[2].contains("record 3 (c) at byte ") && seen[2].contains("secondary"),
                "{}",
                seen[2]
            );
            assert!(seen[3].contains("hard-clipped"), "{}", seen[3]);
            assert!(seen[4].contains("51 bases"), "{}", seen[4]);
            assert_eq!(seen[5..], ["f ", "g GG"]);
        }
    }

    #[test]
    fn whatever_is_cut_off_or_broken_is_reported() {
        let bytes = whole();
        for cut in 5..bytes.len() {
            let (seen, error) = read(bytes[..cut].to_vec(), 100);
            let between = [header().len(), bytes.len()].contains(&cut);
            // Between two records only the missing end block of BGZF shows that more should come.
            assert!(
                error.is_some() || between || seen.iter().all(|s| !s.contains("cut off")),
                "{cut}"
            );
        }
        let mut broken = bytes.clone();
        let first = header().len();
        // A sequence longer than the record.
        broken[first + 4 + 16] = 200;
        let (seen, error) = read(broken, 100);
        assert!(seen[0].contains("do not fit"), "{}", seen[0]);
        assert_eq!((seen.len(), error), (7, None));
        let mut broken = bytes.clone();
        broken[first + 3] = 0xff;
        let (seen, error) = read(broken, 100);
        assert_eq!(seen.len(), 1);
        assert!(error.unwrap().contains("record, 1"));
        let (_, error) = read(header()[..20].to_vec(), 100);
        assert!(error.unwrap().contains("BAM header"));
    }
}
