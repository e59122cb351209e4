//! What all commands share: a model, an input, and what is said of a run.

use crate::cells::error::CellsError;
use crate::cells::input::{CellSource, Choice, files, open};
use crate::cells::model::{CellModel, Kind};
use crate::cells::prepare::{Detected, Input};
use crate::cells::run::{Flagged, Job, RunError, Scored, Settings, Tally, run};
use crate::cli::arguments::cells::{CellsOptions, ValuesArgument};
use crate::cli::error::CliError;
use crate::cli::guard::Files;
use crate::cli::report::note;
use crate::kernels::Isa;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// Cells that are named on standard error because they cannot be used; more are counted only.
pub(super) const NAMED: u64 = 10;

/// Genes below which a model's answer means little: so many, or this part of those that it knows.
/// The built-in networks learned from panels of a fifth and more.
const FEWEST: usize = 500;
const FEWEST_OF: usize = 5;

fn choice(options: &CellsOptions) -> Choice {
    Choice {
        layer: options.layer.clone(),
        raw: options.raw,
        genes: options.genes.clone(),
    }
}

fn values(input: Option<Input>) -> &'static str {
    match input {
        Some(Input::LogNormalised) => "log-normalised",
        _ => "counts",
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> CliError {
        match error {
            RunError::Model(error) => error.into(),
            other => CliError::input(other),
        }
    }
}

impl From<CellsError> for CliError {
    fn from(error: CellsError) -> CliError {
        CliError::input(error)
    }
}

/// A model, and how cells go through it.
pub(super) struct Session {
    pub(super) model: CellModel,
    pub(super) choice: Choice,
    pub(super) settings: Settings,
    quiet: bool,
}

impl Session {
    /// Opens the model that is asked for, or the built-in one of this kind.
    pub(super) fn new(options: &CellsOptions, kind: Kind, quiet: bool) -> Result<Self, CliError> {
        let model = match &options.model {
            Some(file) => CellModel::open(file)?,
            None => kind.builtin()?,
        };
        if model.kind() != kind {
            let (name, own) = (model.model().file().name(), model.kind());
            return Err(CliError::input(format!("{name}: task {own}, not {kind}")));
        }
        Ok(Session {
            model,
            choice: choice(options),
            settings: Settings {
                input: options.values.map(|input| match input {
                    ValuesArgument::Counts => Input::Counts,
                    ValuesArgument::Lognorm => Input::LogNormalised,
                }),
                seed: options.seed,
                threads: match options.threads {
                    Some(threads) => threads.into(),
                    None => thread::available_parallelism().map_or(1, NonZero::get),
                },
            },
            quiet,
        })
    }

    /// Files of these options and inputs that are read, those of a folder and those beside a matrix
    /// too.
    pub(super) fn files(options: &CellsOptions, inputs: &[&PathBuf]) -> Result<Files, CliError> {
        let choice = choice(options);
        let mut read = Files::default().read(&options.model).read(&options.genes);
        for input in inputs {
            read = read.read(&files(input, &choice)?);
        }
        Ok(read)
    }

    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn CellSource>, CliError> {
        Ok(open(path, &self.choice)?)
    }

    /// A run of this model.
    pub(super) fn job<'a>(&'a self, flagged: Flagged<'a>) -> Job<'a> {
        Job {
            model: &self.model,
            settings: &self.settings,
            flagged,
        }
    }

    /// All cells of an input through the model; says what became of them.
    ///
    /// # Errors
    /// Where none of them can be used, too.
    pub(super) fn run(
        &self,
        source: &mut dyn CellSource,
        flagged: Flagged,
        each: impl FnMut(Scored) -> Result<(), CliError>,
    ) -> Result<Tally, CliError> {
        self.run_those(source, flagged, |_| true, each)
    }

    /// The same for the cells that are wanted, by their names; it is asked of each, in their order.
    pub(super) fn run_those(
        &self,
        source: &mut dyn CellSource,
        flagged: Flagged,
        mut wanted: impl FnMut(&str) -> bool,
        mut each: impl FnMut(Scored) -> Result<(), CliError>,
    ) -> Result<Tally, CliError> {
        let began = Instant::now();
        let mut named = 0;
        let mut first = None;
        let wanted = |name: &str, _: &[f32]| wanted(name);
        let tally = run(self.job(flagged), source, wanted, |cell: Scored| {
            if let Err(reason) = &cell.result {
                named += 1;
                if named <= NAMED {
                    log::warn!("{reason}");
                }
                first.get_or_insert_with(|| reason.clone());
            }
            each(cell)
        })?;
        if named > NAMED {
            log::warn!(
                "{}: {} cells more cannot be used",
                source.name(),
                named - NAMED
            );
        }
        self.warn(source.name(), &tally);
        self.describe(source.name(), &tally);
        if !self.quiet {
            let seconds = began.elapsed().as_secs_f64();
            note(format_args!(
                "cells    {} in = {} scored + {} rejected, in {seconds:.1} s",
                tally.cells, tally.scored, tally.rejected
            ));
        }
        match first {
            Some(first) if tally.scored == 0 => {
                let hint = if tally.negative == tally.cells {
                    ": values below zero are scaled ones; --raw or --layer may have what was \
                     measured"
                } else {
                    ""
                };
                let cells = tally.cells;
                let reason = format!("none of {cells} cells can be used{hint}; {first}");
                Err(CliError::Input(reason))
            }
            _ => Ok(tally),
        }
    }

    /// What makes answers doubtful.
    pub(super) fn warn(&self, file: &str, tally: &Tally) {
        let (known, name) = (self.model.tokens().known(), self.model.name());
        let matched = tally.matched;
        let fewest = match self.model.kind() {
            // It answers for the genes that it was trained with together.
            Kind::Perturbation => known / 2,
            _ => (known / FEWEST_OF).min(FEWEST),
        };
        if matched < fewest {
            log::warn!(
                "{file}: {matched} of the {known} genes of {name}: with less than {fewest}, what \
                 it says means little"
            );
        }
        if tally.by_upper_case * 2 > matched {
            log::warn!(
                "{file}: {} of {matched} genes are known in upper case only: cells of a mouse? \
                 {name} takes them for genes of the same name",
                tally.by_upper_case
            );
        }
        if let Some(detected) = tally.detected
            && detected.others > 0
        {
            let Detected { cells, others, .. } = detected;
            let (all, option) = (values(tally.input), "--input counts|lognorm");
            log::warn!(
                "{file}: {others} of the first {cells} cells do not look like {all}, which all \
                 are taken for: {option} says what they are"
            );
        }
    }

    /// What an input is taken for.
    pub(super) fn describe(&self, file: &str, tally: &Tally) {
        if self.quiet {
            return;
        }
        let others = match tally.others {
            0 => String::new(),
            others => format!("; {others} columns are no genes"),
        };
        let proteins = match tally.proteins {
            0 => String::new(),
            proteins => format!("; {proteins} proteins"),
        };
        let merged = match tally.merged {
            0 => String::new(),
            merged => format!(", {merged} of these from several columns"),
        };
        note(format_args!(
            "{file}: {}; {} of {} columns are among the model's {} genes{merged}{proteins}{others}",
            values(tally.input),
            tally.matched,
            tally.columns,
            self.model.tokens().known()
        ));
    }

    /// Ends a report.
    pub(super) fn sign(&self) {
        if !self.quiet {
            note(format_args!(
                "models   {} on {}",
                self.model.name(),
                Isa::selected()
            ));
        }
    }
}
