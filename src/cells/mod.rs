//! Single cells: expression profiles to types, embeddings, responses and gene networks.
//!
//! ```text
//! input --> prepare (genes: columns to ids) --> model --> types, vectors, responses
//!                                                           \--> nearest, integration
//!                                       model --> communities --> graph
//! ```
//!
//! [`input`] gives cells in blocks, as they stand in a file. [`genes`] says which of its columns a
//! model knows, and [`prepare`] makes a list of genes with values of each cell, as [`tokens`] of a
//! model want it. [`run`] puts these through a packed network, a [`model`]. A cell's result depends
//! on that cell alone: not on its neighbours, on the order of genes or cells, on blocks or threads.
//! [`h5ad`] adds answers to a copy of the file that they are of.

pub mod communities;
pub mod error;
pub mod genes;
pub mod graph;
pub mod h5ad;
pub mod input;
pub mod integration;
pub mod model;
pub mod nearest;
pub mod npy;
pub mod prepare;
pub mod response;
pub mod run;
pub mod samples;
pub mod tokens;
