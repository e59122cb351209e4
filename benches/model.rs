//! The built-in models on a full tile: what a base costs once it is a code, and through the windows
//! of a read.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::io::Cursor;
use std::time::Duration;
use strandline::annotate::Strands;
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::call::Call;
use strandline::model::manifest::Tier;
use strandline::reads::fastx::{Chunk, Limits, Reader, Step};
use strandline::{Annotator, Options};

const GZIP: &[u8] = include_bytes!("../tests/data/reads.fastq.gz");

/// The sample reads end to end, as codes.
fn sample(bases: usize) -> Vec<u8> {
    let mut reader = Reader::new(
        "reads".into(),
        Box::new(Cursor::new(GZIP)),
        Limits::default(),
        0,
    )
    .expect("FASTQ");
    let mut chunk = Chunk::with_capacity(Limits::default().chunk_bases);
    let mut codes = vec![];
    while codes.len() < bases {
        assert_eq!(reader.next_chunk(&mut chunk).expect("FASTQ"), Step::Chunk);
        codes.extend_from_slice(&chunk.codes);
    }
    codes.truncate(bases);
    codes
}

fn runner(c: &mut Criterion) {
    let mut group = c.benchmark_group("model");
    for task in Task::ALL {
        let model = builtin::model(task, Tier::Auto).expect("a built-in model");
        let tile = model.manifest().tile;
        let codes = sample(tile);
        let mut runner = model.spawn().expect("a runner");
        let columns = model.manifest().outputs.len();
        let first = runner.run(&codes).expect("scores").to_vec();
        let expected = if task.is_scan() {
            tile * columns
        } else {
            columns
        };
        assert_eq!(first.len(), expected);
        assert!(first.iter().all(|x| x.is_finite()));
        // A shorter run between two of the same codes must leave nothing behind.
        runner.run(&codes[..tile / 2 / 3 * 3]).expect("scores");
        assert_eq!(runner.run(&codes).expect("scores"), first);
        group.throughput(Throughput::Elements(tile as u64));
        group.bench_function(format!("{task}_tile_of_{tile}"), |b| {
            b.iter(|| runner.run(&codes).expect("scores")[0]);
        });
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("read_state");
    let codes = sample(1 << 16);
    let options = Options {
        strands: Strands::Both,
        ..Options::default()
    };
    let annotator = Annotator::builtin(options).expect("built-in models");
    let mut read = annotator.read();
    let mut annotate = |piece: usize, calls: &mut Vec<Call>| {
        calls.clear();
        for piece in codes.chunks(piece) {
            read.push_codes(piece, calls).expect("calls");
        }
        read.finish(calls).expect("calls");
    };
    let (mut whole, mut calls) = (vec![], vec![]);
    annotate(codes.len(), &mut whole);
    assert!(!whole.is_empty());
    group.throughput(Throughput::Elements(codes.len() as u64));
    // 400 bases are what a pore gives in a second.
    for (name, piece) in [
        ("whole", codes.len()),
        ("pieces_of_4000", 4000),
        ("pieces_of_400", 400),
    ] {
        annotate(piece, &mut calls);
        assert!(calls == whole, "{name}");
        group.bench_function(format!("splice_promoter_both_strands/{name}"), |b| {
            b.iter(|| annotate(piece, &mut calls));
        });
    }
    group.finish();
}

criterion_group! {
    name = model_benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = runner, reads
}
criterion_main!(model_benches);
