//! A picture of a network. One SVG that needs nothing beside it, and reads on light and on dark.

use super::layout::places;
use super::network::Network;
use super::write::write_escaped;
use std::io::{self, Write};

/// Genes that are drawn at most: the layout compares each with each.
const MOST_GENES: usize = 1000;
/// Names that are drawn at most.
const MOST_NAMES: usize = 200;
/// Units a letter is wide, a wide one.
const LETTER: f64 = 7.0;
/// Units from one line of names to the next.
const LINE: f64 = 10.0;
/// Units a side of the square of genes is long.
const SIDE: f64 = 1000.0;
/// Units around it.
const MARGIN: f64 = 60.0;
/// Units above it, for the title.
const TOP: f64 = 40.0;

/// Colours of programs, by turns; of middle lightness, to stand out from white and from black.
const FILLS: [&str; 10] = [
    "#4477aa", "#cc6677", "#228833", "#b8860b", "#8868b8", "#1f9e9e", "#d2691e", "#7a8b2c",
    "#b0528f", "#6b7f99",
];

/// Draws a network: the largest programs whole, up to 1,000 genes, the edges among them, and up to
/// 200 names: of the genes with the most edges first, and none across another. Genes without a
/// program are not drawn.
///
/// # Errors
/// The writer's.
pub fn svg(network: &Network, out: &mut impl Write) -> io::Result<()> {
    let drawn = drawn(network);
    let mut place_of = vec![None; network.names.len()];
    for (place, &(gene, _)) in drawn.iter().enumerate() {
        place_of[gene as usize] = Some(place);
    }
    let within = network.edges.iter().filter_map(|edge| {
        let ends = place_of[edge.a as usize].zip(place_of[edge.b as usize])?;
        Some((ends, network.program(edge)))
    });
    let within: Vec<((usize, usize), Option<u32>)> = within.collect();
    let ends: Vec<(usize, usize)> = within.iter().map(|edge| edge.0).collect();
    let groups: Vec<u32> = drawn.iter().map(|gene| gene.1).collect();
    let places: Vec<[f64; 2]> = places(&groups, &ends)
        .into_iter()
        .map(|[x, y]| [MARGIN + x * SIDE, TOP + MARGIN + y * SIDE])
        .collect();

    head(network, drawn.len(), out)?;
    for ((a, b), program) in within {
        let ([x, y], [u, v]) = (places[a], places[b]);
        write!(out, "<path d=\"M{x:.1} {y:.1}L{u:.1} {v:.1}\"")?;
        if let Some(program) = program {
            write!(out, " stroke=\"{}\"", fill(program))?;
        }
        out.write_all(b"/>\n")?;
    }
    out.write_all(b"</g>\n")?;
    let mut degrees = vec![0_usize; drawn.len()];
    for (a, b) in ends {
        degrees[a] += 1;
        degrees[b] += 1;
    }
    for (&(gene, program), [x, y]) in drawn.iter().zip(&places) {
        let fill = fill(program);
        write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\"><title>"
        )?;
        write_escaped(&network.names[gene as usize], out)?;
        writeln!(out, ", program {program}</title></circle>")?;
    }
    let names: Vec<&str> = drawn
        .iter()
        .map(|(gene, _)| &*network.names[*gene as usize])
        .collect();
    for place in named(&names, &degrees, &places) {
        let [x, y] = places[place];
        write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">", x + 5.0, y + 3.0)?;
        write_escaped(names[place], out)?;
        out.write_all(b"</text>\n")?;
    }
    out.write_all(b"</svg>\n")
}

/// The genes whose names are drawn.
fn named(names: &[&str], degrees: &[usize], places: &[[f64; 2]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(degrees[*place]));
    let mut chosen: Vec<usize> = vec![];
    for place in order {
        let wide = |place: usize| LETTER * names[place].chars().count() as f64;
        let free = chosen.iter().all(|&other| {
            let [x, y] = [0, 1].map(|axis| places[place][axis] - places[other][axis]);
            y.abs() >= LINE || x >= wide(other) || -x >= wide(place)
        });
        if free {
            chosen.push(place);
        }
        if chosen.len() == MOST_NAMES {
            break;
        }
    }
    chosen
}

/// The genes of the largest programs, each with its program.
fn drawn(network: &Network) -> Vec<(u32, u32)> {
    let mut drawn = vec![];
    for (program, members) in (0..).zip(&network.programs) {
        if drawn.len() + members.len() > MOST_GENES && !drawn.is_empty() {
            break;
        }
        let room = MOST_GENES - drawn.len();
        drawn.extend(members.iter().take(room).map(|gene| (*gene, program)));
    }
    drawn
}

fn head(network: &Network, drawn: usize, out: &mut impl Write) -> io::Result<()> {
    let width = SIDE + 2.0 * MARGIN;
    let height = width + TOP;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"10\">"
    )?;
    // By the reader's own choice of colours.
    out.write_all(
        b"<style>\n\
          .ground{fill:#ffffff}\n\
          text{fill:#1a1a1a}\n\
          @media (prefers-color-scheme:dark){\n\
          .ground{fill:#16181c}\n\
          text{fill:#e8e8e8}\n\
          }\n\
          </style>\n\
          <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n",
    )?;
    writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{drawn} of {} genes, {} programs</text>",
        network.names.len(),
        network.programs.len()
    )?;
    out.write_all(b"<g fill=\"none\" stroke=\"#808080\" stroke-opacity=\"0.45\">\n")
}

fn fill(program: u32) -> &'static str {
    FILLS[program as usize % FILLS.len()]
}
