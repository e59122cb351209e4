//! What sequences mean beyond their calls: the bases that a score depends on, motifs, what an
//! annotation says of calls, the effect of variants.

pub mod explain;
pub mod gene_calls;
pub mod motifs;
pub mod variants;
