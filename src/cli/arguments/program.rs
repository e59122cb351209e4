//! The program's arguments: a command, and what goes for all commands.

use super::annotate::AnnotateArguments;
use super::bench::BenchArguments;
use super::bench_model::BenchModelArguments;
use super::eval::EvalArguments;
use super::packed::{InspectArguments, PackArguments, VerifyArguments};
use super::replay::ReplayArguments;
use super::score::ScoreArguments;
use super::simulate::SimulateArguments;
use clap::{Parser, Subcommand};

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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Call splice sites, promoters and 5'UTR expression in reads
    ///
    /// Splice sites and promoters are found in genomic reads or pre-mRNA. Spliced reads (cDNA,
    /// mature RNA) hold no introns, so they have no splice sites left to find. Bad records are
    /// reported, counted and skipped; exit code 1 means that an input was missing, no sequence
    /// file, or cut off.
    Annotate(AnnotateArguments),
    /// Write the score of every base, or of whole windows and 5'UTRs
    Score(ScoreArguments),
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
