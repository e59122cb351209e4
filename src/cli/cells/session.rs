//! What all commands share: a model, an input, and what is said of a run.

use crate::cells::error::CellsError;
use crate::cells::input::{CellSource, Choice, open};
use crate::cells::model::{CellModel, Kind};
use crate::cells::prepare::Input;
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
const NAMED: u64 = 10;

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
            choice: Choice {
                layer: options.layer.clone(),
                raw: options.raw,
                genes: options.genes.clone(),
            },
            settings: Settings {
                input: options.input.map(|input| match input {
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

    /// Files of these options that are read.
    pub(super) fn files(options: &CellsOptions, inputs: &[&PathBuf]) -> Files {
        Files::default()
            .read(inputs.iter().copied())
            .read(&options.model)
            .read(&options.genes)
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
    pub(super) fn run(
        &self,
        source: &mut dyn CellSource,
        flagged: Flagged,
        mut each: impl FnMut(Scored) -> Result<(), CliError>,
    ) -> Result<Tally, CliError> {
        let began = Instant::now();
        let mut named = 0;
        let everyone = |_: &str, _: &[f32]| true;
        let tally = run(self.job(flagged), source, everyone, |cell: Scored| {
            if let Err(reason) = &cell.result {
                named += 1;
                if named <= NAMED {
                    log::warn!("{reason}");
                }
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
        if !self.quiet {
            let seconds = began.elapsed().as_secs_f64();
            self.report(source.name(), &tally, seconds);
        }
        Ok(tally)
    }

    fn report(&self, file: &str, tally: &Tally, seconds: f64) {
        let values = match tally.input {
            Some(Input::LogNormalised) => "log-normalised",
            _ => "counts",
        };
        let merged = match tally.merged {
            0 => String::new(),
            merged => format!(", {merged} of these from several columns"),
        };
        note(format_args!(
            "{file}: {values}; {} of {} columns are among the model's {} genes{merged}",
            tally.matched,
            tally.columns,
            self.model.tokens().known()
        ));
        note(format_args!(
            "cells    {} in = {} scored + {} rejected, in {seconds:.1} s",
            tally.cells, tally.scored, tally.rejected
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
