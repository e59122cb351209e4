//! What a board sustains: three scenarios in the manner of MLPerf, timed end to end, with what the
//! machine did meanwhile.
//!
//! - Single stream: one chunk after another of one read at a time, the next when the calls of the
//!   last are written. It measures the least latency.
//! - Multi stream: channels that send by a schedule made in advance, as frames of the link; a
//!   chunk's clock starts when the host has received it. How late the board itself was is said. It
//!   measures whether a flow cell can be followed, and how late calls come.
//! - Channels: the same on one thread with more and more channels, up to the most that keep p99.9
//!   within [`WITHIN`]. It measures how many pores a core can follow.
//! - Offline: compressed reads as fast as they are accepted. It measures throughput.
//!
//! All are timed from letters in to text out, tokenising included. Every scenario is run for a
//! warm-up first, which is printed as the cold rate and counts for nothing else. Figures come
//! without a headline where the processor was slowed down or others used the machine.

mod board;
mod html;
mod machine;
mod scenarios;
#[cfg(test)]
mod tests;
mod text;

pub use html::html;
pub use machine::{Machine, Sample, Watch, Watched, resident};
pub use text::compared;

use crate::annotate::{AnnotateError, Annotator, Options};
use crate::call::CallKind;
use crate::kernels::Isa;
use crate::lab::replay::{FlowCellConfig, ReadData, load};
use crate::reads::source::{Input, InputError};
use crate::stream::batch::PipelineError;
use crate::stream::live::{LiveError, OverloadPolicy};
use hdrhistogram::Histogram;
use scenarios::{accuracy, channels, multi, offline, single, start_to_call};
use serde::{Deserialize, Serialize};
use std::io::{self, Cursor};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The bundled sample: reads cut from five human genes, 2 % errors, and their true sites.
const READS: &[u8] = include_bytes!("../../../tests/data/reads.fastq.gz");
const TRUTH: &[u8] = include_bytes!("../../../tests/data/reads_truth.tsv");

/// What is measured.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// Seconds of each scenario, after the warm-up.
    pub seconds: f64,
    /// Seconds before it.
    pub warm_up: f64,
    /// Workers.
    pub threads: usize,
    /// How reads are annotated.
    pub options: Options,
    /// The flow cell of the multi-stream scenario; its duration and speed are set here.
    pub cell: FlowCellConfig,
    /// Deadline and policy of that scenario.
    pub deadline: Option<Duration>,
    /// What becomes of chunks that cannot meet it.
    pub overload: OverloadPolicy,
}

/// The p99.9 that [`Scenario::Channels`] keeps, in milliseconds.
pub const WITHIN: f64 = 10.0;

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// One chunk after another.
    SingleStream,
    /// A flow cell by its schedule.
    MultiStream,
    /// As fast as it goes.
    Offline,
    /// A flow cell with as many channels as one thread follows.
    Channels,
}

impl Scenario {
    /// Those that are measured without a wish.
    pub const DEFAULT: [Scenario; 3] = [
        Scenario::SingleStream,
        Scenario::MultiStream,
        Scenario::Offline,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::SingleStream => "single stream",
            Scenario::MultiStream => "multi stream",
            Scenario::Offline => "offline",
            Scenario::Channels => "channels",
        }
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A model.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    /// The reads.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The live run.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The offline run.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What was measured does not hold together; a bug.
    #[error("{0}")]
    Wrong(String),
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// p50, p90, p99, p99.9 and the maximum.
    pub p50: f64,
    /// p90.
    pub p90: f64,
    /// p99.
    pub p99: f64,
    /// p99.9.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The raw histogram: microseconds (highest of an equivalent range) and counts.
    pub histogram: Vec<(u64, u64)>,
}

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Latency {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |q| ms(histogram.value_at_quantile(q));
        let recorded = histogram.iter_recorded();
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
            histogram: recorded
                .map(|bar| (bar.value_iterated_to(), bar.count_at_value()))
                .collect(),
        }
    }
}

/// What a scenario gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub scenario: Scenario,
    /// In words: channels, chunk, rate.
    pub load: String,
    /// Bases a second that were offered; `None`: as many as were accepted.
    pub offered: Option<f64>,
    /// Seconds it took.
    pub seconds: f64,
    /// Reads annotated.
    pub reads: u64,
    /// Bases annotated.
    pub bases: u64,
    /// Calls written.
    pub calls: u64,
    /// Processor seconds a megabase, where the system counts them.
    #[serde(default)]
    pub seconds_per_megabase: Option<f64>,
    /// Bases a second.
    pub bases_per_second: f64,
    /// The same of the warm-up, which began cold.
    pub cold_bases_per_second: f64,
    /// The same of the last third.
    pub sustained_bases_per_second: f64,
    /// From a chunk's bytes to its calls; not for offline, where chunks wait in a queue by
    /// intention.
    pub latency: Option<Latency>,
    /// Bases that were shed.
    pub shed: u64,
    /// Chunks whose calls came after their deadline.
    pub late: u64,
    /// The sensors, and doubts.
    pub watched: Watched,
}

/// A model in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// Name and version.
    pub name: String,
    /// BLAKE3 of its tensors.
    pub hash: String,
}

/// Accuracy of this very program on the bundled sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Donor or acceptor.
    pub kind: CallKind,
    /// True sites of the sample.
    pub sites: u64,
    /// Share of them among as many best-scored positions.
    pub top_k: f64,
    /// Area under the precision-recall curve.
    pub auprc: f64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// Seconds since 1970.
    pub time: u64,
    /// The machine.
    pub machine: Machine,
    /// Instruction set in use.
    pub isa: String,
    /// Models in use.
    pub models: Vec<ModelUsed>,
    /// Workers.
    pub threads: usize,
    /// The reads.
    pub reads: String,
    /// Accuracy on the bundled sample.
    pub accuracy: Vec<Accuracy>,
    /// Milliseconds from the start of a process to its first written call.
    pub start: Option<f64>,
    /// Highest resident memory, bytes.
    pub resident: Option<u64>,
    /// The scenarios.
    pub results: Vec<Measured>,
}

impl Report {
    /// True where every figure may be quoted.
    pub fn holds(&self) -> bool {
        self.results.iter().all(|r| r.watched.doubts.is_empty())
    }
}

/// Measures `scenarios`. `reads` are replayed; the bundled sample where they are `None`.
///
/// # Errors
/// Where something cannot be run, or what was run does not add up.
pub fn bench(
    config: &BenchConfig,
    scenarios: &[Scenario],
    reads: Option<Input>,
    stop: &Arc<AtomicBool>,
) -> Result<Report, BenchError> {
    let name = reads
        .as_ref()
        .map_or("the bundled sample".to_string(), Input::name);
    let sample = || {
        Input::Reader(
            "the bundled sample".to_string(),
            Box::new(Cursor::new(READS)),
        )
    };
    let reads: Arc<[ReadData]> = load(reads.unwrap_or_else(sample))?.into();
    if reads.iter().all(|read| read.letters.is_empty()) {
        return Err(BenchError::Wrong(format!("{name}: no bases")));
    }
    let annotator = Annotator::builtin(config.options.clone())?;
    let models = annotator.models().iter().map(|m| ModelUsed {
        name: format!("{}/{}", m.name, m.version),
        hash: m.hash.clone(),
    });
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_string(),
        time: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        machine: Machine::look(),
        isa: Isa::selected().to_string(),
        models: models.collect(),
        threads: config.threads,
        reads: name,
        accuracy: vec![],
        start: start_to_call(),
        resident: None,
        results: vec![],
    };
    for &scenario in scenarios {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let run = |seconds: f64| match scenario {
            Scenario::SingleStream => single(config, &annotator, &reads, seconds, stop),
            Scenario::MultiStream => multi(config, &annotator, &reads, seconds, stop),
            Scenario::Offline => offline(config, &annotator, &reads, seconds, stop),
            Scenario::Channels => channels(config, &annotator, &reads, seconds, stop),
        };
        // A search warms up by itself.
        let cold = match scenario {
            Scenario::Channels => None,
            _ => Some(run(config.warm_up)?),
        };
        let watch = Watch::begin()?;
        let mut measured = run(config.seconds)?;
        let doubts = mem::take(&mut measured.watched.doubts);
        measured.watched = watch.end();
        measured.watched.doubts.extend(doubts);
        if let Some(cold) = cold {
            measured.cold_bases_per_second = cold.bases_per_second;
        }
        report.results.push(measured);
    }
    report.resident = resident().map(|(_, most)| most);
    // Last, since it takes memory and heats the processor as no run would.
    report.accuracy = accuracy(config.options.tier)?;
    Ok(report)
}
