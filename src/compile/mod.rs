//! An ONNX network to a packed file: fuse, lower, quantise, pack. The only user of tract-onnx and
//! tract-nnef.

pub mod float;
pub mod foreign;
pub mod fuse;
pub mod lower;
pub mod pack;
pub mod quantize;
pub mod reference;
