//! The one model of `score` and `eval`.

use super::error::CliError;
use crate::annotate::builtin::BuiltIn;
use crate::annotate::{Clade, Priors, Scorer, Task, clade_of};
use crate::model::Model;
use crate::model::manifest::Tier;
use std::path::PathBuf;

/// A model by its task, its file, or both.
#[derive(Debug)]
pub(super) struct OneModel {
    pub task: Option<Task>,
    pub file: Option<PathBuf>,
    pub clade: Clade,
    pub tier: Tier,
}

impl OneModel {
    /// Opens it; a file must be for the task, if that is given, too.
    pub(super) fn open(&self) -> Result<Model, CliError> {
        let model = match (&self.file, self.task) {
            (Some(file), _) => {
                clade_of(self.clade, []).map_err(CliError::options)?;
                Model::open_tier(file, self.tier)?
            }
            (None, Some(task)) => {
                let clade = clade_of(self.clade, [task]).map_err(CliError::options)?;
                BuiltIn { task, clade }.model(self.tier)?
            }
            (None, None) => return Err(CliError::usage("--task or --model")),
        };
        match self.task {
            Some(task) if !task.is_named_by(model.manifest()) => Err(CliError::Usage(format!(
                "{} is for {}, not {task}",
                model.file().name(),
                model.manifest().task
            ))),
            _ => Ok(model),
        }
    }
}

/// Scores of every base.
pub(super) fn scorer(model: Model, priors: &Priors) -> Result<Scorer, CliError> {
    Scorer::with_priors(model, priors).map_err(CliError::options)
}
