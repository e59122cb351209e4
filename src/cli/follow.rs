//! `annotate --follow`: a folder that fills.

use super::error::CliError;
use super::output::{Target, Writer};
use super::plan::FollowPlan;
use super::run::Run;
use crate::reads::source::Input;
use crate::sink::CallWriter;
use crate::stream::batch::{self, FinishedChunk, PipelineConfig, PipelineError};
use crate::stream::follow::{Folder, Growing, Journal, identity, incomplete};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks at the folder. Notifications of the system are no substitute: network
/// folders have none.
const LOOK: Duration = Duration::from_millis(250);

/// The output and the journal that goes with it.
pub(super) struct Ledger {
    journal: Journal,
    journal_path: PathBuf,
    file: File,
    output: PathBuf,
    folder: PathBuf,
}

/// What a look at one file gave.
enum Pass {
    /// What the file is known by, and whether there was anything new.
    Taken(String, bool),
    /// Nothing to know it by yet, or the run was stopped.
    Nothing,
    /// It is bad, or cannot be read, and that was told. The others go on.
    Bad,
}

/// Follows the folder; true where nothing was left over.
pub(super) fn run(run: &Run, plan: &FollowPlan) -> Result<bool, CliError> {
    let output = run.output.path().unwrap_or(Path::new("-"));
    let (mut ledger, out, begins) = Ledger::open(plan, output)?;
    let mut calls = CallWriter::new(out, plan.format, run.tags());
    if begins {
        calls.header().map_err(|e| run.output.failed(e))?;
    }
    let whole = ledger.follow(plan.until_idle, run, &plan.pipeline, &mut calls)?;
    run.finish(calls)?;
    Ok(whole)
}

impl Ledger {
    /// Opens both, the output as long as the journal says; gives what to write to and whether it is
    /// new.
    fn open(plan: &FollowPlan, output: &Path) -> Result<(Ledger, Writer, bool), CliError> {
        let (path, folder) = (plan.journal.clone(), &plan.folder);
        let journal = Journal::open(&path).map_err(CliError::io(&path))?;
        let failed = CliError::io(output);
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .open(output);
        let file = open.map_err(&failed)?;
        let length = file.metadata().map_err(&failed)?.len();
        let committed = journal.output().unwrap_or(0);
        if length < committed {
            return Err(CliError::Input(format!(
                "{}: {length} bytes, but {} says that {committed} were written: the two do not belong together",
                output.display(),
                path.display()
            )));
        }
        // What a run wrote that did not live to commit it is written again.
        file.set_len(committed).map_err(&failed)?;
        let own = file.try_clone().map_err(&failed)?;
        let writer: Box<dyn Write> = Box::new(own);
        let ledger = Ledger {
            journal,
            journal_path: path,
            file,
            output: output.to_owned(),
            folder: folder.to_owned(),
        };
        Ok((ledger, Target::buffered(writer), committed == 0))
    }

    /// Annotates what the folder holds and what comes to it; true where nothing was left over.
    fn follow<W: Write>(
        &mut self,
        until_idle: Option<Duration>,
        run: &Run,
        config: &PipelineConfig,
        calls: &mut CallWriter<W>,
    ) -> Result<bool, CliError> {
        let mut folder = Folder::new(self.folder.clone());
        let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut whole = true;
        let mut last = Instant::now();
        let stopped = || run.stop.load(Ordering::SeqCst);
        while !stopped() {
            for path in folder.changed().map_err(CliError::io(&self.folder))? {
                if stopped() {
                    break;
                }
                match self.pass(&path, run, config, calls)? {
                    Pass::Taken(identity, new) => {
                        known.insert(path, identity);
                        if new {
                            last = Instant::now();
                        }
                    }
                    Pass::Nothing => {}
                    Pass::Bad => whole = false,
                }
            }
            let idle = until_idle;
            if idle.is_some_and(|most| last.elapsed() >= most) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        for (path, identity) in known {
            let taken = self.journal.taken(&identity);
            match incomplete(&path, taken) {
                Ok(left) if left > 0 => {
                    whole = false;
                    log::error!(
                        "{}: {left} bytes from byte {taken} on are no complete record",
                        path.display()
                    );
                }
                // Gone, or renamed: then it is known by its other name too.
                _ => {}
            }
        }
        Ok(whole)
    }

    /// Annotates what is complete of a file and commits it.
    ///
    /// # Errors
    /// Those of the output and the journal, which end the run.
    fn pass<W: Write>(
        &mut self,
        path: &Path,
        run: &Run,
        config: &PipelineConfig,
        calls: &mut CallWriter<W>,
    ) -> Result<Pass, CliError> {
        let reached = Arc::new(AtomicU64::new(0));
        let opened = identity(path).and_then(|identity| {
            let Some(identity) = identity else {
                return Ok(None);
            };
            let taken = self.journal.taken(&identity);
            let growing = Growing::open(path, taken, reached.clone())?;
            Ok(Some((identity, taken, growing)))
        });
        let (identity, taken, growing) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Pass::Nothing),
            // Renamed since it was listed: it will be listed by its other name.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Pass::Nothing),
            Err(e) => {
                log::error!("{}: {e}", path.display());
                return Ok(Pass::Bad);
            }
        };
        let name = match taken {
            0 => path.display().to_string(),
            // Numbers and bytes of records in messages count from there.
            _ => format!("{} (from byte {taken} on)", path.display()),
        };
        let input = Input::Reader(name, Box::new(growing));
        let mut output =
            |finished: &FinishedChunk<'_>| calls.write_calls(&finished.chunk.name, finished.calls);
        let (annotator, metrics) = (&run.annotator, &run.metrics);
        let outcome = batch::run(
            config,
            vec![input],
            annotator,
            metrics,
            &run.stop,
            &mut output,
        );
        let outcome = outcome.map_err(|error| match error {
            PipelineError::Output(source) => CliError::io(&self.output)(source),
            error => CliError::Input(error.to_string()),
        })?;
        if outcome.stopped {
            return Ok(Pass::Nothing);
        }
        let reached = reached.load(Ordering::Relaxed);
        if reached > taken {
            let flushed = calls.flush().and_then(|()| {
                self.file.sync_data()?;
                Ok(self.file.metadata()?.len())
            });
            let length = flushed.map_err(CliError::io(&self.output))?;
            let committed = self.journal.commit(&identity, reached, length, path);
            committed.map_err(CliError::io(&self.journal_path))?;
        }
        Ok(match outcome.input_errors.is_empty() {
            true => Pass::Taken(identity, reached > taken),
            false => Pass::Bad,
        })
    }
}
