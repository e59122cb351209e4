//! `eval`: the splice model on reads whose sites are known.

use super::arguments::eval::EvalArguments;
use super::error::CliError;
use super::guard::Files;
use super::output::say;
use super::records::each_record;
use super::report::{models_in_use, note};
use super::scorer::{OneModel, scorer};
use crate::annotate::{Priors, Strands, Task, kind};
use crate::call::CallKind;
use crate::lab::evaluate::Evaluation;
use crate::lab::truth::ReadSites;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// What is measured, and on what.
struct EvalPlan {
    reads: PathBuf,
    truth: PathBuf,
    model: OneModel,
    priors: Priors,
    strands: Strands,
}

impl EvalPlan {
    fn new(arguments: EvalArguments) -> Result<EvalPlan, CliError> {
        Files::default()
            .read([&arguments.reads, &arguments.truth])
            .read(&arguments.model)
            .check()?;
        if arguments.task != Task::Splice {
            let message = "eval measures splice models; `score --whole` serves the others";
            return Err(CliError::usage(message));
        }
        Ok(EvalPlan {
            reads: arguments.reads,
            truth: arguments.truth,
            model: OneModel {
                task: Some(arguments.task),
                file: arguments.model,
                clade: arguments.clade,
                tier: arguments.tier.into(),
            },
            priors: Priors::new(&arguments.priors).map_err(CliError::options)?,
            strands: arguments.strand.into(),
        })
    }
}

pub(super) fn run(arguments: EvalArguments, quiet: bool) -> Result<(), CliError> {
    let plan = EvalPlan::new(arguments)?;
    let model = plan.model.open()?;
    let truth = File::open(&plan.truth).map_err(CliError::io(&plan.truth))?;
    let name = plan.truth.display().to_string();
    let mut truth = ReadSites::read(BufReader::new(truth), &name).map_err(CliError::input)?;
    let mut scorer = scorer(model, &plan.priors)?;
    let outputs = scorer.manifest().outputs.iter();
    let width = outputs.len();
    let columns: Vec<(usize, CallKind)> = outputs
        .clone()
        .enumerate()
        .filter_map(|(c, output)| Some((c, kind(output).ok().flatten()?)))
        .collect();
    let thresholds: Vec<f32> = outputs.map(|output| output.threshold).collect();
    let kinds: Vec<(CallKind, f32)> = columns
        .iter()
        .map(|&(c, kind)| (kind, thresholds[c]))
        .collect();
    let mut evaluation = Evaluation::new(&kinds);
    let mut rows: Vec<f32> = vec![];
    let mut column: Vec<f32> = vec![];
    let result = each_record(&plan.reads, |_, name, codes| {
        let sites = truth.take(name).to_vec();
        for &strand in plan.strands.each() {
            rows.clear();
            scorer.score(codes, strand, |scores| {
                rows.extend_from_slice(scores);
                Ok::<(), CliError>(())
            })?;
            for &(c, kind) in &columns {
                column.clear();
                column.extend(rows.chunks_exact(width).map(|row| row[c]));
                let own = sites
                    .iter()
                    .filter(|s| s.kind == kind && s.strand == strand);
                evaluation
                    .add_read(kind, strand, &column, own.map(|s| s.position))
                    .map_err(|e| CliError::Input(format!("{}: {e}", crate::sink::clean(name))))?;
            }
        }
        Ok(())
    });
    if truth.unmet() > 0 {
        let missing = truth.unmet();
        log::warn!("{name}: {missing} reads of the truth are not among the reads");
    }
    say!("{}", evaluation.report());
    if !quiet {
        let manifest = scorer.manifest();
        let used = models_in_use([(&*manifest.name, &*manifest.version)].into_iter());
        note(used);
    }
    result
}
