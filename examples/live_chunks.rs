//! Reads of several channels grow at the same time, in chunks of 400 bases. Each call is printed as
//! soon as it is certain, and the calls of a read are those of the read as a whole.
//!
//! ```sh
//! cargo run --release --example live_chunks
//! ```

use strandline::{Annotator, Call, Options, ReadState};

/// Bases that a pore gives in a second.
const CHUNK: usize = 400;

/// A pore and the read in it.
struct Channel {
    name: String,
    bases: Vec<u8>,
    state: ReadState,
    given: usize,
    calls: Vec<Call>,
}

impl Channel {
    /// Gives the next chunk to the annotator. False where the read had ended before.
    fn next(&mut self) -> Result<bool, strandline::AnnotateError> {
        if self.given == self.bases.len() {
            return Ok(false);
        }
        let (from, known) = (self.given, self.calls.len());
        self.given = (from + CHUNK).min(self.bases.len());
        self.state
            .push(&self.bases[from..self.given], &mut self.calls)?;
        if self.given == self.bases.len() {
            self.state.finish(&mut self.calls)?;
        }
        for call in &self.calls[known..] {
            let (start, strand, kind) = (call.start, call.strand, call.kind);
            println!(
                "{}: after {} bases: {start} {strand} {kind}",
                self.name, self.given
            );
        }
        Ok(true)
    }
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let annotator = Annotator::builtin(Options::default())?;
    let mut channels: Vec<Channel> = reads(3)?
        .into_iter()
        .map(|(name, bases)| Channel {
            name,
            bases,
            state: annotator.read(),
            given: 0,
            calls: Vec::new(),
        })
        .collect();

    // All channels take turns, until every read has ended.
    loop {
        let mut growing = false;
        for channel in &mut channels {
            growing |= channel.next()?;
        }
        if !growing {
            break;
        }
    }

    for channel in &channels {
        let (mut read, mut calls) = (annotator.read(), Vec::new());
        read.push(&channel.bases, &mut calls)?;
        read.finish(&mut calls)?;
        assert_eq!(calls, channel.calls);
    }
    assert!(channels.iter().any(|channel| !channel.calls.is_empty()));
    Ok(())
}

/// Names and letters of the first sample reads.
fn reads(count: usize) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reads.fastq.gz");
    let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?);
    let text = std::io::read_to_string(file)?;
    let lines: Vec<&str> = text.lines().collect();
    let records = lines.chunks_exact(4).take(count);
    Ok(records
        .map(|r| (r[0][1..].to_string(), r[1].as_bytes().to_vec()))
        .collect())
}
