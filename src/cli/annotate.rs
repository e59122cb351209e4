//! `annotate`: the pipeline with files at both ends.

use super::status::{Progress, Status};
use super::{
    AnnotateArguments, CliError, OrderArgument, OutputFormat, Target, follow, live, models_in_use,
    molecule, writer,
};
use crate::annotate::Task;
use crate::annotate::builtin;
use crate::annotate::{Annotator, Options, Priors, default_tasks};
use crate::metrics::{Endpoint, Metrics};
use crate::model::manifest::Tier;
use crate::model::{Model, SecondLook};
use crate::reads::fastx::{BamRecord, Limits, RecordEnd};
use crate::reads::source::Input;
use crate::sink::bam::BamWriter;
use crate::sink::{CallWriter, Format};
use crate::stream::batch::{
    self, FinishedChunk, Order, Outcome, Output, PipelineConfig, PipelineError,
};
use crate::stream::live::OverloadPolicy;
use crate::stream::model_tags;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What both kinds of run need.
pub(super) struct Run {
    pub annotator: Annotator,
    pub metrics: Arc<Metrics>,
    pub stop: Arc<AtomicBool>,
    /// The output's name.
    pub output: String,
}

/// The models that the arguments ask for.
fn models(arguments: &AnnotateArguments) -> Result<Vec<Model>, CliError> {
    let (molecule, _) = molecule(arguments.molecule, arguments.strand);
    let mut given: Vec<Model> = vec![];
    for path in &arguments.models {
        let model = Model::open_tier(path, arguments.tier.into())?;
        if arguments.check_model {
            model.file().check_payload()?;
        }
        given.push(model);
    }
    let mut tasks: Vec<Task> = match arguments.tasks.is_empty() {
        true => default_tasks(molecule).to_vec(),
        false => arguments.tasks.clone(),
    };
    if arguments.tasks.is_empty() {
        for model in &given {
            tasks.push(Task::of_model(model)?);
        }
    }
    tasks.sort_unstable();
    tasks.dedup();
    if let Some(unused) = given
        .iter()
        .find(|m| !tasks.iter().any(|task| m.manifest().task == *task))
    {
        let (file, task) = (unused.file().name(), &unused.manifest().task);
        return Err(CliError::Usage(format!(
            "{file} is for {task}, which --tasks leaves out"
        )));
    }
    let mut models = vec![];
    for task in tasks {
        let mut own = given.extract_if(.., |m| m.manifest().task == task);
        match own.next() {
            Some(model) => models.push(model),
            None => models.push(builtin::model(task, arguments.tier.into())?),
        }
        models.extend(own);
    }
    Ok(models)
}

/// What splice-tsv can hold. Tasks that were asked for by name must be among it; defaults that are
/// not are left out.
fn splice_only(models: Vec<Model>, named: bool) -> Result<Vec<Model>, CliError> {
    let (splice, others): (Vec<Model>, Vec<Model>) = models
        .into_iter()
        .partition(|m| m.manifest().task == Task::Splice);
    match others.first() {
        Some(other) if named || splice.is_empty() => Err(CliError::Usage(format!(
            "splice-tsv holds splice sites only, not {}: add --tasks splice",
            other.manifest().task
        ))),
        _ => Ok(splice),
    }
}

/// The fast tiers of those models that have one and use another.
fn stand_ins(arguments: &AnnotateArguments, models: &[Model]) -> Result<Vec<Model>, CliError> {
    let policy = arguments.on_overload.map(OverloadPolicy::from);
    if policy != Some(OverloadPolicy::FastTier) {
        return Ok(vec![]);
    }
    let tier = Tier::from(arguments.tier);
    let tiered = |model: &&Model| model.file().manifest().cascade.is_some();
    if tier == Tier::Fast || !models.iter().any(|model| tiered(&model)) {
        let message = "--on-overload fast-tier: no model in use has a faster tier";
        return Err(CliError::Usage(message.to_string()));
    }
    let fast = models.iter().filter(tiered).map(|model| {
        let given = arguments.models.iter();
        let mut given = given.filter(|p| p.display().to_string() == model.file().name());
        match given.next() {
            Some(path) => Model::open_tier(path, Tier::Fast),
            None => builtin::model(Task::of_model(model)?, Tier::Fast),
        }
    });
    Ok(fast.collect::<Result<_, _>>()?)
}

/// Models and options as the arguments have them.
fn annotator(arguments: &AnnotateArguments) -> Result<Annotator, CliError> {
    let (molecule, strands) = molecule(arguments.molecule, arguments.strand);
    let models = models(arguments)?;
    let models = match arguments.format {
        OutputFormat::Text(Format::SpliceTsv) => splice_only(models, !arguments.tasks.is_empty())?,
        OutputFormat::Text(Format::Bedgraph)
            if models
                .iter()
                .any(|m| m.manifest().task == Task::PromoterStrength) =>
        {
            let message = "bedgraph's sign tells the strand, and rates have a sign of their own";
            return Err(CliError::Usage(message.to_string()));
        }
        _ => models,
    };
    let options = Options {
        tier: arguments.tier.into(),
        molecule,
        strands,
        min_score: arguments.min_score,
        priors: Priors::new(&arguments.priors).map_err(CliError::usage)?,
        max_starts: arguments.max_starts,
        eager: live::is_asked_for(arguments),
    };
    let fast = stand_ins(arguments, &models)?;
    Annotator::with_fast_tier(models, fast, options).map_err(CliError::usage)
}

/// Set by Ctrl-C; a second one ends the program at once, since the handler then finds the flag set.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
    stop
}

/// BAM records go on one by one, as they are read.
fn check_bam(arguments: &AnnotateArguments) -> Result<(), CliError> {
    if arguments.format != OutputFormat::Bam {
        return Ok(());
    }
    let message = if arguments.follow.is_some() || live::is_asked_for(arguments) {
        "--format bam writes a record when its read is over: it goes with no live option"
    } else if arguments.inputs.len() != 1 {
        "--format bam passes the records of one input through: give one BAM file"
    } else {
        return Ok(());
    };
    Err(CliError::Usage(message.to_string()))
}

/// An output is emptied before it is written, which must not happen to an input.
fn check_output(arguments: &AnnotateArguments) -> Result<(), CliError> {
    let Some(output) = arguments.output.as_deref().filter(|o| o.is_file()) else {
        return Ok(());
    };
    let of = |path: &Path| std::fs::canonicalize(path).ok();
    let mut inputs = arguments.inputs.iter().chain(&arguments.models);
    match inputs.any(|input| of(input).is_some_and(|path| of(output) == Some(path))) {
        true => Err(CliError::Usage(format!(
            "{}: is read, and cannot be written at the same time",
            output.display()
        ))),
        false => Ok(()),
    }
}

/// The calls of a file's records, as text or in the records.
enum Records<'a> {
    Text {
        calls: &'a mut CallWriter<Target>,
        /// Somebody waits for each call.
        piped: bool,
    },
    Bam(&'a mut BamWriter<Target>),
}

impl Output for Records<'_> {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        let chunk = finished.chunk;
        match self {
            Records::Text { calls, piped } => {
                calls.write_calls(&chunk.name, finished.calls)?;
                match *piped && !finished.calls.is_empty() {
                    true => calls.flush(),
                    false => Ok(()),
                }
            }
            Records::Bam(bam) => {
                bam.calls(finished.calls);
                match &chunk.end {
                    None => Ok(()),
                    Some(RecordEnd::Complete) => match BamRecord::parse(&chunk.bam) {
                        Some(record) => bam.annotated(record.fields, record.tags()),
                        None => bam.unannotated(&chunk.bam),
                    },
                    Some(RecordEnd::Rejected(_)) => {
                        bam.forget();
                        Ok(())
                    }
                }
            }
        }
    }

    fn unannotated(&mut self, record: &[u8]) -> io::Result<()> {
        match self {
            Records::Text { .. } => Ok(()),
            Records::Bam(bam) => bam.unannotated(record),
        }
    }
}

impl Run {
    /// An error of the output, under its name.
    pub(super) fn output_failed(&self, source: io::Error) -> CliError {
        CliError::Io {
            file: self.output.clone(),
            source,
        }
    }

    /// Files one after another.
    fn files(
        &self,
        arguments: &AnnotateArguments,
        config: &PipelineConfig,
        mut output: Records<'_>,
    ) -> Result<Outcome, CliError> {
        let inputs = arguments.inputs.iter().map(Input::from_argument).collect();
        let (annotator, metrics) = (&self.annotator, &self.metrics);
        let ran = batch::run(config, inputs, annotator, metrics, &self.stop, &mut output);
        ran.map_err(|error| match error {
            PipelineError::Output(source) => self.output_failed(source),
            error => CliError::Input(error.to_string()),
        })
    }

    /// Opens the output and runs to the end; true where everything was read.
    fn run(
        &self,
        arguments: &AnnotateArguments,
        config: &PipelineConfig,
        prepared: Option<live::Prepared>,
    ) -> Result<bool, CliError> {
        let failed = |source| self.output_failed(source);
        let tags = model_tags(self.annotator.models());
        let target = arguments.output.as_deref();
        let format = match (arguments.format, &config.keep) {
            (OutputFormat::Text(format), _) => format,
            (OutputFormat::Bam, header) => {
                let command: Vec<String> = std::env::args().collect();
                let header = header.clone().unwrap_or_default();
                let mut bam = BamWriter::new(writer(target)?, header, &command.join(" "), &tags);
                let outcome = self.files(arguments, config, Records::Bam(&mut bam));
                let whole = |o: &Outcome| o.input_errors.is_empty();
                let ends = outcome.as_ref().is_ok_and(|o| whole(o) && !o.stopped);
                // Also after an error: what was counted as written is then there.
                let finished = bam.finish(ends);
                if !ends {
                    log::warn!("{}: not whole, so it gets no end block", self.output);
                }
                let whole = whole(&outcome?);
                finished.map_err(failed)?;
                return Ok(whole);
            }
        };
        if let Some(folder) = &arguments.follow {
            let config = follow::config(arguments, folder, format, tags, config)?;
            return follow::run(self, config);
        }
        let mut calls = CallWriter::new(writer(target)?, format, tags);
        calls.header().map_err(failed)?;
        let whole = match prepared {
            Some(prepared) => live::run(arguments, self, prepared, &mut calls)?,
            None => {
                // What comes through a pipe may still be growing, and so may what goes out:
                // somebody waits for each call.
                let piped = arguments.inputs.iter().any(|i| i.as_os_str() == "-");
                let calls = &mut calls;
                let outcome = self.files(arguments, config, Records::Text { calls, piped })?;
                outcome.input_errors.is_empty()
            }
        };
        let finished = calls.finish().and_then(|mut target| target.flush());
        finished.map_err(failed)?;
        Ok(whole)
    }
}

pub(super) fn run(arguments: &AnnotateArguments, quiet: bool) -> Result<(), CliError> {
    live::check(arguments)?;
    check_bam(arguments)?;
    check_output(arguments)?;
    let annotator = annotator(arguments)?;
    let threads = match arguments.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let config = PipelineConfig {
        threads,
        order: match arguments.order {
            OrderArgument::Input => Order::Input,
            OrderArgument::Ready | OrderArgument::Live => Order::Ready,
        },
        limits: Limits {
            max_read_len: arguments.max_read_len,
            ..Limits::default()
        },
        strict: arguments.strict,
        pool: 16 + 8 * threads,
        keep: (arguments.format == OutputFormat::Bam).then(Default::default),
    };
    let prepared = match live::is_asked_for(arguments) && arguments.follow.is_none() {
        true => Some(live::prepare(arguments, &annotator, threads)?),
        false => None,
    };
    let target = arguments.output.as_deref();
    let run = Run {
        annotator,
        metrics: Arc::new(Metrics::new()),
        stop: stop_flag(),
        output: target.map_or("standard output".into(), |p| p.display().to_string()),
    };
    let standard = arguments.inputs.iter().any(|i| i.as_os_str() == "-");
    if standard && arguments.follow.is_none() && io::stdin().is_terminal() {
        log::warn!("reading standard input, which is a terminal; end it with Ctrl-D");
    }
    let (annotator, metrics) = (&run.annotator, &run.metrics);
    let _endpoint = match arguments.metrics {
        Some(address) => {
            let models = annotator.models().iter();
            let models = models.map(|m| format!("{}/{}", m.name, m.version));
            let endpoint = Endpoint::new(address, metrics.clone(), models.collect());
            Some(endpoint.map_err(|source| CliError::Io {
                file: format!("--metrics {address}"),
                source,
            })?)
        }
        None => None,
    };
    let status = arguments
        .status_every
        .map(|seconds| Status::every(seconds, metrics));
    let shown = !quiet && status.is_none() && io::stderr().is_terminal();
    let progress = shown.then(|| Progress::show(metrics));
    let result = run.run(arguments, &config, prepared);
    drop((status, progress));
    // The summary comes even where the last bytes could not be written, but not where nothing
    // began.
    let summary = metrics.summary();
    if !quiet && (result.is_ok() || summary.reads_in > 0) {
        let SecondLook { positions, looked } = annotator.second_look();
        if positions > 0 {
            let part = 100.0 * looked as f64 / positions as f64;
            eprintln!("second look at {part:.2} % of bases and strands");
        }
        eprintln!(
            "{summary}\n{}",
            models_in_use(annotator.models().iter().map(|m| (&*m.name, &*m.version)))
        );
    }
    match result? {
        true => Ok(()),
        false => Err(CliError::Reported),
    }
}
