//! Finds the next file with something new in it.

use super::folder::Folder;
use super::growing::{Growing, identity};
use super::progress::{Pass, Progress};
use crate::reads::source::Input;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Time between two looks at the folder. Notifications of the system are no substitute: network
/// folders have none.
const LOOK: Duration = Duration::from_millis(250);

/// The files of a folder, each as often as something new is in it. Waits for the next one.
pub(super) struct Finder {
    folder: Folder,
    /// Found, and not annotated yet.
    found: VecDeque<PathBuf>,
    looked: bool,
    until_idle: Option<Duration>,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
}

impl Finder {
    pub(super) fn new(
        folder: PathBuf,
        until_idle: Option<Duration>,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Finder {
        Finder {
            folder: Folder::new(folder),
            found: VecDeque::new(),
            looked: false,
            until_idle,
            progress,
            stop,
        }
    }

    /// Begins a pass over a file, from where the last one was committed. `None` where there is
    /// nothing to begin with.
    fn begin(&self, path: PathBuf) -> Option<Input> {
        let reached = Arc::new(AtomicU64::new(0));
        let opened = identity(&path).and_then(|identity| {
            let Some(identity) = identity else {
                return Ok(None);
            };
            let from = self.progress.lock().journal.committed(&identity);
            let growing = Growing::open(&path, from, reached.clone())?;
            Ok(Some((identity, from, growing)))
        });
        let (identity, from, growing) = match opened {
            Ok(opened) => opened?,
            // Renamed since it was listed: it will be listed by its other name.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                log::error!("{}: {e}", path.display());
                self.progress.lock().bad.push(path);
                return None;
            }
        };
        let name = match from {
            0 => path.display().to_string(),
            // Numbers and bytes of records in messages count from there.
            _ => format!("{} (from byte {from} on)", path.display()),
        };
        self.progress.lock().pass = Some(Pass {
            path,
            identity,
            from,
            reached,
        });
        Some(Input::Reader(name, Box::new(growing)))
    }

    /// True where nothing new has come for as long as the run is to wait for it.
    fn idle(&self) -> bool {
        let last = self.progress.lock().last_new;
        self.until_idle.is_some_and(|most| last.elapsed() >= most)
    }
}

impl Iterator for Finder {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        while !self.stop.load(SeqCst) {
            if let Some(path) = self.found.pop_front() {
                match self.begin(path) {
                    Some(input) => return Some(input),
                    None => continue,
                }
            }
            if self.looked {
                if self.idle() {
                    return None;
                }
                std::thread::sleep(LOOK);
            }
            self.looked = true;
            match self.folder.changed() {
                Ok(found) => self.found = found.into(),
                Err(error) => {
                    self.progress.lock().folder_error = Some(error);
                    return None;
                }
            }
        }
        None
    }
}
