//! What `explain` and `motifs` take.

use super::values::{StrandArgument, TierArgument};
use crate::annotate::{Clade, Task};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `explain` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// A line for each base and map
    Tsv,
    /// What each base is worth; maps one after another
    Bedgraph,
    /// A picture for each map, in a folder
    Svg,
}

#[derive(Debug, Args)]
pub struct ExplainedModel {
    /// Which built-in model
    #[arg(long, required_unless_present = "model")]
    pub task: Option<Task>,
    /// A model file; one that gives a number for each token has it shown as attention
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The branch of life, of the built-in splice model: vertebrate, insect, nematode or plant
    #[arg(long, default_value_t)]
    pub clade: Clade,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "accurate")]
    pub tier: TierArgument,
    /// Strands that are looked at: a map is of the one with the higher score
    #[arg(long, value_enum, default_value = "both")]
    pub strand: StrandArgument,
    /// Bases on each side of a scored one that are replaced
    #[arg(
        long,
        value_name = "BASES",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub flank: u32,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// FASTA or FASTQ, plain or compressed; '-' is standard input
    pub input: PathBuf,
    #[command(flatten)]
    pub model: ExplainedModel,
    /// The position that is looked at, 0-based [default: where each score is highest]
    #[arg(long, value_name = "POSITION")]
    pub at: Option<u64>,
    /// What is written
    #[arg(long, value_enum, default_value = "tsv")]
    pub format: ExplainFormat,
    /// Where to write: a file ('-': standard output), or a folder for pictures
    #[arg(short, long, value_name = "FILE|DIR", default_value = "-")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct MotifsArguments {
    /// Sequences that have the motif, FASTA or FASTQ
    pub positives: PathBuf,
    /// Sequences like them that have it not
    pub negatives: PathBuf,
    #[command(flatten)]
    pub model: ExplainedModel,
    /// Count motifs on both strands
    #[arg(long)]
    pub both_strands: bool,
    /// Bases of the shortest motif
    #[arg(long, value_name = "BASES", default_value_t = 5)]
    pub min_length: usize,
    /// Bases of a motif's window
    #[arg(long, value_name = "BASES", default_value_t = 24)]
    pub window: usize,
    /// Places that a motif has at least
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub min_sites: usize,
    /// A motif's adjusted p lies below this
    #[arg(long, value_name = "P", default_value_t = 0.005)]
    pub max_p: f64,
    /// A folder for a logo of each motif
    #[arg(long, value_name = "DIR")]
    pub logos: Option<PathBuf>,
    /// Where the motifs go, in MEME's minimal format
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}
