//! bedGraph: one signal over each read.
//!
//! The format has four columns (read, start, end, value), no strand and no name, and its intervals
//! must not overlap. The value is the score, whatever the strand: a run on one strand makes the
//! file of that strand. The kind of a call is not written; the other formats have it, and `--tasks`
//! chooses one task. Where two calls overlap, on one strand or on both, the one with the greater
//! score is written and the other one counted as left out. Ribosome loads would swamp probabilities
//! there: write expression by itself. There is no `track` line, which programs that make bigWig of
//! bedGraph refuse.

use super::text::Score;
use crate::call::Call;
use std::io::{self, Write};

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
        let (name, score) = (&self.name, Score(&call));
        writeln!(out, "{name}\t{}\t{}\t{score}", call.start, call.end)
    }
}
