//! `pack`: a float ONNX network becomes a model file of our operators, quantised by what it does on
//! sample input.
//!
//! | step | file |
//! | --- | --- |
//! | an ONNX file from beginning to end | `packed` |
//! | what has been emitted so far | `emitter`, `listing` |
//! | one step of the network, one layer | `step`, `conv`, `rows`, `transformer` |
//! | what values of the float graph become, one form made of another | `form`, `values` |
//! | operators that stay tract's own | `plain`, `nnef` |
//! | what the file holds | `contents` |

mod contents;
mod conv;
mod emitter;
mod form;
mod listing;
mod nnef;
mod packed;
mod plain;
mod rows;
mod step;
mod transformer;
mod values;

pub use packed::{Packed, pack, pack_watched};
