//! What the one who finds files and the one who commits them share.

use super::journal::Journal;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How far a run has come. Locked once a file, never once a record.
pub(super) struct Progress(Mutex<State>);

pub(super) struct State {
    pub(super) journal: Journal,
    /// The file that is being annotated.
    pub(super) pass: Option<Pass>,
    /// What each file that was annotated is known by.
    pub(super) known: BTreeMap<PathBuf, String>,
    /// Files that are bad or cannot be read, which was logged.
    pub(super) bad: Vec<PathBuf>,
    /// When something new was last committed.
    pub(super) last_new: Instant,
    /// What keeps the folder from being read.
    pub(super) folder_error: Option<io::Error>,
}

/// What is complete of one file, on its way to the output.
pub(super) struct Pass {
    pub(super) path: PathBuf,
    pub(super) identity: String,
    /// Where it begins, in uncompressed bytes.
    pub(super) from: u64,
    /// Where the last complete record ends that was read.
    pub(super) reached: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new(journal: Journal) -> Progress {
        Progress(Mutex::new(State {
            journal,
            pass: None,
            known: BTreeMap::new(),
            bad: vec![],
            last_new: Instant::now(),
            folder_error: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
