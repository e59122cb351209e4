//! What `simulate` takes.

use crate::lab::simulate::Errors;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ErrorsArgument {
    /// Single ones anywhere: two in five substitutions, one an insertion, two deletions
    Uniform,
    /// As in genomic nanopore reads of 2022: in patches, more of them in homopolymers
    Nanopore,
}

impl From<ErrorsArgument> for Errors {
    fn from(errors: ErrorsArgument) -> Errors {
        match errors {
            ErrorsArgument::Uniform => Errors::Uniform,
            ErrorsArgument::Nanopore => Errors::Nanopore,
        }
    }
}

#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// FASTA of whole genes in gene orientation; the first word of a header is the gene's id
    pub genes: PathBuf,
    /// Their sites: gene_idx gene chrom strand pos0 kind, tab-separated
    #[arg(long, value_name = "SITES")]
    pub sites: PathBuf,
    /// Number of reads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub reads: u64,
    /// Wrong bases a base, at most 0.3 [default: 0.02; of nanopore 0.0172]
    #[arg(long, value_name = "E")]
    pub error_rate: Option<f64>,
    /// Where errors fall and what they are
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ErrorsArgument::Uniform)]
    pub errors: ErrorsArgument,
    /// Reads depend on this and on nothing else
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// FASTQ to write; gzip where the name ends in .gz
    #[arg(short, long, value_name = "READS")]
    pub output: PathBuf,
    /// True sites in read coordinates: read pos strand kind
    #[arg(long, value_name = "TRUTH")]
    pub truth: PathBuf,
}
