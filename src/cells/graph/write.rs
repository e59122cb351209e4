//! A network as GraphML and as tables.

use super::network::Network;
use std::io::{self, Write};

/// Writes GraphML: genes with `name` and `program`, edges with `cosine`. Genes without an edge and
/// without a program are left out.
///
/// # Errors
/// The writer's.
pub fn write_graphml(network: &Network, out: &mut impl Write) -> io::Result<()> {
    out.write_all(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
          <graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n\
          <key id=\"name\" for=\"node\" attr.name=\"name\" attr.type=\"string\"/>\n\
          <key id=\"program\" for=\"node\" attr.name=\"program\" attr.type=\"int\"/>\n\
          <key id=\"cosine\" for=\"edge\" attr.name=\"cosine\" attr.type=\"double\"/>\n\
          <graph edgedefault=\"undirected\">\n",
    )?;
    let mut used: Vec<bool> = network.program_of.iter().map(Option::is_some).collect();
    for edge in &network.edges {
        used[edge.a as usize] = true;
        used[edge.b as usize] = true;
    }
    for (gene, name) in network
        .names
        .iter()
        .enumerate()
        .filter(|(gene, _)| used[*gene])
    {
        write!(out, "<node id=\"g{gene}\"><data key=\"name\">")?;
        write_escaped(name, out)?;
        out.write_all(b"</data>")?;
        if let Some(program) = network.program_of[gene] {
            write!(out, "<data key=\"program\">{program}</data>")?;
        }
        out.write_all(b"</node>\n")?;
    }
    for edge in &network.edges {
        let (a, b, cosine) = (edge.a, edge.b, edge.cosine);
        writeln!(
            out,
            "<edge source=\"g{a}\" target=\"g{b}\"><data key=\"cosine\">{cosine:.4}</data></edge>"
        )?;
    }
    out.write_all(b"</graph>\n</graphml>\n")
}

/// Writes edges as a table with the columns `gene_a gene_b cosine program`; the program is `.`
/// where the ends are not in the same one.
///
/// # Errors
/// The writer's.
pub fn write_edges(network: &Network, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"gene_a\tgene_b\tcosine\tprogram\n")?;
    for edge in &network.edges {
        for gene in [edge.a, edge.b] {
            write_clean(&network.names[gene as usize], out)?;
            out.write_all(b"\t")?;
        }
        write!(out, "{:.4}\t", edge.cosine)?;
        if let Some(program) = network.program(edge) {
            writeln!(out, "{program}")?;
        } else {
            out.write_all(b".\n")?;
        }
    }
    Ok(())
}

/// Writes programs as a table with the columns `program gene`.
///
/// # Errors
/// The writer's.
pub fn write_programs(network: &Network, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"program\tgene\n")?;
    for (program, members) in network.programs.iter().enumerate() {
        for &gene in members {
            write!(out, "{program}\t")?;
            write_clean(&network.names[gene as usize], out)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// A name in a column: control characters, tabs among them, become U+FFFD.
fn write_clean(name: &str, out: &mut impl Write) -> io::Result<()> {
    let clean: String = name.chars().map(printable).collect();
    out.write_all(clean.as_bytes())
}

/// A name within XML.
pub(super) fn write_escaped(name: &str, out: &mut impl Write) -> io::Result<()> {
    for letter in name.chars() {
        match letter {
            '<' => out.write_all(b"&lt;")?,
            '>' => out.write_all(b"&gt;")?,
            '&' => out.write_all(b"&amp;")?,
            _ => write!(out, "{}", printable(letter))?,
        }
    }
    Ok(())
}

/// XML has no place for U+FFFE and U+FFFF, and nothing for control characters.
fn printable(letter: char) -> char {
    if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') {
        '\u{fffd}'
    } else {
        letter
    }
}
