//! `cells embed`: a vector for each cell.

use super::session::Session;
use crate::cells::input::CellSource;
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
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Neighbours that are asked how batches are mixed.
const NEIGHBOURS: usize = 30;

/// Vectors of cells, of length 1.
pub(super) struct Embedded {
    /// Names of all cells, in the order of the input.
    pub(super) names: Vec<String>,
    /// Which of them have a vector.
    pub(super) scored: Vec<usize>,
    /// Row by row.
    pub(super) values: Vec<f32>,
}

impl Embedded {
    /// Embeds all cells of an input.
    pub(super) fn new(session: &Session, source: &mut dyn CellSource) -> Result<Self, CliError> {
        let mut all = Embedded {
            names: vec![],
            scored: vec![],
            values: vec![],
        };
        session.run(source, Flagged::default(), |cell| {
            if let Ok(outcome) = &cell.result {
                all.scored.push(all.names.len());
                all.values.extend(outcome.outputs);
            }
            all.names.push(clean(cell.name.as_bytes()));
            Ok(())
        })?;
        let width = session.model.outputs().count();
        // Each value is rounded once, from the double that the length is divided in.
        for row in all.values.chunks_exact_mut(width) {
            let squares: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let length = squares.sqrt().max(f64::MIN_POSITIVE);
            row.iter_mut()
                .for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
        Ok(all)
    }

    /// What a column says of the cells that have a vector: one of the input, or of a table.
    pub(super) fn labels(
        &self,
        source: &dyn CellSource,
        column: &str,
        table: Option<&PathBuf>,
    ) -> Result<Vec<String>, CliError> {
        if let Some(path) = table {
            let labels = table_column(path, column)?;
            let of = |cell: &usize| -> Result<String, CliError> {
                let name = &self.names[*cell];
                labels.get(name).cloned().ok_or_else(|| {
                    CliError::input(format!("{}: no line for cell {name}", path.display()))
                })
            };
            return self.scored.iter().map(of).collect();
        }
        let labels = source.labels(column)?.ok_or_else(|| {
            let file = source.name();
            CliError::input(format!(
                "{file}: no column {column:?}; --labels reads a table"
            ))
        })?;
        let of = |cell: &usize| labels.get(*cell).cloned().unwrap_or_default();
        Ok(self.scored.iter().map(of).collect())
    }
}

/// A column of a TSV with a header, by the names in the first one.
fn table_column(path: &Path, column: &str) -> Result<HashMap<String, String>, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io(path))?;
    let mut lines = text.lines().enumerate();
    let (_, header) = lines.next().unwrap_or_default();
    let mut names = header.split('\t');
    let found = names.position(|name| name.trim_start_matches('#') == column);
    let Some(at) = found else {
        let file = path.display();
        let reason = format!("{file}: no column {column:?} in its header");
        return Err(CliError::input(reason));
    };
    let mut all = HashMap::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (Some(name), Some(label)) = (fields.first(), fields.get(at)) else {
            let (file, line) = (path.display(), number + 1);
            let reason = format!(
                "{file}: line {line}: {} fields, not {}",
                fields.len(),
                at + 1
            );
            return Err(CliError::input(reason));
        };
        all.insert(clean(name.as_bytes()), (*label).to_string());
    }
    Ok(all)
}

pub(super) fn run(arguments: &EmbedArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])
        .read(&arguments.labels)
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Embedding, quiet)?;
    let mut source = session.open(&arguments.input)?;
    let embedded = Embedded::new(&session, &mut *source)?;
    let width = session.model.outputs().count();
    write(&embedded, width, &arguments.output)?;
    let vectors = || Vectors::new(&embedded.values, width).map_err(CliError::input);
    for (column, is_batch) in [(&arguments.label, false), (&arguments.batch, true)] {
        let Some(column) = column else { continue };
        let labels = embedded.labels(&*source, column, arguments.labels.as_ref())?;
        let labels = Labels::new(labels.iter().map(String::as_str));
        let vectors = vectors()?;
        let score = silhouette(&vectors, &labels.of).map_err(CliError::input)?;
        note(format_args!("{column}: silhouette {:.4}", score.mean));
        if is_batch {
            let mixed = mixing(&vectors, &labels.of, NEIGHBOURS).map_err(CliError::input)?;
            note(format_args!(
                "{column}: mixing {mixed:.4} of {NEIGHBOURS} neighbours, 1 for batches that are \
                 one"
            ));
        }
    }
    session.sign();
    Ok(())
}

fn write(embedded: &Embedded, width: usize, output: &Path) -> Result<(), CliError> {
    let target = Target::new(Some(output.to_path_buf()));
    let failed = |source| target.failed(source);
    let rows = embedded.values.chunks_exact(width);
    if output.extension().is_some_and(|ending| ending == "npy") {
        let mut out = target.open()?;
        let cells = embedded.names.len() as u64;
        let mut array = NpyWriter::new(BufWriter::new(&mut out), cells, width).map_err(failed)?;
        let (mut rows, nothing) = (rows, vec![f32::NAN; width]);
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
