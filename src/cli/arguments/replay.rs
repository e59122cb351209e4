//! What `replay` takes.

use super::flow_cell::FlowCellArguments;
use super::values::time;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// FASTA or FASTQ, plain or compressed
    pub reads: PathBuf,
    #[command(flatten)]
    pub cell: FlowCellArguments,
    /// How much faster than life
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time)]
    pub speed: f64,
    /// Seconds of sequencing, the reads beginning anew as often as it takes, all cut off at the end
    /// [default: each read once]
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    pub duration: Option<f64>,
    /// '-': FASTQ on standard output; serial:///DEVICE, tcp://HOST:PORT, unix:///PATH: the link's
    /// frames, chunk by chunk, an ejected read being cut short; else a folder to fill
    #[arg(long, value_name = "TARGET", default_value = "-")]
    pub to: PathBuf,
    /// Reads a file of a folder
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub reads_per_file: u64,
    /// Compress the files of a folder
    #[arg(long)]
    pub gzip: bool,
    /// Break 1 to 32 bytes in a row every so many bytes of a stream, on average
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub bursts: Option<u64>,
}
