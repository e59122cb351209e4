//! FASTQ of four lines a record, and the way back after a bad one.

use super::block::{Blocks, Header, LineEnd};
use super::reject::{Reject, RejectReason};
use super::{Chunk, Ids, Limits, Step, Whole};
use crate::reads::nucleotide::{NOT_A_BASE, code};

pub(super) struct Fastq {
    limits: Limits,
    header: Header,
    /// A quality line that begins with `@`: the next header, if the record turns out to lack its
    /// qualities.
    quality: Header,
    /// A validated record, or what was read of one.
    whole: Whole,
    /// The last record was bad: only an `@` line whose next but one begins with `+` begins another.
    lost: bool,
    /// `header` holds a line already.
    have_header: bool,
}

/// How reading a record ended.
enum Record {
    Good,
    Bad(Box<Reject>),
    End,
}

/// What a sequence line held.
struct Sequence {
    bases: u64,
    fault: Option<RejectReason>,
    end: LineEnd,
}

impl Fastq {
    pub(super) fn new(limits: Limits) -> Fastq {
        Fastq {
            limits,
            header: Header::default(),
            quality: Header::default(),
            whole: Whole::default(),
            lost: false,
            have_header: false,
        }
    }

    pub(super) fn next_chunk(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        chunk: &mut Chunk,
    ) -> Step {
        if !self.whole.ready {
            match self.read_record(blocks, ids) {
                Record::Good => self.whole.begin(),
                Record::Bad(reject) => return Step::Rejected(reject),
                Record::End => return Step::End,
            }
        }
        let (limit, header) = (self.limits.chunk_bases, &self.header);
        self.whole.give(limit, blocks, ids, header, chunk);
        Step::Chunk
    }

    /// Bases that there is memory for.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.whole.codes.capacity()
    }

    fn read_record(&mut self, blocks: &mut Blocks, ids: &mut Ids) -> Record {
        loop {
            if !std::mem::take(&mut self.have_header) {
                match self.find_header(blocks) {
                    None => return Record::End,
                    Some(b'@') => {}
                    Some(found) => {
                        self.lost = true;
                        self.header.start(blocks.offset());
                        ids.begin();
                        return self.bad(ids, RejectReason::NoHeader { found });
                    }
                }
                if self.header.read(blocks) == LineEnd::Input {
                    return self.cut_off(blocks, ids, None);
                }
            }

            if blocks.peek() == Some(b'@') {
                // No sequence begins so: the header above stands alone, and this may be the next.
                if !self.lost {
                    self.lost = true;
                    ids.begin();
                    let byte = b'@';
                    let at = blocks.offset();
                    return self.bad(ids, RejectReason::NotABase { byte, at });
                }
                continue;
            }
            let sequence = self.read_sequence(blocks);
            let Some(third) = blocks.peek().filter(|_| sequence.end == LineEnd::Newline) else {
                return self.cut_off(blocks, ids, Some(&sequence));
            };
            if third != b'+' {
                if self.lost {
                    continue;
                }
                self.lost = true;
                ids.begin();
                return self.bad(ids, sequence.fault.unwrap_or(RejectReason::NoPlus));
            }
            self.lost = false;
            if blocks.skip_line() == LineEnd::Input {
                return self.cut_off(blocks, ids, None);
            }
            return self.read_qualities(blocks, ids, sequence);
        }
    }

    /// Goes to where a header must be, and returns the byte there. Lost, it goes to the next line
    /// with an `@`.
    fn find_header(&self, blocks: &mut Blocks) -> Option<u8> {
        if !self.lost {
            return blocks.first_after_blanks();
        }
        while blocks.peek()? != b'@' {
            blocks.skip_line();
        }
        Some(b'@')
    }

    fn read_sequence(&mut self, blocks: &mut Blocks) -> Sequence {
        let codes = &mut self.whole.codes;
        let limit = self.limits.max_read_len;
        let mut bases = 0u64;
        let mut bad = None;
        codes.clear();
        let end = blocks.line(|piece, at| {
            // Only the first `limit` bytes are looked at, so that the verdict does not depend on
            // how the line was cut.
            let room = (limit as u64).saturating_sub(bases);
            let part = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
            bases += piece.len() as u64;
            if bad.is_some() {
                return;
            }
            let before = codes.len();
            reserve(codes, part.len(), limit);
            codes.extend(part.iter().map(|&letter| code(letter)));
            if let Some(i) = codes[before..].iter().position(|&c| c == NOT_A_BASE) {
                bad = Some((part[i], at + i as u64));
            }
        });
        let fault = match bad {
            Some((byte, at)) => Some(RejectReason::NotABase { byte, at }),
            None if bases > limit as u64 => Some(RejectReason::TooLong { bases, limit }),
            None => None,
        };
        Sequence { bases, fault, end }
    }

    fn read_qualities(&mut self, blocks: &mut Blocks, ids: &mut Ids, sequence: Sequence) -> Record {
        let quality = &mut self.quality;
        let mut qualities = 0u64;
        let mut bad = None;
        quality.start(blocks.offset());
        let end = blocks.line(|piece, at| {
            let begins = qualities == 0;
            qualities += piece.len() as u64;
            if bad.is_none()
                && let Some(i) = piece.iter().position(|b| !(33..=126).contains(b))
            {
                bad = Some((piece[i], at + i as u64));
            }
            if (begins && piece[0] == b'@') || !quality.text.is_empty() {
                quality.take(piece, at);
            }
        });
        if end == LineEnd::Input && qualities < sequence.bases {
            return self.cut_off(blocks, ids, None);
        }
        ids.begin();
        let bases = sequence.bases;
        let reason = self.header.fault().or(sequence.fault).or_else(|| {
            if bases != qualities {
                return Some(RejectReason::Unequal { bases, qualities });
            }
            bad.map(|(byte, at)| RejectReason::BadQuality { byte, at })
        });
        let Some(reason) = reason else {
            return Record::Good;
        };
        let reject = self.bad(ids, reason);
        if bases != qualities {
            self.lost = true;
            if !self.quality.text.is_empty() {
                std::mem::swap(&mut self.header, &mut self.quality);
                self.have_header = true;
            }
        }
        reject
    }

    fn bad(&self, ids: &Ids, reason: RejectReason) -> Record {
        Record::Bad(ids.reject(&self.header, reason))
    }

    /// The input ended inside the record in `header`. Lost, an `@` line with no bases behind it may
    /// as well be the last quality line of the region that was rejected already.
    fn cut_off(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        sequence: Option<&Sequence>,
    ) -> Record {
        let plausible = sequence.is_some_and(|s| s.bases > 0 && s.fault.is_none());
        if self.lost && !plausible {
            return Record::End;
        }
        ids.begin();
        blocks.fail(ids.cut_off(&self.header));
        self.bad(ids, RejectReason::CutOff)
    }
}

/// Makes room for `more` codes, doubling, but never above `limit`.
fn reserve(codes: &mut Vec<u8>, more: usize, limit: usize) {
    let needed = codes.len() + more;
    if needed > codes.capacity() {
        let target = needed.max(2 * codes.capacity()).min(limit);
        codes.reserve_exact(target - codes.len());
    }
}
