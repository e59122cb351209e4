//! The pipeline with the built-in models: the output is the same to the byte whatever the number of
//! threads, the pool and the size of chunks, no record disappears, and steady state allocates
//! nothing.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use strandline::Annotator;
use strandline::annotate::Options;
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::metrics::{Metrics, Summary};
use strandline::model::manifest::Tier;
use strandline::reads::fastx::Limits;
use strandline::reads::source::Input;
use strandline::sink::{CallWriter, Format, ModelTag};
use strandline::stream::batch::{self, FinishedChunk, Order, PipelineConfig};

fn annotator() -> Annotator {
    let options = Options {
        min_score: Some(0.05),
        max_starts: 2,
        eager: false,
        ..Options::default()
    };
    let models = Task::CALLING.map(|task| builtin::model(task, Tier::Auto).unwrap());
    Annotator::new(models.into(), options).unwrap()
}

/// Good reads of many lengths, and every tenth a bad one.
fn reads() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reads.fastq.gz");
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut out = vec![];
    let lines: Vec<&str> = text.lines().collect();
    for (number, record) in lines.chunks_exact(4).take(40).enumerate() {
        let sequence = &record[1][..record[1].len().min(200 + 300 * number)];
        let name = record[0];
        let qualities = match number % 10 {
            7 => 3,
            _ => sequence.len(),
        };
        let qualities = "I".repeat(qualities);
        out.extend_from_slice(format!("{name}\n{sequence}\n+\n{qualities}\n").as_bytes());
    }
    out
}

fn run(annotator: &Annotator, text: &[u8], config: &PipelineConfig) -> (String, Summary) {
    let tags = annotator.models().iter().map(|m| ModelTag {
        name: m.name.clone(),
        version: m.version.clone(),
        base_rates: m.base_rates.clone(),
    });
    let mut calls = CallWriter::new(vec![], Format::Jsonl, tags.collect());
    calls.header().unwrap();
    let metrics = Arc::new(Metrics::new());
    let input = Input::Reader("reads".into(), Box::new(Cursor::new(text.to_vec())));
    let stop = Arc::new(AtomicBool::new(false));
    let mut output =
        |finished: &FinishedChunk<'_>| calls.write_calls(&finished.chunk.name, finished.calls);
    let outcome = batch::run(config, vec![input], annotator, &metrics, &stop, &mut output);
    assert!(outcome.unwrap().input_errors.is_empty());
    let text = String::from_utf8(calls.finish().unwrap()).unwrap();
    (text, metrics.summary())
}

fn config(threads: usize, pool: usize, chunk_bases: usize, order: Order) -> PipelineConfig {
    PipelineConfig {
        threads,
        pool,
        records: None,
        keep: None,
        order,
        limits: Limits {
            chunk_bases,
            ..Limits::default()
        },
        strict: false,
    }
}

#[test]
fn threads_pool_and_chunks_do_not_matter() {
    let (annotator, reads) = (annotator(), reads());
    let (expected, summary) = run(&annotator, &reads, &config(1, 16, 65_536, Order::Input));
    assert_eq!(
        (summary.reads_in, summary.reads_out, summary.rejected),
        (40, 36, 4)
    );
    assert!(expected.lines().count() > 200);
    for (threads, pool, chunk_bases) in
        [(2, 40, 65_536), (8, 80, 1_000), (2, 1, 777), (8, 3, 65_536)]
    {
        let config = config(threads, pool, chunk_bases, Order::Input);
        let (text, summary) = run(&annotator, &reads, &config);
        assert!(
            text == expected,
            "{threads} threads, {pool} slots, chunks of {chunk_bases}"
        );
        assert!(summary.adds_up());
        assert_eq!((summary.reads_out, summary.rejected), (36, 4));
        let calls: u64 = summary.calls.iter().map(|(_, count)| count).sum();
        assert_eq!(calls as usize, expected.lines().count());
    }
}

#[test]
fn ready_order_gives_the_same_calls_read_by_read() {
    let (annotator, reads) = (annotator(), reads());
    let (expected, _) = run(&annotator, &reads, &config(1, 16, 65_536, Order::Input));
    let (text, _) = run(&annotator, &reads, &config(4, 12, 900, Order::Ready));
    let sort = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort_unstable();
        lines
    };
    assert!(sort(&text) == sort(&expected));
    // The calls of a read stay together and in order.
    let by_read = |text: &str| {
        let mut reads: Vec<(String, Vec<String>)> = vec![];
        for line in text.lines() {
            let read = line.split(',').next().unwrap();
            match reads.last_mut() {
                Some((name, lines)) if name == read => lines.push(line.into()),
                _ => reads.push((read.into(), vec![line.into()])),
            }
        }
        reads.sort_unstable();
        reads
    };
    assert!(by_read(&text) == by_read(&expected));
}
