use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Zachary's karate club (1977), nodes from 0.
const KARATE: &str = "0-1 0-2 0-3 0-4 0-5 0-6 0-7 0-8 0-10 0-11 0-12 0-13 0-17 0-19 0-21 0-31 1-2 \
    1-3 1-7 1-13 1-17 1-19 1-21 1-30 2-3 2-7 2-8 2-9 2-13 2-27 2-28 2-32 3-7 3-12 3-13 4-6 4-10 \
    5-6 5-10 5-16 6-16 8-30 8-32 8-33 9-33 13-33 14-32 14-33 15-32 15-33 18-32 18-33 19-33 20-32 \
    20-33 22-32 22-33 23-25 23-27 23-29 23-32 23-33 24-25 24-27 24-31 25-31 26-29 26-33 27-33 \
    28-31 28-33 29-32 29-33 30-32 30-33 31-32 31-33 32-33";

fn karate() -> WeightedGraph {
    let edges = KARATE.split_whitespace().map(|edge| {
        let (a, b) = edge.split_once('-').unwrap();
        (a.parse().unwrap(), b.parse().unwrap(), 1.0)
    });
    WeightedGraph::new(34, &edges.collect::<Vec<_>>()).unwrap()
}

/// Numbers below `most`.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |most| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        (state >> 33) % most
    }
}

/// `groups` of `size` nodes: of 1,000 edges that could be, `within` and `between` are there.
fn planted(groups: u32, size: u32, within: u64, between: u64, seed: u64) -> WeightedGraph {
    let (nodes, mut below) = (groups * size, numbers(seed));
    let mut edges = vec![];
    for a in 0..nodes {
        for b in a + 1..nodes {
            let odds = if a % groups == b % groups {
                within
            } else {
                between
            };
            if below(1000) < odds {
                edges.push((a, b, 1.0 + below(3) as f64));
            }
        }
    }
    WeightedGraph::new(nodes as usize, &edges).unwrap()
}

fn is_connected(graph: &WeightedGraph, members: &[u32]) -> bool {
    let members: BTreeSet<u32> = members.iter().copied().collect();
    let mut open: Vec<u32> = members.first().copied().into_iter().collect();
    let mut reached: BTreeSet<u32> = open.iter().copied().collect();
    while let Some(node) = open.pop() {
        for &(neighbour, _) in graph.neighbours(node) {
            if members.contains(&neighbour) && reached.insert(neighbour) {
                open.push(neighbour);
            }
        }
    }
    reached == members
}

#[test]
fn the_karate_club_has_its_known_communities() {
    // The greatest modularity there is, .4198 (Brandes et al. 2008), with four communities.
    let graph = karate();
    for seed in 0..20 {
        let leiden = Leiden {
            seed,
            ..Leiden::default()
        };
        let found = leiden.communities(&graph);
        assert_eq!(found.count, 4, "seed {seed}");
        assert!(
            (found.modularity - 0.419_789_6).abs() < 1e-6,
            "{}",
            found.modularity
        );
        let sizes: Vec<usize> = found.members().iter().map(Vec::len).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn modularity_is_that_of_leidenalg() {
    // leidenalg 0.10.2, RBConfigurationVertexPartition(membership=[i % 3]).quality() / 156 at
    // resolutions 1 and .5.
    let of: Vec<u32> = (0..34).map(|node| node % 3).collect();
    let found = [1.0, 0.5].map(|resolution| modularity(&karate(), &of, resolution));
    assert!(
        (found[0] - -0.009_615_384_615_384_6).abs() < 1e-12,
        "{found:?}"
    );
    assert!(
        (found[1] - 0.161_858_974_358_974_4).abs() < 1e-12,
        "{found:?}"
    );
    let empty = WeightedGraph::new(3, &[]).unwrap();
    assert_eq!(modularity(&empty, &[0, 1, 2], 1.0), 0.0);
}

#[test]
fn planted_communities_are_found() {
    let graph = planted(20, 30, 400, 10, 5);
    let found = Leiden::default().communities(&graph);
    assert_eq!(found.count, 20);
    for (node, community) in (0_u32..).zip(&found.of) {
        assert_eq!(*community, found.of[node as usize % 20]);
    }
    assert_eq!(
        found.of[..20],
        (0..20).collect::<Vec<u32>>(),
        "by the lowest node"
    );
    // A high resolution cuts them, a low one joins them.
    let count = |resolution| {
        let leiden = Leiden {
            resolution,
            ..Leiden::default()
        };
        leiden.communities(&graph).count
    };
    assert!(count(40.0) > 20);
    assert_eq!(count(0.0), 1);
}

#[test]
fn nodes_without_edges_stay_alone() {
    let graph = WeightedGraph::new(5, &[(3, 1, 2.0), (2, 4, 0.0), (0, 0, 1.0)]).unwrap();
    let found = Leiden::default().communities(&graph);
    assert_eq!(found.of, [1, 0, 2, 0, 3]);
    assert_eq!(found.members(), [vec![1, 3], vec![0], vec![2], vec![4]]);
    let none = WeightedGraph::new(0, &[]).unwrap();
    assert_eq!(Leiden::default().communities(&none).count, 0);
}

#[test]
fn a_bad_edge_is_named() {
    let said = |edge| {
        WeightedGraph::new(2, &[(0, 1, 1.0), edge])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(said((0, 2, 1.0)), "edge 1 ends at node 2 of 2");
    assert_eq!(said((0, 1, -1.0)), "edge 1 has the weight -1");
    assert_eq!(said((0, 1, f64::NAN)), "edge 1 has the weight NaN");
}

/// Elsewhere an emulated processor runs them.
const CASES: u32 = if cfg!(target_arch = "x86_64") {
    256
} else {
    20
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn communities_are_connected_whatever_the_graph(
        edges in proptest::collection::vec((0_u32..40, 0_u32..40, 0.0_f64..3.0), 0..200),
        resolution in 0.0_f64..6.0,
        seed in any::<u64>(),
    ) {
        let graph = WeightedGraph::new(40, &edges).unwrap();
        let leiden = Leiden { resolution, seed, ..Leiden::default() };
        let found = leiden.communities(&graph);
        for members in found.members() {
            prop_assert!(!members.is_empty());
            prop_assert!(is_connected(&graph, &members));
        }
        let alone: Vec<u32> = (0..40).collect();
        prop_assert!(found.modularity >= modularity(&graph, &alone, resolution) - 1e-12);
        // No node gains by moving to another community.
        for node in 0..40 {
            let mut moved = found.of.clone();
            for community in 0..=found.count as u32 {
                moved[node] = community;
                let quality = modularity(&graph, &moved, resolution);
                prop_assert!(quality <= found.modularity + 1e-9);
            }
        }
        // The order of edges and their directions are nothing.
        let reversed: Vec<_> = edges.iter().rev().map(|&(a, b, w)| (b, a, w)).collect();
        let again = WeightedGraph::new(40, &reversed).unwrap();
        prop_assert_eq!(&leiden.communities(&again), &found);
    }
}
