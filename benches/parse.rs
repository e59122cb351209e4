//! Bytes to chunks of base codes: FASTQ, gzip FASTQ and FASTA.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::hint::black_box;
use std::io::{Cursor, Read, Write};
use std::time::Duration;
use strandline::reads::fastx::{Chunk, Limits, Reader, Step};

const GZIP: &[u8] = include_bytes!("../tests/data/reads.fastq.gz");

/// Records and bases of the sample reads.
const SAMPLE: (u64, u64) = (150, 996_300);

/// Reads all of `bytes` and counts records and bases.
fn parse(bytes: &'static [u8], chunk: &mut Chunk) -> (u64, u64) {
    let source = Box::new(Cursor::new(bytes));
    let mut reader = Reader::new("reads".into(), source, Limits::default(), 0).expect("sequences");
    let mut bases = 0;
    loop {
        match reader.next_chunk(chunk).expect("a whole input") {
            Step::Chunk => bases += black_box(&chunk.codes).len() as u64,
            Step::Rejected(reject) => panic!("{reject}"),
            Step::End => return (reader.records(), bases),
        }
    }
}

/// The reads as FASTA with lines of 60 bases.
fn fasta(fastq: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut lines = fastq.split(|&b| b == b'\n');
    while let (Some(header), Some(bases)) = (lines.next(), lines.next()) {
        out.push(b'>');
        out.extend_from_slice(&header[1..]);
        out.push(b'\n');
        for line in bases.chunks(60) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        lines.nth(1);
    }
    out
}

fn benches(c: &mut Criterion) {
    let mut fastq = vec![];
    MultiGzDecoder::new(GZIP)
        .read_to_end(&mut fastq)
        .expect("the sample reads");
    let mut zip = GzEncoder::new(vec![], Compression::default());
    zip.write_all(&fasta(&fastq)).expect("memory");
    let fasta_gzip = zip.finish().expect("memory");
    let fasta = fasta(&fastq);
    let inputs: [(&str, &'static [u8]); 4] = [
        ("fastq", fastq.leak()),
        ("fastq_gzip", GZIP),
        ("fasta", fasta.leak()),
        ("fasta_gzip", fasta_gzip.leak()),
    ];
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(SAMPLE.1));
    let mut chunk = Chunk::with_capacity(Limits::default().chunk_bases);
    for (name, bytes) in inputs {
        assert_eq!(parse(bytes, &mut chunk), SAMPLE, "{name}");
        group.bench_function(name, |b| b.iter(|| parse(bytes, &mut chunk)));
    }
    group.finish();
}

criterion_group! {
    name = parse_benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(parse_benches);
