//! What a network reads, in a manifest's words.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokeniser {
    /// Codes of the alphabet's letters, one-hot.
    OneHot,
    /// Token ids that the caller makes (task `raw`).
    Ids,
    /// Token ids of DNABERT's 3-mers.
    #[serde(rename = "dnabert-3")]
    Dnabert3,
    /// Of its 4-mers.
    #[serde(rename = "dnabert-4")]
    Dnabert4,
    /// Of its 5-mers.
    #[serde(rename = "dnabert-5")]
    Dnabert5,
    /// Of its 6-mers.
    #[serde(rename = "dnabert-6")]
    Dnabert6,
    /// Token ids of UTR-LM.
    UtrLm,
    /// Genes of a cell: ids of the model's own vocabulary, each with a value, and a flag where the
    /// network reads one.
    Genes,
}

impl Tokeniser {
    /// The name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Tokeniser::OneHot => "one-hot",
            Tokeniser::Ids => "ids",
            Tokeniser::Dnabert3 => "dnabert-3",
            Tokeniser::Dnabert4 => "dnabert-4",
            Tokeniser::Dnabert5 => "dnabert-5",
            Tokeniser::Dnabert6 => "dnabert-6",
            Tokeniser::UtrLm => "utr-lm",
            Tokeniser::Genes => "genes",
        }
    }

    /// True where the network reads token ids, whoever makes them.
    pub fn reads_ids(self) -> bool {
        self != Tokeniser::OneHot
    }

    /// Numbers of a token in the compiler's samples: 1, or for a cell those of
    /// [`genes::join`](super::genes::join).
    pub fn words(self) -> usize {
        match self {
            Tokeniser::Genes => super::genes::WORDS,
            _ => 1,
        }
    }

    /// True where the ids are made of letters here.
    pub fn reads_letters(self) -> bool {
        self.reads_ids() && !matches!(self, Tokeniser::Ids | Tokeniser::Genes)
    }
}

impl fmt::Display for Tokeniser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bases that a model takes at once whose tokens are made of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Fewer have no score.
    pub shortest: usize,
    /// What the model was trained on. More are scored in several windows; for a 5'UTR the last so
    /// many count.
    pub longest: usize,
    /// Bases from one window to the next; 0 for half a window.
    #[serde(default)]
    pub stride: usize,
}

/// What a sequence must look like before it is given to a model that scores it whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Shortest length.
    pub shortest: usize,
    /// Longest; of a longer one the last so many positions are used.
    pub longest: usize,
    /// Padded on the left, with a code for no letter, to a multiple of this.
    pub multiple: usize,
}
