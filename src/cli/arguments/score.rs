//! What `score` takes.

use super::values::{LongArgument, StrandArgument, TierArgument, prior};
use crate::annotate::{Clade, Task};
use crate::call::CallKind;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// FASTA or FASTQ, plain or compressed; '-' is standard input
    pub input: PathBuf,
    /// Which built-in model
    #[arg(long, required_unless_present = "model")]
    pub task: Option<Task>,
    /// A model file instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The branch of life, of the built-in splice model: vertebrate, insect, nematode or plant
    #[arg(long, default_value_t)]
    pub clade: Clade,
    /// Which network of models that have two; with --whole auto is accurate
    #[arg(long, value_enum, default_value = "auto")]
    pub tier: TierArgument,
    /// As in annotate: how often a site occurs where it could (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior, conflicts_with = "whole")]
    pub priors: Vec<(CallKind, f64)>,
    /// Strands to score [default: both; forward for --whole]
    #[arg(long, value_enum)]
    pub strand: Option<StrandArgument>,
    /// One line a record (a promoter window, a 5'UTR) instead of one row a base
    #[arg(long)]
    pub whole: bool,
    /// With --whole and a model whose tokens are made of letters: what becomes of records longer
    /// than its window
    #[arg(long, value_enum, default_value = "mean", requires = "whole")]
    pub long: LongArgument,
    /// Bases from one window to the next, of such a model [default: its own]
    #[arg(long, value_name = "BASES", value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: Option<u32>,
    /// A folder for .npy files and index.tsv; with --whole a file ('-': standard output)
    #[arg(short, long, value_name = "DIR|FILE")]
    pub output: PathBuf,
}
