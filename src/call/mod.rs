//! Calls: what a model says of a place in a read, and the rules that turn scores into calls.

pub mod grade;
mod strand;

pub use strand::Strand;

use serde::{Deserialize, Serialize};
use std::fmt;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// The last base of an exon.
    Donor,
    /// The first base of an exon.
    Acceptor,
    /// A transcription start site.
    Promoter,
    /// The middle of a window that a transcription factor is found at; which one, the name of the
    /// model says.
    Tf,
    /// A 5'UTR with its predicted mean ribosome load.
    Expression,
    /// A bacterial promoter with the logarithm of its predicted transcription rate.
    PromoterStrength,
}

impl CallKind {
    /// Every kind, in the order in which calls of one place are written.
    pub const ALL: [CallKind; 6] = [
        CallKind::Donor,
        CallKind::Acceptor,
        CallKind::Promoter,
        CallKind::Tf,
        CallKind::Expression,
        CallKind::PromoterStrength,
    ];

    /// So many of them, the first ones, have probabilities as scores.
    pub const PROBABILITIES: usize = 4;

    /// So many of them, the first ones, are what is looked for where nothing else is asked for:
    /// summaries show them even where there are none.
    pub const USUAL: usize = 3;

    /// Their names, in that order.
    pub const NAMES: [&'static str; CallKind::ALL.len()] = [
        "donor",
        "acceptor",
        "promoter",
        "tf",
        "expression",
        "promoter-strength",
    ];

    /// The name in every text format.
    pub fn name(self) -> &'static str {
        CallKind::NAMES[self as usize]
    }

    /// True of donors and acceptors.
    pub fn is_splice_site(self) -> bool {
        matches!(self, CallKind::Donor | CallKind::Acceptor)
    }

    /// True where the score is a probability.
    pub fn is_probability(self) -> bool {
        (self as usize) < CallKind::PROBABILITIES
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a reader of a call should know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u8);

impl Flags {
    /// Nothing to say.
    pub const NONE: Flags = Flags(0);
    /// The model's context reaches beyond an end of the read.
    pub const SHORT_CONTEXT: Flags = Flags(1);
    /// An N or another ambiguous letter lies within 20 bases.
    pub const AMBIGUOUS: Flags = Flags(2);
    /// Direct RNA enters 3' end first, so a read's start need not be the transcript's start.
    pub const UNVERIFIED_5P: Flags = Flags(4);
    /// Bases of the read were lost, or shed because of overload, before the call or within its
    /// context; or the read was cut short.
    pub const PARTIAL: Flags = Flags(8);
    /// Made by the fast tier because of overload, where the better one was asked for.
    pub const FAST_TIER: Flags = Flags(16);

    /// Every flag with its name, in the order in which they are written.
    pub(crate) const NAMES: [(Flags, &'static str); 5] = [
        (Flags::SHORT_CONTEXT, "short-context"),
        (Flags::AMBIGUOUS, "ambiguous"),
        (Flags::UNVERIFIED_5P, "5p-unverified"),
        (Flags::PARTIAL, "partial"),
        (Flags::FAST_TIER, "fast-tier"),
    ];

    /// True where every flag of `other` is set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    /// Comma-separated names, or `.` where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for name in self.names() {
            if !first {
                f.write_str(",")?;
            }
            f.write_str(name)?;
            first = false;
        }
        if first { f.write_str(".") } else { Ok(()) }
    }
}

/// One call. Coordinates are forward coordinates of the record, 0-based and half-open, on both
/// strands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// First base.
    pub start: u64,
    /// One past the last base. A donor, an acceptor and a promoter span one base.
    pub end: u64,
    /// The strand of the feature.
    pub strand: Strand,
    /// What it is.
    pub kind: CallKind,
    /// A calibrated probability in [0, 1]; for [`CallKind::Expression`] the predicted mean ribosome
    /// load, for [`CallKind::PromoterStrength`] the natural logarithm of the rate over a reference
    /// promoter's.
    pub score: f32,
    /// Caveats.
    pub flags: Flags,
    /// Which model: an index into [`Annotator::models`](crate::Annotator::models).
    pub model: u8,
}

/// Takes calls as they are made. Every `FnMut(Call)` is one, and a `Vec<Call>`.
pub trait CallSink {
    /// Takes one call; calls of a read come in order of position.
    fn take(&mut self, call: Call);
}

impl<F: FnMut(Call)> CallSink for F {
    fn take(&mut self, call: Call) {
        self(call);
    }
}

impl CallSink for Vec<Call> {
    fn take(&mut self, call: Call) {
        self.push(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters are indexed by kind, and those with probabilities come first.
    #[test]
    fn kinds_stand_where_they_are_counted() {
        for (index, kind) in CallKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert_eq!(kind.name(), CallKind::NAMES[index]);
            let is_number = matches!(kind, CallKind::Expression | CallKind::PromoterStrength);
            assert_eq!(kind.is_probability(), !is_number, "{kind}");
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(
                json,
                format!("\"{kind}\""),
                "in files and on the command line alike"
            );
        }
    }
}
