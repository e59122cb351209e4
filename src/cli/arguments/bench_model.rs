//! What `bench-model` takes.

use super::values::{StrandArgument, TierArgument};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct BenchModelArguments {
    /// A model file, or the task of a built-in model
    pub model: Option<String>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    pub tier: TierArgument,
    /// Positions of the made-up input [default: the model's tile]
    #[arg(long, conflicts_with = "input")]
    pub length: Option<usize>,
    /// Sequences to run: FASTA, FASTQ, or text with one sequence a line, as bases or
    /// blank-separated token ids; or cells, for models that read these. The first one is timed
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Write the outputs of all sequences, one line a position and an empty line after each
    /// sequence, instead of timing
    #[arg(long, value_name = "FILE", requires = "input")]
    pub output: Option<PathBuf>,
    /// Runs to take the median of
    #[arg(long, default_value_t = 30)]
    pub runs: usize,
    /// Run once for each line on standard input and print the nanoseconds: for interleaved
    /// comparisons
    #[arg(long)]
    pub steps: bool,
    /// Strands of a scanning model: forward, or both as calls need them
    #[arg(long, default_value = "forward")]
    pub strand: StrandArgument,
    /// Threads that share one read
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Print the most that this core can do instead, in int8 multiply-accumulates a second
    #[arg(long)]
    pub peak: bool,
}
