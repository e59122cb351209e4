//! Models: the file, its manifest, the graph in tract, packing.

pub mod error;
pub mod file;
#[cfg(feature = "tract")]
pub mod float;
#[cfg(feature = "tract")]
pub mod fuse;
#[cfg(feature = "tract")]
pub mod graph;
#[cfg(feature = "tract")]
mod layers;
#[cfg(feature = "tract")]
mod lower;
pub mod manifest;
pub mod map;
#[cfg(feature = "tract")]
mod ops;
#[cfg(feature = "tract")]
pub mod pack;
#[cfg(feature = "tract")]
pub mod parallel;
#[cfg(feature = "tract")]
mod quantize;
#[cfg(feature = "tract")]
pub mod reference;
#[cfg(feature = "tract")]
mod registry;
#[cfg(feature = "tract")]
pub mod runner;

pub use error::ModelError;
#[cfg(feature = "tract")]
pub use graph::{Model, OperatorRecord};
#[cfg(feature = "tract")]
pub use parallel::Parallel;
#[cfg(feature = "tract")]
pub use runner::{Runner, SecondLook};
