use crate::study::motifs::{
    Enriched, Motif, MotifError, Scored, SequenceSet, Settings, Strands, background, find,
    information, logo_svg, write_meme,
};

/// Marsaglia's xorshift64.
struct Xorshift(u64);

impl Xorshift {
    fn seeded(seed: u64) -> Xorshift {
        let mut random = Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..20 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) as usize) % n
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn sequence(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| b"ACGT"[self.below(4)]).collect()
    }
}

/// Sequences with their scores.
type Owned = Vec<(Vec<u8>, Vec<f32>)>;

fn scored(owned: &Owned) -> Vec<Scored<'_>> {
    let pairs = owned.iter();
    pairs
        .map(|(sequence, scores)| Scored { sequence, scores })
        .collect()
}

fn slices(owned: &[Vec<u8>]) -> Vec<&[u8]> {
    owned.iter().map(Vec::as_slice).collect()
}

/// Sequences with `word` at a random place away from the ends, scores high over it and low, but
/// never even, elsewhere.
fn planted(random: &mut Xorshift, count: usize, length: usize, word: &[u8]) -> Owned {
    let one = |_| {
        let mut sequence = random.sequence(length);
        let mut scores: Vec<f32> = (0..length).map(|_| 0.01 + 0.2 * random.share()).collect();
        let start = 24 + random.below(length - word.len() - 48);
        sequence[start..start + word.len()].copy_from_slice(word);
        for score in &mut scores[start..start + word.len()] {
            *score = 0.8 + 0.2 * random.share();
        }
        (sequence, scores)
    };
    (0..count).map(one).collect()
}

#[test]
fn a_planted_word_is_found() {
    for (seed, word) in [(1, "TGACGTCA"), (2, "GATAAGC"), (3, "CCACGTGGAAT")] {
        let mut random = Xorshift::seeded(seed);
        let positives = planted(&mut random, 300, 120, word.as_bytes());
        let negatives: Vec<Vec<u8>> = (0..300).map(|_| random.sequence(120)).collect();
        let (scores, negatives) = (scored(&positives), slices(&negatives));
        let motifs = find(&scores, &negatives, &Settings::default()).expect("motifs");
        let first = &motifs[0];
        assert_eq!(first.core(), word);
        assert_eq!(first.best.letters, word);
        // The window has the word in the middle.
        let before = (24 - word.len()) / 2;
        let column = first.consensus.find(word);
        assert_eq!((first.consensus.len(), column), (24, Some(before)));
        // A few runs of noise may lengthen a region, whose string is then another candidate.
        assert!(first.sites > 200, "{}", first.sites);
        assert!(first.best.positives == 300 && first.best.p < 1e-100);
        assert!(first.best.adjusted_p >= first.best.p && first.e_value >= first.best.p);

        // Neither the case nor the order of the sequences matters.
        let reversed: Owned = positives.iter().rev().cloned().collect();
        let lower: Owned = reversed
            .into_iter()
            .map(|(s, scores)| (s.to_ascii_lowercase(), scores))
            .collect();
        let again = find(&scored(&lower), &negatives, &Settings::default());
        assert_eq!(again.as_ref(), Ok(&motifs));
    }
}

#[test]
fn variants_of_a_word_are_one_motif() {
    let mut random = Xorshift::seeded(4);
    let mut positives = Owned::new();
    for word in ["TGACGTCA", "TGACGTCAT", "TTACGTCA", "CTGACGTCAG"] {
        positives.extend(planted(&mut random, 60, 100, word.as_bytes()));
    }
    // Below every mean, so that no noise lengthens a region and all of them can be counted.
    for score in positives.iter_mut().flat_map(|(_, scores)| scores) {
        if *score < 0.5 {
            *score = score.min(0.05);
        }
    }
    let negatives: Vec<Vec<u8>> = (0..240).map(|_| random.sequence(100)).collect();
    let motifs = find(
        &scored(&positives),
        &slices(&negatives),
        &Settings::default(),
    );
    let motifs = motifs.expect("motifs");
    assert_eq!(motifs.len(), 1, "{motifs:?}");
    let members: Vec<&str> = motifs[0]
        .members
        .iter()
        .map(|e| e.letters.as_str())
        .collect();
    assert_eq!(motifs[0].best.letters, "TGACGTCA");
    assert!(
        members.starts_with(&["TGACGTCA", "TTACGTCA"]),
        "{members:?}"
    );
    assert!(members.contains(&"TGACGTCAT") && members.contains(&"CTGACGTCAG"));
    // All lie on the seed: 60 of 240 have a T in its second column.
    assert_eq!(&motifs[0].consensus[8..16], "TGACGTCA");
    let [.., t] = motifs[0].counts[9];
    assert_eq!((motifs[0].sites, t), (240, 60));
}

#[test]
fn random_scores_give_nothing() {
    for seed in 0..50 {
        let mut random = Xorshift::seeded(100 + seed);
        let mut positives = Owned::new();
        for _ in 0..200 {
            let sequence = random.sequence(150);
            let scores = (0..150).map(|_| random.share()).collect();
            positives.push((sequence, scores));
        }
        let negatives: Vec<Vec<u8>> = (0..200).map(|_| random.sequence(150)).collect();
        let (positives, negatives) = (scored(&positives), slices(&negatives));
        for strands in [Strands::Forward, Strands::Both] {
            let settings = Settings {
                strands,
                ..Settings::default()
            };
            let motifs = find(&positives, &negatives, &settings).expect("no error");
            assert!(motifs.is_empty(), "seed {seed}: {motifs:?}");
        }
    }
}

#[test]
fn nothing_comes_of_nothing() {
    let settings = Settings::default();
    assert_eq!(find(&[], &[], &settings), Ok(vec![]));
    assert_eq!(find(&[], &[b"ACGTACGT"], &settings), Ok(vec![]));
    let empty = Scored {
        sequence: b"",
        scores: &[],
    };
    assert_eq!(find(&[empty], &[b""], &settings), Ok(vec![]));

    let mut random = Xorshift::seeded(5);
    let negatives: Vec<Vec<u8>> = (0..50).map(|_| random.sequence(60)).collect();
    let word = b"TGACGTCA";
    // Equal scores, also zeros.
    for score in [0.0, 0.1] {
        let positives: Owned = planted(&mut random, 50, 80, word)
            .into_iter()
            .map(|(s, scores)| (s, vec![score; scores.len()]))
            .collect();
        let motifs = find(&scored(&positives), &slices(&negatives), &settings);
        assert_eq!(motifs, Ok(vec![]));
    }
    // Sequences shorter than a region.
    let short: Owned = vec![(b"ACGT".to_vec(), vec![0.0, 9.0, 9.0, 9.0]); 50];
    assert_eq!(
        find(&scored(&short), &slices(&negatives), &settings),
        Ok(vec![])
    );
    // Without negatives every p is 1.
    let positives = planted(&mut random, 50, 80, word);
    assert_eq!(find(&scored(&positives), &[], &settings), Ok(vec![]));
}

#[test]
fn a_zero_takes_the_second_test_away() {
    let mut random = Xorshift::seeded(6);
    let negatives: Vec<Vec<u8>> = (0..100).map(|_| random.sequence(80)).collect();
    let mut positives = planted(&mut random, 100, 80, b"TGACGTCA");
    // All but one of the scores outside are above a tenth of those over the word.
    for (_, scores) in &mut positives {
        for score in scores.iter_mut() {
            *score = score.max(0.15);
        }
    }
    let settings = Settings::default();
    let negatives = slices(&negatives);
    assert_eq!(find(&scored(&positives), &negatives, &settings), Ok(vec![]));
    for (_, scores) in &mut positives {
        scores[0] = 0.0;
    }
    let motifs = find(&scored(&positives), &negatives, &settings).expect("motifs");
    assert_eq!(motifs[0].core(), "TGACGTCA");
}

/// Sequences of 40 with a word at a place, and negatives without.
fn at(start: usize, count: usize) -> (Owned, Vec<Vec<u8>>) {
    let mut random = Xorshift::seeded(7);
    let mut positives = Owned::new();
    for _ in 0..count {
        let mut sequence = random.sequence(40);
        sequence[start..start + 8].copy_from_slice(b"TGACGTCA");
        let mut scores = vec![0.01; 40];
        scores[start..start + 8].fill(1.0);
        positives.push((sequence, scores));
    }
    let negatives = (0..count).map(|_| random.sequence(40)).collect();
    (positives, negatives)
}

#[test]
fn a_word_at_an_end_has_no_window() {
    for (start, found) in [
        (0, false),
        (7, false),
        (8, true),
        (24, true),
        (25, false),
        (32, false),
    ] {
        let (positives, negatives) = at(start, 50);
        let settings = Settings::default();
        let motifs = find(&scored(&positives), &slices(&negatives), &settings).expect("motifs");
        let cores: Vec<&str> = motifs.iter().map(Motif::core).collect();
        let expected: &[&str] = if found { &["TGACGTCA"] } else { &[] };
        assert_eq!(cores, expected, "at {start}");
        // A window no wider than the word fits everywhere.
        let settings = Settings {
            window: 8,
            ..settings
        };
        let motifs = find(&scored(&positives), &slices(&negatives), &settings).expect("motifs");
        assert_eq!((motifs.len(), motifs[0].sites), (1, 50), "at {start}");
    }
}

#[test]
fn a_motif_needs_windows() {
    let (mut positives, negatives) = at(16, 20);
    for (_, scores) in &mut positives[2..] {
        scores.fill(1.0);
    }
    let count = |min_sites| {
        let settings = Settings {
            min_sites,
            ..Settings::default()
        };
        let motifs = find(&scored(&positives), &slices(&negatives), &settings);
        motifs.expect("motifs").len()
    };
    // The string counts in all sequences, but only two have a region over it.
    assert_eq!((count(2), count(3)), (1, 0));
}

#[test]
fn strings_with_n_are_no_candidates() {
    let (mut positives, negatives) = at(16, 20);
    for (sequence, _) in &mut positives[..10] {
        sequence[17] = b'n';
    }
    // An N beside the string counts in no column.
    positives[10].0[10] = b'N';
    let motifs = find(
        &scored(&positives),
        &slices(&negatives),
        &Settings::default(),
    );
    let motifs = motifs.expect("motifs");
    assert_eq!((motifs.len(), motifs[0].sites), (1, 10));
    assert_eq!(motifs[0].best.positives, 10);
    let sums = motifs[0]
        .counts
        .iter()
        .map(|column| column.iter().sum::<u32>());
    let without: Vec<usize> = sums.enumerate().filter(|s| s.1 == 9).map(|s| s.0).collect();
    assert_eq!(without, [2]);
}

#[test]
fn both_strands_count_the_reverse_complement() {
    let reverse = |letters: &[u8]| -> Vec<u8> {
        let complement = |&letter: &u8| b"TGCA"[b"ACGT".iter().position(|l| *l == letter).unwrap()];
        letters.iter().rev().map(complement).collect()
    };
    let mut random = Xorshift::seeded(8);
    let positives = planted(&mut random, 60, 100, b"GATAAGCC");
    let with: Owned = planted(&mut random, 60, 100, b"GATAAGCC");
    let negatives: Vec<Vec<u8>> = with.iter().map(|(s, _)| reverse(s)).collect();
    let of = |strands| {
        let settings = Settings {
            strands,
            ..Settings::default()
        };
        find(&scored(&positives), &slices(&negatives), &settings).expect("motifs")
    };
    assert_eq!(of(Strands::Forward)[0].best.letters, "GATAAGCC");
    // On both strands the negatives have it as often.
    assert_eq!(of(Strands::Both), []);
}

#[test]
fn what_is_wrong_is_said() {
    let scores = [0.1, 0.2, f32::NAN, 0.4];
    let of = |sequence, scores| find(&[Scored { sequence, scores }], &[], &Settings::default());
    let found = of(b"ACGT".as_slice(), &scores[..2]);
    let expected = MotifError::ScoreCount {
        sequence: 0,
        letters: 4,
        scores: 2,
    };
    assert_eq!(found, Err(expected));
    let error = of(b"ACGT", &scores).expect_err("no number").to_string();
    assert_eq!(error, "positive sequence 0 has the score NaN at position 2");
    let error = of(b"AC\n", &[0.0; 3]).expect_err("a line end").to_string();
    let expected = "positive sequence 0 has `\\n` at position 2, not A, C, G, T or N";
    assert_eq!(error, expected);
    let expected = MotifError::Letter {
        set: SequenceSet::Negative,
        sequence: 1,
        position: 3,
        letter: b'U',
    };
    let found = find(&[], &[b"ACGT", b"ACGU"], &Settings::default());
    assert_eq!(found, Err(expected));

    let wrong: [fn(&mut Settings); 7] = [
        |s| s.min_length = 0,
        |s| s.max_adjusted_p = 0.0,
        |s| s.max_adjusted_p = 1.5,
        |s| s.max_adjusted_p = f64::NAN,
        |s| s.window = 0,
        |s| s.window = usize::MAX,
        |s| s.min_sites = 0,
    ];
    for spoil in wrong {
        let mut settings = Settings::default();
        spoil(&mut settings);
        let found = find(&[], &[], &settings);
        assert!(matches!(found, Err(MotifError::Setting(_))), "{settings:?}");
    }
}

fn small() -> Motif {
    Motif {
        best: Enriched {
            letters: "GAT".to_owned(),
            positives: 4,
            sequences: 5,
            p: 0.000_123,
            log10_p: -3.91,
            adjusted_p: 0.001,
        },
        members: vec![],
        counts: vec![
            [1, 1, 1, 1],
            [0, 0, 4, 0],
            [3, 0, 0, 0],
            [0, 1, 0, 3],
            [0; 4],
        ],
        sites: 4,
        e_value: 0.041,
        consensus: "NGATN".to_owned(),
    }
}

#[test]
fn meme_files_have_the_minimal_format() {
    let mut out = Vec::new();
    let nameless = Motif {
        consensus: "NN".to_owned(),
        counts: vec![[1, 1, 1, 1]; 2],
        e_value: 0.0,
        ..small()
    };
    let uniform = [0.25; 4];
    write_meme(&[small(), nameless], uniform, Strands::Both, &mut out).expect("written");
    let expected = "\
MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.250000 C 0.250000 G 0.250000 T 0.250000

MOTIF GAT GAT
letter-probability matrix: alength= 4 w= 5 nsites= 4 E= 4.1e-2
 0.250000  0.250000  0.250000  0.250000
 0.000000  0.000000  1.000000  0.000000
 1.000000  0.000000  0.000000  0.000000
 0.000000  0.250000  0.000000  0.750000
 0.250000  0.250000  0.250000  0.250000

MOTIF GAT
letter-probability matrix: alength= 4 w= 2 nsites= 4 E= 0.0e0
 0.250000  0.250000  0.250000  0.250000
 0.250000  0.250000  0.250000  0.250000

";
    assert_eq!(String::from_utf8_lossy(&out), expected);

    for wrong in [[0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.25, 0.25], [f64::NAN; 4]] {
        let error = write_meme(&[], wrong, Strands::Forward, &mut out).expect_err("no background");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn the_background_is_the_share_of_each_letter() {
    let of = |strands| background([b"AAaN".as_slice(), b"Cg", b""], strands);
    // Each letter once more than it occurs, of 9.
    assert_eq!(of(Strands::Forward), [4.0, 2.0, 2.0, 1.0].map(|n| n / 9.0));
    assert_eq!(of(Strands::Both), [5.0, 4.0, 4.0, 5.0].map(|n| n / 18.0));
    assert_eq!(background([], Strands::Forward), [0.25; 4]);
}

#[test]
fn information_is_corrected_for_small_samples() {
    // Missing from 2 are 3 / (2 · ln 2 · 1000) bits, and 3 / (2 · ln 2 · 4) with four letters.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(information([1000, 0, 0, 0]), 2.0 - 0.002_164_04));
    assert!(close(information([0, 4, 0, 0]), 2.0 - 0.541_011));
    assert!(close(information([500, 500, 0, 0]), 1.0 - 0.002_164_04));
    assert_eq!(information([25, 25, 25, 25]), 0.0);
    assert_eq!(information([1, 0, 0, 0]), 0.0);
    assert_eq!(information([0; 4]), 0.0);
}

#[test]
fn a_logo_has_letters_as_high_as_their_information() {
    let motif = small();
    let svg = logo_svg(&motif);
    assert!(
        svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" ") && svg.ends_with("</svg>\n")
    );
    // `translate(left top) scale(width height)` of a square of 100, at 24 pixels a column from 48.5
    // on and 60 pixels a bit.
    let mut bits = [0.0; 5];
    for (_, place) in svg.lines().filter_map(|line| line.split_once("translate(")) {
        let numbers = place.replace(") scale(", " ");
        let numbers = numbers
            .split([' ', ')'])
            .map_while(|n| n.parse::<f64>().ok());
        // The label of the axis is rotated, not scaled.
        let [left, top, _, height] = numbers.collect::<Vec<f64>>()[..] else {
            continue;
        };
        bits[((left - 48.5) / 24.0) as usize] += height * 100.0 / 60.0;
        // Letters stand within the plot.
        assert!((12.0..132.0).contains(&top));
    }
    for (found, &column) in bits.iter().zip(&motif.counts) {
        assert!((found - information(column)).abs() < 1e-3, "{bits:?}");
    }
    // Two letters in the fourth column, the frequent one above.
    let colours: Vec<&str> = svg
        .lines()
        .filter(|line| line.contains("translate(120.5 "))
        .collect();
    assert_eq!(colours.len(), 2);
    assert!(colours[0].contains("#255c99") && colours[1].contains("#d62839"));
    // No letter without a number, nothing from elsewhere.
    assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("href"));
}
