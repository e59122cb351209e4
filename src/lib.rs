//! strandline
#![deny(unsafe_code)]
#[cfg(feature = "tract")]
pub mod annotate;
#[cfg(feature = "tract")]
pub mod builtin;
pub mod calibrate;
pub mod call;
#[cfg(feature = "tract")]
#[doc(hidden)]
pub mod cli;
pub mod evaluate;
pub mod fastx;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod nucleotide;
pub mod pipeline;
pub mod simulate;
pub mod sink;
pub mod source;
pub mod truth;
#[cfg(feature = "tract")]
pub mod verify;

#[cfg(feature = "tract")]
pub use annotate::{Annotator, Options, ReadState};
#[cfg(feature = "tract")]
pub use model::Model;
