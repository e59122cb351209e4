//! Finds the next file with something new in it.

use super::folder::Folder;
use super::identify::{Found, Identified, identify};
use super::progress::{Known, Pass, Progress, Stamp};
use super::tick::Tick;
use crate::reads::growing::{Growing, Reached};
use crate::reads::source::InputError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Time between two looks at the folder. Notifications of the system are no substitute: network
/// folders have none.
const LOOK: Duration = Duration::from_millis(250);

/// A look costs at most about one part in so many of the time, however long files get that grow.
const SHARE: u32 = 8;

/// A file that begins as one that is gone may be a copy of it on its way, unless it has not changed
/// for so long.
const SETTLED: Duration = Duration::from_secs(5);

/// The files of a folder, each as often as something new is in it. Waits for the next one.
pub(super) struct Finder {
    folder: Folder,
    /// Found, and not annotated yet.
    found: VecDeque<PathBuf>,
    pause: Option<Duration>,
    until_idle: Option<Duration>,
    /// Copies of files that are there, which was logged.
    copies: BTreeSet<PathBuf>,
    /// Files that may be copies of others that are gone, and since when they are as they are.
    held: BTreeMap<PathBuf, (Stamp, Instant)>,
    /// Nothing new comes: what is there is all.
    closing: bool,
    /// The folder was missing at the last look.
    missing: bool,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    tick: Tick,
}

impl Finder {
    pub(super) fn new(
        folder: PathBuf,
        until_idle: Option<Duration>,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
        tick: Tick,
    ) -> Finder {
        Finder {
            folder: Folder::new(folder),
            found: VecDeque::new(),
            pause: None,
            until_idle,
            copies: BTreeSet::new(),
            held: BTreeMap::new(),
            closing: false,
            missing: false,
            progress,
            stop,
            tick,
        }
    }

    /// Begins a pass over a file, from where the last one was committed. `None` where there is
    /// nothing to begin with.
    fn begin(&mut self, path: PathBuf) -> Option<Growing> {
        // Renamed since it was listed, it will be listed by its other name.
        let stamp = Stamp::of(&fs::metadata(&path).ok()?);
        let expected = self.expected(&path, &stamp);
        if let Some(known) = &expected
            && known.stamp.is_same(&stamp)
            && !(self.closing && known.left > 0)
        {
            let known = known.clone();
            self.progress.lock().known.insert(path, known);
            return None;
        }
        let position = expected.as_ref().map(|known| &known.position);
        let found = identify(&path, position, &self.progress.lock(), &self.tick);
        match found {
            Ok(Identified::Shorter(_)) if !self.has_settled(&path, stamp) => None,
            Ok(Identified::Ready(found) | Identified::Shorter(found)) => {
                self.held.remove(&path);
                self.say(&path, &found, expected.is_some());
                Some(self.pass(path, stamp, *found))
            }
            Ok(Identified::Early) => None,
            Ok(Identified::Copy(original)) => {
                let (copy, original) = (path.display(), original.display());
                if !self.copies.contains(&path) {
                    log::info!("{copy}: so far what {original} begins with; more is waited for");
                    self.copies.insert(path);
                }
                None
            }
            Err(InputError::Missing { .. }) => None,
            Err(error) => {
                log::error!("{error}");
                self.progress.lock().bad.insert(path);
                None
            }
        }
    }

    /// True where a file that may be a copy on its way has not changed for long enough to be none.
    fn has_settled(&mut self, path: &Path, stamp: Stamp) -> bool {
        let now = (stamp, Instant::now());
        let held = self.held.entry(path.to_owned()).or_insert(now);
        if held.0 != stamp {
            *held = now;
        }
        self.closing || held.1.elapsed() >= SETTLED
    }

    /// What is known of a file by its name, or of one that has been renamed.
    fn expected(&self, path: &Path, stamp: &Stamp) -> Option<Known> {
        let state = self.progress.lock();
        let renamed = || {
            state
                .known
                .values()
                .find(|known| known.stamp.is_same(stamp))
        };
        state.known.get(path).or_else(renamed).cloned()
    }

    /// Says of a file what its name does not.
    fn say(&self, path: &Path, found: &Found, expected: bool) {
        if found.is_known && !expected {
            let offset = found.from.offset;
            log::info!("{}: annotated before, up to byte {offset}", path.display());
        }
        if !found.is_known && self.progress.lock().journal.knows_path(path) {
            log::warn!(
                "{}: other bytes than were annotated under this name; taken for another file, \
                 since reads are not compared between files",
                path.display()
            );
        }
    }

    fn pass(&self, path: PathBuf, stamp: Stamp, found: Found) -> Growing {
        let reached = Reached::default();
        let name = path.display().to_string();
        self.progress.lock().pass = Some(Pass {
            path,
            stamp,
            from: found.from.clone(),
            head: found.head,
            start: found.start,
            reached: reached.clone(),
        });
        Growing {
            name,
            bytes: found.bytes,
            from: found.from,
            is_bam: found.is_bam,
            is_whole: self.closing,
            reached,
        }
    }

    /// True where nothing new has come for as long as the run is to wait for it.
    fn idle(&self) -> bool {
        let last = self.progress.lock().last_new;
        self.until_idle.is_some_and(|most| last.elapsed() >= most)
    }

    /// Looks at the folder; false where it cannot be read.
    fn look(&mut self) -> bool {
        match self.folder.changed() {
            Ok(found) => {
                let settled = |(_, since): &(Stamp, Instant)| since.elapsed() >= SETTLED;
                let held = self.held.iter().filter(|(_, held)| settled(held));
                let again = held
                    .map(|(path, _)| path.clone())
                    .filter(|p| !found.contains(p));
                let mut all: Vec<PathBuf> = found.iter().cloned().chain(again).collect();
                // What was annotated before, so that copies of it are known.
                let journal = &self.progress.lock().journal;
                all.sort_by_key(|path| !journal.knows_path(path));
                self.found = all.into();
                self.missing = false;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !std::mem::replace(&mut self.missing, true) {
                    log::warn!(
                        "{}: not there; it is waited for",
                        self.folder.path().display()
                    );
                }
            }
            Err(error) => {
                self.progress.lock().folder_error = Some(error);
                return false;
            }
        }
        let mut state = self.progress.lock();
        state.bad.extend(self.folder.refused().iter().cloned());
        true
    }

    /// The next file that was found and has something new.
    fn next_found(&mut self) -> Option<Growing> {
        while let Some(path) = self.found.pop_front() {
            let begun = Instant::now();
            let next = self.begin(path);
            // A file that grows is read from its beginning each time, to see that it is the same.
            if let Some(pause) = &mut self.pause {
                *pause += begun.elapsed() * SHARE;
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Iterator for Finder {
    type Item = Growing;

    fn next(&mut self) -> Option<Growing> {
        while !self.stop.load(SeqCst) {
            if let Some(next) = self.next_found() {
                return Some(next);
            }
            if self.closing {
                return None;
            }
            if self.pause.is_some() && self.idle() {
                // Last records without their ends are taken now, or are wrong.
                self.closing = true;
                let state = self.progress.lock();
                let left = state.known.iter().filter(|(_, known)| known.left > 0);
                let left = left.map(|(path, _)| path.clone());
                self.found = left.chain(self.held.keys().cloned()).collect();
                continue;
            }
            if let Some(pause) = &mut self.pause {
                let step = (*pause).min(LOOK);
                std::thread::sleep(step);
                *pause -= step;
                self.tick.tick();
                if !pause.is_zero() {
                    continue;
                }
            }
            self.pause = Some(LOOK);
            if !self.look() {
                return None;
            }
            self.tick.tick();
        }
        None
    }
}
