//! What a variant changes: scores of both alleles side by side.
//!
//! For each alternative allele the sequence around it is scored twice, with the reference's letters
//! and with its own, both with all the context that the models see. The rows of both are aligned by
//! position, and the greatest gain and loss within a distance of the change is what is told, as
//! SpliceAI does (Jaganathan et al. 2019).
//!
//! [`mod@reference`] gives the letters, [`allele`] the change as all spellings of it have it,
//! [`genes`] strands and exons, [`effect`] the scores, [`vcf`] the lines, and [`scored`] brings a
//! record through all of them.

pub mod allele;
pub mod effect;
mod error;
pub mod genes;
pub mod reference;
pub mod scored;
pub mod vcf;

pub use error::StudyError;
