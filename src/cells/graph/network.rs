//! Genes whose vectors are alike, and the programs that they make.

use crate::cells::communities::{GraphError, Leiden, WeightedGraph};
use crate::cells::nearest::Vectors;

/// Why there is no network.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is not one name a vector.
    #[error("there are {names} names for {vectors} vectors")]
    Names {
        /// Names.
        names: usize,
        /// Vectors.
        vectors: usize,
    },
    /// The edges make no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// What makes a network of vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetworkOptions {
    /// Neighbours of each gene, by cosine.
    pub neighbours: usize,
    /// The smallest program, in genes.
    pub least_genes: usize,
    /// The cosine that an edge has to exceed.
    pub least_cosine: f32,
    /// How programs are searched for.
    pub leiden: Leiden,
}

impl Default for NetworkOptions {
    /// As scGPT's gene programs: 15 neighbours, a resolution of 40, 5 genes, cosines above .4.
    fn default() -> NetworkOptions {
        NetworkOptions {
            neighbours: 15,
            least_genes: 5,
            least_cosine: 0.4,
            leiden: Leiden {
                resolution: 40.0,
                ..Leiden::default()
            },
        }
    }
}

/// Two genes that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// The gene of the lower index.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// The cosine of their vectors.
    pub cosine: f32,
}

/// A network of genes.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The genes' names.
    pub names: Vec<String>,
    /// The program of each gene, where it is in one. Number 0 has the most genes.
    pub program_of: Vec<Option<u32>>,
    /// The genes of each program, ascending.
    pub programs: Vec<Vec<u32>>,
    /// Edges between neighbours, ascending by their ends.
    pub edges: Vec<Edge>,
}

impl Network {
    /// Makes a network of vectors, one a name. Two genes are neighbours where one is among the
    /// nearest of the other. Communities are those of the graph of all neighbours with a positive
    /// cosine, which is its weight; scanpy, which scGPT uses, weighs them by UMAP's rule, so that a
    /// resolution does not cut at quite the same places.
    ///
    /// # Errors
    /// Where there is not one name a vector.
    pub fn new(
        names: Vec<String>,
        vectors: &Vectors,
        options: &NetworkOptions,
    ) -> Result<Network, NetworkError> {
        if names.len() != vectors.len() {
            return Err(NetworkError::Names {
                names: names.len(),
                vectors: vectors.len(),
            });
        }
        let mut edges = neighbour_edges(vectors, options.neighbours);
        let weighted: Vec<(u32, u32, f64)> = edges
            .iter()
            .map(|edge| (edge.a, edge.b, f64::from(edge.cosine)))
            .collect();
        let graph = WeightedGraph::new(names.len(), &weighted)?;
        let mut programs = options.leiden.communities(&graph).members();
        programs.retain(|members| members.len() >= options.least_genes.max(1));
        let mut program_of = vec![None; names.len()];
        for (program, members) in (0..).zip(&programs) {
            for &gene in members {
                program_of[gene as usize] = Some(program);
            }
        }
        edges.retain(|edge| edge.cosine > options.least_cosine);
        Ok(Network {
            names,
            program_of,
            programs,
            edges,
        })
    }

    /// The program of both ends of an edge, where it is the same one.
    pub fn program(&self, edge: &Edge) -> Option<u32> {
        let own = self.program_of[edge.a as usize];
        own.filter(|_| own == self.program_of[edge.b as usize])
    }
}

/// How many pairs of random vectors have a cosine above `least`: a network of vectors that say
/// nothing has so many edges, where its neighbours are not fewer. The angle θ of two vectors of
/// `width` has a density that goes with sin^(width - 2) θ.
pub fn edges_by_chance(genes: usize, width: usize, least: f32) -> f64 {
    /// Steps of Simpson's rule, an even number.
    const STEPS: usize = 2000;
    let power = width.max(2) as f64 - 2.0;
    let area = |end: f64| {
        let step = end / STEPS as f64;
        let at = |i: usize| {
            let factor = match i {
                0 | STEPS => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            factor * (step * i as f64).sin().max(0.0).powf(power)
        };
        step / 3.0 * (0..=STEPS).map(at).sum::<f64>()
    };
    let least = f64::from(least).clamp(-1.0, 1.0);
    let share = area(least.acos()) / area(std::f64::consts::PI);
    let genes = genes as f64;
    genes * (genes - 1.0).max(0.0) / 2.0 * share
}

/// Edges between neighbours with a positive cosine, each once.
fn neighbour_edges(vectors: &Vectors, neighbours: usize) -> Vec<Edge> {
    let nearest = vectors.nearest_others(neighbours);
    let mut edges: Vec<Edge> = (0_u32..)
        .zip(nearest.iter())
        .flat_map(|(gene, found)| {
            let positive = found.iter().filter(|(_, cosine)| *cosine > 0.0);
            positive.map(move |&(other, cosine)| Edge {
                a: gene.min(other),
                b: gene.max(other),
                cosine,
            })
        })
        .collect();
    // The cosine is the same to the bit whichever end it is computed from.
    edges.sort_unstable_by_key(|edge| (edge.a, edge.b));
    edges.dedup_by_key(|edge| (edge.a, edge.b));
    edges
}
