//! Motifs for the MEME Suite, in its minimal motif format, version 4.
//!
//! Written after <https://meme-suite.org/meme/doc/meme-format.html>: the version line, the
//! alphabet, the strands, the background, and for each motif a name that is unique in the file,
//! another one that need not be, and a row of probabilities for each column, with an empty line
//! after the last.

use crate::study::motifs::input::Strands;
use crate::study::motifs::motif::Motif;
use std::io::{self, Write};

/// The shares of A, C, G and T in sequences, each between 0 and 1: the background of
/// [`write_meme`]. With both strands A and T are made equal, and C and G, as they are when each
/// sequence counts with its reverse complement. Either case counts, other letters do not. Every
/// letter is counted once more than it occurs, so that none has a share of 0, which programs may
/// refuse.
pub fn background<'a>(sequences: impl IntoIterator<Item = &'a [u8]>, strands: Strands) -> [f64; 4] {
    let mut counts = [1u64; 4];
    for letter in sequences.into_iter().flatten() {
        let upper = letter.to_ascii_uppercase();
        if let Some(base) = b"ACGT".iter().position(|&base| base == upper) {
            counts[base] += 1;
        }
    }
    if strands == Strands::Both {
        let [a, c, g, t] = counts;
        counts = [a + t, c + g, c + g, a + t];
    }
    let sum: u64 = counts.iter().sum();
    counts.map(|count| count as f64 / sum as f64)
}

/// Writes motifs in minimal MEME format. A motif is named by its best string, and its other name
/// is the core of its consensus. `nsites` is the number of windows, `E` is [`Motif::e_value`]. The
/// strands are those that were counted; programs look on both where the file says `+ -`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where the background is not four positive shares that add up to
/// 1; otherwise what `out` says.
pub fn write_meme(
    motifs: &[Motif],
    background: [f64; 4],
    strands: Strands,
    out: &mut impl Write,
) -> io::Result<()> {
    let sum: f64 = background.iter().sum();
    // Programs allow for rounding by some per cent; this only rejects what is no background.
    if !background.iter().all(|&share| share > 0.0) || (sum - 1.0).abs() > 0.01 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{background:?} are not the shares of A, C, G and T"),
        ));
    }
    let strands = match strands {
        Strands::Forward => "+",
        Strands::Both => "+ -",
    };
    let [a, c, g, t] = background;
    write!(
        out,
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: {strands}\n\n\
         Background letter frequencies\nA {a:.6} C {c:.6} G {g:.6} T {t:.6}\n\n"
    )?;
    for motif in motifs {
        write!(out, "MOTIF {}", motif.best.letters)?;
        if !motif.core().is_empty() {
            write!(out, " {}", motif.core())?;
        }
        writeln!(
            out,
            "\nletter-probability matrix: alength= 4 w= {} nsites= {} E= {:.1e}",
            motif.counts.len(),
            motif.sites,
            motif.e_value
        )?;
        for [a, c, g, t] in motif.probabilities() {
            writeln!(out, " {a:.6}  {c:.6}  {g:.6}  {t:.6}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
