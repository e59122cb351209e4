//! A live run: sources, workers and sink joined.

use super::config::LiveConfig;
use super::output::{FinishedPiece, LiveError, LiveOutcome, LiveOutput, SourceInfo};
use super::reader::Reader;
use super::slot::{Live, Slot};
use super::source::LiveSource;
use super::worker::{Worker, trial};
use crate::annotate::Annotate;
use crate::call::CallKind;
use crate::metrics::Metrics;
use crate::stream::engine::run::run_threads;
use crate::stream::engine::shared::{Setup, SourceSlots};
use crate::stream::engine::sink::Sink;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Reads all `sources` at once, annotates, sends the calls back where there is a way back, and
/// writes to `output`, on this thread. Returns when all sources have ended, or within a second of
/// `stop`.
///
/// # Errors
/// What breaks the run off. A source that fails does not.
pub fn run<A: Annotate>(
    config: &LiveConfig,
    sources: Vec<Box<dyn LiveSource>>,
    annotator: &A,
    metrics: &Arc<Metrics>,
    stop: &Arc<AtomicBool>,
    output: &mut dyn LiveOutput,
) -> Result<LiveOutcome, LiveError> {
    let threads = config.threads.max(1);
    let named = sources.iter().map(|s| (s.name(), s.counters()));
    metrics.live(named, config.deadline);
    metrics.kinds(&CallKind::NAMES, CallKind::USUAL);
    let known = sources.iter().map(|source| SourceInfo {
        name: source.name(),
        replies: source.replies(),
    });
    let known: Vec<SourceInfo> = known.collect();
    output.begin(&known);
    let slots = sources.iter().enumerate().map(|(number, source)| {
        let (slots, bases) = source.slots();
        SourceSlots {
            free: (0..slots.max(4))
                .map(|_| Slot::new(number, bases))
                .collect(),
            closing: threads,
        }
    });
    let context = annotator.context() as u64;
    let mode = Live::new(config, context, threads, sources.len());
    if let Some(mut admission) = mode.admission()
        && let Some((scored, time)) = trial(annotator)
    {
        (0..threads).for_each(|lane| admission.worked(lane, scored, time));
    }
    let setup = Setup {
        mode,
        threads,
        slots: slots.collect(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let readers = sources.into_iter();
    let readers = readers.map(|source| Reader::new(source, config.channels));
    let worker = |lane| Worker::new(annotator, lane, config);
    let ran = run_threads(setup, readers.collect(), worker, |sink| {
        write(sink, &known, output)
    });
    let ran = ran.map_err(LiveError::Thread)?;
    ran.sink.map_err(LiveError::Output)?;
    if ran.engine.thread_died() {
        return Err(LiveError::ThreadDied);
    }
    Ok(LiveOutcome {
        errors: ran.engine.mode.take_errors(),
        stopped: ran.engine.stopped_early(),
    })
}

/// Pieces written before the output is to flush, where it never has a pause.
const FLUSH: usize = 256;

/// The sink.
fn write(
    sink: &Sink<'_, Live>,
    sources: &[SourceInfo],
    output: &mut dyn LiveOutput,
) -> io::Result<()> {
    let metrics = &sink.engine.metrics;
    let mut result = Ok(());
    // When the pieces came in whose calls lie in the output's buffer: they are written when it is
    // flushed.
    let mut unflushed = Vec::with_capacity(FLUSH);
    loop {
        let waiting = sink.try_next();
        if !unflushed.is_empty() && (waiting.is_none() || unflushed.len() == FLUSH) {
            if result.is_ok() {
                result = output.pause();
            }
            metrics.flushed(&unflushed);
            unflushed.clear();
        }
        // Lines that are no calls wait for none.
        let mut idle = || {
            if result.is_ok() {
                result = output.pause();
            }
        };
        let Some(slot) = waiting.or_else(|| sink.next_or(&mut idle)) else {
            break;
        };
        // Once the run is halted, slots come that no worker has looked at.
        if result.is_ok() && !sink.engine.halted() {
            result = write_slot(metrics, sources, &slot, output);
        }
        if result.is_err() {
            sink.engine.halt();
        }
        if !slot.piece.codes.is_empty() {
            unflushed.push(slot.piece.received);
        }
        sink.give_back(slot);
    }
    result
}

fn write_slot(
    metrics: &Metrics,
    sources: &[SourceInfo],
    slot: &Slot,
    output: &mut dyn LiveOutput,
) -> io::Result<()> {
    if slot.closes || slot.silent {
        return Ok(());
    }
    if let Some(reason) = &slot.rejected {
        output.rejected(reason);
    }
    if slot.id == 0 {
        // A record that never became a read.
        return Ok(());
    }
    output.piece(&FinishedPiece {
        source: slot.source,
        channel: slot.piece.channel,
        read: slot.piece.read,
        id: slot.id,
        name: &slot.piece.name,
        first: slot.piece.first,
        calls: &slot.calls,
        known_to: slot.known_to,
        end: slot.piece.end,
        shed: slot.shed,
        out: slot.out,
        received: slot.piece.received,
    })?;
    // Nobody is told a call that the output does not have.
    if let Some(replies) = &sources[slot.source].replies {
        for call in &slot.calls {
            replies.call(slot.piece.channel, slot.piece.read, call);
        }
    }
    metrics.calls(slot.calls.iter().map(|call| call.kind as usize));
    Ok(())
}
