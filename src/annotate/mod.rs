//! From bases to calls: the part an embedding program uses.
//!
//! An [`Annotator`] holds models and options and is shared; a [`ReadState`] holds one read that may
//! still be growing. What a read's calls are does not depend on how its bases arrive: ranges of
//! positions are scored when their context is there, each range in a window that reaches far enough
//! to both sides that the rest of the read could not change it.

mod annotation;
#[cfg(feature = "tract")]
mod annotator;
#[cfg(feature = "tract")]
pub mod builtin;
pub mod calibrate;
#[cfg(feature = "tract")]
mod carry;
#[cfg(feature = "tract")]
mod choice;
mod clade;
#[cfg(feature = "tract")]
mod error;
#[cfg(feature = "tract")]
mod grid;
#[cfg(feature = "tract")]
mod guess;
#[cfg(feature = "tract")]
mod info;
#[cfg(feature = "tract")]
mod models;
#[cfg(feature = "tract")]
mod options;
#[cfg(feature = "tract")]
mod piece;
#[cfg(feature = "tract")]
mod read;
#[cfg(feature = "tract")]
mod scan;
#[cfg(feature = "tract")]
mod score;
#[cfg(feature = "tract")]
mod starts;
mod task;
mod tokens;
#[cfg(feature = "tract")]
mod whole;
#[cfg(feature = "tract")]
mod windows;

pub use annotation::{Annotate, Annotation, Kept};
#[cfg(feature = "tract")]
pub use annotator::Annotator;
#[cfg(feature = "tract")]
pub use choice::{Choice, Request, clade_of, with_gates};
pub use clade::Clade;
#[cfg(feature = "tract")]
pub use error::AnnotateError;
#[cfg(feature = "tract")]
pub use guess::{CladeGuess, CladeGuesser};
#[cfg(feature = "tract")]
pub use info::ModelInfo;
#[cfg(feature = "tract")]
pub use options::{AROUND_PROMOTERS, Molecule, Options, Priors, Strands, default_tasks};
#[cfg(feature = "tract")]
pub use read::ReadState;
#[cfg(feature = "tract")]
pub use score::{Scorer, WholeScorer};
#[cfg(feature = "tract")]
pub(crate) use task::called;
pub use task::{Task, kind};
pub use tokens::Intake;
#[cfg(feature = "tract")]
pub use windows::WindowScorer;
