//! A packed file to a network that runs: the file, its manifest, its layers, and their graph in
//! tract.

pub mod error;
pub mod file;
#[cfg(feature = "tract")]
pub mod foreign;
#[cfg(feature = "tract")]
pub mod graph;
#[cfg(feature = "tract")]
pub mod layers;
pub mod manifest;
pub mod map;
#[cfg(feature = "tract")]
pub mod ops;
#[cfg(feature = "tract")]
pub mod parallel;
#[cfg(feature = "tract")]
pub mod runner;

pub use error::ModelError;
#[cfg(feature = "tract")]
pub use graph::{Model, OperatorRecord};
#[cfg(feature = "tract")]
pub use parallel::Parallel;
#[cfg(feature = "tract")]
pub use runner::{Runner, SecondLook};

/// The last step of outputs that are logits, as the kernels define it.
pub use crate::kernels::math::sigmoid;
