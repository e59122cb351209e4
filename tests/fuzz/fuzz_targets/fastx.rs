//! FASTA, FASTQ, BAM, gzip and anything else as input, in pieces of any size. `tests/data/inputs`
//! holds files to start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Read;
use strandline::reads::bam::{BamHeader, BamRecord};
use strandline::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use strandline::sink::bam::BamWriter;

/// Hands out at most `piece` bytes at a time.
struct Pieces {
    data: std::io::Cursor<Vec<u8>>,
    piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = out.len().min(self.piece);
        self.data.read(&mut out[..length])
    }
}

/// What a caller learns of an input, however it arrived.
#[derive(Debug, PartialEq)]
enum Event {
    Read {
        number: u64,
        offset: u64,
        name: Vec<u8>,
        codes: Vec<u8>,
    },
    Rejected(String),
    Failed(String),
}

fn events(data: &[u8], piece: usize, limits: Limits) -> Vec<Event> {
    let pieces = Pieces {
        data: std::io::Cursor::new(data.to_vec()),
        piece,
    };
    let mut events = Vec::new();
    let mut reader = match Reader::new("fuzz".into(), Box::new(pieces), limits, 7) {
        Ok(reader) => reader,
        Err(error) => return vec![Event::Failed(error.to_string())],
    };
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let mut open: Option<Vec<u8>> = None;
    let mut handled = 0;
    loop {
        match reader.next_chunk(&mut chunk) {
            Ok(Step::End) => break,
            Err(error) => {
                events.push(Event::Failed(error.to_string()));
                break;
            }
            Ok(Step::Rejected(reject)) => {
                assert!(open.is_none(), "a record inside another");
                assert_eq!(reject.record, 7 + handled);
                handled += 1;
                events.push(Event::Rejected(reject.to_string()));
            }
            Ok(Step::Chunk) => {
                assert_eq!(chunk.first, open.is_none());
                assert_eq!(chunk.record, 7 + handled);
                assert!(chunk.codes.len() <= limits.chunk_bases);
                assert!(chunk.codes.iter().all(|&code| code <= 4));
                let mut codes = open.take().unwrap_or_default();
                assert_eq!(chunk.start, codes.len() as u64);
                codes.extend(&chunk.codes);
                match &chunk.end {
                    None => {
                        assert!(!chunk.codes.is_empty(), "a chunk of nothing");
                        open = Some(codes);
                        continue;
                    }
                    Some(RecordEnd::Complete) => events.push(Event::Read {
                        number: chunk.number,
                        offset: chunk.offset,
                        name: chunk.name.clone(),
                        codes,
                    }),
                    Some(RecordEnd::Rejected(reject)) => {
                        events.push(Event::Rejected(reject.to_string()));
                    }
                }
                handled += 1;
            }
        }
    }
    assert!(open.is_none(), "a record without its end");
    assert_eq!(
        reader.records(),
        handled,
        "a record without a step"
    );
    assert!(matches!(reader.next_chunk(&mut chunk), Ok(Step::End)));
    events
}

/// Passes BAM records through, whose reads must then be the same.
fn passed_through(data: &[u8], limits: Limits, whole: &[Event]) {
    let input = Box::new(std::io::Cursor::new(data.to_vec()));
    let header = BamHeader::default();
    let Ok(mut reader) = Reader::new("fuzz".into(), input, limits, 7) else {
        return;
    };
    if reader.keep(header.clone()).is_err() {
        return;
    }
    let mut out = Vec::new();
    let mut writer = BamWriter::new(&mut out, header.clone(), "fuzz", &[]);
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    while let Ok(step) = reader.next_chunk(&mut chunk) {
        match step {
            Step::End => break,
            Step::Chunk if chunk.end.is_none() => assert!(chunk.bam.is_empty()),
            Step::Chunk => {
                let record = BamRecord::parse(&chunk.bam).expect("a record that was kept");
                writer.annotated(record.fields, record.tags()).expect("memory");
            }
            Step::Rejected(_) => {
                if !chunk.bam.is_empty() {
                    writer.unannotated(&chunk.bam).expect("memory");
                }
            }
        }
    }
    writer.finish(true).expect("a header that was read");
    if header.get().is_none() {
        return;
    }
    let reads = |events: &[Event]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let read = |event: &Event| match event {
            Event::Read { name, codes, .. } => Some((name.clone(), codes.clone())),
            _ => None,
        };
        events.iter().filter_map(read).collect()
    };
    let again = events(&out, usize::MAX, limits);
    assert_eq!(reads(&again), reads(whole));
}

fuzz_target!(|data: &[u8]| {
    let [a, b, data @ ..] = data else { return };
    let limits = Limits {
        max_read_len: 1 + usize::from(*a),
        chunk_bases: 1 + usize::from(*b),
    };
    let whole = events(data, usize::MAX, limits);
    for piece in [1, 7] {
        assert_eq!(events(data, piece, limits), whole, "pieces of {piece}");
    }
    passed_through(data, limits, &whole);
});
