//! `cells annotate --follow`: the matrix of a run that grows.

use super::annotate::{COLUMNS, Typed, least};
use super::growth::{Cells, Reading};
use super::session::{NAMED, Session};
use crate::cells::input::{files, is_of_folder};
use crate::cells::model::Kind;
use crate::cells::run::{Flagged, Scored, run as run_cells};
use crate::cli::arguments::cells::AnnotateCellsArguments;
use crate::cli::error::CliError;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::sink::clean;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How often a signal is looked for.
const SHORT: Duration = Duration::from_millis(50);

/// Name, size and time of each file of a matrix.
type Look = Vec<(String, u64, SystemTime)>;

pub(super) fn run(arguments: &AnnotateCellsArguments, quiet: bool) -> Result<(), CliError> {
    if !(arguments.growth.is_finite() && arguments.growth >= 0.0) {
        return Err(CliError::usage("--growth is a share of 0 or more"));
    }
    if arguments
        .output
        .extension()
        .is_some_and(|ending| ending == "h5ad")
    {
        return Err(CliError::usage(
            "--follow writes TSV: a 10x folder has no .h5ad",
        ));
    }
    let interval = Duration::try_from_secs_f64(arguments.interval)
        .map_err(|_| CliError::usage("--interval is a number of seconds"))?;
    let folder = &arguments.input;
    if !folder.is_dir() {
        let reason = format!("{}: --follow is for a 10x folder", folder.display());
        return Err(CliError::Usage(reason));
    }
    let session = Session::new(&arguments.options, Kind::Type, quiet)?;
    Session::files(&arguments.options, &[])?
        // Where there is no matrix yet, one will come.
        .read(&files(folder, &session.choice).unwrap_or_default())
        .write([&arguments.output])
        .follow(Some(folder), is_of_matrix)
        .check()?;
    let mut follow = Follow {
        session: &session,
        folder,
        least: least(arguments.min_probability, &session.model)?,
        cells: Cells::new(arguments.growth),
        lines: vec![],
        unread: None,
    };
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "{COLUMNS}\trevision").map_err(failed)?;
    let interrupt = Interrupt::new();
    let (mut seen, mut scored) = (Look::default(), Look::default());
    let (mut quiet_looks, mut is_gone) = (0u32, false);
    while !interrupt.stop.load(Ordering::SeqCst) {
        let look = look(folder).unwrap_or_else(|error| {
            // A disk that is lost for a while must not cost what was found.
            if !is_gone {
                log::warn!("{error}; looked for again");
            }
            is_gone = true;
            Look::default()
        });
        is_gone &= look.is_empty();
        let stable = look == seen;
        seen = look;
        if stable && seen != scored && !seen.is_empty() {
            quiet_looks = 0;
            let state = follow.read();
            // Written since it was looked at: what was read may be of two states.
            if self::look(folder).is_ok_and(|now| now == seen) {
                scored.clone_from(&seen);
                if let Some(reading) = follow.said(state) {
                    out.write_all(&follow.lines)
                        .and_then(|()| out.flush())
                        .map_err(failed)?;
                    follow.settle(reading, quiet);
                }
            }
        } else if stable && (!seen.is_empty() || follow.cells.revision() > 0) {
            quiet_looks += 1;
            if arguments
                .until_quiet
                .is_some_and(|most| quiet_looks >= most)
            {
                break;
            }
        }
        let began = Instant::now();
        while began.elapsed() < interval && !interrupt.stop.load(Ordering::SeqCst) {
            thread::sleep(SHORT.min(interval.saturating_sub(began.elapsed())));
        }
    }
    let Follow { cells, unread, .. } = follow;
    let end = match &unread {
        _ if cells.revision() == 0 => End::Nothing,
        Some(_) => End::Incomplete,
        None => End::Complete,
    };
    out.end(end).map_err(failed)?;
    if !quiet {
        note(format_args!("{cells}"));
    }
    session.sign();
    match unread {
        Some(error) => Err(error),
        None if cells.revision() == 0 => {
            let reason = format!("{}: no matrix came", folder.display());
            Err(CliError::Input(reason))
        }
        None => Ok(()),
    }
}

/// A run over the states of a matrix.
struct Follow<'a> {
    session: &'a Session,
    folder: &'a Path,
    least: f32,
    cells: Cells,
    /// Lines of the state that was read last.
    lines: Vec<u8>,
    /// Why the last state could not be read.
    unread: Option<CliError>,
}

impl Follow<'_> {
    /// Reads the matrix as it is, and scores the cells that ask for it.
    fn read(&mut self) -> Result<Reading, CliError> {
        self.lines.clear();
        let (session, cells, lines) = (self.session, &self.cells, &mut self.lines);
        let revision = cells.revision() + 1;
        let mut source = session.open(self.folder)?;
        let reading = RefCell::new(Reading::default());
        let mut named = 0;
        let wanted = |name: &str, values: &[f32]| {
            let reading = &mut reading.borrow_mut();
            cells.wants(reading, name, values)
        };
        let each = |cell: Scored| -> Result<(), CliError> {
            let called = match &cell.result {
                Ok(outcome) => {
                    let typed = Typed::new(&session.model, outcome, self.least);
                    typed.line(lines, &clean(cell.name.as_bytes()), Some(revision));
                    Some(typed.called().to_string())
                }
                Err(reason) => {
                    named += 1;
                    if named <= NAMED {
                        log::warn!("{reason}");
                    }
                    None
                }
            };
            reading.borrow_mut().result(called);
            Ok(())
        };
        let tally = run_cells(session.job(Flagged::default()), &mut *source, wanted, each)?;
        if revision == 1 {
            session.warn(source.name(), &tally);
            session.describe(source.name(), &tally);
        }
        if named > NAMED {
            log::warn!(
                "{}: {} cells more cannot be used",
                source.name(),
                named - NAMED
            );
        }
        Ok(reading.into_inner())
    }

    /// A state, if it could be read. Files of one run may be written one after another: what does
    /// not fit together now may at the next look.
    fn said(&mut self, state: Result<Reading, CliError>) -> Option<Reading> {
        match state {
            Ok(reading) => {
                self.unread = None;
                Some(reading)
            }
            Err(error) => {
                log::warn!("{error}; looked at again when it has changed");
                self.unread = Some(error);
                None
            }
        }
    }

    fn settle(&mut self, reading: Reading, quiet: bool) {
        let revision = self.cells.settle(reading);
        if !quiet {
            note(format_args!(
                "revision {}: {} cells new, {} scored again, {} of them of another type now",
                revision.number, revision.new, revision.again, revision.changed
            ));
        }
    }
}

/// Whether a file of a folder is one of a matrix.
fn is_of_matrix(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    is_of_folder(&name.to_string_lossy())
}

/// The files of a matrix, by name.
fn look(folder: &Path) -> Result<Look, CliError> {
    let mut all = vec![];
    for entry in folder.read_dir().map_err(CliError::io(folder))? {
        let entry = entry.map_err(CliError::io(folder))?;
        // One that has gone since it was listed is not there.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_of_folder(&name) {
            let time = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            all.push((name, about.len(), time));
        }
    }
    all.sort();
    Ok(all)
}
