//! The rules held against the reads of a run.

use super::policy::{Decision, Policy};
use crate::stream::live::output::FinishedPiece;
use std::collections::HashMap;

/// A decision and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// The rule's number, from 1; `None`: the default, or that for overload.
    pub rule: Option<usize>,
    /// The read was shed before a rule was met.
    pub overload: bool,
}

#[derive(Default)]
struct Count {
    by_rule: Vec<u32>,
    decided: bool,
}

/// Follows the reads of a run.
pub(super) struct Judge {
    policy: Policy,
    /// Bases that the rules look at.
    reach: u64,
    /// By source and read: the next read of a channel may come before the last one is over.
    reads: HashMap<(usize, u64), Count>,
    idle: Vec<Count>,
}

impl Judge {
    /// Nothing seen yet.
    pub(super) fn new(policy: Policy) -> Judge {
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
    pub(super) fn piece(&mut self, piece: &FinishedPiece<'_>) -> Option<Decided> {
        let key = (piece.source, piece.id);
        let mut count = match self.reads.remove(&key) {
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
                    overload: false,
                }),
                None if piece.shed => Some(Decided {
                    decision: self.policy.on_overload,
                    rule: None,
                    overload: true,
                }),
                None if piece.known_to >= self.reach || piece.end.is_some() => Some(Decided {
                    decision: self.policy.default,
                    rule: None,
                    overload: false,
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
