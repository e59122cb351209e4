//! An ONNX network to a packed file: fuse, lower, quantise, pack. The only user of tract-onnx and
//! tract-nnef.

mod contain;
pub(crate) mod float;
pub(crate) mod foreign;
mod fuse;
mod lower;
pub mod pack;
mod quantize;
mod reference;
