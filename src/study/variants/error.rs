//! Why variants cannot be scored.

use crate::annotate::AnnotateError;
use crate::reads::source::InputError;
use std::io;

/// Why variants cannot be scored; a variant alone has a reason of its own.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// Its name.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{file}: {reason}")]
    Input {
        /// Its name.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// An input could not be read on.
    #[error(transparent)]
    Read(#[from] InputError),
    /// A model could not be run.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
}

impl StudyError {
    pub(super) fn input(file: &str, reason: impl ToString) -> StudyError {
        StudyError::Input {
            file: file.to_string(),
            reason: reason.to_string(),
        }
    }
}
