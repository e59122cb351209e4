//! A packed file to a network that runs: the file, its manifest, its layers, and their graph in
//! tract.

#[cfg(feature = "tract")]
mod build;
#[cfg(feature = "tract")]
pub(crate) mod carried;
#[cfg(feature = "tract")]
mod cell_input;
pub mod error;
pub mod file;
#[cfg(feature = "tract")]
pub(crate) mod foreign;
pub mod genes;
#[cfg(feature = "tract")]
mod graph;
#[cfg(feature = "tract")]
mod inspect;
#[cfg(feature = "tract")]
pub(crate) mod layers;
pub mod manifest;
pub mod map;
#[cfg(feature = "tract")]
pub(crate) mod ops;
#[cfg(feature = "tract")]
mod parallel;
#[cfg(feature = "tract")]
mod runner;
#[cfg(feature = "tract")]
mod second;
mod tier;
mod tokeniser;
#[cfg(feature = "tract")]
mod turn;
#[cfg(feature = "tract")]
mod vectors;

#[cfg(feature = "tract")]
pub use carried::LookCost;
pub use error::ModelError;
#[cfg(feature = "tract")]
pub use graph::Model;
#[cfg(feature = "tract")]
pub use inspect::OperatorRecord;
#[cfg(feature = "tract")]
pub(crate) use ops::context::Context;
#[cfg(feature = "tract")]
pub use parallel::Parallel;
#[cfg(feature = "tract")]
pub use runner::Runner;
#[cfg(feature = "tract")]
pub use second::SecondLook;
#[cfg(feature = "tract")]
pub use vectors::TokenVectors;

/// The last step of outputs that are logits, as the kernels define it.
pub use crate::kernels::math::sigmoid;
