//! Reads that come in pieces from many channels get the calls of whole reads.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use strandline::call::Call;
use strandline::lab::replay::{FlowCell, FlowCellConfig, Paced, ReadData, load};
use strandline::metrics::Metrics;
use strandline::model::manifest::Tier;
use strandline::reads::source::Input;
use strandline::stream::live::{self, FinishedPiece, LiveConfig, LiveOutput, LiveSource};
use strandline::{Annotator, Options};

#[derive(Default)]
struct Calls {
    by_read: HashMap<Vec<u8>, Vec<Call>>,
    /// Calls that left before their read was over.
    early: usize,
}

impl LiveOutput for Calls {
    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        let calls = self.by_read.entry(finished.name.to_vec()).or_default();
        calls.extend_from_slice(finished.calls);
        if finished.end.is_none() {
            self.early += finished.calls.len();
        }
        Ok(())
    }
}

fn reads(count: usize) -> Arc<[ReadData]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reads.fastq.gz");
    let mut reads = load(Input::Path(path)).unwrap();
    reads.truncate(count);
    reads.into()
}

fn options(tier: Tier) -> Options {
    Options {
        tier,
        ..Options::default()
    }
}

#[test]
fn calls_are_those_of_whole_reads_and_leave_early() {
    let reads = reads(24);
    for (tier, chunk, seed) in [
        (Tier::Fast, 400, 1),
        (Tier::Fast, 37, 2),
        (Tier::Auto, 1200, 3),
        (Tier::Accurate, 5000, 4),
    ] {
        let annotator = Annotator::builtin(options(tier)).unwrap();
        let mut whole: HashMap<Vec<u8>, Vec<Call>> = HashMap::new();
        for read in reads.iter() {
            let mut calls = vec![];
            let mut state = annotator.read();
            state.push(&read.letters, &mut calls).unwrap();
            state.finish(&mut calls).unwrap();
            whole.insert(read.name.clone(), calls);
        }
        let config = FlowCellConfig {
            channels: 7,
            chunk,
            seed,
            speed: 1e4,
            ..FlowCellConfig::default()
        };
        let source: Box<dyn LiveSource> =
            Box::new(Paced::new(FlowCell::new(reads.clone(), config)));
        let metrics = Arc::new(Metrics::new());
        let stop = Arc::new(AtomicBool::new(false));
        let mut calls = Calls::default();
        let config = LiveConfig {
            threads: 2,
            ..LiveConfig::default()
        };
        live::run(
            &config,
            vec![source],
            &annotator,
            &metrics,
            &stop,
            &mut calls,
        )
        .unwrap();
        let summary = metrics.summary();
        assert!(summary.adds_up(), "{summary}");
        assert_eq!(summary.reads_out, 24);
        assert!(calls.early > 0, "{tier:?}");
        assert!(whole.values().any(|calls| !calls.is_empty()));
        assert_eq!(calls.by_read, whole, "{tier:?}, chunks of {chunk}");
    }
}

#[test]
fn the_fast_tier_stands_in_where_the_options_say_so() {
    let models =
        |tier| strandline::annotate::builtin::model(strandline::annotate::Task::Splice, tier);
    let (auto, fast) = (models(Tier::Auto).unwrap(), models(Tier::Fast).unwrap());
    let both = Annotator::with_fast_tier(vec![auto], vec![fast], options(Tier::Auto)).unwrap();
    let fast = Annotator::new(vec![models(Tier::Fast).unwrap()], options(Tier::Fast)).unwrap();
    for read in reads(12).iter() {
        let calls = |annotator: &Annotator, stand_in: bool| {
            let mut calls: Vec<Call> = vec![];
            let mut state = annotator.read();
            state.use_fast_tier(stand_in);
            for piece in read.letters.chunks(999) {
                state.push(piece, &mut calls).unwrap();
            }
            state.finish(&mut calls).unwrap();
            calls
        };
        let stood_in = calls(&both, true);
        for call in &stood_in {
            assert!(call.flags.contains(strandline::call::Flags::FAST_TIER));
            assert_eq!(call.model, 1);
        }
        let places = |calls: Vec<Call>| -> Vec<(u64, u32)> {
            calls.iter().map(|c| (c.start, c.score.to_bits())).collect()
        };
        assert_eq!(places(stood_in), places(calls(&fast, false)));
        assert!(calls(&both, false).iter().all(|c| c.model == 0));
    }
}

/// A tier goes on with rows that it kept, or begins again where the other left off.
#[test]
fn switching_between_tiers_changes_no_call_whatever_is_kept() {
    let task = strandline::annotate::Task::Splice;
    let model = |tier| strandline::annotate::builtin::model(task, tier).unwrap();
    let annotator = |memory: usize| {
        let options = Options {
            kept_memory: memory,
            ..options(Tier::Auto)
        };
        let fast = vec![model(Tier::Fast)];
        Annotator::with_fast_tier(vec![model(Tier::Auto)], fast, options).unwrap()
    };
    let bounded = [usize::MAX, 300_000, 0].map(annotator);
    let mut stood_in = [0, 0];
    for (number, read) in reads(24).iter().enumerate() {
        let [kept, some, none] = bounded.each_ref().map(|annotator| {
            let mut calls: Vec<Call> = vec![];
            let mut state = annotator.read();
            for (at, piece) in read.letters.chunks(150 + 40 * number).enumerate() {
                // Runs of one, two and three pushes.
                state.use_fast_tier(at % 6 == 0 || at % 6 > 3);
                state.push(piece, &mut calls).unwrap();
            }
            state.finish(&mut calls).unwrap();
            calls
        });
        assert_eq!(kept, none);
        assert_eq!(some, none);
        for call in none {
            stood_in[usize::from(call.flags.contains(strandline::call::Flags::FAST_TIER))] += 1;
        }
    }
    assert!(stood_in.iter().all(|&calls| calls > 20), "{stood_in:?}");
    assert_eq!(bounded[0].kept().recomputed, 0);
    assert!(bounded[2].kept().recomputed > 0);
}
