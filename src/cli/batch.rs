//! `annotate` on files: their records one after another.

use super::error::CliError;
use super::output::Writer;
use super::run::{Ended, Run};
use crate::reads::bam::BamRecord;
use crate::reads::fastx::RecordEnd;
use crate::reads::source::Input;
use crate::sink::bam::BamWriter;
use crate::sink::{CallWriter, Format, clean};
use crate::stream::batch::{self, FinishedChunk, Output, PipelineConfig, PipelineError};
use std::io;

/// Calls as text.
pub(super) fn text(
    run: &Run,
    inputs: Vec<Input>,
    format: Format,
    pipeline: &PipelineConfig,
) -> Result<Ended, CliError> {
    // What comes through a pipe may still be growing, and so may what goes out: somebody waits for
    // each call.
    let piped = inputs.iter().any(|input| matches!(input, Input::Stdin));
    let mut calls = run.begin(format)?;
    let output = Records::Text {
        calls: &mut calls,
        piped,
    };
    let ended = files(run, inputs, pipeline, output);
    let closed = run.end(calls, &ended);
    // Why it broke off comes before what that did to its output.
    let ended = ended?;
    closed.map(|()| ended)
}

/// Records with their calls.
pub(super) fn bam(
    run: &Run,
    input: Input,
    pipeline: &PipelineConfig,
    command: &str,
) -> Result<Ended, CliError> {
    let header = pipeline.keep.clone().unwrap_or_default();
    let mut bam = BamWriter::new(run.output.open()?, header, command, &run.tags());
    let ended = files(run, vec![input], pipeline, Records::Bam(&mut bam));
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
    inputs: Vec<Input>,
    pipeline: &PipelineConfig,
    mut output: Records<'_>,
) -> Result<Ended, CliError> {
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let stop = &run.interrupt.stop;
    let ran = batch::run(pipeline, inputs, annotator, metrics, stop, &mut output);
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

/// The calls of a file's records, as text or in the records.
enum Records<'a> {
    Text {
        calls: &'a mut CallWriter<Writer>,
        /// Somebody waits for each call.
        piped: bool,
    },
    Bam(&'a mut BamWriter<Writer>),
}

impl Output for Records<'_> {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        let chunk = finished.chunk;
        match self {
            Records::Text { calls, piped } => {
                calls.write_calls(&chunk.name, finished.calls)?;
                if *piped && !finished.calls.is_empty() {
                    calls.flush()?;
                }
                Ok(())
            }
            Records::Bam(bam) => {
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
            Records::Text { .. } => Ok(()),
            Records::Bam(bam) => bam.unannotated(record),
        }
    }
}
