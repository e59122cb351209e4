//! Genes as a graph: neighbours by cosine, programs, and files of them.

mod draw;
mod layout;
mod network;
#[cfg(test)]
mod tests;
mod write;

pub use draw::svg;
pub use network::{Edge, Network, NetworkError, NetworkOptions, edges_by_chance};
pub use write::{write_edges, write_graphml, write_programs};
