//! `annotate` on sources that may still be growing, all at once.

use super::check;
use super::error::CliError;
use super::plan::{LivePlan, Source};
use super::run::Run;
use crate::annotate::Annotator;
use crate::call::CallKind;
use crate::sink::Format;
use crate::stream::decide::{Decider, DecisionWriter, Policy};
use crate::stream::link;
use crate::stream::live::{
    self, LiveConfig, LiveError, LiveOutcome, LiveOutput, LiveSource, Records,
};
use std::fs::File;
use std::path::PathBuf;

/// A live run whose sources are open.
pub(super) struct Opened {
    sources: Vec<Box<dyn LiveSource>>,
    config: LiveConfig,
    format: Format,
    policy: Option<Policy>,
    /// Where decisions are written.
    decisions: Option<PathBuf>,
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
    })
}

/// Runs until the sources end or the run is stopped; true where all of them ended well.
pub(super) fn run(run: &Run, opened: Opened) -> Result<bool, CliError> {
    let Opened {
        sources,
        config,
        format,
        policy,
        decisions: path,
    } = opened;
    let mut calls = run.begin(format)?;
    let outcome = match policy {
        None => ended(run, live(run, &config, sources, &mut calls))?,
        Some(policy) => {
            let decisions = match &path {
                Some(path) => {
                    let file = File::create(path).and_then(DecisionWriter::new);
                    Some(file.map_err(CliError::io(path))?)
                }
                None => None,
            };
            let mut decider = Decider::new(&mut calls, policy, decisions, run.metrics.clone());
            let ran = live(run, &config, sources, &mut decider);
            match (&ran, decider.decision_error(), &path) {
                (Err(_), Some(source), Some(path)) => return Err(CliError::io(path)(source)),
                _ => ended(run, ran)?,
            }
        }
    };
    run.finish(calls)?;
    Ok(outcome.errors.is_empty())
}

fn live(
    run: &Run,
    config: &LiveConfig,
    sources: Vec<Box<dyn LiveSource>>,
    output: &mut dyn LiveOutput,
) -> Result<LiveOutcome, LiveError> {
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    live::run(config, sources, annotator, metrics, &run.stop, output)
}

/// An error of the output goes under its name.
fn ended(run: &Run, ran: Result<LiveOutcome, LiveError>) -> Result<LiveOutcome, CliError> {
    ran.map_err(|error| match error {
        LiveError::Output(source) => run.output.failed(source),
        error => CliError::input(error),
    })
}
