//! What reads cost, for whoever counts instructions: one thread, no queues, no clock.
//!
//! ```sh
//! cargo run --release --example count -- file fast 20000
//! cargo run --release --example count -- frames 20000 > frames
//! cargo run --release --example count -- link fast < frames
//! cargo run --release --example count -- model models/tf.safetensors 20000
//! ```
//!
//! The first annotates so many bases of the sample reads, each read whole. The second writes the
//! same reads as frames of the link, 400 bases at a time, as a board sends them; the third decodes
//! and annotates those. The last is the first with a model file alone, at every base. All say how
//! many calls there were. `benches/count.py` counts.

use firmware_bridge::{Bases, Decoder, EndReason, Frame, MAX_BASES_BYTES, MAX_FRAME, Message};
use std::io::{Read, Write, stdin, stdout};
use std::path::Path;
use strandline::{Annotator, Call, Model, Options, Tier, nucleotide};

/// Bases that a pore gives in a second.
const CHUNK: usize = 400;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let calls = match *arguments {
        ["file", tier, bases] => file(&annotator(tier, false)?, &reads(bases.parse()?)?)?,
        ["link", tier] => {
            let mut bytes = vec![];
            stdin().read_to_end(&mut bytes)?;
            link(&annotator(tier, true)?, &bytes)?
        }
        ["model", path, bases] => file(&alone(path)?, &reads(bases.parse()?)?)?,
        ["frames", bases] => return write_frames(&reads(bases.parse()?)?),
        _ => return Err("file TIER BASES, frames BASES, link TIER or model FILE BASES".into()),
    };
    println!("{}", calls.len());
    Ok(())
}

fn annotator(tier: &str, eager: bool) -> Result<Annotator, Failure> {
    let tier = match tier {
        "fast" => Tier::Fast,
        "auto" => Tier::Auto,
        other => return Err(format!("no tier {other:?}").into()),
    };
    Ok(Annotator::builtin(Options {
        tier,
        eager,
        ..Options::default()
    })?)
}

/// One model, everywhere, with calls enough to see that it runs.
fn alone(path: &str) -> Result<Annotator, Failure> {
    let options = Options {
        everywhere: true,
        eager: false,
        min_score: Some(0.5),
        ..Options::default()
    };
    Ok(Annotator::new(
        vec![Model::open(Path::new(path))?],
        options,
    )?)
}

/// The first so many bases of the sample reads, as codes.
fn reads(bases: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reads.fastq.gz");
    let text = flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?);
    let text = std::io::read_to_string(text)?;
    let (mut all, mut left) = (vec![], bases);
    for letters in text.lines().skip(1).step_by(4) {
        let length = letters.len().min(left);
        let mut codes = vec![];
        nucleotide::encode(&letters.as_bytes()[..length], &mut codes);
        all.push(codes);
        left -= length;
        if left == 0 {
            return Ok(all);
        }
    }
    Err(format!("{left} bases are missing").into())
}

fn file(annotator: &Annotator, reads: &[Vec<u8>]) -> Result<Vec<Call>, Failure> {
    let (mut state, mut calls) = (annotator.read(), vec![]);
    for codes in reads {
        state.push_codes(codes, &mut calls)?;
        state.finish(&mut calls)?;
    }
    Ok(calls)
}

fn link(annotator: &Annotator, mut bytes: &[u8]) -> Result<Vec<Call>, Failure> {
    let (mut state, mut calls, mut codes) = (annotator.read(), vec![], vec![]);
    let mut decoder: Decoder = Decoder::new();
    while let Some(frame) = decoder.next(&mut bytes) {
        match frame?.message {
            Message::Bases { bases, .. } => {
                codes.clear();
                codes.extend(bases.codes());
                state.push_codes(&codes, &mut calls)?;
            }
            Message::ReadEnd { .. } => state.finish(&mut calls)?,
            _ => {}
        }
    }
    Ok(calls)
}

fn write_frames(reads: &[Vec<u8>]) -> Result<(), Failure> {
    let mut sequence = 0;
    for (read, codes) in (1..).zip(reads) {
        let start = Message::ReadStart {
            channel: 1,
            read,
            mux: 1,
            start: 0,
            from: 0,
            name: b"read",
        };
        send(start, &mut sequence)?;
        let mut position = 0usize;
        for chunk in codes.chunks(CHUNK) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let mut room = [0; MAX_BASES_BYTES];
                let (bases, count) = Bases::pack(rest, &mut room);
                let message = Message::Bases {
                    channel: 1,
                    read: read as u8 & 15,
                    position: position as u16,
                    bases,
                };
                send(message, &mut sequence)?;
                position += count;
                rest = &rest[count..];
            }
        }
        let end = Message::ReadEnd {
            channel: 1,
            read,
            length: codes.len() as u32,
            reason: EndReason::Complete,
        };
        send(end, &mut sequence)?;
    }
    Ok(())
}

fn send(message: Message, sequence: &mut u16) -> Result<(), Failure> {
    let mut frame = heapless::Vec::<u8, MAX_FRAME>::new();
    let framed = Frame {
        sequence: *sequence,
        message,
    };
    framed.encode(&mut frame)?;
    *sequence = sequence.wrapping_add(1);
    Ok(stdout().lock().write_all(&frame)?)
}
