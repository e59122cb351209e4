//! The Leiden algorithm (Traag, Waltman, van Eck 2019) for modularity.
//!
//! Nodes move to the community that gains most, from a queue of those whose surroundings changed.
//! Each community is then refined: its nodes start alone and join others of the same community that
//! they are well connected to. The refined communities are the nodes of the next, smaller graph,
//! which starts with the communities that nodes moved to. Because each community is made of refined
//! ones in the end, none falls apart.
//!
//! As in the package leidenalg, a node joins the refined community that gains most, where the paper
//! draws one at random. The order of nodes is drawn. All arithmetic is that of IEEE additions,
//! multiplications and divisions in a fixed order, and so the result is the same everywhere.

use super::weighted::WeightedGraph;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::VecDeque;

/// What is less than this share of all weights is no gain: rounding must not move nodes for ever.
const LEAST_GAIN: f64 = 1e-14;

/// How communities are searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leiden {
    /// The higher, the smaller the communities; 1 is modularity as first defined, scGPT's gene
    /// programs are made with 40.
    pub resolution: f64,
    /// Searches with other orders of nodes, of which the best is kept; at least 1.
    pub starts: usize,
    /// Whole runs of a search, each from the result of the one before; fewer where nothing is
    /// gained.
    pub most_runs: usize,
    /// For the order of nodes.
    pub seed: u64,
}

impl Default for Leiden {
    fn default() -> Leiden {
        Leiden {
            resolution: 1.0,
            starts: 4,
            most_runs: 10,
            seed: 0,
        }
    }
}

/// A community for each node.
#[derive(Debug, Clone, PartialEq)]
pub struct Communities {
    /// That of each node. Number 0 is the largest; of equal sizes that of the lowest node.
    pub of: Vec<u32>,
    /// How many there are.
    pub count: usize,
    /// Their [`modularity`].
    pub modularity: f64,
}

impl Communities {
    /// The nodes of each community, ascending.
    pub fn members(&self) -> Vec<Vec<u32>> {
        let mut members = vec![vec![]; self.count];
        for (node, community) in (0..).zip(&self.of) {
            members[*community as usize].push(node);
        }
        members
    }
}

/// Modularity with a resolution γ: Σ over communities of (weights within / all weights) −
/// γ (strengths / all strengths)². 0 for a graph without edges. What leidenalg states for
/// `RBConfigurationVertexPartition` is this times all strengths.
///
/// # Panics
/// Where `of` has less than one community a node.
pub fn modularity(graph: &WeightedGraph, of: &[u32], resolution: f64) -> f64 {
    if graph.total == 0.0 {
        return 0.0;
    }
    let count = of.iter().max().map_or(0, |most| *most as usize + 1);
    let (mut within, mut strengths) = (vec![0.0; count], vec![0.0; count]);
    for node in 0..graph.len() {
        let own = of[node] as usize;
        strengths[own] += graph.strengths[node];
        within[own] += graph.own[node];
        for &(neighbour, weight) in graph.neighbours(node as u32) {
            if of[neighbour as usize] as usize == own {
                within[own] += weight;
            }
        }
    }
    let part = |(within, strength): (f64, f64)| {
        let share = strength / graph.total;
        within / graph.total - resolution * share * share
    };
    within.into_iter().zip(strengths).map(part).sum()
}

impl Leiden {
    /// Finds communities. Each is connected; a node without edges is one of its own.
    pub fn communities(&self, graph: &WeightedGraph) -> Communities {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut of, mut best) = self.search(graph, &mut random);
        for _ in 1..self.starts {
            let (other, quality) = self.search(graph, &mut random);
            if quality > best + LEAST_GAIN {
                (of, best) = (other, quality);
            }
        }
        let (of, count) = by_size(&connected(graph, &of));
        Communities {
            modularity: modularity(graph, &of, self.resolution),
            of,
            count,
        }
    }

    /// Communities and their modularity, from nodes that are all alone.
    fn search(&self, graph: &WeightedGraph, random: &mut ChaCha8Rng) -> (Vec<u32>, f64) {
        let mut of: Vec<u32> = (0..graph.len() as u32).collect();
        let mut best = modularity(graph, &of, self.resolution);
        for _ in 0..self.most_runs {
            let next = self.run(graph, of.clone(), random);
            let quality = modularity(graph, &next, self.resolution);
            if quality <= best + LEAST_GAIN {
                break;
            }
            (of, best) = (next, quality);
        }
        (of, best)
    }

    /// One run, from communities below the number of nodes.
    fn run(&self, graph: &WeightedGraph, mut of: Vec<u32>, random: &mut ChaCha8Rng) -> Vec<u32> {
        // The node of the current level that each node of the graph is in.
        let mut places: Vec<u32> = (0..graph.len() as u32).collect();
        let mut above: Option<WeightedGraph> = None;
        loop {
            let level = above.as_ref().unwrap_or(graph);
            let mut pass = Pass::new(level, self.resolution);
            pass.move_nodes(&mut of, random);
            let refined = pass.refine(&of, random);
            let (refined, count) = numbered(&refined);
            let flat = || places.iter().map(|place| of[*place as usize]).collect();
            // Where nothing was merged, the next level would be this one again.
            if count == level.len() {
                return flat();
            }
            let next = aggregate(level, &refined, count);
            let mut upper = vec![0; count];
            for (node, place) in refined.iter().enumerate() {
                upper[*place as usize] = of[node];
            }
            for place in &mut places {
                *place = refined[*place as usize];
            }
            of = numbered(&upper).0;
            above = Some(next);
        }
    }
}

/// One level of a run, and memory for the weights between a node and communities.
struct Pass<'a> {
    graph: &'a WeightedGraph,
    /// Resolution / all strengths.
    factor: f64,
    least_gain: f64,
    weights: Vec<f64>,
    seen: Vec<u32>,
}

impl<'a> Pass<'a> {
    fn new(graph: &'a WeightedGraph, resolution: f64) -> Pass<'a> {
        Pass {
            graph,
            factor: if graph.total > 0.0 {
                resolution / graph.total
            } else {
                0.0
            },
            least_gain: LEAST_GAIN * graph.total,
            weights: vec![0.0; graph.len()],
            seen: vec![],
        }
    }

    /// Adds up the weights from a node to each community of its neighbours; `of` gives one, or
    /// none for a neighbour that does not count. `forget` must follow.
    fn gather(&mut self, node: u32, of: impl Fn(u32) -> Option<u32>) {
        for &(neighbour, weight) in self.graph.neighbours(node) {
            if let Some(community) = of(neighbour) {
                let sum = &mut self.weights[community as usize];
                if *sum == 0.0 {
                    self.seen.push(community);
                }
                *sum += weight;
            }
        }
    }

    fn forget(&mut self) {
        for community in self.seen.drain(..) {
            self.weights[community as usize] = 0.0;
        }
    }

    /// Moves nodes for as long as one gains.
    fn move_nodes(&mut self, of: &mut [u32], random: &mut ChaCha8Rng) {
        let nodes = self.graph.len();
        let (mut strengths, mut sizes) = (vec![0.0; nodes], vec![0_usize; nodes]);
        for (node, own) in of.iter().enumerate() {
            strengths[*own as usize] += self.graph.strengths[node];
            sizes[*own as usize] += 1;
        }
        let mut free: Vec<u32> = (0..nodes as u32)
            .rev()
            .filter(|community| sizes[*community as usize] == 0)
            .collect();
        let mut queue: VecDeque<u32> = shuffled(nodes, random).into();
        let mut queued = vec![true; nodes];
        while let Some(node) = queue.pop_front() {
            let index = node as usize;
            queued[index] = false;
            let own = of[index];
            let strength = self.graph.strengths[index];
            strengths[own as usize] -= strength;
            sizes[own as usize] -= 1;
            self.gather(node, |neighbour| Some(of[neighbour as usize]));
            let gain = |weight: f64, community: u32| {
                weight - self.factor * strength * strengths[community as usize]
            };
            let stay = if sizes[own as usize] == 0 {
                0.0
            } else {
                gain(self.weights[own as usize], own)
            };
            let (mut best, mut most) = (own, stay + self.least_gain);
            for &community in &self.seen {
                let gain = gain(self.weights[community as usize], community);
                if gain > most {
                    (best, most) = (community, gain);
                }
            }
            // A community of its own gains nothing, and costs nothing.
            if sizes[own as usize] > 0
                && most < 0.0
                && let Some(empty) = free.pop()
            {
                best = empty;
            }
            self.forget();
            if sizes[own as usize] == 0 {
                // No remainder of rounding may stay with an empty community.
                strengths[own as usize] = 0.0;
                if best != own {
                    free.push(own);
                }
            }
            strengths[best as usize] += strength;
            sizes[best as usize] += 1;
            if best != own {
                of[index] = best;
                for &(neighbour, _) in self.graph.neighbours(node) {
                    let place = neighbour as usize;
                    if of[place] != best && !queued[place] {
                        queued[place] = true;
                        queue.push_back(neighbour);
                    }
                }
            }
        }
    }

    /// Communities within communities: numbers below that of nodes.
    fn refine(&mut self, of: &[u32], random: &mut ChaCha8Rng) -> Vec<u32> {
        let nodes = self.graph.len();
        let mut refined: Vec<u32> = (0..nodes as u32).collect();
        let mut alone = vec![true; nodes];
        let mut whole = vec![0.0; nodes];
        for (node, own) in of.iter().enumerate() {
            whole[*own as usize] += self.graph.strengths[node];
        }
        // Of each refined community: its strength, and its weights to the rest of the community.
        let mut strengths = self.graph.strengths.clone();
        let mut outward = vec![0.0; nodes];
        for node in 0..nodes as u32 {
            let inside = self.graph.neighbours(node).iter();
            let inside = inside.filter(|(other, _)| of[*other as usize] == of[node as usize]);
            outward[node as usize] = inside.map(|(_, weight)| weight).sum();
        }
        let (factor, least_gain) = (self.factor, self.least_gain);
        for node in shuffled(nodes, random) {
            let index = node as usize;
            let own = of[index];
            let all = whole[own as usize];
            let strength = self.graph.strengths[index];
            let connected = move |outward: f64, strength: f64| {
                outward + least_gain >= factor * strength * (all - strength)
            };
            if !alone[index] || !connected(outward[index], strength) {
                continue;
            }
            self.gather(node, |neighbour| {
                let inside = of[neighbour as usize] == own;
                inside.then(|| refined[neighbour as usize])
            });
            let mut best = None;
            let mut most = 0.0;
            for &community in &self.seen {
                let place = community as usize;
                let weight = self.weights[place];
                let gain = weight - factor * strength * strengths[place];
                let better = gain > most || (gain == most && best.is_none());
                if better && connected(outward[place], strengths[place]) {
                    (best, most) = (Some(community), gain);
                }
            }
            if let Some(community) = best {
                let place = community as usize;
                outward[place] += outward[index] - 2.0 * self.weights[place];
                strengths[place] += strength;
                refined[index] = community;
                alone[place] = false;
                alone[index] = false;
            }
            self.forget();
        }
        refined
    }
}

/// The graph whose nodes are communities, numbered below `count`.
fn aggregate(graph: &WeightedGraph, of: &[u32], count: usize) -> WeightedGraph {
    let mut members = vec![vec![]; count];
    for (node, community) in (0_u32..).zip(of) {
        members[*community as usize].push(node);
    }
    let (mut weights, mut seen) = (vec![0.0; count], vec![]);
    let mut edges = vec![];
    for (community, members) in (0_u32..).zip(&members) {
        let mut own = 0.0;
        for &node in members {
            own += graph.own[node as usize];
            for &(neighbour, weight) in graph.neighbours(node) {
                let other = of[neighbour as usize];
                if other == community {
                    own += weight;
                } else if other > community {
                    if weights[other as usize] == 0.0 {
                        seen.push(other);
                    }
                    weights[other as usize] += weight;
                }
            }
        }
        seen.sort_unstable();
        if own > 0.0 {
            edges.push((community, community, own / 2.0));
        }
        for other in seen.drain(..) {
            edges.push((community, other, weights[other as usize]));
            weights[other as usize] = 0.0;
        }
    }
    WeightedGraph::of_sorted(count, &edges)
}

/// Communities, each of them cut into what is connected. The algorithm leaves nothing to cut but
/// where rounding decides.
fn connected(graph: &WeightedGraph, of: &[u32]) -> Vec<u32> {
    let mut out = vec![u32::MAX; graph.len()];
    let mut open = vec![];
    for first in 0..graph.len() as u32 {
        if out[first as usize] != u32::MAX {
            continue;
        }
        out[first as usize] = first;
        open.push(first);
        while let Some(node) = open.pop() {
            for &(neighbour, _) in graph.neighbours(node) {
                let place = neighbour as usize;
                if out[place] == u32::MAX && of[place] == of[first as usize] {
                    out[place] = first;
                    open.push(neighbour);
                }
            }
        }
    }
    out
}

/// Numbers without gaps, in the order of their first use, and how many there are.
fn numbered(of: &[u32]) -> (Vec<u32>, usize) {
    let mut numbers = vec![u32::MAX; of.iter().max().map_or(0, |most| *most as usize + 1)];
    let mut count = 0;
    let numbered = of.iter().map(|community| {
        let number = &mut numbers[*community as usize];
        if *number == u32::MAX {
            *number = count;
            count += 1;
        }
        *number
    });
    let numbered = numbered.collect();
    (numbered, count as usize)
}

/// Numbers by size, the largest first, and how many there are.
fn by_size(of: &[u32]) -> (Vec<u32>, usize) {
    let (of, count) = numbered(of);
    let mut sizes = vec![0_usize; count];
    of.iter()
        .for_each(|community| sizes[*community as usize] += 1);
    let mut order: Vec<u32> = (0..count as u32).collect();
    // A stable sort: numbers already follow the lowest nodes.
    order.sort_by_key(|community| std::cmp::Reverse(sizes[*community as usize]));
    let mut rank = vec![0; count];
    for (place, community) in (0..).zip(order) {
        rank[community as usize] = place;
    }
    (
        of.iter()
            .map(|community| rank[*community as usize])
            .collect(),
        count,
    )
}

/// All numbers below `count`, shuffled.
fn shuffled(count: usize, random: &mut ChaCha8Rng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    for last in (1..count).rev() {
        // The product of two 64-bit numbers, shifted by 64, is at most `last`.
        let place = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, place as usize);
    }
    order
}
