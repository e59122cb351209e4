//! Reads that come in pieces.

use strandline::Annotator;
use strandline::call::Call;

/// The calls of a read that comes in pieces of these sizes by turns, in the order in which they
/// leave.
pub fn calls(annotator: &Annotator, codes: &[u8], sizes: &[usize]) -> Vec<Call> {
    let (mut read, mut calls, mut rest) = (annotator.read(), vec![], codes);
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        read.push_codes(piece, &mut calls).unwrap();
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    read.finish(&mut calls).unwrap();
    calls
}
