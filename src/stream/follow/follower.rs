//! Follows a folder: annotates each read once, and commits it.

use super::finder::Finder;
use super::growing::incomplete;
use super::journal::Journal;
use super::progress::{Pass, Progress};
use crate::annotate::Annotate;
use crate::metrics::Metrics;
use crate::sink::{CallWriter, Format, ModelTag};
use crate::stream::batch::config::PipelineConfig;
use crate::stream::batch::output::{FinishedChunk, Output, PipelineError};
use crate::stream::batch::run::run_one_by_one;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
    /// Of the output. Not [`Format::Bedgraph`], which cannot be continued.
    pub format: Format,
    /// What the output says of the models.
    pub models: Vec<ModelTag>,
    /// How the pipeline is built.
    pub pipeline: PipelineConfig,
}

/// Why a folder cannot be followed, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The output cannot be of this format.
    #[error("bedgraph is one track of all reads, which cannot be continued: use another format")]
    Format,
    /// The folder, the output or the journal.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which of them.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The output is shorter than the journal says.
    #[error(
        "{}: {length} bytes, but {} says that {committed} were written: the two do not belong \
         together",
        output.display(),
        journal.display()
    )]
    Mismatch {
        /// The output.
        output: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The journal.
        journal: PathBuf,
        /// The length that it says.
        committed: u64,
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
    /// Files that are bad, cannot be read, or do not end with a complete record; each was logged as
    /// an error.
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
    file: File,
    calls: CallWriter<BufWriter<File>>,
}

impl Follower {
    /// Opens output and journal, and makes the output as long as the journal says: what a run wrote
    /// that did not live to commit it is written again.
    ///
    /// # Errors
    /// Where the format cannot be continued, a file cannot be opened, or output and journal do not
    /// belong together.
    pub fn open(config: FollowConfig) -> Result<Follower, FollowError> {
        if config.format == Format::Bedgraph {
            return Err(FollowError::Format);
        }
        let output = &config.output;
        let journal = config.journal.clone();
        let journal_path = journal.unwrap_or_else(|| journal_of(output));
        let journal = Journal::open(&journal_path).map_err(FollowError::io(&journal_path))?;
        let committed = journal.output_length().unwrap_or(0);
        let failed = FollowError::io(output);
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .open(output);
        let file = open.map_err(&failed)?;
        let length = file.metadata().map_err(&failed)?.len();
        if length < committed {
            return Err(FollowError::Mismatch {
                output: output.clone(),
                length,
                journal: journal_path,
                committed,
            });
        }
        file.set_len(committed).map_err(&failed)?;
        let own = file.try_clone().map_err(&failed)?;
        let writer = BufWriter::with_capacity(1 << 16, own);
        let mut calls = CallWriter::new(writer, config.format, config.models.clone());
        if committed == 0 {
            calls.header().map_err(&failed)?;
        }
        drop(failed);
        Ok(Follower {
            config,
            journal,
            journal_path,
            file,
            calls,
        })
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
        let finder = Finder::new(folder.clone(), *until_idle, progress.clone(), stop.clone());
        let mut committer = Committer {
            calls: self.calls,
            file: self.file,
            progress: progress.clone(),
            journal_error: None,
        };
        let finder = Box::new(finder);
        let ran = run_one_by_one(pipeline, finder, annotator, metrics, stop, &mut committer);
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
        let incomplete = left_over(&progress);
        committer.calls.finish().map_err(FollowError::io(output))?;
        Ok(FollowOutcome {
            incomplete,
            stopped: ran.stopped,
        })
    }
}

/// Files that were bad, or whose ends are no complete records.
fn left_over(progress: &Progress) -> Vec<PathBuf> {
    let mut state = progress.lock();
    let mut files = std::mem::take(&mut state.bad);
    for (path, identity) in &state.known {
        let committed = state.journal.committed(identity);
        match incomplete(path, committed) {
            Ok(left) if left > 0 => {
                log::error!(
                    "{}: {left} bytes from byte {committed} on are no complete record",
                    path.display()
                );
                files.push(path.clone());
            }
            // Gone, or renamed: then it is known by its other name too.
            _ => {}
        }
    }
    files.sort();
    files.dedup();
    files
}

/// Writes calls, and commits each file when they are written.
struct Committer {
    calls: CallWriter<BufWriter<File>>,
    file: File,
    progress: Arc<Progress>,
    /// What kept a commit from being written, so that it is not reported as the output's.
    journal_error: Option<io::Error>,
}

impl Output for Committer {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        self.calls.write_calls(&finished.chunk.name, finished.calls)
    }

    fn input_written(&mut self, whole: bool) -> io::Result<()> {
        let mut state = self.progress.lock();
        let Some(Pass {
            path,
            identity,
            from,
            reached,
        }) = state.pass.take()
        else {
            return Ok(());
        };
        let reached = reached.load(Relaxed);
        if reached > from {
            self.calls.flush()?;
            self.file.sync_data()?;
            let length = self.file.metadata()?.len();
            let committed = state.journal.commit(&identity, reached, length, &path);
            if let Err(error) = committed {
                let kind = error.kind();
                self.journal_error = Some(error);
                return Err(kind.into());
            }
        }
        if !whole {
            state.bad.push(path);
            return Ok(());
        }
        if reached > from {
            state.last_new = Instant::now();
        }
        state.known.insert(path, identity);
        Ok(())
    }
}
