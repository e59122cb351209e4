//! FASTQ, its sequence and its qualities on one line each or on several, and the way back after a
//! bad record.
//!
//! Qualities end when there are as many as bases. What ends a broken stretch is a line with `@`,
//! lines of letters, and a line with `+`: one of them alone may as well be qualities.

use super::block::{Blocks, Header, LineEnd};
use super::reject::{Reject, RejectReason};
use super::{Chunk, Ids, Limits, MAX_HEADER, Step, Whole};
use crate::reads::nucleotide::{NOT_A_BASE, code, encode_checked};

pub(super) struct Fastq {
    limits: Limits,
    header: Header,
    /// What stands behind `+`.
    second: Header,
    /// A validated record, or what was read of one.
    whole: Whole,
    /// The last record was bad, and where the next one begins is to be found.
    lost: bool,
}

/// How reading a record ended.
enum Record {
    Good,
    Bad(Box<Reject>),
    End,
}

/// What the lines of a sequence held.
#[derive(Default)]
struct Sequence {
    bases: u64,
    lines: u64,
    /// The first byte that is no base, and where it is.
    bad: Option<(u8, u64)>,
}

impl Sequence {
    fn fault(&self, limit: usize) -> Option<RejectReason> {
        match self.bad {
            Some((byte, at)) => Some(RejectReason::NotABase { byte, at }),
            None if self.bases > limit as u64 => {
                let bases = self.bases;
                Some(RejectReason::TooLong { bases, limit })
            }
            None => None,
        }
    }
}

/// What the lines of qualities held.
#[derive(Default)]
struct Qualities {
    count: u64,
    /// Those before a line that looks like a header.
    certain: u64,
    lines: u64,
    /// The first byte that is none, and where it is.
    bad: Option<(u8, u64)>,
}

impl Fastq {
    /// `lost`: it begins in a broken stretch.
    pub(super) fn new(limits: Limits, lost: bool) -> Fastq {
        Fastq {
            limits,
            header: Header::default(),
            second: Header::default(),
            whole: Whole::default(),
            lost,
        }
    }

    pub(super) fn next_chunk(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        chunk: &mut Chunk,
    ) -> Step {
        if !self.whole.ready {
            let record = self.read_record(blocks, ids);
            if !matches!(record, Record::End) {
                blocks.judge(self.lost);
            }
            match record {
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
            let Some(sequence) = self.read_sequence(blocks) else {
                // The input ended before the sequence did.
                let sequence = self.partial_sequence();
                return self.cut_off(blocks, ids, sequence);
            };
            let fault = sequence.fault(self.limits.max_read_len);
            if blocks.peek() == Some(b'@') {
                // The header above stands alone, and this may be the next.
                if self.lost {
                    continue;
                }
                self.lost = true;
                ids.begin();
                let (byte, at) = (b'@', blocks.offset());
                let alone = (sequence.lines == 0).then_some(RejectReason::NotABase { byte, at });
                return self.bad(ids, fault.or(alone).unwrap_or(RejectReason::NoPlus));
            }
            if self.lost && (sequence.lines == 0 || sequence.bad.is_some()) {
                continue;
            }
            self.lost = false;
            if self.second.read(blocks) == LineEnd::Input {
                return self.cut_off(blocks, ids, None);
            }
            return self.read_qualities(blocks, ids, &sequence);
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

    /// Reads lines up to one that begins with `+` or `@`; `None` where the input ends before.
    fn read_sequence(&mut self, blocks: &mut Blocks) -> Option<Sequence> {
        let codes = &mut self.whole.codes;
        let limit = self.limits.max_read_len;
        let mut sequence = Sequence::default();
        codes.clear();
        self.second.start(0);
        loop {
            if matches!(blocks.peek()?, b'+' | b'@') {
                return Some(sequence);
            }
            let end = blocks.line(|piece, at| {
                // Only the first `limit` bytes are looked at, so that the verdict does not depend
                // on how the lines were cut.
                let room = (limit as u64).saturating_sub(sequence.bases);
                let part = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
                sequence.bases += piece.len() as u64;
                if sequence.bad.is_some() {
                    return;
                }
                reserve(codes, part.len(), limit);
                if let Some(i) = encode_checked(part, codes) {
                    // Not a sequence, so nothing of it is kept.
                    codes.clear();
                    sequence.bad = Some((part[i], at + i as u64));
                }
            });
            sequence.lines += 1;
            if end == LineEnd::Input {
                return None;
            }
        }
    }

    fn read_qualities(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        sequence: &Sequence,
    ) -> Record {
        let bases = sequence.bases;
        let mut qualities = Qualities::default();
        // Should they prove to be none, a header among them is to be found again.
        let limit = self.limits.max_read_len + 2 * MAX_HEADER;
        blocks.unmark();
        let ended = loop {
            let next = blocks.peek();
            if next.is_none() && qualities.lines > 0 {
                // A last line that is whole is too short, and was not cut off.
                break blocks.growing();
            }
            let like_header = next == Some(b'@');
            if like_header && qualities.count > 0 {
                // On one line the sequence, on one line its qualities: more are an exception.
                if sequence.lines == 1 && self.is_header(blocks, limit) {
                    break false;
                }
                if qualities.certain == 0 {
                    qualities.certain = qualities.count;
                }
            }
            if like_header && !blocks.is_marked() {
                blocks.mark(limit);
            }
            let end = blocks.line(|piece, at| {
                qualities.count += piece.len() as u64;
                let is_bad = |&b: &u8| !(33..=126).contains(&b);
                // All of them at once, since hardly ever one is bad.
                if qualities.bad.is_none()
                    && piece.iter().fold(false, |bad, b| bad | is_bad(b))
                    && let Some(i) = piece.iter().position(is_bad)
                {
                    qualities.bad = Some((piece[i], at + i as u64));
                }
            });
            qualities.lines += 1;
            if end == LineEnd::Input || qualities.count >= bases {
                break end == LineEnd::Input;
            }
            if qualities.lines == 1 && like_header && sequence.lines == 1 && blocks.rewind() {
                // Instead of qualities the next header.
                if self.is_header(blocks, limit) {
                    break false;
                }
                blocks.mark(limit);
                blocks.skip_line();
            }
        };
        // What looks like a header was one, unless another follows the qualities.
        let doubtful = blocks.is_marked() && qualities.lines > 1 && !ended;
        if doubtful && qualities.count == bases {
            match blocks.first_after_blanks() {
                Some(b'@') => (),
                None if !blocks.growing() => (),
                None => return self.cut_off(blocks, ids, None),
                Some(_) => qualities.count = qualities.certain,
            }
        }
        // Without a header among them, they were cut off.
        if ended && (blocks.growing() || qualities.count < bases && !blocks.is_marked()) {
            return self.cut_off(blocks, ids, None);
        }
        if bases != qualities.count && blocks.is_marked() && qualities.certain > 0 {
            qualities.count = qualities.certain;
        }
        ids.begin();
        let limit = self.limits.max_read_len;
        let reason = self.header.fault().or(sequence.fault(limit)).or_else(|| {
            let qualities = qualities.count;
            (bases != qualities).then_some(RejectReason::Unequal { bases, qualities })
        });
        let reason = reason.or_else(|| {
            let other = !self.second.repeats(&self.header);
            let bad = qualities.bad;
            let bad = bad.map(|(byte, at)| RejectReason::BadQuality { byte, at });
            bad.or(other.then_some(RejectReason::OtherName))
        });
        if bases != qualities.count {
            self.lost = true;
            blocks.rewind();
        }
        blocks.unmark();
        match reason {
            Some(reason) => self.bad(ids, reason),
            None => Record::Good,
        }
    }

    /// True where a record begins: a line with `@`, lines of letters, a line with `+`.
    fn is_header(&mut self, blocks: &mut Blocks, limit: usize) -> bool {
        // One mark at a time: a later search begins here.
        blocks.mark(limit);
        let mut lines = 0;
        let mut bad = false;
        blocks.skip_line();
        let found = loop {
            match blocks.peek() {
                Some(b'+') => break lines > 0 && !bad,
                None | Some(b'@') => break false,
                Some(_) if bad => break false,
                Some(_) => {
                    blocks.line(|piece, _| {
                        bad |= piece.iter().any(|&letter| code(letter) == NOT_A_BASE);
                    });
                    lines += 1;
                }
            }
        };
        blocks.rewind() && found
    }

    fn bad(&self, ids: &Ids, reason: RejectReason) -> Record {
        Record::Bad(ids.reject(&self.header, reason))
    }

    /// What there is of a sequence that the input cut off.
    fn partial_sequence(&self) -> Option<bool> {
        Some(!self.whole.codes.is_empty())
    }

    /// The input ended inside the record in `header`. Lost, an `@` line without `plausible` bases
    /// behind it may as well be the last quality line of the stretch that was rejected already.
    fn cut_off(&mut self, blocks: &mut Blocks, ids: &mut Ids, plausible: Option<bool>) -> Record {
        if blocks.growing() || (self.lost && plausible != Some(true)) {
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
