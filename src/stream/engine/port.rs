//! A source's side of the engine.

use super::mode::Mode;
use super::queue::wait;
use super::shared::Engine;
use crossbeam::sync::Parker;
use std::io::{self, Read};
use std::sync::Arc;

/// Through which a source gets slots and sends them.
pub(crate) struct Port<M: Mode> {
    pub(crate) engine: Arc<Engine<M>>,
    /// Which source it is.
    pub(crate) source: usize,
    pub(super) parker: Parker,
}

impl<M: Mode> Port<M> {
    /// A free slot; `None` once no more is to be read.
    pub(crate) fn free_slot(&self) -> Option<Box<M::Slot>> {
        self.engine.free_slot(self.source, &self.parker)
    }

    /// Does what may block. `None` where the run is to stop, or has gone on without the source: it
    /// must then return without touching anything.
    pub(crate) fn blocking<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        blocking(&self.engine, self.source, work)
    }

    /// Bytes whose every read may block. Not to be read within [`Port::blocking`].
    pub(crate) fn gated(&self, inner: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Gated {
            inner,
            engine: self.engine.clone(),
            source: self.source,
        })
    }

    /// True where the run has gone on without the source.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.engine.gate(self.source).is_abandoned()
    }

    /// Waits until everything sent has been written, a stop or none; false where the run is broken
    /// off. The source must hold no slot.
    pub(crate) fn all_written(&self) -> bool {
        let written = wait(&self.parker, None, || {
            if self.engine.all_slots_back(self.source) {
                return Some(true);
            }
            self.engine.halted().then_some(false)
        });
        written.unwrap_or(false)
    }
}

fn blocking<M: Mode, T>(engine: &Engine<M>, source: usize, work: impl FnOnce() -> T) -> Option<T> {
    let gate = engine.gate(source);
    if !gate.enter(|| engine.stopping()) {
        return None;
    }
    let result = work();
    gate.leave().then_some(result)
}

/// An input whose reads the engine knows of, so that it can go on without one that blocks.
struct Gated<M: Mode> {
    inner: Box<dyn Read + Send>,
    engine: Arc<Engine<M>>,
    source: usize,
}

impl<M: Mode> Read for Gated<M> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        blocking(&self.engine, self.source, || self.inner.read(out))
            .unwrap_or_else(|| Err(io::Error::other("the run was stopped")))
    }
}
