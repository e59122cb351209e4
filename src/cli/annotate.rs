//! `annotate`: the pipeline with files at both ends.

use super::{AnnotateArguments, CliError, OrderArgument, models_in_use, molecule, writer};
use crate::annotate::{Annotator, Options, Priors, default_tasks};
use crate::builtin;
use crate::fastx::Limits;
use crate::metrics::Metrics;
use crate::model::manifest::Task;
use crate::model::{Model, SecondLook};
use crate::pipeline::{self, FinishedChunk, Order, PipelineConfig, PipelineError};
use crate::sink::{CallWriter, Format, ModelTag};
use crate::source::Input;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        tasks.extend(given.iter().map(|model| model.manifest().task));
    }
    tasks.sort_unstable();
    tasks.dedup();
    if let Some(unused) = given.iter().find(|m| !tasks.contains(&m.manifest().task)) {
        let (file, task) = (unused.file().name(), unused.manifest().task);
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

/// What splice-tsv can hold. Tasks that were asked for by name must be among it; defaults that are not are left out.
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

pub(super) fn run(arguments: &AnnotateArguments, quiet: bool) -> Result<(), CliError> {
    let (molecule, strands) = molecule(arguments.molecule, arguments.strand);
    let models = models(arguments)?;
    let models = match arguments.format {
        Format::SpliceTsv => splice_only(models, !arguments.tasks.is_empty())?,
        Format::Bedgraph
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
        eager: false,
    };
    let annotator = Annotator::new(models, options).map_err(CliError::usage)?;
    let threads = match arguments.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let config = PipelineConfig {
        threads,
        order: match arguments.order {
            OrderArgument::Input => Order::Input,
            OrderArgument::Ready => Order::Ready,
        },
        limits: Limits {
            max_read_len: arguments.max_read_len,
            ..Limits::default()
        },
        strict: arguments.strict,
        pool: 16 + 8 * threads,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // A second Ctrl-C ends at once: the handler then finds the flag set.
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
    let target = arguments.output.as_deref();
    let name = target.map_or("standard output".into(), |p| p.display().to_string());
    let failed = |source: io::Error| CliError::Io {
        file: name.clone(),
        source,
    };
    let tags = annotator.models().iter().map(|model| ModelTag {
        name: model.name.clone(),
        version: model.version.clone(),
        base_rates: model.base_rates.clone(),
    });
    let mut calls = CallWriter::new(writer(target)?, arguments.format, tags.collect());
    calls.header().map_err(failed)?;
    // What comes through a pipe may still be growing, and so may what goes out: somebody waits for each call.
    let live = arguments
        .inputs
        .iter()
        .any(|input| input.as_os_str() == "-");
    if live && io::stdin().is_terminal() {
        log::warn!("reading standard input, which is a terminal; end it with Ctrl-D");
    }
    let metrics = Arc::new(Metrics::new());
    let inputs = arguments.inputs.iter().map(Input::from_argument).collect();
    let outcome = {
        let _progress = (!quiet && io::stderr().is_terminal()).then(|| Progress::show(&metrics));
        let mut output = |finished: &FinishedChunk<'_>| {
            calls.write_calls(&finished.chunk.name, finished.calls)?;
            match live && !finished.calls.is_empty() {
                true => calls.flush(),
                false => Ok(()),
            }
        };
        pipeline::run(&config, inputs, &annotator, &metrics, &stop, &mut output)
    };
    let result = match outcome {
        // The summary comes even where the last bytes could not be written.
        Ok(outcome) => match calls.finish().and_then(|mut target| target.flush()) {
            Err(source) => Err(failed(source)),
            Ok(()) if outcome.input_errors.is_empty() => Ok(()),
            Ok(()) => Err(CliError::Reported),
        },
        Err(PipelineError::Output(source)) => Err(failed(source)),
        Err(error) => Err(CliError::Input(error.to_string())),
    };
    if !quiet {
        let SecondLook { positions, looked } = annotator.second_look();
        if positions > 0 {
            let part = 100.0 * looked as f64 / positions as f64;
            eprintln!("second look at {part:.2} % of bases and strands");
        }
        eprintln!(
            "{}\n{}",
            metrics.summary(),
            models_in_use(annotator.models().iter().map(|m| (&*m.name, &*m.version)))
        );
    }
    result
}

/// A line on the terminal while the run goes on.
struct Progress {
    bar: ProgressBar,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    fn show(metrics: &Arc<Metrics>) -> Progress {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (own_bar, own_ended, metrics) = (bar.clone(), ended.clone(), metrics.clone());
        let thread = std::thread::spawn(move || {
            while !own_ended.load(Ordering::Relaxed) {
                let now = metrics.summary();
                let calls: u64 = now.calls.iter().map(|(_, count)| count).sum();
                own_bar.set_message(format!(
                    "{} reads, {:.1} Mb, {:.2} Mb/s, {calls} calls, {} chunks queued",
                    now.reads_out,
                    now.bases_out as f64 / 1e6,
                    now.bases_per_second() / 1e6,
                    now.queued,
                ));
                own_bar.tick();
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        Progress {
            bar,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and if it did there would be nothing to do but to end the line.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
