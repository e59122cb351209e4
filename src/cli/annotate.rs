//! `annotate`: carries out its plan.

use super::error::CliError;
use super::events::Events;
use super::html::{Facts, Report, ReportPlan};
use super::interrupt::Interrupt;
use super::plan::{Mode, Plan};
use super::report::{models_in_use, note};
use super::run::{Ended, Run};
use super::status::{Progress, Status};
use super::{annotator, batch, clade, follow, live};
use crate::annotate::Options;
use crate::kernels::Isa;
use crate::metrics::{Endpoint, Metrics, Recent, Summary};
use crate::model::SecondLook;
use crate::model::manifest::Tier;
use crate::sink::Watch;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is left once everything that is read has been opened.
type Job = Box<dyn FnOnce(&Run) -> Result<Ended, CliError>>;

pub(super) fn run(mut plan: Plan) -> Result<(), CliError> {
    if plan.models.clade.is_none() {
        let clade = clade::of_plan(&plan)?;
        plan = plan.of_clade(clade);
    }
    let annotator = annotator::open(&plan.models, plan.options.clone(), plan.mode.format())?;
    let from_terminal = plan.mode.reads_standard_input() && io::stdin().is_terminal();
    let job: Job = match plan.mode {
        Mode::Batch {
            reads,
            format,
            pipeline,
        } => {
            let records = batch::open(reads, &pipeline)?;
            Box::new(move |run| batch::calls(run, records, format, &pipeline))
        }
        Mode::Bam {
            reads,
            pipeline,
            command,
        } => {
            let records = batch::open(reads, &pipeline)?;
            Box::new(move |run| batch::bam(run, records, &pipeline, &command))
        }
        Mode::Live(plan) => {
            let opened = live::open(plan, &annotator)?;
            Box::new(move |run| live::run(run, opened))
        }
        Mode::Follow(plan) => Box::new(move |run| follow::run(run, plan)),
    };
    #[cfg(feature = "fleet")]
    let published = plan.publication.is_some();
    #[cfg(not(feature = "fleet"))]
    let published = false;
    let report = match plan.report {
        Some(plan) => Some((Report::open(&plan)?, plan)),
        None => None,
    };
    let recent = plan.http.map(|_| Arc::new(Recent::default()));
    let run = Run {
        annotator,
        metrics: Arc::new(Metrics::new()),
        interrupt: Interrupt::new(),
        output: plan.output,
        header: plan.header,
        events: published.then(|| Events::new(&plan.labels)),
        labels: plan.labels,
        #[cfg(feature = "fleet")]
        publication: plan.publication,
        watch: recent.clone().map(watch),
        observer: report.as_ref().map(|(report, _)| report.observer()),
    };
    if from_terminal {
        log::warn!("reading standard input, which is a terminal; end it with Ctrl-D");
    }
    let _numbers = match plan.metrics {
        Some(address) => Some(numbers(address, &run)?),
        None => None,
    };
    let _page = match (plan.http, recent) {
        (Some(address), Some(recent)) => Some(page(address, &run, recent, plan.quiet)?),
        _ => None,
    };
    let every = plan.status_every;
    let status = every.map(|period| Status::every(period, &run.metrics, run.events.clone()));
    let shown = !plan.quiet && status.is_none() && io::stderr().is_terminal();
    let progress = shown.then(|| Progress::show(&run.metrics));
    let result = job(&run);
    drop((status, progress));
    // The summary comes even where the last bytes could not be written, but not where nothing
    // began.
    let summary = run.metrics.summary();
    let began = result.is_ok() || summary.reads_in > 0;
    if began && !plan.quiet {
        summarise(&run, &summary);
    }
    let reported = match report {
        Some((report, of)) if began => {
            let facts = facts(of, plan.options, &run, &result);
            report.write(&facts, run.annotator.models(), &summary)
        }
        _ => Ok(()),
    };
    #[cfg(feature = "fleet")]
    let lacking = run
        .publication
        .as_ref()
        .is_some_and(|to| !to.end(&run.output, &run.interrupt.stop));
    #[cfg(not(feature = "fleet"))]
    let lacking = false;
    let ended = result?;
    reported?;
    match ended {
        Ended::Whole if !lacking => Ok(()),
        Ended::Whole | Ended::Lacking => Err(CliError::Reported),
        Ended::Stopped => Err(CliError::Stopped(run.interrupt.exit_code())),
    }
}

/// What a report says of the run itself.
fn facts(plan: ReportPlan, options: Options, run: &Run, result: &Result<Ended, CliError>) -> Facts {
    let models = run.annotator.models().iter();
    Facts {
        inputs: plan.inputs,
        command: plan.command,
        options,
        more: plan.more,
        models: models
            .map(|m| (format!("{}/{}", m.name, m.version), m.hash.clone()))
            .collect(),
        instruction_set: Isa::selected().to_string(),
        ended: match result {
            Ok(Ended::Whole) => "The run came to its end.".to_string(),
            Ok(Ended::Lacking) => {
                "Some input could not be read, or not to its end: see its messages.".to_string()
            }
            Ok(Ended::Stopped) => "The run was stopped before the end of its input.".to_string(),
            Err(error) => format!("The run broke off: {error}"),
        },
    }
}

fn names_of_models(run: &Run) -> Vec<String> {
    let models = run.annotator.models().iter();
    models
        .map(|m| format!("{}/{}", m.name, m.version))
        .collect()
}

/// Serves the run's numbers.
fn numbers(address: SocketAddr, run: &Run) -> Result<Endpoint, CliError> {
    let endpoint = Endpoint::new(address, run.metrics.clone(), names_of_models(run));
    endpoint.map_err(|source| CliError::Io {
        file: format!("--metrics {address}"),
        source,
    })
}

/// Serves the live page.
fn page(
    address: SocketAddr,
    run: &Run,
    recent: Arc<Recent>,
    quiet: bool,
) -> Result<Endpoint, CliError> {
    let metrics = run.metrics.clone();
    let endpoint = Endpoint::with_page(address, metrics, names_of_models(run), recent);
    let endpoint = endpoint.map_err(|source| CliError::Io {
        file: format!("--http {address}"),
        source,
    })?;
    if !quiet {
        note(format_args!("live page: http://{}/", endpoint.address()));
    }
    Ok(endpoint)
}

/// Shows calls to the page.
fn watch(recent: Arc<Recent>) -> Watch {
    Watch(Arc::new(move |read, calls| {
        let shown = calls.iter().map(|call| {
            let place = call.start..call.end;
            (call.kind.name(), call.strand.symbol(), place, call.score)
        });
        recent.add(read, shown);
    }))
}

/// Prints what was read, written and found, and by which models.
fn summarise(run: &Run, summary: &Summary) {
    let SecondLook { positions, looked } = run.annotator.second_look();
    // Where every base has it, it is no second one.
    if positions > 0 && run.annotator.options().tier == Tier::Auto {
        let share = 100.0 * looked as f64 / positions as f64;
        note(format_args!(
            "second look at {share:.2} % of bases and strands"
        ));
    }
    let models = run.annotator.models().iter();
    note(summary);
    note(models_in_use(models.map(|m| (&*m.name, &*m.version))));
}
