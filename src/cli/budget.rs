//! Foreign networks are read in a child of the program that limits its own time and memory: tract's
//! importer trusts what it reads, and what a file can make it take ends the child, with a sentence,
//! not the machine.

use super::arguments::values::Budget;
use super::error::CliError;
use super::report::note;
use std::env;
use std::path::Path;
use std::process::{self, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the environment of the child.
const CHILD: &str = "STRANDLINE_BUDGETED";

/// Runs `work`, which reads the network `file`, in a child of the program, which is given the very
/// same command line. `work` calls what it is given after each step that has its own time.
pub(super) fn within(
    budget: &Budget,
    file: &Path,
    work: impl FnOnce(&dyn Fn()) -> Result<(), CliError>,
) -> Result<(), CliError> {
    if env::var_os(CHILD).is_none() {
        return in_child(budget, file);
    }
    // A panic is an error here, and said as one.
    std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
    limit_memory(budget.memory)?;
    let clock = Clock::start(budget.time, file)?;
    work(&|| clock.step())
}

fn in_child(budget: &Budget, file: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::Input(format!("starting a child of the program: {error}"));
    let program = env::current_exe().map_err(failed)?;
    let mut child = Command::new(program);
    child.args(env::args_os().skip(1)).env(CHILD, "1");
    let status = child.status().map_err(failed)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::Child(u8::try_from(code).unwrap_or(1))),
        None => Err(ended(budget, file, status)),
    }
}

/// The child was ended from outside, or by the system for want of memory.
fn ended(budget: &Budget, file: &Path, status: ExitStatus) -> CliError {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        let signal = status.signal().unwrap_or(0);
        if [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM].contains(&signal) {
            return CliError::Stopped(u8::try_from(128 + signal).unwrap_or(1));
        }
    }
    CliError::Input(format!(
        "{}: reading it took more memory than {}, or went too deep ({status}); --budget sets what \
         it may take",
        file.display(),
        size(budget.memory)
    ))
}

fn size(bytes: u64) -> String {
    if bytes >= 1_000_000_000 {
        format!("{} GB", bytes as f64 / 1e9)
    } else {
        format!("{} MB", bytes as f64 / 1e6)
    }
}

/// Memory of this process from now on. What lies beyond cannot be had, and Rust aborts.
#[cfg(unix)]
fn limit_memory(bytes: u64) -> Result<(), CliError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Nobody waits for the child once its parent is gone.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(CliError::input)?;
    let old = getrlimit(Resource::As);
    let least = |limit: Option<u64>| Some(limit.map_or(bytes, |limit| limit.min(bytes)));
    let new = Rlimit {
        current: least(old.current),
        maximum: old.maximum,
    };
    // A file of its memory would be of no use to anybody.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(CliError::input)?;
    setrlimit(Resource::As, new).map_err(CliError::input)
}

#[cfg(not(unix))]
fn limit_memory(_: u64) -> Result<(), CliError> {
    Ok(())
}

/// Ends the process where a step takes too long.
struct Clock {
    started: Instant,
    /// Milliseconds from the start to the end of the last step.
    last: Arc<AtomicU64>,
}

impl Clock {
    fn start(time: Duration, file: &Path) -> Result<Clock, CliError> {
        let (started, last) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let clock = Clock {
            started,
            last: last.clone(),
        };
        let file = file.display().to_string();
        let watch = move || {
            loop {
                let deadline = Duration::from_millis(last.load(Ordering::Relaxed)) + time;
                let Some(left) = deadline.checked_sub(started.elapsed()) else {
                    break;
                };
                thread::sleep(left);
            }
            note(format_args!(
                "error: {file}: nothing came of it in {} s; --budget sets what it may take",
                time.as_secs_f64()
            ));
            process::exit(1)
        };
        let watcher = thread::Builder::new().name("budget".to_string());
        watcher.spawn(watch).map_err(CliError::input)?;
        Ok(clock)
    }

    fn step(&self) {
        let now = self.started.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}
