//! Follows a folder: annotates each read once, and commits it.

use super::finder::Finder;
use super::journal::{Entry, Journal, JournalError};
use super::progress::{Known, Pass, Progress};
use super::tick::Tick;
use crate::annotate::Annotate;
use crate::metrics::Metrics;
use crate::reads::fastx::Reject;
use crate::sink::{CallWriter, Format, ModelTag, Notes, Watch};
use crate::stream::batch::config::PipelineConfig;
use crate::stream::batch::output::{FinishedChunk, Output, PipelineError};
use crate::stream::batch::run::run_one_by_one;
use crate::stream::observe::{Observed, Observing};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is followed, and where its calls go.
#[derive(Debug, Clone)]
pub struct FollowConfig {
    /// Holds FASTQ and BAM files, in folders of its own too.
    pub folder: PathBuf,
    /// Calls are added to this file.
    pub output: PathBuf,
    /// Where commits are written; beside the output, its name with `.journal` added, unless given.
    pub journal: Option<PathBuf>,
    /// The run ends when nothing new has come for so long; else when it is stopped.
    pub until_idle: Option<Duration>,
    /// Of the output. Only such as [can be continued](Format::can_be_continued).
    pub format: Format,
    /// What the output says of the models.
    pub models: Vec<ModelTag>,
    /// What else the output depends on, in words: a later run with others is refused.
    pub options: String,
    /// How the pipeline is built.
    pub pipeline: PipelineConfig,
}

/// Why a folder cannot be followed, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The output cannot be of this format.
    #[error("bedgraph and parquet hold calls back and cannot be continued: use another format")]
    Format,
    /// The folder, the output or the journal.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which of them.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another run follows with this journal.
    #[error("{}: another run follows with this journal", journal.display())]
    Locked {
        /// The journal.
        journal: PathBuf,
    },
    /// The output depends on options that were others.
    #[error(
        "{}: was begun with other options: {before}; now: {now}. Use them again, or another output",
        journal.display()
    )]
    Options {
        /// The journal.
        journal: PathBuf,
        /// The options then.
        before: String,
        /// The options now.
        now: String,
    },
    /// The journal has a line that is none, and others behind it.
    #[error("{}: line {line} is none of a journal", journal.display())]
    Damaged {
        /// The journal.
        journal: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The output holds something of which the journal knows nothing.
    #[error(
        "{}: holds something that {} knows nothing of, and is left alone. To annotate the folder \
         from the beginning: {command}",
        output.display(),
        journal.display()
    )]
    Mismatch {
        /// The output.
        output: PathBuf,
        /// The journal.
        journal: PathBuf,
        /// What makes room for both, for a shell.
        command: String,
    },
    /// Anything else that broke the pipeline off.
    #[error(transparent)]
    Pipeline(PipelineError),
}

impl FollowError {
    fn io(file: &Path) -> impl Fn(io::Error) -> FollowError + '_ {
        move |source| FollowError::Io {
            file: file.to_owned(),
            source,
        }
    }
}

/// How a run ended that nothing broke off.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FollowOutcome {
    /// Files that are bad, cannot be read, or do not end with a complete record, and such whose
    /// calls were lost with the output's end and that are gone themselves; each was logged as an
    /// error.
    pub incomplete: Vec<PathBuf>,
    /// The run was stopped.
    pub stopped: bool,
}

/// The journal of an output for which none was named.
pub fn journal_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}

/// A folder, the output of its reads' calls, and the journal that goes with it.
pub struct Follower {
    config: FollowConfig,
    journal: Journal,
    journal_path: PathBuf,
    /// Files whose calls were lost with the output's end, and how far they had been annotated.
    given_up: Vec<(PathBuf, Entry)>,
    file: File,
    added: Added,
    calls: CallWriter<BufWriter<Added>>,
    settled: Arc<AtomicU64>,
    observer: Option<Observed>,
    tick: Tick,
}

impl Follower {
    /// Opens output and journal, and cuts both back to where they agree: what a run wrote that did
    /// not live to commit it, and what a power cut took from their ends, is written again.
    ///
    /// # Errors
    /// Where the format cannot be continued, a file cannot be opened, another run has the journal,
    /// options were others, or output and journal do not belong together. Neither is changed then.
    pub fn open(config: FollowConfig) -> Result<Follower, FollowError> {
        if !config.format.can_be_continued() {
            return Err(FollowError::Format);
        }
        let output = &config.output;
        let journal = config.journal.clone();
        let journal_path = journal.unwrap_or_else(|| journal_of(output));
        let failed = FollowError::io(output);
        let header = header(&config).map_err(&failed)?;
        let open = |path: &Path| {
            let mut open = OpenOptions::new();
            let file = open
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            match file.try_lock() {
                // Some file systems have no locks.
                Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
                Err(TryLockError::WouldBlock) => {
                    let reason = "another run writes it";
                    Err(io::Error::new(io::ErrorKind::ResourceBusy, reason))
                }
            }
        };
        let mut file = open(output).map_err(&failed)?;
        let mut before = file.metadata().map_err(&failed)?.len();
        let mut opened = Journal::open(&journal_path, &config.options, &mut file, &header);
        let earlier = earlier(output);
        if let Err(JournalError::Cut { begun }) = opened
            && !earlier.exists()
        {
            // Nothing is thrown away: what it held may be of files that are gone.
            std::fs::rename(output, &earlier).map_err(&failed)?;
            let what = if begun {
                "an earlier run ended before anything was committed"
            } else {
                "its beginning or the journal's was lost"
            };
            log::error!(
                "{}: {what}; what was left of it lies in {} now, and the folder is annotated from \
                 the beginning",
                output.display(),
                earlier.display()
            );
            file = open(output).map_err(&failed)?;
            before = 0;
            opened = Journal::open(&journal_path, &config.options, &mut file, &header);
        }
        let (journal, given_up) = opened.map_err(|error| match error {
            JournalError::Io(source) => FollowError::io(&journal_path)(source),
            JournalError::Locked => FollowError::Locked {
                journal: journal_path.clone(),
            },
            JournalError::Damaged(line) => FollowError::Damaged {
                journal: journal_path.clone(),
                line,
            },
            JournalError::Options(before) => FollowError::Options {
                journal: journal_path.clone(),
                before,
                now: config.options.clone(),
            },
            JournalError::Missing | JournalError::Cut { .. } | JournalError::Mismatch => {
                FollowError::Mismatch {
                    output: output.clone(),
                    journal: journal_path.clone(),
                    command: begin_anew(output, &earlier, &journal_path),
                }
            }
        })?;
        let length = file.metadata().map_err(&failed)?.len();
        if length < before {
            log::warn!(
                "{}: {} bytes behind its last commit were cut off: their reads are annotated again",
                output.display(),
                before - length
            );
        }
        let added = Added::new(file.try_clone().map_err(&failed)?);
        let writer = BufWriter::with_capacity(1 << 16, added.clone());
        let mut calls = CallWriter::new(writer, config.format, config.models.clone());
        if journal.output_length() == 0 {
            calls.header().map_err(&failed)?;
        }
        drop(failed);
        Ok(Follower {
            config,
            settled: Arc::new(AtomicU64::new(journal.output_length())),
            journal,
            journal_path,
            given_up,
            file,
            added,
            calls,
            observer: None,
            tick: Tick::default(),
        })
    }

    /// Adds fields to each object of JSON Lines ([`CallWriter::labelled`]).
    pub fn labelled(mut self, labels: &[(String, String)]) -> Follower {
        self.calls = self.calls.labelled(labels);
        self
    }

    /// Writes these lines between calls, too.
    pub fn noted(mut self, notes: Option<Notes>) -> Follower {
        self.calls = self.calls.noted(notes);
        self
    }

    /// Bytes of the output that are committed, now and as the run goes on: those behind them may be
    /// written again.
    pub fn settled(&self) -> Arc<AtomicU64> {
        self.settled.clone()
    }

    /// Shows calls as they are written, before they are committed.
    pub fn watched(mut self, watch: Option<Watch>) -> Follower {
        self.calls = self.calls.watched(watch);
        self
    }

    /// Shows reads of this run as they are written, before they are committed.
    pub fn observed(mut self, observer: Option<Observed>) -> Follower {
        self.observer = observer;
        self
    }

    /// Calls `tick` as long as the run goes on; first when the folder has been looked at.
    pub fn ticking(mut self, tick: Tick) -> Follower {
        self.tick = tick;
        self
    }

    /// Annotates what the folder holds and what comes to it, until nothing more has come for a
    /// while, or soon after `stop` is set.
    ///
    /// # Errors
    /// Those of the folder, the output and the journal, and a rejected record in a strict run. A
    /// bad file does not end the run.
    pub fn run<A: Annotate>(
        self,
        annotator: &A,
        metrics: &Arc<Metrics>,
        stop: &Arc<AtomicBool>,
    ) -> Result<FollowOutcome, FollowError> {
        let FollowConfig {
            folder,
            output,
            until_idle,
            pipeline,
            ..
        } = &self.config;
        let progress = Arc::new(Progress::new(self.journal));
        let finder = Finder::new(
            folder.clone(),
            *until_idle,
            progress.clone(),
            stop.clone(),
            self.tick.clone(),
        );
        for (path, _) in self.given_up.iter().filter(|(path, _)| !path.exists()) {
            log::warn!(
                "{}: its calls were lost with the output's end, and it is not there: they come \
                 again if the folder holds its bytes under another name",
                path.display()
            );
        }
        let mut committer = Committer {
            calls: self.calls,
            file: self.file,
            added: self.added,
            progress: progress.clone(),
            settled: self.settled,
            journal_error: None,
            tick: self.tick,
        };
        let finder = Box::new(finder);
        let mut seen = Observing::new(&mut committer, self.observer);
        let ran = run_one_by_one(pipeline, finder, annotator, metrics, stop, &mut seen);
        // The thread that finds files may outlive the run.
        progress.lock().journal.release();
        if let Some(source) = committer.journal_error {
            return Err(FollowError::io(&self.journal_path)(source));
        }
        let ran = ran.map_err(|error| match error {
            PipelineError::Output(source) => FollowError::io(output)(source),
            error => FollowError::Pipeline(error),
        })?;
        if let Some(source) = progress.lock().folder_error.take() {
            return Err(FollowError::io(folder)(source));
        }
        let mut incomplete: Vec<PathBuf> = progress.lock().bad.iter().cloned().collect();
        for (path, entry) in self.given_up {
            // Its bytes may have another name by now.
            let again = progress
                .lock()
                .journal
                .entry(entry.offset, &entry.hash)
                .is_some();
            if !again && !path.exists() {
                log::error!(
                    "{}: is gone, and its calls were lost with the output's end",
                    path.display()
                );
                incomplete.push(path);
            }
        }
        // What nobody would commit is not written.
        let calls = committer.calls.noted(None);
        calls.finish().map_err(FollowError::io(output))?;
        Ok(FollowOutcome {
            incomplete,
            stopped: ran.stopped,
        })
    }
}

/// Outputs of earlier runs that are kept.
const EARLIER: u32 = 9;

/// Where an output goes whose journal says nothing of it: where nothing is yet, but for the last
/// name.
fn earlier(output: &Path) -> PathBuf {
    let named = |number: u32| {
        let mut name = output.as_os_str().to_owned();
        name.push(".earlier");
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let free = (1..EARLIER).map(named).find(|name| !name.exists());
    free.unwrap_or_else(|| named(EARLIER))
}

/// The command that makes room for a new output and its journal.
fn begin_anew(output: &Path, earlier: &Path, journal: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let (output, earlier, journal) = (quoted(output), quoted(earlier), quoted(journal));
    format!("mv {output} {earlier}; rm -f {journal}")
}

/// What an output begins with.
fn header(config: &FollowConfig) -> io::Result<Vec<u8>> {
    let mut calls = CallWriter::new(vec![], config.format, config.models.clone());
    calls.header()?;
    calls.finish()
}

/// The output, and the hash of what was added to it since the last commit.
#[derive(Clone)]
struct Added(Arc<Mutex<(File, blake3::Hasher)>>);

impl Added {
    fn new(file: File) -> Added {
        Added(Arc::new(Mutex::new((file, blake3::Hasher::new()))))
    }

    /// The hash, which begins anew.
    fn take(&self) -> blake3::Hash {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut own.1).finalize()
    }
}

impl Write for Added {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = own.0.write(bytes)?;
        own.1.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes calls, and commits each file when they are written.
struct Committer {
    calls: CallWriter<BufWriter<Added>>,
    file: File,
    added: Added,
    progress: Arc<Progress>,
    settled: Arc<AtomicU64>,
    /// What kept a commit from being written, so that it is not reported as the output's.
    journal_error: Option<io::Error>,
    tick: Tick,
}

impl Output for Committer {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self.calls
            .write_calls(&finished.chunk.name, finished.calls)?;
        self.tick.tick();
        Ok(())
    }

    fn rejected(&mut self, reject: &Reject) {
        reject.log();
        self.tick.tick();
    }

    fn input_written(&mut self, whole: bool) -> io::Result<()> {
        let mut state = self.progress.lock();
        let Some(pass) = state.pass.take() else {
            return Ok(());
        };
        let Pass {
            path,
            stamp,
            from,
            head,
            start,
            reached,
        } = pass;
        let (position, left) = reached.take().unwrap_or((from.clone(), 0));
        let is_new = position.offset > from.offset;
        let entry = Entry::new(&position, head);
        if is_new {
            self.calls.flush()?;
            self.file.sync_data()?;
            let length = self.file.seek(SeekFrom::End(0))?;
            let added = self.added.take();
            let committed = state.journal.commit(entry, length, added, &path);
            if let Err(error) = committed {
                let kind = error.kind();
                self.journal_error = Some(error);
                return Err(kind.into());
            }
            self.settled.store(length, Ordering::Release);
        }
        if !whole {
            state.bad.insert(path);
            return Ok(());
        }
        if is_new {
            state.last_new = Instant::now();
        }
        state.bad.remove(&path);
        let known = Known {
            stamp,
            position: entry,
            left,
            start,
        };
        state.known.insert(path, known);
        drop(state);
        self.tick.tick();
        Ok(())
    }
}
