//! Any file in shards: those without errors give, end to end, the records of the whole file.
//! `tests/data/inputs` holds files to start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::path::Path;
use strandline::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use strandline::reads::shard::Shard;
use strandline::reads::source::{Input, InputError};

/// Names and codes of the good records, and whether the input was read to its end.
fn records(reader: Result<Reader, InputError>) -> (Vec<(Vec<u8>, Vec<u8>)>, bool) {
    let Ok(mut reader) = reader else {
        return (vec![], false);
    };
    let mut chunk = Chunk::with_capacity(64);
    let (mut all, mut codes) = (vec![], vec![]);
    loop {
        match reader.next_chunk(&mut chunk) {
            Ok(Step::End) => return (all, true),
            Err(_) => return (all, false),
            Ok(Step::Rejected(_)) => {}
            Ok(Step::Chunk) => {
                if chunk.first {
                    codes.clear();
                }
                codes.extend_from_slice(&chunk.codes);
                if chunk.end == Some(RecordEnd::Complete) {
                    all.push((chunk.name.clone(), codes.clone()));
                }
            }
        }
    }
}

fn shards(path: &Path, of: u32, limits: Limits) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = vec![];
    for index in 1..=of {
        let shard: Shard = format!("{index}/{of}").parse().expect("a shard");
        for section in shard.sections(&[path.to_owned()], limits).ok()? {
            let (own, whole) = records(section.open(limits, 0, None, |bytes| bytes));
            all.extend(own);
            if !whole {
                return None;
            }
        }
    }
    Some(all)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (of, data) = input;
    let limits = Limits {
        max_read_len: 4096,
        chunk_bases: 64,
    };
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("room");
    let path = file.path();
    let whole = Reader::open(Input::Path(path.to_owned()), limits, 0);
    let (expected, _) = records(whole);
    if let Some(found) = shards(path, u32::from(of % 9) + 1, limits) {
        assert_eq!(found, expected);
    }
});
