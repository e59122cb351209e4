//! `cells annotate`: a type for each cell.

use super::copy::{Copy, PREFIX};
use super::session::Session;
use crate::cells::h5ad::{Answers, Column};
use crate::cells::model::{CellModel, Kind};
use crate::cells::run::{Flagged, Outcome, ranked};
use crate::cli::arguments::cells::AnnotateCellsArguments;
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::cli::report::note;
use crate::model::genes::NO_TYPES;
use crate::sink::clean;
use std::collections::BTreeMap;
use std::io::Write;

/// The name of what is none of the types that a model knows, or of several alike.
pub(super) const UNKNOWN: &str = NO_TYPES[0];

/// The header of the table, a tab before every column but the first.
pub(super) const COLUMNS: &str =
    "#cell\ttype\tprobability\tfirst\tsecond\tprobability2\tthird\tprobability3\tgenes";

pub(super) fn run(arguments: &AnnotateCellsArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])?
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Type, quiet)?;
    let least = least(arguments.min_probability, &session.model)?;
    let (input, output) = (&arguments.input, &arguments.output);
    let copy = Copy::new(input, output, |cells| Answers {
        columns: vec![column("type", Column::Counts(vec![0; cells]))],
        ..Answers::default()
    })?;
    let mut source = session.open(input)?;
    let mut counts = Counts::default();
    if let Some(copy) = copy {
        let mut added = Added::new(&session.model);
        session.run(&mut *source, Flagged::default(), |cell| {
            let outcome = cell.result.as_ref().ok();
            let typed = outcome.map(|own| Typed::new(&session.model, own, least));
            if let Some(typed) = &typed {
                counts.add(typed.called());
            }
            added.add(typed.as_ref());
            Ok(())
        })?;
        copy.end(&added.answers())?;
    } else {
        let target = Target::new(Some(output.clone()));
        let failed = |source| target.failed(source);
        let mut out = target.open_text()?;
        writeln!(out, "{COLUMNS}").map_err(failed)?;
        let mut line = vec![];
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
    }
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

/// The columns of the table as columns of `obs`: of all cells, also of those that cannot be used.
struct Added {
    names: Vec<String>,
    called: Vec<Option<u16>>,
    tops: [Vec<Option<u16>>; 3],
    probabilities: [Vec<f32>; 3],
    genes: Vec<u32>,
}

impl Added {
    fn new(model: &CellModel) -> Added {
        Added {
            names: model.outputs().map(str::to_string).collect(),
            called: vec![],
            tops: Default::default(),
            probabilities: Default::default(),
            genes: vec![],
        }
    }

    /// The next cell.
    fn add(&mut self, typed: Option<&Typed>) {
        // Behind all types stands that it is unknown.
        let unknown = self.names.len() as u16;
        let called = typed.map(|typed| {
            let first = typed.top.first().filter(|_| typed.is_called());
            first.map_or(unknown, |top| top.at)
        });
        self.called.push(called);
        for rank in 0..self.tops.len() {
            let top = typed.and_then(|typed| typed.top.get(rank));
            self.tops[rank].push(top.map(|top| top.at));
            self.probabilities[rank].push(top.map_or(f32::NAN, |top| top.probability));
        }
        self.genes.push(typed.map_or(0, |typed| typed.genes as u32));
    }

    fn answers(self) -> Answers {
        let mut with_unknown = self.names.clone();
        with_unknown.push(UNKNOWN.to_string());
        let mut columns = vec![column(
            "type",
            Column::Categories {
                names: with_unknown,
                of: self.called,
            },
        )];
        let ranks = ["first", "second", "third"];
        let likely = ["probability", "probability2", "probability3"];
        let named = ranks.into_iter().zip(likely);
        for ((of, p), (rank, likely)) in self.tops.into_iter().zip(self.probabilities).zip(named) {
            let names = self.names.clone();
            columns.push(column(rank, Column::Categories { names, of }));
            columns.push(column(likely, Column::Numbers(p)));
        }
        columns.push(column("genes", Column::Counts(self.genes)));
        Answers {
            columns,
            ..Answers::default()
        }
    }
}

fn column(name: &str, column: Column) -> (String, Column) {
    (format!("{PREFIX}{name}"), column)
}

/// A type that a cell may have.
struct Top<'a> {
    /// Its place among the model's outputs.
    at: u16,
    name: &'a str,
    probability: f32,
}

/// The likeliest types of a cell.
pub(super) struct Typed<'a> {
    /// At most three.
    top: Vec<Top<'a>>,
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
                .map(|(at, probability)| Top {
                    at: at as u16,
                    name: names.get(at).copied().unwrap_or("?"),
                    probability,
                })
                .collect(),
            least,
            genes: cell.ids.len().saturating_sub(special),
        }
    }

    /// The type, or that it is unknown.
    pub(super) fn called(&self) -> &'a str {
        match self.top.first() {
            Some(top) if self.is_called() => top.name,
            _ => UNKNOWN,
        }
    }

    fn is_called(&self) -> bool {
        let first = self.top.first();
        first.is_some_and(|top| top.probability >= self.least)
    }

    /// Appends a line of the table; that of a growing matrix has a revision.
    pub(super) fn line(&self, out: &mut Vec<u8>, cell: &str, revision: Option<u64>) {
        let p = self.top.first().map_or(0.0, |top| top.probability);
        let mut line = format!("{cell}\t{}\t{p:.4}", self.called());
        for at in 0..3 {
            line += &match self.top.get(at) {
                Some(top) if at == 0 => format!("\t{}", top.name),
                Some(top) => format!("\t{}\t{:.4}", top.name, top.probability),
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
