//! `simulate`: reads with known sites.

use super::{CliError, SimulateArguments};
use crate::lab::simulate::{SimulationConfig, Simulator, read_genes};
use crate::lab::truth::GeneSites;
use crate::reads::source::Input;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};

pub(super) fn run(arguments: &SimulateArguments) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Input(error.to_string());
    let genes = read_genes(Input::from_argument(&arguments.genes)).map_err(|e| failed(&e))?;
    let sites_path = &arguments.sites;
    let sites = File::open(sites_path).map_err(CliError::io(sites_path))?;
    let sites = GeneSites::read(BufReader::new(sites), &sites_path.display().to_string())
        .map_err(|e| failed(&e))?;
    let config = SimulationConfig {
        reads: arguments.reads,
        error_rate: arguments.error_rate,
        seed: arguments.seed,
    };
    let simulator = Simulator::new(genes, &sites, config).map_err(|e| failed(&e))?;
    let reads_failed = CliError::io(&arguments.output);
    let file = BufWriter::new(File::create(&arguments.output).map_err(&reads_failed)?);
    let truth_failed = CliError::io(&arguments.truth);
    let truth = File::create(&arguments.truth).map_err(&truth_failed)?;
    let mut truth = BufWriter::new(truth);
    let summary = if arguments.output.extension().is_some_and(|e| e == "gz") {
        let mut reads = GzEncoder::new(file, Compression::best());
        let summary = simulator
            .write(&mut reads, &mut truth)
            .map_err(&reads_failed)?;
        let mut file = reads.finish().map_err(&reads_failed)?;
        file.flush().map_err(&reads_failed)?;
        summary
    } else {
        let mut reads = file;
        let summary = simulator
            .write(&mut reads, &mut truth)
            .map_err(&reads_failed)?;
        reads.flush().map_err(&reads_failed)?;
        summary
    };
    truth.flush().map_err(&truth_failed)?;
    log::info!(
        "{} reads, {} bases, {} sites",
        summary.reads,
        summary.bases,
        summary.sites
    );
    Ok(())
}
