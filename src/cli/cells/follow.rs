//! `cells annotate --follow`: the matrix of a run that grows.

use super::annotate::{COLUMNS, Counts, Typed, UNKNOWN, least};
use super::session::Session;
use crate::cells::model::Kind;
use crate::cells::run::{Flagged, Scored, run as run_cells};
use crate::cli::arguments::cells::AnnotateCellsArguments;
use crate::cli::error::CliError;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::sink::clean;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How often a signal is looked for.
const SHORT: Duration = Duration::from_millis(50);

/// What is known of a cell.
struct Known {
    /// Its counts when it was scored last.
    counts: f64,
    /// Its type; none where it cannot be used.
    called: Option<String>,
}

/// Name, size and time of each file of a folder.
type Look = Vec<(String, u64, SystemTime)>;

/// What a look at the matrix brought.
#[derive(Default)]
struct Revision {
    new: u64,
    again: u64,
    changed: u64,
}

pub(super) fn run(arguments: &AnnotateCellsArguments, quiet: bool) -> Result<(), CliError> {
    if !(arguments.growth.is_finite() && arguments.growth >= 0.0) {
        return Err(CliError::usage("--growth is a share of 0 or more"));
    }
    let interval = Duration::try_from_secs_f64(arguments.interval)
        .map_err(|_| CliError::usage("--interval is a number of seconds"))?;
    let folder = &arguments.input;
    if !folder.is_dir() {
        let reason = format!("{}: --follow is for a 10x folder", folder.display());
        return Err(CliError::Usage(reason));
    }
    Session::files(&arguments.options, &[])
        .write([&arguments.output])
        .follow(Some(folder))
        .check()?;
    let session = Session::new(&arguments.options, Kind::Type, quiet)?;
    let least = least(arguments.min_probability, &session.model)?;
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "{COLUMNS}\trevision").map_err(failed)?;
    let interrupt = Interrupt::new();
    let mut cells: HashMap<String, Known> = HashMap::new();
    let (mut seen, mut scored) = (Look::default(), Look::default());
    let (mut revision, mut again, mut quiet_looks) = (0u64, 0u64, 0u32);
    let mut unread = None;
    while !interrupt.stop.load(Ordering::SeqCst) {
        let look = look(folder)?;
        let stable = look == seen && !look.is_empty();
        seen = look;
        if stable && seen != scored {
            quiet_looks = 0;
            let mut found = Revision::default();
            let mut lines: Vec<u8> = vec![];
            let mut next: Vec<(String, Known)> = vec![];
            let grown = |name: &str, values: &[f32]| match cells.get(name) {
                Some(known) => {
                    counts(values) >= known.counts * (1.0 + arguments.growth)
                        && counts(values) > known.counts
                }
                None => true,
            };
            let read = session.open(folder).and_then(|mut source| {
                let job = session.job(Flagged::default());
                let mut totals: HashMap<String, f64> = HashMap::new();
                let wanted = |name: &str, values: &[f32]| {
                    let wanted = grown(name, values);
                    if wanted {
                        totals.insert(name.to_string(), counts(values));
                    }
                    wanted
                };
                let mut results: Vec<(String, Option<String>)> = vec![];
                let each = |cell: Scored| -> Result<(), CliError> {
                    let called = match &cell.result {
                        Ok(outcome) => {
                            let typed = Typed::new(&session.model, outcome, least);
                            let name = clean(cell.name.as_bytes());
                            let mut line = vec![];
                            typed.write(&mut line, &name).map_err(failed)?;
                            line.pop();
                            lines.extend(line);
                            writeln!(lines, "\t{}", revision + 1).map_err(failed)?;
                            Some(typed.called().to_string())
                        }
                        Err(reason) => {
                            log::info!("{reason}");
                            None
                        }
                    };
                    results.push((cell.name.to_string(), called));
                    Ok(())
                };
                run_cells(job, &mut *source, wanted, each)?;
                for (name, called) in results {
                    let counts = totals.get(&name).copied().unwrap_or_default();
                    match cells.get(&name) {
                        None => found.new += 1,
                        Some(known) => {
                            found.again += 1;
                            found.changed += u64::from(known.called != called);
                        }
                    }
                    next.push((name, Known { counts, called }));
                }
                Ok(())
            });
            // Files of one run may be written one after another: what does not fit together now
            // may at the next look.
            if let Err(error) = read {
                log::info!("{error}; looked at again when it has changed");
                scored.clone_from(&seen);
                unread = Some(error);
            } else {
                unread = None;
                // Written since it was looked at: what was read may be of two states.
                if self::look(folder)? != seen {
                    continue;
                }
                scored.clone_from(&seen);
                revision += 1;
                out.write_all(&lines)
                    .and_then(|()| out.flush())
                    .map_err(failed)?;
                cells.extend(next);
                again += found.again;
                if !quiet {
                    note(format_args!(
                        "revision {revision}: {} cells new, {} scored again, {} of them of another \
                         type now",
                        found.new, found.again, found.changed
                    ));
                }
            }
        } else if stable {
            quiet_looks += 1;
            if arguments
                .until_quiet
                .is_some_and(|looks| quiet_looks >= looks)
            {
                break;
            }
        }
        let until = Instant::now() + interval;
        while Instant::now() < until && !interrupt.stop.load(Ordering::SeqCst) {
            thread::sleep(SHORT.min(until.saturating_duration_since(Instant::now())));
        }
    }
    out.end(End::Complete).map_err(failed)?;
    summary(&cells, again, quiet);
    session.sign();
    match unread {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn counts(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum()
}

/// The files of a folder, by name.
fn look(folder: &Path) -> Result<Look, CliError> {
    let mut all = vec![];
    for entry in folder.read_dir().map_err(CliError::io(folder))? {
        let entry = entry.map_err(CliError::io(folder))?;
        // One that has gone since it was listed is not there.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        all.push((name, about.len(), time));
    }
    all.sort();
    Ok(all)
}

fn summary(cells: &HashMap<String, Known>, again: u64, quiet: bool) {
    if quiet {
        return;
    }
    let (mut typed, mut unknown, mut rejected) = (0, 0, 0);
    let mut counts = Counts::default();
    for known in cells.values() {
        match known.called.as_deref() {
            None => rejected += 1,
            Some(UNKNOWN) => unknown += 1,
            Some(name) => {
                typed += 1;
                counts.add(name);
            }
        }
    }
    note(format_args!(
        "cells    {} = {typed} typed + {unknown} unknown + {rejected} rejected; {again} scores \
         made again",
        cells.len()
    ));
    note(format_args!("types    {counts}"));
}
