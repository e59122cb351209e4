//! What the modes of `annotate` share while they run.

use super::error::CliError;
use super::output::{Target, Writer};
use crate::annotate::Annotator;
use crate::metrics::Metrics;
use crate::sink::{CallWriter, Format, ModelTag};
use crate::stream::model_tags;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A run on its way.
pub(super) struct Run {
    pub annotator: Annotator,
    pub metrics: Arc<Metrics>,
    /// Set when the run should end.
    pub stop: Arc<AtomicBool>,
    pub output: Target,
}

impl Run {
    /// What calls say of their models.
    pub(super) fn tags(&self) -> Vec<ModelTag> {
        model_tags(self.annotator.models())
    }

    /// Opens the output and writes its header.
    pub(super) fn begin(&self, format: Format) -> Result<CallWriter<Writer>, CliError> {
        let mut calls = CallWriter::new(self.output.open()?, format, self.tags());
        calls.header().map_err(|e| self.output.failed(e))?;
        Ok(calls)
    }

    /// Writes what is left and closes the output.
    pub(super) fn finish(&self, calls: CallWriter<Writer>) -> Result<(), CliError> {
        let finished = calls.finish().and_then(|mut target| target.flush());
        finished.map_err(|e| self.output.failed(e))
    }
}
