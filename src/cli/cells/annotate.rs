//! `cells annotate`: a type for each cell.

use super::session::Session;
use crate::cells::model::{CellModel, Kind};
use crate::cells::run::{Flagged, Outcome, ranked};
use crate::cli::arguments::cells::AnnotateCellsArguments;
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::sink::clean;
use std::collections::BTreeMap;
use std::io::Write;

/// The name of what is none of the types that a model knows, or of several alike.
pub(super) const UNKNOWN: &str = "unknown";

/// The header of the table, a tab before every column but the first.
pub(super) const COLUMNS: &str =
    "#cell\ttype\tprobability\tfirst\tsecond\tprobability2\tthird\tprobability3\tgenes";

pub(super) fn run(arguments: &AnnotateCellsArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])?
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Type, quiet)?;
    let least = least(arguments.min_probability, &session.model)?;
    let mut source = session.open(&arguments.input)?;
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "{COLUMNS}").map_err(failed)?;
    let (mut counts, mut line) = (Counts::default(), vec![]);
    session.run(&mut *source, Flagged::default(), |cell| {
        if let Ok(outcome) = &cell.result {
            let name = clean(cell.name.as_bytes());
            let typed = Typed::new(&session.model, outcome, least);
            line.clear();
            typed.line(&mut line, &name, None);
            out.write_all(&line).map_err(failed)?;
            counts.add(typed.called());
        }
        Ok(())
    })?;
    out.end(End::Complete).map_err(failed)?;
    if !quiet {
        note(format_args!("types    {counts}"));
    }
    session.sign();
    Ok(())
}

/// The probability from which on a type is called.
pub(super) fn least(asked: Option<f32>, model: &CellModel) -> Result<f32, CliError> {
    match asked {
        Some(least) if !(0.0..=1.0).contains(&least) => {
            Err(CliError::usage("--min-probability is from 0 to 1"))
        }
        Some(least) => Ok(least),
        None => Ok(model.tokens().cells().unknown),
    }
}

/// The likeliest types of a cell.
pub(super) struct Typed<'a> {
    /// Names and probabilities, at most three.
    top: Vec<(&'a str, f32)>,
    least: f32,
    genes: usize,
}

impl<'a> Typed<'a> {
    pub(super) fn new(model: &'a CellModel, cell: &Outcome, least: f32) -> Typed<'a> {
        let names: Vec<&str> = model.outputs().collect();
        let ranked = ranked(cell.outputs).into_iter().take(3);
        let special = usize::from(model.tokens().cls().is_some());
        Typed {
            top: ranked
                .map(|(at, p)| (names.get(at).copied().unwrap_or("?"), p))
                .collect(),
            least,
            genes: cell.ids.len().saturating_sub(special),
        }
    }

    /// The type, or that it is unknown.
    pub(super) fn called(&self) -> &'a str {
        match self.top.first() {
            Some((name, p)) if *p >= self.least => name,
            _ => UNKNOWN,
        }
    }

    /// Appends a line of the table; that of a growing matrix has a revision.
    pub(super) fn line(&self, out: &mut Vec<u8>, cell: &str, revision: Option<u64>) {
        let p = self.top.first().map_or(0.0, |(_, p)| *p);
        let mut line = format!("{cell}\t{}\t{p:.4}", self.called());
        for at in 0..3 {
            line += &match self.top.get(at) {
                Some((name, _)) if at == 0 => format!("\t{name}"),
                Some((name, p)) => format!("\t{name}\t{p:.4}"),
                None if at == 0 => "\t.".to_string(),
                None => "\t.\t.".to_string(),
            };
        }
        line += &format!("\t{}", self.genes);
        if let Some(revision) = revision {
            line += &format!("\t{revision}");
        }
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

/// Cells by type.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(super) fn add(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(name.to_string(), 1)),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all: Vec<(&String, &u64)> = self.0.iter().collect();
        all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (at, (name, count)) in all.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {name}")?;
        }
        Ok(())
    }
}
