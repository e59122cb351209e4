//! The command line: arguments to configuration, errors to exit codes.

/// `println!` that takes a closed pipe for an error of its own kind, not for a reason to panic.
macro_rules! say {
    ($($part:tt)*) => {
        writeln!(std::io::stdout(), $($part)*)
            .map_err(crate::cli::CliError::io(std::path::Path::new("standard output")))?
    };
}

mod annotate;
mod bench;
mod bench_model;
mod follow;
mod live;
mod models;
#[cfg(feature = "pack")]
mod pack;
mod records;
mod replay;
mod score;
mod sequences;
mod simulate;
mod status;
mod values;

use crate::annotate::Task;
use crate::annotate::{AnnotateError, Molecule, Strands};
use crate::call::CallKind;
use crate::kernels::Isa;
use crate::model::ModelError;
use crate::model::manifest::Precision;
use clap::{Args, Parser, Subcommand};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use values::{
    MoleculeArgument, OrderArgument, OutputFormat, OverloadArgument, ScenarioArgument,
    StrandArgument, TierArgument, prior, time,
};

/// Splice-site, promoter and expression calls from nanopore reads, with int8 models, beside the
/// sequencer.
///
/// Splice sites and promoters are found in genomic reads or pre-mRNA. Spliced reads (cDNA, mature
/// RNA) hold no introns, so they have no splice sites left to find; the 5'UTR of RNA is scored with
/// --molecule rna.
#[derive(Debug, Parser)]
#[command(name = "strandline", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// More messages on standard error; twice: everything (or set RUST_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Errors only: no progress, no summary
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Reads are dealt to channels, which speak at their own pace; what each says when depends on
    /// the seed alone, not on who listens. A read goes out when it ends, to a FASTQ stream or a
    /// folder that fills, or chunk by chunk over a link.
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

#[derive(Debug, Args)]
struct AnnotateArguments {
    /// FASTA, FASTQ or BAM, plain, gzip or bgzip, told apart by content; '-' is standard input; a
    /// board's link as serial:///DEVICE?baud=N, tcp://HOST:PORT or unix:///PATH
    #[arg(value_name = "INPUT", default_value = "-")]
    inputs: Vec<PathBuf>,
    /// What to look for: splice, promoter, expression, or promoter-strength, which takes each
    /// record for one bacterial promoter [default: splice and promoter; expression with --molecule
    /// rna]
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<Task>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    tier: TierArgument,
    /// What the reads are
    #[arg(long, value_enum, default_value = "dna")]
    molecule: MoleculeArgument,
    /// Strands to annotate [default: both for dna, forward for rna]
    #[arg(long, value_enum)]
    strand: Option<StrandArgument>,
    /// A model file instead of the built-in one for its task (repeatable)
    #[arg(long = "model", value_name = "FILE")]
    models: Vec<PathBuf>,
    /// Check the tensors of large model files against their hash before the run
    #[arg(long)]
    check_model: bool,
    /// Least probability of a splice or promoter call [default: each model's own]
    #[arg(long, value_name = "P")]
    min_score: Option<f32>,
    /// How often a site occurs where it could (a donor or an acceptor: a GT or AG; a promoter: a
    /// base), if not as often as in the genes that the probabilities are for; donor=0.0005, say
    /// (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior)]
    priors: Vec<(CallKind, f64)>,
    /// Start codons a read and strand whose 5'UTR is scored
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_starts: usize,
    /// tsv, bed, gff3, bedgraph, jsonl or splice-tsv; or bam: the records of one BAM input with all
    /// their tags, and the calls in the tags yn and yc
    #[arg(long, default_value = "tsv")]
    format: OutputFormat,
    /// Order of the output
    #[arg(long, value_enum, default_value = "input")]
    order: OrderArgument,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// FASTQ reads above this length are rejected
    #[arg(long, value_name = "BASES", default_value_t = crate::reads::fastx::Limits::default().max_read_len)]
    max_read_len: usize,
    /// Stop at the first bad record, with exit code 1
    #[arg(long)]
    strict: bool,
    /// A folder that a basecaller fills, nested ones too: FASTQ (plain or gzip) and BAM files, as
    /// they grow and come; each read exactly once, over restarts too (needs --output; runs until it
    /// is stopped)
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "inputs",
        help_heading = "Live"
    )]
    follow: Option<PathBuf>,
    /// What --follow has done [default: the output's name and .journal]
    #[arg(long, value_name = "FILE", requires = "follow", help_heading = "Live")]
    journal: Option<PathBuf>,
    /// End --follow when nothing new has come for so long
    #[arg(long, value_name = "SECONDS", requires = "follow", value_parser = time, help_heading = "Live")]
    until_idle: Option<f64>,
    /// Milliseconds from bases received to their calls written; what is late is counted (implies
    /// --order live)
    #[arg(long, value_name = "MS", value_parser = time, help_heading = "Live")]
    deadline: Option<f64>,
    /// What becomes of bases that cannot meet the deadline [default: block]
    #[arg(long, value_enum, value_name = "POLICY", help_heading = "Live")]
    on_overload: Option<OverloadArgument>,
    /// Rules that turn the calls of a read's first bases into keep or eject (TOML; implies --order
    /// live)
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    policy: Option<PathBuf>,
    /// Where decisions are written, a line each
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    decisions: Option<PathBuf>,
    /// Serve the run's numbers for Prometheus, on 127.0.0.1:9100, say
    #[arg(long, value_name = "ADDRESS", help_heading = "Live")]
    metrics: Option<SocketAddr>,
    /// A line on standard error every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = time, help_heading = "Live")]
    status_every: Option<f64>,
}

#[derive(Debug, Args)]
struct ScoreArguments {
    /// FASTA or FASTQ, plain or compressed; '-' is standard input
    input: PathBuf,
    /// Which built-in model
    #[arg(long, required_unless_present = "model")]
    task: Option<Task>,
    /// A model file instead of the built-in one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    tier: TierArgument,
    /// As in annotate: how often a site occurs where it could (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior, conflicts_with = "whole")]
    priors: Vec<(CallKind, f64)>,
    /// Strands to score [default: both; forward for --whole]
    #[arg(long, value_enum)]
    strand: Option<StrandArgument>,
    /// One line a record (a promoter window, a 5'UTR) instead of one row a base
    #[arg(long)]
    whole: bool,
    /// A folder for .npy files and index.tsv; with --whole a file ('-': standard output)
    #[arg(short, long, value_name = "DIR|FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct SimulateArguments {
    /// FASTA of whole genes in gene orientation; the first word of a header is the gene's id
    genes: PathBuf,
    /// Their sites: gene_idx gene chrom strand pos0 kind, tab-separated
    #[arg(long, value_name = "SITES")]
    sites: PathBuf,
    /// Number of reads
    #[arg(long, value_name = "N")]
    reads: u64,
    /// Substitutions, insertions and deletions a base
    #[arg(long, value_name = "E", default_value_t = 0.02)]
    error_rate: f64,
    /// Reads depend on this and on nothing else
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// FASTQ to write; gzip where the name ends in .gz
    #[arg(short, long, value_name = "READS")]
    output: PathBuf,
    /// True sites in read coordinates: read pos strand kind
    #[arg(long, value_name = "TRUTH")]
    truth: PathBuf,
}

#[derive(Debug, Args)]
struct FlowCellArguments {
    /// Channels; a MinION has 512, a PromethION cell 3,000
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=4095))]
    channels: u16,
    /// Bases a second and channel: 400 for DNA, 130 for direct RNA
    #[arg(long, value_name = "BASES", default_value_t = 400.0, value_parser = time)]
    rate: f64,
    /// Bases of a chunk
    #[arg(long, value_name = "BASES", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    chunk: u32,
    /// Mean seconds between two reads of a channel
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pause: f64,
    /// The schedule depends on this and on nothing else
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// FASTA or FASTQ, plain or compressed
    reads: PathBuf,
    #[command(flatten)]
    cell: FlowCellArguments,
    /// How much faster than life
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time)]
    speed: f64,
    /// Seconds of sequencing, the reads beginning anew as often as it takes, all cut off at the end
    /// [default: each read once]
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    duration: Option<f64>,
    /// '-': FASTQ on standard output; serial:///DEVICE, tcp://HOST:PORT, unix:///PATH: the link's
    /// frames, chunk by chunk, an ejected read being cut short; else a folder to fill
    #[arg(long, value_name = "TARGET", default_value = "-")]
    to: PathBuf,
    /// Reads a file of a folder
    #[arg(long, value_name = "N", default_value_t = 100)]
    reads_per_file: u64,
    /// Compress the files of a folder
    #[arg(long)]
    gzip: bool,
    /// Break 1 to 32 bytes in a row every so many bytes of a stream, on average
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    bursts: Option<u64>,
}

#[derive(Debug, Args)]
struct BenchArguments {
    /// Reads to replay [default: the bundled sample]
    reads: Option<PathBuf>,
    /// Scenarios [default: all]
    #[arg(long = "scenario", value_enum, value_delimiter = ',')]
    scenarios: Vec<ScenarioArgument>,
    /// Seconds of each scenario
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = time)]
    seconds: f64,
    /// Seconds of warm-up before each
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = time)]
    warm_up: f64,
    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    tier: TierArgument,
    /// What the reads are
    #[arg(long, value_enum, default_value = "dna")]
    molecule: MoleculeArgument,
    #[command(flatten)]
    cell: FlowCellArguments,
    /// Milliseconds from a chunk to its calls, in the multi-stream scenario
    #[arg(long, value_name = "MS", value_parser = time)]
    deadline: Option<f64>,
    /// What becomes of chunks that cannot meet it [default: block]
    #[arg(long, value_enum, value_name = "POLICY", requires = "deadline")]
    on_overload: Option<OverloadArgument>,
    /// Write every figure, with the raw histograms, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Compare with the JSON of an earlier run
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct EvalArguments {
    /// Reads whose sites are known
    reads: PathBuf,
    /// The known sites, as `simulate` writes them
    #[arg(long, value_name = "TRUTH")]
    truth: PathBuf,
    /// What to measure: splice
    #[arg(long, default_value = "splice")]
    task: Task,
    /// A model file instead of the built-in one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    tier: TierArgument,
    /// As in annotate: how often a site occurs where it could (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior)]
    priors: Vec<(CallKind, f64)>,
    /// Strands that are scored
    #[arg(long, value_enum, default_value = "both")]
    strand: StrandArgument,
}

#[derive(Debug, Args)]
struct PackArguments {
    /// A float network with an input of [1, 4, T], one-hot A, C, G, T
    onnx: PathBuf,
    /// What the model is, as TOML
    #[arg(long, value_name = "M.toml")]
    manifest: PathBuf,
    /// int8, fp16 or f32
    #[arg(long, default_value = "int8")]
    precision: Precision,
    /// Reads to choose activation scales on
    #[arg(long, value_name = "READS")]
    calibrate: Vec<PathBuf>,
    /// Fail unless every instruction set will give the same bits
    #[arg(long)]
    require_bits: bool,
    /// The model file
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct InspectArguments {
    /// A model file
    file: PathBuf,
}

#[derive(Debug, Args)]
struct VerifyArguments {
    /// A model file
    file: PathBuf,
    /// The network it was packed from
    #[arg(long, value_name = "MODEL.onnx")]
    against: Option<PathBuf>,
    /// Reads to compare on; without them and the network only the file's hashes are checked
    #[arg(value_name = "READS", requires = "against")]
    reads: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct BenchModelArguments {
    /// A model file, or the task of a built-in model
    model: Option<String>,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    tier: TierArgument,
    /// Positions of the made-up input [default: the model's tile]
    #[arg(long, conflicts_with = "input")]
    length: Option<usize>,
    /// Sequences to run: FASTA, FASTQ, or text with one sequence a line, as bases or
    /// blank-separated token ids; the first one is timed
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write the outputs of all sequences, one line a position and an empty line after each
    /// sequence, instead of timing
    #[arg(long, value_name = "FILE", requires = "input")]
    output: Option<PathBuf>,
    /// Runs to take the median of
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Run once for each line on standard input and print the nanoseconds: for interleaved
    /// comparisons
    #[arg(long)]
    steps: bool,
    /// Strands of a scanning model: forward, or both as calls need them
    #[arg(long, default_value = "forward")]
    strand: StrandArgument,
    /// Threads that share one read
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print the most that this core can do instead, in int8 multiply-accumulates a second
    #[arg(long)]
    peak: bool,
}

impl BenchModelArguments {
    fn both_strands(&self) -> bool {
        matches!(self.strand, StrandArgument::Both)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    #[error("{file}: {source}{}", advice(source))]
    Io { file: String, source: io::Error },
    #[error("{0}")]
    Input(String),
    /// Already reported where it happened.
    #[error("")]
    Reported,
    #[error("{0}")]
    Usage(String),
}

/// What can be done about it, where that is plain.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; what was written is incomplete: make room and run again"
        }
        _ => "",
    }
}

impl CliError {
    /// Options that do not go together are wrong usage; the rest stays what it is.
    fn usage(error: AnnotateError) -> CliError {
        match error {
            AnnotateError::Options(message) => CliError::Usage(message),
            other => other.into(),
        }
    }

    fn io(file: &Path) -> impl Fn(io::Error) -> CliError + '_ {
        move |source| CliError::Io {
            file: file.display().to_string(),
            source,
        }
    }
}

/// Runs the program and gives its exit code: 0, 1 for bad input, 2 for wrong usage. A closed pipe
/// is no error.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let quiet = arguments.quiet;
    let result = match &arguments.command {
        Command::Annotate(a) => annotate::run(a, quiet),
        Command::Score(a) => score::run(a),
        Command::Simulate(a) => simulate::run(a),
        Command::Replay(a) => replay::run(a, quiet),
        Command::Eval(a) => score::evaluate(a, quiet),
        #[cfg(feature = "pack")]
        Command::Pack(a) => pack::pack(a),
        Command::Inspect(a) => models::inspect(a),
        #[cfg(feature = "pack")]
        Command::Verify(a) => pack::verify(a),
        #[cfg(not(feature = "pack"))]
        Command::Pack(_) | Command::Verify(_) => Err(CliError::Usage(
            "this build is without the compiler: cargo build --release --features full".to_string(),
        )),
        Command::Models => models::list(),
        Command::BenchModel(a) => bench_model::run(a),
        Command::Bench(a) => bench::run(a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CliError::Reported) => ExitCode::from(1),
        Err(CliError::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// What calls are written to.
type Target = BufWriter<Box<dyn Write>>;

/// Standard output, or a file.
fn writer(output: Option<&Path>) -> Result<Target, CliError> {
    let target: Box<dyn Write> = match output {
        Some(path) if path.as_os_str() != "-" => {
            Box::new(std::fs::File::create(path).map_err(CliError::io(path))?)
        }
        _ => Box::new(io::stdout().lock()),
    };
    Ok(BufWriter::with_capacity(1 << 16, target))
}

/// Molecule and strand with their defaults.
fn molecule(molecule: MoleculeArgument, strand: Option<StrandArgument>) -> (Molecule, Strands) {
    match molecule {
        MoleculeArgument::Dna => (Molecule::Dna, strand.map_or(Strands::Both, Into::into)),
        MoleculeArgument::Rna => (Molecule::Rna, strand.map_or(Strands::Forward, Into::into)),
    }
}

/// The line of a report that says what gave its figures: models by name and version, and the
/// instruction set.
fn models_in_use<'a>(models: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let names: Vec<String> = models
        .map(|(name, version)| format!("{name}/{version}"))
        .collect();
    format!("models   {} on {}", names.join(", "), Isa::selected())
}
