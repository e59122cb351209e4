//! What sequences mean beyond their calls: the bases that a score depends on, motifs, the effect of
//! variants.

pub mod explain;
pub mod motifs;
pub mod variants;
