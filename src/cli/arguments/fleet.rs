//! What the commands take that speak with a broker.

use super::values::seconds;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct PublishArguments {
    /// What a run with --publish wrote: the file, or what is left of it in FILE.part
    pub file: PathBuf,
    /// The stream, as nats://HOST:PORT/STREAM
    pub url: String,
    /// Give up when nothing has gone on for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub patience: Duration,
}

#[derive(Debug, Args)]
pub struct QueueArguments {
    /// The queue, as nats://HOST:PORT/STREAM
    pub url: String,
    /// FASTA, FASTQ or BAM, plain or compressed
    #[arg(required = true)]
    pub reads: Vec<PathBuf>,
    /// The job's name: letters, digits, '-' and '_'. Where it was begun before, it goes on
    #[arg(long)]
    pub job: String,
}

#[derive(Debug, Args)]
pub struct WorkArguments {
    /// The queue, as nats://HOST:PORT/STREAM
    pub url: String,
    /// End when no chunk has come for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub until_idle: Option<Duration>,
    /// Options of annotate, which say how: --tier, --tasks, --format and so on
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct CollectArguments {
    /// The queue, as nats://HOST:PORT/STREAM
    pub url: String,
    /// The job's name
    pub job: String,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
