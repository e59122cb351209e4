//! What `annotate` takes.

use super::values::{
    CladeArgument, MoleculeArgument, OrderArgument, OutputFormat, OverloadArgument, StrandArgument,
    TierArgument, is_link, label, milliseconds, numbers, prior, probability, seconds, served_on,
};
use crate::annotate::Task;
use crate::call::CallKind;
use crate::reads::fastx::Limits;
use crate::reads::shard::Shard;
use clap::Args;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct AnnotateArguments {
    /// FASTA, FASTQ or BAM, plain, gzip or bgzip, recognised by content; '-' is standard input;
    /// a board's link as serial:///DEVICE?baud=N, tcp://HOST:PORT or unix:///PATH
    #[arg(value_name = "INPUT", default_value = "-")]
    pub inputs: Vec<PathBuf>,
    /// What to look for: splice, promoter, tf (transcription factors near promoters), expression,
    /// or promoter-strength, which takes each record for one bacterial promoter [default: splice
    /// and promoter; expression with --molecule rna]
    #[arg(long, value_delimiter = ',')]
    pub tasks: Vec<Task>,
    /// The branch of life, which decides on the splice model: vertebrate, insect, nematode or
    /// plant; or auto, which looks at the first megabase of the first file
    #[arg(long, default_value = "vertebrate")]
    pub clade: CladeArgument,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    pub tier: TierArgument,
    /// What the reads are
    #[arg(long, value_enum, default_value = "dna")]
    pub molecule: MoleculeArgument,
    /// Strands to annotate [default: both for dna, forward for rna]
    #[arg(long, value_enum)]
    pub strand: Option<StrandArgument>,
    /// A model file instead of the built-in one for its task (repeatable)
    #[arg(long = "model", value_name = "FILE")]
    pub models: Vec<PathBuf>,
    /// Check the tensors of large model files against their hash before the run
    #[arg(long)]
    pub check_model: bool,
    /// Least probability of a splice, promoter or tf call [default: each model's own]
    #[arg(long, value_name = "P", value_parser = probability)]
    pub min_score: Option<f32>,
    /// How often a site occurs where it could (a donor or an acceptor: a GT or AG; a promoter: a
    /// base), if not as often as in the genes that the probabilities are for; donor=0.0005, say
    /// (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior)]
    pub priors: Vec<(CallKind, f64)>,
    /// Look for transcription factors at every base, not only within 500 of promoter calls
    #[arg(long)]
    pub everywhere: bool,
    /// Start codons a read and strand whose 5'UTR is scored
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub max_starts: usize,
    /// tsv, bed, gff3, bedgraph, jsonl or splice-tsv; parquet in builds that have it; or bam: the
    /// records of one BAM input with all their tags, and the calls in the tags yn and yc
    #[arg(long, default_value = "tsv")]
    pub format: OutputFormat,
    /// A field of each object of --format jsonl, a column of --format parquet, such as sample=P7
    /// (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Publish the lines of the output to a stream of NATS JetStream as they are written, each
    /// exactly once, and status lines and decisions with them: nats://127.0.0.1:4222/CALLS, say
    /// (needs --format jsonl and --output)
    #[arg(long, value_name = "URL")]
    pub publish: Option<String>,
    /// Without the line that comes before the first call
    #[arg(long)]
    pub no_header: bool,
    /// Only the records of the I-th of N shares of the files, such as 3/8: with --no-header from
    /// the second on, the outputs of all, end to end, are that of one run
    #[arg(long, value_name = "I/N", conflicts_with = "records")]
    pub shard: Option<Shard>,
    /// Only the records of these numbers, from 1, over all inputs (`strandline count` says how many
    /// there are)
    #[arg(long, value_name = "FROM-TO", value_parser = numbers)]
    pub records: Option<Range<u64>>,
    /// Order of the output
    #[arg(long, value_enum, default_value = "input")]
    pub order: OrderArgument,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One HTML page of what the run saw, written at its end: read lengths, calls by kind and
    /// score, what scores mean, the longest reads
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Genes and exons, GFF3 or GTF, for records of whole sequences: the report shows the gene of
    /// most calls
    #[arg(long, value_name = "FILE", requires = "report")]
    pub report_gff: Option<PathBuf>,
    /// The gene that the report shows, by its symbol
    #[arg(long, value_name = "SYMBOL", requires = "report_gff")]
    pub report_gene: Option<String>,
    /// Options from a TOML file, by their long names, and `inputs`; those of the command line go
    /// before
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// FASTQ reads above this length are rejected
    #[arg(long, value_name = "BASES", default_value_t = Limits::default().max_read_len)]
    pub max_read_len: usize,
    /// Stop at the first bad record, with exit code 1
    #[arg(long)]
    pub strict: bool,
    /// A folder that a basecaller fills, nested ones too: FASTQ (plain or gzip) and BAM files, as
    /// they grow and come; each read exactly once, over restarts too (needs --output; runs until it
    /// is stopped)
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "inputs",
        help_heading = "Live"
    )]
    pub follow: Option<PathBuf>,
    /// What --follow has done [default: the output's name and .journal]
    #[arg(long, value_name = "FILE", requires = "follow", help_heading = "Live")]
    pub journal: Option<PathBuf>,
    /// End --follow when nothing new has come for so long
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "follow",
        value_parser = seconds,
        help_heading = "Live"
    )]
    pub until_idle: Option<Duration>,
    /// Milliseconds from bases received to their calls written; what is late is counted (implies
    /// --order live)
    #[arg(long, value_name = "MS", value_parser = milliseconds, help_heading = "Live")]
    pub deadline: Option<Duration>,
    /// Megabytes that open reads may keep of what was computed; reads beyond compute their margins
    /// anew with each chunk
    #[arg(long, value_name = "MB", default_value_t = 1000, help_heading = "Live")]
    pub live_memory: u32,
    /// What becomes of reads that cannot meet the deadline [default: block]
    #[arg(long, value_enum, value_name = "POLICY", help_heading = "Live")]
    pub on_overload: Option<OverloadArgument>,
    /// Rules that decide from the calls of a read's first bases whether it is kept or ejected
    /// (TOML; implies --order live)
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    pub policy: Option<PathBuf>,
    /// Where decisions are written, a line each
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    pub decisions: Option<PathBuf>,
    /// Serve the run's numbers for Prometheus, on 127.0.0.1:9100, say; to other machines only with
    /// ?bind=any behind the address
    #[arg(long, value_name = "ADDRESS", value_parser = served_on, help_heading = "Live")]
    pub metrics: Option<SocketAddr>,
    /// Serve a page with the run's numbers for a browser, on 127.0.0.1:8080, say, and those for
    /// Prometheus under /metrics; to other machines only with ?bind=any behind the address
    #[arg(long, value_name = "ADDRESS", value_parser = served_on, help_heading = "Live")]
    pub http: Option<SocketAddr>,
    /// A line on standard error every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Live")]
    pub status_every: Option<Duration>,
}

impl AnnotateArguments {
    /// True where something is asked for that only a live run does.
    pub fn is_live(&self) -> bool {
        self.order == OrderArgument::Live
            || self.inputs.iter().any(|input| is_link(input))
            || self.deadline.is_some()
            || self.policy.is_some()
    }
}
