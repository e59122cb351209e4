//! The thread that reads.

use super::PipelineConfig;
use super::queue::{Bell, Shared};
use crate::reads::fastx::{BamHeader, Limits, Reader, RecordEnd, Step};
use crate::reads::source::{Input, InputError};
use std::io::{self, Read};
use std::sync::{Arc, PoisonError};

/// Starts the source. It is not joined: it may sit in a read that nothing can end.
pub(super) fn spawn(
    shared: Arc<Shared>,
    bell: Bell,
    inputs: Vec<Input>,
    config: &PipelineConfig,
) -> io::Result<()> {
    let (limits, keep) = (config.limits, config.keep.clone());
    std::thread::Builder::new()
        .name("source".into())
        .spawn(move || {
            let mut ending = Ending {
                shared: &shared,
                early: true,
            };
            ending.early = !read_all(&shared, &bell, inputs, limits, keep.as_ref());
        })
        .map(drop)
}

/// Ends the source however its thread ends.
struct Ending<'a> {
    shared: &'a Shared,
    early: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.shared.abandoned() {
            return;
        }
        if std::thread::panicking() {
            self.shared.source_died();
        }
        self.shared.end_source(self.early);
    }
}

/// Reads all inputs; false where it was stopped before their end.
fn read_all(
    shared: &Arc<Shared>,
    bell: &Bell,
    inputs: Vec<Input>,
    limits: Limits,
    keep: Option<&BamHeader>,
) -> bool {
    let mut records = 0;
    for input in inputs {
        if shared.stopping() {
            return false;
        }
        let file: Arc<str> = input.name().into();
        let reader = input.open().and_then(|inner| {
            let gated = Gated {
                inner,
                shared: shared.clone(),
            };
            let mut reader = Reader::new(file, Box::new(gated), limits, records)?;
            match keep {
                Some(header) => reader.keep(header.clone()).map(|()| reader),
                None => Ok(reader),
            }
        });
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(_) if shared.stopping() => return false,
            Err(e) => {
                report(shared, e);
                continue;
            }
        };
        if !read_one(shared, bell, &mut reader) {
            return false;
        }
        records += reader.records();
    }
    true
}

fn read_one(shared: &Shared, bell: &Bell, reader: &mut Reader) -> bool {
    loop {
        let Some(mut slot) = shared.free_slot(bell) else {
            return false;
        };
        let step = reader.next_chunk(&mut slot.chunk);
        // A record that was cut off by the stop itself was never read in.
        let stopped = shared.abandoned() || (shared.stopping() && !matches!(step, Ok(Step::Chunk)));
        match step {
            _ if stopped => return false,
            Ok(Step::Chunk) => {
                let chunk = &slot.chunk;
                if shared.stopping() && matches!(chunk.end, Some(RecordEnd::Rejected(_))) {
                    return false;
                }
                if chunk.first {
                    shared.metrics.read_in();
                }
                shared.send(slot);
            }
            Ok(Step::Rejected(reject)) => {
                let chunk = &mut slot.chunk;
                chunk.record = reject.record;
                chunk.start = 0;
                chunk.name.clear();
                chunk.codes.clear();
                chunk.first = true;
                chunk.end = Some(RecordEnd::Rejected(reject));
                shared.metrics.read_in();
                shared.send_rejected(slot);
            }
            Ok(Step::End) => {
                shared.return_unused(slot);
                return true;
            }
            Err(e) => {
                report(shared, e);
                shared.return_unused(slot);
                return true;
            }
        }
    }
}

fn report(shared: &Shared, error: InputError) {
    log::error!("{error}");
    shared
        .errors
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(error);
}

/// An input whose reads the pipeline knows of, so that it can go on without one that blocks.
struct Gated {
    inner: Box<dyn Read + Send>,
    shared: Arc<Shared>,
}

impl Read for Gated {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let stopped = || io::Error::other("the run was stopped");
        if !self.shared.enter_read() {
            return Err(stopped());
        }
        let result = self.inner.read(out);
        if !self.shared.leave_read() {
            return Err(stopped());
        }
        result
    }
}
