//! Token ids of 10,000 sequences against those of the published vocabularies, which
//! `tests/data/tokens.py` looks up word by word; and a small network as a language model, on
//! sequences of every length.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use strandline::annotate::{
    AROUND_PROMOTERS, AnnotateError, Intake, Options, Task, WholeScorer, WindowScorer, builtin,
};
use strandline::call::{Call, CallKind, Strand};
use strandline::lab::simulate::read_genes;
use strandline::model::file::{ModelFile, serialize};
use strandline::model::manifest::{Link, Manifest, Tier, Tokeniser, Window};
use strandline::model::map::Bytes;
use strandline::reads::nucleotide;
use strandline::reads::source::Input;
use strandline::tokenise::Vocabulary;
use strandline::{Annotator, Model};

#[allow(dead_code, reason = "other tests use the rest")]
mod altered;
mod pieces;

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

/// A network of random weights with ten ids, as a model of UTR-LM's letters: windows of 20 bases.
fn model(change: impl FnOnce(&mut Manifest)) -> Model {
    let file = ModelFile::open(&data("packed/bert_script.safetensors")).unwrap();
    let mut manifest = file.manifest().clone();
    manifest.tokeniser = Tokeniser::UtrLm;
    manifest.window = Some(Window {
        shortest: 3,
        longest: 20,
        stride: 5,
    });
    // Four windows in a run.
    manifest.tile = 90;
    change(&mut manifest);
    let bytes = serialize(&manifest, altered::tensors(&file)).unwrap();
    let file = ModelFile::parse(Bytes::copy_of(&bytes).unwrap(), "letters").unwrap();
    Model::build(file).unwrap()
}

fn codes(count: usize) -> Vec<u8> {
    let mut numbers = Numbers(3);
    (0..count).map(|_| numbers.below(5) as u8).collect()
}

fn windows(
    scorer: &mut WindowScorer,
    codes: &[u8],
    strand: Strand,
    stride: Option<usize>,
) -> Vec<(Range<usize>, Vec<f32>)> {
    let mut all = vec![];
    let windows = scorer.intake().windows(codes.len(), stride);
    let each = scorer.each(codes, windows, strand, |range, scores| {
        all.push((range, scores.to_vec()));
        Ok::<(), AnnotateError>(())
    });
    each.unwrap();
    all
}

#[test]
fn every_window_has_the_scores_of_its_letters() {
    let mut scorer = WindowScorer::new(model(|_| ())).unwrap();
    let mut runner = model(|_| ()).spawn().unwrap();
    let (mut ids, mut reverse) = (vec![], vec![]);
    for (length, count) in [
        (0, 0),
        (2, 0),
        (3, 1),
        (20, 1),
        (21, 2),
        (25, 2),
        (26, 3),
        (103, 18),
    ] {
        let codes = codes(length);
        for strand in [Strand::Forward, Strand::Reverse] {
            let own = windows(&mut scorer, &codes, strand, None);
            assert_eq!(own.len(), count, "{length}");
            for (range, scores) in &own {
                let mut letters = &codes[range.clone()];
                if strand == Strand::Reverse {
                    reverse.resize(letters.len(), 0);
                    nucleotide::reverse_complement(letters, &mut reverse);
                    letters = &reverse;
                }
                Vocabulary::UtrLm.encode(letters, &mut ids);
                assert_eq!(runner.run_ids(&ids).unwrap(), scores);
            }
            // Cut at other places, the windows in common are the same.
            let every = windows(&mut scorer, &codes, strand, Some(1));
            for window in &own {
                assert!(every.contains(window));
            }
            let mean = scorer.mean(&codes, None, strand).unwrap();
            let sum = own.iter().map(|(_, scores)| scores[1]).sum::<f32>();
            match mean {
                None => assert_eq!(count, 0),
                Some(mean) => assert!((mean[1] - sum / count as f32).abs() < 1e-5),
            }
            let mut whole = WholeScorer::new(model(|_| ())).unwrap();
            assert_eq!(whole.score(&codes, strand).unwrap(), mean_of(&own));
        }
    }
    let long = codes(1_000_000);
    assert_eq!(
        windows(&mut scorer, &long, Strand::Forward, Some(20)).len(),
        50_000
    );
}

fn mean_of(windows: &[(Range<usize>, Vec<f32>)]) -> Option<Vec<f32>> {
    let columns = windows.first()?.1.len();
    let mean = |column: usize| {
        let sum: f64 = windows
            .iter()
            .map(|(_, scores)| f64::from(scores[column]))
            .sum();
        (sum / windows.len() as f64) as f32
    };
    Some((0..columns).map(mean).collect())
}

#[test]
fn a_window_is_what_the_published_model_takes() {
    let six = Vocabulary::Dnabert(6);
    // 510 k-mers, and one more: DNABERT cuts there.
    for (bases, count) in [(515, 1), (516, 2), (0, 1), (1, 1)] {
        let windows = strandline::tokenise::Windows::new(bases, six.bases(512), 258);
        assert_eq!(windows.count(), count, "{bases}");
    }
    // Without a table it is what a tile holds; more than that is refused.
    let open = model(|manifest| manifest.window = None);
    let intake = Intake::of(open.manifest()).unwrap().unwrap();
    assert_eq!(
        (intake.sequence().shortest, intake.sequence().longest),
        (1, 88)
    );
    let mut manifest = open.manifest().clone();
    manifest.window = Some(Window {
        shortest: 1,
        longest: 89,
        stride: 0,
    });
    let error = Intake::of(&manifest).unwrap_err();
    assert!(
        error.contains("89 bases has 91 tokens with \"utr-lm\", a tile has 90"),
        "{error}"
    );
}

/// What a model of windows calls in a read, written out: windows at every fifth position.
fn expected(model: Model, codes: &[u8]) -> Vec<(u64, Strand, u8, f32)> {
    let mut scorer = WindowScorer::new(model).unwrap();
    let outputs = scorer.manifest().outputs.clone();
    let longest = scorer.intake().sequence().longest;
    let mut found = vec![];
    for strand in [Strand::Forward, Strand::Reverse] {
        let before = match strand {
            _ if codes.len() < longest => codes.len() / 2,
            Strand::Forward => longest / 2,
            Strand::Reverse => longest - 1 - longest / 2,
        };
        let length = codes.len().min(longest);
        let mut scores: Vec<(usize, Vec<f32>)> = vec![];
        for at in before..codes.len() {
            let end = at - before + length;
            if end <= codes.len() && (at % 5 == 0 || codes.len() <= longest) {
                let own = windows(&mut scorer, &codes[at - before..end], strand, None);
                scores.extend(own.into_iter().map(|(_, scores)| (at, scores)));
            }
        }
        if strand == Strand::Reverse {
            scores.reverse();
        }
        for (column, output) in outputs.iter().enumerate() {
            for (rank, (at, own)) in scores.iter().enumerate() {
                let is_lower = |other: usize, (there, its): &(usize, Vec<f32>)| {
                    there.abs_diff(*at) > output.separation
                        || its[column] < own[column]
                        || (its[column] == own[column] && other >= rank)
                };
                let peak = scores.iter().enumerate().all(|(o, its)| is_lower(o, its));
                if peak && own[column] >= output.threshold {
                    found.push((*at as u64, strand, column as u8, own[column]));
                }
            }
        }
    }
    found.sort_by_key(|call| (call.0, call.1, call.2));
    found
}

#[test]
fn windows_make_calls_in_reads_however_they_are_cut() {
    let mut made = 0;
    for (longest, separations) in [(20, [12, 3]), (50, [0, 0]), (51, [0, 1])] {
        made += calls_of_windows(longest, separations);
    }
    assert!(made > 500, "{made} calls");
}

/// A model of two factors: windows of `longest` bases, five apart.
fn factors(longest: usize, separations: [usize; 2]) -> Model {
    model(|manifest| {
        manifest.task = Task::Tf.to_string();
        manifest.window = Some(Window {
            shortest: 3,
            longest,
            stride: 5,
        });
        for (output, separation) in manifest.outputs.iter_mut().zip(separations) {
            output.kind = Some(CallKind::Tf.to_string());
            (output.link, output.threshold) = (Link::Logit, 0.4);
            (output.separation, output.base_rate) = (separation, 0.5);
        }
    })
}

fn calls_of_windows(longest: usize, separations: [usize; 2]) -> usize {
    let mut made = 0;
    for length in [0, 2, 3, 12, 19, 20, 21, 34, 49, 50, 51, 52, 70, 500, 9_000] {
        let codes = codes(length);
        let expected = expected(factors(longest, separations), &codes);
        made += expected.len();
        for eager in [true, false] {
            let options = Options {
                everywhere: true,
                eager,
                ..Options::default()
            };
            let annotator = Annotator::new(vec![factors(longest, separations)], options).unwrap();
            assert!(annotator.context() >= 10);
            for sizes in [&[9_000][..], &[1], &[400], &[7, 60, 1, 3_000]] {
                let calls = pieces::calls(&annotator, &codes, sizes);
                let calls = calls.iter().map(|c| (c.start, c.strand, c.model, c.score));
                let mut calls: Vec<_> = calls.collect();
                calls.sort_by_key(|call| (call.0, call.1, call.2));
                assert_eq!(calls, expected, "{length} {sizes:?}");
            }
        }
    }
    made
}

/// As the factors of a network that scores every base: see `tests/factors.rs`.
#[test]
fn windows_near_promoters_are_those_found_everywhere() {
    let genes = read_genes(Input::Path(data("genes.fa.gz"))).unwrap();
    let (mut near, mut far) = (0, 0);
    for (_, gene) in genes.iter().take(3) {
        let codes = &gene[..gene.len().min(20_000)];
        let annotator = |everywhere, eager| {
            let options = Options {
                everywhere,
                eager,
                ..Options::default()
            };
            let promoter = builtin::model(Task::Promoter, Tier::Auto).unwrap();
            Annotator::new(vec![promoter, factors(20, [12, 3])], options).unwrap()
        };
        let sorted = |mut calls: Vec<Call>| {
            calls.sort_by_key(|c| (c.start, c.strand, c.kind, c.model));
            calls
        };
        let all = sorted(pieces::calls(
            &annotator(true, false),
            codes,
            &[codes.len()],
        ));
        let promoters: Vec<u64> = all
            .iter()
            .filter(|call| call.kind == CallKind::Promoter)
            .map(|call| call.start)
            .collect();
        let is_near = |call: &&Call| {
            let close = |at: &u64| at.abs_diff(call.start) <= AROUND_PROMOTERS;
            call.kind == CallKind::Promoter || promoters.iter().any(close)
        };
        let expected: Vec<Call> = all.iter().filter(is_near).copied().collect();
        near += expected.len() - promoters.len();
        far += all.len() - expected.len();
        for sizes in [&[codes.len()][..], &[400], &[1, 7, 3000, 12]] {
            for eager in [true, false] {
                let own = pieces::calls(&annotator(false, eager), codes, sizes);
                assert_eq!(sorted(own), expected, "{sizes:?}");
            }
        }
    }
    assert!(near > 20 && far > 100, "{near} near, {far} elsewhere");
}

#[test]
fn windows_far_apart_are_no_splice_sites() {
    let sites = model(|manifest| {
        manifest.task = Task::Splice.to_string();
        for output in &mut manifest.outputs {
            output.kind = Some(CallKind::Donor.to_string());
        }
    });
    let refused = Annotator::new(vec![sites], Options::default());
    let text = refused.err().unwrap().to_string();
    assert!(text.contains("stride = 1"), "{text}");
}

#[test]
fn letters_go_through_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_strandline"))
            .current_dir(folder.path())
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{words:?}: {said}");
        String::from_utf8(run.stdout).unwrap()
    };
    let onnx = data("onnx/bert_script.onnx").display().to_string();
    let mut manifest = run(&["pack", &onnx, "--print-manifest"]);
    manifest = manifest.replace("tokeniser = \"ids\"", "tokeniser = \"utr-lm\"");
    manifest += "\n[window]\nshortest = 1\nlongest = 20\n";
    fs::write(folder.path().join("m.toml"), manifest).unwrap();
    let records = ">a\nACGTACGTNACGTACGTACGTAGGCCAATTG\n>b\nacguuagc\n>c\nT\n";
    fs::write(folder.path().join("r.fa"), records).unwrap();
    let reads = data("reads.fastq.gz").display().to_string();
    run(&[
        "pack",
        &onnx,
        "--manifest",
        "m.toml",
        "--calibrate",
        &reads,
        "-o",
        "m.safetensors",
    ]);
    run(&["verify", "m.safetensors", "--against", &onnx, "r.fa"]);
    run(&[
        "bench-model",
        "m.safetensors",
        "--input",
        "r.fa",
        "--runs",
        "1",
    ]);
    let score = ["score", "r.fa", "--model", "m.safetensors"];
    let whole = run(&[&score[..], &["--whole", "-o", "-"]].concat());
    let lines: Vec<Vec<&str>> = whole
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 4);
    let each = run(&[&score[..], &["--whole", "--long", "windows", "-o", "-"]].concat());
    let windows: Vec<Vec<&str>> = each
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    // Of 31 bases: 0 to 20, 10 to 30, 11 to 31.
    let places: Vec<&[&str]> = windows.iter().skip(1).map(|line| &line[..3]).collect();
    let expected = [
        ["a", "0", "20"],
        ["a", "10", "30"],
        ["a", "11", "31"],
        ["b", "0", "8"],
        ["c", "0", "1"],
    ];
    assert_eq!(places, expected);
    assert_eq!(
        lines[2][1..],
        windows[4][3..],
        "a record that is one window"
    );
    // A row a base, of the window whose centre is nearest.
    run(&[&score[..], &["--strand", "forward", "-o", "bases"]].concat());
    let index = fs::read_to_string(folder.path().join("bases/index.tsv")).unwrap();
    assert_eq!(index.lines().count(), 4);
    let array = fs::read(folder.path().join("bases/00000001.forward.npy")).unwrap();
    let rows: Vec<f32> = array[array.len() - 31 * 8..]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    for (position, window) in [(0, 1), (14, 1), (15, 2), (19, 2), (20, 2), (21, 3), (30, 3)] {
        let expected: f32 = windows[window][3].parse().unwrap();
        assert!((rows[2 * position] - expected).abs() < 1e-6, "{position}");
    }
}
