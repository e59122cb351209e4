//! A batch run: source, workers and sink joined.

use super::config::PipelineConfig;
use super::order::Sequencer;
use super::output::{FinishedChunk, Outcome, Output, PipelineError};
use super::slot::{Batch, InputEnd, Slot};
use super::source::{Inputs, Kind};
use super::worker::Worker;
use crate::annotate::Annotate;
use crate::call::CallKind;
use crate::metrics::Metrics;
use crate::reads::fastx::RecordEnd;
use crate::reads::growing::Growing;
use crate::reads::shard::Section;
use crate::reads::source::Input;
use crate::stream::engine::run::run_threads;
use crate::stream::engine::shared::{Setup, SourceSlots};
use crate::stream::engine::sink::Sink;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Reads `inputs` one after another, annotates their records and writes the calls to `output`, on
/// this thread. Returns at the end of the last input, or soon after `stop` is set: what was read by
/// then is annotated first, except for a record of several chunks, which counts as rejected.
///
/// # Errors
/// What breaks the run off: the output, or a rejected record in a strict run. A bad input does not.
pub fn run<A: Annotate>(
    config: &PipelineConfig,
    inputs: Vec<Input>,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn Output,
) -> Result<Outcome, PipelineError> {
    let inputs = Inputs::new(Kind::Known(inputs.into_iter()), config);
    start(config, inputs, annotator, metrics, stop, output)
}

/// The same for what a shard reads of some files.
///
/// # Errors
/// As [`run`].
pub fn run_sections<A: Annotate>(
    config: &PipelineConfig,
    sections: Vec<Section>,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn Output,
) -> Result<Outcome, PipelineError> {
    let inputs = Inputs::new(Kind::Sections(sections.into_iter()), config);
    start(config, inputs, annotator, metrics, stop, output)
}

/// The same for inputs that turn up while the run goes on, with the same threads for all. `inputs`
/// may wait for the next one, and is asked for it when everything of the one before was written and
/// [`Output::input_written`] has returned; where it waits when the run is stopped, the run ends
/// without it.
///
/// # Errors
/// As [`run`].
pub fn run_one_by_one<A: Annotate>(
    config: &PipelineConfig,
    inputs: Box<dyn Iterator<Item = Growing> + Send>,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn Output,
) -> Result<Outcome, PipelineError> {
    let inputs = Inputs::new(Kind::OneByOne(inputs), config);
    start(config, inputs, annotator, metrics, stop, output)
}

fn start<A: Annotate>(
    config: &PipelineConfig,
    inputs: Inputs,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn Output,
) -> Result<Outcome, PipelineError> {
    metrics.kinds(&CallKind::NAMES, CallKind::USUAL);
    let pool = config.pool.max(1);
    let bases = config.limits.chunk_bases.max(1);
    let setup = Setup {
        mode: Batch::new(),
        threads: config.threads.max(1),
        slots: vec![SourceSlots {
            free: (0..pool).map(|_| Slot::new(bases)).collect(),
            closing: 1,
        }],
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let worker = |_| Worker::new(annotator);
    let ran = run_threads(setup, vec![inputs], worker, |sink| {
        write(config, sink, Sequencer::new(config.order, pool), output)
    });
    let ran = ran.map_err(PipelineError::Thread)?;
    ran.sink?;
    if ran.engine.thread_died() {
        return Err(PipelineError::ThreadDied);
    }
    Ok(Outcome {
        input_errors: ran.engine.mode.take_errors(),
        stopped: ran.engine.stopped_early(),
    })
}

/// The sink: puts records in order, writes them and gives their slots back.
fn write(
    config: &PipelineConfig,
    sink: &Sink<'_, Batch>,
    mut sequencer: Sequencer,
    output: &mut dyn Output,
) -> Result<(), PipelineError> {
    let mut result = Ok(());
    while let Some(slot) = sink.next() {
        if let Some(end) = slot.input_end {
            // Nothing else is on its way.
            if result.is_ok() && !sink.engine.halted() {
                let written = output.input_written(end == InputEnd::Complete);
                result = written.map_err(PipelineError::Output);
            }
            if result.is_err() {
                sink.engine.halt();
            }
            sink.give_back(slot);
            continue;
        }
        sequencer.take(slot);
        while let Some(slot) = sequencer.next() {
            // Once the run is halted, slots come that no worker has looked at.
            if result.is_ok() && !sink.engine.halted() {
                result = write_slot(config, sink, &slot, output);
                if result.is_err() {
                    sink.engine.halt();
                }
            } else {
                count_lost(sink, &slot);
            }
            sink.give_back(slot);
        }
    }
    for slot in sequencer.drain() {
        count_lost(sink, &slot);
        sink.give_back(slot);
    }
    result
}

fn write_slot(
    config: &PipelineConfig,
    sink: &Sink<'_, Batch>,
    slot: &Slot,
    output: &mut dyn Output,
) -> Result<(), PipelineError> {
    let chunk = &slot.chunk;
    let metrics = &sink.engine.metrics;
    let finished = FinishedChunk {
        chunk,
        calls: &slot.calls,
    };
    if let Some(RecordEnd::Rejected(reject)) = &chunk.end {
        let passes_over = reject.reason.passes_over();
        if passes_over {
            metrics.read_passed();
        } else {
            metrics.read_rejected();
        }
        if !chunk.first {
            output.chunk(&finished).map_err(PipelineError::Output)?;
        }
        if !chunk.bam.is_empty() {
            let passed = output.unannotated(&chunk.bam);
            passed.map_err(PipelineError::Output)?;
        }
        if config.strict && !passes_over {
            return Err(PipelineError::Strict(reject.clone()));
        }
        output.rejected(reject);
        return Ok(());
    }
    if let Err(e) = output.chunk(&finished) {
        count_lost(sink, slot);
        return Err(PipelineError::Output(e));
    }
    let kinds = slot.calls.iter().map(|call| call.kind as usize);
    metrics.written(chunk.codes.len() as u64, kinds, chunk.received);
    if chunk.end.is_some() {
        metrics.read_out();
    }
    Ok(())
}

/// A record that was read and will not be written.
fn count_lost(sink: &Sink<'_, Batch>, slot: &Slot) {
    if slot.chunk.end.is_some() {
        sink.engine.metrics.read_rejected();
    }
}
