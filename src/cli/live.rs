//! `annotate` on sources that are still speaking.

use super::annotate::Run;
use super::{AnnotateArguments, CliError, OrderArgument};
use crate::annotate::Annotator;
use crate::call::CallKind;
use crate::metrics::Metrics;
use crate::reads::fastx::Limits;
use crate::reads::source::Input;
use crate::sink::CallWriter;
use crate::stream::decide;
use crate::stream::decide::{Decided, Judge, Policy};
use crate::stream::link;
use crate::stream::live::{
    self, FinishedPiece, LiveConfig, LiveError, LiveOutput, LiveSource, Records, Replies,
};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
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

/// Calls, decisions and replies.
struct Desk<'a, W: Write> {
    calls: &'a mut CallWriter<W>,
    judge: Option<Judge>,
    decisions: Option<Decisions>,
    /// What kept decisions from being written, so that it is not told as the output's.
    failed: Option<io::Error>,
    replies: Vec<Option<Arc<dyn Replies>>>,
    sources: Vec<String>,
    metrics: Arc<Metrics>,
}

struct Decisions {
    file: BufWriter<File>,
    start: std::time::Instant,
}

impl Decisions {
    fn create(path: &Path) -> io::Result<Decisions> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(
            file,
            "#read\tsource\tchannel\tdecision\trule\tseconds\tmilliseconds_from_chunk"
        )?;
        Ok(Decisions {
            file,
            start: std::time::Instant::now(),
        })
    }

    fn write(&mut self, source: &str, piece: &FinishedPiece<'_>, made: Decided) -> io::Result<()> {
        let name = String::from_utf8_lossy(piece.name);
        let rule = made
            .rule
            .map_or("default".to_string(), |rule| rule.to_string());
        writeln!(
            self.file,
            "{name}\t{source}\t{}\t{}\t{rule}\t{:.3}\t{:.3}",
            piece.channel,
            made.decision,
            self.start.elapsed().as_secs_f64(),
            piece.received.elapsed().as_secs_f64() * 1000.0,
        )
    }
}

impl<W: Write> LiveOutput for Desk<'_, W> {
    fn piece(&mut self, piece: &FinishedPiece<'_>) -> io::Result<()> {
        self.calls.write_calls(piece.name, piece.calls)?;
        let replies = self.replies[piece.source].as_deref();
        if let Some(replies) = replies {
            for call in piece.calls {
                replies.call(piece.channel, piece.read, call);
            }
        }
        let decided = self.judge.as_mut().and_then(|judge| judge.piece(piece));
        if let Some(decided) = decided {
            if let Some(replies) = replies {
                decide::reply(replies, piece, decided);
            }
            let eject = decided.decision == decide::Decision::Eject;
            self.metrics.decided(eject, piece.received);
            if let Some(decisions) = &mut self.decisions {
                let written = decisions.write(&self.sources[piece.source], piece, decided);
                return self.decided(written);
            }
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        self.calls.flush()?;
        match &mut self.decisions {
            Some(decisions) => {
                let flushed = decisions.file.flush();
                self.decided(flushed)
            }
            None => Ok(()),
        }
    }
}

impl<W: Write> Desk<'_, W> {
    fn decided(&mut self, written: io::Result<()>) -> io::Result<()> {
        written.map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
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
    let decisions = match &arguments.decisions {
        Some(path) => Some(Decisions::create(path).map_err(CliError::io(path))?),
        None => None,
    };
    let mut desk = Desk {
        calls,
        judge: policy.map(Judge::new),
        decisions,
        failed: None,
        replies: sources.iter().map(|s| s.replies()).collect(),
        sources: sources.iter().map(|s| s.name()).collect(),
        metrics: run.metrics.clone(),
    };
    let ran = live::run(
        &config,
        sources,
        &run.annotator,
        &run.metrics,
        &run.stop,
        &mut desk,
    );
    match (ran, desk.failed.take(), &arguments.decisions) {
        (Err(_), Some(source), Some(path)) => Err(CliError::io(path)(source)),
        (Err(LiveError::Output(source)), ..) => Err(run.output_failed(source)),
        (Err(error), ..) => Err(CliError::Input(error.to_string())),
        (Ok(outcome), ..) => Ok(outcome.errors.is_empty()),
    }
}
