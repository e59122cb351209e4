//! Starts the threads, runs the sink, and ends.

use super::guard::{Ending, HaltOnDrop, caught};
use super::mode::Mode;
use super::port::Port;
use super::shared::{Engine, Setup};
use super::sink::Sink;
use crossbeam::sync::Parker;
use std::io;
use std::sync::Arc;
use std::thread::Builder;

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was no more.
    Complete,
    /// It was stopped before its end.
    Early,
}

/// What runs on a thread of its own and fills slots.
pub(crate) trait Source<M: Mode>: Send + 'static {
    /// Fills slots and sends them until there is no more, or no more is to be read.
    fn read(&mut self, port: &Port<M>) -> Ended;

    /// Called after its end was sent on its way. A run waits a moment for it.
    fn close(&mut self, _port: &Port<M>) {}
}

/// What runs on a thread of its own and works on the slots of a lane.
pub(crate) trait Worker<M: Mode> {
    /// Works on the next slot of the lane, which then goes to the sink.
    fn work(&mut self, engine: &Engine<M>, slot: &mut M::Slot);
}

/// A run that has ended.
pub(crate) struct Ran<M: Mode, R> {
    /// An abandoned source may still hold it too.
    pub(crate) engine: Arc<Engine<M>>,
    /// What the sink gave.
    pub(crate) sink: R,
}

/// One worker for each processor.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `sources` on threads of their own, a worker that `worker` makes for each lane, and `sink`
/// on this thread, until the sources have ended and the sink was given everything.
///
/// # Errors
/// Where a thread could not be started. The run is broken off then, and the sink sees what was on
/// its way.
pub(crate) fn run_threads<M, S, W, R>(
    setup: Setup<M>,
    sources: Vec<S>,
    worker: impl Fn(usize) -> W + Sync,
    sink: impl FnOnce(&Sink<'_, M>) -> R,
) -> io::Result<Ran<M, R>>
where
    M: Mode,
    S: Source<M>,
    W: Worker<M>,
{
    let (engine, parkers) = Engine::new(setup);
    let engine = Arc::new(engine);
    let mut failed = None;
    for (number, (source, parker)) in sources.into_iter().zip(parkers.sources).enumerate() {
        let port = Port {
            engine: engine.clone(),
            source: number,
            parker,
        };
        if let Err(error) = start_source(source, port, failed.is_some()) {
            engine.halt();
            engine.end_source(number, true);
            failed.get_or_insert(error);
        }
    }
    let written = std::thread::scope(|scope| {
        let _halt = HaltOnDrop(&*engine);
        for (lane, parker) in parkers.lanes.into_iter().enumerate() {
            let (engine, worker) = (&*engine, &worker);
            let started = Builder::new()
                .name(format!("worker {lane}"))
                .spawn_scoped(scope, move || run_worker(engine, lane, &parker, worker));
            if let Err(error) = started {
                engine.halt();
                engine.worker_ended(lane);
                failed.get_or_insert(error);
            }
        }
        sink(&Sink {
            engine: &engine,
            parker: parkers.sink,
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    engine.wait_for_closing();
    Ok(Ran {
        engine,
        sink: written,
    })
}

/// Starts a source's thread. It is not joined: it may sit in a read that nothing can end.
fn start_source<M: Mode>(
    mut source: impl Source<M>,
    port: Port<M>,
    after_failure: bool,
) -> io::Result<()> {
    if after_failure {
        return Err(io::Error::other("another thread could not be started"));
    }
    Builder::new()
        .name(format!("source {}", port.source))
        .spawn(move || {
            let ended = caught(|| source.read(&port));
            let engine = &port.engine;
            if !engine.gate(port.source).end() {
                return;
            }
            if ended.is_err() {
                engine.died();
            }
            engine.closes();
            engine.end_source(port.source, ended != Ok(Ended::Complete));
            let closed = caught(|| {
                if ended.is_ok() {
                    source.close(&port);
                }
                drop(source);
            });
            if closed.is_err() {
                engine.died();
            }
            engine.has_closed();
        })
        .map(drop)
}

/// Works through a lane to its end.
fn run_worker<M: Mode, W: Worker<M>>(
    engine: &Engine<M>,
    lane: usize,
    parker: &Parker,
    worker: impl Fn(usize) -> W,
) {
    let _ending = Ending { engine, lane };
    let worked = caught(|| {
        let mut worker = worker(lane);
        while let Some(mut slot) = engine.next_job(lane, parker) {
            let load = M::load(&slot);
            let worked = caught(|| worker.work(engine, &mut slot));
            engine.relieve(lane, load);
            if worked.is_err() {
                // Before the sink sees a slot that was not worked on.
                engine.died();
                engine.halt();
            }
            engine.finish(slot);
            if worked.is_err() {
                return;
            }
        }
    });
    if worked.is_err() {
        engine.died();
        engine.halt();
    }
}
