//! `cells network`: genes that a model has close together.

use crate::cells::communities::Leiden;
use crate::cells::graph::{
    Network, NetworkOptions, edges_by_chance, svg, write_edges, write_graphml, write_programs,
};
use crate::cells::input::list as read_list;
use crate::cells::model::{CellModel, Kind};
use crate::cells::nearest::Vectors;
use crate::cli::arguments::cells::NetworkArguments;
use crate::cli::error::CliError;
use crate::cli::guard::Files;
use crate::cli::output::{End, Target, Writer};
use crate::cli::report::note;
use crate::model::ModelError;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

/// So many times what random vectors have is the least that says something.
const LEAST_OF_CHANCE: f64 = 2.0;

/// Genes whose neighbours are all looked for: the time grows with the square.
const MOST: usize = 100_000;

pub(super) fn run(arguments: &NetworkArguments, quiet: bool) -> Result<(), CliError> {
    if !(arguments.resolution.is_finite() && arguments.resolution > 0.0) {
        return Err(CliError::usage("--resolution is a number above 0"));
    }
    if !(-1.0..=1.0).contains(&arguments.min_cosine) {
        return Err(CliError::usage("--min-cosine is from -1 to 1"));
    }
    let output = Some(arguments.output.clone());
    Files::default()
        .read(&arguments.model)
        .read(&arguments.genes)
        .write(&output)
        .write(&arguments.programs)
        .write(&arguments.graphml)
        .write(&arguments.svg)
        .check()?;
    let model = match &arguments.model {
        Some(file) => CellModel::open(file)?,
        None => Kind::Type.builtin()?,
    };
    let (names, values, width) = vectors(&model, arguments.genes.as_ref())?;
    let vectors = Vectors::new(&values, width).map_err(CliError::input)?;
    let options = NetworkOptions {
        neighbours: arguments.neighbours.into(),
        least_genes: arguments.min_genes,
        least_cosine: arguments.min_cosine,
        leiden: Leiden {
            resolution: arguments.resolution,
            seed: arguments.seed,
            ..Leiden::default()
        },
    };
    let network = Network::new(names, &vectors, &options).map_err(CliError::input)?;
    let files: [(Option<&PathBuf>, Write); 4] = [
        (output.as_ref(), |n, out| write_edges(n, out)),
        (arguments.programs.as_ref(), |n, out| write_programs(n, out)),
        (arguments.graphml.as_ref(), |n, out| write_graphml(n, out)),
        (arguments.svg.as_ref(), |n, out| svg(n, out)),
    ];
    // All or nothing: none gets its name before all are written.
    let mut written = vec![];
    for (path, write) in files {
        let Some(path) = path else { continue };
        let target = Target::new(Some(path.clone()));
        let mut out = target.open_text()?;
        let wrote = write(&network, &mut out);
        wrote.map_err(|source| target.failed(source))?;
        written.push((target, out));
    }
    for (target, out) in written {
        let ended = out.end(End::Complete);
        ended.map_err(|source| target.failed(source))?;
    }
    let (genes, edges) = (network.names.len(), network.edges.len());
    let chance = edges_by_chance(genes, width, arguments.min_cosine);
    let some = chance * LEAST_OF_CHANCE;
    // Where random vectors have more than neighbours are asked for, their number says nothing.
    let most = (genes * options.neighbours) as f64 / 2.0;
    if some < most && (edges as f64) < some {
        log::warn!(
            "{}: {edges} edges, and random vectors of that width have {chance:.0}: its genes say \
             next to nothing of each other",
            model.name()
        );
    }
    if !quiet {
        note(format_args!(
            "{genes} genes, {edges} edges, {} programs of at least {} genes; {}",
            network.programs.len(),
            arguments.min_genes,
            model.name()
        ));
    }
    Ok(())
}

/// Writes a network.
type Write = fn(&Network, &mut Writer) -> io::Result<()>;

/// Names and vectors of the genes that are asked for.
fn vectors(
    model: &CellModel,
    list: Option<&PathBuf>,
) -> Result<(Vec<String>, Vec<f32>, usize), CliError> {
    let table = model.model().token_vectors()?;
    let listed = list.map(|path| read_list(path)).transpose()?;
    let asked: Option<HashSet<&str>> = listed
        .as_ref()
        .map(|names| names.iter().map(String::as_str).collect());
    let (mut names, mut values) = (vec![], vec![]);
    for (id, row) in (0..).zip(table.values.chunks_exact(table.width)) {
        let Some(name) = model.tokens().vocabulary().name(id) else {
            continue;
        };
        let wanted = asked.as_ref().is_none_or(|asked| asked.contains(name));
        if wanted && !name.starts_with('<') {
            names.push(name.to_string());
            values.extend_from_slice(row);
        }
    }
    if let (Some(asked), Some(path)) = (&asked, list)
        && names.len() < asked.len()
    {
        let known: HashSet<&str> = names.iter().map(String::as_str).collect();
        let other = asked.iter().filter(|name| !known.contains(*name)).min();
        return Err(CliError::input(format!(
            "{}: {} is no gene of {}",
            path.display(),
            other.copied().unwrap_or("?"),
            model.name()
        )));
    }
    if names.len() > MOST {
        let reason = format!(
            "{} genes, at most {MOST}: name some by --genes",
            names.len()
        );
        return Err(ModelError::Pack(reason).into());
    }
    Ok((names, values, table.width))
}
