//! Alleles: which can be scored, and one form for all spellings of a change.

use crate::reads::nucleotide::{NOT_A_BASE, code};
use std::fmt;
use std::ops::Range;

/// Longest allele that is scored, in bases.
pub const LONGEST: usize = 10_000;

/// Why an allele is not scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unscored {
    /// `.`: there is none.
    NoAlternative,
    /// `*`: lost in a deletion that begins before.
    SpanningDeletion,
    /// `<*>` or `<NON_REF>`: any other allele.
    AnyAllele,
    /// Another symbol in angle brackets.
    Symbolic,
    /// A breakend, with a bracket or a dot at an end.
    Breakend,
    /// Letters that are none of A, C, G, T and N.
    Letters,
    /// More bases than [`LONGEST`].
    TooLong,
    /// The same as the reference.
    NoChange,
    /// REF is not what stands in the reference there.
    ReferenceDiffers,
    /// The reference has no such contig.
    NoContig,
    /// The reference ends before.
    BeyondContig,
    /// No gene lies there.
    NoGene,
}

impl Unscored {
    /// The word in the output.
    pub fn name(self) -> &'static str {
        match self {
            Unscored::NoAlternative => "no-alternative",
            Unscored::SpanningDeletion => "spanning-deletion",
            Unscored::AnyAllele => "any-allele",
            Unscored::Symbolic => "symbolic",
            Unscored::Breakend => "breakend",
            Unscored::Letters => "letters",
            Unscored::TooLong => "too-long",
            Unscored::NoChange => "no-change",
            Unscored::ReferenceDiffers => "reference-differs",
            Unscored::NoContig => "no-contig",
            Unscored::BeyondContig => "beyond-contig",
            Unscored::NoGene => "no-gene",
        }
    }

    /// True where the file and the reference do not belong together, not where the allele is of
    /// another kind.
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Unscored::ReferenceDiffers | Unscored::NoContig | Unscored::BeyondContig
        )
    }

    /// True where REF is what stands in the reference.
    pub fn fits(self) -> bool {
        matches!(self, Unscored::NoChange | Unscored::NoGene)
    }
}

impl fmt::Display for Unscored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Base codes of an allele.
///
/// # Errors
/// Where it is not one of letters.
pub fn codes(allele: &str) -> Result<Vec<u8>, Unscored> {
    match allele {
        "." | "" => return Err(Unscored::NoAlternative),
        "*" => return Err(Unscored::SpanningDeletion),
        "<*>" | "<NON_REF>" => return Err(Unscored::AnyAllele),
        _ if allele.contains(['[', ']']) => return Err(Unscored::Breakend),
        _ if allele.starts_with('<') => return Err(Unscored::Symbolic),
        _ if allele.starts_with('.') || allele.ends_with('.') => return Err(Unscored::Breakend),
        _ if allele.len() > LONGEST => return Err(Unscored::TooLong),
        _ => (),
    }
    let codes: Vec<u8> = allele.bytes().map(code).collect();
    // U is no letter of a VCF, nor are codes for several bases.
    let plain = |letter: u8| {
        matches!(
            letter.to_ascii_uppercase(),
            b'A' | b'C' | b'G' | b'T' | b'N'
        )
    };
    if codes.contains(&NOT_A_BASE) || !allele.bytes().all(plain) {
        return Err(Unscored::Letters);
    }
    Ok(codes)
}

/// Bases of the reference that are replaced by others: without any that stay, and as far to the
/// left as a repeat lets it be. So equal sequences come from equal changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is replaced, 0-based; empty for an insertion before `start`.
    pub replaced: Range<u64>,
    /// Base codes in its place; none for a deletion.
    pub by: Vec<u8>,
}

impl Change {
    /// The change of an allele at `position` (0-based), which replaces `reference` there. `base`
    /// gives a code of the contig.
    ///
    /// # Errors
    /// [`Unscored::NoChange`], or what `base` fails with.
    pub fn new<E: From<Unscored>>(
        position: u64,
        reference: &[u8],
        alternative: &[u8],
        mut base: impl FnMut(u64) -> Result<u8, E>,
    ) -> Result<Change, E> {
        let shorter = reference.len().min(alternative.len());
        let (old, new) = (reference.iter(), alternative.iter());
        let ends = old.clone().rev().zip(new.clone().rev());
        let behind = ends.take_while(|(old, new)| old == new).count();
        let begins = old.zip(new).take(shorter - behind);
        let before = begins.take_while(|(old, new)| old == new).count();
        let mut by = alternative[before..alternative.len() - behind].to_vec();
        let mut start = position + before as u64;
        let mut end = position + (reference.len() - behind) as u64;
        if by.is_empty() && start == end {
            return Err(Unscored::NoChange.into());
        }
        if by.is_empty() {
            while start > 0 && base(start - 1)? == base(end - 1)? {
                (start, end) = (start - 1, end - 1);
            }
        } else if start == end {
            let mut turns = 0;
            while start > 0 && base(start - 1)? == by[by.len() - 1 - turns % by.len()] {
                start -= 1;
                turns += 1;
            }
            end = start;
            let turns = turns % by.len();
            by.rotate_right(turns);
        }
        Ok(Change {
            replaced: start..end,
            by,
        })
    }
}

impl Change {
    /// The bases that the change touches wherever in its repeat it is written; of an insertion
    /// those on either side. `length` is that of the contig.
    ///
    /// # Errors
    /// What `base` fails with.
    pub fn spread<E>(
        &self,
        length: u64,
        mut base: impl FnMut(u64) -> Result<u8, E>,
    ) -> Result<Range<u64>, E> {
        let Range { start, mut end } = self.replaced;
        if self.by.is_empty() {
            let width = end - start;
            while end < length && base(end)? == base(end - width)? {
                end += 1;
            }
        } else if start == end {
            let mut place = 0;
            while end < length && base(end)? == self.by[place % self.by.len()] {
                (end, place) = (end + 1, place + 1);
            }
            return Ok(start.saturating_sub(1)..(end + 1).min(length));
        }
        Ok(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::nucleotide;

    fn encoded(letters: &str) -> Vec<u8> {
        let mut codes = vec![];
        nucleotide::encode(letters.as_bytes(), &mut codes);
        codes
    }

    fn change(contig: &str, position: u64, reference: &str, alternative: &str) -> Change {
        let contig = encoded(contig);
        let base = |at: u64| Ok::<u8, Unscored>(contig[at as usize]);
        let (reference, alternative) = (encoded(reference), encoded(alternative));
        Change::new(position, &reference, &alternative, base).unwrap()
    }

    fn applied(contig: &str, change: &Change) -> Vec<u8> {
        let mut codes = encoded(contig);
        let range = change.replaced.start as usize..change.replaced.end as usize;
        codes.splice(range, change.by.iter().copied());
        codes
    }

    #[test]
    fn alleles_that_are_no_letters_have_their_reasons() {
        for (allele, reason) in [
            (".", Unscored::NoAlternative),
            ("*", Unscored::SpanningDeletion),
            ("<*>", Unscored::AnyAllele),
            ("<NON_REF>", Unscored::AnyAllele),
            ("<DEL>", Unscored::Symbolic),
            ("<DUP:TANDEM>", Unscored::Symbolic),
            ("G]17:198982]", Unscored::Breakend),
            ("[13:123457[C", Unscored::Breakend),
            (".A", Unscored::Breakend),
            ("T.", Unscored::Breakend),
            ("ARG", Unscored::Letters),
            ("AU", Unscored::Letters),
            ("A,", Unscored::Letters),
        ] {
            assert_eq!(codes(allele), Err(reason), "{allele}");
        }
        assert_eq!(codes(&"A".repeat(LONGEST + 1)), Err(Unscored::TooLong));
        assert_eq!(codes("acgtN"), Ok(vec![0, 1, 2, 3, 4]));
    }

    /// Every spelling of one sequence has the same change: found by trying all of them.
    #[test]
    fn spellings_of_one_sequence_are_one_change() {
        let contig = "GCACACATTTTGAAC";
        let mut by_sequence = std::collections::HashMap::new();
        for position in 0..contig.len() {
            for length in 1..=5.min(contig.len() - position) {
                let reference = &contig[position..position + length];
                for alternative in ["C", "CA", "ACA", "T", "TT", "CACA", "TTG", "G", "AC", "GA"] {
                    if reference == alternative {
                        continue;
                    }
                    let change = change(contig, position as u64, reference, alternative);
                    let sequence = applied(contig, &change);
                    let expected = [
                        &contig[..position],
                        alternative,
                        &contig[position + length..],
                    ];
                    assert_eq!(sequence, encoded(&expected.concat()));
                    let first = by_sequence
                        .entry(sequence)
                        .or_insert_with(|| change.clone());
                    assert_eq!(*first, change, "{position} {reference} {alternative}");
                }
            }
        }
        assert!(by_sequence.len() > 100);
    }

    #[test]
    fn insertions_and_deletions_go_to_the_left_of_a_repeat() {
        // One CA more or less, wherever it is written.
        for (position, reference, alternative) in
            [(6, "A", "ACA"), (2, "A", "ACA"), (0, "G", "GCA")]
        {
            let own = change("GCACACACT", position, reference, alternative);
            assert_eq!((own.replaced, own.by), (1..1, vec![1, 0]));
        }
        let own = change("GCACACACT", 4, "ACA", "A");
        assert_eq!((own.replaced, own.by), (1..3, vec![]));
        let own = change("AAAA", 3, "A", "AA");
        assert_eq!((own.replaced, own.by), (0..0, vec![0]));
    }

    #[test]
    fn a_change_touches_all_of_its_repeat() {
        for (contig, position, reference, alternative, expected) in [
            ("GCACACACT", 2, "A", "ACA", 0..9),
            ("GCACACACT", 4, "ACA", "A", 1..8),
            ("GCACACACT", 0, "G", "T", 0..1),
            ("GTTTA", 1, "T", "TT", 0..5),
            ("GTTTA", 1, "TT", "T", 1..4),
            ("GTTT", 1, "TT", "T", 1..4),
            ("GACGT", 1, "AC", "TTT", 1..3),
        ] {
            let own = change(contig, position, reference, alternative);
            let codes = encoded(contig);
            let base = |at: u64| Ok::<u8, Unscored>(codes[at as usize]);
            let spread = own.spread(codes.len() as u64, base);
            assert_eq!(spread, Ok(expected), "{contig} {reference} {alternative}");
        }
    }

    #[test]
    fn the_same_letters_are_no_change() {
        let base = |_| Ok::<u8, Unscored>(0);
        let same = Change::new(3, &[0, 1], &[0, 1], base);
        assert_eq!(same, Err(Unscored::NoChange));
    }
}
