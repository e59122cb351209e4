//! Letters to the token ids of sequence language models.
//!
//! A model's manifest names its vocabulary. Ids are those of the published tokenisers, and what
//! those cannot read is said with each: here lower case and U are folded before, and every
//! ambiguous letter is N.

mod vocabulary;
mod windows;

pub use vocabulary::Vocabulary;
pub use windows::Windows;
