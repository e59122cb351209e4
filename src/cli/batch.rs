//! `annotate` on files: their records one after another.

use super::error::CliError;
use super::output::Writer;
use super::run::Run;
use crate::reads::bam::BamRecord;
use crate::reads::fastx::RecordEnd;
use crate::reads::source::Input;
use crate::sink::bam::BamWriter;
use crate::sink::{CallWriter, Format, clean};
use crate::stream::batch::{self, FinishedChunk, Outcome, Output, PipelineConfig, PipelineError};
use std::io;

/// Calls as text; true where everything was read.
pub(super) fn text(
    run: &Run,
    inputs: Vec<Input>,
    format: Format,
    pipeline: &PipelineConfig,
) -> Result<bool, CliError> {
    // What comes through a pipe may still be growing, and so may what goes out: somebody waits for
    // each call.
    let piped = inputs.iter().any(|input| matches!(input, Input::Stdin));
    let mut calls = run.begin(format)?;
    let output = Records::Text {
        calls: &mut calls,
        piped,
    };
    let outcome = files(run, inputs, pipeline, output)?;
    run.finish(calls)?;
    Ok(outcome.input_errors.is_empty())
}

/// Records with their calls; true where everything was read.
pub(super) fn bam(
    run: &Run,
    input: Input,
    pipeline: &PipelineConfig,
    command: &str,
) -> Result<bool, CliError> {
    let header = pipeline.keep.clone().unwrap_or_default();
    let mut bam = BamWriter::new(run.output.open()?, header, command, &run.tags());
    let outcome = files(run, vec![input], pipeline, Records::Bam(&mut bam));
    let whole = |o: &Outcome| o.input_errors.is_empty();
    let ends = outcome.as_ref().is_ok_and(|o| whole(o) && !o.stopped);
    // Also after an error: what was counted as written is then there.
    let finished = bam.finish(ends);
    if !ends {
        log::warn!("{}: not whole, so it gets no end block", run.output);
    }
    let whole = whole(&outcome?);
    finished.map_err(|e| run.output.failed(e))?;
    Ok(whole)
}

fn files(
    run: &Run,
    inputs: Vec<Input>,
    pipeline: &PipelineConfig,
    mut output: Records<'_>,
) -> Result<Outcome, CliError> {
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let ran = batch::run(pipeline, inputs, annotator, metrics, &run.stop, &mut output);
    ran.map_err(|error| match error {
        PipelineError::Output(source) => run.output.failed(source),
        error => CliError::input(error),
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
