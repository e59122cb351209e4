//! Source, workers and sink joined: one thread reads, N annotate, the caller's writes.
//!
//! ```text
//!            free slots (a fixed pool)
//!      +------------<-----------<-----------<--------+
//!      v                                             |
//!   source --> lane 0 --> worker 0 --> finished --> sink (the caller's thread)
//!         \--> lane 1 --> worker 1 --/
//! ```
//!
//! A slot holds a chunk and its calls. The pool is made once, and every queue has room for all of
//! it, so nothing but the wait for a free slot holds the source back, and memory is bounded by the
//! configuration. The chunks of one record go down one lane; a record of one chunk goes down the
//! lane with the fewest bases in it. Idle threads sleep.
//!
//! **No record disappears.** Each one read in is written, or reported as rejected: bad input, a
//! worker that failed, or a run that was stopped inside it. BAM records that are no read of their
//! own, or lack bases, are passed over and counted apart.
//!
//! **No deadlock**, since the source reads one record at a time. In input order the oldest record
//! needs only slots that are its own or that its chunks give back. When records are written as they
//! finish, one that holds half of the pool takes the floor and streams; every other record then on
//! its way is read whole already.

mod order;
pub(crate) mod queue;
mod source;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use worker::panic_text;

use crate::annotate::{Annotate, Annotation};
use crate::call::{Call, CallKind};
use crate::metrics::Metrics;
use crate::reads::fastx::{BamHeader, Chunk, Limits, RecordEnd, Reject};
use crate::reads::source::{Input, InputError};
use order::Sequencer;
use queue::{Shared, Slot};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often a waiting sink looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The order in which records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were read: the same output whatever the number of threads.
    #[default]
    Input,
    /// As they finish. Calls of one record stay together.
    Ready,
}

/// How a pipeline is built.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Workers; at least 1.
    pub threads: usize,
    /// The order of the output.
    pub order: Order,
    /// Limits of the parser.
    pub limits: Limits,
    /// Stop at the first rejected record.
    pub strict: bool,
    /// Chunks in memory at a time, at least 1. They take `pool × limits.chunk_bases` bytes, and
    /// their calls.
    pub pool: usize,
    /// Keep BAM records, for an output that writes them on; the one input must be BAM, and its
    /// header goes here.
    pub keep: Option<BamHeader>,
}

impl Default for PipelineConfig {
    /// A worker a core, input order, lenient, 16 chunks and another 8 a worker.
    fn default() -> PipelineConfig {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        PipelineConfig {
            threads,
            order: Order::Input,
            limits: Limits::default(),
            strict: false,
            pool: 16 + 8 * threads,
            keep: None,
        }
    }
}

/// A chunk with its calls, about to be written.
#[derive(Debug, Clone, Copy)]
pub struct FinishedChunk<'a> {
    /// The chunk. Calls near its end come with the record's next one.
    pub chunk: &'a Chunk,
    /// The calls, in the order in which they were made.
    pub calls: &'a [Call],
}

/// Where a pipeline writes. Every `FnMut(&FinishedChunk) -> io::Result<()>` is one.
pub trait Output {
    /// Takes a chunk. The chunks of a record come in order, with none of another record between
    /// them; the last has an `end`, and where that is a rejection, no calls.
    ///
    /// # Errors
    /// Stop the run.
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()>;

    /// Learns of a record that was rejected or passed over, after its chunks if there were any.
    /// Logs it unless overridden.
    fn rejected(&mut self, reject: &Reject) {
        reject.log();
    }

    /// Takes a BAM record that is kept and was rejected or passed over, after its chunks if there
    /// were any.
    ///
    /// # Errors
    /// Stop the run.
    fn unannotated(&mut self, _record: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&FinishedChunk<'_>) -> io::Result<()>> Output for F {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self(finished)
    }
}

/// How a run ended that nothing broke off.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Inputs that could not be read to their end, each logged as an error when it happened. The
    /// others were read.
    pub input_errors: Vec<InputError>,
    /// The run was stopped before the end of its inputs.
    pub stopped: bool,
}

/// What breaks a run off. The records then on their way count as rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The output took no more.
    #[error("cannot write: {0}")]
    Output(#[source] io::Error),
    /// A rejected record in a strict run.
    #[error("{0}")]
    Strict(Box<Reject>),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A thread died where none can; a bug.
    #[error("internal error: a thread of the pipeline died")]
    ThreadDied,
}

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
    let threads = config.threads.max(1);
    metrics.kinds(&CallKind::NAMES, CallKind::PROBABILITIES);
    let (shared, bells) = Shared::new(config, threads, metrics.clone(), stop.clone());
    let shared = Arc::new(shared);
    source::spawn(shared.clone(), bells.source, inputs, config).map_err(PipelineError::Thread)?;
    let written = std::thread::scope(|scope| {
        // Also when `output` panics: the scope waits for the workers, and they for the source.
        let _halt = queue::HaltOnDrop(&shared);
        for (lane, bell) in bells.lanes.into_iter().enumerate() {
            let shared = &*shared;
            std::thread::Builder::new()
                .name(format!("worker {lane}"))
                .spawn_scoped(scope, move || worker::work(shared, lane, &bell, annotator))
                .map_err(|e| {
                    shared.lanes_without_worker(threads - lane);
                    PipelineError::Thread(e)
                })?;
        }
        write(config, &shared, &bells.sink, output)
    });
    let outcome = Outcome {
        input_errors: std::mem::take(
            &mut *shared.errors.lock().unwrap_or_else(PoisonError::into_inner),
        ),
        stopped: shared.stopped_early(),
    };
    written?;
    if shared.thread_died() {
        return Err(PipelineError::ThreadDied);
    }
    Ok(outcome)
}

/// The sink: puts records in order, writes them and gives their slots back.
fn write(
    config: &PipelineConfig,
    shared: &Shared,
    bell: &queue::Bell,
    output: &mut dyn Output,
) -> Result<(), PipelineError> {
    let mut sequencer = Sequencer::new(config.order, shared.pool);
    let mut result = Ok(());
    while let Some(slot) = shared.next_finished(bell, LOOK) {
        sequencer.take(slot);
        while let Some(slot) = sequencer.next() {
            if result.is_ok() {
                result = write_slot(config, shared, &slot, output);
                if result.is_err() {
                    shared.halt();
                }
            } else {
                count_lost(shared, &slot);
            }
            shared.give_back(slot);
        }
    }
    for slot in sequencer.drain() {
        count_lost(shared, &slot);
        shared.give_back(slot);
    }
    result
}

fn write_slot(
    config: &PipelineConfig,
    shared: &Shared,
    slot: &Slot,
    output: &mut dyn Output,
) -> Result<(), PipelineError> {
    let chunk = &slot.chunk;
    let metrics = &shared.metrics;
    let finished = FinishedChunk {
        chunk,
        calls: &slot.calls,
    };
    if let Some(RecordEnd::Rejected(reject)) = &chunk.end {
        let passes_over = reject.reason.passes_over();
        match passes_over {
            true => metrics.read_passed(),
            false => metrics.read_rejected(),
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
        count_lost(shared, slot);
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
fn count_lost(shared: &Shared, slot: &Slot) {
    if slot.chunk.end.is_some() {
        shared.metrics.read_rejected();
    }
}
