//! What `bench` takes.

use super::flow_cell::FlowCellArguments;
use super::values::{
    MoleculeArgument, OverloadArgument, ScenarioArgument, TierArgument, milliseconds, time,
};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Reads to replay [default: the bundled sample]
    pub reads: Option<PathBuf>,
    /// Scenarios [default: single, multi and offline]
    #[arg(long = "scenario", value_enum, value_delimiter = ',')]
    pub scenarios: Vec<ScenarioArgument>,
    /// Seconds of each scenario
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = time)]
    pub seconds: f64,
    /// Seconds of warm-up before each
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = time)]
    pub warm_up: f64,
    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    pub tier: TierArgument,
    /// What the reads are
    #[arg(long, value_enum, default_value = "dna")]
    pub molecule: MoleculeArgument,
    #[command(flatten)]
    pub cell: FlowCellArguments,
    /// Milliseconds from a chunk to its calls, in the multi-stream scenario
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub deadline: Option<Duration>,
    /// What becomes of chunks that cannot meet it [default: block]
    #[arg(long, value_enum, value_name = "POLICY", requires = "deadline")]
    pub on_overload: Option<OverloadArgument>,
    /// Write every figure, with the raw histograms, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare with the JSON of an earlier run
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
}
