//! The rules, and the file that they stand in.

use crate::call::{Call, CallKind};
use serde::Deserialize;
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
    pub(super) fn counts(&self, call: &Call) -> bool {
        call.end <= self.within && call.score >= self.min_score && self.kinds.contains(&call.kind)
    }
}

/// The rules of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For reads that met no rule.
    pub default: Decision,
    /// For reads that were shed under overload before a rule was met.
    #[serde(default = "keep", rename = "on-overload")]
    pub on_overload: Decision,
    /// In order of precedence among those met by the same piece.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// A read that was not looked at is not to be lost.
fn keep() -> Decision {
    Decision::Keep
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
