//! An ONNX network to a packed file: fuse, lower, quantise, pack. The only user of tract-onnx,
//! tract-nnef and tract-transformers.

pub mod check;
mod contain;
mod derive;
pub(crate) mod float;
pub(crate) mod foreign;
mod fuse;
mod lower;
pub mod pack;
mod quantize;
mod reference;

pub use derive::manifest_of;

use crate::model::error::ModelError;
use std::path::{Path, PathBuf};

/// Called after each step of a packing, with what it is at, how many such steps are done, and how
/// many there are.
pub type Watch<'a> = &'a dyn Fn(&'static str, usize, usize);

/// The files beside an ONNX file that hold weights of it.
///
/// # Errors
/// Where the file is no ONNX.
pub fn external_data(onnx: &Path) -> Result<Vec<PathBuf>, ModelError> {
    contain::contained(onnx, "reading the ONNX file", || fuse::external_data(onnx))
}

/// Decodes an ONNX model, checks and rewrites it as [`pack`](pack::pack) does before tract reads
/// it: the part that is ours, for the fuzz target.
///
/// # Errors
/// What a file would be refused for.
#[doc(hidden)]
pub fn rewritten(onnx: &[u8]) -> Result<(), String> {
    fuse::rewritten(onnx)
}
