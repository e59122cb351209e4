//! bedGraph: one signal over each read.
//!
//! The format has four columns (read, start, end, value), no strand and no name, and its intervals
//! must not overlap. So that lines can be written as reads come, everything goes into one track and
//! the sign gives the strand, as is usual for stranded signal: a value above zero is a call on the
//! forward strand, one below zero a call on the reverse strand. The kind of a call is not written;
//! TSV, BED and GFF3 have it, and `--tasks` chooses one task. Where two calls overlap, the one with
//! the greater score is written and the other one counted as left out. Ribosome loads would swamp
//! probabilities there: write expression by itself.

use super::text::Score;
use crate::call::Call;
use crate::call::Strand;
use std::io::{self, Write};

/// The line that opens the track.
pub const TRACK_LINE: &[u8] = b"track type=bedGraph name=\"strandline\" \
    description=\"calls, negative on the reverse strand\" visibility=full\n";

/// The last call of the record in hand, held back until the next one shows that nothing stronger
/// overlaps it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    name: String,
    held: Option<Call>,
}

impl Signal {
    /// Takes the next call and writes the one before it. False where one of the two is left out.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, name: &str, call: &Call) -> io::Result<bool> {
        if let Some(held) = &mut self.held {
            let overlaps = call.start < held.end && held.start < call.end;
            if overlaps && self.name == name {
                if call.score > held.score {
                    *held = *call;
                }
                return Ok(false);
            }
        }
        self.finish(out)?;
        if self.name != name {
            self.name.clear();
            self.name.push_str(name);
        }
        self.held = Some(*call);
        Ok(true)
    }

    /// Writes the call held back.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(call) = self.held.take() else {
            return Ok(());
        };
        let sign = match call.strand {
            Strand::Forward => "",
            Strand::Reverse => "-",
        };
        let (name, score) = (&self.name, Score(&call));
        writeln!(out, "{name}\t{}\t{}\t{sign}{score}", call.start, call.end)
    }
}
