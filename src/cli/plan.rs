//! What a run of `annotate` does: decided once, from its arguments, which nobody reads afterwards.

use super::arguments::annotate::AnnotateArguments;
use super::arguments::values::{OrderArgument, OutputFormat, is_link, other_format, workers};
use super::check;
use super::error::CliError;
use super::guard::Files;
use super::html::ReportPlan;
use super::output::Target;
#[cfg(feature = "fleet")]
use super::publication::Publication;
use crate::annotate::{Clade, Options, Priors, Task, default_tasks, with_gates};
use crate::fleet::without_password;
use crate::reads::fastx::Limits;
use crate::reads::shard::Shard;
use crate::reads::source::Input;
use crate::sink::Format;
use crate::stream::batch::{Order, PipelineConfig};
use crate::stream::decide::Policy;
use crate::stream::follow::{journal_of, may_hold_reads};
use crate::stream::live::{LiveConfig, OverloadPolicy};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A run, with nothing left to be decided. Files that are read may still prove to be bad.
#[derive(Debug)]
pub(super) struct Plan {
    pub models: ModelChoice,
    /// How reads are annotated.
    pub options: Options,
    pub mode: Mode,
    /// Where calls or records go.
    pub output: Target,
    /// Where the run's numbers are served.
    pub metrics: Option<SocketAddr>,
    /// Where the live page is served.
    pub http: Option<SocketAddr>,
    /// Between two lines on standard error.
    pub status_every: Option<Duration>,
    /// Neither progress nor a summary.
    pub quiet: bool,
    /// Text begins with its header.
    pub header: bool,
    /// Fields of each JSON object.
    pub labels: Vec<(String, String)>,
    /// Where the output's lines go besides.
    #[cfg(feature = "fleet")]
    pub publication: Option<Publication>,
    /// The page of what the run saw.
    pub report: Option<ReportPlan>,
}

/// Which models are in use.
#[derive(Debug)]
pub(super) struct ModelChoice {
    /// What to look for, besides what model files are for.
    pub tasks: Vec<Task>,
    /// The branch of life of the built-in splice model; `None`: the reads tell it.
    pub clade: Option<Clade>,
    /// The tasks were given: files for other tasks are wrong, and what the format cannot hold is
    /// not left out silently.
    pub named: bool,
    /// Model files instead of built-in ones.
    pub files: Vec<PathBuf>,
    /// Check their tensors against their hash.
    pub check_tensors: bool,
    /// Under overload the fast tiers stand in.
    pub fast_tier: bool,
}

/// What is read, and how.
#[derive(Debug)]
pub(super) enum Mode {
    /// The records of files, one file after another; calls alone.
    Batch {
        reads: Reads,
        format: Format,
        pipeline: PipelineConfig,
    },
    /// The records of one BAM file, passed through with their calls.
    Bam {
        reads: Reads,
        pipeline: PipelineConfig,
        /// The command line, for the header.
        command: String,
    },
    /// Sources that may still be growing, all at once, against the clock.
    Live(LivePlan),
    /// A folder that fills.
    Follow(FollowPlan),
}

/// What a batch run reads.
#[derive(Debug)]
pub(super) enum Reads {
    /// All of these.
    Inputs(Vec<Input>),
    /// A share of these files.
    Shard(Shard, Vec<PathBuf>),
}

impl Reads {
    fn new(inputs: Vec<PathBuf>, shard: Option<Shard>) -> Reads {
        match shard {
            Some(shard) => Reads::Shard(shard, inputs),
            None => Reads::Inputs(inputs.into_iter().map(Input::from_argument).collect()),
        }
    }

    /// Inputs that are read from their beginning.
    pub(super) fn inputs(&self) -> &[Input] {
        match self {
            Reads::Inputs(inputs) => inputs,
            Reads::Shard(..) => &[],
        }
    }
}

impl Mode {
    /// The form of the calls; `None`: in BAM records.
    pub(super) fn format(&self) -> Option<Format> {
        match self {
            Mode::Batch { format, .. } => Some(*format),
            Mode::Bam { .. } => None,
            Mode::Live(live) => Some(live.format),
            Mode::Follow(follow) => Some(follow.format),
        }
    }

    /// True where standard input is read.
    pub(super) fn reads_standard_input(&self) -> bool {
        let is_standard = |input: &Input| matches!(input, Input::Stdin);
        match self {
            Mode::Batch { reads, .. } | Mode::Bam { reads, .. } => {
                reads.inputs().iter().any(is_standard)
            }
            Mode::Live(live) => live.sources.iter().any(|source| match source {
                Source::Records(input) => is_standard(input),
                Source::Link(_) => false,
            }),
            Mode::Follow(_) => false,
        }
    }
}

/// A live run.
#[derive(Debug)]
pub(super) struct LivePlan {
    pub sources: Vec<Source>,
    pub limits: Limits,
    pub format: Format,
    pub config: LiveConfig,
    /// The rules of keep and eject, and the file that they are from.
    pub policy: Option<(PathBuf, Policy)>,
    /// Where decisions are written.
    pub decisions: Option<PathBuf>,
}

/// One source of a live run.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, or standard input.
    Records(Input),
    /// A serial port or a socket, by its URL.
    Link(String),
}

/// A run that follows a folder.
#[derive(Debug)]
pub(super) struct FollowPlan {
    pub folder: PathBuf,
    /// Calls are added to this file.
    pub output: PathBuf,
    /// What has been done; beside the output unless given.
    pub journal: Option<PathBuf>,
    /// Ends when nothing new has come for so long.
    pub until_idle: Option<Duration>,
    pub format: Format,
    /// What the calls depend on besides the models.
    pub options: String,
    pub pipeline: PipelineConfig,
}

impl Plan {
    /// Decides what the arguments ask for, `command` being all of them as text.
    ///
    /// # Errors
    /// Wrong usage, and a policy that cannot be read.
    pub(super) fn new(
        #[cfg_attr(not(feature = "fleet"), expect(unused_mut))] mut arguments: AnnotateArguments,
        command: String,
        quiet: bool,
    ) -> Result<Plan, CliError> {
        check::options(&arguments)?;
        files(&arguments).check()?;
        #[cfg(feature = "fleet")]
        let publication = Publication::new(&mut arguments)?;
        let report = report(&arguments, &command);
        let (molecule, strands) = arguments.molecule.with_strands(arguments.strand);
        let live = arguments.is_live();
        let clade = arguments.clade.named();
        let options = Options {
            clade: clade.unwrap_or_default(),
            tier: arguments.tier.into(),
            molecule,
            strands,
            min_score: arguments.min_score,
            priors: Priors::new(&arguments.priors).map_err(CliError::options)?,
            for_aligners: arguments.format == OutputFormat::Calls(Format::SpliceTsv),
            max_starts: arguments.max_starts,
            everywhere: arguments.everywhere,
            eager: live,
            kept_memory: (arguments.live_memory as usize).saturating_mul(1_000_000),
        };
        let overload: OverloadPolicy = arguments
            .on_overload
            .map_or_else(Default::default, Into::into);
        let named = !arguments.tasks.is_empty();
        let models = ModelChoice {
            tasks: if named {
                with_gates(arguments.tasks, options.everywhere)
            } else {
                default_tasks(molecule, clade.unwrap_or_default()).to_vec()
            },
            clade,
            named,
            files: arguments.models,
            check_tensors: arguments.check_model,
            fast_tier: overload == OverloadPolicy::FastTier,
        };

        let threads = workers(arguments.threads);
        let limits = Limits {
            max_read_len: arguments.max_read_len,
            ..Limits::default()
        };
        let pipeline = PipelineConfig {
            order: match arguments.order {
                OrderArgument::Input => Order::Input,
                OrderArgument::Ready | OrderArgument::Live => Order::Ready,
            },
            limits,
            strict: arguments.strict,
            records: arguments.records,
            keep: (arguments.format == OutputFormat::Bam).then(Default::default),
            ..PipelineConfig::with_threads(threads)
        };
        let output = Target::new(arguments.output);
        let written = arguments.format;
        if let Some(named) = output.path().and_then(|file| other_format(file, written)) {
            log::warn!("{output}: what is written is {written}; --format {named} writes {named}");
        }
        let (inputs, shard) = (arguments.inputs, arguments.shard);
        let mode = match (arguments.format, arguments.follow.zip(output.path())) {
            (OutputFormat::Bam, _) => Mode::Bam {
                reads: Reads::new(inputs, shard),
                pipeline,
                command,
            },
            (OutputFormat::Calls(format), Some((folder, file))) => Mode::Follow(FollowPlan {
                folder,
                output: file.to_owned(),
                journal: arguments.journal,
                until_idle: arguments.until_idle,
                format,
                options: described(&options, format, limits) + &labelled(&arguments.labels),
                pipeline,
            }),
            (OutputFormat::Calls(format), None) if live => Mode::Live(LivePlan {
                sources: inputs.into_iter().map(source).collect(),
                limits,
                format,
                config: LiveConfig {
                    threads,
                    deadline: arguments.deadline,
                    overload,
                    ..LiveConfig::default()
                },
                policy: match arguments.policy {
                    Some(path) => {
                        let policy = Policy::open(&path).map_err(CliError::usage)?;
                        Some((path, policy))
                    }
                    None => None,
                },
                decisions: arguments.decisions,
            }),
            (OutputFormat::Calls(format), None) => Mode::Batch {
                reads: Reads::new(inputs, shard),
                format,
                pipeline,
            },
        };
        let plan = Plan {
            models,
            options,
            mode,
            output,
            metrics: arguments.metrics,
            http: arguments.http,
            status_every: arguments.status_every,
            quiet,
            header: !arguments.no_header,
            labels: arguments.labels,
            #[cfg(feature = "fleet")]
            publication,
            report,
        };
        Ok(match clade {
            Some(clade) => plan.of_clade(clade),
            None => plan,
        })
    }

    /// The same for reads of this clade.
    pub(super) fn of_clade(mut self, clade: Clade) -> Plan {
        self.options.clade = clade;
        self.models.clade = Some(clade);
        if !self.models.named {
            self.models.tasks = default_tasks(self.options.molecule, clade).to_vec();
        }
        match &mut self.mode {
            // Journals of vertebrates do not name them.
            Mode::Follow(follow) if clade != Clade::default() => {
                follow.options += &format!(", {JOURNALLED}{clade}");
            }
            _ => {}
        }
        self
    }
}

/// What stands before the clade in the options that a journal keeps.
const JOURNALLED: &str = "clade ";

/// The clade of a run with these options.
pub(super) fn journalled(options: &str) -> Clade {
    let mut clades = options
        .split(", ")
        .filter_map(|word| word.strip_prefix(JOURNALLED));
    clades
        .next()
        .and_then(|name| name.parse().ok())
        .unwrap_or_default()
}

/// What calls depend on, in words.
pub(super) fn described(options: &Options, format: Format, limits: Limits) -> String {
    format!(
        "format {format}, {:?}, strands {:?}, tier {:?}, min-score {:?}, {:?}, max-starts {}, \
         everywhere {}, max-read-len {}",
        options.molecule,
        options.strands,
        options.tier,
        options.min_score,
        options.priors,
        options.max_starts,
        options.everywhere,
        limits.max_read_len
    )
}

/// The same of labels; journals without them do not speak of any.
fn labelled(labels: &[(String, String)]) -> String {
    let labels = labels.iter();
    labels
        .map(|(key, value)| format!(", label {key}={value:?}"))
        .collect()
}

/// What is read and written.
fn files(arguments: &AnnotateArguments) -> Files {
    let files = Files::default()
        .read(&arguments.inputs)
        .read(&arguments.models)
        .read(&arguments.policy)
        .read(&arguments.report_gff)
        .read(&arguments.config)
        .follow(arguments.follow.as_ref(), may_hold_reads)
        .write(&arguments.decisions)
        .write(&arguments.report);
    match (&arguments.follow, &arguments.output) {
        (Some(_), Some(output)) => {
            let journal = arguments.journal.clone();
            let journal = journal.unwrap_or_else(|| journal_of(output));
            files.append([output, &journal])
        }
        _ => files.write(&arguments.output),
    }
}

/// The report, with what its options do not say otherwise.
fn report(arguments: &AnnotateArguments, command: &str) -> Option<ReportPlan> {
    let file = arguments.report.clone()?;
    let name = |path: &PathBuf| match path.to_str() {
        Some("-") => "standard input".to_string(),
        _ => path.display().to_string(),
    };
    let inputs = match &arguments.follow {
        Some(folder) => vec![format!("{}, followed: the reads of this run", name(folder))],
        None => arguments.inputs.iter().map(name).collect(),
    };
    let text = |value: Option<String>, name| value.map(|value| (name, value));
    let limit = arguments.max_read_len;
    let other_limit = (limit != Limits::default().max_read_len).then(|| limit.to_string());
    let shard = arguments.shard.map(|shard| shard.to_string());
    let records = arguments.records.as_ref();
    let records = records.map(|of| format!("{} to {}", of.start + 1, of.end));
    let deadline = arguments.deadline.map(|time| format!("{time:?}"));
    let overload = arguments.on_overload.map(OverloadPolicy::from);
    let given = [
        text(other_limit, "longest FASTQ read taken"),
        text(shard, "shard"),
        text(records, "records"),
        text(deadline, "deadline"),
        text(
            overload.map(|policy| policy.name().to_string()),
            "on overload",
        ),
        text(arguments.policy.as_ref().map(name), "policy"),
    ];
    let models = arguments.models.iter();
    let models = models.map(|file| ("model file", name(file)));
    Some(ReportPlan {
        file,
        #[cfg(feature = "study")]
        gff: arguments.report_gff.clone(),
        #[cfg(feature = "study")]
        gene: arguments.report_gene.clone(),
        inputs,
        // A page goes to others; the password of a broker does not.
        command: match &arguments.publish {
            Some(url) => command.replace(url.as_str(), &without_password(url)),
            None => command.to_string(),
        },
        more: models.chain(given.into_iter().flatten()).collect(),
    })
}

/// What stands on the command line of a live run.
fn source(argument: PathBuf) -> Source {
    match argument.to_str().filter(|_| is_link(&argument)) {
        Some(url) => Source::Link(url.to_string()),
        None => Source::Records(Input::from_argument(argument)),
    }
}

#[cfg(test)]
mod tests;
