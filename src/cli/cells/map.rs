//! `cells map`: the nearest cells of a labelled reference.

use super::embed::Embedded;
use super::session::Session;
use crate::cells::model::Kind;
use crate::cells::nearest::{Labels, Reference, Vectors};
use crate::cli::arguments::cells::MapArguments;
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::sink::clean;
use std::io::Write;

pub(super) fn run(arguments: &MapArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(
        &arguments.options,
        &[&arguments.query, &arguments.reference],
    )
    .read(&arguments.labels)
    .write([&arguments.output])
    .check()?;
    let session = Session::new(&arguments.options, Kind::Embedding, quiet)?;
    let width = session.model.outputs().count();
    let mut reference = session.open(&arguments.reference)?;
    let mut query = session.open(&arguments.query)?;
    let known = Embedded::new(&session, &mut *reference)?;
    let labels = known.labels(&*reference, &arguments.label, arguments.labels.as_ref())?;
    let labels = Labels::new(labels.iter().map(String::as_str));
    let vectors = |own: &Embedded| Vectors::new(&own.values, width).map_err(CliError::input);
    let reference = Reference::new(vectors(&known)?, labels).map_err(CliError::input)?;
    let cells = Embedded::new(&session, &mut *query)?;
    let k = usize::from(arguments.neighbours);
    let nearest = reference
        .nearest(&vectors(&cells)?, k)
        .map_err(CliError::input)?;
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "#cell\tlabel\tshare\tnearest\tcosine").map_err(failed)?;
    for (cell, neighbours) in cells.scored.iter().zip(nearest.iter()) {
        let (Some(majority), Some((first, cosine))) =
            (reference.majority(neighbours), neighbours.first())
        else {
            continue;
        };
        writeln!(
            out,
            "{}\t{}\t{:.3}\t{}\t{cosine:.4}",
            cells.names[*cell],
            clean(majority.label.as_bytes()),
            majority.share,
            known.names[known.scored[*first as usize]],
        )
        .map_err(failed)?;
    }
    out.end(End::Complete).map_err(failed)?;
    session.sign();
    Ok(())
}
