//! `cells embed`: a vector for each cell.

use super::copy;
use super::session::Session;
use crate::cells::h5ad::Answers;
use crate::cells::input::{CellSource, column as read_column};
use crate::cells::integration::{mixing, silhouette};
use crate::cells::model::Kind;
use crate::cells::nearest::{Labels, Vectors};
use crate::cells::npy::NpyWriter;
use crate::cells::run::Flagged;
use crate::cli::arguments::cells::EmbedArguments;
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::sink::clean;
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The array of `obsm`: what scanpy calls coordinates begins so.
const VECTORS: &str = "X_strandline";

/// Neighbours that are asked how batches are mixed.
const NEIGHBOURS: usize = 30;

/// Vectors of cells, of length 1.
pub(super) struct Embedded {
    /// Names of all cells, in the order of the input.
    pub(super) names: Vec<String>,
    /// Which of them have a vector.
    pub(super) scored: Vec<usize>,
    pub(super) vectors: Vectors,
}

impl Embedded {
    /// Embeds all cells of an input.
    pub(super) fn new(session: &Session, source: &mut dyn CellSource) -> Result<Self, CliError> {
        let (mut names, mut scored, mut values) = (vec![], vec![], vec![]);
        session.run(source, Flagged::default(), |cell| {
            if let Ok(outcome) = &cell.result {
                scored.push(names.len());
                values.extend_from_slice(outcome.outputs);
            }
            names.push(clean(cell.name.as_bytes()));
            Ok(())
        })?;
        let width = session.model.outputs().count();
        let vectors = Vectors::new(&values, width)
            .map_err(|error| CliError::input(format!("{}: {error}", session.model.name())))?;
        Ok(Embedded {
            names,
            scored,
            vectors,
        })
    }

    /// The vectors of all cells, `[cells, width]`, NaN for those without one.
    fn of_all(&self) -> Vec<f32> {
        let width = self.vectors.width();
        let mut all = vec![f32::NAN; self.names.len() * width];
        for (row, cell) in self.scored.iter().enumerate() {
            let own = cell * width..(cell + 1) * width;
            all[own].copy_from_slice(self.vectors.row(row));
        }
        all
    }

    /// The cells with a vector of which a column says something: their vectors, what it says, and
    /// which ones they are.
    pub(super) fn labelled(&self, column: &Column) -> Result<Labelled, CliError> {
        let (mut rows, mut cells, mut labels) = (vec![], vec![], vec![]);
        for (row, &cell) in self.scored.iter().enumerate() {
            let label = column.of(cell, &self.names[cell])?;
            if !label.is_empty() {
                rows.push(row);
                cells.push(cell);
                labels.push(label);
            }
        }
        Ok(Labelled {
            vectors: self.vectors.some(&rows),
            labels: Labels::new(labels),
            cells,
        })
    }
}

/// Cells whose labels are known.
pub(super) struct Labelled {
    pub(super) vectors: Vectors,
    pub(super) labels: Labels,
    /// Their places in the input.
    pub(super) cells: Vec<usize>,
}

/// What is known of each cell of an input.
pub(super) enum Column {
    /// A column of the input itself.
    ByPlace(Vec<String>),
    /// One of a table, by the names of cells, and the table.
    ByName(HashMap<String, String>, PathBuf),
}

impl Column {
    /// Reads it, before anything is scored.
    pub(super) fn new(
        source: &dyn CellSource,
        column: &str,
        table: Option<&PathBuf>,
    ) -> Result<Column, CliError> {
        if let Some(path) = table {
            let all = read_column(path, column)?.into_iter();
            let all = all.map(|(cell, label)| (clean(cell.as_bytes()), label));
            return Ok(Column::ByName(all.collect(), path.clone()));
        }
        match source.labels(column)? {
            Some(labels) => Ok(Column::ByPlace(labels)),
            None => Err(CliError::input(format!(
                "{}: no column {column:?}; --labels reads a table",
                source.name()
            ))),
        }
    }

    /// Empty where nothing is known.
    fn of(&self, cell: usize, name: &str) -> Result<&str, CliError> {
        match self {
            Column::ByPlace(labels) => Ok(labels.get(cell).map_or("", String::as_str)),
            Column::ByName(labels, path) => match labels.get(name) {
                Some(label) => Ok(label),
                None => Err(CliError::input(format!(
                    "{}: no line for cell {name}",
                    path.display()
                ))),
            },
        }
    }
}

pub(super) fn run(arguments: &EmbedArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])?
        .read(&arguments.labels)
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Embedding, quiet)?;
    let mut source = session.open(&arguments.input)?;
    let copies = copy::is_copy(&arguments.input, &arguments.output)?;
    let mut columns = vec![];
    for (name, is_batch) in [(&arguments.label, false), (&arguments.batch, true)] {
        let Some(name) = name else { continue };
        let column = Column::new(&*source, name, arguments.labels.as_ref())?;
        columns.push((name, column, is_batch));
    }
    let embedded = Embedded::new(&session, &mut *source)?;
    // Before anything is written: labels that do not fit leave no output.
    let mut notes = vec![];
    for (name, column, is_batch) in &columns {
        let own = embedded.labelled(column)?;
        let score = silhouette(&own.vectors, &own.labels.of).map_err(CliError::input)?;
        notes.push(format!("{name}: silhouette {:.4}", score.mean));
        if *is_batch {
            let mixed = mixing(&own.vectors, &own.labels.of, NEIGHBOURS);
            let mixed = mixed.map_err(CliError::input)?;
            notes.push(format!(
                "{name}: mixing {mixed:.4} of {NEIGHBOURS} neighbours, 1 for batches that are one, \
                 0 for batches apart"
            ));
        }
    }
    if copies {
        let (width, vectors) = (embedded.vectors.width(), embedded.of_all());
        let answers = Answers {
            vectors: vec![(VECTORS.to_string(), width, vectors)],
            ..Answers::default()
        };
        copy::write(&arguments.input, &arguments.output, &answers)?;
    } else {
        write(&embedded, &arguments.output)?;
    }
    for line in notes {
        note(format_args!("{line}"));
    }
    session.sign();
    Ok(())
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
