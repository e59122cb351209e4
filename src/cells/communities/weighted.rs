//! A weighted graph without directions.

/// Why edges make no graph.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An edge ends at no node.
    #[error("edge {edge} ends at node {node} of {nodes}")]
    Node {
        /// The edge, from 0.
        edge: usize,
        /// Where it ends.
        node: u32,
        /// Nodes there are.
        nodes: usize,
    },
    /// An edge has no weight that is finite and at least 0.
    #[error("edge {edge} has the weight {weight}")]
    Weight {
        /// The edge, from 0.
        edge: usize,
        /// Its weight.
        weight: f64,
    },
}

/// A graph without directions. Each edge is kept at both of its ends.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedGraph {
    /// Where the neighbours of each node start, and where the last ones end.
    pub(super) starts: Vec<usize>,
    pub(super) neighbours: Vec<(u32, f64)>,
    /// Twice the weight of each node's edge to itself.
    pub(super) own: Vec<f64>,
    /// The weights of each node's edges, added up; an edge to itself counts twice.
    pub(super) strengths: Vec<f64>,
    /// All strengths, added up.
    pub(super) total: f64,
}

impl WeightedGraph {
    /// A graph of `nodes` nodes and edges (node, node, weight), in any order; the weights of edges
    /// between the same two nodes are added up. Edges of weight 0 are none.
    ///
    /// # Errors
    /// Where an edge ends at no node, or its weight is negative or not finite.
    pub fn new(nodes: usize, edges: &[(u32, u32, f64)]) -> Result<WeightedGraph, GraphError> {
        for (edge, &(a, b, weight)) in edges.iter().enumerate() {
            if let Some(node) = [a, b].into_iter().find(|node| *node as usize >= nodes) {
                return Err(GraphError::Node { edge, node, nodes });
            }
            if !weight.is_finite() || weight < 0.0 {
                return Err(GraphError::Weight { edge, weight });
            }
        }
        // The order of the edges must not show in a sum.
        let mut sorted: Vec<(u32, u32, f64)> = edges
            .iter()
            .filter(|edge| edge.2 > 0.0)
            .map(|&(a, b, weight)| (a.min(b), a.max(b), weight))
            .collect();
        sorted.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
        sorted.dedup_by(|edge, kept| {
            let same = (edge.0, edge.1) == (kept.0, kept.1);
            if same {
                kept.2 += edge.2;
            }
            same
        });
        Ok(WeightedGraph::of_sorted(nodes, &sorted))
    }

    /// A graph of edges that are ascending and different, from the lower node to the higher.
    pub(super) fn of_sorted(nodes: usize, edges: &[(u32, u32, f64)]) -> WeightedGraph {
        let mut own = vec![0.0; nodes];
        let mut starts = vec![0; nodes + 1];
        for &(a, b, weight) in edges {
            if a == b {
                own[a as usize] = 2.0 * weight;
            } else {
                starts[a as usize + 1] += 1;
                starts[b as usize + 1] += 1;
            }
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut neighbours = vec![(0, 0.0); starts[nodes]];
        for &(a, b, weight) in edges.iter().filter(|edge| edge.0 != edge.1) {
            for (from, to) in [(a, b), (b, a)] {
                neighbours[next[from as usize]] = (to, weight);
                next[from as usize] += 1;
            }
        }
        let mut graph = WeightedGraph {
            starts,
            neighbours,
            strengths: own.clone(),
            own,
            total: 0.0,
        };
        for node in 0..nodes {
            let weights = graph
                .neighbours(node as u32)
                .iter()
                .map(|(_, weight)| weight);
            graph.strengths[node] += weights.sum::<f64>();
        }
        graph.total = graph.strengths.iter().sum();
        graph
    }

    /// Nodes there are.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The neighbours of a node and the weights of the edges to them, each once; not itself.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn neighbours(&self, node: u32) -> &[(u32, f64)] {
        &self.neighbours[self.starts[node as usize]..self.starts[node as usize + 1]]
    }
}
