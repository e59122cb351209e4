use super::*;
use crate::annotate::{Annotate, Annotation};
use crate::call::CallSink;
use crate::metrics::Metrics;
use crate::sink::Format;
use crate::stream::batch::PipelineConfig;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Counts its states and the bases that it is given.
#[derive(Default)]
struct Counting {
    states: AtomicUsize,
    bases: Arc<AtomicUsize>,
}

struct CountingState(Arc<AtomicUsize>);

impl Annotate for Counting {
    type State = CountingState;

    fn read(&self) -> CountingState {
        self.states.fetch_add(1, SeqCst);
        CountingState(self.bases.clone())
    }
}

impl Annotation for CountingState {
    type Error = &'static str;

    fn push_codes(&mut self, codes: &[u8], _: &mut dyn CallSink) -> Result<(), &'static str> {
        self.0.fetch_add(codes.len(), SeqCst);
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
