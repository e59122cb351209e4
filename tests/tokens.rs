//! Token ids of 10,000 sequences against those of the published vocabularies, which
//! `tests/data/tokens.py` looks up word by word; and language models on sequences of every length.

use std::path::{Path, PathBuf};
use strandline::reads::nucleotide;
use strandline::tokenise::Vocabulary;

const LETTERS: &[u8] = b"ACGTACGTACGTACGTACGTACGTacgtacgtUuNRyn";

/// The generator of `tokens.py`.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % most) as usize
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

#[test]
fn ids_are_those_of_the_published_vocabularies() {
    let table = std::fs::read_to_string(data("tokens.tsv")).unwrap();
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').skip(1).collect();
    let vocabularies: Vec<Vocabulary> = names
        .iter()
        .map(|name| Vocabulary::named(name).unwrap())
        .collect();
    assert_eq!(vocabularies, Vocabulary::ALL);
    let mut numbers = Numbers(1);
    let (mut hashes, mut ids, mut codes) = (vec![], vec![], vec![]);
    let mut compared = 0;
    for number in 0..10_000 {
        if number % 100 == 0 {
            hashes = vec![0xcbf2_9ce4_8422_2325u64; names.len()];
        }
        let kinds = match numbers.below(4) {
            0 => 24,
            _ => LETTERS.len() as u64,
        };
        let letters: Vec<u8> = (0..number % 600)
            .map(|_| LETTERS[numbers.below(kinds)])
            .collect();
        codes.clear();
        nucleotide::encode(&letters, &mut codes);
        for (vocabulary, hash) in vocabularies.iter().zip(&mut hashes) {
            vocabulary.encode(&codes, &mut ids);
            for byte in ids.iter().flat_map(|id| id.to_le_bytes()) {
                *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        if number % 100 == 99 {
            let expected: Vec<&str> = lines.next().unwrap().split('\t').collect();
            assert_eq!(expected[0], (number - 99).to_string());
            let own: Vec<String> = hashes.iter().map(|hash| format!("{hash:016x}")).collect();
            assert_eq!(own, expected[1..], "sequences from {} on", expected[0]);
            compared += 1;
        }
    }
    assert_eq!(compared, 100);
}
