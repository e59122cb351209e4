//! Foreign networks are read in a child of the program that limits its own time and memory: tract's
//! importer trusts what it reads, and what a file can make it take ends the child, with a sentence,
//! not the machine.

use super::arguments::values::Budget;
use super::error::CliError;
use super::report::note;
use std::env;
#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::path::Path;
use std::process::{self, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the environment of the child: the process that waits for it.
const CHILD: &str = "STRANDLINE_BUDGETED";

/// Runs `work`, which reads the network `file`, in a child of the program, which is given the very
/// same command line. `work` steps the clock when it begins to read the network and after each step
/// that has a time of its own, and stops it while it waits for anything else.
pub(super) fn within(
    budget: &Budget,
    file: &Path,
    work: impl FnOnce(&Clock) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let Some(parent) = env::var_os(CHILD) else {
        return in_child(budget, file);
    };
    #[cfg(target_os = "linux")]
    end_with(&parent)?;
    // A panic is an error here, and said as one.
    std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
    let clock = Clock::start(budget.time, file)?;
    limit_memory(budget.memory)?;
    work(&clock)?;
    // The watch may not have looked in time.
    match time_left(budget.time, clock.started, &clock.last) {
        Some(_) => Ok(()),
        None => Err(CliError::Input(too_slow(
            budget.time,
            &file.display().to_string(),
        ))),
    }
}

fn in_child(budget: &Budget, file: &Path) -> Result<(), CliError> {
    let failed = |error| CliError::Input(format!("starting a child of the program: {error}"));
    let program = env::current_exe().map_err(failed)?;
    let mut child = Command::new(program);
    child
        .args(env::args_os().skip(1))
        .env(CHILD, process::id().to_string());
    let status = child.status().map_err(failed)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::Child(u8::try_from(code).unwrap_or(1))),
        None => Err(ended(budget, file, status)),
    }
}

/// Ends this process when its parent is gone, or was before: nobody waits for it then.
#[cfg(target_os = "linux")]
fn end_with(parent: &OsStr) -> Result<(), CliError> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(CliError::input)?;
    let own = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if own.as_deref().map(OsStr::new) != Some(parent) {
        process::exit(1);
    }
    Ok(())
}

/// The child was ended from outside, or by the system for want of memory.
fn ended(budget: &Budget, file: &Path, status: ExitStatus) -> CliError {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGABRT, SIGBUS, SIGINT, SIGSEGV, SIGTERM};
        use std::os::unix::process::ExitStatusExt;
        let signal = status.signal().unwrap_or(0);
        if [SIGINT, SIGTERM].contains(&signal) {
            return CliError::Stopped(u8::try_from(128 + signal).unwrap_or(1));
        }
        if ![SIGABRT, SIGBUS, SIGSEGV].contains(&signal) {
            return CliError::Input(format!(
                "{}: the process that read it was ended: {status}",
                file.display()
            ));
        }
    }
    CliError::Input(format!(
        "{}: reading it took more memory than {}, or went too deep; --budget sets what it may take",
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
pub(super) struct Clock {
    started: Instant,
    /// Microseconds from the start to the end of the last step, or [`NEVER`].
    last: Arc<AtomicU64>,
}

/// The watch does not look more often.
const LEAST: Duration = Duration::from_millis(1);

/// Before the first step, and while the clock is stopped: no time runs.
const NEVER: u64 = u64::MAX;

/// What a step has left of `time`; all of it where none runs.
fn time_left(time: Duration, started: Instant, last: &AtomicU64) -> Option<Duration> {
    match last.load(Ordering::Relaxed) {
        NEVER => Some(time),
        last => (Duration::from_micros(last) + time).checked_sub(started.elapsed()),
    }
}

fn too_slow(time: Duration, file: &str) -> String {
    format!(
        "{file}: nothing came of it in {} s; --budget sets what it may take",
        time.as_secs_f64()
    )
}

impl Clock {
    fn start(time: Duration, file: &Path) -> Result<Clock, CliError> {
        let (started, last) = (Instant::now(), Arc::new(AtomicU64::new(NEVER)));
        let clock = Clock {
            started,
            last: last.clone(),
        };
        let file = file.display().to_string();
        let watch = move || {
            while let Some(left) = time_left(time, started, &last) {
                thread::sleep(left.max(LEAST));
            }
            note(format_args!("error: {}", too_slow(time, &file)));
            process::exit(1)
        };
        let watcher = thread::Builder::new().name("budget".to_string());
        watcher.spawn(watch).map_err(CliError::input)?;
        Ok(clock)
    }

    /// Ends a step and begins another.
    pub(super) fn step(&self) {
        let now = self.started.elapsed().as_micros();
        let now = u64::try_from(now).unwrap_or(NEVER - 1);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Ends a step; none begins.
    pub(super) fn stop(&self) {
        self.last.store(NEVER, Ordering::Relaxed);
    }
}
