//! `verify`: a model file beside the network it came from.

use super::arguments::packed::VerifyArguments;
use super::arguments::values::Budget;
use super::budget;
use super::error::CliError;
use super::output::say;
use super::records::each_record;
use crate::annotate::Task;
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
        })
    }
}

pub(super) fn run(arguments: VerifyArguments) -> Result<(), CliError> {
    let plan = VerifyPlan::new(arguments)?;
    match &plan.against {
        Some((onnx, _)) => budget::within(&plan.budget, onnx, |progress| verify(&plan, progress)),
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
    let mut samples = vec![];
    for path in reads {
        each_record(path, |_, _, codes| {
            samples.push(codes.to_vec());
            Ok(())
        })?;
    }
    // From here on the network is read: its time begins.
    progress();
    let Comparison { columns, bases } = compare(Model::build(file)?, onnx, &samples, progress)?;
    say!("compared on {bases} positions with {}", onnx.display());
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
    Ok(())
}
