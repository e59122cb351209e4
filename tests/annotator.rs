//! The promises of the library, on the built-in models: the calls of a read do not depend on how it
//! is cut, on the tile, on threads or on what the state held before; the reverse strand is the
//! forward strand of the reverse complement; calls obey their rule, come in order and carry the
//! flags they should.

mod altered;

use proptest::prelude::*;
use std::path::Path;
use std::sync::OnceLock;
use strandline::annotate::Task;
use strandline::annotate::calibrate::Calibration;
use strandline::annotate::{
    AnnotateError, Molecule, Options, Priors, Scorer, Strands, WholeScorer,
};
use strandline::annotate::{builtin, kind};
use strandline::call::Strand;
use strandline::call::{Call, CallKind, Flags};
use strandline::lab::simulate::read_genes;
use strandline::model::file::ModelFile;
use strandline::model::manifest::Tier;
use strandline::model::map::Bytes;
use strandline::reads::nucleotide::{self, N, letter, reverse_complement};
use strandline::reads::source::Input;
use strandline::{Annotator, Model, ReadState};

/// Low enough that every read has calls.
const LEAST: f32 = 0.02;

fn genes() -> &'static [Vec<u8>] {
    static GENES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    GENES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
        let genes = read_genes(Input::Path(path)).unwrap();
        genes.into_iter().map(|(_, codes)| codes).collect()
    })
}

fn options() -> Options {
    Options {
        min_score: Some(LEAST),
        max_starts: 3,
        ..Options::default()
    }
}

fn all_models() -> Vec<Model> {
    let models = Task::CALLING.map(|task| builtin::model(task, Tier::Auto).unwrap());
    models.into()
}

/// All tasks that make calls, on both strands.
fn annotator(eager: bool) -> &'static Annotator {
    static EAGER: OnceLock<Annotator> = OnceLock::new();
    static LAZY: OnceLock<Annotator> = OnceLock::new();
    let place = if eager { &EAGER } else { &LAZY };
    place.get_or_init(|| {
        let options = Options { eager, ..options() };
        Annotator::new(all_models(), options).unwrap()
    })
}

/// The same where no tier rules anything out.
fn accurate() -> &'static Annotator {
    static ACCURATE: OnceLock<Annotator> = OnceLock::new();
    ACCURATE.get_or_init(|| {
        let models = Task::CALLING.map(|task| builtin::model(task, Tier::Accurate).unwrap());
        let options = Options {
            eager: false,
            ..options()
        };
        Annotator::new(models.into(), options).unwrap()
    })
}

/// The same with a call at every local peak and every start codon.
fn crowded(eager: bool) -> &'static Annotator {
    static EAGER: OnceLock<Annotator> = OnceLock::new();
    static LAZY: OnceLock<Annotator> = OnceLock::new();
    let place = if eager { &EAGER } else { &LAZY };
    place.get_or_init(|| {
        let options = Options {
            min_score: Some(0.0),
            max_starts: 10_000,
            eager,
            ..options()
        };
        // Everywhere: what tier auto leaves out is no call whatever the least score.
        let models = Task::CALLING.map(|task| builtin::model(task, Tier::Accurate).unwrap());
        Annotator::new(models.into(), options).unwrap()
    })
}

/// What calls are sorted by.
fn order(call: &Call) -> (u64, u64, Strand, CallKind, u8) {
    (call.start, call.end, call.strand, call.kind, call.model)
}

/// The calls of each model, as they came.
fn by_model(calls: &[Call]) -> Vec<Vec<Call>> {
    let models = 0..all_models().len() as u8;
    let of = |model| calls.iter().filter(|c| c.model == model).copied().collect();
    models.map(of).collect()
}

fn finish(mut read: ReadState, calls: &mut Vec<Call>) {
    read.finish(calls).unwrap();
}

fn calls_of(annotator: &Annotator, codes: &[u8]) -> Vec<Call> {
    let (mut read, mut calls) = (annotator.read(), vec![]);
    read.push_codes(codes, &mut calls).unwrap();
    finish(read, &mut calls);
    calls
}

fn calls_in_pieces(annotator: &Annotator, codes: &[u8], sizes: &[usize]) -> Vec<Call> {
    let (mut read, mut calls, mut rest) = (annotator.read(), vec![], codes);
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        read.push_codes(piece, &mut calls).unwrap();
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    finish(read, &mut calls);
    calls
}

fn reversed(codes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; codes.len()];
    reverse_complement(codes, &mut out);
    out
}

/// A place that every call has exactly one of, whatever the order.
fn sorted(mut calls: Vec<Call>) -> Vec<Call> {
    calls.sort_by_key(|c| (c.start, c.end, c.strand, c.kind, c.model));
    calls
}

fn mirrored(calls: &[Call], length: usize) -> Vec<Call> {
    let length = length as u64;
    let mirror = |call: &Call| Call {
        start: length - call.end,
        end: length - call.start,
        strand: match call.strand {
            Strand::Forward => Strand::Reverse,
            Strand::Reverse => Strand::Forward,
        },
        ..*call
    };
    calls.iter().map(mirror).collect()
}

/// A piece of a gene with up to three runs of N in it.
fn reads(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let runs = proptest::collection::vec((0.0..1.0f64, 1usize..30), 0..3);
    (0usize..5, 0.0..1.0f64, 0..=longest, runs).prop_map(|(gene, at, length, runs)| {
        let gene = &genes()[gene];
        let length = length.min(gene.len());
        let from = ((gene.len() - length) as f64 * at) as usize;
        let mut codes = gene[from..from + length].to_vec();
        for (at, run) in runs {
            let from = (length as f64 * at) as usize;
            codes[from..(from + run).min(length)].fill(N);
        }
        codes
    })
}

/// Fewer where the processor is most likely emulated, and a case takes a hundred times as long.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(target_arch = "x86_64") {
            cases
        } else {
            cases.div_ceil(20)
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn calls_do_not_depend_on_chunking(
        codes in reads(18_000),
        sizes in proptest::collection::vec(200usize..5_000, 1..6),
        eager: bool,
    ) {
        let whole = calls_of(crowded(false), &codes);
        let pieces = calls_in_pieces(crowded(eager), &codes, &sizes);
        if eager {
            prop_assert!(by_model(&pieces).iter().all(|calls| calls.is_sorted_by_key(order)));
            prop_assert!(by_model(&pieces) == by_model(&whole));
        } else {
            prop_assert!(pieces == whole);
        }
    }

    #[test]
    fn memory_for_kept_rows_changes_no_call(
        codes in reads(9_000),
        other in reads(9_000),
        sizes in proptest::collection::vec(20usize..2_000, 1..6),
        memory in prop_oneof![Just(0), 0usize..3_000_000],
    ) {
        let options = Options { kept_memory: memory, ..options() };
        let bounded = Annotator::new(all_models(), options).unwrap();
        // Two reads at a time: who has no room any more may be in the middle of one.
        let (mut reads, mut calls) = ([bounded.read(), bounded.read()], [vec![], vec![]]);
        let mut rests = [&*codes, &*other];
        for size in sizes.iter().cycle() {
            for (at, read) in reads.iter_mut().enumerate() {
                let (piece, rest) = rests[at].split_at(rests[at].len().min(*size));
                read.push_codes(piece, &mut calls[at]).unwrap();
                rests[at] = rest;
            }
            if rests.iter().all(|rest| rest.is_empty()) {
                break;
            }
        }
        let kept = bounded.kept();
        prop_assert!(kept.bytes <= memory, "{kept:?}");
        for ((mut read, mut calls), codes) in reads.into_iter().zip(calls).zip([&codes, &other]) {
            read.finish(&mut calls).unwrap();
            let whole = calls_of(annotator(true), codes);
            prop_assert!(by_model(&calls) == by_model(&whole), "{kept:?}");
        }
    }

    #[test]
    fn reverse_strand_is_the_forward_strand_of_the_reverse_complement(codes in reads(12_000)) {
        let own = calls_of(annotator(false), &codes);
        let other = calls_of(annotator(false), &reversed(&codes));
        prop_assert_eq!(sorted(mirrored(&other, codes.len())), sorted(own));
    }

    #[test]
    fn scores_of_every_base_mirror_too(codes in reads(12_000)) {
        for task in [Task::Splice, Task::Promoter] {
            let mut scorer = Scorer::new(builtin::model(task, Tier::Auto).unwrap()).unwrap();
            let columns = scorer.manifest().outputs.len();
            let reverse = scorer.raw(&codes, Strand::Reverse).unwrap();
            let forward = scorer.raw(&reversed(&codes), Strand::Forward).unwrap();
            prop_assert_eq!(reverse.len(), codes.len() * columns);
            let rows = forward.chunks_exact(columns).rev();
            let mirrored: Vec<f32> = rows.flatten().copied().collect();
            prop_assert!(bits(&mirrored) == bits(&reverse));
        }
    }

    #[test]
    fn calls_and_flags_follow_their_rule(codes in reads(12_000)) {
        let calls = calls_of(accurate(), &codes);
        prop_assert!(calls.is_sorted_by_key(order));
        prop_assert!(calls.iter().all(|c| c.start < c.end && c.end <= codes.len() as u64));
        for (number, task) in [(0, Task::Splice), (1, Task::Promoter)] {
            let own: Vec<Call> = calls.iter().filter(|c| c.model == number).copied().collect();
            prop_assert_eq!(sorted(own), sorted(expected_calls(task, number, &codes)));
        }
    }
}

#[test]
fn rows_of_reads_that_are_over_make_room() {
    let push = |annotator: &Annotator| {
        let mut read = annotator.read();
        let mut calls: Vec<Call> = vec![];
        for piece in genes()[0][..6_000].chunks(400) {
            read.push_codes(piece, &mut calls).unwrap();
        }
        read
    };
    let kept = |task: Task| {
        let model = builtin::model(task, Tier::Auto).unwrap();
        let annotator = Annotator::new(vec![model], options()).unwrap();
        let _open = push(&annotator);
        annotator.kept().bytes
    };
    let apart = kept(Task::Splice) + kept(Task::Promoter);
    let bounded = |memory: usize| {
        let options = Options {
            kept_memory: memory,
            ..options()
        };
        Annotator::builtin(options).unwrap()
    };
    let alone = bounded(usize::MAX);
    let open = push(&alone);
    let own = alone.kept().bytes;
    // A network keeps no more because another one shares its working room.
    assert!(own > 0 && own <= apart + apart / 50, "{own} of {apart}");
    drop(open);
    assert_eq!(alone.kept().bytes, 0);
    // Room for two: of six at a time some go on without, and nobody does afterwards.
    let annotator = bounded(2 * own + own / 2);
    for mut read in [(); 6].map(|()| push(&annotator)) {
        read.finish(&mut |_: Call| {}).unwrap();
    }
    let without = annotator.kept().recomputed;
    assert!(without > 0);
    for _ in 0..4 {
        push(&annotator).finish(&mut |_: Call| {}).unwrap();
    }
    assert_eq!(annotator.kept().recomputed, without);
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The call rule in the plainest form, over the raw outputs of the whole read.
fn expected_calls(task: Task, model: u8, codes: &[u8]) -> Vec<Call> {
    let mut scorer = Scorer::new(builtin::model(task, Tier::Accurate).unwrap()).unwrap();
    let manifest = scorer.manifest().clone();
    let mut calls = vec![];
    for strand in [Strand::Forward, Strand::Reverse] {
        let raw = scorer.raw(codes, strand).unwrap();
        for (column, output) in manifest.outputs.iter().enumerate() {
            let calibration = |at: usize, length: usize| {
                let ends = at.min(length - 1 - at);
                let short = output.short_context.iter().find(|s| ends < s.below);
                let knots = short.map_or(&output.calibration, |s| &s.calibration);
                Calibration::new(knots, output.link)
            };
            let mut line: Vec<f32> = raw
                .chunks_exact(manifest.outputs.len())
                .map(|row| row[column])
                .collect();
            let context = manifest.context;
            // From here on in 5' to 3' order of the strand.
            if strand == Strand::Reverse {
                line.reverse();
            }
            for (at, &own) in line.iter().enumerate() {
                let before = &line[at.saturating_sub(output.separation)..at];
                let after = &line[at + 1..(at + 1 + output.separation).min(line.len())];
                let peak = before.iter().all(|&x| x < own) && after.iter().all(|&x| x <= own);
                let score = calibration(at, line.len()).score(own);
                if !peak || score < LEAST {
                    continue;
                }
                let start = match strand {
                    Strand::Forward => at,
                    Strand::Reverse => line.len() - 1 - at,
                };
                let mut flags = Flags::NONE;
                if at < context.left || line.len() - 1 - at < context.right {
                    flags |= Flags::SHORT_CONTEXT;
                }
                if codes[start.saturating_sub(20)..(start + 21).min(codes.len())].contains(&N) {
                    flags |= Flags::AMBIGUOUS;
                }
                calls.push(Call {
                    start: start as u64,
                    end: start as u64 + 1,
                    strand,
                    kind: kind(output).unwrap().unwrap(),
                    score,
                    flags,
                    model,
                });
            }
        }
    }
    calls
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn calls_and_scores_do_not_depend_on_the_tile(codes in reads(14_000), more in 0usize..6_000) {
        let altered = |task| {
            let bytes = altered::builtin_bytes(task, |manifest| {
                let least = match &manifest.sequence {
                    Some(sequence) => sequence.longest.next_multiple_of(sequence.multiple),
                    None => 2 * manifest.lookahead() + 64,
                };
                manifest.tile = least + more;
            });
            let file = ModelFile::parse(Bytes::copy_of(&bytes).unwrap(), "altered").unwrap();
            Model::build_tier(file, Tier::Auto).unwrap()
        };
        let own = Annotator::new(Task::CALLING.map(altered).into(), options()).unwrap();
        let whole = calls_of(annotator(false), &codes);
        prop_assert_eq!(by_model(&calls_of(&own, &codes)), by_model(&whole));
        let mut scorer = Scorer::new(altered(Task::Splice)).unwrap();
        let mut builtin = Scorer::new(builtin::model(Task::Splice, Tier::Auto).unwrap()).unwrap();
        for strand in [Strand::Forward, Strand::Reverse] {
            let own = scorer.raw(&codes, strand).unwrap();
            prop_assert!(bits(&own) == bits(&builtin.raw(&codes, strand).unwrap()));
        }
    }
}

#[test]
fn base_by_base_gives_the_same_calls() {
    let codes = &genes()[1][2_000..3_500];
    let whole = calls_of(crowded(false), codes);
    assert!(whole.len() > 500);
    let single = calls_in_pieces(crowded(true), codes, &[1]);
    for (own, whole) in by_model(&single).iter().zip(by_model(&whole)) {
        assert_eq!(*own, whole);
    }
}

#[test]
fn eager_calls_leave_before_the_read_ends() {
    let codes = &genes()[1][..6_000];
    let (mut read, mut calls) = (annotator(true).read(), vec![]);
    read.push_codes(codes, &mut calls).unwrap();
    let before = calls.len();
    finish(read, &mut calls);
    assert!(0 < before && before < calls.len());
}

#[test]
fn a_call_leaves_with_the_bases_that_its_own_model_needs() {
    let tasks = [(Task::Splice, Tier::Auto), (Task::Promoter, Tier::Fast)];
    let models = || tasks.map(|(task, tier)| builtin::model(task, tier).unwrap());
    let needs = models().map(|model| model.manifest().lookahead() as u64);
    assert!(needs[1] < needs[0] / 2, "{needs:?}");
    let annotator = Annotator::new(models().into(), options()).unwrap();
    for codes in genes() {
        let codes = &codes[..codes.len().min(9_000)];
        let whole = calls_of(&annotator, codes);
        let (mut read, mut calls, mut known) = (annotator.read(), vec![], 0);
        for piece in codes.chunks(100) {
            read.push_codes(piece, &mut calls).unwrap();
            known += piece.len() as u64;
            for (model, need) in (0..).zip(needs) {
                let of = |calls: &[Call]| -> Vec<Call> {
                    let own = calls.iter().filter(|c| c.model == model);
                    own.copied().collect()
                };
                let certain = of(&whole).into_iter().filter(|c| c.start + need < known);
                assert_eq!(
                    of(&calls),
                    certain.collect::<Vec<_>>(),
                    "{model} at {known}"
                );
            }
            assert_eq!(read.scored(), known.saturating_sub(needs[0]));
        }
    }
}

#[test]
fn one_strand_gives_that_part_of_both() {
    let codes = &genes()[4][..5_000];
    let both = calls_of(annotator(false), codes);
    for (strands, strand) in [
        (Strands::Forward, Strand::Forward),
        (Strands::Reverse, Strand::Reverse),
    ] {
        let options = Options {
            strands,
            ..options()
        };
        let one = Annotator::new(all_models(), options).unwrap();
        let expected: Vec<Call> = both
            .iter()
            .filter(|c| c.strand == strand)
            .copied()
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(by_model(&calls_of(&one, codes)), by_model(&expected));
    }
}

#[test]
fn reads_of_no_and_few_bases_end_well() {
    let gene = &genes()[0];
    for length in [0, 1, 2, 3, 24, 25, 28, 99, 100, 103] {
        for (i, &eager) in [true, false].iter().enumerate() {
            let codes = &gene[i * 500..i * 500 + length];
            let calls = calls_of(annotator(eager), codes);
            assert!(calls.iter().all(|c| c.end <= length as u64), "{length}");
            let scans = calls.iter().filter(|c| c.kind.is_probability());
            let mut scans = scans.map(|c| c.flags);
            assert!(scans.all(|f| f.contains(Flags::SHORT_CONTEXT)));
        }
    }
}

#[test]
fn case_u_and_iupac_letters_do_not_matter() {
    let mut codes = genes()[2][..3_000].to_vec();
    codes[1_000..1_010].fill(N);
    let letters: Vec<u8> = codes.iter().map(|&c| letter(c)).collect();
    let text = |change: &dyn Fn(u8) -> u8| letters.iter().map(|&l| change(l)).collect::<Vec<u8>>();
    let variants = [
        letters.clone(),
        text(&|l| l.to_ascii_lowercase()),
        text(&|l| if l == b'T' { b'U' } else { l }),
        text(&|l| if l == b'T' { b'u' } else { l }),
        text(&|l| if l == b'N' { b'R' } else { l }),
        text(&|l| if l == b'N' { b'-' } else { l }),
    ];
    let expected = calls_of(crowded(false), &codes);
    assert!(expected.iter().any(|c| c.flags.contains(Flags::AMBIGUOUS)));
    for letters in variants {
        let (mut read, mut calls) = (crowded(false).read(), vec![]);
        read.push(&letters, &mut calls).unwrap();
        finish(read, &mut calls);
        assert_eq!(calls, expected);
        let mut encoded = vec![];
        nucleotide::encode(&letters, &mut encoded);
        assert_eq!(encoded, codes);
    }
}

#[test]
fn a_used_state_is_as_good_as_new() {
    let (long, short) = (&genes()[4][..20_000], &genes()[0][3_000..7_000]);
    let expected = calls_of(annotator(true), short);
    let mut read = annotator(true).read();
    let mut dropped = vec![];
    for end in ["finish", "abort", "reset", "reset after abort"] {
        read.push_codes(long, &mut dropped).unwrap();
        match end {
            "finish" => read.finish(&mut dropped).unwrap(),
            "abort" => read.abort(),
            "reset" => read.reset(),
            _ => {
                read.abort();
                read.reset();
            }
        }
        let mut calls = vec![];
        read.push_codes(short, &mut calls).unwrap();
        read.finish(&mut calls).unwrap();
        assert_eq!(calls, expected, "after {end}");
    }
}

#[test]
fn threads_share_an_annotator() {
    fn shared<T: Send + Sync + Clone>(value: &T) -> T {
        value.clone()
    }
    fn movable<T: Send>(_: &T) {}
    let annotator = shared(annotator(true));
    movable(&annotator.read());
    let reads: Vec<&[u8]> = genes()
        .iter()
        .map(|gene| &gene[..gene.len().min(7_000)])
        .collect();
    let expected: Vec<_> = reads
        .iter()
        .map(|codes| calls_of(&annotator, codes))
        .collect();
    std::thread::scope(|scope| {
        for sizes in [[700, 1_300], [2_500, 900]] {
            let (reads, expected, annotator) = (&reads, &expected, &annotator);
            scope.spawn(move || {
                for (codes, expected) in reads.iter().zip(expected) {
                    let calls = calls_in_pieces(annotator, codes, &sizes);
                    assert_eq!(by_model(&calls), by_model(expected));
                }
            });
        }
    });
}

/// An RNA annotator.
fn rna(max_starts: usize, strands: Strands) -> Annotator {
    let options = Options {
        molecule: Molecule::Rna,
        strands,
        max_starts,
        ..Options::default()
    };
    Annotator::builtin(options).unwrap()
}

fn rna_calls(annotator: &Annotator, letters: &[u8]) -> Vec<Call> {
    let (mut read, mut calls) = (annotator.read(), vec![]);
    read.push(letters, &mut calls).unwrap();
    finish(read, &mut calls);
    calls
}

/// No start codon on either strand, whatever follows.
fn leader(length: usize) -> Vec<u8> {
    b"CCGGA".iter().copied().cycle().take(length).collect()
}

#[test]
fn the_first_start_codon_with_enough_before_it_counts() {
    // At 5: too early. At 40 and at 60: candidates.
    let mut rna_read = leader(80);
    for at in [5, 40, 60] {
        rna_read[at..at + 3].copy_from_slice(b"AUG");
    }
    let spans = |n: usize| -> Vec<(u64, u64)> {
        let calls = rna_calls(&rna(n, Strands::Forward), &rna_read);
        for call in &calls {
            assert_eq!(
                (call.kind, call.strand),
                (CallKind::Expression, Strand::Forward)
            );
            assert_eq!(call.flags, Flags::UNVERIFIED_5P);
            assert!(call.score.is_finite());
        }
        calls.iter().map(|c| (c.start, c.end)).collect()
    };
    assert_eq!(spans(1), [(0, 40)]);
    assert_eq!(spans(2), [(0, 40), (0, 60)]);
    assert_eq!(spans(9), [(0, 40), (0, 60)]);
}

#[test]
fn a_5utr_needs_10_bases() {
    for (upstream, calls) in [(9, 0), (10, 1), (11, 1)] {
        let mut letters = leader(upstream);
        letters.extend_from_slice(b"AUG");
        let found = rna_calls(&rna(1, Strands::Forward), &letters);
        assert_eq!(found.len(), calls, "{upstream}");
        letters.truncate(upstream + 2);
        assert!(rna_calls(&rna(1, Strands::Forward), &letters).is_empty());
    }
}

#[test]
fn only_the_last_200_bases_of_a_5utr_count() {
    let one = rna(1, Strands::Forward);
    let score = |before: usize, first: u8| {
        let mut letters = vec![first; before];
        letters.extend(leader(200));
        letters.extend_from_slice(b"AUG");
        let calls = rna_calls(&one, &letters);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].end, before as u64 + 200);
        calls[0].score.to_bits()
    };
    assert_eq!(score(5_000, b'C'), score(0, b'C'));
    assert_eq!(score(50, b'G'), score(50, b'C'));
}

#[test]
fn start_codons_of_the_reverse_strand_count_from_the_end() {
    let mut letters = leader(90);
    for at in [5, 40, 60] {
        letters[at..at + 3].copy_from_slice(b"AUG");
    }
    letters[20] = b'N';
    letters[87..].copy_from_slice(b"AUG");
    let other: Vec<u8> = {
        let mut codes = vec![];
        nucleotide::encode(&letters, &mut codes);
        reversed(&codes).into_iter().map(letter).collect()
    };
    for max_starts in [1, 2, 5] {
        let forward = rna_calls(&rna(max_starts, Strands::Forward), &letters);
        let reverse = rna_calls(&rna(max_starts, Strands::Reverse), &other);
        assert_eq!(forward.len(), max_starts.min(3));
        let flags = Flags::AMBIGUOUS | Flags::UNVERIFIED_5P;
        assert!(forward.iter().all(|c| c.flags == flags));
        assert_eq!(sorted(mirrored(&reverse, letters.len())), sorted(forward));
    }
}

#[test]
fn a_record_is_one_bacterial_promoter() {
    let model = || builtin::model(Task::PromoterStrength, Tier::Auto).unwrap();
    let annotator = Annotator::new(vec![model()], Options::default()).unwrap();
    let mut scorer = WholeScorer::new(model()).unwrap();
    let gene = &genes()[2];
    for length in [0, 39, 40, 41, 149, 150, 151, 9_000] {
        let codes = &gene[..length];
        let calls = calls_in_pieces(&annotator, codes, &[7, 100]);
        let expected: Vec<Call> = [Strand::Forward, Strand::Reverse]
            .into_iter()
            .filter_map(|strand| {
                let score = scorer.score(codes, strand).unwrap()?[0];
                Some(Call {
                    start: 0,
                    end: length as u64,
                    strand,
                    kind: CallKind::PromoterStrength,
                    score,
                    flags: Flags::NONE,
                    model: 0,
                })
            })
            .collect();
        assert_eq!(expected.is_empty(), length < 40);
        assert_eq!(sorted(calls), sorted(expected), "{length}");
    }
}

#[test]
fn a_prior_moves_probabilities_and_nothing_else() {
    let codes = &genes()[1][..9_000];
    let model = || builtin::model(Task::Splice, Tier::Auto).unwrap();
    let rate = model().manifest().outputs[0].base_rate / 10.0;
    let priors = Priors::new(&[(CallKind::Acceptor, rate)]).unwrap();
    let mut scorer = Scorer::with_priors(model(), &priors).unwrap();
    let mut plain = Scorer::new(model()).unwrap();
    let all = |scorer: &mut Scorer| {
        let mut rows = vec![];
        let take = |row: &[f32]| {
            rows.extend_from_slice(row);
            Ok::<(), AnnotateError>(())
        };
        scorer.score(codes, Strand::Forward, take).unwrap();
        rows
    };
    let (own, plain) = (all(&mut scorer), all(&mut plain));
    let odds = |p: f32| f64::from(p) / (1.0 - f64::from(p));
    let mut moved = 0;
    for (own, plain) in own.chunks_exact(2).zip(plain.chunks_exact(2)) {
        assert_eq!(own[1].to_bits(), plain[1].to_bits());
        if (0.001..0.99).contains(&plain[0]) {
            let ratio = odds(own[0]) / odds(plain[0]);
            assert!((0.099..0.101).contains(&ratio), "{ratio}");
            moved += 1;
        }
    }
    assert!(moved > 3);
    let rarer = Options {
        priors,
        ..options()
    };
    let annotator = Annotator::new(vec![model()], rarer).unwrap();
    assert_eq!(
        annotator.models()[0].base_rates[0],
        (CallKind::Acceptor, rate)
    );
    let fewer = calls_of(&annotator, codes).len();
    let more = Annotator::new(vec![model()], options()).unwrap();
    assert!(fewer < calls_of(&more, codes).len());
}

#[test]
fn priors_that_no_model_can_use_are_refused() {
    for (kind, rate) in [
        (CallKind::Donor, 0.0),
        (CallKind::Donor, 1.0),
        (CallKind::Donor, f64::NAN),
        (CallKind::Expression, 0.1),
    ] {
        assert!(Priors::new(&[(kind, rate)]).is_err(), "{kind} {rate}");
    }
    let options = Options {
        priors: Priors::new(&[(CallKind::Promoter, 0.1)]).unwrap(),
        ..options()
    };
    let splice = builtin::model(Task::Splice, Tier::Auto).unwrap();
    let error = Annotator::new(vec![splice], options).err().unwrap();
    assert!(error.to_string().contains("promoter"), "{error}");
}

#[test]
fn a_model_of_tiers_must_be_of_one() {
    let both = Model::build(builtin::file(Task::Splice).unwrap()).unwrap();
    let error = Annotator::new(vec![both], options()).err().unwrap();
    assert!(error.to_string().contains("tier"), "{error}");
}

#[test]
fn models_that_make_no_calls_are_refused() {
    for task in Task::ALL.into_iter().filter(|task| !task.makes_calls()) {
        let model = builtin::model(task, Tier::Auto).unwrap();
        let error = Annotator::new(vec![model], options()).err().unwrap();
        assert!(error.to_string().contains("makes no calls"), "{error}");
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let with = |min_score, max_starts| {
        let options = Options {
            min_score,
            max_starts,
            ..Options::default()
        };
        Annotator::new(all_models(), options)
            .err()
            .map(|e| e.to_string())
    };
    assert!(with(None, 1).is_none());
    assert!(with(Some(1.5), 1).unwrap().contains("1.5"));
    assert!(with(Some(f32::NAN), 1).is_some());
    assert!(with(None, 0).unwrap().contains("start codons"));
    assert!(Annotator::new(vec![], Options::default()).is_err());
}

#[test]
fn calls_at_the_last_base_are_in_order_too() {
    // A donor on the reverse strand at the last base, where calls of whole records end as well;
    // those begin at the first.
    let text = b"\
        AAGACAATACAGTTTTCCATATTTTACAAAAGAAGAAATGGGAGAAAGGGGTTTAAGTAACTTGCCCTAGTCACACAGTAAGGAGAA\
        GCCTGCTACCCAAACTTCTGGCTTGAGTACTCAACCACTTACT";
    let mut calls = vec![];
    let mut read = annotator(false).read();
    read.push(text, &mut calls).unwrap();
    read.finish(&mut calls).unwrap();
    let last = |c: &Call| c.end == text.len() as u64 && c.model == 0;
    assert!(calls.iter().any(last), "{calls:?}");
    assert!(calls.is_sorted_by_key(order), "{calls:?}");
}
