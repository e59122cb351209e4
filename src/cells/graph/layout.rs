//! Places for nodes, by forces between them (Fruchterman and Reingold 1991).
//!
//! Only IEEE additions, multiplications, divisions and square roots: a picture is the same on every
//! platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Rounds of moving all nodes.
const ROUNDS: usize = 150;
/// The pull to the centre, in shares of the force of an edge.
const GRAVITY: f64 = 0.3;
/// Edges of a node that pull in full. Where there are more, all pull less: dense programs would be
/// a blot.
const EDGES: f64 = 3.0;

/// Places in a square from 0 to 1. Groups start together: `group` is a number for each node.
/// Edges (node, node) have all the same force.
pub(super) fn places(group: &[u32], edges: &[(usize, usize)]) -> Vec<[f64; 2]> {
    let nodes = group.len();
    let mut places = start(group);
    let mut moves = vec![[0.0; 2]; nodes];
    // The distance that two nodes would have if all were spread evenly.
    let even = (1.0 / nodes.max(1) as f64).sqrt();
    let degree = 2.0 * edges.len() as f64 / nodes.max(1) as f64;
    let pull = 1.0 / (even * (degree / EDGES).max(1.0));
    for round in 0..ROUNDS {
        moves.fill([0.0; 2]);
        for a in 0..nodes {
            for b in 0..a {
                let apart = [places[a][0] - places[b][0], places[a][1] - places[b][1]];
                let square = (apart[0] * apart[0] + apart[1] * apart[1]).max(1e-9);
                let force = even * even / square;
                for axis in 0..2 {
                    moves[a][axis] += apart[axis] * force;
                    moves[b][axis] -= apart[axis] * force;
                }
            }
        }
        for &(a, b) in edges {
            let apart = [places[a][0] - places[b][0], places[a][1] - places[b][1]];
            let force = (apart[0] * apart[0] + apart[1] * apart[1]).sqrt() * pull;
            for axis in 0..2 {
                moves[a][axis] -= apart[axis] * force;
                moves[b][axis] += apart[axis] * force;
            }
        }
        let most = 0.1 * (1.0 - round as f64 / ROUNDS as f64);
        for (place, step) in places.iter_mut().zip(&mut moves) {
            for axis in 0..2 {
                step[axis] -= (place[axis] - 0.5) * GRAVITY;
            }
            let length = (step[0] * step[0] + step[1] * step[1]).sqrt();
            let scale = if length > most { most / length } else { 1.0 };
            for axis in 0..2 {
                place[axis] += step[axis] * scale;
            }
        }
    }
    fit(&mut places);
    places
}

/// Groups on a grid, and nodes about the centre of theirs.
fn start(group: &[u32]) -> Vec<[f64; 2]> {
    let groups = group.iter().max().map_or(0, |most| *most as usize + 1);
    let mut side = 1;
    while side * side < groups {
        side += 1;
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut near = |centre: usize| {
        let number = f64::from(random.next_u32()) / 4_294_967_296.0;
        (centre as f64 + number) / side as f64
    };
    group
        .iter()
        .map(|group| [near(*group as usize % side), near(*group as usize / side)])
        .collect()
}

/// Scales both axes alike, so that all places are within the square.
fn fit(places: &mut [[f64; 2]]) {
    let mut low = [f64::INFINITY; 2];
    let mut high = [f64::NEG_INFINITY; 2];
    for place in places.iter() {
        for axis in 0..2 {
            low[axis] = low[axis].min(place[axis]);
            high[axis] = high[axis].max(place[axis]);
        }
    }
    let widest = (high[0] - low[0]).max(high[1] - low[1]).max(1e-9);
    for place in places {
        for axis in 0..2 {
            let centre = (low[axis] + high[axis]) / 2.0;
            place[axis] = (place[axis] - centre) / widest + 0.5;
        }
    }
}
