//! `score`: what a model gives for every base, or for whole sequences.

use super::arguments::score::ScoreArguments;
use super::arguments::values::{LongArgument, StrandArgument};
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target};
use super::records::each_record;
use super::scorer::{OneModel, scorer};
use crate::annotate::{AnnotateError, Priors, Scorer, Strands, WholeScorer, WindowScorer};
use crate::call::Strand;
use crate::model::Model;
use crate::model::manifest::{Manifest, Tier};
use crate::sink::npy::NpyWriter;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What lists the arrays of a folder.
const INDEX: &str = "index.tsv";
const INDEX_HEADER: &str = "record\tstrand\tlength\tfile";

/// What is scored, and where scores go.
struct ScorePlan {
    input: PathBuf,
    model: OneModel,
    priors: Priors,
    /// Bases from one window to the next, where that is not up to the model.
    stride: Option<usize>,
    rows: Rows,
}

/// What a score is for.
enum Rows {
    /// For a base: a file for each record and strand.
    Bases { strands: Strands, folder: PathBuf },
    /// For a record as a whole: a line for each.
    Whole { strand: Strand, target: Target },
    /// For a window of a record: a line for each.
    Windows { strand: Strand, target: Target },
}

impl ScorePlan {
    fn new(arguments: ScoreArguments) -> Result<ScorePlan, CliError> {
        let read = Files::default()
            .read([&arguments.input])
            .read(&arguments.model);
        let rows = if arguments.whole {
            let strand = match arguments.strand.unwrap_or(StrandArgument::Forward) {
                StrandArgument::Forward => Strand::Forward,
                StrandArgument::Reverse => Strand::Reverse,
                StrandArgument::Both => {
                    let message = "--whole scores one strand: forward or reverse";
                    return Err(CliError::usage(message));
                }
            };
            read.write([&arguments.output]).check()?;
            let target = Target::new(Some(arguments.output));
            match arguments.long {
                LongArgument::Mean => Rows::Whole { strand, target },
                LongArgument::Windows => Rows::Windows { strand, target },
            }
        } else {
            read.write_into(&arguments.output, is_score_file).check()?;
            check_index(&arguments.output.join(INDEX))?;
            Rows::Bases {
                strands: arguments.strand.map_or(Strands::Both, Into::into),
                folder: arguments.output,
            }
        };
        // A window's score is wanted whatever it is: nothing is ruled out by a first look.
        let tier = match arguments.tier.into() {
            Tier::Auto if arguments.whole => Tier::Accurate,
            tier => tier,
        };
        Ok(ScorePlan {
            input: arguments.input,
            model: OneModel {
                task: arguments.task,
                file: arguments.model,
                clade: arguments.clade,
                tier,
            },
            priors: Priors::new(&arguments.priors).map_err(CliError::options)?,
            stride: arguments.stride.map(|bases| bases as usize),
            rows,
        })
    }
}

pub(super) fn run(arguments: ScoreArguments) -> Result<(), CliError> {
    let plan = ScorePlan::new(arguments)?;
    let model = plan.model.open()?;
    let letters = model.manifest().tokeniser.reads_letters();
    if plan.stride.is_some() && !letters {
        let message = "--stride is for models whose tokens are made of letters";
        return Err(CliError::usage(message));
    }
    if matches!(plan.rows, Rows::Windows { .. }) && !letters {
        let message = "--long windows is for models whose tokens are made of letters";
        return Err(CliError::usage(message));
    }
    match &plan.rows {
        Rows::Whole { strand, target } => whole(&plan, model, *strand, target),
        Rows::Windows { strand, target } => windows(&plan, model, *strand, target),
        Rows::Bases { strands, folder } if letters => {
            let scorer = WindowScorer::new(model).map_err(CliError::options)?;
            bases(
                &plan.input,
                Bases::Windows(Box::new(scorer), plan.stride),
                *strands,
                folder,
            )
        }
        Rows::Bases { .. } if !model.manifest().is_scan() => {
            let task = &model.manifest().task;
            Err(CliError::Usage(format!(
                "{task} scores whole sequences: add --whole"
            )))
        }
        Rows::Bases { strands, folder } => {
            let scorer = scorer(model, &plan.priors)?;
            bases(&plan.input, Bases::Scan(Box::new(scorer)), *strands, folder)
        }
    }
}

/// Nobody names the index, so one that is no such index is somebody's.
fn check_index(path: &Path) -> Result<(), CliError> {
    match fs::read(path) {
        Ok(text) if !text.starts_with(INDEX_HEADER.as_bytes()) => Err(CliError::Usage(format!(
            "{}: lists no scores, and would be overwritten: name another folder",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// True for names that the folder's files have.
fn is_score_file(name: &str) -> bool {
    let name = name.strip_suffix(".part").unwrap_or(name);
    name == INDEX || name.ends_with(".npy")
}

/// What gives a row for each base.
enum Bases {
    /// A model that scans.
    Scan(Box<Scorer>),
    /// One of windows, so many bases apart: a base has the score of the one whose centre is
    /// nearest.
    Windows(Box<WindowScorer>, Option<usize>),
}

impl Bases {
    fn outputs(&self) -> usize {
        match self {
            Bases::Scan(scorer) => scorer.manifest().outputs.len(),
            Bases::Windows(scorer, _) => scorer.manifest().outputs.len(),
        }
    }

    /// Gives rows in forward order, some at a time. Where a record is too short they are no
    /// numbers, and a warning names it.
    fn score(
        &mut self,
        name: &str,
        codes: &[u8],
        strand: Strand,
        mut write: impl FnMut(&[f32]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let (scorer, stride) = match self {
            Bases::Scan(scorer) => return scorer.score(codes, strand, write),
            Bases::Windows(scorer, stride) => (scorer, *stride),
        };
        let columns = scorer.manifest().outputs.len();
        let windows = scorer.intake().windows(codes.len(), stride);
        let mut scores = vec![];
        scorer.each(codes, windows, strand, |_, row| {
            scores.extend_from_slice(row);
            Ok::<(), AnnotateError>(())
        })?;
        if scores.is_empty() {
            too_few(name, codes, scorer.intake().sequence().shortest);
            scores.resize(columns, f32::NAN);
            return (0..codes.len()).try_for_each(|_| write(&scores));
        }
        (0..codes.len()).try_for_each(|position| {
            let first = windows.nearest(position) * columns;
            write(&scores[first..first + columns])
        })
    }
}

/// An array of scores for each record and strand, and an index of them.
fn bases(input: &Path, mut scorer: Bases, strands: Strands, folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    let index_target = Target::File(folder.join(INDEX));
    let failed = |source| index_target.failed(source);
    let mut index = index_target.open()?;
    writeln!(index, "{INDEX_HEADER}").map_err(failed)?;
    let columns = scorer.outputs();
    let result = each_record(input, |number, name, codes| {
        let name = String::from_utf8_lossy(name);
        for &strand in strands.each() {
            let side = match strand {
                Strand::Forward => "forward",
                Strand::Reverse => "reverse",
            };
            let file = format!("{number:08}.{side}.npy");
            let target = Target::File(folder.join(&file));
            let failed = |source| target.failed(source);
            let length = codes.len() as u64;
            let mut npy = NpyWriter::new(target.open()?, length, columns).map_err(failed)?;
            scorer.score(&name, codes, strand, |rows| npy.write(rows).map_err(failed))?;
            let array = npy.finish(length).map_err(failed)?;
            array.end(End::Complete).map_err(failed)?;
            writeln!(index, "{name}\t{strand}\t{length}\t{file}")
                .map_err(|source| index_target.failed(source))?;
        }
        Ok(())
    });
    // Without its index nobody takes the folder for whole.
    index.end(end_of(&result)).map_err(failed)?;
    result
}

/// What was scored before an input could not be read on stays in a file that says so.
fn end_of(result: &Result<(), CliError>) -> End {
    match result {
        Ok(()) => End::Complete,
        Err(_) => End::Incomplete,
    }
}

/// A line of scores for each window of each record.
fn windows(
    plan: &ScorePlan,
    model: Model,
    strand: Strand,
    target: &Target,
) -> Result<(), CliError> {
    let mut scorer = WindowScorer::new(model).map_err(CliError::options)?;
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    let names = names(scorer.manifest());
    writeln!(out, "record\tstart\tend\t{names}").map_err(failed)?;
    let result = each_record(&plan.input, |_, name, codes| {
        let name = String::from_utf8_lossy(name);
        let windows = scorer.intake().windows(codes.len(), plan.stride);
        let mut count = 0;
        scorer.each(codes, windows, strand, |range, scores| {
            count += 1;
            write!(out, "{name}\t{}\t{}", range.start, range.end).map_err(failed)?;
            for score in scores {
                write!(out, "\t{score:.6}").map_err(failed)?;
            }
            writeln!(out).map_err(failed)
        })?;
        if count == 0 {
            too_few(&name, codes, scorer.intake().sequence().shortest);
        }
        Ok(())
    });
    out.end(end_of(&result)).map_err(failed)?;
    result
}

fn too_few(name: &str, codes: &[u8], shortest: usize) {
    let there = codes.len();
    log::warn!("{name}: {there} nt are too few for this model, which takes {shortest} or more");
}

/// The names of a model's outputs, with tabs between.
fn names(manifest: &Manifest) -> String {
    let names = manifest.outputs.iter().map(|o| o.name.as_str());
    names.collect::<Vec<_>>().join("\t")
}

/// A line of scores for each record.
fn whole(plan: &ScorePlan, model: Model, strand: Strand, target: &Target) -> Result<(), CliError> {
    let mut scorer = WholeScorer::with_stride(model, plan.stride)?;
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    let columns = scorer.manifest().outputs.len();
    writeln!(out, "record\t{}", names(scorer.manifest())).map_err(failed)?;
    let result = each_record(&plan.input, |_, name, codes| {
        let name = String::from_utf8_lossy(name);
        write!(out, "{name}").map_err(failed)?;
        match scorer.score(codes, strand)? {
            Some(scores) => {
                for score in scores {
                    write!(out, "\t{score:.6}").map_err(failed)?;
                }
            }
            None => {
                too_few(&name, codes, scorer.shortest());
                for _ in 0..columns {
                    write!(out, "\tNA").map_err(failed)?;
                }
            }
        }
        writeln!(out).map_err(failed)
    });
    out.end(end_of(&result)).map_err(failed)?;
    result
}
