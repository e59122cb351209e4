//! Genes out of a FASTA file.

use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Reject, Step};
use crate::reads::source::{Input, InputError};

/// Why the genes could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesError {
    /// The file is missing, cut off or holds something else.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A record is bad. Nothing is simulated from what is left of such a file.
    #[error("{0}")]
    Rejected(Box<Reject>),
}

/// Reads every gene of `input`: the first word of its header and its base codes. All are held in
/// memory, a byte a base.
///
/// # Errors
/// [`GenesError`] at the first thing that is wrong.
pub fn read_genes(input: Input) -> Result<Vec<(String, Vec<u8>)>, GenesError> {
    let mut reader = Reader::open(input, Limits::default(), 0)?;
    let mut chunk = Chunk::with_capacity(Limits::default().chunk_bases);
    let mut genes: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        match reader.next_chunk(&mut chunk)? {
            Step::End => return Ok(genes),
            Step::Rejected(reject) => return Err(GenesError::Rejected(reject)),
            Step::Chunk => {}
        }
        if chunk.first {
            let id = String::from_utf8_lossy(&chunk.name).into_owned();
            genes.push((id, Vec::new()));
        }
        if let Some((_, codes)) = genes.last_mut() {
            codes.extend_from_slice(&chunk.codes);
        }
        if let Some(RecordEnd::Rejected(reject)) = chunk.end.take() {
            return Err(GenesError::Rejected(reject));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(text: &'static [u8]) -> Result<Vec<(String, Vec<u8>)>, GenesError> {
        read_genes(Input::Reader(
            "genes.fa".into(),
            Box::new(Cursor::new(text)),
        ))
    }

    #[test]
    fn ids_are_first_words() {
        let genes = read(b">g1 PRUNE chr1 +\nACG\nTN\n>g2\nA").unwrap();
        let wanted = [
            ("g1".to_owned(), vec![0, 1, 2, 3, 4]),
            ("g2".to_owned(), vec![0]),
        ];
        assert_eq!(genes, wanted);
        assert_eq!(read(b"").unwrap(), []);
    }

    #[test]
    fn a_bad_gene_is_an_error() {
        let error = read(b">g1\nAC\n>g2\nAC!T\n").unwrap_err().to_string();
        assert!(
            error.starts_with("genes.fa: record 2 (g2) at byte 7: "),
            "{error}"
        );
    }
}
