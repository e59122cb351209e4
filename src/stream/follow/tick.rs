//! How somebody else sees that a run still goes on.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// Is called at every step of a run, by the thread that made it: a look at the folder, some bytes
/// read, a chunk or a commit written. Where a disk or a model hangs, it is not. It must not wait.
#[derive(Clone)]
pub struct Tick(pub Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tick")
    }
}

/// Nobody looks.
impl Default for Tick {
    fn default() -> Tick {
        Tick(Arc::new(|| ()))
    }
}

impl Tick {
    /// A step was made.
    pub(super) fn tick(&self) {
        (self.0)();
    }
}

/// A file whose every read is a step.
pub(super) struct Ticking<R> {
    pub(super) file: R,
    pub(super) tick: Tick,
}

impl<R: Read> Read for Ticking<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.tick.tick();
        Ok(read)
    }
}
