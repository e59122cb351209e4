//! The vocabularies, and how bases are cut into tokens.

use crate::reads::nucleotide::N;
use std::fmt;

/// A published way to make token ids of bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// DNABERT with k-mers of 3 to 6 bases, one at every base, between `[CLS]` and `[SEP]`.
    ///
    /// Ids are 0 `[PAD]`, 1 `[UNK]`, 2 `[CLS]`, 3 `[SEP]`, 4 `[MASK]`, and 5 plus the k-mer read as
    /// a number in base 4 with the digits A 0, T 1, C 2, G 3 (`vocab.txt` of jerryji1993/DNABERT).
    /// A k-mer that holds an N is `[UNK]`. The published tokeniser takes lower case and U for
    /// unknown, too, and leaves it to its caller to cut k-mers.
    Dnabert(u8),
    /// UTR-LM: a token a base, between `<cls>` and `<eos>`.
    ///
    /// Ids are 0 `<pad>`, 1 `<eos>`, 2 `<unk>`, 3 A, 4 G, 5 C, 6 T, 7 `<cls>`, 8 `<mask>`,
    /// 9 `<sep>` (a96123155/UTR-LM). N is `<unk>`; the published tokeniser raises an error for
    /// lower case, U and N.
    UtrLm,
}

/// Ids of DNABERT that stand for no k-mer.
const DNABERT_SPECIAL: u32 = 5;
const DNABERT_UNKNOWN: u32 = 1;
const DNABERT_CLS: u32 = 2;
const DNABERT_SEP: u32 = 3;
/// Digits of the codes of A, C, G, T.
const DNABERT_DIGITS: [u32; 4] = [0, 2, 3, 1];

/// Ids of UTR-LM by code: A, C, G, T, N.
const UTR_LM: [u32; 5] = [3, 5, 4, 6, 2];
const UTR_LM_CLS: u32 = 7;
const UTR_LM_EOS: u32 = 1;

/// Tokens around those of the bases.
const AROUND: usize = 2;

impl Vocabulary {
    /// All of them.
    pub const ALL: [Vocabulary; 5] = [
        Vocabulary::Dnabert(3),
        Vocabulary::Dnabert(4),
        Vocabulary::Dnabert(5),
        Vocabulary::Dnabert(6),
        Vocabulary::UtrLm,
    ];

    /// The vocabulary of a manifest's tokeniser; none where that is `one-hot` or `ids`.
    pub fn named(tokeniser: &str) -> Option<Vocabulary> {
        Vocabulary::ALL
            .into_iter()
            .find(|own| own.name() == tokeniser)
    }

    /// The name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Vocabulary::Dnabert(3) => "dnabert-3",
            Vocabulary::Dnabert(4) => "dnabert-4",
            Vocabulary::Dnabert(5) => "dnabert-5",
            Vocabulary::Dnabert(_) => "dnabert-6",
            Vocabulary::UtrLm => "utr-lm",
        }
    }

    /// Ids in all: one more than the highest.
    pub fn size(self) -> usize {
        match self {
            Vocabulary::Dnabert(k) => DNABERT_SPECIAL as usize + (1 << (2 * k)),
            Vocabulary::UtrLm => 10,
        }
    }

    /// Bases that one token stands for.
    pub fn width(self) -> usize {
        match self {
            Vocabulary::Dnabert(k) => usize::from(k),
            Vocabulary::UtrLm => 1,
        }
    }

    /// Tokens of so many bases.
    pub fn tokens(self, bases: usize) -> usize {
        (bases + 1).saturating_sub(self.width()) + AROUND
    }

    /// The most bases that have so many tokens; 0 where no base has room.
    pub fn bases(self, tokens: usize) -> usize {
        match tokens.saturating_sub(AROUND) {
            0 => 0,
            own => own + self.width() - 1,
        }
    }

    /// Ids of base codes, in place of what `ids` held. Fewer bases than a token is wide have the
    /// two tokens around them only.
    pub fn encode(self, codes: &[u8], ids: &mut Vec<u32>) {
        ids.clear();
        self.append(codes, ids);
    }

    /// The same behind what `ids` holds.
    pub fn append(self, codes: &[u8], ids: &mut Vec<u32>) {
        ids.reserve(self.tokens(codes.len()));
        match self {
            Vocabulary::Dnabert(k) => {
                ids.push(DNABERT_CLS);
                kmers(u32::from(k), codes, ids);
                ids.push(DNABERT_SEP);
            }
            Vocabulary::UtrLm => {
                ids.push(UTR_LM_CLS);
                ids.extend(codes.iter().map(|&code| UTR_LM[code.min(N) as usize]));
                ids.push(UTR_LM_EOS);
            }
        }
    }
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The k-mer that ends at each base from the k-th on, two bits a base.
fn kmers(k: u32, codes: &[u8], ids: &mut Vec<u32>) {
    let kept = (1u32 << (2 * k)) - 1;
    let (mut number, mut known) = (0, 0);
    for (index, &code) in codes.iter().enumerate() {
        match DNABERT_DIGITS.get(usize::from(code)) {
            Some(digit) => (number, known) = ((number << 2 | digit) & kept, known + 1),
            None => known = 0,
        }
        if index + 1 >= k as usize {
            ids.push(if known >= k {
                DNABERT_SPECIAL + number
            } else {
                DNABERT_UNKNOWN
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::nucleotide;

    fn ids(vocabulary: Vocabulary, letters: &str) -> Vec<u32> {
        let (mut codes, mut ids) = (vec![], vec![9; 3]);
        nucleotide::encode(letters.as_bytes(), &mut codes);
        vocabulary.encode(&codes, &mut ids);
        assert_eq!(ids.len(), vocabulary.tokens(codes.len()));
        assert!(ids.iter().all(|&id| (id as usize) < vocabulary.size()));
        ids
    }

    /// From `vocab.txt`: AAA 5, AAT 6, AAC 7, AAG 8, ATA 9, GGG 68.
    #[test]
    fn the_first_and_the_last_words_have_their_published_ids() {
        let three = Vocabulary::Dnabert(3);
        assert_eq!(ids(three, "AAATA"), [2, 5, 6, 9, 3]);
        assert_eq!(ids(three, "AAC"), [2, 7, 3]);
        assert_eq!(ids(three, "AAG"), [2, 8, 3]);
        assert_eq!(ids(three, "GGG"), [2, 68, 3]);
        assert_eq!(ids(Vocabulary::Dnabert(6), "GGGGGG"), [2, 4100, 3]);
        assert_eq!(ids(Vocabulary::UtrLm, "AGCT"), [7, 3, 4, 5, 6, 1]);
    }

    #[test]
    fn lower_case_and_u_are_folded_and_an_n_spoils_what_holds_it() {
        for vocabulary in Vocabulary::ALL {
            assert_eq!(ids(vocabulary, "acgtuACGTU"), ids(vocabulary, "ACGTTACGTT"));
        }
        assert_eq!(
            ids(Vocabulary::Dnabert(3), "AAANAAAA"),
            [2, 5, 1, 1, 1, 5, 5, 3]
        );
        assert_eq!(ids(Vocabulary::UtrLm, "ARN"), [7, 3, 2, 2, 1]);
    }

    #[test]
    fn short_sequences_have_the_outer_tokens_only() {
        for vocabulary in Vocabulary::ALL {
            assert_eq!(ids(vocabulary, "").len(), 2);
            let letters = "A".repeat(vocabulary.width() - 1);
            assert_eq!(ids(vocabulary, &letters).len(), 2);
            assert_eq!(ids(vocabulary, &format!("{letters}A")).len(), 3);
        }
    }

    #[test]
    fn bases_and_tokens_are_each_others_inverse() {
        for vocabulary in Vocabulary::ALL {
            assert_eq!([0, 1, 2].map(|t| vocabulary.bases(t)), [0; 3]);
            for tokens in [3, 4, 100, 512] {
                let bases = vocabulary.bases(tokens);
                assert_eq!(vocabulary.tokens(bases), tokens);
                assert_eq!(vocabulary.tokens(bases + 1), tokens + 1);
            }
        }
        // What the published model takes: 510 k-mers between [CLS] and [SEP].
        assert_eq!(Vocabulary::Dnabert(6).bases(512), 515);
    }

    #[test]
    fn names_are_found_again() {
        for vocabulary in Vocabulary::ALL {
            assert_eq!(Vocabulary::named(vocabulary.name()), Some(vocabulary));
        }
        for other in ["one-hot", "ids", "dnabert", "dnabert-2", ""] {
            assert_eq!(Vocabulary::named(other), None);
        }
    }
}
