//! `score` and `eval`: what the models say of every base.

use super::records::each_record;
use super::{CliError, EvalArguments, ScoreArguments, StrandArgument, models_in_use, writer};
use crate::annotate::builtin;
use crate::annotate::{Priors, Scorer, Strands, WholeScorer};
use crate::annotate::{Task, kind};
use crate::call::CallKind;
use crate::call::Strand;
use crate::lab::evaluate::Evaluation;
use crate::lab::truth::ReadSites;
use crate::model::Model;
use crate::model::manifest::Tier;
use crate::sink::npy::NpyWriter;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

fn model(task: Option<Task>, file: Option<&Path>, tier: Tier) -> Result<Model, CliError> {
    let model = match (file, task) {
        (Some(file), _) => Model::open_tier(file, tier)?,
        (None, Some(task)) => builtin::model(task, tier)?,
        (None, None) => return Err(CliError::Usage("--task or --model".to_string())),
    };
    match task {
        Some(task) if model.manifest().task != task => Err(CliError::Usage(format!(
            "{} is for {}, not {task}",
            model.file().name(),
            model.manifest().task
        ))),
        _ => Ok(model),
    }
}

fn scorer(model: Model, priors: &[(CallKind, f64)]) -> Result<Scorer, CliError> {
    let priors = Priors::new(priors).map_err(CliError::usage)?;
    Scorer::with_priors(model, &priors).map_err(CliError::usage)
}

pub(super) fn run(arguments: &ScoreArguments) -> Result<(), CliError> {
    let tier = arguments.tier.into();
    let model = model(arguments.task, arguments.model.as_deref(), tier)?;
    if arguments.whole {
        return whole(arguments, model);
    }
    if !model.manifest().is_scan() {
        let task = &model.manifest().task;
        return Err(CliError::Usage(format!(
            "{task} scores whole sequences: add --whole"
        )));
    }
    let strands = strands(arguments.strand.unwrap_or(StrandArgument::Both));
    let mut scorer = scorer(model, &arguments.priors)?;
    let folder = &arguments.output;
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    let index_path = folder.join("index.tsv");
    let failed = CliError::io(&index_path);
    let mut index = BufWriter::new(File::create(&index_path).map_err(&failed)?);
    writeln!(index, "record\tstrand\tlength\tfile").map_err(&failed)?;
    let columns = scorer.manifest().outputs.len();
    let result = each_record(&arguments.input, |number, name, codes| {
        for &strand in strands {
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

fn whole(arguments: &ScoreArguments, model: Model) -> Result<(), CliError> {
    let mut scorer = WholeScorer::new(model)?;
    let strand = match arguments.strand.unwrap_or(StrandArgument::Forward) {
        StrandArgument::Forward => Strand::Forward,
        StrandArgument::Reverse => Strand::Reverse,
        StrandArgument::Both => {
            let message = "--whole scores one strand: forward or reverse".to_string();
            return Err(CliError::Usage(message));
        }
    };
    let failed = CliError::io(&arguments.output);
    let mut out = writer(Some(&arguments.output))?;
    let names: Vec<&str> = scorer
        .manifest()
        .outputs
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    let columns = names.len();
    writeln!(out, "record\t{}", names.join("\t")).map_err(&failed)?;
    let result = each_record(&arguments.input, |_, name, codes| {
        let name = String::from_utf8_lossy(name);
        write!(out, "{name}").map_err(&failed)?;
        match scorer.score(codes, strand)? {
            Some(scores) => {
                for score in scores {
                    write!(out, "\t{score:.6}").map_err(&failed)?;
                }
            }
            None => {
                log::warn!("{name}: {} nt are too few for this model", codes.len());
                for _ in 0..columns {
                    write!(out, "\tNA").map_err(&failed)?;
                }
            }
        }
        writeln!(out).map_err(&failed)
    });
    out.flush().map_err(&failed)?;
    result
}

fn strands(strand: StrandArgument) -> &'static [Strand] {
    Strands::from(strand).each()
}

pub(super) fn evaluate(arguments: &EvalArguments, quiet: bool) -> Result<(), CliError> {
    let tier = arguments.tier.into();
    let model = model(Some(arguments.task), arguments.model.as_deref(), tier)?;
    if model.manifest().task != Task::Splice {
        let message = "eval measures splice models; `score --whole` serves the others";
        return Err(CliError::Usage(message.to_string()));
    }
    let truth_path = &arguments.truth;
    let truth = File::open(truth_path).map_err(CliError::io(truth_path))?;
    let mut truth = ReadSites::read(BufReader::new(truth), &truth_path.display().to_string())
        .map_err(|e| CliError::Input(e.to_string()))?;
    let mut scorer = scorer(model, &arguments.priors)?;
    let outputs = scorer.manifest().outputs.iter();
    let kinds: Vec<(CallKind, f32)> = outputs
        .filter_map(|o| Some((kind(o).ok()??, o.threshold)))
        .collect();
    let mut evaluation = Evaluation::new(&kinds);
    let mut rows: Vec<f32> = vec![];
    let mut column: Vec<f32> = vec![];
    let result = each_record(&arguments.reads, |_, name, codes| {
        let sites = truth.take(name).to_vec();
        for &strand in strands(arguments.strand) {
            rows.clear();
            scorer.score(codes, strand, |scores| {
                rows.extend_from_slice(scores);
                Ok::<(), CliError>(())
            })?;
            for (c, &(kind, _)) in kinds.iter().enumerate() {
                column.clear();
                column.extend(rows.chunks_exact(kinds.len()).map(|row| row[c]));
                let own = sites
                    .iter()
                    .filter(|s| s.kind == kind && s.strand == strand);
                evaluation
                    .add_read(kind, strand, &column, own.map(|s| s.position))
                    .map_err(|e| {
                        CliError::Input(format!("{}: {e}", String::from_utf8_lossy(name)))
                    })?;
            }
        }
        Ok(())
    });
    if truth.unmet() > 0 {
        let (missing, file) = (truth.unmet(), truth_path.display());
        log::warn!("{file}: {missing} reads of the truth are not among the reads");
    }
    say!("{}", evaluation.report());
    if !quiet {
        let manifest = scorer.manifest();
        let used = models_in_use([(&*manifest.name, &*manifest.version)].into_iter());
        eprintln!("{used}");
    }
    result
}
