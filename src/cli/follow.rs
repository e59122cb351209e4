//! `annotate --follow`: a folder that fills.

use super::error::CliError;
use super::events::Events;
#[cfg(target_os = "linux")]
use super::notify::Notifier;
use super::plan::FollowPlan;
use super::run::{Ended, Run};
use crate::stream::follow::{FollowConfig, FollowError, Follower};

/// Follows a folder. A stop is its normal end.
pub(super) fn run(run: &Run, plan: FollowPlan) -> Result<Ended, CliError> {
    let models = run.annotator.models().iter();
    let models = models.map(|m| format!(", {}/{} {:.16}", m.name, m.version, m.hash));
    let options = plan.options + &models.collect::<String>();
    let follower = Follower::open(FollowConfig {
        folder: plan.folder,
        output: plan.output,
        journal: plan.journal,
        until_idle: plan.until_idle,
        format: plan.format,
        models: run.tags(),
        options,
        pipeline: plan.pipeline,
    });
    let follower = follower.map_err(failed)?;
    let follower = follower
        .labelled(&run.labels)
        .noted(run.events.as_ref().map(Events::notes))
        .watched(run.watch.clone())
        .observed(run.observer.clone());
    #[cfg(feature = "fleet")]
    if let Some(publication) = &run.publication {
        publication.start(run.output.path(), follower.settled())?;
    }
    #[cfg(target_os = "linux")]
    let notifier = Notifier::from_environment(&run.metrics);
    #[cfg(target_os = "linux")]
    let follower = match &notifier {
        Some(notifier) => follower.ticking(notifier.tick()),
        None => follower,
    };
    let outcome = follower.run(&run.annotator, &run.metrics, &run.interrupt.stop);
    #[cfg(target_os = "linux")]
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    Ok(if outcome.map_err(failed)?.incomplete.is_empty() {
        Ended::Whole
    } else {
        Ended::Lacking
    })
}

/// What does not go together is wrong usage; the rest names its file.
fn failed(error: FollowError) -> CliError {
    match error {
        FollowError::Format | FollowError::Options { .. } => CliError::usage(error),
        FollowError::Io { file, source } => CliError::io(&file)(source),
        error => CliError::input(error),
    }
}
