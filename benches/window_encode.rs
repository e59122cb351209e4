//! What happens to the bases of a window before a model sees them: letters to codes, and the other
//! strand.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use strandline::reads::nucleotide::{N, encode, letter, reverse_complement};

/// Bases of a tile of the built-in scanning models.
const TILE: usize = 8192;

fn benches(c: &mut Criterion) {
    let mut state = 1u64;
    let letters: Vec<u8> = (0..TILE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"ACGTacgtUN"[(state % 10) as usize]
        })
        .collect();
    let mut codes = vec![];
    encode(&letters, &mut codes);
    let back: Vec<u8> = codes.iter().map(|&code| letter(code)).collect();
    let upper = letters.to_ascii_uppercase();
    let expected: Vec<u8> = upper
        .iter()
        .map(|&b| if b == b'U' { b'T' } else { b })
        .collect();
    assert_eq!(back, expected);
    let mut reverse = vec![N; TILE];
    reverse_complement(&codes, &mut reverse);
    for (at, &code) in codes.iter().rev().enumerate() {
        assert_eq!(reverse[at], if code < 4 { 3 - code } else { N });
    }

    let mut group = c.benchmark_group("window_encode");
    group.throughput(Throughput::Elements(TILE as u64));
    let mut out = Vec::with_capacity(TILE);
    group.bench_function("letters_to_codes", |b| {
        b.iter(|| {
            out.clear();
            encode(black_box(&letters), &mut out);
            black_box(&out);
        });
    });
    group.bench_function("reverse_complement", |b| {
        b.iter(|| {
            reverse_complement(black_box(&codes), &mut reverse);
            black_box(&reverse);
        });
    });
    group.finish();
}

criterion_group! {
    name = window_encode_benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(window_encode_benches);
