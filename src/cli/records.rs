//! Whole records, one after another, for the commands that look at each read as a whole.

use super::error::CliError;
use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use crate::reads::source::Input;
use std::path::Path;

/// Reads every good record of a file and gives its number in the file (from 1), name and codes to
/// `take`. Bad records are reported and left out; an input that cannot be read to its end is
/// reported after everything before it was given.
///
/// # Errors
/// What `take` returns, or [`CliError::Reported`] where the input was cut off.
pub(super) fn each_record(
    path: &Path,
    mut take: impl FnMut(u64, &[u8], &[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let report = |error: crate::reads::source::InputError| {
        log::error!("{error}");
        CliError::Reported
    };
    let limits = Limits::default();
    let mut reader = Reader::open(Input::from_argument(path), limits, 0).map_err(report)?;
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let mut codes: Vec<u8> = vec![];
    loop {
        match reader.next_chunk(&mut chunk).map_err(report)? {
            Step::End => {
                return reader
                    .all_rejected()
                    .map_or(Ok(()), |error| Err(report(error)));
            }
            Step::Rejected(reject) => log::warn!("{reject}"),
            Step::Chunk => {
                if chunk.first {
                    codes.clear();
                }
                codes.extend_from_slice(&chunk.codes);
                match &chunk.end {
                    None => (),
                    Some(RecordEnd::Complete) => take(chunk.number, &chunk.name, &codes)?,
                    Some(RecordEnd::Rejected(reject)) => log::warn!("{reject}"),
                }
            }
        }
    }
}
