//! `publish`, `queue`, `work` and `collect`: what goes through a broker.

use super::annotator;
use super::arguments::annotate::AnnotateArguments;
use super::arguments::fleet::{CollectArguments, PublishArguments, QueueArguments, WorkArguments};
use super::config;
use super::error::CliError;
use super::guard::Files;
use super::interrupt::Interrupt;
use super::output::{End, Target};
use super::plan::{Mode, Plan, described};
use super::report::note;
use crate::annotate::Annotator;
use crate::fleet::{self, Answer, BrokerUrl, Collected, Filled, FleetError, Outbox, Publisher};
use crate::metrics::Metrics;
use crate::reads::fastx::Limits;
use crate::reads::source::Input;
use crate::sink::{CallWriter, Format};
use crate::stream::batch::{self, FinishedChunk, Output, PipelineConfig};
use crate::stream::model_tags;
use clap::Parser;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The longest line that may come first in an outbox.
const LINE: u64 = 1 << 20;

/// Publishes what is left of a run's output.
pub(super) fn publish(arguments: &PublishArguments, quiet: bool) -> Result<(), CliError> {
    let broker = broker(&arguments.url)?;
    let file = &arguments.file;
    let (run, source) = names(file)?;
    let settled = Arc::new(AtomicU64::new(u64::MAX));
    let publisher = Outbox::open(file, &run, &source, settled)
        .and_then(|outbox| Publisher::start(outbox, broker.clone()))
        .map_err(CliError::input)?;
    let published = publisher.finish(arguments.patience, || false);
    let published = published.map_err(|_| CliError::Reported)?;
    if !published.is_all() {
        let left = published.of - published.bytes;
        let reason = published.reason.as_deref().unwrap_or("it takes no more");
        let message = format!("{broker}: {reason}; {left} bytes are left");
        return Err(CliError::Input(message));
    }
    if published.cut > 0 {
        let (file, cut) = (file.display(), published.cut);
        log::warn!("{file}: its last {cut} bytes are no whole line, and are not published");
    }
    if !quiet {
        note(format_args!("{} bytes are in {broker}", published.bytes));
    }
    Ok(())
}

/// The run and the source of a file's lines.
fn names(file: &PathBuf) -> Result<(String, String), CliError> {
    let failed = CliError::io(file);
    let opened = File::open(file).map_err(&failed)?;
    let mut line = vec![];
    let mut start = BufReader::new(opened).take(LINE);
    start.read_until(b'\n', &mut line).map_err(&failed)?;
    let first: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
    let name = |key: &str| {
        let name = first.as_ref()?.get(key)?.as_str()?.to_owned();
        fleet::is_token(&name).then_some(name)
    };
    name("run").zip(name("source")).ok_or_else(|| {
        CliError::Input(format!(
            "{}: its first line names no run and source, as what --publish writes does",
            file.display()
        ))
    })
}

/// Puts reads into a queue.
pub(super) fn queue(arguments: &QueueArguments, quiet: bool) -> Result<(), CliError> {
    let broker = broker(&arguments.url)?;
    job(&arguments.job)?;
    let Filled {
        chunks,
        records,
        rejected,
        too_long,
    } = fleet::fill(&broker, &arguments.job, &arguments.reads, Limits::default())
        .map_err(CliError::input)?;
    if !quiet {
        note(format_args!(
            "{records} reads in {chunks} chunks, {rejected} rejected, {too_long} too long; \
             strandline collect {broker} {} waits for the answers",
            arguments.job
        ));
    }
    if too_long > 0 {
        return Err(CliError::Reported);
    }
    Ok(())
}

fn broker(url: &str) -> Result<BrokerUrl, CliError> {
    url.parse().map_err(|error| {
        let url = fleet::without_password(url);
        CliError::Usage(format!("{url}: {error}"))
    })
}

fn job(name: &str) -> Result<(), CliError> {
    if fleet::is_token(name) {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{name}: a job's name has up to 64 letters, digits, '-' and '_'"
    )))
}

/// The options of `annotate` behind `--`.
#[derive(Debug, Parser)]
#[command(name = "strandline work URL --", no_binary_name = true)]
struct Options {
    #[command(flatten)]
    annotate: AnnotateArguments,
}

/// Works on chunks of a queue.
pub(super) fn work(arguments: &WorkArguments, quiet: bool) -> Result<(), CliError> {
    let broker = broker(&arguments.url)?;
    // As on a command line of `annotate`, which a file may add to.
    let words = ["strandline", "annotate"].map(OsString::from).into_iter();
    let words = config::with_file(words.chain(arguments.options.clone()).collect())?;
    let Options { annotate } = match Options::try_parse_from(&words[2..]) {
        Ok(options) => options,
        Err(error) => {
            let message = error.render().to_string();
            return Err(CliError::usage(
                message.trim_start_matches("error: ").trim_end(),
            ));
        }
    };
    if annotate.inputs != [PathBuf::from("-")] || annotate.output.is_some() {
        let message = "a worker reads from the queue and writes its answers there: name neither \
                       inputs nor --output";
        return Err(CliError::usage(message));
    }
    let limits = annotate.max_read_len;
    let plan = Plan::new(annotate, String::new(), quiet)?;
    let watched = plan.metrics.is_some() || plan.http.is_some() || plan.status_every.is_some();
    if watched || plan.publication.is_some() || plan.report.is_some() || !plan.header {
        let message = "a worker takes none of --metrics, --http, --status-every, --publish, \
                       --report and --no-header";
        return Err(CliError::usage(message));
    }
    let Mode::Batch {
        format, pipeline, ..
    } = plan.mode
    else {
        let message = "a worker annotates whole reads as text: it takes no live option, and no BAM";
        return Err(CliError::usage(message));
    };
    if plan.models.clade.is_none() || pipeline.records.is_some() || !format.can_be_continued() {
        let message = "--clade auto, --records, bedgraph and parquet need all reads of a job, and \
                       a worker has some";
        return Err(CliError::usage(message));
    }
    let limits = Limits {
        max_read_len: limits,
        ..Limits::default()
    };
    let options = described(&plan.options, format, limits);
    let annotator = annotator::open(&plan.models, plan.options, Some(format))?;
    let models = annotator.models().iter();
    let models = models.map(|m| format!(", {}/{} {:.16}", m.name, m.version, m.hash));
    let options = options + &models.collect::<String>();
    let interrupt = Interrupt::new();
    let labels = plan.labels;
    let annotate = move |records| annotated(&annotator, &pipeline, format, &labels, records);
    let worked = fleet::work(
        &broker,
        (&options, format.name()),
        annotate,
        arguments.until_idle,
        &interrupt.stop,
    );
    let worked = worked.map_err(CliError::input)?;
    if !quiet {
        note(format_args!(
            "{} chunks answered, {} of them with an error",
            worked.chunks, worked.failed
        ));
    }
    if worked.failed > 0 {
        return Err(CliError::Reported);
    }
    Ok(())
}

/// The calls of a chunk's records.
fn annotated(
    annotator: &Annotator,
    pipeline: &PipelineConfig,
    format: Format,
    labels: &[(String, String)],
    records: Vec<u8>,
) -> Result<Answer, String> {
    let metrics = Arc::new(Metrics::new());
    let tags = model_tags(annotator.models());
    let mut lines = Lines(CallWriter::new(vec![], format, tags).labelled(labels));
    let input = Input::Reader("a chunk".into(), Box::new(Cursor::new(records)));
    // What was begun is answered: its claim would have to run out first.
    let stop = Arc::new(AtomicBool::new(false));
    let ran = batch::run(
        pipeline,
        vec![input],
        annotator,
        &metrics,
        &stop,
        &mut lines,
    );
    let outcome = ran.map_err(|error| error.to_string())?;
    if let Some(error) = outcome.input_errors.first() {
        return Err(error.to_string());
    }
    let summary = metrics.summary();
    Ok(Answer {
        lines: lines.0.finish().map_err(|error| error.to_string())?,
        records: summary.reads_out,
        rejected: summary.rejected,
    })
}

struct Lines(CallWriter<Vec<u8>>);

impl Output for Lines {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self.0.write_calls(&finished.chunk.name, finished.calls)
    }
}

/// Writes the answers to a job.
pub(super) fn collect(arguments: CollectArguments, quiet: bool) -> Result<(), CliError> {
    let broker = broker(&arguments.url)?;
    job(&arguments.job)?;
    Files::default().write(&arguments.output).check()?;
    let output = Target::new(arguments.output);
    let interrupt = Interrupt::new();
    let mut writer = output.open_text()?;
    let mut begun = false;
    let collected = fleet::collect(&broker, &arguments.job, &interrupt.stop, |format, lines| {
        if !begun {
            begun = true;
            let format: Format = format.parse().map_err(io::Error::other)?;
            let mut header = CallWriter::new(vec![], format, vec![]);
            header.header()?;
            writer.write_all(&header.finish()?)?;
        }
        writer.write_all(lines)
    });
    let stopped = interrupt.stop.load(Ordering::SeqCst);
    let end = match &collected {
        Ok(Collected { chunks, of, .. }) if chunks == of && !stopped => End::Complete,
        _ if begun => End::Incomplete,
        _ => End::Nothing,
    };
    let closed = writer.end(end);
    let collected = match collected {
        Ok(collected) => collected,
        Err(FleetError::Output(source)) => return Err(output.failed(source)),
        Err(FleetError::Away { .. }) if stopped => {
            return Err(CliError::Stopped(interrupt.exit_code()));
        }
        Err(error) => return Err(CliError::input(error)),
    };
    closed.map_err(|error| output.failed(error))?;
    if end != End::Complete {
        return Err(CliError::Stopped(interrupt.exit_code()));
    }
    if !quiet {
        note(format_args!(
            "{} reads annotated, {} rejected, in {} chunks",
            collected.records, collected.rejected, collected.chunks
        ));
    }
    if collected.too_long > 0 {
        let count = collected.too_long;
        log::error!("{count} reads were too long for the queue, and are not among these");
    }
    // As a run of `annotate` ends that found no good record.
    if collected.too_long > 0 || (collected.records == 0 && collected.rejected > 0) {
        return Err(CliError::Reported);
    }
    Ok(())
}
