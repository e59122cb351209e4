//! Keep or eject: what the calls of a read's first bases say about the rest of it.
//!
//! ```toml
//! # The first rule that is met decides, as soon as it is met. A read whose bases have all been looked at as far as any
//! # rule reaches, or that ends before, gets the default.
//! default = "eject"
//!
//! [[rule]]
//! kinds = ["donor", "acceptor"]
//! at_least = 2        # calls of these kinds together
//! within = 2000       # bases from the read's start
//! min_score = 0.6     # those that score less do not count
//! decision = "keep"
//! ```

use super::live::{FinishedPiece, Replies};
use crate::call::{Call, CallKind};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// What is to become of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It is sequenced to its end.
    Keep,
    /// Its pore is freed for another.
    Eject,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Keep => "keep",
            Decision::Eject => "eject",
        })
    }
}

/// A decision for reads with enough calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The kinds that count.
    pub kinds: Vec<CallKind>,
    /// How many of them; at least 1.
    pub at_least: u32,
    /// Bases from the read's start within which they must lie.
    pub within: u64,
    /// Least score of a call that counts.
    #[serde(default)]
    pub min_score: f32,
    /// What they decide.
    pub decision: Decision,
}

impl Rule {
    fn counts(&self, call: &Call) -> bool {
        call.end <= self.within && call.score >= self.min_score && self.kinds.contains(&call.kind)
    }
}

/// The rules of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For reads that met no rule.
    pub default: Decision,
    /// In order of precedence among those met by the same piece.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no policy; the message names line and column.
    #[error("{file}: {source}")]
    Text {
        /// The file.
        file: String,
        /// What is wrong and where.
        source: Box<toml::de::Error>,
    },
    /// A rule that can never be met, or always is.
    #[error("{file}: rule {rule}: {reason}")]
    Rule {
        /// The file.
        file: String,
        /// Its number, from 1.
        rule: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Where it cannot be read, is no TOML of this form, or holds a rule without meaning.
    pub fn open(path: &Path) -> Result<Policy, PolicyError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Policy::parse(&text, file),
            Err(source) => Err(PolicyError::Io { file, source }),
        }
    }

    /// The same from text; `file` names it in errors.
    ///
    /// # Errors
    /// As [`Policy::open`].
    pub fn parse(text: &str, file: String) -> Result<Policy, PolicyError> {
        let policy: Policy = match toml::from_str(text) {
            Ok(policy) => policy,
            Err(source) => {
                let source = Box::new(source);
                return Err(PolicyError::Text { file, source });
            }
        };
        for (i, rule) in policy.rules.iter().enumerate() {
            let reason = match rule {
                Rule { kinds, .. } if kinds.is_empty() => "no kinds",
                Rule { at_least: 0, .. } => "at_least = 0 is met by every read: use the default",
                Rule { within: 0, .. } => "within = 0 holds no base",
                _ => continue,
            };
            let rule = i + 1;
            return Err(PolicyError::Rule { file, rule, reason });
        }
        Ok(policy)
    }

    /// Every kind that a rule counts.
    pub fn kinds(&self) -> impl Iterator<Item = CallKind> + '_ {
        self.rules
            .iter()
            .flat_map(|rule| rule.kinds.iter().copied())
    }
}

/// A decision and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// The rule's number, from 1; `None`: the default.
    pub rule: Option<usize>,
}

#[derive(Default)]
struct Count {
    by_rule: Vec<u32>,
    decided: bool,
}

/// Follows the reads of a run.
pub struct Judge {
    policy: Policy,
    /// Bases that the rules look at.
    reach: u64,
    reads: HashMap<(usize, u16), Count>,
    idle: Vec<Count>,
}

impl Judge {
    /// Nothing seen yet.
    pub fn new(policy: Policy) -> Judge {
        let reach = policy.rules.iter().map(|rule| rule.within).max();
        Judge {
            reach: reach.unwrap_or(0),
            policy,
            reads: HashMap::new(),
            idle: vec![],
        }
    }

    /// Takes the next piece of a read; gives a decision once a read, with the piece that made it
    /// certain.
    pub fn piece(&mut self, piece: &FinishedPiece<'_>) -> Option<Decided> {
        let key = (piece.source, piece.channel);
        let mut count = match self.reads.remove(&key).filter(|_| !piece.first) {
            Some(count) => count,
            None => {
                let mut count = self.idle.pop().unwrap_or_default();
                count.by_rule.clear();
                count.by_rule.resize(self.policy.rules.len(), 0);
                count.decided = false;
                count
            }
        };
        let mut decided = None;
        if !count.decided {
            for (rule, n) in self.policy.rules.iter().zip(&mut count.by_rule) {
                *n += piece.calls.iter().filter(|c| rule.counts(c)).count() as u32;
            }
            let met = self.policy.rules.iter().zip(&count.by_rule);
            let met = met.enumerate().find(|(_, (rule, n))| **n >= rule.at_least);
            decided = match met {
                Some((i, (rule, _))) => Some(Decided {
                    decision: rule.decision,
                    rule: Some(i + 1),
                }),
                None if piece.known_to >= self.reach || piece.end.is_some() => Some(Decided {
                    decision: self.policy.default,
                    rule: None,
                }),
                None => None,
            };
            count.decided = decided.is_some();
        }
        match piece.end {
            Some(_) => self.idle.push(count),
            None => drop(self.reads.insert(key, count)),
        }
        decided
    }
}

/// Sends a decision on the way back of its source.
pub fn reply(to: &dyn Replies, piece: &FinishedPiece<'_>, decided: Decided) {
    let eject = decided.decision == Decision::Eject;
    to.decision(piece.channel, piece.read, eject);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Flags;
    use crate::call::Strand;
    use crate::stream::live::PieceEnd;
    use std::time::Instant;

    const TEXT: &str = "default = \"eject\"\n\
        [[rule]]\nkinds = [\"donor\", \"acceptor\"]\nat_least = 2\nwithin = 1000\nmin_score = 0.5\ndecision = \"keep\"\n\
        [[rule]]\nkinds = [\"promoter\"]\nat_least = 1\nwithin = 300\ndecision = \"keep\"\n";

    fn call(kind: CallKind, start: u64, score: f32) -> Call {
        Call {
            start,
            end: start + 1,
            strand: Strand::Forward,
            kind,
            score,
            flags: Flags::NONE,
            model: 0,
        }
    }

    fn piece<'a>(channel: u16, calls: &'a [Call], known_to: u64, ends: bool) -> FinishedPiece<'a> {
        FinishedPiece {
            source: 0,
            channel,
            read: 1,
            name: b"r",
            first: false,
            calls,
            known_to,
            end: ends.then_some(PieceEnd::Complete),
            received: Instant::now(),
        }
    }

    fn judge() -> Judge {
        Judge::new(Policy::parse(TEXT, "policy".into()).unwrap())
    }

    #[test]
    fn a_rule_is_met_across_pieces_and_decides_once() {
        let mut judge = judge();
        let first = [
            call(CallKind::Donor, 100, 0.9),
            call(CallKind::Donor, 200, 0.4),
        ];
        assert_eq!(judge.piece(&piece(7, &first, 400, false)), None);
        // Another channel's calls do not count.
        assert_eq!(judge.piece(&piece(8, &first, 400, false)), None);
        let second = [call(CallKind::Acceptor, 999, 0.5)];
        let keep = Decided {
            decision: Decision::Keep,
            rule: Some(1),
        };
        assert_eq!(judge.piece(&piece(7, &second, 1000, false)), Some(keep));
        assert_eq!(judge.piece(&piece(7, &second, 2000, false)), None);
        assert_eq!(judge.piece(&piece(7, &[], 3000, true)), None);
    }

    #[test]
    fn the_default_waits_for_the_bases_that_rules_look_at() {
        let mut judge = judge();
        let beyond = [
            call(CallKind::Promoter, 300, 0.9),
            call(CallKind::Donor, 1000, 0.9),
        ];
        assert_eq!(judge.piece(&piece(1, &beyond, 999, false)), None);
        let eject = Decided {
            decision: Decision::Eject,
            rule: None,
        };
        assert_eq!(judge.piece(&piece(1, &[], 1000, false)), Some(eject));
        // A read that ends before them is decided at its end, and the channel's next one anew.
        assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
        assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
    }

    #[test]
    fn what_is_no_policy_is_refused_with_its_place() {
        let error = |text: &str| {
            Policy::parse(text, "p.toml".into())
                .unwrap_err()
                .to_string()
        };
        assert!(error("default = \"maybe\"\nrule = []").starts_with("p.toml: "));
        assert!(error(&TEXT.replace("at_least = 1", "at_least = 0")).contains("rule 2"));
        assert!(error(&TEXT.replace("[\"promoter\"]", "[]")).contains("rule 2: no kinds"));
        assert!(error(&TEXT.replace("within = 300", "withn = 300")).contains("withn"));
    }
}
