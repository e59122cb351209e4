//! `annotate`: the pipeline with files at both ends.

use super::follow::Ledger;
use super::status::{Progress, Status};
use super::{AnnotateArguments, CliError, OrderArgument, live, models_in_use, molecule, writer};
use crate::annotate::{Annotator, Options, Priors, default_tasks};
use crate::builtin;
use crate::fastx::Limits;
use crate::live::{LiveError, OverloadPolicy};
use crate::metrics::{Endpoint, Metrics};
use crate::model::manifest::{Task, Tier};
use crate::model::{Model, SecondLook};
use crate::pipeline::{self, FinishedChunk, Order, PipelineConfig, PipelineError};
use crate::sink::{CallWriter, Format, ModelTag};
use crate::source::Input;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What both kinds of run need.
pub(super) struct Run {
    pub annotator: Annotator,
    pub threads: usize,
    pub metrics: Arc<Metrics>,
    pub stop: Arc<AtomicBool>,
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
            None => builtin::model(model.manifest().task, Tier::Fast),
        }
    });
    Ok(fast.collect::<Result<_, _>>()?)
}

pub(super) fn run(arguments: &AnnotateArguments, quiet: bool) -> Result<(), CliError> {
    live::check(arguments)?;
    let is_live = live::is_asked_for(arguments);
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
        eager: is_live,
    };
    let fast = stand_ins(arguments, &models)?;
    let annotator = Annotator::with_fast_tier(models, fast, options).map_err(CliError::usage)?;
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
    let mut ledger = None;
    let (out, begins) = match &arguments.follow {
        Some(folder) => {
            let (own, out, begins) = Ledger::open(arguments, folder)?;
            ledger = Some(own);
            (out, begins)
        }
        None => (writer(target)?, true),
    };
    let mut calls = CallWriter::new(out, arguments.format, tags.collect());
    if begins {
        calls.header().map_err(failed)?;
    }
    // What comes through a pipe may still be growing, and so may what goes out: somebody waits for each call.
    let piped = arguments.follow.is_none()
        && arguments
            .inputs
            .iter()
            .any(|input| input.as_os_str() == "-");
    if piped && io::stdin().is_terminal() {
        log::warn!("reading standard input, which is a terminal; end it with Ctrl-D");
    }
    let metrics = Arc::new(Metrics::new());
    let run = Run {
        annotator,
        threads,
        metrics: metrics.clone(),
        stop,
    };
    let annotator = &run.annotator;
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
        .map(|seconds| Status::every(seconds, &metrics));
    let shown = !quiet && status.is_none() && io::stderr().is_terminal();
    let progress = shown.then(|| Progress::show(&metrics));
    let outcome = if let Some(ledger) = &mut ledger {
        ledger.follow(arguments, &run, &config, &mut calls)
    } else if is_live {
        match live::run(arguments, &run, &mut calls)? {
            Ok(outcome) => Ok(outcome.errors.is_empty()),
            Err(LiveError::Output(source)) => Err(failed(source)),
            Err(error) => Err(CliError::Input(error.to_string())),
        }
    } else {
        let inputs = arguments.inputs.iter().map(Input::from_argument).collect();
        let mut output = |finished: &FinishedChunk<'_>| {
            calls.write_calls(&finished.chunk.name, finished.calls)?;
            match piped && !finished.calls.is_empty() {
                true => calls.flush(),
                false => Ok(()),
            }
        };
        match pipeline::run(&config, inputs, annotator, &metrics, &run.stop, &mut output) {
            Ok(outcome) => Ok(outcome.input_errors.is_empty()),
            Err(PipelineError::Output(source)) => Err(failed(source)),
            Err(error) => Err(CliError::Input(error.to_string())),
        }
    };
    drop((status, progress));
    let result = match outcome {
        // The summary comes even where the last bytes could not be written.
        Ok(whole) => match calls.finish().and_then(|mut target| target.flush()) {
            Err(source) => Err(failed(source)),
            Ok(()) if whole => Ok(()),
            Ok(()) => Err(CliError::Reported),
        },
        Err(error) => Err(error),
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
