//! `cells map`: the nearest cells of a labelled reference.

use super::session::Session;
use super::vectors::{Column, Embedded, Labelled};
use crate::cells::model::Kind;
use crate::cells::nearest::Reference;
use crate::cli::arguments::cells::MapArguments;
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::sink::clean;
use std::io::Write;

pub(super) fn run(arguments: &MapArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(
        &arguments.options,
        &[&arguments.query, &arguments.reference],
    )?
    .read(&arguments.labels)
    .write([&arguments.output])
    .check()?;
    let session = Session::new(&arguments.options, Kind::Embedding, quiet)?;
    let mut source = session.open(&arguments.reference)?;
    let mut query = session.open(&arguments.query)?;
    let column = Column::new(&*source, &arguments.label, arguments.labels.as_ref())?;
    let known = Embedded::new(&session, &mut *source)?;
    let Labelled {
        vectors,
        labels,
        cells: places,
    } = known.labelled(&column)?;
    if vectors.is_empty() {
        let file = arguments.reference.display();
        let reason = format!("{file}: no cell with a label can be used");
        return Err(CliError::Input(reason));
    }
    let reference = Reference::new(vectors, labels).map_err(CliError::input)?;
    let cells = Embedded::new(&session, &mut *query)?;
    let k = usize::from(arguments.neighbours);
    let nearest = reference.nearest(&cells.vectors, k);
    let nearest = nearest.map_err(CliError::input)?;
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
            known.names[places[*first as usize]],
        )
        .map_err(failed)?;
    }
    out.end(End::Complete).map_err(failed)?;
    session.sign();
    Ok(())
}
