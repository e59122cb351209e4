//! Why reads are not annotated.

use crate::model::ModelError;

/// Why a read could not be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// A model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The models or options do not go together.
    #[error("{0}")]
    Options(String),
}
