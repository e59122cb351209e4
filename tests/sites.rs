//! Splice sites for aligners: every place that could be one has a line, whatever its surroundings;
//! and the tier `auto` finds what its least score asks for.

mod pieces;

use pieces::calls;
use std::path::Path;
use std::sync::OnceLock;
use strandline::annotate::builtin::{self, BuiltIn};
use strandline::annotate::{AnnotateError, Annotator, Clade, Options, Scorer, Task};
use strandline::call::{Call, CallKind, Strand, grade};
use strandline::lab::simulate::read_genes;
use strandline::model::manifest::Tier;
use strandline::reads::source::Input;

fn genes() -> &'static [Vec<u8>] {
    static GENES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    GENES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
        let genes = read_genes(Input::Path(path)).unwrap();
        genes.into_iter().map(|(_, codes)| codes).collect()
    })
}

fn annotator(tier: Tier, for_aligners: bool, min_score: Option<f32>) -> Annotator {
    let options = Options {
        tier,
        for_aligners,
        min_score,
        ..Options::default()
    };
    let model = builtin::model(Task::Splice, tier).unwrap();
    Annotator::new(vec![model], options).unwrap()
}

/// Where a site of a kind could be, from the letters of its strand.
fn could_be(letters: &str, at: usize, kind: CallKind) -> bool {
    match kind {
        CallKind::Donor => letters
            .get(at + 1..at + 3)
            .is_some_and(|pair| ["GT", "GC", "AT"].contains(&pair)),
        _ => at >= 2 && ["AG", "AC"].contains(&&letters[at - 2..at]),
    }
}

fn letters(codes: &[u8], strand: Strand) -> String {
    let forward = codes
        .iter()
        .map(|&code| b"ACGTN"[usize::from(code)] as char);
    match strand {
        Strand::Forward => forward.collect(),
        Strand::Reverse => {
            let complement = |letter| match letter {
                'A' => 'T',
                'C' => 'G',
                'G' => 'C',
                'T' => 'A',
                other => other,
            };
            forward.rev().map(complement).collect()
        }
    }
}

#[test]
fn every_place_that_could_be_a_site_is_called() {
    // Its own ends, and bases that are none, are part of it.
    let mut codes = genes()[2][..9_000].to_vec();
    codes[4_000..4_003].fill(4);
    for tier in [Tier::Fast, Tier::Accurate] {
        let mut scorer = Scorer::new(builtin::model(Task::Splice, tier).unwrap()).unwrap();
        let manifest = scorer.manifest().clone();
        let mut expected: Vec<(u64, Strand, CallKind, u32)> = vec![];
        for strand in [Strand::Forward, Strand::Reverse] {
            let letters = letters(&codes, strand);
            let mut scores: Vec<f32> = vec![];
            let took: Result<(), AnnotateError> = scorer.score(&codes, strand, |rows| {
                scores.extend(rows);
                Ok(())
            });
            took.unwrap();
            for (index, row) in scores.chunks_exact(2).enumerate() {
                let at = match strand {
                    Strand::Forward => index,
                    Strand::Reverse => codes.len() - 1 - index,
                };
                for (output, &score) in manifest.outputs.iter().zip(row) {
                    let kind = match output.name.as_str() {
                        "donor" => CallKind::Donor,
                        _ => CallKind::Acceptor,
                    };
                    let graded = score >= grade::least(output.base_rate);
                    if graded && could_be(&letters, at, kind) {
                        expected.push((index as u64, strand, kind, score.to_bits()));
                    }
                }
            }
        }
        let annotator = annotator(tier, true, None);
        let whole = calls(&annotator, &codes, &[usize::MAX]);
        let key = |call: &Call| (call.start, call.strand, call.kind, call.score.to_bits());
        let mut found: Vec<_> = whole.iter().map(key).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert!(expected.len() > 100, "{}", expected.len());
        assert_eq!(found, expected);
        assert_eq!(calls(&annotator, &codes, &[1, 700, 64]), whole);
    }
}

#[test]
fn auto_finds_what_its_least_score_asks_for() {
    for (for_aligners, min_score) in [
        (true, None),
        (false, Some(0.001)),
        (false, Some(0.01)),
        (false, Some(0.1)),
    ] {
        let [auto, accurate] = [Tier::Auto, Tier::Accurate].map(|tier| {
            let annotator = annotator(tier, for_aligners, min_score);
            let found = genes().iter().map(|gene| calls(&annotator, gene, &[4_000]));
            found.collect::<Vec<Vec<Call>>>()
        });
        let mut lost = 0;
        for (auto, accurate) in auto.iter().zip(&accurate) {
            lost += accurate.iter().filter(|call| !auto.contains(call)).count();
        }
        let count: usize = accurate.iter().map(Vec::len).sum();
        assert!(
            count > 30 && lost * 25 <= count,
            "{min_score:?}: {lost} of {count}"
        );
    }
}

#[test]
fn a_clade_has_a_network_of_its_own() {
    let names: Vec<String> = BuiltIn::all().map(|model| model.to_string()).collect();
    for clade in Clade::ALL {
        let task = Task::Splice;
        let own = BuiltIn { task, clade };
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!(names.contains(&own.to_string()));
        let file = own.file().unwrap();
        let cascade = file.manifest().cascade.clone().unwrap();
        let fast = own.model(Tier::Fast).unwrap().manifest().macs();
        let accurate = own.model(Tier::Accurate).unwrap().manifest().macs();
        assert!(fast <= 10_000 && cascade.columns == 2);
        let most = if clade == Clade::Vertebrate {
            80_000
        } else {
            40_000
        };
        assert!(accurate <= most, "{own}: {accurate}");
    }
    assert!("splice-fungus".parse::<BuiltIn>().is_err());
    assert!("promoter-plant".parse::<BuiltIn>().is_err());
}
