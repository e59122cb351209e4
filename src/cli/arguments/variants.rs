//! What `variants` takes.

use super::values::TierArgument;
use crate::annotate::{Clade, Task};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `variants` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VariantFormat {
    /// The input with fields of ours in INFO
    Vcf,
    /// A line for each allele, strand and score
    Tsv,
}

#[derive(Debug, Args)]
pub struct VariantsArguments {
    /// VCF, plain, gzip or bgzip; '-' is standard input
    #[arg(long, value_name = "FILE")]
    pub vcf: PathBuf,
    /// The reference genome, FASTA; its index (.fai) is made where there is none
    #[arg(long = "ref", value_name = "FASTA")]
    pub reference: PathBuf,
    /// Genes and exons, GFF3 or GTF: alleles are scored on the strands of the genes they lie in,
    /// with the genes' symbols [default: both strands everywhere]
    #[arg(long, value_name = "FILE")]
    pub gff: Option<PathBuf>,
    /// Count no gain of a site that the annotation has, and no loss of one that it has not
    #[arg(long, requires = "gff")]
    pub mask: bool,
    /// What is compared: splice, promoter, promoter-300 or tf [default: splice and promoter]
    #[arg(long, value_delimiter = ',')]
    pub tasks: Vec<Task>,
    /// A model file instead of the built-in one for its task (repeatable)
    #[arg(long = "model", value_name = "FILE")]
    pub models: Vec<PathBuf>,
    /// The branch of life, of the built-in splice model: vertebrate, insect, nematode or plant
    #[arg(long, default_value_t)]
    pub clade: Clade,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "accurate")]
    pub tier: TierArgument,
    /// Bases on each side of a change within which scores are compared
    #[arg(
        long,
        value_name = "BASES",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub distance: u32,
    /// What is written [default: by the output's name]
    #[arg(long, value_enum)]
    pub format: Option<VariantFormat>,
    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where to write; a name that ends in .gz is written as bgzip [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
