//! Annotates a sequence with the built-in models, in ten lines:
//!
//! ```sh
//! cargo run --release --example embed
//! ```

use strandline::{Annotator, Options};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sequence = park7()?;

    let annotator = Annotator::builtin(Options::default())?;
    let mut read = annotator.read();
    let mut calls = Vec::new();
    for piece in sequence.as_bytes().chunks(1000) {
        read.push(piece, &mut calls)?; // a read may come in pieces
    }
    read.finish(&mut calls)?;
    for call in &calls {
        let (start, strand, kind, score) = (call.start, call.strand, call.kind, call.score);
        println!("{start} {strand} {kind} {score:.4}");
    }

    assert_eq!(calls.len(), 15);
    assert!(
        calls
            .iter()
            .any(|call| call.start == 3762 && call.score > 0.99)
    );
    Ok(())
}

/// The first of the sample genes.
fn park7() -> std::io::Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/genes.fa.gz");
    let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?);
    let text = std::io::read_to_string(file)?;
    Ok(text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('>'))
        .collect())
}
