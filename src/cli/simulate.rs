//! `simulate`: reads with known sites.

use super::arguments::simulate::SimulateArguments;
use super::check;
use super::error::CliError;
use crate::lab::simulate::{SimulationConfig, Simulator, read_genes};
use crate::lab::truth::GeneSites;
use crate::reads::source::Input;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
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
        let read = [&*arguments.genes, &*arguments.sites];
        check::files(read, [&*arguments.output, &*arguments.truth])?;
        Ok(SimulatePlan {
            genes: arguments.genes,
            sites: arguments.sites,
            config: SimulationConfig {
                reads: arguments.reads,
                error_rate: arguments.error_rate,
                seed: arguments.seed,
            },
            gzip: arguments.output.extension().is_some_and(|e| e == "gz"),
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
    let simulator = Simulator::new(genes, &sites, plan.config).map_err(CliError::input)?;
    let reads_failed = CliError::io(&plan.reads);
    let mut file = BufWriter::new(File::create(&plan.reads).map_err(&reads_failed)?);
    let truth_failed = CliError::io(&plan.truth);
    let truth = File::create(&plan.truth).map_err(&truth_failed)?;
    let mut truth = BufWriter::new(truth);
    let summary = if plan.gzip {
        let mut reads = GzEncoder::new(&mut file, Compression::best());
        let summary = simulator.write(&mut reads, &mut truth);
        let summary = summary.map_err(&reads_failed)?;
        reads.finish().map_err(&reads_failed)?;
        summary
    } else {
        let summary = simulator.write(&mut file, &mut truth);
        summary.map_err(&reads_failed)?
    };
    file.flush().map_err(&reads_failed)?;
    truth.flush().map_err(&truth_failed)?;
    log::info!(
        "{} reads, {} bases, {} sites",
        summary.reads,
        summary.bases,
        summary.sites
    );
    Ok(())
}
