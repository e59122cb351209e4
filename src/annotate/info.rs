//! What a program can ask of the models in use.

use super::options::Priors;
use super::task::{Task, kind};
use crate::call::CallKind;
use crate::model::{Model, ModelError};

/// What is known of a model in use.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Version of its weights.
    pub version: String,
    /// Its task.
    pub task: Task,
    /// Per kind of call, how often it occurs where it could.
    pub base_rates: Vec<(CallKind, f64)>,
    /// BLAKE3 of its tensors.
    pub hash: String,
}

impl ModelInfo {
    pub(super) fn new(model: &Model, priors: &Priors) -> Result<ModelInfo, ModelError> {
        let manifest = model.manifest();
        Ok(ModelInfo {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            task: Task::of_model(model)?,
            base_rates: manifest
                .outputs
                .iter()
                .filter_map(|o| {
                    let kind = kind(o).ok().flatten()?;
                    Some((kind, priors.of(kind).unwrap_or(o.base_rate)))
                })
                .collect(),
            hash: model.file().content_hash().to_string(),
        })
    }
}
