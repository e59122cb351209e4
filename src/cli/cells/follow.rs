//! `cells annotate --follow`: the matrix of a run that grows.

use super::annotate::{COLUMNS, Typed, least};
use super::growth::{Cells, Reading};
use super::session::{NAMED, Session};
use crate::cells::input::{files, is_of_folder};
use crate::cells::model::Kind;
use crate::cells::prepare::Input;
use crate::cells::run::{Flagged, Scored, run as run_cells};
use crate::cli::arguments::cells::AnnotateCellsArguments;
use crate::cli::error::CliError;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::model::genes::NO_TYPES;
use crate::sink::clean;
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Looks at the end of a run, after a signal: for a state that is being written right then.
const LAST_LOOKS: u32 = 20;

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
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "{COLUMNS}\trevision").map_err(failed)?;
    let mut follow = Follow {
        session: &session,
        folder,
        least: least(arguments.min_probability, &session.model)?,
        cells: Cells::new(arguments.growth),
        lines: vec![],
        seen: Look::default(),
        scored: Look::default(),
        is_gone: false,
        unread: None,
        said: None,
        quiet,
    };
    let interrupt = Interrupt::new();
    let mut quiet_looks = 0u32;
    while !interrupt.stop.load(Ordering::SeqCst) {
        if !follow.look() {
            quiet_looks = 0;
        } else if follow.is_new() {
            quiet_looks = 0;
            out.write_all(follow.read())
                .and_then(|()| out.flush())
                .map_err(failed)?;
        } else if !follow.seen.is_empty() || follow.cells.revision() > 0 {
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
    // Whoever stops a run when it is complete wants its last state.
    for _ in 0..LAST_LOOKS {
        if !follow.look() {
            thread::sleep(SHORT);
        } else if follow.is_new() {
            out.write_all(follow.read()).map_err(failed)?;
        } else {
            break;
        }
    }
    let error = follow.missing();
    let cells = &follow.cells;
    let end = match &error {
        _ if cells.revision() == 0 => End::Nothing,
        Some(_) => End::Incomplete,
        None => End::Complete,
    };
    out.end(end).map_err(failed)?;
    if !quiet {
        note(format_args!("{cells}"));
    }
    session.sign();
    error.map_or(Ok(()), Err)
}

/// A run over the states of a matrix.
struct Follow<'a> {
    session: &'a Session,
    folder: &'a Path,
    least: f32,
    cells: Cells,
    /// Lines of the state that was read last.
    lines: Vec<u8>,
    /// The last look, and the one of the state that was read last.
    seen: Look,
    scored: Look,
    is_gone: bool,
    /// Why the last state could not be read.
    unread: Option<CliError>,
    /// What was said of the input.
    said: Option<(Option<Input>, usize, usize, bool)>,
    quiet: bool,
}

impl Follow<'_> {
    /// Looks at the files. True where they are those of the look before.
    fn look(&mut self) -> bool {
        let look = look(self.folder).unwrap_or_else(|error| {
            // A disk that is lost for a while must not cost what was found.
            if !self.is_gone {
                log::warn!("{error}; looked for again");
            }
            self.is_gone = true;
            Look::default()
        });
        self.is_gone &= look.is_empty();
        let stable = look == self.seen;
        self.seen = look;
        stable
    }

    /// Whether a look saw a state that was not read.
    fn is_new(&self) -> bool {
        self.seen != self.scored && !self.seen.is_empty()
    }

    /// Reads the matrix as it is. Gives the lines of what it brought: none where it could not be
    /// read. Files of one run may be written one after another: what does not fit together now may
    /// at the next look.
    fn read(&mut self) -> &[u8] {
        let state = self.score();
        // Written since it was looked at: what was read may be of two states.
        if look(self.folder).is_ok_and(|now| now == self.seen) {
            self.scored.clone_from(&self.seen);
            match state {
                Ok(reading) => {
                    self.unread = None;
                    self.settle(reading);
                    return &self.lines;
                }
                Err(error) => {
                    log::warn!("{error}; looked at again when it has changed");
                    self.unread = Some(error);
                }
            }
        }
        &[]
    }

    /// Scores the cells that ask for it.
    fn score(&mut self) -> Result<Reading, CliError> {
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
            let name = clean(cell.name.as_bytes());
            let called = match &cell.result {
                Ok(outcome) => {
                    let typed = Typed::new(&session.model, outcome, self.least);
                    typed.line(lines, &name, Some(revision));
                    Some(typed.called().to_string())
                }
                Err(reason) => {
                    named += 1;
                    if named <= NAMED {
                        log::warn!("{reason}");
                    }
                    lines.extend(without_type(&name, REJECTED, revision));
                    None
                }
            };
            reading.borrow_mut().result(called);
            Ok(())
        };
        let tally = run_cells(session.job(Flagged::default()), &mut *source, wanted, each)?;
        if named > NAMED {
            let more = named - NAMED;
            log::warn!("{}: {more} cells more cannot be used", source.name());
        }
        let doubtful = tally.detected.is_some_and(|detected| detected.others > 0);
        let now = Some((tally.input, tally.matched, tally.columns, doubtful));
        if self.said != now {
            self.said = now;
            session.warn(source.name(), &tally);
            session.describe(source.name(), &tally);
        }
        Ok(reading.into_inner())
    }

    fn settle(&mut self, reading: Reading) {
        let of_one_name = reading.of_one_name();
        let revision = self.cells.settle(reading);
        if of_one_name > 0 && revision.number == 1 {
            log::warn!(
                "{}: {of_one_name} cells share names with others: lines of one name stand in the \
                 order of its cells",
                self.folder.display()
            );
        }
        for name in &revision.gone {
            let name = clean(name.as_bytes());
            self.lines
                .extend(without_type(&name, GONE, revision.number));
        }
        if !self.quiet {
            note(format_args!(
                "revision {}: {} cells new, {} scored again, {} of them of another type now",
                revision.number, revision.new, revision.again, revision.changed
            ));
        }
    }

    /// Why what was found is not of the last state, if it is not.
    fn missing(&mut self) -> Option<CliError> {
        let folder = self.folder.display();
        if let Some(error) = self.unread.take() {
            return Some(error);
        }
        let reason = if self.cells.revision() == 0 {
            "no matrix came"
        } else if self.seen.is_empty() {
            "its matrix is gone"
        } else if self.seen != self.scored {
            "its matrix was still being written"
        } else if !self.cells.any_used() {
            "none of its cells can be used"
        } else {
            return None;
        };
        Some(CliError::Input(format!("{folder}: {reason}")))
    }
}

/// What stands in place of a type.
const REJECTED: &str = NO_TYPES[1];
const GONE: &str = NO_TYPES[2];

/// A line of a cell that has no type now.
fn without_type(name: &str, what: &str, revision: u64) -> Vec<u8> {
    let nothing = "\t.".repeat(6);
    format!("{name}\t{what}{nothing}\t0\t{revision}\n").into_bytes()
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
        // Behind a link, the file that it names.
        let Ok(about) = fs::metadata(entry.path()) else {
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
