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
        options: String::new(),
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
    // Of another file under an old name all, since the bytes are others.
    assert_eq!((reads, annotator.bases.load(SeqCst)), (7, 27));
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
    let text = "@bad\nACGT\n+\nII\n@good\nACGT\n+\nIIII\n";
    fs::write(folder.join("a.fq"), text).unwrap();
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

    // An output of which the journal knows nothing is left alone.
    fs::write(
        &output,
        b"#read and more than a header has of it, from another run",
    )
    .unwrap();
    for journal in ["", "strandline journal 1\n", "notes\n"] {
        let path = scratch.path().join("calls.journal");
        fs::write(&path, journal).unwrap();
        let error = Follower::open(config(scratch.path(), &output, 1))
            .err()
            .unwrap();
        let expected = if journal.is_empty() {
            "left alone"
        } else {
            "none of a journal"
        };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(fs::read(&output).unwrap().ends_with(b"another run"));
        assert_eq!(fs::read(&path).unwrap(), journal.as_bytes());
    }
}

/// A folder to be followed, and what came of it.
struct Scratch {
    root: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Scratch {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        Scratch { root }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("run").join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.file(name), bytes).unwrap();
    }

    /// Reads annotated and rejected by a run, and the files that it could not read whole.
    fn run(&self) -> (u64, u64, Vec<String>) {
        let output = self.root.path().join("calls.tsv");
        let metrics = Arc::new(Metrics::new());
        let config = config(&self.root.path().join("run"), &output, 1);
        let follower = Follower::open(config).unwrap();
        let outcome = follower.run(&Counting::default(), &metrics, &Arc::default());
        let summary = metrics.summary();
        assert!(summary.adds_up());
        let name =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_str().map(str::to_owned);
        let incomplete = outcome
            .unwrap()
            .incomplete
            .iter()
            .filter_map(name)
            .collect();
        (summary.reads_out, summary.rejected, incomplete)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn two_runs_do_not_write_one_output() {
    let scratch = Scratch::new();
    let output = scratch.root.path().join("calls.tsv");
    let folder = scratch.root.path().join("run");
    let first = Follower::open(config(&folder, &output, 1)).unwrap();
    let again = Follower::open(config(&folder, &output, 1)).err().unwrap();
    assert!(again.to_string().contains("another run"), "{again}");
    // Under another journal either.
    let mut other = config(&folder, &output, 1);
    other.journal = Some(scratch.root.path().join("other"));
    let again = Follower::open(other).err().unwrap();
    assert!(again.to_string().contains("another run"), "{again}");
    drop(first);
    assert!(Follower::open(config(&folder, &output, 1)).is_ok());
}

/// Wherever a file had its end when it was looked at, its records are those of the whole file.
#[test]
fn growth_shows_in_no_record() {
    let text: &[u8] =
        b"@a\nACGT\n+\nIIII\n-damaged\n@b\nACGT\n+\n@c\nAC\n+\nII\n@d\nAC\nGT\n+\n@I\n\
        II\n@e\nAC!T\n+\nIIII\n@f\nACGT\n+\nII\n@g\nA\n+\nI\n";
    let whole = Scratch::new();
    whole.write("x.fq", text);
    let expected = whole.run();
    assert_eq!(expected, (4, 4, vec![]));
    // Under emulation this takes long.
    let step = if cfg!(target_arch = "x86_64") { 2 } else { 25 };
    for cut in (0..text.len()).step_by(step) {
        for packed in [false, true] {
            let scratch = Scratch::new();
            let (name, part, all) = if packed {
                let members = [gzip(&text[..cut]), gzip(&text[cut..])];
                // Cut within the second member, too.
                let part = [&members[0][..], &members[1][..cut % members[1].len()]].concat();
                ("x.fq.gz", part, members.concat())
            } else {
                ("x.fq", text[..cut].to_vec(), text.to_vec())
            };
            let mut seen = (0, 0);
            let follower = |seen: &mut (u64, u64), growing: &[u8]| {
                // As in a run that goes on: what has no end is not taken.
                scratch.write(name, growing);
                let output = scratch.root.path().join("calls.tsv");
                let metrics = Arc::new(Metrics::new());
                let mut config = config(&scratch.root.path().join("run"), &output, 1);
                config.until_idle = None;
                let stop = Arc::new(AtomicBool::new(false));
                let stops = stop.clone();
                let follower = Follower::open(config).unwrap();
                let stopping = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(3));
                    stops.store(true, SeqCst);
                });
                follower.run(&Counting::default(), &metrics, &stop).unwrap();
                stopping.join().unwrap();
                seen.0 += metrics.summary().reads_out;
                seen.1 += metrics.summary().rejected;
            };
            follower(&mut seen, &part);
            scratch.write(name, all);
            let rest = scratch.run();
            // A run that was stopped within a pass has it made again.
            assert!(
                seen.0 + rest.0 >= expected.0 && rest.2.is_empty(),
                "{cut} {packed}"
            );
            let journal = fs::read_to_string(scratch.root.path().join("calls.tsv.journal"));
            let last = journal.unwrap().lines().last().unwrap().to_string();
            let records: u64 = last.split('\t').nth(2).unwrap().parse().unwrap();
            assert_eq!(records, expected.0 + expected.1, "{cut} {packed}");
        }
    }
}

#[test]
fn a_file_is_known_by_its_bytes() {
    let scratch = Scratch::new();
    let record = |name: &str, letters: &str| {
        let qualities = "I".repeat(letters.len());
        format!("@{name} x\n{letters}\n+\n{qualities}\n")
    };
    let (one, two) = (record("a", "ACGT"), record("b", "ACG"));
    let first = one.repeat(2);
    scratch.write("x.fastq", &first);
    // The same first header, and other bytes.
    scratch.write("y.fastq", one.clone() + &two);
    assert_eq!(scratch.run(), (4, 0, vec![]));
    // Renamed, copied, compressed, and what is no file of reads.
    fs::rename(scratch.file("x.fastq"), scratch.file("z.fq")).unwrap();
    scratch.write("copy.fq", &first);
    scratch.write("packed.fastq.gz", gzip(first.as_bytes()));
    scratch.write("x.fastq.md5", "something");
    scratch.write("x.fastq.part", &two);
    assert_eq!(scratch.run(), (0, 0, vec![]));
    // Grown, and other bytes under an old name.
    scratch.write("z.fq", first + &two);
    scratch.write("y.fastq", two.repeat(3));
    assert_eq!(scratch.run(), (4, 0, vec![]));
    assert_eq!(scratch.run(), (0, 0, vec![]));
}

#[test]
fn a_copy_on_its_way_is_held_back() {
    let reads = |names: std::ops::Range<u32>| -> String {
        let record = |n| {
            format!(
                "@{n} some-run\n{}\n+\n{}\n",
                "ACGT".repeat(9),
                "I".repeat(36)
            )
        };
        names.map(record).collect()
    };
    let all = reads(0..200);
    let packed = gzip(all.as_bytes());
    for part in [0, 3, 60, 3000, 9000, all.len() - 1] {
        let scratch = Scratch::new();
        scratch.write("x.fastq", &all);
        assert_eq!(scratch.run(), (200, 0, vec![]));
        // Before and behind the original in order of name, and a restart in between.
        for name in ["a.fastq", "z.fastq"] {
            scratch.write(name, &all[..part]);
        }
        scratch.write("x.fastq.gz", &packed[..packed.len() * part / all.len()]);
        assert_eq!(scratch.run(), (0, 0, vec![]), "{part}");
        scratch.write("a.fastq", &all);
        scratch.write("x.fastq.gz", &packed);
        fs::remove_file(scratch.file("x.fastq")).unwrap();
        assert_eq!(scratch.run(), (0, 0, vec![]), "{part}");
        // One that goes on otherwise is another file.
        scratch.write("z.fastq", all[..part].to_string() + "\n" + &reads(300..310));
        let (annotated, ..) = scratch.run();
        assert!(annotated >= 10, "{part}: {annotated}");
    }
}

#[test]
fn a_copy_that_grows_beside_its_original_is_not_annotated() {
    let record = |n| {
        format!(
            "@{n} some-run\n{}\n+\n{}\n",
            "ACGT".repeat(99),
            "I".repeat(396)
        )
    };
    let all: String = (0..100).map(record).collect();
    let scratch = Scratch::new();
    scratch.write("x.fastq", &all);
    let output = scratch.root.path().join("calls.tsv");
    let metrics = Arc::new(Metrics::new());
    let mut config = config(&scratch.root.path().join("run"), &output, 1);
    config.until_idle = None;
    let stop = Arc::new(AtomicBool::new(false));
    let follower = Follower::open(config).unwrap();
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| follower.run(&Counting::default(), &metrics, &stop));
        while metrics.summary().reads_out < 100 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let packed = gzip(all.as_bytes());
        for tenth in 0..=10 {
            scratch.write("copy.fastq", &all[..all.len() * tenth / 10]);
            scratch.write("x.fastq.gz", &packed[..packed.len() * tenth / 10]);
            std::thread::sleep(Duration::from_millis(120));
        }
        fs::remove_file(scratch.file("x.fastq")).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        stop.store(true, SeqCst);
        ran.join().unwrap().unwrap();
    });
    assert_eq!(metrics.summary().reads_out, 100);
}

#[test]
fn a_last_record_without_its_line_end_counts_when_the_run_ends() {
    let scratch = Scratch::new();
    scratch.write("x.fastq", "@a\nACGT\n+\nIIII");
    scratch.write("y.fastq", "@d\nACGT\n+\nII");
    scratch.write("z.fastq.gz", &gzip(b"@b\nACG\n+\nIII\n@c\nA\n+\nI\n")[..25]);
    let (good, bad, incomplete) = scratch.run();
    assert_eq!((good, bad), (2, 2));
    assert_eq!(incomplete, ["y.fastq", "z.fastq.gz"]);
    assert_eq!(scratch.run().0, 0);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused() {
    let scratch = Scratch::new();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.file("x.fastq")).unwrap();
    scratch.write("y.fastq", "@a\nACGT\n+\nIIII\n");
    assert_eq!(scratch.run(), (1, 0, vec!["x.fastq".to_string()]));
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("later");
    let mut config = config(&folder, &scratch.path().join("calls.tsv"), 1);
    config.until_idle = Some(Duration::from_millis(900));
    let metrics = Arc::new(Metrics::new());
    let maker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x.fq"), "@a\nACGT\n+\nIIII\n").unwrap();
    });
    let follower = Follower::open(config).unwrap();
    follower
        .run(&Counting::default(), &metrics, &Arc::default())
        .unwrap();
    maker.join().unwrap();
    assert_eq!(metrics.summary().reads_out, 1);
}

/// Stays in its first read until it is let go.
struct Hanging {
    entered: Arc<AtomicBool>,
    go: Arc<AtomicBool>,
}

impl Annotate for Hanging {
    type State = Hanging;

    fn read(&self) -> Hanging {
        let (entered, go) = (self.entered.clone(), self.go.clone());
        Hanging { entered, go }
    }
}

impl Annotation for Hanging {
    type Error = &'static str;

    fn push_codes(&mut self, _: &[u8], _: &mut dyn CallSink) -> Result<(), &'static str> {
        self.entered.store(true, SeqCst);
        while !self.go.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn CallSink) -> Result<(), &'static str> {
        Ok(())
    }

    fn abort(&mut self) {}
}

#[test]
fn a_run_ticks_unless_a_model_hangs() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.fq"), "@a\nACGT\n+\nIIII\n").unwrap();
    let mut config = config(&folder, &scratch.path().join("calls.tsv"), 1);
    // Two looks at the folder and more.
    config.until_idle = Some(Duration::from_millis(800));
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = ticks.clone();
    let tick = Tick(Arc::new(move || {
        counted.fetch_add(1, SeqCst);
    }));
    let (entered, go) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let annotator = Hanging {
        entered: entered.clone(),
        go: go.clone(),
    };
    let follower = Follower::open(config).unwrap().ticking(tick);
    assert_eq!(ticks.load(SeqCst), 0);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| follower.run(&annotator, &Arc::default(), &Arc::default()));
        while !entered.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The file's end may still be read.
        std::thread::sleep(Duration::from_millis(100));
        let hung = ticks.load(SeqCst);
        assert!(hung > 0, "none for the folder and the file");
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(ticks.load(SeqCst), hung);
        go.store(true, SeqCst);
        assert!(run.join().unwrap().unwrap().incomplete.is_empty());
        // A chunk and a commit written, the last look at the file, and two looks at the folder.
        let ticked = ticks.load(SeqCst) - hung;
        assert!(ticked >= 4, "{ticked}");
    });
}

/// A run that was killed before its first commit, again and again.
#[test]
fn what_was_never_committed_is_moved_aside() {
    let scratch = Scratch::new();
    scratch.write("a.fq", "@a\nACGT\n+\nIIII\n");
    let at = |name: &str| scratch.root.path().join(name);
    let begin = || {
        let opened = Follower::open(config(&at("run"), &at("calls.tsv"), 1));
        opened.map(drop)
    };
    begin().unwrap();
    let header = b"#read\tstart\tend\tstrand\tkind\tscore\tmodel\tflags\n".to_vec();
    let left = |number: u8| [&header[..], b"r\t0\t1\t", &[b'0' + number]].concat();
    for number in 1..=9 {
        fs::write(at("calls.tsv"), left(number)).unwrap();
        begin().unwrap();
    }
    // There is no name left, and nothing is changed.
    fs::write(at("calls.tsv"), left(0)).unwrap();
    let refused = begin().unwrap_err().to_string();
    assert!(refused.contains("left alone"), "{refused}");
    assert_eq!(fs::read(at("calls.tsv")).unwrap(), left(0));
    for number in 1..=9 {
        let name = match number {
            1 => "calls.tsv.earlier".to_string(),
            _ => format!("calls.tsv.earlier.{number}"),
        };
        assert_eq!(fs::read(at(&name)).unwrap(), left(number));
    }
    fs::remove_file(at("calls.tsv")).unwrap();
    assert_eq!(scratch.run(), (1, 0, vec![]));
}
