use super::curve::Curve;
use super::*;
use proptest::prelude::*;

fn one_curve(labelled: &[(f32, bool)], max_distinct: usize) -> Curve {
    let mut curve = Curve::new(max_distinct);
    for &(score, is_true) in labelled {
        curve.add(score, is_true);
    }
    curve
}

/// The mean over the true sites of the precision at their own score, by counting for each of them.
fn naive_average_precision(labelled: &[(f32, bool)]) -> Option<f64> {
    let true_scores: Vec<f32> = labelled.iter().filter(|l| l.1).map(|l| l.0).collect();
    let precision = |score: f32| {
        let above = labelled.iter().filter(|l| l.0 >= score);
        let (all, hits) = above.fold((0, 0), |(all, hits), l| (all + 1, hits + usize::from(l.1)));
        hits as f64 / f64::from(all)
    };
    let sum: f64 = true_scores.iter().map(|&score| precision(score)).sum();
    (!true_scores.is_empty()).then(|| sum / true_scores.len() as f64)
}

/// Sorts, takes k, and averages over the best and the worst order of ties by linearity: each member
/// of the tie at the k-th place is in with the same probability.
fn naive_top_k(labelled: &[(f32, bool)]) -> Option<f64> {
    let k = labelled.iter().filter(|l| l.1).count();
    if k == 0 {
        return None;
    }
    let mut sorted = labelled.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let last = sorted[k - 1].0;
    let above = sorted.iter().filter(|l| l.0 > last);
    let tied: Vec<_> = sorted.iter().filter(|l| l.0 == last).collect();
    let sure = above.clone().filter(|l| l.1).count() as f64;
    let chance = (k - above.count()) as f64 / tied.len() as f64;
    let luck = tied.iter().filter(|l| l.1).count() as f64 * chance;
    Some((sure + luck) / k as f64)
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (a, b) => a == b,
    }
}

#[test]
fn figures_of_a_small_case() {
    // Average precision (1/1 + 2/3 + 3/5) / 3; two of the three highest are true.
    let labelled = [
        (0.9, true),
        (0.8, false),
        (0.7, true),
        (0.6, false),
        (0.5, true),
        (0.0, false),
    ];
    let curve = one_curve(&labelled, 100);
    assert!(same(
        curve.average_precision(),
        Some((1.0 + 2.0 / 3.0 + 0.6) / 3.0)
    ));
    assert!(same(curve.top_k(), Some(2.0 / 3.0)));

    // All equal: chance level in both figures.
    let ties = [(0.5, true), (0.5, false), (0.5, false), (0.5, false)];
    let curve = one_curve(&ties, 100);
    assert!(same(curve.average_precision(), Some(0.25)));
    assert!(same(curve.top_k(), Some(0.25)));

    // Below the floor everything is one tie.
    let low = [(0.9, false), (1e-4, true), (1e-5, false), (-0.0, false)];
    let curve = one_curve(&low, 100);
    assert!(same(curve.average_precision(), Some(0.25)));
    assert!(same(curve.top_k(), Some(0.0)));
    assert_eq!((curve.positives(), curve.total()), (1, 4));
}

#[test]
fn a_full_curve_raises_its_floor_and_loses_no_count() {
    let labelled: Vec<_> = (0..1000)
        .map(|i| (0.002 + i as f32 / 2000.0, i >= 990 || i == 3))
        .collect();
    let curve = one_curve(&labelled, 64);
    assert!(curve.floor() > 0.4);
    assert_eq!((curve.positives(), curve.total()), (11, 1000));
    // Ten of the eleven highest, whatever lies far below them.
    assert!(same(curve.top_k(), Some(10.0 / 11.0)));
    let exact = naive_average_precision(&labelled).unwrap();
    assert!((curve.average_precision().unwrap() - exact).abs() < 0.002);
}

proptest! {
    #[test]
    fn figures_agree_with_counting(
        labelled in prop::collection::vec((0u8..40, prop::bool::weighted(0.2)), 1..200),
        split in 0usize..200,
    ) {
        let labelled: Vec<_> = labelled
            .into_iter()
            .map(|(score, is_true)| (0.01 + f32::from(score) / 50.0, is_true))
            .collect();
        let split = split.min(labelled.len());
        let mut curve = one_curve(&labelled[..split], 1000);
        curve.merge(&one_curve(&labelled[split..], 1000));
        prop_assert!(same(curve.average_precision(), naive_average_precision(&labelled)));
        prop_assert!(same(curve.top_k(), naive_top_k(&labelled)));
    }

    #[test]
    fn curves_of_different_floors_merge(scores in prop::collection::vec(0.0f32..1.0, 1..300)) {
        let labelled: Vec<_> = scores.iter().map(|&s| (s, s > 0.8)).collect();
        let half = labelled.len() / 2;
        let mut small = one_curve(&labelled[..half], 16);
        small.merge(&one_curve(&labelled[half..], 1000));
        let mut large = one_curve(&labelled[half..], 1000);
        large.merge(&one_curve(&labelled[..half], 16));
        for curve in [small, large] {
            prop_assert_eq!(curve.total(), labelled.len() as u64);
            prop_assert_eq!(curve.positives(), labelled.iter().filter(|l| l.1).count() as u64);
        }
    }
}

#[test]
fn reads_fall_into_their_lengths_and_both_strands_count() {
    let mut evaluation = Evaluation::new(&[(CallKind::Donor, 0.5), (CallKind::Acceptor, 0.3)]);
    let mut scores = vec![0.0; 999];
    scores[10] = 0.9;
    scores[20] = 0.5;
    scores[30] = 0.4;
    let mut long = vec![0.0; 10_000];
    long[9_999] = 0.6;
    for strand in [Strand::Forward, Strand::Reverse] {
        // 10 and 30 are true: of the two calls one is right, of the two sites one is found.
        evaluation
            .add_read(CallKind::Donor, strand, &scores, [30, 10])
            .unwrap();
        evaluation
            .add_read(CallKind::Donor, strand, &long, [9_999])
            .unwrap();
    }
    evaluation
        .add_read(CallKind::Acceptor, Strand::Forward, &[0.2; 1_000], [])
        .unwrap();

    let report = evaluation.report();
    let names: Vec<_> = report.rows.iter().map(|r| (r.kind, r.lengths)).collect();
    assert_eq!(
        names,
        [
            (CallKind::Donor, "all"),
            (CallKind::Donor, "<1k"),
            (CallKind::Donor, ">=10k"),
            (CallKind::Acceptor, "all"),
            (CallKind::Acceptor, "1k-2k"),
        ]
    );
    let short = &report.rows[1];
    assert_eq!(
        (short.reads, short.decisions, short.sites, short.calls),
        (1, 1998, 4, 4)
    );
    assert_eq!((short.precision, short.recall), (Some(0.5), Some(0.5)));
    // Scores .9 ×2 true, .5 ×2 false, .4 ×2 true.
    assert!(same(short.auprc, Some((1.0 + 4.0 / 6.0) / 2.0)));
    assert!(same(short.top_k, Some(0.5)));
    let all = report.overall(CallKind::Donor).unwrap();
    assert_eq!((all.reads, all.sites, all.calls), (2, 6, 6));
    assert!(same(all.top_k, Some(4.0 / 6.0)));
    let acceptor = report.overall(CallKind::Acceptor).unwrap();
    assert_eq!(
        (
            acceptor.top_k,
            acceptor.auprc,
            acceptor.precision,
            acceptor.recall
        ),
        (None, None, None, None)
    );

    let table = report.to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "kind      length     reads    decisions   sites  top-k  AUPRC threshold    calls \
             precision recall",
            "donor     all            2        21998       6  0.667  0.917    0.5000        6     \
             0.667  0.667",
            "donor     <1k            1         1998       4  0.500  0.833    0.5000        4     \
             0.500  0.500",
        ]
    );
    assert!(lines[4].ends_with("0      -      -    0.3000        0         -      -"));
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let mut evaluation = Evaluation::new(&[(CallKind::Donor, 0.5)]);
    let forward = Strand::Forward;
    let message = |r: Result<(), EvaluateError>| r.unwrap_err().to_string();
    assert_eq!(
        message(evaluation.add_read(CallKind::Donor, forward, &[0.0; 5], [5])),
        "a true site at position 5 of a read of 5 bases"
    );
    assert_eq!(
        message(evaluation.add_read(CallKind::Donor, forward, &[0.1, f32::NAN], [])),
        "the score at position 1 is NaN, not a probability"
    );
    assert_eq!(
        message(evaluation.add_read(CallKind::Donor, forward, &[0.1, 1.5], [])),
        "the score at position 1 is 1.5, not a probability"
    );
    assert_eq!(
        message(evaluation.add_read(CallKind::Acceptor, forward, &[0.1], [])),
        "no threshold for acceptor"
    );
    assert_eq!(evaluation.report().rows[0].decisions, 0);
}
