//! `annotate --follow`: a folder that fills.

use super::annotate::Run;
use super::{AnnotateArguments, CliError};
use crate::sink::{Format, ModelTag};
use crate::stream::batch::PipelineConfig;
use crate::stream::follow::{FollowConfig, FollowError, Follower};
use std::path::Path;
use std::time::Duration;

/// What does not go together is wrong usage; the rest names its file.
impl From<FollowError> for CliError {
    fn from(error: FollowError) -> CliError {
        match error {
            FollowError::Format => CliError::Usage(error.to_string()),
            FollowError::Io { file, source } => CliError::io(&file)(source),
            error => CliError::Input(error.to_string()),
        }
    }
}

/// What the arguments ask to be followed.
pub(super) fn config(
    arguments: &AnnotateArguments,
    folder: &Path,
    format: Format,
    models: Vec<ModelTag>,
    pipeline: &PipelineConfig,
) -> Result<FollowConfig, CliError> {
    let usage = |message: &str| Err(CliError::Usage(message.to_string()));
    let Some(output) = arguments.output.as_deref().filter(|p| p.as_os_str() != "-") else {
        return usage(
            "--follow needs --output: what was written there is what need not be read again",
        );
    };
    if format == Format::Bedgraph {
        return Err(FollowError::Format.into());
    }
    if super::live::is_asked_for(arguments) {
        return usage("--follow reads files as they are completed: it goes with no live option");
    }
    Ok(FollowConfig {
        folder: folder.to_owned(),
        output: output.to_owned(),
        journal: arguments.journal.clone(),
        until_idle: arguments.until_idle.map(Duration::from_secs_f64),
        format,
        models,
        pipeline: pipeline.clone(),
    })
}

/// Follows a folder; true where nothing was left over.
pub(super) fn run(run: &Run, config: FollowConfig) -> Result<bool, CliError> {
    let follower = Follower::open(config)?;
    let outcome = follower.run(&run.annotator, &run.metrics, &run.stop)?;
    Ok(outcome.incomplete.is_empty())
}
