//! `score`: what a model gives for every base, or for whole sequences.

use super::arguments::score::ScoreArguments;
use super::arguments::values::StrandArgument;
use super::check;
use super::error::CliError;
use super::output::Target;
use super::records::each_record;
use super::scorer::{OneModel, scorer};
use crate::annotate::{Priors, Strands, WholeScorer};
use crate::call::Strand;
use crate::model::Model;
use crate::sink::npy::NpyWriter;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

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
        let rows = if arguments.whole {
            let strand = match arguments.strand.unwrap_or(StrandArgument::Forward) {
                StrandArgument::Forward => Strand::Forward,
                StrandArgument::Reverse => Strand::Reverse,
                StrandArgument::Both => {
                    let message = "--whole scores one strand: forward or reverse";
                    return Err(CliError::usage(message));
                }
            };
            let target = Target::new(Some(arguments.output));
            let read = [&arguments.input].into_iter().chain(&arguments.model);
            check::files(read.map(PathBuf::as_path), target.path())?;
            Rows::Whole { strand, target }
        } else {
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

/// An array of scores for each record and strand, and an index of them.
fn bases(plan: &ScorePlan, model: Model, strands: Strands, folder: &Path) -> Result<(), CliError> {
    let mut scorer = scorer(model, &plan.priors)?;
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    let index_path = folder.join("index.tsv");
    let failed = CliError::io(&index_path);
    let mut index = BufWriter::new(File::create(&index_path).map_err(&failed)?);
    writeln!(index, "record\tstrand\tlength\tfile").map_err(&failed)?;
    let columns = scorer.manifest().outputs.len();
    let result = each_record(&plan.input, |number, name, codes| {
        for &strand in strands.each() {
            let side = match strand {
                Strand::Forward => "forward",
                Strand::Reverse => "reverse",
            };
            let file = format!("{number:08}.{side}.npy");
            let path = folder.join(&file);
            let failed = CliError::io(&path);
            let target = BufWriter::new(File::create(&path).map_err(&failed)?);
            let mut npy = NpyWriter::new(target, codes.len() as u64, columns).map_err(&failed)?;
            scorer.score(codes, strand, |rows| npy.write(rows).map_err(&failed))?;
            let mut target = npy.finish(codes.len() as u64).map_err(&failed)?;
            target.flush().map_err(&failed)?;
            let name = String::from_utf8_lossy(name);
            let failed = CliError::io(&index_path);
            writeln!(index, "{name}\t{strand}\t{}\t{file}", codes.len()).map_err(&failed)?;
        }
        Ok(())
    });
    index.flush().map_err(&failed)?;
    result
}

/// A line of scores for each record.
fn whole(input: &Path, model: Model, strand: Strand, target: &Target) -> Result<(), CliError> {
    let mut scorer = WholeScorer::new(model)?;
    let failed = |source| target.failed(source);
    let mut out = target.open()?;
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
    out.flush().map_err(failed)?;
    result
}
