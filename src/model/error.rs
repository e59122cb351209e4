//! What can be wrong with a model.

use std::path::PathBuf;

/// Why a model could not be opened, checked, run or packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be opened or mapped.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a model file of this version, or were damaged.
    #[error("{file}: byte {offset}: expected {expected}, found {found}")]
    Format {
        /// The file, or the name of a built-in model.
        file: String,
        /// Where, from the file's start.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The manifest inside the file says something that cannot be.
    #[error("{file}: manifest: {reason}")]
    Manifest {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that the graph names is missing or has another type or size.
    #[error("{file}: tensor {tensor}: expected {expected}, found {found}")]
    Tensor {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// Type and size asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The graph cannot be built or run.
    #[error("{file}: {action}: {reason}")]
    Graph {
        /// The file.
        file: String,
        /// What was being done.
        action: &'static str,
        /// The whole chain of causes.
        reason: String,
    },
    /// Packing was asked for something that this network cannot give.
    #[error("{0}")]
    Pack(String),
}

impl ModelError {
    pub(crate) fn manifest(file: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Manifest {
            file: file.to_string(),
            reason: reason.into(),
        }
    }
}
