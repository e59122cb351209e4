//! `annotate` on sources that are still speaking.

use super::annotate::Run;
use super::{AnnotateArguments, CliError, OrderArgument};
use crate::annotate::Annotator;
use crate::call::CallKind;
use crate::reads::fastx::Limits;
use crate::reads::source::Input;
use crate::sink::CallWriter;
use crate::stream::decide::{Decider, DecisionWriter, Policy};
use crate::stream::link;
use crate::stream::live::{
    self, LiveConfig, LiveError, LiveOutcome, LiveOutput, LiveSource, Records,
};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// True where the arguments ask for something that only a live run does.
pub(super) fn is_asked_for(arguments: &AnnotateArguments) -> bool {
    arguments.order == OrderArgument::Live
        || arguments.inputs.iter().any(|input| is_link(input))
        || arguments.deadline.is_some()
        || arguments.policy.is_some()
}

/// A serial port or a socket, not a file.
fn is_link(input: &Path) -> bool {
    input.to_str().is_some_and(|text| text.contains("://"))
}

/// Options that mean nothing without another.
pub(super) fn check(arguments: &AnnotateArguments) -> Result<(), CliError> {
    let usage = |message: &str| Err(CliError::Usage(message.to_string()));
    if arguments.on_overload.is_some() && arguments.deadline.is_none() {
        return usage("--on-overload needs --deadline, which says what overload is");
    }
    if arguments.decisions.is_some() && arguments.policy.is_none() {
        return usage("--decisions needs --policy");
    }
    if is_asked_for(arguments) && arguments.strict {
        return usage("--strict ends a run at the first bad read, and a live run goes on");
    }
    Ok(())
}

/// A policy may only rest on calls that are made.
fn policy(path: &Path, called: &[CallKind]) -> Result<Policy, CliError> {
    let policy = Policy::open(path).map_err(|e| CliError::Usage(e.to_string()))?;
    let unknown = policy.kinds().find(|kind| !called.contains(kind));
    match unknown {
        Some(kind) => Err(CliError::Usage(format!(
            "{}: no model in use calls a {kind}",
            path.display()
        ))),
        None => Ok(policy),
    }
}

/// What a live run needs, found to be right before anything is written.
pub(super) struct Prepared {
    sources: Vec<Box<dyn LiveSource>>,
    policy: Option<Policy>,
    config: LiveConfig,
}

/// Opens the sources and the policy.
pub(super) fn prepare(
    arguments: &AnnotateArguments,
    annotator: &Annotator,
    threads: usize,
) -> Result<Prepared, CliError> {
    let called: Vec<CallKind> = annotator
        .models()
        .iter()
        .flat_map(|m| m.base_rates.iter().map(|(kind, _)| *kind))
        .collect();
    let policy = match &arguments.policy {
        Some(path) => Some(policy(path, &called)?),
        None => None,
    };
    let limits = Limits {
        max_read_len: arguments.max_read_len,
        ..Limits::default()
    };
    let mut sources: Vec<Box<dyn LiveSource>> = vec![];
    for input in &arguments.inputs {
        sources.push(match input.to_str().filter(|_| is_link(input)) {
            Some(url) => Box::new(link::open(url).map_err(|error| match error {
                link::LinkError::Url(error) => CliError::Usage(error.to_string()),
                error => CliError::Input(error.to_string()),
            })?),
            None => Box::new(Records::new(Input::from_argument(input), limits)),
        });
    }
    let config = LiveConfig {
        threads,
        deadline: arguments
            .deadline
            .map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        overload: arguments
            .on_overload
            .map_or_else(Default::default, Into::into),
        ..LiveConfig::default()
    };
    Ok(Prepared {
        sources,
        policy,
        config,
    })
}

/// Runs until the sources end or the run is stopped; true where all of them ended well.
pub(super) fn run<W: Write>(
    arguments: &AnnotateArguments,
    run: &Run,
    prepared: Prepared,
    calls: &mut CallWriter<W>,
) -> Result<bool, CliError> {
    let Prepared {
        sources,
        policy,
        config,
    } = prepared;
    let Some(policy) = policy else {
        return finished(run, run.live(&config, sources, calls));
    };
    let decisions = match &arguments.decisions {
        Some(path) => {
            let file = File::create(path).and_then(DecisionWriter::new);
            Some(file.map_err(CliError::io(path))?)
        }
        None => None,
    };
    let mut decider = Decider::new(calls, policy, decisions, run.metrics.clone());
    let ran = run.live(&config, sources, &mut decider);
    match (&ran, decider.decision_error(), &arguments.decisions) {
        (Err(_), Some(source), Some(path)) => Err(CliError::io(path)(source)),
        _ => finished(run, ran),
    }
}

impl Run {
    fn live(
        &self,
        config: &LiveConfig,
        sources: Vec<Box<dyn LiveSource>>,
        output: &mut dyn LiveOutput,
    ) -> Result<LiveOutcome, LiveError> {
        let (annotator, metrics) = (&self.annotator, &self.metrics);
        live::run(config, sources, annotator, metrics, &self.stop, output)
    }
}

fn finished(run: &Run, ran: Result<LiveOutcome, LiveError>) -> Result<bool, CliError> {
    match ran {
        Ok(outcome) => Ok(outcome.errors.is_empty()),
        Err(LiveError::Output(source)) => Err(run.output_failed(source)),
        Err(error) => Err(CliError::Input(error.to_string())),
    }
}
