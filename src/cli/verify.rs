//! `verify`: a model file beside the network it came from.

use super::arguments::packed::VerifyArguments;
use super::arguments::values::Budget;
use super::budget;
use super::error::CliError;
use super::guard::Files;
use super::output::say;
use super::sequences::{Amount, samples};
use crate::annotate::Task;
use crate::compile::check::Check;
use crate::lab::verify::{Comparison, compare};
use crate::model::Model;
use crate::model::file::ModelFile;
use std::path::PathBuf;

/// What is compared.
struct VerifyPlan {
    file: PathBuf,
    /// The network, and the reads that both run on.
    against: Option<(PathBuf, Vec<PathBuf>)>,
    budget: Budget,
    /// The least cosine that will do, where one was stated.
    least: Option<f64>,
}

impl VerifyPlan {
    fn new(arguments: VerifyArguments) -> Result<VerifyPlan, CliError> {
        if arguments.against.is_some() && arguments.reads.is_empty() {
            return Err(CliError::usage("--against needs READS to compare on"));
        }
        Ok(VerifyPlan {
            file: arguments.file,
            against: arguments.against.map(|onnx| (onnx, arguments.reads)),
            budget: arguments.budget,
            least: arguments.allow_difference,
        })
    }
}

pub(super) fn run(arguments: VerifyArguments) -> Result<(), CliError> {
    Files::default()
        .read([&arguments.file])
        .read(&arguments.against)
        .read(&arguments.reads)
        .check()?;
    let plan = VerifyPlan::new(arguments)?;
    match &plan.against {
        Some((onnx, _)) => {
            budget::within(&plan.budget, onnx, |clock| verify(&plan, &|| clock.step()))
        }
        None => verify(&plan, &|| ()),
    }
}

fn verify(plan: &VerifyPlan, progress: &dyn Fn()) -> Result<(), CliError> {
    let file = ModelFile::open(&plan.file)?;
    file.check_payload()?;
    Task::of_file(&file)?;
    say!(
        "{}: header and tensors agree with their hashes",
        plan.file.display()
    );
    let Some((onnx, reads)) = &plan.against else {
        return Ok(());
    };
    let precision = file.manifest().precision;
    let mut all = vec![];
    for path in reads {
        all.extend(samples(
            path,
            file.manifest(),
            &file.genes()?,
            Amount::Some,
        )?);
    }
    // From here on the network is read: its time begins.
    progress();
    let compared = compare(Model::build(file)?, onnx, &all, progress)?;
    let Comparison { columns, bases, .. } = &compared;
    say!("compared on {bases} positions with {}", onnx.display());
    if let Some(reason) = &compared.rewritten {
        say!("as it is read here: tract cannot run it as it is ({reason})");
    }
    say!("output        largest    mean       cosine     calls      of them changed");
    for c in columns {
        say!(
            "{:12}  {:<9.5}  {:<9.6}  {:<9.6}  {:<9}  {}",
            c.name,
            c.largest,
            c.mean,
            c.cosine,
            c.calls,
            c.changed
        );
    }
    let check = plan.least.map_or(Check::Precision, Check::Cosine);
    match check.missed(precision, compared.cosine) {
        Some(least) => Err(CliError::Input(format!(
            "{} gives other numbers than {}: a cosine of {:.5}, not {least}",
            plan.file.display(),
            onnx.display(),
            compared.cosine
        ))),
        None => Ok(()),
    }
}
