//! What the modes of `annotate` share while they run.

use super::error::CliError;
use super::events::Events;
use super::interrupt::Interrupt;
use super::output::{End, Target, Writer};
#[cfg(feature = "fleet")]
use super::publication::Publication;
use crate::annotate::Annotator;
use crate::metrics::Metrics;
use crate::sink::{CallWriter, Format, ModelTag, Watch};
use crate::stream::model_tags;
use crate::stream::observe::Observed;
use std::sync::Arc;
#[cfg(feature = "fleet")]
use std::sync::atomic::AtomicU64;

/// A run on its way.
pub(super) struct Run {
    pub annotator: Annotator,
    pub metrics: Arc<Metrics>,
    pub interrupt: Interrupt,
    pub output: Target,
    /// Text begins with its header.
    pub header: bool,
    /// Fields of each JSON object.
    pub labels: Vec<(String, String)>,
    /// Sees the calls, for the live page.
    pub watch: Option<Watch>,
    /// Lines of a published output that are no calls.
    pub events: Option<Events>,
    /// Where the output's lines go besides.
    #[cfg(feature = "fleet")]
    pub publication: Option<Publication>,
    /// Sees the reads, for the report.
    pub observer: Option<Observed>,
}

impl Run {
    /// What calls say of their models.
    pub(super) fn tags(&self) -> Vec<ModelTag> {
        model_tags(self.annotator.models())
    }

    /// Opens the output and writes its header, if it is to have one.
    pub(super) fn begin(&self, format: Format) -> Result<CallWriter<Writer>, CliError> {
        let writer = self.output.open_text()?;
        #[cfg(feature = "fleet")]
        if let Some(publication) = &self.publication {
            publication.start(writer.path(), Arc::new(AtomicU64::new(u64::MAX)))?;
        }
        let mut calls = CallWriter::new(writer, format, self.tags())
            .labelled(&self.labels)
            .noted(self.events.as_ref().map(Events::notes))
            .watched(self.watch.clone());
        if self.header {
            calls.header().map_err(|e| self.output.failed(e))?;
        }
        Ok(calls)
    }

    /// Writes what is left and ends the output, of a run that ended so.
    pub(super) fn end(
        &self,
        calls: CallWriter<Writer>,
        ended: &Result<Ended, CliError>,
    ) -> Result<(), CliError> {
        if calls.format() == Format::Bedgraph && calls.left_out() > 0 {
            let (count, output) = (calls.left_out(), &self.output);
            log::warn!("{output}: {count} calls left out, where others of greater score overlap");
        }
        if let Some(events) = &self.events
            && self.kind(ended) != End::Nothing
        {
            events.status(&self.metrics.summary(), true);
        }
        let finished = calls
            .finish()
            .and_then(|target| target.end(self.kind(ended)));
        finished.map_err(|e| self.output.failed(e))
    }

    /// What becomes of the output of a run that ended so. Where nothing was read, an earlier
    /// result is all there is.
    pub(super) fn kind(&self, ended: &Result<Ended, CliError>) -> End {
        match ended {
            Ok(Ended::Whole) => End::Complete,
            _ if self.metrics.summary().reads_in == 0 => End::Nothing,
            _ => End::Incomplete,
        }
    }
}

/// How a run ended that nothing broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of its input was read.
    Whole,
    /// Some input could not be read, or not to its end; that was logged.
    Lacking,
    /// By a signal, before the end of its input.
    Stopped,
}
