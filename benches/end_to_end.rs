//! gzip FASTQ to TSV through the whole pipeline: splice sites and promoters on both strands, one
//! worker.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use strandline::metrics::{Metrics, Summary};
use strandline::model::manifest::Tier;
use strandline::reads::source::Input;
use strandline::sink::{CallWriter, Format};
use strandline::stream::batch::{self, FinishedChunk, PipelineConfig};
use strandline::{Annotator, Options};

const GZIP: &[u8] = include_bytes!("../tests/data/reads.fastq.gz");

/// Records and bases of the sample reads.
const SAMPLE: (u64, u64) = (150, 996_300);

/// The TSV and the counters of one run.
fn run(annotator: &Annotator, threads: usize) -> (Vec<u8>, Summary) {
    let tags = strandline::model_tags(annotator.models());
    let mut calls = CallWriter::new(vec![], Format::Tsv, tags);
    calls.header().expect("memory");
    let config = PipelineConfig::with_threads(threads);
    let input = Input::Reader("reads.fastq.gz".into(), Box::new(Cursor::new(GZIP)));
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mut output =
        |finished: &FinishedChunk<'_>| calls.write_calls(&finished.chunk.name, finished.calls);
    let outcome = batch::run(
        &config,
        vec![input],
        annotator,
        &metrics,
        &stop,
        &mut output,
    )
    .expect("a run to the end");
    assert!(outcome.input_errors.is_empty() && !outcome.stopped);
    (calls.finish().expect("memory"), metrics.summary())
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("end_to_end");
    group.throughput(Throughput::Elements(SAMPLE.1));
    for (tier, name) in [(Tier::Auto, "auto"), (Tier::Fast, "fast")] {
        let options = Options {
            eager: false,
            tier,
            ..Options::default()
        };
        let annotator = Annotator::builtin(options).expect("built-in models");
        let (text, summary) = run(&annotator, 1);
        assert!(summary.adds_up(), "{summary}");
        assert_eq!((summary.reads_in, summary.reads_out), (SAMPLE.0, SAMPLE.0));
        assert_eq!((summary.bases_in, summary.bases_out), (SAMPLE.1, SAMPLE.1));
        let calls: u64 = summary.calls.iter().map(|(_, count)| count).sum();
        let lines = text.iter().filter(|&&b| b == b'\n').count() as u64;
        assert!(
            calls > 0 && lines == calls + 1,
            "{calls} calls, {lines} lines"
        );
        assert!(run(&annotator, 2).0 == text, "threads change the output");
        group.bench_function(
            format!("splice_{name}_promoter_both_strands_1_worker"),
            |b| {
                b.iter(|| run(&annotator, 1).0.len());
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = end_to_end_benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = benches
}
criterion_main!(end_to_end_benches);
