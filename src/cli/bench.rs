//! `bench`: what a machine sustains.

use super::arguments::bench::BenchArguments;
use super::arguments::values::workers;
use super::error::CliError;
use super::guard::Files;
use super::interrupt::Interrupt;
use super::output::{End, Target, say};
use crate::annotate::Options;
use crate::lab::bench::{BenchConfig, Report, Scenario, bench, compared, html};
use crate::reads::source::Input;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;

/// What is measured, and where the report goes besides standard output.
struct BenchPlan {
    reads: Option<Input>,
    scenarios: Vec<Scenario>,
    config: BenchConfig,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
    /// The JSON of an earlier run.
    baseline: Option<PathBuf>,
}

impl BenchPlan {
    fn new(arguments: BenchArguments) -> Result<BenchPlan, CliError> {
        Files::default()
            .read(&arguments.reads)
            .read(&arguments.baseline)
            .write(&arguments.json)
            .write(&arguments.html)
            .check()?;
        let (molecule, strands) = arguments.molecule.with_strands(None);
        let mut scenarios: Vec<Scenario> =
            arguments.scenarios.into_iter().map(Into::into).collect();
        if scenarios.is_empty() {
            scenarios.extend(Scenario::DEFAULT);
        }
        Ok(BenchPlan {
            reads: arguments.reads.map(Input::from_argument),
            scenarios,
            config: BenchConfig {
                seconds: arguments.seconds,
                warm_up: arguments.warm_up,
                threads: workers(arguments.threads),
                options: Options {
                    molecule,
                    strands,
                    tier: arguments.tier.into(),
                    ..Options::default()
                },
                cell: arguments.cell.config(1.0, None),
                deadline: arguments.deadline,
                overload: arguments
                    .on_overload
                    .map_or_else(Default::default, Into::into),
            },
            json: arguments.json,
            html: arguments.html,
            baseline: arguments.baseline,
        })
    }
}

pub(super) fn run(arguments: BenchArguments) -> Result<(), CliError> {
    let plan = BenchPlan::new(arguments)?;
    let baseline: Option<Report> = match &plan.baseline {
        Some(path) => {
            let text = std::fs::read(path).map_err(CliError::io(path))?;
            let report = serde_json::from_slice(&text);
            Some(report.map_err(|e| CliError::Input(format!("{}: {e}", path.display())))?)
        }
        None => None,
    };
    let interrupt = Interrupt::new();
    let report = bench(&plan.config, &plan.scenarios, plan.reads, &interrupt.stop);
    if interrupt.stop.load(SeqCst) {
        return Err(CliError::Stopped(interrupt.exit_code()));
    }
    let report = report.map_err(CliError::input)?;
    say!("{}", report.table());
    let comparison = baseline.map_or(vec![], |before| compared(&report, &before));
    for line in &comparison {
        say!("baseline  {line}");
    }
    if let Some(path) = &plan.json {
        let text = serde_json::to_vec_pretty(&report).map_err(CliError::input)?;
        write(path, &text)?;
    }
    if let Some(path) = &plan.html {
        write(path, html(&report, &comparison).as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let target = Target::File(path.to_owned());
    let mut out = target.open()?;
    let written = out.write_all(bytes).and_then(|()| out.end(End::Complete));
    written.map_err(|source| target.failed(source))
}
