//! From scores of bases to motifs, by the procedure of DNABERT (Ji et al., Bioinformatics 37:2112,
//! 2021; `motif/find_motifs.py` and `motif_utils.py` of its repository).
//!
//! Positive sequences have a score a base, such as attention; negative ones have letters only.
//!
//! 1. **Regions**: the longest runs of at least 5 bases, each scored above the mean of its sequence
//!    and above 10 times its lowest score ([`fn@regions`]).
//! 2. **Candidates**: the distinct strings under the regions.
//! 3. **Enrichment**: in how many positive and negative sequences a candidate occurs, found with
//!    Aho-Corasick and counted once a sequence; the chance of so many positives among them
//!    ([`hypergeometric_tail`]), adjusted over all candidates ([`benjamini_hochberg`]). Those below
//!    0.005 are kept.
//! 4. **Merging**: from the shortest string to the longest, each joins the earlier one that it fits
//!    best without gaps, or begins a motif of its own.
//! 5. **Windows**: 24 bases around each region of a motif. A motif with fewer than 3 is dropped.
//!
//! All numbers are [`Settings`]; the defaults are those of the published program. [`write_meme`]
//! writes motifs for the MEME Suite, [`logo_svg`] draws one.
//!
//! # What differs from the published program
//!
//! - Strings with an N are no candidates; there they are.
//! - A window that ends with the last base of its sequence is kept; there it is dropped.
//! - Strings of equal length are merged in the order of their letters; there in the order in which
//!   they were found. So motifs here do not depend on the order of the sequences.
//! - Where a string fits several motifs equally well, the program means to add it to all of them,
//!   but compares alignments, not their scores, and so takes the first. So does this, on purpose.
//!   Where it fits one motif at several offsets, the choice is that of Biopython's aligner (see
//!   `merge.rs`).
//! - There a motif is named by its shortest string, which may be a poor variant. Here the string of
//!   lowest p names it, and its figures are those of the motif.
//! - The mean is computed in double precision.
//!
//! A sequence with a score of 0, or below 0, passes the test of 10 times the minimum nearly
//! everywhere, there as here: then only the mean decides. Scores that are all equal give no region.
//!
//! # What the figures mean
//!
//! Candidates are chosen in the positives and then tested on the same positives, and a short string
//! inside a motif is enriched because the motif is. So p-values rank strings; they do not prove a
//! motif. Without negatives every p is 1 and nothing is found.

mod count;
mod input;
mod logo;
mod meme;
mod merge;
mod motif;
mod regions;
mod significance;
mod windows;

pub use input::{MotifError, Scored, SequenceSet, Settings, Strands};
pub use logo::{information, logo_svg};
pub use meme::{background, write_meme};
pub use motif::{Enriched, Motif};
pub use regions::regions;
pub use significance::{benjamini_hochberg, hypergeometric_tail, ln_hypergeometric_tail};

use count::Index;
use regions::Region;
use std::ops::Range;

/// Finds the motifs on which the scores of the positive sequences are high, and which the negative
/// sequences lack. They come by p, then by letters, and do not depend on the order of the
/// sequences. Equal input gives equal output: nothing is random, and one thread does it all.
///
/// Time grows with the letters of all sequences, and with the number of strings that pass the test
/// times that of motifs; both are small. Memory is a copy of the positives, and up to some 50 bytes
/// for each letter of the distinct strings.
///
/// # Errors
/// [`MotifError`]: a setting is out of range, a sequence has another letter than A, C, G, T and N
/// in either case, its scores are not as many as its letters, or a score is not finite.
pub fn find(
    positives: &[Scored<'_>],
    negatives: &[&[u8]],
    settings: &Settings,
) -> Result<Vec<Motif>, MotifError> {
    settings.check()?;
    let letters = input::checked(positives, negatives)?;
    let found = regions::in_sequences(positives, &letters, settings.min_length);
    let candidates = candidates(&letters, &found);
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let kept = enriched(&letters, negatives, &candidates, settings)?;

    let strings: Vec<&[u8]> = kept.iter().map(|(c, _)| c.letters).collect();
    let mut motifs = Vec::new();
    for group in merge::merge(&strings, settings.min_length) {
        let around = group.members.iter().flat_map(|&(member, offset)| {
            let regions = &found[kept[member].0.regions.clone()];
            regions.iter().map(move |region| (region, offset))
        });
        let (counts, sites) = windows::count(&letters, around, group.length, settings.window);
        if sites < settings.min_sites {
            continue;
        }
        let members: Vec<Enriched> = group
            .members
            .iter()
            .map(|&(member, _)| kept[member].1.clone())
            .collect();
        // The first of equal ones, so the shortest.
        let Some(best) = members
            .iter()
            .min_by(|a, b| a.log10_p.total_cmp(&b.log10_p))
            .cloned()
        else {
            continue;
        };
        motifs.push(Motif {
            e_value: best.p * candidates.len() as f64,
            best,
            members,
            consensus: motif::consensus(&counts),
            counts,
            sites,
        });
    }
    motifs.sort_by(|a, b| {
        let by_p = a.best.log10_p.total_cmp(&b.best.log10_p);
        by_p.then_with(|| a.best.letters.cmp(&b.best.letters))
    });
    Ok(motifs)
}

/// A string under regions, and which of the sorted regions they are.
struct Candidate<'a> {
    letters: &'a [u8],
    regions: Range<usize>,
}

/// The distinct strings, by their letters. The regions are sorted by theirs.
fn candidates<'a>(letters: &'a [Vec<u8>], regions: &[Region]) -> Vec<Candidate<'a>> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    for (i, region) in regions.iter().enumerate() {
        let string = &letters[region.sequence][region.start..region.end];
        match candidates.last_mut() {
            Some(last) if last.letters == string => last.regions.end = i + 1,
            _ => candidates.push(Candidate {
                letters: string,
                regions: i..i + 1,
            }),
        }
    }
    candidates
}

/// The candidates that pass the test, with their figures, by length and then by letters.
fn enriched<'c, 'a>(
    letters: &[Vec<u8>],
    negatives: &[&[u8]],
    candidates: &'c [Candidate<'a>],
    settings: &Settings,
) -> Result<Vec<(&'c Candidate<'a>, Enriched)>, MotifError> {
    let strings: Vec<&[u8]> = candidates.iter().map(|c| c.letters).collect();
    let index = Index::new(&strings)?;
    let in_positives = index.count(letters.iter().map(Vec::as_slice), settings.strands);
    let in_negatives = index.count(negatives.iter().copied(), settings.strands);

    let (drawn, all) = (letters.len() as u64, letters.len() + negatives.len());
    let counts = in_positives.iter().zip(&in_negatives);
    let ln_p: Vec<f64> = counts
        .map(|(&x, &other)| ln_hypergeometric_tail(x, all as u64, drawn, x + other))
        .collect();
    let p: Vec<f64> = ln_p.iter().map(|ln| ln.exp()).collect();
    let adjusted = benjamini_hochberg(&p);

    let mut kept: Vec<(&Candidate<'a>, Enriched)> = candidates
        .iter()
        .enumerate()
        .filter(|&(i, _)| adjusted[i] < settings.max_adjusted_p)
        .map(|(i, candidate)| {
            let figures = Enriched {
                letters: candidate.letters.iter().copied().map(char::from).collect(),
                positives: in_positives[i],
                sequences: in_positives[i] + in_negatives[i],
                p: p[i],
                log10_p: ln_p[i] / std::f64::consts::LN_10,
                adjusted_p: adjusted[i],
            };
            (candidate, figures)
        })
        .collect();
    // Stable: those of equal length stay in the order of their letters.
    kept.sort_by_key(|(candidate, _)| candidate.letters.len());
    Ok(kept)
}

#[cfg(test)]
mod tests;
