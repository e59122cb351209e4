//! Models that score the 5'UTR before a start codon.
//!
//! On the forward strand the first start codons of the read count, as they come; on the reverse
//! strand the last of the read, so those are kept until its end. A 5'UTR begins where the read
//! does, and the model sees its last bases.

use super::calibrate::Calibration;
use super::error::AnnotateError;
use super::options::{Molecule, Options};
use super::piece::Piece;
use super::task::called;
use super::tokens::Intake;
use crate::call::{Call, CallKind, Flags, Strand};
use crate::model::manifest::{Manifest, Sequence};
use crate::model::{Model, ModelError, Runner};
use crate::reads::nucleotide::{N, complement};
use std::collections::VecDeque;
use std::ops::Range;

/// A, T, G in codes.
const START: [u8; 3] = [0, 3, 2];

/// Most start codons a read and strand.
pub const MOST_STARTS: usize = 10_000;

pub(crate) struct Starts {
    model: Model,
    number: u8,
    kind: CallKind,
    calibration: Calibration,
    intake: Intake,
    max_starts: usize,
    flags: Flags,
}

/// A start codon on the reverse strand, waiting for the read's end.
struct Candidate {
    /// Forward position of the codon's last base, where its complement begins.
    position: u64,
    /// The bases before it on its own strand.
    upstream: Vec<u8>,
}

/// What a read's start codons need to remember.
pub(crate) struct StartsState {
    found: usize,
    reverse: VecDeque<Candidate>,
    /// Candidates of earlier reads, for their buffers.
    spare: Vec<Candidate>,
    padded: Vec<u8>,
    ids: Vec<u32>,
}

impl StartsState {
    pub fn reset(&mut self) {
        self.found = 0;
        self.spare.extend(self.reverse.drain(..));
    }
}

impl Starts {
    pub fn new(
        model: Model,
        number: u8,
        intake: Intake,
        options: &Options,
    ) -> Result<Starts, AnnotateError> {
        if options.max_starts == 0 || options.max_starts > MOST_STARTS {
            let reason = format!("{} start codons: 1 to {MOST_STARTS}", options.max_starts);
            return Err(AnnotateError::Options(reason));
        }
        let output = &model.manifest().outputs[0];
        Ok(Starts {
            number,
            kind: called(output),
            calibration: Calibration::new(&output.calibration, output.link),
            intake,
            max_starts: options.max_starts,
            flags: match options.molecule {
                Molecule::Rna => Flags::UNVERIFIED_5P,
                Molecule::Dna => Flags::NONE,
            },
            model,
        })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bases needed on each side of a position.
    pub fn margin(&self) -> usize {
        self.intake.sequence().longest + START.len()
    }

    pub fn state(&self, reverse: bool) -> StartsState {
        let most = if reverse { self.max_starts } else { 0 };
        StartsState {
            found: 0,
            reverse: VecDeque::with_capacity(most),
            spare: Vec::with_capacity(most),
            padded: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Scores start codons whose 5'UTR ends in `range`, as the calls of a scan do, on the forward
    /// strand, and remembers those of the reverse strand.
    pub fn call(
        &self,
        runner: &mut Runner,
        state: &mut StartsState,
        piece: &Piece,
        range: Range<u64>,
        strands: &[Strand],
        calls: &mut Vec<Call>,
    ) -> Result<(), AnnotateError> {
        // A call's end is one past its last base, and calls leave in order of their end: the codon
        // at the range's start belongs to the range before, if there was one.
        let from = (range.start - piece.first) as usize + usize::from(range.start > 0);
        let to = (range.end - piece.first) as usize + 1;
        for index in from..to {
            let Some(codon) = piece.codes.get(index..index + START.len()) else {
                break;
            };
            let position = piece.first + index as u64;
            let forward = strands.contains(&Strand::Forward);
            if forward && codon == START && position >= self.intake.sequence().shortest as u64 {
                if state.found < self.max_starts {
                    let kept = index.saturating_sub(self.intake.sequence().longest)..index;
                    let upstream = &piece.codes[kept];
                    let span = 0..position;
                    let room = (&mut state.padded, &mut state.ids);
                    let call = self.score(runner, upstream, room, span, Strand::Forward);
                    calls.extend(call?);
                }
                state.found += 1;
            }
            let reverse = strands.contains(&Strand::Reverse);
            let codon = [codon[2], codon[1], codon[0]].map(complement);
            if reverse && codon == START {
                self.remember(state, piece, index + START.len(), position);
            }
        }
        Ok(())
    }

    /// Keeps a start codon of the reverse strand; `after` indexes the first base upstream of it.
    fn remember(&self, state: &mut StartsState, piece: &Piece, after: usize, position: u64) {
        let to = (after + self.intake.sequence().longest).min(piece.codes.len());
        // Near the end too few bases follow, and none will come.
        if to - after < self.intake.sequence().shortest {
            return;
        }
        let used = if state.reverse.len() == self.max_starts {
            state.reverse.pop_front()
        } else {
            state.spare.pop()
        };
        let mut candidate = used.unwrap_or_else(|| Candidate {
            position: 0,
            upstream: Vec::with_capacity(self.intake.sequence().longest),
        });
        candidate.position = position;
        candidate.upstream.clear();
        let upstream = piece.codes[after..to].iter().rev();
        candidate.upstream.extend(upstream.map(|&c| complement(c)));
        state.reverse.push_back(candidate);
    }

    /// Scores what had to wait for the read's end.
    pub fn finish(
        &self,
        runner: &mut Runner,
        state: &mut StartsState,
        end: u64,
        calls: &mut Vec<Call>,
    ) -> Result<(), AnnotateError> {
        while let Some(candidate) = state.reverse.pop_front() {
            let span = candidate.position + START.len() as u64..end;
            let upstream = &candidate.upstream;
            let room = (&mut state.padded, &mut state.ids);
            let call = self.score(runner, upstream, room, span, Strand::Reverse);
            state.spare.push(candidate);
            calls.extend(call?);
        }
        Ok(())
    }

    fn score(
        &self,
        runner: &mut Runner,
        upstream: &[u8],
        (padded, ids): (&mut Vec<u8>, &mut Vec<u32>),
        span: Range<u64>,
        strand: Strand,
    ) -> Result<Option<Call>, ModelError> {
        pad(self.intake.sequence(), upstream, padded);
        let raw = self.intake.run(runner, padded, ids)?[0];
        let mut flags = self.flags;
        if upstream.contains(&N) {
            flags |= Flags::AMBIGUOUS;
        }
        Ok(Some(Call {
            start: span.start,
            end: span.end,
            strand,
            kind: self.kind,
            score: self.calibration.score(raw),
            flags,
            model: self.number,
        }))
    }
}

/// A sequence as the model takes it: its last bases, padded on the left to whole codons.
pub(super) fn pad(sequence: &Sequence, codes: &[u8], padded: &mut Vec<u8>) {
    let kept = &codes[codes.len().saturating_sub(sequence.longest)..];
    let length = kept.len().next_multiple_of(sequence.multiple);
    padded.clear();
    padded.resize(length - kept.len(), N);
    padded.extend_from_slice(kept);
}

/// A sequence as the model takes it, or `None` where it is too short.
pub(super) fn padded(sequence: &Sequence, codes: &[u8]) -> Option<Vec<u8>> {
    if codes.len() < sequence.shortest {
        return None;
    }
    let mut padded = vec![];
    pad(sequence, codes, &mut padded);
    Some(padded)
}

/// Scores from raw outputs.
pub(super) fn calibrated(manifest: &Manifest, raw: &[f32]) -> Vec<f32> {
    let outputs = manifest.outputs.iter().zip(raw);
    outputs
        .map(|(o, &raw)| Calibration::new(&o.calibration, o.link).score(raw))
        .collect()
}
