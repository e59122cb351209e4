//! What the one who finds files and the one who commits them share.

use super::journal::{Entry, Head, Journal};
use crate::reads::growing::{Position, Reached};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// How far a run has come. Locked once a file, never once a record.
pub(super) struct Progress(Mutex<State>);

pub(super) struct State {
    pub(super) journal: Journal,
    /// The file that is being annotated.
    pub(super) pass: Option<Pass>,
    /// Files of this run.
    pub(super) known: BTreeMap<PathBuf, Known>,
    /// Files that are bad or cannot be read, which was logged.
    pub(super) bad: BTreeSet<PathBuf>,
    /// When something new was last committed.
    pub(super) last_new: Instant,
    /// What keeps the folder from being read.
    pub(super) folder_error: Option<io::Error>,
}

/// What the system says of a file: while that stays, its bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: Option<(u64, u64)>,
    length: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(about: &Metadata) -> Stamp {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            Some((about.dev(), about.ino()))
        };
        #[cfg(not(unix))]
        let inode = None;
        Stamp {
            inode,
            length: about.len(),
            changed: about.modified().ok(),
        }
    }

    /// True where it is certainly the same file, under another name too.
    pub(super) fn is_same(&self, other: &Stamp) -> bool {
        self.inode.is_some() && self == other
    }
}

/// A file whose pass is over.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) stamp: Stamp,
    pub(super) position: Entry,
    /// Bytes behind the last record that has its end.
    pub(super) left: u64,
    /// What it begins with.
    pub(super) start: Vec<u8>,
}

/// What is there of one file, on its way to the output.
pub(super) struct Pass {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) from: Position,
    pub(super) head: Head,
    pub(super) start: Vec<u8>,
    pub(super) reached: Reached,
}

impl Progress {
    pub(super) fn new(journal: Journal) -> Progress {
        Progress(Mutex::new(State {
            journal,
            pass: None,
            known: BTreeMap::new(),
            bad: BTreeSet::new(),
            last_new: Instant::now(),
            folder_error: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
