//! `score`: what a model gives for every base, or for whole sequences.

use super::arguments::score::ScoreArguments;
use super::arguments::values::StrandArgument;
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target};
use super::records::each_record;
use super::scorer::{OneModel, scorer};
use crate::annotate::{Priors, Strands, WholeScorer};
use crate::call::Strand;
use crate::model::Model;
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
    rows: Rows,
}

/// What a score is for.
enum Rows {
    /// For a base: a file for each record and strand.
    Bases { strands: Strands, folder: PathBuf },
    /// For a record as a whole: a line for each.
    Whole { strand: Strand, target: Target },
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
            Rows::Whole { strand, target }
        } else {
            read.write_into(&arguments.output, is_score_file).check()?;
            check_index(&arguments.output.join(INDEX))?;
            Rows::Bases {
                strands: arguments.strand.map_or(Strands::Both, Into::into),
                folder: arguments.output,
            }
        };
        Ok(ScorePlan {
            input: arguments.input,
            model: OneModel {
                task: arguments.task,
                file: arguments.model,
                tier: arguments.tier.into(),
            },
            priors: Priors::new(&arguments.priors).map_err(CliError::options)?,
            rows,
        })
    }
}

pub(super) fn run(arguments: ScoreArguments) -> Result<(), CliError> {
    let plan = ScorePlan::new(arguments)?;
    let model = plan.model.open()?;
    match &plan.rows {
        Rows::Whole { strand, target } => whole(&plan.input, model, *strand, target),
        Rows::Bases { .. } if !model.manifest().is_scan() => {
            let task = &model.manifest().task;
            Err(CliError::Usage(format!(
                "{task} scores whole sequences: add --whole"
            )))
        }
        Rows::Bases { strands, folder } => bases(&plan, model, *strands, folder),
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

/// An array of scores for each record and strand, and an index of them.
fn bases(plan: &ScorePlan, model: Model, strands: Strands, folder: &Path) -> Result<(), CliError> {
    let mut scorer = scorer(model, &plan.priors)?;
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    let index_target = Target::File(folder.join(INDEX));
    let failed = |source| index_target.failed(source);
    let mut index = index_target.open()?;
    writeln!(index, "{INDEX_HEADER}").map_err(failed)?;
    let columns = scorer.manifest().outputs.len();
    let result = each_record(&plan.input, |number, name, codes| {
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
            scorer.score(codes, strand, |rows| npy.write(rows).map_err(failed))?;
            let array = npy.finish(length).map_err(failed)?;
            array.end(End::Complete).map_err(failed)?;
            let name = String::from_utf8_lossy(name);
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

/// A line of scores for each record.
fn whole(input: &Path, model: Model, strand: Strand, target: &Target) -> Result<(), CliError> {
    let mut scorer = WholeScorer::new(model)?;
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    let outputs = scorer.manifest().outputs.iter();
    let names: Vec<&str> = outputs.map(|o| o.name.as_str()).collect();
    let columns = names.len();
    writeln!(out, "record\t{}", names.join("\t")).map_err(failed)?;
    let result = each_record(input, |_, name, codes| {
        let name = String::from_utf8_lossy(name);
        write!(out, "{name}").map_err(failed)?;
        match scorer.score(codes, strand)? {
            Some(scores) => {
                for score in scores {
                    write!(out, "\t{score:.6}").map_err(failed)?;
                }
            }
            None => {
                log::warn!("{name}: {} nt are too few for this model", codes.len());
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
