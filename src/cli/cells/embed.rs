//! `cells embed`: a vector for each cell.

use super::copy::Copy;
use super::session::Session;
use super::vectors::{BatchModel, Column, Embedded};
use crate::cells::h5ad::Answers;
use crate::cells::integration::{mixing, silhouette};
use crate::cells::model::Kind;
use crate::cells::npy::NpyWriter;
use crate::cli::arguments::cells::{CellsOptions, EmbedArguments, ModelOf};
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The array of `obsm`: what scanpy calls coordinates begins so.
const VECTORS: &str = "X_strandline";

/// Neighbours that are asked how batches are mixed.
const NEIGHBOURS: usize = 30;

pub(super) fn run(arguments: &EmbedArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])?
        .read(&arguments.labels)
        .read(arguments.model_of.iter().map(|own| &own.file))
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Embedding, quiet)?;
    let answers = |width: usize, vectors: Vec<f32>| Answers {
        vectors: vec![(VECTORS.to_string(), width, vectors)],
        ..Answers::default()
    };
    let copy = Copy::new(&arguments.input, &arguments.output, |cells| {
        answers(1, vec![0.0; cells])
    })?;
    let mut source = session.open(&arguments.input)?;
    let mut columns = vec![];
    for (name, is_batch) in [(&arguments.label, false), (&arguments.batch, true)] {
        let Some(name) = name else { continue };
        let column = Column::new(&*source, name, arguments.labels.as_ref())?;
        columns.push((name, column, is_batch));
    }
    let embedded = match models(arguments, quiet)? {
        models if models.is_empty() => Embedded::new(&session, &mut *source)?,
        models => {
            let Some((_, column, _)) = columns.iter().find(|(_, _, is_batch)| *is_batch) else {
                return Err(CliError::usage("--model-of needs --batch"));
            };
            Embedded::by_batch(&models, &arguments.input, column)?
        }
    };
    // Before anything is written: labels that do not fit leave no output.
    let mut notes = vec![];
    for (name, column, is_batch) in &columns {
        let own = embedded.labelled(column)?;
        let wrong = |error| {
            let input = arguments.input.display();
            CliError::Input(format!("{input}: column {name:?}: {error}"))
        };
        let score = silhouette(&own.vectors, &own.labels.of).map_err(wrong)?;
        notes.push(format!("{name}: silhouette {:.4}", score.mean));
        if *is_batch {
            let mixed = mixing(&own.vectors, &own.labels.of, NEIGHBOURS);
            let mixed = mixed.map_err(wrong)?;
            notes.push(format!(
                "{name}: mixing {mixed:.4} of {NEIGHBOURS} neighbours, 1 for batches that are one, \
                 0 for batches apart"
            ));
        }
    }
    if let Some(copy) = copy {
        let (width, vectors) = (embedded.vectors.width(), embedded.of_all());
        copy.end(&answers(width, vectors))?;
    } else {
        write(&embedded, &arguments.output)?;
    }
    for line in notes {
        note(format_args!("{line}"));
    }
    session.sign();
    Ok(())
}

/// Models of batches.
fn models(arguments: &EmbedArguments, quiet: bool) -> Result<Vec<BatchModel>, CliError> {
    let mut models: Vec<BatchModel> = vec![];
    for ModelOf { batch, file } in &arguments.model_of {
        if models.iter().any(|model| model.batch == *batch) {
            let reason = format!("--model-of: two models of batch {batch}");
            return Err(CliError::Usage(reason));
        }
        let options = CellsOptions {
            model: Some(file.clone()),
            ..arguments.options.clone()
        };
        models.push(BatchModel {
            batch: batch.clone(),
            session: Session::new(&options, Kind::Embedding, quiet)?,
        });
    }
    Ok(models)
}

fn write(embedded: &Embedded, output: &Path) -> Result<(), CliError> {
    let target = Target::new(Some(output.to_path_buf()));
    let failed = |source| target.failed(source);
    let width = embedded.vectors.width();
    let mut rows = (0..embedded.vectors.len()).map(|row| embedded.vectors.row(row));
    if output.extension().is_some_and(|ending| ending == "npy") {
        let mut out = target.open()?;
        let cells = embedded.names.len() as u64;
        let mut array = NpyWriter::new(BufWriter::new(&mut out), cells, width).map_err(failed)?;
        let nothing = vec![f32::NAN; width];
        for cell in 0..embedded.names.len() {
            let row = match embedded.scored.binary_search(&cell) {
                Ok(_) => rows.next().unwrap_or(&nothing),
                Err(_) => &nothing,
            };
            array.write(row).map_err(failed)?;
        }
        array
            .finish(cells)
            .map_err(failed)?
            .flush()
            .map_err(failed)?;
        return out.end(End::Complete).map_err(failed);
    }
    let mut out = target.open_text()?;
    write!(out, "#cell").map_err(failed)?;
    for at in 0..width {
        write!(out, "\te{at}").map_err(failed)?;
    }
    writeln!(out).map_err(failed)?;
    for (cell, row) in embedded.scored.iter().zip(rows) {
        write!(out, "{}", embedded.names[*cell]).map_err(failed)?;
        for value in row {
            write!(out, "\t{value:.6}").map_err(failed)?;
        }
        writeln!(out).map_err(failed)?;
    }
    out.end(End::Complete).map_err(failed)
}
