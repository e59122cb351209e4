//! The scenarios themselves.

use super::board::Board;
use super::machine::process_seconds;
use super::{
    Accuracy, BenchConfig, BenchError, Latency, Measured, READS, Scenario, TRUTH, WITHIN, Watched,
};
use crate::annotate::builtin;
use crate::annotate::{AnnotateError, Annotator, Options, Scorer};
use crate::annotate::{Task, called};
use crate::call::CallKind;
use crate::call::Strand;
use crate::lab::evaluate::Evaluation;
use crate::lab::replay::{FlowCell, FlowCellConfig, ReadData, load};
use crate::lab::truth::ReadSites;
use crate::metrics::{Metrics, Summary};
use crate::model::manifest::Tier;
use crate::reads::source::Input;
use crate::sink::{CallWriter, Format};
use crate::stream::batch::{self, FinishedChunk, PipelineConfig};
use crate::stream::live::{self, FinishedPiece, LiveConfig, LiveOutput, OverloadPolicy};
use crate::stream::model_tags;
use firmware_bridge::MAX_CHANNEL;
use hdrhistogram::Histogram;
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Text of calls that nobody keeps; its length is the proof that they were written.
#[derive(Default)]
struct Written(u64);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn writer(annotator: &Annotator) -> CallWriter<Written> {
    let tags = model_tags(annotator.models());
    CallWriter::new(Written::default(), Format::Tsv, tags)
}

/// Bases over time, for the rate of the last third.
struct Progress {
    start: Instant,
    /// Of this process, then.
    processor: Option<f64>,
    seconds: f64,
    at_two_thirds: Option<(f64, u64)>,
}

impl Progress {
    fn new(seconds: f64) -> Progress {
        Progress {
            start: Instant::now(),
            processor: process_seconds(),
            seconds,
            at_two_thirds: None,
        }
    }

    fn passed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn at(&mut self, bases: u64) {
        let passed = self.passed();
        if self.at_two_thirds.is_none() && passed >= self.seconds * 2.0 / 3.0 {
            self.at_two_thirds = Some((passed, bases));
        }
    }

    fn measured(&self, scenario: Scenario, bases: u64) -> Measured {
        let seconds = self.passed();
        let sustained = self.at_two_thirds.map(|(then, before)| {
            (bases.saturating_sub(before)) as f64 / (seconds - then).max(1e-9)
        });
        let rate = bases as f64 / seconds.max(1e-9);
        let processor = self.processor.zip(process_seconds());
        Measured {
            seconds_per_megabase: processor
                .map(|(before, now)| (now - before) * 1e6 / (bases.max(1)) as f64),
            scenario,
            load: String::new(),
            offered: None,
            seconds,
            reads: 0,
            bases,
            calls: 0,
            bases_per_second: rate,
            cold_bases_per_second: rate,
            sustained_bases_per_second: sustained.unwrap_or(rate),
            latency: None,
            shed: 0,
            late: 0,
            watched: Watched::default(),
        }
    }
}

pub(super) fn single(
    config: &BenchConfig,
    annotator: &Annotator,
    reads: &[ReadData],
    seconds: f64,
    stop: &AtomicBool,
) -> Result<Measured, BenchError> {
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)
        .expect("1 to a minute at three digits are bounds that the crate accepts");
    let mut writer = writer(annotator);
    let mut state = annotator.read();
    let mut calls = vec![];
    let mut progress = Progress::new(seconds);
    let (mut bases, mut done, mut written) = (0, 0, 0);
    'all: loop {
        for read in reads {
            let mut chunks = read.letters.chunks(config.cell.chunk.max(1)).peekable();
            while let Some(chunk) = chunks.next() {
                let begun = Instant::now();
                calls.clear();
                state.push(chunk, &mut calls)?;
                if chunks.peek().is_none() {
                    state.finish(&mut calls)?;
                }
                writer.write_calls(&read.name, &calls)?;
                latency.saturating_record((begun.elapsed().as_micros() as u64).max(1));
                bases += chunk.len() as u64;
                written += calls.len() as u64;
                progress.at(bases);
                if progress.passed() >= seconds || stop.load(Ordering::Relaxed) {
                    break 'all;
                }
            }
            done += 1;
        }
    }
    state.reset();
    Ok(Measured {
        load: format!("chunks of {} bases, one thread", config.cell.chunk),
        reads: done,
        calls: written,
        latency: Some(Latency::new(&latency)),
        ..progress.measured(Scenario::SingleStream, bases)
    })
}

struct LiveSink {
    writer: CallWriter<Written>,
    metrics: Arc<Metrics>,
    progress: Progress,
}

impl LiveOutput for LiveSink {
    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        self.writer.write_calls(finished.name, finished.calls)
    }

    fn pause(&mut self) -> io::Result<()> {
        // Bases are scored when what follows them is there; those that came in tell the pace.
        self.progress.at(self.metrics.bases_received());
        self.writer.flush()
    }
}

fn checked(summary: &Summary) -> Result<u64, BenchError> {
    if summary.adds_up() {
        return Ok(summary.calls.iter().map(|(_, count)| count).sum());
    }
    Err(BenchError::Wrong(format!(
        "the counters do not add up:\n{summary}"
    )))
}

pub(super) fn multi(
    config: &BenchConfig,
    annotator: &Annotator,
    reads: &Arc<[ReadData]>,
    seconds: f64,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, BenchError> {
    let live = LiveConfig {
        threads: config.threads,
        deadline: config.deadline,
        overload: config.overload,
        ..LiveConfig::default()
    };
    let cell = FlowCellConfig {
        duration: Some(seconds),
        speed: 1.0,
        ..config.cell
    };
    let (mut measured, behind) = follow(&live, cell, annotator, reads, stop)?;
    if behind > BEHIND {
        let reason = format!("the board was up to {} ms late", behind.as_millis());
        measured.watched.doubts.push(reason);
    }
    Ok(measured)
}

/// How late a board may send.
const BEHIND: Duration = Duration::from_millis(20);

/// Annotates what a board sends of a flow cell; also how far behind its schedule it came.
fn follow(
    live: &LiveConfig,
    cell: FlowCellConfig,
    annotator: &Annotator,
    reads: &Arc<[ReadData]>,
    stop: &Arc<AtomicBool>,
) -> Result<(Measured, Duration), BenchError> {
    let seconds = cell.duration.unwrap_or_default();
    let metrics = Arc::new(Metrics::new());
    let mut sink = LiveSink {
        writer: writer(annotator),
        metrics: metrics.clone(),
        progress: Progress::new(seconds),
    };
    let (board, link) = Board::start(FlowCell::new(reads.clone(), cell), stop)?;
    live::run(
        live,
        vec![Box::new(link)],
        annotator,
        &metrics,
        stop,
        &mut sink,
    )?;
    let sent = board.end()?;
    if let Some(undelivered) = sent.undelivered {
        return Err(BenchError::Wrong(undelivered));
    }
    let summary = metrics.summary();
    let calls = checked(&summary)?;
    let counts = summary.live.as_ref();
    let mut measured = Measured {
        load: format!(
            "{} channels of {} bases/s over a link, chunks of {}, {} threads",
            cell.channels, cell.rate, cell.chunk, live.threads
        ),
        offered: Some(summary.bases_in as f64 / seconds),
        reads: summary.reads_out,
        calls,
        latency: Some(Latency::new(&metrics.latency())),
        shed: counts.map_or(0, |l| l.bases_shed),
        late: counts.map_or(0, |l| l.late),
        ..sink
            .progress
            .measured(Scenario::MultiStream, summary.bases_out)
    };
    let megabases = measured.bases.max(1) as f64 / 1e6;
    let board = sent.seconds.map(|seconds| seconds / megabases);
    let own = measured.seconds_per_megabase.zip(board);
    measured.seconds_per_megabase = own.map(|(all, board)| all - board);
    Ok((measured, sent.played.latest))
}

/// The share by which the search may be wrong.
const CLOSE: f64 = 1.05;

/// The most channels that one thread follows with p99.9 within [`WITHIN`], found by doubling and
/// then halving the distance. Each trial takes a quarter of the time.
pub(super) fn channels(
    config: &BenchConfig,
    annotator: &Annotator,
    reads: &Arc<[ReadData]>,
    seconds: f64,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, BenchError> {
    let live = LiveConfig {
        threads: 1,
        deadline: None,
        overload: OverloadPolicy::Block,
        ..LiveConfig::default()
    };
    let mut most: Option<Measured> = None;
    let (mut holds, mut fails) = (0, None);
    let mut channels = config.cell.channels;
    while !stop.load(Ordering::Relaxed) {
        let cell = FlowCellConfig {
            channels,
            duration: Some(seconds / 4.0),
            speed: 1.0,
            ..config.cell
        };
        let (measured, behind) = follow(&live, cell, annotator, reads, stop)?;
        let latency = measured.latency.as_ref().map_or(f64::MAX, |l| l.p999);
        if latency <= WITHIN && behind <= BEHIND {
            holds = channels;
            most = Some(measured);
        } else {
            fails = Some(channels);
        }
        channels = match fails {
            None if holds > MAX_CHANNEL / 2 => break,
            None => 2 * holds,
            Some(fails) if f64::from(fails) <= f64::from(holds) * CLOSE || fails - holds < 2 => {
                break;
            }
            Some(fails) => holds + (fails - holds) / 2,
        };
    }
    let within = format!("p99.9 within {WITHIN} ms");
    let measured = most.ok_or_else(|| {
        BenchError::Wrong(format!("not even {channels} channel: none kept {within}"))
    })?;
    Ok(Measured {
        scenario: Scenario::Channels,
        load: format!("{within}: {}", measured.load),
        ..measured
    })
}

/// A compressed FASTQ file again and again, until its time is up.
struct Again {
    file: Arc<[u8]>,
    at: usize,
    until: Instant,
    stop: Arc<AtomicBool>,
}

impl Read for Again {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.file.len() {
            // Whole files only: gzip members may follow one another.
            if Instant::now() >= self.until || self.stop.load(Ordering::Relaxed) {
                return Ok(0);
            }
            self.at = 0;
        }
        let n = out.len().min(self.file.len() - self.at);
        out[..n].copy_from_slice(&self.file[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

pub(super) fn offline(
    config: &BenchConfig,
    annotator: &Annotator,
    reads: &[ReadData],
    seconds: f64,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, BenchError> {
    let mut text = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    for read in reads.iter().filter(|read| !read.letters.is_empty()) {
        text.write_all(b"@")?;
        text.write_all(&read.name)?;
        text.write_all(b"\n")?;
        text.write_all(&read.letters)?;
        text.write_all(b"\n+\n")?;
        text.write_all(&vec![b'5'; read.letters.len()])?;
        text.write_all(b"\n")?;
    }
    let mut progress = Progress::new(seconds);
    let again = Again {
        file: text.finish()?.into(),
        at: 0,
        until: progress.start + Duration::from_secs_f64(seconds),
        stop: stop.clone(),
    };
    let input = Input::Reader("offline".to_string(), Box::new(again));
    let pipeline = PipelineConfig::with_threads(config.threads);
    // Whole tiles at a time, as `annotate` has it for files.
    let options = Options {
        eager: false,
        ..config.options.clone()
    };
    let own = Annotator::builtin(options)?;
    let metrics = Arc::new(Metrics::new());
    let mut writer = writer(annotator);
    let mut bases = 0;
    let mut output = |finished: &FinishedChunk<'_>| {
        bases += finished.chunk.codes.len() as u64;
        progress.at(bases);
        writer.write_calls(&finished.chunk.name, finished.calls)
    };
    // A stop ends the input, so that what was read is finished.
    let never = Arc::new(AtomicBool::new(false));
    batch::run(&pipeline, vec![input], &own, &metrics, &never, &mut output)?;
    let summary = metrics.summary();
    let calls = checked(&summary)?;
    Ok(Measured {
        load: format!("gzip FASTQ, {} threads", config.threads),
        reads: summary.reads_out,
        calls,
        ..progress.measured(Scenario::Offline, summary.bases_out)
    })
}

/// Median over processes of this program that annotate one short read.
pub(super) fn start_to_call() -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let mut times: Vec<f64> = vec![];
    for _ in 0..9 {
        let begun = Instant::now();
        let mut child = std::process::Command::new(&program)
            .args(["annotate", "-q", "--min-score", "0", "--threads", "1", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        child
            .stdin
            .take()?
            .write_all(b">read\nGATTACAGGTAAGTCCTTTTTCTCTCCCTGCAGGATCC\n")
            .ok()?;
        let mut text = String::new();
        child.stdout.take()?.read_to_string(&mut text).ok()?;
        let time = begun.elapsed().as_secs_f64() * 1000.0;
        // Another program (a test, say) has no such command, and then there is no figure.
        if !child.wait().ok()?.success() || !text.contains("\nread\t") {
            return None;
        }
        times.push(time);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The splice model on the bundled sample.
pub(super) fn accuracy(tier: Tier) -> Result<Vec<Accuracy>, BenchError> {
    let wrong = |e: &dyn std::fmt::Display| BenchError::Wrong(format!("the bundled sample: {e}"));
    let mut truth = ReadSites::read(TRUTH, "truth").map_err(|e| wrong(&e))?;
    let input = Input::Reader(
        "the bundled sample".to_string(),
        Box::new(Cursor::new(READS)),
    );
    let model = builtin::model(Task::Splice, tier).map_err(AnnotateError::from)?;
    let mut scorer = Scorer::new(model)?;
    let outputs = scorer.manifest().outputs.iter();
    let kinds: Vec<(CallKind, f32)> = outputs
        .map(|output| (called(output), output.threshold))
        .collect();
    let mut evaluation = Evaluation::new(&kinds);
    let mut rows: Vec<f32> = vec![];
    for read in load(input)? {
        let sites = truth.take(&read.name).to_vec();
        let mut codes = vec![];
        crate::reads::nucleotide::encode(&read.letters, &mut codes);
        for strand in [Strand::Forward, Strand::Reverse] {
            rows.clear();
            scorer.score(&codes, strand, |scores| {
                rows.extend_from_slice(scores);
                Ok::<(), AnnotateError>(())
            })?;
            for (c, &(kind, _)) in kinds.iter().enumerate() {
                let column: Vec<f32> = rows.chunks_exact(kinds.len()).map(|r| r[c]).collect();
                let own = sites
                    .iter()
                    .filter(|s| s.kind == kind && s.strand == strand);
                let own = own.map(|s| s.position);
                let added = evaluation.add_read(kind, strand, &column, own);
                added.map_err(|e| wrong(&e))?;
            }
        }
    }
    let report = evaluation.report();
    let rows = kinds.iter().filter_map(|&(kind, _)| {
        let row = report.overall(kind)?;
        Some(Accuracy {
            kind,
            sites: row.sites,
            top_k: row.top_k?,
            auprc: row.auprc?,
        })
    });
    Ok(rows.collect())
}
