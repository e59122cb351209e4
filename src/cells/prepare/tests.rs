use super::*;
use crate::cells::genes::Vocabulary;
use proptest::prelude::*;
use std::collections::BTreeMap;

const GOLDEN: &str = include_str!("../../../tests/data/cells/bins.tsv");

/// The generator of `tests/onnx/cells_golden.py`.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn count(&mut self, most: u64) -> u64 {
        let below = 1 + self.below(most);
        let below = 1 + self.below(below);
        1 + self.below(below)
    }

    fn bits(&mut self, first: u32, most: u64) -> f32 {
        f32::from_bits(first + self.below(most) as u32)
    }
}

fn cell(number: u64) -> Vec<f32> {
    let mut numbers = Numbers(number + 1);
    let most = if number.is_multiple_of(3) { 1500 } else { 60 };
    let length = 1 + numbers.below(most);
    let mut all = |length: u64, value: &dyn Fn(&mut Numbers) -> f32| -> Vec<f32> {
        (0..length).map(|_| value(&mut numbers)).collect()
    };
    match number % 10 {
        0 => all(length, &|n| n.count(40) as f32),
        1 => all(length, &|n| (1 + n.below(1 << 24)) as f32 / 2_097_152.0),
        2 => {
            let counts = all(length, &|n| n.count(300) as f32);
            let part = counts.iter().sum::<f32>() / 10_000.0;
            counts.iter().map(|count| count / part).collect()
        }
        3 => vec![all(1, &|n| n.count(9) as f32 / 3.0)[0]; length as usize],
        4 => all(1, &|n| (1 + n.below(1000)) as f32 / 7.0),
        5 => all(length, &|n| (1 + 2 * n.below(2)) as f32),
        6 => all(length, &|n| n.bits(0x3f80_0000, 64)),
        7 => all(length, &|n| n.bits(1, 0x7f00_0000)),
        8 => {
            let length = 2 + all(1, &|n| n.below(11) as f32)[0] as u64;
            all(length, &|n| n.count(6) as f32)
        }
        _ => {
            let length = 1200 + all(1, &|n| n.below(1800) as f32)[0] as u64;
            all(length, &|n| n.count(5) as f32)
        }
    }
}

fn fnv(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Genes g0 to g{n − 1} in columns that are their ids.
fn matching(genes: usize) -> Matching {
    let names: Vec<String> = (0..genes).map(|gene| format!("g{gene}\n")).collect();
    let vocabulary = Vocabulary::read(names.concat().as_bytes()).unwrap();
    Matching::new(
        &vocabulary,
        names.iter().map(|n| Some((n.trim(), None))),
        0.0,
    )
    .unwrap()
}

fn prepared(
    preparation: &Preparation,
    genes: &[u32],
    values: &[f32],
    matching: &Matching,
) -> Result<(Vec<u32>, Vec<f32>), Rejected> {
    let mut out = Profile::default();
    preparation.prepare(genes, values, matching, &mut out)?;
    Ok((out.ids, out.values))
}

fn only_bins() -> Preparation {
    Preparation {
        normalise: None,
        log1p: false,
        most_tokens: usize::MAX,
        ..Preparation::default()
    }
}

#[test]
fn bins_are_those_of_numpy() {
    let (mut edges, mut cells) = (vec![], 0);
    let matching = matching(3000);
    for line in GOLDEN.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let number: u64 = fields[0].parse().unwrap();
        let values = cell(number);
        assert_eq!(values.len().to_string(), fields[2], "cell {number}");
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        bins::quantiles(&sorted, 50, &mut edges);
        let hash = fnv(edges.iter().map(|edge| edge.to_bits()));
        assert_eq!(format!("{hash:016x}"), fields[3], "edges of cell {number}");
        let ranges: Vec<[usize; 3]> = values
            .iter()
            .map(|value| {
                let (left, right) = bins::digits(*value, &edges);
                let middle = bins::between(left, right, 0.5);
                [middle, (right + 1).min(left), left]
            })
            .collect();
        let words = ranges
            .iter()
            .map(|[middle, lowest, left]| (middle << 16 | lowest << 8 | left) as u64);
        assert_eq!(format!("{:016x}", fnv(words)), fields[4], "cell {number}");
        if fields[5] != "." {
            let said = ranges
                .iter()
                .map(|[middle, lowest, left]| format!("{middle}:{lowest}-{left}"));
            let said: Vec<String> = said.collect();
            assert_eq!(said.join(","), fields[5], "cell {number}");
        }
        // The same through the front door, and within the range with a seed.
        let genes: Vec<u32> = (0..values.len() as u32).collect();
        let (_, middle) = prepared(&only_bins(), &genes, &values, &matching).unwrap();
        let with_seed = Preparation {
            seed: Some(number),
            ..only_bins()
        };
        let (_, random) = prepared(&with_seed, &genes, &values, &matching).unwrap();
        for ((range, middle), random) in ranges.iter().zip(middle).zip(random) {
            assert_eq!(range[0] as f32, middle, "cell {number}");
            let within = range[1] as f32..=range[2] as f32;
            assert!(within.contains(&random), "cell {number}");
        }
        cells += 1;
    }
    assert_eq!(cells, 300);
}

#[test]
fn random_bins_use_the_whole_range() {
    // One count in all genes: any of 50 bins.
    let seeded = Preparation {
        seed: Some(3),
        ..only_bins()
    };
    let genes: Vec<u32> = (0..2000).collect();
    let (_, values) = prepared(&seeded, &genes, &[1.0; 2000], &matching(2000)).unwrap();
    let mut bins: BTreeMap<u32, usize> = BTreeMap::new();
    for value in values {
        *bins.entry(value as u32).or_default() += 1;
    }
    assert_eq!(
        bins.keys().copied().collect::<Vec<_>>(),
        (1..=50).collect::<Vec<_>>()
    );
    assert!(bins.values().all(|count| (10..=80).contains(count)));
}

#[test]
fn counts_are_normalised_as_scanpy_does() {
    // scanpy 1.11.5, normalize_total(target_sum=1e4) of float32 [[3, 1, 7, 0]], then the float64
    // log1p rounded to float32.
    let preparation = Preparation {
        bins: None,
        ..Preparation::default()
    };
    let found = prepared(
        &preparation,
        &[2, 0, 1, 3],
        &[7.0, 3.0, 1.0, 0.0],
        &matching(4),
    );
    let expected = [0x40fd_2a63, 0x40da_088f, 0x410c_22de].map(f32::from_bits);
    assert_eq!(found.unwrap(), (vec![0, 1, 2], expected.to_vec()));
}

#[test]
fn genes_without_an_id_count_in_no_total() {
    let vocabulary = Vocabulary::read(&b"A\nB\n<cls>\n"[..]).unwrap();
    let columns = ["B", "x", "A", "b", "<cls>"].map(|name| Some((name, None)));
    let matching = Matching::new(&vocabulary, columns, 0.0).unwrap();
    let preparation = Preparation {
        normalise: Some(8.0),
        log1p: false,
        bins: None,
        cls: vocabulary.cls().map(|id| (id, -2.0)),
        ..Preparation::default()
    };
    // B has two columns, whose counts are added.
    let found = prepared(
        &preparation,
        &[0, 1, 2, 3, 4],
        &[1.0, 50.0, 2.0, 1.0, 9.0],
        &matching,
    );
    assert_eq!(found.unwrap(), (vec![2, 0, 1], vec![-2.0, 4.0, 4.0]));
    // As logarithms of the counts: ln(1 + 1) and ln(1 + 3) make ln(1 + 4).
    let logarithms = Preparation {
        input: Input::LogNormalised,
        ..preparation
    };
    let values = [2.0_f32.ln(), 4.0_f32.ln()];
    let (ids, values) = prepared(&logarithms, &[0, 3], &values, &matching).unwrap();
    assert_eq!(ids, [2, 1]);
    assert!((values[1] - 5.0_f32.ln()).abs() < 1e-6);
}

#[test]
fn the_highest_values_stay() {
    let preparation = Preparation {
        normalise: None,
        log1p: false,
        bins: None,
        most_tokens: 4,
        cls: Some((9, 0.0)),
        keep_zeros: true,
        ..Preparation::default()
    };
    let matching = matching(9);
    let found = prepared(
        &preparation,
        &[8, 2, 5, 3],
        &[2.0, 2.0, 7.0, 2.0],
        &matching,
    );
    assert_eq!(found.unwrap(), (vec![9, 2, 3, 5], vec![0.0, 2.0, 2.0, 7.0]));
    let wide = Preparation {
        most_tokens: 8,
        ..preparation.clone()
    };
    let found = prepared(&wide, &[8], &[3.0], &matching).unwrap();
    assert_eq!(found.0, [9, 0, 1, 2, 3, 4, 5, 8], "zeros by vocabulary");
    assert_eq!(found.1, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
    for most_tokens in [0, 1] {
        let narrow = Preparation {
            most_tokens,
            ..preparation.clone()
        };
        assert_eq!(prepared(&narrow, &[8], &[3.0], &matching).unwrap().0, [9]);
    }
}

/// A gene that is perturbed keeps its token and its value, and one that was not measured its room.
#[test]
fn some_genes_stay_whatever_their_value() {
    let (genes, values) = ([8, 2, 5, 3], [2.0, 2.0, 7.0, 1.0]);
    let of = |always: &[u32], seed| {
        let preparation = Preparation {
            normalise: None,
            log1p: false,
            bins: None,
            most_tokens: 3,
            always: always.to_vec(),
            seed,
            ..Preparation::default()
        };
        prepared(&preparation, &genes, &values, &matching(9)).unwrap()
    };
    assert_eq!(of(&[], None).0, [2, 5, 8]);
    assert_eq!(of(&[3], None), (vec![2, 3, 5], vec![2.0, 1.0, 7.0]));
    assert_eq!(of(&[3, 8], None).0, [3, 5, 8]);
    // Gene 0 is not in the cell.
    assert_eq!(of(&[0, 3], None), (vec![3, 5], vec![1.0, 7.0]));
    assert_eq!(of(&[2, 3, 5, 8], None).0.len(), 3);
    for seed in 0..20 {
        let (ids, _) = of(&[3], Some(seed));
        assert!(ids.len() == 3 && ids.contains(&3), "{ids:?}");
    }
}

#[test]
fn a_drawn_subset_is_even() {
    let genes: Vec<u32> = (0..40).collect();
    let matching = matching(40);
    let mut drawn = [0_usize; 40];
    for seed in 0..400 {
        let preparation = Preparation {
            most_tokens: 10,
            seed: Some(seed),
            ..only_bins()
        };
        let values: Vec<f32> = genes.iter().map(|gene| 1.0 + *gene as f32).collect();
        let (ids, values) = prepared(&preparation, &genes, &values, &matching).unwrap();
        assert_eq!(ids.len(), 10);
        assert!(
            ids.is_sorted() && values.is_sorted(),
            "bins of the whole cell"
        );
        ids.iter().for_each(|id| drawn[*id as usize] += 1);
    }
    // 100 each are expected, with a standard deviation of 8.7.
    assert!(
        drawn.iter().all(|count| (65..=135).contains(count)),
        "{drawn:?}"
    );
}

#[test]
fn a_cell_that_cannot_be_used_says_why() {
    let vocabulary = Vocabulary::read(&b"A\nB\n"[..]).unwrap();
    let columns = ["A", "B", "x"].map(|name| Some((name, None)));
    let matching = Matching::new(&vocabulary, columns, 0.0).unwrap();
    let said = |genes: &[u32], values: &[f32]| {
        let mut out = Profile::default();
        out.ids.push(7);
        let result = Preparation::default().prepare(genes, values, &matching, &mut out);
        assert!(out.ids.is_empty() && out.values.is_empty());
        result.unwrap_err().to_string()
    };
    assert_eq!(
        said(&[0, 2], &[1.0, -3.0]),
        "the value -3 of column 2 is negative"
    );
    assert_eq!(said(&[1], &[f32::NAN]), "the value of column 1 is NaN");
    assert_eq!(
        said(&[2], &[f32::NEG_INFINITY]),
        "the value of column 2 is -inf"
    );
    assert_eq!(said(&[3], &[1.0]), "column 3 is beyond the 3 of the file");
    assert_eq!(said(&[0, 1], &[1.0]), "there are 1 values for 2 genes");
    assert_eq!(said(&[], &[]), "no counts");
    assert_eq!(said(&[0, 2], &[0.0, -0.0]), "no counts");
    assert_eq!(said(&[2], &[5.0]), "no gene of the vocabulary");
    assert_eq!(
        said(&[0], &[1e-44]),
        "the total of 9.809e-45 cannot be normalised"
    );
    assert!(said(&[0, 1], &[f32::MAX; 2]).ends_with("e38 cannot be normalised"));
}

#[test]
fn counts_are_known_from_logarithms_by_their_values() {
    let of = |cells: &[&[f32]]| detect(cells.iter().copied());
    let detected = |input, cells, others| Detected {
        input,
        cells,
        others,
    };
    assert_eq!(of(&[&[0.0, 1.0, 3.0]]), detected(Input::Counts, 1, 0));
    assert_eq!(of(&[&[0.0, 0.5, 31.0]]), detected(Input::Counts, 1, 0));
    // Cells of few counts.
    let logarithms = detected(Input::LogNormalised, 1, 0);
    assert_eq!(of(&[&[1.25, 4.5, 0.0]]), logarithms);
    assert_eq!(of(&[&[0.25, 4.5]]), logarithms);
    assert_eq!(of(&[]), detected(Input::Counts, 0, 0));
}

/// Genes and proteins of one cell are prepared as if each were alone.
#[test]
fn proteins_have_bins_of_their_own() {
    let vocabulary = Vocabulary::read(&b"p_CD3\nA\nCD3\nB\nC\np_CD19\np_CD4\n<cls>\n"[..]).unwrap();
    let genes = ["A", "CD3", "B", "C"];
    let proteins = ["CD3", "CD19", "CD4", "unknown"];
    let gene = |name| Some((name, None));
    let columns = genes.map(gene).into_iter().chain(proteins.map(|_| None));
    let mut both = Matching::new(&vocabulary, columns, 0.0).unwrap();
    let names = genes.map(|_| None).into_iter().chain(proteins.map(Some));
    both.add_proteins(&vocabulary, names, "p_");
    assert_eq!(
        both.ids,
        [1, 2, 3, 4, 0, 5, 6]
            .map(Some)
            .into_iter()
            .chain([None])
            .collect::<Vec<_>>()
    );
    assert_eq!((both.matched, both.others), (4, 1));
    assert_eq!((&both.proteins[..], both.kept[7]), (&[0, 5, 6][..], false));
    let alone = Matching::new(&vocabulary, genes.map(gene), 0.0).unwrap();
    let preparation = |most_tokens, normalise: Option<f32>| Preparation {
        cls: Some((7, 0.0)),
        bins: Some(6),
        log1p: normalise.is_some(),
        normalise,
        most_tokens,
        ..Preparation::default()
    };
    let published = preparation(9, Some(10_000.0));
    // A protein may be centred; genes may not.
    let (counts, bound) = ([7.0, 1.0, 30.0, 2.0], [-1.5, 900.0, 2.5]);
    let own = prepared(&published, &[0, 1, 2, 3], &counts, &alone).unwrap();
    let values = [&counts[..], &bound[..]].concat();
    let (ids, all) = prepared(&published, &[0, 1, 2, 3, 4, 5, 6], &values, &both).unwrap();
    assert_eq!(ids, [7, 0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(all[2..6], own.1[1..5]);
    // The same numbers as genes of a model that takes values as they are.
    let shifted = bound.map(|value| value + 2.0);
    let plain = Matching::new(&vocabulary, ["A", "B", "C"].map(gene), 0.0).unwrap();
    let raw = prepared(&preparation(9, None), &[0, 1, 2], &shifted, &plain).unwrap();
    assert_eq!([all[1], all[6], all[7]], raw.1[1..]);
    // Proteins stay where genes are left out.
    let (ids, _) = prepared(
        &preparation(5, Some(1e4)),
        &[0, 1, 2, 3, 4, 5, 6],
        &values,
        &both,
    )
    .unwrap();
    assert_eq!(ids, [7, 0, 3, 5, 6]);
    let none = prepared(&published, &[4, 5], &[1.0, 2.0], &both).unwrap_err();
    assert_eq!(none, Rejected::NoGene);
    let negative = prepared(&published, &[0, 5], &[-1.0, 2.0], &both).unwrap_err();
    assert!(matches!(negative, Rejected::Negative { column: 0, .. }));
}

/// What a value in a broken cell is must not change what all others are taken for.
#[test]
fn a_broken_cell_does_not_say_what_all_are() {
    let broken: [&[f32]; 6] = [
        &[f32::NAN, 1.0],
        &[f32::INFINITY],
        &[-0.5, 40.0],
        &[0.0, 0.0],
        &[],
        &[900.5],
    ];
    for broken in broken {
        let (counts, logarithms) = ([1.0_f32, 2.0], [0.5_f32, 2.5]);
        let mut cells = vec![broken];
        cells.extend([&counts[..]; 30]);
        assert_eq!(detect(cells).input, Input::Counts, "{broken:?}");
        let mut cells = vec![broken];
        cells.extend([&logarithms[..]; 30]);
        let detected = detect(cells);
        assert_eq!(detected.input, Input::LogNormalised, "{broken:?}");
        assert_eq!(detected.others, u64::from(broken == [900.5]));
    }
    // Counts that were corrected: parts, and some great ones.
    let mut cells: Vec<&[f32]> = vec![&[0.5, 2.5]; 18];
    cells.extend([&[0.5_f32, 60.0][..]; 2]);
    let few = detect(cells.iter().copied());
    assert_eq!((few.input, few.others), (Input::Counts, 18));
    cells.extend([&[0.5_f32, 60.0][..]; 16]);
    let many = detect(cells);
    assert_eq!((many.input, many.others), (Input::Counts, 0));
}

proptest! {
    #[test]
    fn a_profile_is_a_function_of_the_set(
        values in proptest::collection::vec(0_u8..5, 1..60),
        order in any::<u64>(),
        seed in proptest::option::of(any::<u64>()),
        most_tokens in 1_usize..40,
        keep_zeros in any::<bool>(),
    ) {
        // Three columns a gene, and genes that the vocabulary does not have.
        let vocabulary: String = (0..20).map(|gene| format!("G{}\n", gene * 7 % 20)).collect();
        let vocabulary = Vocabulary::read(vocabulary.as_bytes()).unwrap();
        let names: Vec<String> = (0..values.len()).map(|c| format!("G{}", c % 23)).collect();
        let preparation = Preparation {
            seed,
            most_tokens,
            keep_zeros,
            ..Preparation::default()
        };
        let mut columns: Vec<usize> = (0..values.len()).collect();
        let straight = run(&preparation, &vocabulary, &names, &values, &columns);
        columns.rotate_left(order as usize % values.len());
        if order.is_multiple_of(2) {
            columns.reverse();
        }
        let other = run(&preparation, &vocabulary, &names, &values, &columns);
        prop_assert_eq!(&straight, &other);
        // What was prepared before leaves nothing behind.
        let mut out = Profile::default();
        let matching = matching(30);
        for length in [30, 3] {
            let genes: Vec<u32> = (0..length).collect();
            let _ = preparation.prepare(&genes, &vec![2.0; genes.len()], &matching, &mut out);
        }
        let fresh = prepared(&preparation, &[0, 1, 2], &[2.0; 3], &matching).unwrap();
        prop_assert_eq!((out.ids, out.values), fresh);
    }
}

/// A cell of these values, its columns laid out in another order.
fn run(
    preparation: &Preparation,
    vocabulary: &Vocabulary,
    names: &[String],
    values: &[u8],
    columns: &[usize],
) -> Result<(Vec<u32>, Vec<f32>), Rejected> {
    let ordered = columns.iter().map(|column| Some((&*names[*column], None)));
    let matching = Matching::new(vocabulary, ordered, 0.0).unwrap();
    let values: Vec<f32> = columns.iter().map(|c| f32::from(values[*c])).collect();
    let genes: Vec<u32> = (0..values.len() as u32).collect();
    prepared(preparation, &genes, &values, &matching)
}
