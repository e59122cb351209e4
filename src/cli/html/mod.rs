//! `annotate --report`: what a run saw, for people who look rather than read. One page that needs
//! nothing else.

mod charts;
#[cfg(feature = "study")]
mod gene;
mod head;
mod meaning;
mod svg;
mod text;
mod tracks;

pub(super) use head::Facts;

use super::error::CliError;
use super::output::{End, Target, Writer};
use crate::annotate::ModelInfo;
use crate::call::Call;
use crate::metrics::Summary;
#[cfg(feature = "study")]
use crate::reads::lines::Lines;
#[cfg(feature = "study")]
use crate::reads::source::Input;
use crate::stream::observe::{Observed, ReadObserver, SeenRead};
use crate::stream::tally::Tally;
#[cfg(feature = "study")]
use crate::study::{gene_calls::GeneCalls, variants::genes::Genes};
use std::io::Write;
#[cfg(feature = "study")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const STYLE: &str = include_str!("page.css");

/// Nothing is asked for from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A report that is asked for.
#[derive(Debug)]
pub(super) struct ReportPlan {
    pub file: PathBuf,
    /// Genes, one of which is shown.
    #[cfg(feature = "study")]
    pub gff: Option<PathBuf>,
    /// Its symbol, if not the one of most calls.
    #[cfg(feature = "study")]
    pub gene: Option<String>,
    /// As on the command line.
    pub inputs: Vec<String>,
    pub command: String,
    /// Options that change what is called, besides those of the annotator.
    pub more: Vec<(&'static str, String)>,
}

/// What a report is made of.
#[derive(Default)]
struct Seen {
    tally: Tally,
    #[cfg(feature = "study")]
    genes: Option<GeneCalls>,
}

impl ReadObserver for Seen {
    fn calls(&mut self, read: SeenRead<'_>, calls: &[Call]) {
        self.tally.calls(read, calls);
        #[cfg(feature = "study")]
        if let Some(genes) = &mut self.genes {
            genes.calls(read, calls);
        }
    }

    fn end(&mut self, read: SeenRead<'_>, length: Option<u64>) {
        self.tally.end(read, length);
        #[cfg(feature = "study")]
        if let Some(genes) = &mut self.genes {
            genes.end(read, length);
        }
    }
}

/// A report on its way.
pub(super) struct Report {
    target: Target,
    writer: Writer,
    /// The only gene that is wanted.
    #[cfg(feature = "study")]
    gene: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

impl Report {
    /// Reads the genes and begins the file, so that what is wrong with either is known before the
    /// run.
    ///
    /// # Errors
    /// Where the annotation is none or lacks the gene, and where the file cannot be written.
    pub(super) fn open(plan: &ReportPlan) -> Result<Report, CliError> {
        #[cfg(feature = "study")]
        let seen = Seen {
            genes: match &plan.gff {
                Some(gff) => Some(gene_calls(gff, plan.gene.clone())?),
                None => None,
            },
            ..Seen::default()
        };
        #[cfg(not(feature = "study"))]
        let seen = Seen::default();
        let target = Target::File(plan.file.clone());
        Ok(Report {
            writer: target.open_text()?,
            target,
            #[cfg(feature = "study")]
            gene: plan.gene.clone(),
            seen: Arc::new(Mutex::new(seen)),
        })
    }

    /// What is to see the run's reads.
    pub(super) fn observer(&self) -> Observed {
        Observed(self.seen.clone())
    }

    /// Writes the page.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn write(
        mut self,
        facts: &Facts,
        models: &[ModelInfo],
        summary: &Summary,
    ) -> Result<(), CliError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(feature = "study")]
        let gene = seen.genes.as_ref();
        #[cfg(feature = "study")]
        let gene = gene.map(|own| gene::section(own.best(), self.gene.as_deref()));
        #[cfg(not(feature = "study"))]
        let gene = None;
        let page = page(&seen.tally, facts, models, summary, gene);
        drop(seen);
        let written = self.writer.write_all(page.as_bytes());
        let ended = written.and_then(|()| self.writer.end(End::Complete));
        ended.map_err(|source| self.target.failed(source))
    }
}

/// Reads an annotation.
#[cfg(feature = "study")]
fn gene_calls(gff: &Path, symbol: Option<String>) -> Result<GeneCalls, CliError> {
    let mut lines = Lines::open(Input::from_argument(gff)).map_err(CliError::input)?;
    let genes = Genes::read(&mut lines).map_err(CliError::input)?;
    let file = gff.display();
    match &symbol {
        _ if genes.count() == 0 => Err(CliError::Input(format!("{file}: holds no gene"))),
        Some(symbol) if genes.named(symbol) == 0 => {
            Err(CliError::Input(format!("{file}: holds no gene {symbol}")))
        }
        _ => Ok(GeneCalls::new(genes, symbol)),
    }
}

/// The whole page.
fn page(
    tally: &Tally,
    facts: &Facts,
    models: &[ModelInfo],
    summary: &Summary,
    gene: Option<String>,
) -> String {
    let mut places = vec![
        ("run", "The run"),
        ("lengths", "Read lengths"),
        ("scores", "Calls by score"),
        ("meaning", "What a score means"),
        ("longest", "The longest reads"),
    ];
    places.extend(gene.as_ref().map(|_| ("gene", "A gene")));
    let places = places.iter();
    let places: String = places
        .map(|(id, name)| format!("<li><a href=\"#{id}\">{name}</a></li>"))
        .collect();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<title>strandline \
         report: {} reads</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}",
        text::whole(summary.reads_out),
        svg::shapes()
    );
    out += &head::lead(facts, summary);
    out += &format!("<nav aria-label=\"Sections\"><ul>{places}</ul></nav></header>\n<main>\n");
    out += &head::section(facts, summary);
    out += &charts::lengths(&tally.lengths);
    out += &charts::scores(tally);
    out += &meaning::section(tally, models, &facts.options);
    out += &tracks::section(tally);
    out.extend(gene);
    out += "</main>\n</body>\n</html>\n";
    out
}
