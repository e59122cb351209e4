//! The thread that reads inputs.

use super::config::PipelineConfig;
use super::slot::{Batch, InputEnd, send};
use crate::reads::bam::BamHeader;
use crate::reads::fastx::{Limits, Reader, RecordEnd, Step};
use crate::reads::growing::Growing;
use crate::reads::shard::Section;
use crate::reads::source::{Input, InputError};
use crate::stream::engine::port::Port;
use crate::stream::engine::run::{Ended, Source};
use std::ops::Range;
use std::sync::Arc;

/// Inputs, one after another.
pub(super) struct Inputs {
    inputs: Kind,
    limits: Limits,
    keep: Option<BamHeader>,
    /// Records that are wanted, of those that are still to be read.
    only: Option<Range<u64>>,
}

/// Where inputs come from.
pub(super) enum Kind {
    /// All are known.
    Known(std::vec::IntoIter<Input>),
    /// So much of each.
    Sections(std::vec::IntoIter<Section>),
    /// The next one is asked for when the records of the one before have been written.
    OneByOne(Box<dyn Iterator<Item = Growing> + Send>),
}

/// An input to be read.
enum Next {
    Known(Input),
    Section(Section),
    Growing(Box<Growing>),
}

impl Inputs {
    pub(super) fn new(inputs: Kind, config: &PipelineConfig) -> Inputs {
        Inputs {
            inputs,
            limits: config.limits,
            keep: config.keep.clone(),
            only: config.records.clone(),
        }
    }

    /// The next input, if there is one; `Err` where the run is to stop.
    fn next(&mut self, port: &Port<Batch>) -> Result<Option<Next>, Stopped> {
        match &mut self.inputs {
            Kind::Known(inputs) => match inputs.next() {
                Some(_) if port.engine.stopping() => Err(Stopped),
                next => Ok(next.map(Next::Known)),
            },
            Kind::Sections(sections) => match sections.next() {
                Some(_) if port.engine.stopping() => Err(Stopped),
                next => Ok(next.map(Next::Section)),
            },
            // It may be waited for, and a stop ends the wait.
            Kind::OneByOne(inputs) => match port.blocking(|| inputs.next()) {
                Some(next) if next.is_some() || !port.engine.stopping() => {
                    Ok(next.map(|next| Next::Growing(Box::new(next))))
                }
                _ => Err(Stopped),
            },
        }
    }

    /// True where the next input depends on what came of the one before.
    fn waits(&self) -> bool {
        matches!(self.inputs, Kind::OneByOne(_))
    }

    /// Opens an input whose first record is the run's `records`th.
    fn open(
        &self,
        port: &Port<Batch>,
        input: Next,
        records: u64,
    ) -> Result<Result<Reader, InputError>, Stopped> {
        let input = match input {
            Next::Known(input) => input,
            Next::Section(section) => {
                let gate = |bytes| port.gated(bytes);
                return Ok(section.open(self.limits, records, self.keep.as_ref(), gate));
            }
            Next::Growing(growing) => {
                return Ok(Reader::go_on(*growing, self.limits, records));
            }
        };
        let file: Arc<str> = input.name().into();
        let opened = port.blocking(|| input.open()).ok_or(Stopped)?;
        Ok(opened.and_then(|bytes| {
            let mut reader = Reader::new(file, port.gated(bytes), self.limits, records)?;
            if let Some(range) = &self.only {
                reader.only(range.clone());
            }
            match &self.keep {
                Some(header) => reader.keep(header.clone()).map(|()| reader),
                None => Ok(reader),
            }
        }))
    }

    /// Reads an input whose first record is the run's `records`th.
    fn read_input(
        &mut self,
        port: &Port<Batch>,
        input: Next,
        records: &mut u64,
    ) -> Result<InputEnd, Stopped> {
        match self.open(port, input, *records)? {
            Ok(mut reader) => {
                let end = read_records(port, &mut reader);
                *records += reader.records();
                if let Some(range) = &mut self.only {
                    let read = reader.all_records();
                    *range = range.start.saturating_sub(read)..range.end.saturating_sub(read);
                }
                end
            }
            Err(_) if port.engine.stopping() => Err(Stopped),
            Err(error) => Ok(failed(port, error)),
        }
    }
}

/// The run is to stop.
struct Stopped;

impl Source<Batch> for Inputs {
    fn read(&mut self, port: &Port<Batch>) -> Ended {
        let mut records = 0;
        loop {
            if self.only.as_ref().is_some_and(|range| range.end == 0) {
                return Ended::Complete;
            }
            let input = match self.next(port) {
                Ok(Some(input)) => input,
                Ok(None) => return Ended::Complete,
                Err(Stopped) => return Ended::Early,
            };
            let Ok(end) = self.read_input(port, input, &mut records) else {
                return Ended::Early;
            };
            if self.waits() && end_input(port, end).is_err() {
                return Ended::Early;
            }
        }
    }
}

fn failed(port: &Port<Batch>, error: InputError) -> InputEnd {
    port.engine.mode.report(error);
    InputEnd::Failed
}

/// Waits until an input's records have been written, says so to the sink, and waits until it has
/// dealt with that. What was read before a stop is still written.
fn end_input(port: &Port<Batch>, end: InputEnd) -> Result<(), Stopped> {
    if !port.all_written() {
        return Err(Stopped);
    }
    let slot = port.engine.free_slot_at_end(port.source);
    let mut slot = slot.ok_or(Stopped)?;
    slot.input_end = Some(end);
    port.engine.send_to_sink(slot);
    if port.all_written() {
        Ok(())
    } else {
        Err(Stopped)
    }
}

fn read_records(port: &Port<Batch>, reader: &mut Reader) -> Result<InputEnd, Stopped> {
    let engine = &*port.engine;
    loop {
        let mut slot = port.free_slot().ok_or(Stopped)?;
        let step = reader.next_chunk(&mut slot.chunk);
        // A record that was cut off by the stop itself was never read in.
        if port.is_abandoned() || (engine.stopping() && !matches!(step, Ok(Step::Chunk))) {
            return Err(Stopped);
        }
        match step {
            Ok(Step::Chunk) => {
                let chunk = &slot.chunk;
                if engine.stopping() && matches!(chunk.end, Some(RecordEnd::Rejected(_))) {
                    return Err(Stopped);
                }
                if chunk.first {
                    engine.metrics.read_in();
                }
                send(engine, slot);
            }
            Ok(Step::Rejected(reject)) => {
                let chunk = &mut slot.chunk;
                chunk.record = reject.record;
                chunk.start = 0;
                chunk.name.clear();
                chunk.codes.clear();
                chunk.first = true;
                chunk.end = Some(RecordEnd::Rejected(reject));
                engine.metrics.read_in();
                engine.send_to_sink(slot);
            }
            Ok(Step::End) => {
                engine.return_unused(slot);
                if let Some(error) = reader.all_rejected() {
                    engine.mode.report(error);
                }
                return Ok(InputEnd::Complete);
            }
            Err(error) => {
                let end = failed(port, error);
                engine.return_unused(slot);
                return Ok(end);
            }
        }
    }
}
