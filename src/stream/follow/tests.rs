use super::*;
use crate::annotate::{Annotate, Annotation};
use crate::call::CallSink;
use crate::metrics::Metrics;
use crate::sink::Format;
use crate::stream::batch::{PipelineConfig, PipelineError};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Counts its states and the bases that it is given.
#[derive(Default)]
struct Counting {
    states: AtomicUsize,
    bases: Arc<AtomicUsize>,
    /// Set at the first base.
    stops: Option<Arc<AtomicBool>>,
}

struct CountingState {
    bases: Arc<AtomicUsize>,
    stops: Option<Arc<AtomicBool>>,
}

impl Annotate for Counting {
    type State = CountingState;

    fn read(&self) -> CountingState {
        self.states.fetch_add(1, SeqCst);
        CountingState {
            bases: self.bases.clone(),
            stops: self.stops.clone(),
        }
    }
}

impl Annotation for CountingState {
    type Error = &'static str;

    fn push_codes(&mut self, codes: &[u8], _: &mut dyn CallSink) -> Result<(), &'static str> {
        self.bases.fetch_add(codes.len(), SeqCst);
        if let Some(stop) = &self.stops {
            stop.store(true, SeqCst);
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn CallSink) -> Result<(), &'static str> {
        Ok(())
    }

    fn abort(&mut self) {}
}

fn config(folder: &Path, output: &Path, threads: usize) -> FollowConfig {
    FollowConfig {
        folder: folder.to_owned(),
        output: output.to_owned(),
        journal: None,
        until_idle: Some(Duration::ZERO),
        format: Format::Tsv,
        models: vec![],
        pipeline: PipelineConfig {
            threads,
            ..PipelineConfig::default()
        },
    }
}

fn run(config: FollowConfig, annotator: &Counting) -> (FollowOutcome, u64) {
    let metrics = Arc::new(Metrics::new());
    let follower = Follower::open(config).unwrap();
    let outcome = follower.run(annotator, &metrics, &Arc::default()).unwrap();
    assert!(metrics.summary().adds_up());
    (outcome, metrics.summary().reads_out)
}

#[test]
fn many_files_share_one_engine_and_are_committed_one_by_one() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let output = scratch.path().join("calls.tsv");
    fs::create_dir(&folder).unwrap();
    for file in 0..30 {
        let record = |i| format!("@{file}/{i}\nACGT\n+\nIIII\n");
        let text: String = (0..5).map(record).collect();
        fs::write(folder.join(format!("{file}.fq")), text).unwrap();
    }
    let annotator = Counting::default();
    let (outcome, reads) = run(config(&folder, &output, 1), &annotator);
    assert!(outcome.incomplete.is_empty() && !outcome.stopped);
    assert_eq!((reads, annotator.bases.load(SeqCst)), (150, 600));
    assert_eq!(annotator.states.load(SeqCst), 1, "one worker for all files");
    let journal = fs::read_to_string(scratch.path().join("calls.tsv.journal")).unwrap();
    assert_eq!(journal.lines().count(), 31, "a title, and a line a file");

    // Another run takes up only what is new, and sees what has no end.
    fs::write(folder.join("0.fq"), "@0/0\nACGT\n+\nIIII\n".repeat(6)).unwrap();
    fs::write(folder.join("new.fq"), "@new\nACG\n+\nIII\n@cut\nAC").unwrap();
    let annotator = Counting::default();
    let (outcome, reads) = run(config(&folder, &output, 2), &annotator);
    assert_eq!(outcome.incomplete, [folder.join("new.fq")]);
    assert_eq!((reads, annotator.bases.load(SeqCst)), (2, 7));
}

/// The journal's lines behind its title.
fn commits(output: &Path) -> usize {
    let journal = fs::read_to_string(output.with_extension("tsv.journal")).unwrap();
    journal.lines().count() - 1
}

#[test]
fn a_file_whose_pass_was_broken_off_is_not_committed() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let output = scratch.path().join("calls.tsv");
    fs::create_dir(&folder).unwrap();
    let good = "@good\nACGT\n+\nIIII\n";
    fs::write(folder.join("a.fq"), format!("{good}@bad\nACGT\n+\nII\n")).unwrap();
    let mut strict = config(&folder, &output, 1);
    strict.pipeline.strict = true;
    let ran = Follower::open(strict).unwrap();
    let ran = ran.run(&Counting::default(), &Arc::default(), &Arc::default());
    let FollowError::Pipeline(PipelineError::Strict(reject)) = ran.unwrap_err() else {
        panic!("another error");
    };
    assert!(reject.to_string().contains("bad"), "{reject}");
    assert_eq!(commits(&output), 0);

    // All of it is annotated by the next run, which is not strict.
    let annotator = Counting::default();
    let (outcome, reads) = run(config(&folder, &output, 1), &annotator);
    assert!(outcome.incomplete.is_empty());
    assert_eq!((reads, annotator.bases.load(SeqCst)), (1, 4));
    assert_eq!(commits(&output), 1);
}

#[test]
fn a_stop_within_a_file_leaves_the_rest_to_the_next_run() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let output = scratch.path().join("calls.tsv");
    fs::create_dir(&folder).unwrap();
    let reads = 20_000;
    let text: String = (0..reads)
        .map(|i| format!("@{i}\nACGT\n+\nIIII\n"))
        .collect();
    fs::write(folder.join("a.fq"), text).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Counting {
        stops: Some(stop.clone()),
        ..Counting::default()
    };
    let metrics = Arc::new(Metrics::new());
    let follower = Follower::open(config(&folder, &output, 1)).unwrap();
    let outcome = follower.run(&stopping, &metrics, &stop).unwrap();
    assert!(outcome.stopped);
    assert!(metrics.summary().adds_up());
    assert!(metrics.summary().reads_out < reads);
    assert_eq!(commits(&output), 0);

    let annotator = Counting::default();
    let (_, again) = run(config(&folder, &output, 1), &annotator);
    assert_eq!(again, reads);
    assert_eq!(commits(&output), 1);
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("calls");
    let mut bedgraph = config(scratch.path(), &output, 1);
    bedgraph.format = Format::Bedgraph;
    let refused = Follower::open(bedgraph);
    assert!(matches!(refused, Err(FollowError::Format)));

    let missing = config(&scratch.path().join("nowhere"), &output, 1);
    let ran = Follower::open(missing).unwrap().run(
        &Counting::default(),
        &Arc::default(),
        &Arc::default(),
    );
    let error = ran.unwrap_err().to_string();
    assert!(error.contains("nowhere: "), "{error}");

    // An output that is not the journal's is left alone.
    let line = format!("{}\t10\t100\tx\n", "a".repeat(64));
    fs::write(
        scratch.path().join("calls.journal"),
        format!("strandline journal 1\n{line}"),
    )
    .unwrap();
    fs::write(&output, b"x").unwrap();
    let other = Follower::open(config(scratch.path(), &output, 1));
    assert!(matches!(
        other,
        Err(FollowError::Mismatch { committed: 100, .. })
    ));
    assert_eq!(fs::read(&output).unwrap(), b"x");
}
