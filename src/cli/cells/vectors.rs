//! Vectors of all cells of an input, and what is known of these.

use super::session::Session;
use crate::cells::input::{CellSource, column as read_column};
use crate::cells::nearest::{Labels, Vectors};
use crate::cells::run::Flagged;
use crate::cli::error::CliError;
use crate::sink::clean;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// The model of a batch.
pub(super) struct BatchModel {
    pub(super) batch: String,
    pub(super) session: Session,
}

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

    /// Embeds the cells of each batch by its own model, for networks with a norm for each (DSBN).
    /// Cells of other batches have no vector.
    ///
    /// # Errors
    /// Where there is no cell of a batch, or the models' vectors have several widths.
    pub(super) fn by_batch(
        models: &[BatchModel],
        input: &Path,
        column: &Column,
    ) -> Result<Self, CliError> {
        let (mut names, mut found) = (vec![], vec![]);
        let mut width = None;
        for BatchModel { batch, session } in models {
            let own = session.model.outputs().count();
            if *width.get_or_insert(own) != own {
                let reason = format!("{}: vectors of another width", session.model.name());
                return Err(CliError::Input(reason));
            }
            let mut source = session.open(input)?;
            let (mut all, mut failure) = (vec![], None);
            let places = RefCell::new(VecDeque::new());
            let wanted = |name: &str| {
                let (cell, name) = (all.len(), clean(name.as_bytes()));
                let label = column.of(cell, &name);
                let is_own = label.as_ref().is_ok_and(|label| label == batch);
                failure = failure.take().or(label.err());
                if is_own {
                    places.borrow_mut().push_back(cell);
                }
                all.push(name);
                is_own
            };
            let mut any = false;
            session.run_those(&mut *source, Flagged::default(), wanted, |cell| {
                any = true;
                let place = places.borrow_mut().pop_front();
                if let (Ok(outcome), Some(place)) = (&cell.result, place) {
                    found.push((place, outcome.outputs.to_vec()));
                }
                Ok(())
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if !any {
                let reason = format!("{}: no cell of batch {batch}", input.display());
                return Err(CliError::Input(reason));
            }
            names = all;
        }
        found.sort_by_key(|(place, _)| *place);
        let values: Vec<f32> = found.iter().flat_map(|(_, own)| own).copied().collect();
        let vectors = Vectors::new(&values, width.unwrap_or_default());
        let vectors = vectors.map_err(CliError::input)?;
        if found.len() < names.len() {
            let missing = names.len() - found.len();
            log::warn!("{missing} cells have no vector: no model of their batch, or unusable");
        }
        Ok(Embedded {
            scored: found.into_iter().map(|(place, _)| place).collect(),
            names,
            vectors,
        })
    }

    /// The vectors of all cells, `[cells, width]`, NaN for those without one.
    pub(super) fn of_all(&self) -> Vec<f32> {
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
