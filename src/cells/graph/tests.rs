use super::*;
use crate::cells::communities::Leiden;
use crate::cells::nearest::Vectors;

/// Three groups of genes about three axes, and one gene apart from all.
fn vectors() -> (Vec<String>, Vectors) {
    let (mut names, mut values) = (vec![], vec![]);
    for gene in 0..24_u32 {
        let mut vector = [0.1 * (gene % 5) as f32, 0.05 * (gene % 7) as f32, 0.02, 0.0];
        vector[gene as usize % 3] += 1.0;
        names.push(format!("G{gene}"));
        values.extend(vector);
    }
    names.push("a<b>&\t".to_string());
    values.extend([0.0, 0.0, 0.0, -1.0]);
    (names, Vectors::new(&values, 4).unwrap())
}

fn network() -> Network {
    let (names, vectors) = vectors();
    let options = NetworkOptions {
        neighbours: 7,
        leiden: Leiden::default(),
        ..NetworkOptions::default()
    };
    Network::new(names, &vectors, &options).unwrap()
}

fn written(write: impl Fn(&Network, &mut Vec<u8>) -> std::io::Result<()>, of: &Network) -> String {
    let mut bytes = vec![];
    write(of, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn programs_are_the_groups() {
    let network = network();
    assert_eq!(network.programs.len(), 3);
    for (program, members) in network.programs.iter().enumerate() {
        let group: Vec<u32> = (0..24)
            .filter(|gene| *gene as usize % 3 == program)
            .collect();
        assert_eq!(*members, group);
    }
    assert_eq!(network.program_of[24], None);
    let (_, vectors) = vectors();
    for edge in &network.edges {
        assert!(edge.a < edge.b && edge.cosine > 0.4);
        assert_eq!(
            edge.cosine,
            vectors.cosine(edge.a as usize, edge.b as usize)
        );
    }
    assert!(network.edges.is_sorted_by(|x, y| (x.a, x.b) < (y.a, y.b)));
}

#[test]
fn small_programs_and_weak_edges_are_left_out() {
    let (names, vectors) = vectors();
    let options = NetworkOptions {
        neighbours: 7,
        least_genes: 9,
        least_cosine: 1.0,
        leiden: Leiden::default(),
    };
    let network = Network::new(names, &vectors, &options).unwrap();
    assert!(network.programs.is_empty() && network.edges.is_empty());
    let error = Network::new(vec![], &vectors, &options).unwrap_err();
    assert_eq!(error.to_string(), "there are 0 names for 25 vectors");
}

/// Two genes of a program, a third beside them.
fn small() -> Network {
    let edge = |a, b, cosine| Edge { a, b, cosine };
    Network {
        names: ["A", "a<b>&\t", "C", "D"].map(str::to_string).to_vec(),
        program_of: vec![Some(0), Some(0), None, None],
        programs: vec![vec![0, 1]],
        edges: vec![edge(0, 1, 0.75), edge(1, 2, 0.5)],
    }
}

#[test]
fn tables_have_a_line_an_edge_and_a_line_a_gene() {
    assert_eq!(
        written(write_edges, &small()),
        "gene_a\tgene_b\tcosine\tprogram\nA\ta<b>&\u{fffd}\t0.7500\t0\n\
         a<b>&\u{fffd}\tC\t0.5000\t.\n"
    );
    assert_eq!(
        written(write_programs, &small()),
        "program\tgene\n0\tA\n0\ta<b>&\u{fffd}\n"
    );
}

#[test]
fn graphml_has_nodes_and_edges() {
    let text = written(write_graphml, &small());
    let (_, body) = text.split_once("undirected\">\n").unwrap();
    assert_eq!(
        body,
        "<node id=\"g0\"><data key=\"name\">A</data><data key=\"program\">0</data></node>\n\
         <node id=\"g1\"><data key=\"name\">a&lt;b&gt;&amp;\u{fffd}</data>\
         <data key=\"program\">0</data></node>\n\
         <node id=\"g2\"><data key=\"name\">C</data></node>\n\
         <edge source=\"g0\" target=\"g1\"><data key=\"cosine\">0.7500</data></edge>\n\
         <edge source=\"g1\" target=\"g2\"><data key=\"cosine\">0.5000</data></edge>\n\
         </graph>\n</graphml>\n"
    );
}

#[test]
fn a_picture_has_genes_of_programs_alone() {
    let text = written(svg, &small());
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    assert!(text.contains(">2 of 4 genes, 1 programs</text>"));
    assert_eq!(text.matches("<circle").count(), 2);
    assert_eq!(text.matches("<path").count(), 1);
    assert!(text.contains("<title>a&lt;b&gt;&amp;\u{fffd}, program 0</title>"));
    assert!(!text.contains("NaN") && !text.contains("inf"));
    assert_eq!(written(svg, &network()), written(svg, &network()));
    let none = Network {
        program_of: vec![None; 4],
        programs: vec![],
        ..small()
    };
    assert_eq!(written(svg, &none).matches("<circle").count(), 0);
}

#[test]
fn a_large_network_is_drawn_in_part() {
    let program = |first: u32, count: u32| (first..first + count).collect::<Vec<_>>();
    let mut network = Network {
        names: (0..1600).map(|gene| format!("G{gene}")).collect(),
        program_of: (0..1600).map(|gene| Some(u32::from(gene >= 700))).collect(),
        programs: vec![program(0, 700), program(700, 900)],
        edges: vec![],
    };
    let circles = |network: &Network| drawn_genes(&written(svg, network));
    let (genes, names) = circles(&network);
    assert_eq!(genes, 700, "the second does not fit");
    assert!((50..=200).contains(&names), "{names}");
    network.programs = vec![program(0, 1600)];
    network.program_of = vec![Some(0); 1600];
    assert_eq!(circles(&network).0, 1000);
}

/// Circles and names, without the title.
fn drawn_genes(text: &str) -> (usize, usize) {
    (
        text.matches("<circle").count(),
        text.matches("<text").count() - 1,
    )
}

/// In three dimensions cosines are uniform; in two, angles are; in 64, the published table of
/// Student's t with 63 degrees of freedom: cos .4 is t = .4 √63 / √(1 - .16) = 3.4641.
#[test]
fn chance_has_its_edges_too() {
    let share = |width, least| edges_by_chance(1001, width, least) / 500_500.0;
    assert!((share(3, 0.4) - 0.3).abs() < 1e-6);
    assert!((share(3, -1.0) - 1.0).abs() < 1e-6);
    assert!((share(2, 0.5) - 1.0 / 3.0).abs() < 1e-6);
    let few = share(64, 0.4);
    assert!((few / 4.8116e-4 - 1.0).abs() < 1e-3, "{few}");
    assert!((edges_by_chance(10, 3, 0.0) - 22.5).abs() < 1e-6);
    assert_eq!(edges_by_chance(0, 3, 0.0), 0.0);
}
