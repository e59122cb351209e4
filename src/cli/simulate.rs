//! `simulate`: reads with known sites.

use super::arguments::simulate::SimulateArguments;
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target, is_gz};
use crate::lab::simulate::{Errors, SimulationConfig, Simulator, read_genes};
use crate::lab::truth::GeneSites;
use crate::reads::source::Input;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// What is simulated from what, and where it goes.
struct SimulatePlan {
    genes: PathBuf,
    sites: PathBuf,
    config: SimulationConfig,
    reads: PathBuf,
    /// The reads are written compressed.
    gzip: bool,
    truth: PathBuf,
}

impl SimulatePlan {
    fn new(arguments: SimulateArguments) -> Result<SimulatePlan, CliError> {
        Files::default()
            .read([&arguments.genes, &arguments.sites])
            .write([&arguments.output, &arguments.truth])
            .check()?;
        let errors = Errors::from(arguments.errors);
        Ok(SimulatePlan {
            genes: arguments.genes,
            sites: arguments.sites,
            config: SimulationConfig {
                reads: arguments.reads,
                error_rate: arguments.error_rate.unwrap_or_else(|| errors.usual_rate()),
                errors,
                seed: arguments.seed,
            },
            gzip: is_gz(&arguments.output),
            reads: arguments.output,
            truth: arguments.truth,
        })
    }
}

pub(super) fn run(arguments: SimulateArguments) -> Result<(), CliError> {
    let plan = SimulatePlan::new(arguments)?;
    let genes = read_genes(Input::from_argument(&plan.genes)).map_err(CliError::input)?;
    let sites = File::open(&plan.sites).map_err(CliError::io(&plan.sites))?;
    let sites = GeneSites::read(BufReader::new(sites), &plan.sites.display().to_string())
        .map_err(CliError::input)?;
    if !sites.is_empty() && !genes.iter().any(|(id, _)| sites.get(id).is_some()) {
        return Err(CliError::Input(format!(
            "{}: has sites of none of the genes of {}, whose ids are the first words of headers",
            plan.sites.display(),
            plan.genes.display()
        )));
    }
    let simulator = Simulator::new(genes, &sites, plan.config).map_err(CliError::input)?;
    let (reads_target, truth_target) = (Target::File(plan.reads), Target::File(plan.truth));
    let reads_failed = |source| reads_target.failed(source);
    let truth_failed = |source| truth_target.failed(source);
    let mut file = reads_target.open()?;
    let mut truth = truth_target.open()?;
    let summary = if plan.gzip {
        let mut reads = GzEncoder::new(&mut file, Compression::best());
        let summary = simulator.write(&mut reads, &mut truth);
        let summary = summary.map_err(reads_failed)?;
        reads.finish().map_err(reads_failed)?;
        summary
    } else {
        simulator
            .write(&mut file, &mut truth)
            .map_err(reads_failed)?
    };
    file.end(End::Complete).map_err(reads_failed)?;
    truth.end(End::Complete).map_err(truth_failed)?;
    log::info!(
        "{} reads, {} bases, {} sites",
        summary.reads,
        summary.bases,
        summary.sites
    );
    Ok(())
}
