#![deny(unsafe_code)]
pub mod call;
pub mod kernels;
pub mod nucleotide;
