//! FASTA: contigs that stream.

use super::block::{Blocks, Header, LineEnd};
use super::reject::RejectReason;
use super::{Chunk, Ids, Limits, RecordEnd, Step};
use crate::reads::nucleotide::{N, NOT_A_BASE, code, encode, position};

pub(super) struct Fasta {
    header: Header,
    chunk_bases: usize,
    state: State,
    /// Bases of the record handed out.
    given: u64,
    /// The next byte begins a line.
    line_start: bool,
    /// The first of the blanks before, which only the line's end may follow.
    blank: Option<(u8, u64)>,
    ahead: Ahead,
}

/// Codes of the bytes from some place of the input on, [`N`] for what is no known base. Lines are
/// short, so several are encoded at once.
#[derive(Default)]
struct Ahead {
    start: u64,
    codes: Vec<u8>,
}

impl Ahead {
    /// Codes of `letters`, which stand at `offset`: of the first one at least.
    fn codes(&mut self, offset: u64, letters: &[u8]) -> &[u8] {
        const MOST: usize = 4096;
        let passed = offset.checked_sub(self.start);
        let passed = passed.filter(|&passed| passed < self.codes.len() as u64);
        let passed = passed.unwrap_or_else(|| {
            self.codes.clear();
            encode(&letters[..letters.len().min(MOST)], &mut self.codes);
            self.start = offset;
            0
        });
        let codes = &self.codes[passed as usize..];
        &codes[..codes.len().min(letters.len())]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// Inside a record, some of whose chunks may have been handed out.
    Sequence,
    /// Inside a record that was rejected.
    Skipping,
}

/// What stopped the filling of a chunk.
enum Stop {
    Full,
    RecordEnd,
    InputEnd,
    BadByte(u8, u64),
}

impl Fasta {
    pub(super) fn new(limits: Limits) -> Fasta {
        Fasta {
            header: Header::default(),
            chunk_bases: limits.chunk_bases.max(1),
            state: State::Between,
            given: 0,
            line_start: true,
            blank: None,
            ahead: Ahead::default(),
        }
    }

    /// For what lies behind the beginning: the first record is looked for.
    pub(super) fn lost(limits: Limits) -> Fasta {
        Fasta {
            state: State::Skipping,
            ..Fasta::new(limits)
        }
    }

    pub(super) fn next_chunk(
        &mut self,
        blocks: &mut Blocks,
        ids: &mut Ids,
        chunk: &mut Chunk,
    ) -> Step {
        if self.state == State::Skipping {
            self.skip(blocks);
        }
        if self.state == State::Between {
            if blocks.first_after_blanks().is_none() {
                return Step::End;
            }
            ids.begin();
            let end = self.header.read(blocks);
            let fault = match end {
                LineEnd::Input if blocks.failed() => Some(RejectReason::CutOff),
                _ => self.header.fault(),
            };
            self.line_start = true;
            self.blank = None;
            self.given = 0;
            if let Some(reason) = fault {
                self.state = State::Skipping;
                return Step::Rejected(ids.reject(&self.header, reason));
            }
            self.state = State::Sequence;
        }

        chunk.first = self.given == 0;
        chunk.start = self.given;
        chunk.codes.clear();
        let stop = self.fill(blocks, &mut chunk.codes);
        let reason = match stop {
            Stop::Full => None,
            Stop::InputEnd if blocks.failed() => Some(RejectReason::CutOff),
            Stop::RecordEnd | Stop::InputEnd => {
                self.state = State::Between;
                None
            }
            Stop::BadByte(byte, at) => Some(RejectReason::NotABase { byte, at }),
        };
        chunk.end = match reason {
            Some(reason) => {
                self.state = State::Skipping;
                let reject = ids.reject(&self.header, reason);
                if chunk.first {
                    return Step::Rejected(reject);
                }
                // The record is lost, so nothing more of it is worth annotating.
                chunk.codes.clear();
                Some(RecordEnd::Rejected(reject))
            }
            None => (self.state == State::Between).then_some(RecordEnd::Complete),
        };
        self.given += chunk.codes.len() as u64;
        chunk.received = blocks.received();
        ids.label(chunk, &self.header);
        Step::Chunk
    }

    /// Appends codes to `codes` until it is full and another base follows, or the record ends.
    fn fill(&mut self, blocks: &mut Blocks, codes: &mut Vec<u8>) -> Stop {
        loop {
            let Some(byte) = blocks.peek() else {
                return Stop::InputEnd;
            };
            let is_blank = matches!(byte, b' ' | b'\t' | b'\r');
            if let Some((blank, at)) = self.blank.filter(|_| byte != b'\n' && !is_blank) {
                return Stop::BadByte(blank, at);
            }
            match byte {
                b'>' if self.line_start => return Stop::RecordEnd,
                b'\n' => {
                    blocks.consume(1);
                    self.line_start = true;
                    self.blank = None;
                }
                _ if is_blank => {
                    self.blank.get_or_insert((byte, blocks.offset()));
                    blocks.consume(1);
                }
                _ if code(byte) == NOT_A_BASE => return Stop::BadByte(byte, blocks.offset()),
                _ if codes.len() == self.chunk_bases => return Stop::Full,
                _ => {
                    self.line_start = false;
                    let room = self.chunk_bases - codes.len();
                    let rest = blocks.rest();
                    let run = &rest[..rest.len().min(room)];
                    let before = codes.len();
                    if code(byte) == N {
                        let letters = run.iter().map(|&letter| code(letter));
                        codes.extend(letters.take_while(|&code| code == N));
                    } else {
                        let known = self.ahead.codes(blocks.offset(), run);
                        let end = position(known, N).unwrap_or(known.len());
                        codes.extend_from_slice(&known[..end]);
                    }
                    blocks.consume(codes.len() - before);
                }
            }
        }
    }

    /// Goes to the next line that begins with `>`.
    fn skip(&mut self, blocks: &mut Blocks) {
        // A bad byte at the start of a line is never '>', so the line it stands in holds nothing
        // worth a look.
        if !self.line_start || blocks.peek() != Some(b'>') {
            blocks.skip_line();
        }
        while blocks.peek().is_some_and(|byte| byte != b'>') {
            blocks.skip_line();
        }
        self.state = State::Between;
    }
}
