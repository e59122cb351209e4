//! `annotate` on sources that are still speaking.

use super::check;
use super::error::CliError;
use super::plan::{LivePlan, Source};
use super::run::Run;
use crate::annotate::Annotator;
use crate::call::CallKind;
use crate::metrics::Metrics;
use crate::sink::{CallWriter, Format};
use crate::stream::decide;
use crate::stream::decide::{Decided, Judge, Policy};
use crate::stream::link;
use crate::stream::live::{
    self, FinishedPiece, LiveConfig, LiveError, LiveOutput, LiveSource, Records, Replies,
};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// A live run whose sources are open.
pub(super) struct Opened {
    sources: Vec<Box<dyn LiveSource>>,
    policy: Option<Policy>,
    decisions: Option<PathBuf>,
    format: Format,
    config: LiveConfig,
}

/// Opens the sources.
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
        sources.push(match source {
            Source::Link(url) => Box::new(link::open(&url).map_err(|error| match error {
                link::LinkError::Url(error) => CliError::usage(error),
                error => CliError::input(error),
            })?),
            Source::Records(input) => Box::new(Records::new(input, plan.limits)),
        });
    }
    Ok(Opened {
        sources,
        policy: plan.policy.map(|(_, policy)| policy),
        decisions: plan.decisions,
        format: plan.format,
        config: plan.config,
    })
}

/// Runs until the sources end or the run is stopped; true where all of them ended well.
pub(super) fn run(run: &Run, opened: Opened) -> Result<bool, CliError> {
    let Opened {
        sources,
        policy,
        decisions: path,
        format,
        config,
    } = opened;
    let mut calls = run.begin(format)?;
    let decisions = match &path {
        Some(path) => Some(Decisions::create(path).map_err(CliError::io(path))?),
        None => None,
    };
    let mut desk = Desk {
        calls: &mut calls,
        judge: policy.map(Judge::new),
        decisions,
        failed: None,
        replies: sources.iter().map(|s| s.replies()).collect(),
        sources: sources.iter().map(|s| s.name()).collect(),
        metrics: run.metrics.clone(),
    };
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let ran = live::run(&config, sources, annotator, metrics, &run.stop, &mut desk);
    let whole = match (ran, desk.failed.take(), &path) {
        (Err(_), Some(source), Some(path)) => return Err(CliError::io(path)(source)),
        (Err(LiveError::Output(source)), ..) => return Err(run.output.failed(source)),
        (Err(error), ..) => return Err(CliError::input(error)),
        (Ok(outcome), ..) => outcome.errors.is_empty(),
    };
    run.finish(calls)?;
    Ok(whole)
}
