//! The models of a plan, opened and joined with its options.

use super::check;
use super::error::CliError;
use super::plan::ModelChoice;
use crate::annotate::builtin::BuiltIn;
use crate::annotate::{Annotator, Choice, Options, Task};
use crate::model::Model;
use crate::model::manifest::Tier;
use crate::sink::Format;

/// Opens the models and joins them with the options; `format` is that of the calls.
pub(super) fn open(
    choice: &ModelChoice,
    options: Options,
    format: Option<Format>,
) -> Result<Annotator, CliError> {
    let all = Choice {
        tasks: choice.tasks.clone(),
        named: choice.named,
        clade: choice.clade.unwrap_or_default(),
        files: choice.files.clone(),
        check_tensors: choice.check_tensors,
    };
    let mut models = all.models(options.tier).map_err(CliError::options)?;
    if format == Some(Format::SpliceTsv) {
        // Default tasks that it cannot hold are left out.
        let is_splice = |model: &mut Model| Task::Splice.is_named_by(model.manifest());
        let splice: Vec<Model> = models.extract_if(.., is_splice).collect();
        check::splice_tsv(&splice, &models, choice.named)?;
        models = splice;
    }
    let fast = if choice.fast_tier {
        fast_tiers(choice, options.tier, &models)?
    } else {
        vec![]
    };
    Annotator::with_fast_tier(models, fast, options).map_err(CliError::options)
}

/// The fast tiers of those models that have one and use another.
fn fast_tiers(choice: &ModelChoice, tier: Tier, models: &[Model]) -> Result<Vec<Model>, CliError> {
    check::fast_tier(tier, models)?;
    let tiered = models.iter().filter(|model| check::is_tiered(model));
    let fast = tiered.map(|model| {
        let mut given = choice.files.iter();
        match given.find(|path| path.display().to_string() == model.file().name()) {
            Some(path) => Model::open_tier(path, Tier::Fast),
            None => BuiltIn {
                task: Task::of_model(model)?,
                clade: choice.clade.unwrap_or_default(),
            }
            .model(Tier::Fast),
        }
    });
    Ok(fast.collect::<Result<_, _>>()?)
}
