//! Which strings are one motif.

/// A motif by the numbers of its strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Each string with the position in it where the seed begins; negative where the seed begins
    /// before it. The seed itself is the first: the shortest, which the others are laid on.
    pub(crate) members: Vec<(usize, isize)>,
    /// The length of the seed.
    pub(crate) length: usize,
}

/// Goes through strings sorted by length. Each joins the group whose seed it agrees with in most
/// letters, if those are at least `min_length` − 1 and half of the shorter string; of several such
/// groups the earliest. Otherwise it begins a group.
///
/// This is what `merge_motifs` of DNABERT's `motif_utils.py` does with Biopython's aligner: a match
/// counts 1, a mismatch nothing, gaps within are forbidden and at the ends free, so that an
/// alignment is an offset.
pub(crate) fn merge(strings: &[&[u8]], min_length: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, string) in strings.iter().enumerate() {
        let mut best: Option<(usize, Fit)> = None;
        for (i, group) in groups.iter().enumerate() {
            let seed = strings[group.members[0].0];
            let fit = best_fit(string, seed);
            // Twice the score, because half of a length may be no whole number.
            let needed = (2 * (min_length - 1)).max(seed.len().min(string.len()));
            let better = best.is_none_or(|(_, best)| fit.score > best.score);
            if 2 * fit.score >= needed && better {
                best = Some((i, fit));
            }
        }
        if let Some((i, fit)) = best {
            groups[i].members.push((number, fit.offset));
        } else {
            groups.push(Group {
                members: vec![(number, 0)],
                length: string.len(),
            });
        }
    }
    groups
}

/// An offset of the seed in a string, and in how many letters they agree there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fit {
    score: usize,
    offset: isize,
}

/// The offset at which the strings agree in most letters. Of equal ones it is the last of those at
/// which the seed reaches beyond the string's end; if there is none, the first. This odd rule gives
/// the first alignment of Biopython's `PairwiseAligner` (1.88), on which the published positions
/// rest: it was compared on 12,679 random pairs with ties.
fn best_fit(string: &[u8], seed: &[u8]) -> Fit {
    let at = |offset: isize| {
        let before = offset.min(0).unsigned_abs();
        let after = offset.max(0).unsigned_abs();
        let pairs = string[after..].iter().zip(&seed[before..]);
        Fit {
            score: pairs.filter(|(a, b)| a == b).count(),
            offset,
        }
    };
    let (length, seed_length) = (string.len() as isize, seed.len() as isize);
    (1 - seed_length..length)
        .map(at)
        .max_by_key(|fit| {
            let beyond = fit.offset + seed_length > length;
            let place = if beyond { fit.offset } else { -fit.offset };
            (fit.score, beyond, place)
        })
        .unwrap_or(Fit {
            score: 0,
            offset: 0,
        })
}

#[cfg(test)]
mod tests {
    use crate::study::motifs::merge::{Fit, Group, best_fit, merge};

    /// Made with Biopython 1.88: `PairwiseAligner` with match 1, mismatch 0, end gaps 0 and
    /// internal gaps -10000; the score and the offset of the first alignment.
    const BIOPYTHON: [(&str, &str, usize, isize); 12] = [
        ("GTCAAGAGACATC", "CCGTCATT", 4, -2),
        ("TGTATTCAGCTT", "GGAATTGG", 4, 0),
        ("AGGAGAGCGT", "AGAACTG", 4, 0),
        ("TATGGCGAGTTA", "ATGTGGTA", 4, -1),
        ("TCCGACGAAGA", "TGATGAC", 4, 5),
        ("CTCCTTAGCC", "TTGTCCTA", 4, 4),
        ("GAGCCGAT", "CGACCATA", 4, 1),
        ("TTGATCAGCTC", "TATGTGAT", 4, -3),
        ("GCCTGCAGTCTC", "ATAATGTC", 4, 2),
        ("AAAAAAAA", "AAAAA", 5, 0),
        ("ATGACGTCA", "TGACG", 5, 1),
        ("ACACACAC", "CACAC", 5, 1),
    ];

    #[test]
    fn ties_are_those_of_biopython() {
        for (string, seed, score, offset) in BIOPYTHON {
            let fit = best_fit(string.as_bytes(), seed.as_bytes());
            assert_eq!(fit, Fit { score, offset }, "{string} {seed}");
        }
    }

    #[test]
    fn strings_join_the_seed_that_they_fit_best() {
        let strings: [&[u8]; 6] = [
            b"CCCCC",
            b"TGACG",
            b"TGACGT",
            b"ATGACGTC",
            b"GTTTGTGGGG",
            b"GCCCATGTCG",
        ];
        let groups = merge(&strings, 5);
        let expected = [
            (5, vec![(0, 0)]),
            (5, vec![(1, 0), (2, 0), (3, 1), (5, 5)]),
            (10, vec![(4, 0)]),
        ];
        let expected = expected.map(|(length, members)| Group { members, length });
        assert_eq!(groups, expected);
    }

    #[test]
    fn long_strings_must_agree_in_half_of_the_shorter() {
        // Five letters agree: enough for strings of 10, not for those of 12.
        let strings: [&[u8]; 2] = [b"AAAAACCCCC", b"AAAAAGGGGG"];
        assert_eq!(merge(&strings, 5).len(), 1);
        let strings: [&[u8]; 2] = [b"AAAAACCCCCCC", b"AAAAAGGGGGGG"];
        assert_eq!(merge(&strings, 5).len(), 2);
        // And in min_length - 1 letters.
        let strings: [&[u8]; 2] = [b"AAAAACCCCC", b"AAAAAGGGGG"];
        assert_eq!(merge(&strings, 7).len(), 2);
        assert!(merge(&[], 5).is_empty());
    }

    #[test]
    fn equal_fits_go_to_the_earlier_seed() {
        let strings: [&[u8]; 3] = [b"AAAAC", b"GTTTT", b"AAAACGTTTT"];
        let groups = merge(&strings, 5);
        assert_eq!(groups[0].members, [(0, 0), (2, 0)]);
        assert_eq!(groups[1].members, [(1, 0)]);
    }
}
