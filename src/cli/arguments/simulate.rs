//! What `simulate` takes.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// FASTA of whole genes in gene orientation; the first word of a header is the gene's id
    pub genes: PathBuf,
    /// Their sites: gene_idx gene chrom strand pos0 kind, tab-separated
    #[arg(long, value_name = "SITES")]
    pub sites: PathBuf,
    /// Number of reads
    #[arg(long, value_name = "N")]
    pub reads: u64,
    /// Substitutions, insertions and deletions a base
    #[arg(long, value_name = "E", default_value_t = 0.02)]
    pub error_rate: f64,
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
