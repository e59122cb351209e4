//! Which bases a score depends on.
//!
//! [`mutagenesis`] replaces each base by the three others and scores again: for every model. A
//! language model whose output is attention has it shown as it is: [`attention`]. [`draw`] makes a
//! picture of either.

pub mod attention;
pub mod draw;
pub mod mutagenesis;

use crate::call::Strand;

/// Bases of a record with what each is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseMap {
    /// What was looked at; none for attention.
    pub target: Option<Target>,
    /// Position of the first base, 0-based.
    pub first: u64,
    /// Base codes in forward order.
    pub codes: Vec<u8>,
    /// What each base is worth. Of mutagenesis the mean fall of the score when the base is
    /// replaced, so above 0 where the base supports it.
    pub importance: Vec<f32>,
    /// Of mutagenesis: the score with A, C, G and T in the base's place, less the score as it is.
    pub changes: Vec<[f32; 4]>,
}

/// A score of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The name of the model's output.
    pub name: String,
    /// The strand that is scored.
    pub strand: Strand,
    /// Where, 0-based in forward order; of a score of a window, where that begins.
    pub at: u64,
    /// Its value.
    pub score: f32,
}
