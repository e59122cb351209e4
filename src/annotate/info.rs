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
    /// What calls name: a model, or, where its columns are of one kind, such as transcription
    /// factors, each of them.
    pub(super) fn each(model: &Model, priors: &Priors) -> Result<Vec<ModelInfo>, ModelError> {
        let own = ModelInfo::new(model, priors)?;
        if own.task != Task::Tf {
            return Ok(vec![own]);
        }
        let outputs = model.manifest().outputs.iter();
        let called = outputs.filter(|output| kind(output).ok().flatten().is_some());
        let each = called.map(|output| ModelInfo {
            name: format!("{}:{}", own.name, output.name),
            base_rates: vec![(
                CallKind::Tf,
                priors.of(CallKind::Tf).unwrap_or(output.base_rate),
            )],
            ..own.clone()
        });
        Ok(each.collect())
    }

    fn new(model: &Model, priors: &Priors) -> Result<ModelInfo, ModelError> {
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
