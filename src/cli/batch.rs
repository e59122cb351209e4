//! `annotate` on files: their records one after another.

use super::error::CliError;
use super::output::Writer;
use super::plan::Reads;
use super::run::{Ended, Run};
use crate::reads::bam::BamRecord;
use crate::reads::fastx::RecordEnd;
use crate::reads::shard::Section;
use crate::reads::source::Input;
use crate::sink::bam::BamWriter;
use crate::sink::{CallWriter, Format, clean};
use crate::stream::batch::{self, FinishedChunk, Output, PipelineConfig, PipelineError};
use crate::stream::observe::Observing;
use std::io;

/// Records that are to be read.
pub(super) enum Records {
    Inputs(Vec<Input>),
    Sections(Vec<Section>),
}

/// Finds a shard's records.
///
/// # Errors
/// For a file where they cannot be looked for.
pub(super) fn open(reads: Reads, pipeline: &PipelineConfig) -> Result<Records, CliError> {
    Ok(match reads {
        Reads::Inputs(inputs) => Records::Inputs(inputs),
        Reads::Shard(shard, files) => {
            let sections = shard.sections(&files, pipeline.limits);
            Records::Sections(sections.map_err(CliError::input)?)
        }
    })
}

/// Calls alone.
pub(super) fn calls(
    run: &Run,
    records: Records,
    format: Format,
    pipeline: &PipelineConfig,
) -> Result<Ended, CliError> {
    // What comes through a pipe may still be growing, and so may what goes out: somebody waits for
    // each call.
    let piped = match &records {
        Records::Inputs(inputs) => inputs.iter().any(|input| matches!(input, Input::Stdin)),
        Records::Sections(_) => false,
    };
    let mut calls = run.begin(format)?;
    let output = Calls::Alone {
        calls: &mut calls,
        piped,
    };
    let ended = files(run, records, pipeline, output);
    let closed = run.end(calls, &ended);
    // Why it broke off comes before what that did to its output.
    let ended = ended?;
    closed.map(|()| ended)
}

/// Records with their calls.
pub(super) fn bam(
    run: &Run,
    records: Records,
    pipeline: &PipelineConfig,
    command: &str,
) -> Result<Ended, CliError> {
    let header = pipeline.keep.clone().unwrap_or_default();
    let mut bam = BamWriter::new(run.output.open()?, header, command, &run.tags());
    let ended = files(run, records, pipeline, Calls::Bam(&mut bam));
    let whole = matches!(ended, Ok(Ended::Whole));
    if !whole {
        log::warn!("{}: not whole, so it gets no end block", run.output);
    }
    // Also after an error: what was counted as written is then there.
    let finished = bam.finish(whole);
    let closed = finished.and_then(|target| target.end(run.kind(&ended)));
    let ended = ended?;
    closed.map(|()| ended).map_err(|e| run.output.failed(e))
}

fn files(
    run: &Run,
    records: Records,
    pipeline: &PipelineConfig,
    mut output: Calls<'_>,
) -> Result<Ended, CliError> {
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let stop = &run.interrupt.stop;
    let output = &mut Observing::new(&mut output, run.observer.clone());
    let ran = match records {
        Records::Inputs(inputs) => batch::run(pipeline, inputs, annotator, metrics, stop, output),
        Records::Sections(sections) => {
            batch::run_sections(pipeline, sections, annotator, metrics, stop, output)
        }
    };
    let outcome = ran.map_err(|error| match error {
        PipelineError::Output(source) => run.output.failed(source),
        error => CliError::input(error),
    })?;
    Ok(if outcome.stopped {
        Ended::Stopped
    } else if outcome.input_errors.is_empty() {
        Ended::Whole
    } else {
        Ended::Lacking
    })
}

/// The calls of a file's records, alone or in the records.
enum Calls<'a> {
    Alone {
        calls: &'a mut CallWriter<Writer>,
        /// Somebody waits for each call.
        piped: bool,
    },
    Bam(&'a mut BamWriter<Writer>),
}

impl Output for Calls<'_> {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        let chunk = finished.chunk;
        match self {
            Calls::Alone { calls, piped } => {
                calls.write_calls(&chunk.name, finished.calls)?;
                if *piped && !finished.calls.is_empty() {
                    calls.flush()?;
                }
                Ok(())
            }
            Calls::Bam(bam) => {
                bam.calls(finished.calls);
                match &chunk.end {
                    None => Ok(()),
                    Some(RecordEnd::Complete) => match BamRecord::parse(&chunk.bam) {
                        Some(record) => bam.annotated(record.fields, record.tags()),
                        None => {
                            let name = clean(&chunk.name);
                            let message = format!("read {name}: its record is cut short");
                            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
                        }
                    },
                    Some(RecordEnd::Rejected(_)) => {
                        bam.forget();
                        Ok(())
                    }
                }
            }
        }
    }

    fn unannotated(&mut self, record: &[u8]) -> io::Result<()> {
        match self {
            Calls::Alone { .. } => Ok(()),
            Calls::Bam(bam) => bam.unannotated(record),
        }
    }
}
