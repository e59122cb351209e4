//! What comes out.

/// A string that high scores lie on, and how it is enriched.
#[derive(Debug, Clone, PartialEq)]
pub struct Enriched {
    /// The string, A, C, G and T.
    pub letters: String,
    /// Positive sequences that have it: the x of the test.
    pub positives: u64,
    /// Sequences of both sets that have it: the n of the test.
    pub sequences: u64,
    /// The chance of so many positives or more among them, between 0 and 1; 0 below 10^-308.
    pub p: f64,
    /// The decimal logarithm of p, right also where that is 0.
    pub log10_p: f64,
    /// The same, adjusted for all candidates (Benjamini and Hochberg).
    pub adjusted_p: f64,
}

/// Strings that were merged, and the windows around the regions that they lie under.
#[derive(Debug, Clone, PartialEq)]
pub struct Motif {
    /// The string of lowest p, the shortest of equal ones. It names the motif, and its figures are
    /// those of the motif.
    pub best: Enriched,
    /// All strings, by length and then by letters. The first is the seed, which the others were
    /// laid on.
    pub members: Vec<Enriched>,
    /// For each column of the window how often it has A, C, G and T. The sum of a column is less
    /// than `sites` where windows have an N.
    pub counts: Vec<[u32; 4]>,
    /// Windows. A sequence may have several.
    pub sites: usize,
    /// The lowest p times the number of candidates: how many of them would do as well by chance.
    pub e_value: f64,
    /// A letter for each column, IUPAC codes included, by the rule of Cavener (Nucleic Acids
    /// Research 15:1353, 1987), which TRANSFAC and Biopython use too: one base if it is more than
    /// half and more than twice as frequent as the next; else two if they are more than three
    /// quarters; else three if the fourth does not occur; else N.
    pub consensus: String,
}

impl Motif {
    /// The consensus without the Ns at both ends; empty if it has nothing else.
    pub fn core(&self) -> &str {
        self.consensus.trim_matches('N')
    }

    /// For each column the shares of A, C, G and T, which add up to 1; a quarter each where all
    /// windows have an N.
    pub fn probabilities(&self) -> impl Iterator<Item = [f64; 4]> {
        self.counts.iter().map(|column| {
            let sum: u32 = column.iter().sum();
            column.map(|count| {
                if sum == 0 {
                    0.25
                } else {
                    f64::from(count) / f64::from(sum)
                }
            })
        })
    }
}

/// The IUPAC code of each set of bases: A is 1, C is 2, G is 4, T is 8.
const IUPAC: &[u8; 16] = b"NACMGRSVTWYHKDBN";

pub(crate) fn consensus(counts: &[[u32; 4]]) -> String {
    counts.iter().map(consensus_letter).collect()
}

fn consensus_letter(column: &[u32; 4]) -> char {
    let count = |base: usize| u64::from(column[base]);
    let mut order = [0, 1, 2, 3];
    order.sort_by_key(|&base| std::cmp::Reverse(count(base)));
    let [first, second, third, fourth] = order.map(count);
    let bases = if first > second + third + fourth && first > 2 * second {
        1
    } else if first + second > 3 * (third + fourth) {
        2
    } else if fourth == 0 && third > 0 {
        3
    } else {
        4
    };
    let set = order[..bases].iter().fold(0, |set, &base| set | 1 << base);
    char::from(IUPAC[set])
}

#[cfg(test)]
mod tests {
    use crate::study::motifs::motif::consensus;

    #[test]
    fn the_consensus_follows_the_rule() {
        let columns = [
            ([9, 0, 0, 0], 'A'),
            ([5, 2, 1, 1], 'A'),
            // Half is not more than half; C and T are four fifths.
            ([1, 5, 1, 3], 'Y'),
            ([0, 0, 6, 4], 'K'),
            // Three quarters are not more than three quarters.
            ([3, 3, 1, 1], 'N'),
            ([4, 4, 4, 0], 'V'),
            ([0, 4, 4, 4], 'B'),
            ([1, 1, 1, 1], 'N'),
            ([0, 0, 0, 0], 'N'),
        ];
        let counts: Vec<[u32; 4]> = columns.iter().map(|c| c.0).collect();
        let letters: String = columns.iter().map(|c| c.1).collect();
        assert_eq!(consensus(&counts), letters);
    }
}
