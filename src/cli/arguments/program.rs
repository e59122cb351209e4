//! The program's arguments: a command, and what goes for all commands.

use super::annotate::AnnotateArguments;
use super::bench::BenchArguments;
use super::bench_model::BenchModelArguments;
use super::cells::CellsCommand;
use super::eval::EvalArguments;
use super::explain::{ExplainArguments, MotifsArguments};
use super::packed::{InspectArguments, PackArguments, VerifyArguments};
use super::replay::ReplayArguments;
use super::score::ScoreArguments;
use super::simulate::SimulateArguments;
use super::variants::VariantsArguments;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Splice-site, promoter and expression calls from nanopore reads, with int8 models, beside the
/// sequencer.
///
/// Splice sites and promoters are found in genomic reads or pre-mRNA. Spliced reads (cDNA, mature
/// RNA) hold no introns, so they have no splice sites left to find; the 5'UTR of RNA is scored with
/// --molecule rna.
#[derive(Debug, Parser)]
#[command(name = "strandline", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// More messages on standard error; twice: everything (or set RUST_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Errors only: no progress, no summary
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct CladeArguments {
    /// FASTA, FASTQ or BAM, plain or compressed
    #[arg(required = true)]
    pub reads: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CountArguments {
    /// FASTA, FASTQ or BAM, plain or compressed; '-' is standard input
    #[arg(required = true)]
    pub reads: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Call splice sites, promoters and 5'UTR expression in reads
    ///
    /// Splice sites and promoters are found in genomic reads or pre-mRNA. Spliced reads (cDNA,
    /// mature RNA) hold no introns, so they have no splice sites left to find. Bad records are
    /// reported, counted and skipped; exit code 1 means that an input was missing, no sequence
    /// file, or cut off.
    Annotate(Box<AnnotateArguments>),
    /// Guess the branch of life of reads: vertebrate, insect, nematode or plant
    ///
    /// The first megabase of each file is looked at. Written for each: its name, the guess, and how
    /// many times as much speaks for it as for the next.
    Clade(CladeArguments),
    /// Count the records of files, for --records, and their bases
    ///
    /// Written for each file: its records, as --records numbers them, those that would be
    /// annotated, and their bases; and the sums, where there are several files.
    Count(CountArguments),
    /// Write the score of every base, or of whole windows and 5'UTRs
    Score(ScoreArguments),
    /// What the alleles of a VCF change: splice sites and promoters
    ///
    /// For each alternative allele the sequence around it is scored with and without it. INFO gets
    /// the greatest gain and loss of each score near the change, and where they are, from POS. All
    /// spellings of a change score alike. What cannot be scored passes through with the reason.
    Variants(VariantsArguments),
    /// Which bases a score depends on: each is replaced by the others, or a language model's
    /// attention
    ///
    /// A map is of each score of a record, where it is highest. What a base is worth is the mean
    /// fall of the score when it is replaced. A model file that gives a number for each token has
    /// it shown as DNABERT-viz does: a base's share is the mean of those of the tokens that cover
    /// it.
    Explain(ExplainArguments),
    /// What sequences have in common where their scores depend on it
    ///
    /// The procedure of DNABERT: runs of bases that are worth much, tested for enrichment against
    /// the negatives, merged and aligned.
    Motifs(MotifsArguments),
    /// Single cells: types, vectors, responses to perturbations, networks of genes
    #[command(subcommand)]
    Cells(CellsCommand),
    /// Cut nanopore-like reads from genes, with the true sites carried over
    Simulate(SimulateArguments),
    /// A flow cell in a box: play reads as a sequencer would give them
    ///
    /// Reads are dealt to channels, each of which has a pace of its own. What each gives when
    /// depends on the seed alone, not on the receiver. A read is written when it ends, to a FASTQ
    /// stream or a folder that fills, or chunk by chunk over a link.
    Replay(ReplayArguments),
    /// Measure the splice model on reads whose sites are known
    Eval(EvalArguments),
    /// Turn a float ONNX network into a quantised model file
    Pack(PackArguments),
    /// Print a model file's manifest, tensors, sizes and operators
    Inspect(InspectArguments),
    /// Compare a model file with the ONNX network it came from
    Verify(VerifyArguments),
    /// List the built-in models with their figures
    Models,
    /// Measure how long a model takes, or write what it gives
    BenchModel(BenchModelArguments),
    /// Measure what this machine sustains: least latency, a flow cell in real time, throughput
    ///
    /// Each scenario is timed end to end, from letters in to calls out, after a warm-up. The report
    /// says what the processor did meanwhile, and has no headline where it was slowed down or
    /// others used the machine.
    Bench(BenchArguments),
}
