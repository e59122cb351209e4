//! `annotate` on sources that may still be growing, all at once.

use super::check;
use super::error::CliError;
use super::events::WithEvents;
use super::output::{End, Target, Writer};
use super::plan::{LivePlan, Source};
use super::run::{Ended, Run};
use crate::annotate::Annotator;
use crate::call::CallKind;
use crate::reads::source::Input;
use crate::sink::{CallWriter, Format};
use crate::stream::decide::{Decider, DecisionWriter, Policy};
use crate::stream::link;
use crate::stream::live::{
    self, LiveConfig, LiveError, LiveOutcome, LiveOutput, LiveSource, Records,
};
use crate::stream::observe::Observing;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// A live run whose sources are open.
pub(super) struct Opened {
    sources: Vec<Box<dyn LiveSource>>,
    config: LiveConfig,
    format: Format,
    policy: Option<Policy>,
    /// Where decisions are written.
    decisions: Option<PathBuf>,
    /// All sources are files: they have an end of their own.
    files: bool,
}

/// Opens the sources. Nothing is written yet.
pub(super) fn open(plan: LivePlan, annotator: &Annotator) -> Result<Opened, CliError> {
    if let Some((file, policy)) = &plan.policy {
        let models = annotator.models().iter();
        let called: Vec<CallKind> = models
            .flat_map(|m| m.base_rates.iter().map(|(kind, _)| *kind))
            .collect();
        check::policy(file, policy, &called)?;
    }
    let is_file = |source: &Source| match source {
        Source::Records(Input::Path(path)) => path.is_file(),
        _ => false,
    };
    let files = plan.sources.iter().all(is_file);
    let mut sources: Vec<Box<dyn LiveSource>> = vec![];
    for source in plan.sources {
        match source {
            Source::Link(url) => {
                let places = link::open_all(&url).map_err(|error| match error {
                    link::LinkError::Url(error) => CliError::usage(error),
                    error => CliError::input(error),
                })?;
                let places = places.into_iter();
                sources.extend(places.map(|place| Box::new(place) as Box<dyn LiveSource>));
            }
            Source::Records(input) => sources.push(Box::new(Records::new(input, plan.limits))),
        }
    }
    Ok(Opened {
        sources,
        config: plan.config,
        format: plan.format,
        policy: plan.policy.map(|(_, policy)| policy),
        decisions: plan.decisions,
        files,
    })
}

/// Runs until the sources end or the run is stopped, which is its normal end where a source has
/// none of its own.
pub(super) fn run(run: &Run, opened: Opened) -> Result<Ended, CliError> {
    let Opened {
        sources,
        config,
        format,
        policy,
        decisions: path,
        files,
    } = opened;
    let mut calls = run.begin(format)?;
    let (ended, lost) = match policy {
        None => {
            let ran = live(run, &config, sources, &mut calls);
            (ended(run, files, ran), false)
        }
        Some(policy) => decide(run, &config, (sources, files), &mut calls, policy, path)?,
    };
    let closed = run.end(calls, &ended);
    let ended = ended?;
    closed?;
    // The calls are all there.
    Ok(if lost { Ended::Lacking } else { ended })
}

/// Runs with decisions; true where some of them could not be written.
fn decide(
    run: &Run,
    config: &LiveConfig,
    (sources, files): (Vec<Box<dyn LiveSource>>, bool),
    calls: &mut CallWriter<Writer>,
    policy: Policy,
    path: Option<PathBuf>,
) -> Result<(Result<Ended, CliError>, bool), CliError> {
    let path = path.map(Target::File);
    let decisions = match &path {
        Some(path) => {
            let decisions = DecisionWriter::new(path.open_text()?);
            Some(decisions.map_err(|e| path.failed(e))?)
        }
        None => None,
    };
    let decisions = WithEvents(run.events.clone(), decisions);
    let mut decider = Decider::new(calls, policy, decisions, run.metrics.clone());
    let ended = ended(run, files, live(run, config, sources, &mut decider));
    let lost = decider.lost();
    let WithEvents(_, decisions) = decider.into_inner().1;
    if let (Some(decisions), Some(path)) = (decisions, &path) {
        let file = decisions.into_inner();
        if lost > 0 {
            log::error!("{path}: {lost} decisions could not be written");
            // Why not was said when it happened.
            let _ = file.end(End::Incomplete);
        } else {
            file.end(run.kind(&ended)).map_err(|e| path.failed(e))?;
        }
    }
    Ok((ended, lost > 0))
}

fn live(
    run: &Run,
    config: &LiveConfig,
    sources: Vec<Box<dyn LiveSource>>,
    output: &mut dyn LiveOutput,
) -> Result<LiveOutcome, LiveError> {
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let mut output = Observing::new(output, run.observer.clone());
    live::run(
        config,
        sources,
        annotator,
        metrics,
        &run.interrupt.stop,
        &mut output,
    )
}

/// An error of the output goes under its name. A stop leaves `files` unread.
fn ended(run: &Run, files: bool, ran: Result<LiveOutcome, LiveError>) -> Result<Ended, CliError> {
    let outcome = ran.map_err(|error| match error {
        LiveError::Output(source) => run.output.failed(source),
        error => CliError::input(error),
    })?;
    Ok(if files && run.interrupt.stop.load(Ordering::SeqCst) {
        Ended::Stopped
    } else if outcome.errors.is_empty() {
        Ended::Whole
    } else {
        Ended::Lacking
    })
}
