//! Communities of a weighted graph, by the Leiden algorithm.

mod leiden;
#[cfg(test)]
mod tests;
mod weighted;

pub use leiden::{Communities, Leiden, modularity};
pub use weighted::{GraphError, WeightedGraph};
