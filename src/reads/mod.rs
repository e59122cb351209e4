//! Bytes in, base codes out: where the bytes come from, what their records are, what letters mean.

pub mod bam;
pub mod fastx;
pub mod growing;
pub mod lines;
pub mod nucleotide;
pub mod shard;
pub mod source;
