//! Convolutions and linear layers.

mod code_rows;
mod float;
mod int8;
mod last_step;
mod operator;
pub(crate) mod spec;
