//! `explain` and `motifs`: substitutions against whole runs, and what is known of a donor.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use strandline::annotate::{Scorer, builtin};
use strandline::call::Strand;
use strandline::model::manifest::Tier;
use strandline::reads::nucleotide;
use strandline::{AnnotateError, Task};

fn genes() -> Vec<(String, Vec<u8>)> {
    use std::io::Read;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
    let mut text = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap());
    reader.read_to_string(&mut text).unwrap();
    let mut genes: Vec<(String, Vec<u8>)> = vec![];
    for line in text.lines() {
        match line.strip_prefix('>') {
            Some(name) => genes.push((name.split(' ').next().unwrap().into(), vec![])),
            None => nucleotide::encode(line.as_bytes(), &mut genes.last_mut().unwrap().1),
        }
    }
    genes
}

fn letters(codes: &[u8]) -> String {
    let letters = codes.iter().map(|&c| char::from(nucleotide::letter(c)));
    letters.collect()
}

fn strandline(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder)
        .args(words)
        .output()
        .unwrap()
}

/// Whatever is replaced, the scores are those of the whole sequence with it, to the bit.
#[test]
fn a_replaced_base_gives_the_scores_of_a_whole_run() {
    let (_, gene) = &genes()[0];
    let whole = |scorer: &mut Scorer, codes: &[u8], strand| {
        let mut all = vec![];
        let done: Result<(), AnnotateError> = scorer.score(codes, strand, |scores| {
            all.extend_from_slice(scores);
            Ok(())
        });
        done.unwrap();
        all
    };
    for (task, tier) in [
        (Task::Splice, Tier::Fast),
        (Task::Splice, Tier::Accurate),
        (Task::Promoter, Tier::Fast),
        (Task::Promoter, Tier::Accurate),
    ] {
        let model = || builtin::model(task, tier).unwrap();
        let (mut scorer, mut other) =
            (Scorer::new(model()).unwrap(), Scorer::new(model()).unwrap());
        let columns = scorer.manifest().outputs.len();
        let mut state = 1u64;
        let mut below = |most: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % most
        };
        for round in 0..24 {
            let length = [60, 900, 6000][round % 3];
            let start = below(gene.len() - length);
            let mut codes = gene[start..start + length].to_vec();
            let strand = [Strand::Forward, Strand::Reverse][round / 3 % 2];
            let from = below(length);
            let wanted = from..(from + 1 + below(120)).min(length);
            let mut first = vec![];
            let see = |scores: &[f32]| first.extend_from_slice(scores);
            scorer
                .take_in(&codes, (0, true), wanted.clone(), strand, see)
                .unwrap();
            let cells = wanted.start * columns..wanted.end * columns;
            assert_eq!(first, whole(&mut other, &codes, strand)[cells.clone()]);
            for _ in 0..4 {
                let index = match below(2) {
                    0 => below(length),
                    _ => (wanted.start + below(400))
                        .saturating_sub(200)
                        .min(length - 1),
                };
                let code = below(5) as u8;
                let mut changed = vec![];
                let see = |scores: &[f32]| changed.extend_from_slice(scores);
                scorer.with(index, code, see).unwrap();
                let own = std::mem::replace(&mut codes[index], code);
                let expected = &whole(&mut other, &codes, strand)[cells.clone()];
                codes[index] = own;
                assert_eq!(
                    changed, expected,
                    "{task} {tier:?} {strand} {length} {index} {code}"
                );
            }
        }
        // A substitution far from what is wanted costs nothing, one near it some of all rows.
        let codes = &gene[..8000];
        scorer
            .take_in(codes, (0, true), 4000..4001, Strand::Forward, |_| ())
            .unwrap();
        scorer.with(100, 4, |_| ()).unwrap();
        assert_eq!(scorer.rows(), 0);
        scorer.with(4000, 4, |_| ()).unwrap();
        assert!(scorer.rows() > 0, "{task}");
    }
}

#[test]
fn a_donor_depends_on_its_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (name, gene) = &genes()[0];
    let sites = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sites.tsv");
    let sites = fs::read_to_string(sites).unwrap();
    let site = sites
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let mut site = site.filter(|site| site[0] == name && site[5] == "donor");
    let at: usize = site.nth(1).unwrap()[4].parse().unwrap();
    let reverse: Vec<u8> = gene
        .iter()
        .rev()
        .map(|&c| nucleotide::complement(c))
        .collect();
    let text = format!(">g\n{}\n>r\n{}\n", letters(gene), letters(&reverse));
    fs::write(folder.path().join("g.fa"), text).unwrap();
    let run = |more: &[&str]| {
        let words = ["explain", "g.fa", "--task", "splice", "--flank", "30"];
        let run = strandline(folder.path(), &[&words[..], more].concat());
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        String::from_utf8(run.stdout).unwrap()
    };
    for (record, at, after) in [("g", at, [1, 2]), ("r", gene.len() - 1 - at, [-1, -2])] {
        let text = run(&["--at", &at.to_string(), "--tier", "fast"]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        assert_eq!(rows[0].len(), 12);
        let own = rows
            .iter()
            .filter(|row| row[0] == record && row[1] == "donor");
        let mut own: Vec<(&Vec<&str>, f32)> = own.map(|r| (r, r[7].parse().unwrap())).collect();
        assert_eq!(own.len(), 61);
        assert!(own.iter().all(|(row, _)| row[2] == at.to_string()));
        let score: f32 = own[0].0[4].parse().unwrap();
        assert!(score > 0.5, "{score}");
        // The GT behind the exon is worth most.
        own.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut first: Vec<i64> = own[..2]
            .iter()
            .map(|(row, _)| row[5].parse().unwrap())
            .collect();
        let mut expected = after.map(|step| at as i64 + step);
        first.sort_unstable();
        expected.sort_unstable();
        assert_eq!(first, expected, "{record}");
        let changes: Vec<f32> = own[0].0[8..].iter().map(|x| x.parse().unwrap()).collect();
        assert!(changes.iter().all(|change| *change <= 0.0), "{changes:?}");
        assert!(changes.iter().any(|change| *change < -0.4), "{changes:?}");
    }
    let track = run(&[
        "--at",
        &at.to_string(),
        "--format",
        "bedgraph",
        "--tier",
        "fast",
    ]);
    assert_eq!(
        track
            .lines()
            .filter(|line| line.starts_with("track "))
            .count(),
        4
    );
    run(&["--format", "svg", "-o", "pictures", "--tier", "fast"]);
    let pictures = fs::read_dir(folder.path().join("pictures")).unwrap();
    let names: Vec<String> = pictures
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| name.ends_with(".svg")));
}

#[test]
fn donors_have_a_motif_and_shuffled_sequences_none() {
    let folder = tempfile::tempdir().unwrap();
    let genes = genes();
    let sites = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sites.tsv");
    let sites = fs::read_to_string(sites).unwrap();
    let [mut positives, mut negatives, mut shuffled, mut others] = [(); 4].map(|()| String::new());
    let mut state = 7u64;
    let mut below = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % most
    };
    for (number, line) in sites.lines().skip(1).enumerate() {
        let site: Vec<&str> = line.split('\t').collect();
        let (_, gene) = genes.iter().find(|(name, _)| name == site[0]).unwrap();
        let at: usize = site[4].parse().unwrap();
        if site[5] == "donor" && at > 100 && at + 100 < gene.len() {
            let own = &gene[at - 100..at + 100];
            positives += &format!(">p{number}\n{}\n", letters(own));
            let mut own = own.to_vec();
            for copy in 0..5 {
                for k in (1..own.len()).rev() {
                    own.swap(k, below(k + 1));
                }
                let set = if copy == 0 {
                    &mut shuffled
                } else {
                    &mut others
                };
                *set += &format!(">s{number}\n{}\n", letters(&own));
            }
        }
        for _ in 0..4 {
            let at = below(gene.len() - 200);
            negatives += &format!(">n{number}\n{}\n", letters(&gene[at..at + 200]));
        }
    }
    for (name, text) in [
        ("p.fa", &positives),
        ("n.fa", &negatives),
        ("s.fa", &shuffled),
        ("o.fa", &others),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let run = |positives: &str, negatives: &str, more: &[&str]| {
        let words = [
            "motifs", positives, negatives, "--task", "splice", "--tier", "fast",
        ];
        let run = strandline(folder.path(), &[&words[..], more].concat());
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        (String::from_utf8(run.stdout).unwrap(), said)
    };
    let (found, said) = run("p.fa", "n.fa", &["--strand", "forward", "--logos", "logos"]);
    assert!(found.starts_with("MEME version 4"), "{found}");
    let motif = found
        .lines()
        .find(|line| line.starts_with("MOTIF"))
        .expect(&said);
    assert!(motif.contains("GTA") || motif.contains("GTG"), "{motif}");
    let logos = fs::read_dir(folder.path().join("logos")).unwrap().count();
    assert_eq!(logos, found.matches("MOTIF").count());
    let (none, said) = run("s.fa", "o.fa", &["--strand", "forward"]);
    assert_eq!(none.matches("MOTIF").count(), 0, "{none}");
    assert!(said.contains("0 motifs"), "{said}");
    fs::write(folder.path().join("e.fa"), "").unwrap();
    for (words, file) in [
        (["motifs", "p.fa", "e.fa"], "e.fa"),
        (["motifs", "e.fa", "n.fa"], "e.fa"),
    ] {
        let run = strandline(folder.path(), &[&words[..], &["--task", "splice"]].concat());
        assert_eq!(run.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&run.stderr).contains(file));
    }
    // A folder that holds pictures is left alone.
    let words = [
        "motifs", "p.fa", "n.fa", "--task", "splice", "--logos", "logos",
    ];
    let again = strandline(folder.path(), &words);
    assert_eq!(again.status.code(), Some(2));
}
