//! Two minutes of a MinION, sixteen times as fast: every base is accounted for, and memory does not
//! grow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use strandline::lab::bench::resident;
use strandline::lab::replay::{FlowCell, FlowCellConfig, Paced, load};
use strandline::metrics::Metrics;
use strandline::model::manifest::Tier;
use strandline::reads::source::Input;
use strandline::stream::live::{self, FinishedPiece, LiveConfig, LiveOutput, LiveSource};
use strandline::{Annotator, Options};

const SECONDS: f64 = 120.0;
const SPEED: f64 = 16.0;

/// Resident memory over the run, by the schedule's seconds.
struct Memory {
    metrics: Arc<Metrics>,
    seen: Vec<(f64, u64)>,
}

impl LiveOutput for Memory {
    fn piece(&mut self, _: &FinishedPiece<'_>) -> io::Result<()> {
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        let at = self.metrics.summary().elapsed.as_secs_f64() * SPEED;
        if self.seen.last().is_none_or(|(last, _)| at > last + 1.0) {
            self.seen.extend(resident().map(|(now, _)| (at, now)));
        }
        Ok(())
    }
}

#[test]
fn two_minutes_of_a_minion_leave_nothing_behind() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reads.fastq.gz");
    let reads = load(Input::Path(path)).unwrap();
    let cell = FlowCellConfig {
        speed: SPEED,
        duration: Some(SECONDS),
        ..FlowCellConfig::default()
    };
    let options = Options {
        tier: Tier::Fast,
        ..Options::default()
    };
    let annotator = Annotator::builtin(options).unwrap();
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mut memory = Memory {
        metrics: metrics.clone(),
        seen: vec![],
    };
    let source: Box<dyn LiveSource> = Box::new(Paced::new(FlowCell::new(reads.into(), cell)));
    let config = LiveConfig {
        threads: 1,
        ..LiveConfig::default()
    };
    live::run(
        &config,
        vec![source],
        &annotator,
        &metrics,
        &stop,
        &mut memory,
    )
    .unwrap();
    let summary = metrics.summary();
    assert!(summary.adds_up(), "{summary}");
    let counts = summary.live.clone().unwrap();
    assert_eq!(
        (
            summary.rejected,
            summary.shed,
            counts.bases_shed,
            counts.partial
        ),
        (0, 0, 0, 0)
    );
    // 512 channels at 400 bases a second, but for pauses and the first and last chunks.
    let full = 512.0 * 400.0 * SECONDS;
    let got = summary.bases_in as f64;
    assert!(got > 0.85 * full && got <= full, "{got} of {full}");
    if cfg!(target_os = "linux") {
        // By the first third every channel has had reads, and every buffer its size.
        let third = memory
            .seen
            .iter()
            .find(|(at, _)| *at > SECONDS / 3.0)
            .unwrap()
            .1;
        let last = memory.seen.last().unwrap().1;
        println!(
            "{} KiB after a third, {} KiB at the end",
            third / 1024,
            last / 1024
        );
        assert!(
            last < third + (2 << 20),
            "{third} bytes after a third, {last} at the end"
        );
    }
}
