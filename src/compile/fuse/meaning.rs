//! What the inputs of a graph mean.

use super::dim::Dim;

/// What a graph input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Bases, one-hot: f32 `[1, 4, T]`.
    OneHot,
    /// Token ids `[1, T]`.
    Ids,
    /// One number a token, f32 `[1, T]`: the values of a cell's genes.
    Values,
    /// One flag a token, `[1, T]`: of genes, whether one is perturbed.
    Flags,
    /// Which tokens are real, `[1, T]`. Not needed for a sequence without padding.
    Mask,
    /// Token types `[1, T]`; taken for zeros, which is what a single sequence has.
    Types,
    /// Indices of positions `[1, T]`; taken for 0, 1, 2 and so on.
    Positions,
}

impl Meaning {
    /// What differs from sequence to sequence, and is more than its length.
    pub const CONTENT: [Meaning; 4] = [
        Meaning::OneHot,
        Meaning::Ids,
        Meaning::Values,
        Meaning::Flags,
    ];

    /// The shape of an input of `rows` positions.
    pub fn shape(self, rows: Dim) -> Vec<Dim> {
        match self {
            Meaning::OneHot => vec![Dim::ONE, Dim::new(4), rows],
            _ => vec![Dim::ONE, rows],
        }
    }

    /// The same of a known length.
    pub fn shape_of(self, length: usize) -> Vec<usize> {
        match self {
            Meaning::OneHot => vec![1, 4, length],
            _ => vec![1, length],
        }
    }
}

/// A graph input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its meaning.
    pub meaning: Meaning,
    /// True where the file has it as `[1, T, 4]`; here it is `[1, 4, T]` all the same.
    pub transposed: bool,
    /// Its length, where the file fixes it.
    pub length: Option<usize>,
}
