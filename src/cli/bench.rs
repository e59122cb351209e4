//! `bench`: what a board sustains.

use super::{BenchArguments, CliError, molecule};
use crate::annotate::{Options, Priors};
use crate::lab::bench::{BenchConfig, Report, Scenario, bench, compared, html};
use crate::reads::source::Input;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) fn run(arguments: &BenchArguments) -> Result<(), CliError> {
    let (molecule, strands) = molecule(arguments.molecule, None);
    let config = BenchConfig {
        seconds: arguments.seconds,
        warm_up: arguments.warm_up,
        threads: match arguments.threads {
            Some(threads) => threads.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        },
        options: Options {
            molecule,
            strands,
            tier: arguments.tier.into(),
            priors: Priors::default(),
            ..Options::default()
        },
        cell: arguments.cell.config(1.0, None),
        deadline: arguments
            .deadline
            .map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        overload: arguments
            .on_overload
            .map_or_else(Default::default, Into::into),
    };
    let baseline: Option<Report> = match &arguments.baseline {
        Some(path) => {
            let text = std::fs::read(path).map_err(CliError::io(path))?;
            let report = serde_json::from_slice(&text);
            Some(report.map_err(|e| CliError::Input(format!("{}: {e}", path.display())))?)
        }
        None => None,
    };
    let all = Scenario::ALL.iter().copied();
    let wanted = arguments.scenarios.iter().map(|&s| s.into());
    let scenarios: Vec<Scenario> = match arguments.scenarios.is_empty() {
        true => all.collect(),
        false => wanted.collect(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    if let Err(error) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
    let reads = arguments.reads.as_ref().map(Input::from_argument);
    let report = bench(&config, &scenarios, reads, &stop);
    let report = report.map_err(|e| CliError::Input(e.to_string()))?;
    say!("{}", report.table());
    let comparison = baseline.map_or(vec![], |before| compared(&report, &before));
    for line in &comparison {
        say!("baseline  {line}");
    }
    if let Some(path) = &arguments.json {
        let text =
            serde_json::to_vec_pretty(&report).map_err(|e| CliError::Input(e.to_string()))?;
        std::fs::write(path, text).map_err(CliError::io(path))?;
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, html(&report, &comparison)).map_err(CliError::io(path))?;
    }
    Ok(())
}
