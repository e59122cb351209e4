//! Transcription factors, on the splice model under other terms: each output is a factor with a
//! name of its own, and what lies near promoter calls is what is found everywhere, there.

mod altered;
mod pieces;

use pieces::calls;
use std::path::Path;
use strandline::annotate::{AROUND_PROMOTERS, Options, Task, builtin};
use strandline::call::{Call, CallKind};
use strandline::lab::simulate::read_genes;
use strandline::model::file::ModelFile;
use strandline::model::manifest::Tier;
use strandline::model::map::Bytes;
use strandline::reads::source::Input;
use strandline::{Annotator, Model};

/// A model of two factors, `acceptor` and `donor`.
fn factors() -> Model {
    let bytes = altered::builtin_bytes(Task::Splice, |manifest| {
        manifest.task = Task::Tf.to_string();
        manifest.name = "sites".into();
        for output in &mut manifest.outputs {
            output.kind = Some(CallKind::Tf.to_string());
        }
    });
    let file = ModelFile::parse(Bytes::copy_of(&bytes).unwrap(), "factors").unwrap();
    Model::build_tier(file, Tier::Fast).unwrap()
}

fn annotator(everywhere: bool, eager: bool) -> Annotator {
    let options = Options {
        everywhere,
        eager,
        // Low, so that there is much to find.
        min_score: Some(0.02),
        ..Options::default()
    };
    let promoter = builtin::model(Task::Promoter, Tier::Auto).unwrap();
    Annotator::new(vec![promoter, factors()], options).unwrap()
}

fn sorted(mut calls: Vec<Call>) -> Vec<Call> {
    calls.sort_by_key(|c| (c.start, c.end, c.strand, c.kind, c.model));
    calls
}

#[test]
fn factors_are_found_near_promoters_as_everywhere() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
    let genes = read_genes(Input::Path(path)).unwrap();
    let (mut near, mut far) = (0, 0);
    for (_, gene) in &genes {
        let codes = &gene[..gene.len().min(30_000)];
        let all = sorted(calls(&annotator(true, false), codes, &[codes.len()]));
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
        let factors = |calls: &[Call]| calls.iter().filter(|c| c.kind == CallKind::Tf).count();
        near += factors(&expected);
        far += factors(&all) - factors(&expected);
        for pieces in [&[codes.len()][..], &[400], &[1, 7, 3000, 12], &[5000]] {
            // Live, calls leave as they come; a whole read's are sorted.
            let live = calls(&annotator(false, true), codes, pieces);
            assert_eq!(sorted(live), expected, "{pieces:?}");
            assert_eq!(
                calls(&annotator(false, false), codes, pieces),
                expected,
                "{pieces:?}"
            );
        }
    }
    assert!(
        near > 10 && far > 100,
        "{near} near promoters, {far} elsewhere"
    );
}

/// A stricter least score takes calls away, not what is looked around.
#[test]
fn what_is_looked_around_does_not_depend_on_the_least_score() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
    let genes = read_genes(Input::Path(path)).unwrap();
    let with = |min_score: f32| {
        let promoter = builtin::model(Task::Promoter, Tier::Auto).unwrap();
        let factors = builtin::model(Task::Tf, Tier::Auto).unwrap();
        let options = Options {
            min_score: Some(min_score),
            ..Options::default()
        };
        Annotator::new(vec![promoter, factors], options).unwrap()
    };
    let threshold = builtin::model(Task::Promoter, Tier::Auto).unwrap();
    let threshold = threshold.manifest().outputs[0].threshold;
    let mut found = 0;
    for (_, gene) in &genes {
        let codes = &gene[..gene.len().min(30_000)];
        let all = calls(&with(threshold), codes, &[codes.len()]);
        let strict: Vec<Call> = all.into_iter().filter(|call| call.score >= 0.9).collect();
        found += strict.len();
        assert_eq!(calls(&with(0.9), codes, &[3000]).len(), strict.len());
        assert_eq!(sorted(calls(&with(0.9), codes, &[400])), sorted(strict));
    }
    assert!(found > 5, "{found} calls");
}

#[test]
fn every_factor_has_its_name() {
    let annotator = annotator(true, true);
    let names: Vec<&str> = annotator.models().iter().map(|m| m.name.as_str()).collect();
    let expected = ["promoter-auto", "sites-fast:acceptor", "sites-fast:donor"];
    assert_eq!(names, expected);
    let codes: Vec<u8> = b"CCCAGGTAAGTCCTTTTTCTCTCCCTGCAGGATCC"
        .iter()
        .map(|l| strandline::nucleotide::code(*l))
        .collect();
    for call in calls(&annotator, &codes, &[codes.len()]) {
        assert!(usize::from(call.model) < names.len());
        assert_eq!(call.kind == CallKind::Promoter, call.model == 0);
    }
}

#[test]
fn without_promoters_there_is_nothing_to_look_around() {
    let error = Annotator::new(vec![factors()], Options::default())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("add the task promoter"),
        "{error}"
    );
    let everywhere = Options {
        everywhere: true,
        ..Options::default()
    };
    assert!(Annotator::new(vec![factors()], everywhere).is_ok());
}
