//! What is wrong with cells, or with the file that they come from.

use crate::reads::source::InputError;
use std::io;

/// Why cells cannot be read or used. Every sentence names the file, and the place in it where that
/// is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CellsError {
    /// The system could not open or read a file.
    #[error("{file}: {source}")]
    Io {
        /// Its name.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// A text could not be read on: it is missing, cut off or damaged.
    #[error(transparent)]
    Read(#[from] InputError),
    /// A file as a whole is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A line of a text is wrong.
    #[error("{file}: line {line}: {reason}")]
    Line {
        /// The file's name.
        file: String,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// Bytes of a binary file are wrong.
    #[error("{file}: byte {byte}: {reason}")]
    Byte {
        /// The file's name.
        file: String,
        /// Where, 0-based.
        byte: u64,
        /// What is wrong.
        reason: String,
    },
    /// One array of an archive, or one object of an HDF5 file, is wrong.
    #[error("{file}: {part}: {reason}")]
    Part {
        /// The file's name.
        file: String,
        /// The array or object.
        part: String,
        /// What is wrong.
        reason: String,
    },
    /// One cell is wrong.
    #[error("{file}: cell {cell}: {reason}")]
    Cell {
        /// The file's name.
        file: String,
        /// The cell's name.
        cell: String,
        /// What is wrong.
        reason: String,
    },
    /// One gene is wrong, for all cells.
    #[error("{file}: gene {gene}: {reason}")]
    Gene {
        /// The file's name.
        file: String,
        /// The gene's name, or its number from 1 where it has none.
        gene: String,
        /// What is wrong.
        reason: String,
    },
    /// One value is wrong.
    #[error("{file}: cell {cell}, gene {gene}: {reason}")]
    Value {
        /// The file's name.
        file: String,
        /// The cell's name.
        cell: String,
        /// The gene's name.
        gene: String,
        /// What is wrong.
        reason: String,
    },
}

impl CellsError {
    /// [`CellsError::Io`].
    pub fn io(file: &str, source: io::Error) -> CellsError {
        let file = file.to_string();
        CellsError::Io { file, source }
    }

    /// [`CellsError::File`].
    pub fn file(file: &str, reason: impl ToString) -> CellsError {
        CellsError::File {
            file: file.to_string(),
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Line`].
    pub fn line(file: &str, line: u64, reason: impl ToString) -> CellsError {
        CellsError::Line {
            file: file.to_string(),
            line,
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Byte`].
    pub fn byte(file: &str, byte: u64, reason: impl ToString) -> CellsError {
        CellsError::Byte {
            file: file.to_string(),
            byte,
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Part`].
    pub fn part(file: &str, part: &str, reason: impl ToString) -> CellsError {
        CellsError::Part {
            file: file.to_string(),
            part: part.to_string(),
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Cell`].
    pub fn cell(file: &str, cell: &str, reason: impl ToString) -> CellsError {
        CellsError::Cell {
            file: file.to_string(),
            cell: cell.to_string(),
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Gene`].
    pub fn gene(file: &str, gene: &str, reason: impl ToString) -> CellsError {
        CellsError::Gene {
            file: file.to_string(),
            gene: gene.to_string(),
            reason: reason.to_string(),
        }
    }

    /// [`CellsError::Value`].
    pub fn value(file: &str, cell: &str, gene: &str, reason: impl ToString) -> CellsError {
        CellsError::Value {
            file: file.to_string(),
            cell: cell.to_string(),
            gene: gene.to_string(),
            reason: reason.to_string(),
        }
    }
}
