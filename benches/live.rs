//! Reads that grow on 64 channels at a time, as frames of the link in chunks of 400 bases, to
//! calls: splice sites and promoters on both strands, one worker, no clock. Beside it the same
//! reads whole.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firmware_bridge::{Bases, Decoder, EndReason, Frame, MAX_BASES_BYTES, MAX_FRAME, Message};
use std::path::Path;
use std::time::Duration;
use strandline::lab::replay::load;
use strandline::reads::source::Input;
use strandline::{Annotator, Call, Options, ReadState, Tier, nucleotide};

/// Channels that take turns.
const CHANNELS: usize = 64;
/// Bases that a pore gives in a second.
const CHUNK: usize = 400;

fn reads() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reads.fastq.gz");
    let reads = load(Input::Path(path)).expect("the sample reads");
    let codes = |letters: &[u8]| {
        let mut codes = vec![];
        nucleotide::encode(letters, &mut codes);
        codes
    };
    reads.iter().map(|read| codes(&read.letters)).collect()
}

/// What a board sends: the n-th read of a channel is read n * CHANNELS + channel.
fn frames(reads: &[Vec<u8>]) -> Vec<u8> {
    let (mut out, mut sequence) = (vec![], 0u16);
    let mut send = |message: Message| {
        let mut frame = heapless::Vec::<u8, MAX_FRAME>::new();
        let framed = Frame { sequence, message };
        framed.encode(&mut frame).expect("room for a frame");
        sequence = sequence.wrapping_add(1);
        out.extend_from_slice(&frame);
    };
    let mut open: Vec<(usize, usize)> = (0..CHANNELS).map(|channel| (channel, 0)).collect();
    while open.iter().any(|&(read, _)| read < reads.len()) {
        for (read, at) in &mut open {
            let Some(codes) = reads.get(*read) else {
                continue;
            };
            let (channel, number) = ((*read % CHANNELS) as u16, (*read / CHANNELS) as u32);
            if *at == 0 {
                send(Message::ReadStart {
                    channel,
                    read: number,
                    mux: 1,
                    start: 0,
                    from: 0,
                    name: b"read",
                });
            }
            let end = (*at + CHUNK).min(codes.len());
            while *at < end {
                let mut room = [0; MAX_BASES_BYTES];
                let (bases, count) = Bases::pack(&codes[*at..end], &mut room);
                send(Message::Bases {
                    channel,
                    read: number as u8 & 15,
                    position: *at as u16,
                    bases,
                });
                *at += count;
            }
            if *at == codes.len() {
                send(Message::ReadEnd {
                    channel,
                    read: number,
                    length: codes.len() as u32,
                    reason: EndReason::Complete,
                });
                (*read, *at) = (*read + CHANNELS, 0);
            }
        }
    }
    out
}

/// The calls of each read of `count`, from frames.
fn live(states: &mut [ReadState], mut bytes: &[u8], count: usize) -> Vec<Vec<Call>> {
    let mut calls: Vec<Vec<Call>> = (0..count).map(|_| vec![]).collect();
    let (mut open, mut codes) = ([0; CHANNELS], vec![]);
    let mut decoder: Decoder = Decoder::new();
    while let Some(frame) = decoder.next(&mut bytes) {
        match frame.expect("a whole frame").message {
            Message::ReadStart { channel, read, .. } => {
                open[channel as usize] = read as usize * CHANNELS + channel as usize;
            }
            Message::Bases { channel, bases, .. } => {
                codes.clear();
                codes.extend(bases.codes());
                let own = &mut calls[open[channel as usize]];
                let state = &mut states[channel as usize];
                state.push_codes(&codes, own).expect("built-in models");
            }
            Message::ReadEnd { channel, .. } => {
                let own = &mut calls[open[channel as usize]];
                let state = &mut states[channel as usize];
                state.finish(own).expect("built-in models");
            }
            _ => {}
        }
    }
    calls
}

fn whole(annotator: &Annotator, reads: &[Vec<u8>]) -> Vec<Vec<Call>> {
    let mut state = annotator.read();
    let calls_of = |codes: &Vec<u8>| {
        let mut calls = vec![];
        state
            .push_codes(codes, &mut calls)
            .expect("built-in models");
        state.finish(&mut calls).expect("built-in models");
        calls
    };
    reads.iter().map(calls_of).collect()
}

/// As whole reads have them: the models of a growing one give calls as they come.
fn sorted(mut calls: Vec<Vec<Call>>) -> Vec<Vec<Call>> {
    for calls in &mut calls {
        calls.sort_by_key(|c| (c.start, c.end, c.strand, c.kind, c.model));
    }
    calls
}

fn benches(c: &mut Criterion) {
    let reads = reads();
    let sent = frames(&reads);
    let bases: usize = reads.iter().map(Vec::len).sum();
    let mut group = c.benchmark_group("live");
    group.throughput(Throughput::Elements(bases as u64));
    for (tier, name) in [(Tier::Auto, "auto"), (Tier::Fast, "fast")] {
        let annotator = |eager| {
            let options = Options {
                eager,
                tier,
                ..Options::default()
            };
            Annotator::builtin(options).expect("built-in models")
        };
        let (growing, offline) = (annotator(true), annotator(false));
        let mut states: Vec<ReadState> = (0..CHANNELS).map(|_| growing.read()).collect();
        let calls = live(&mut states, &sent, reads.len());
        assert!(calls.iter().any(|calls| !calls.is_empty()));
        assert!(sorted(calls) == whole(&offline, &reads), "other calls");
        group.bench_function(format!("{name}_frames_of_64_channels"), |b| {
            b.iter(|| live(&mut states, &sent, reads.len()).len());
        });
        group.bench_function(format!("{name}_whole_reads"), |b| {
            b.iter(|| whole(&offline, &reads).len());
        });
    }
    group.finish();
}

criterion_group! {
    name = live_benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = benches
}
criterion_main!(live_benches);
