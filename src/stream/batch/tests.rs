use super::*;
use crate::annotate::{Annotate, Annotation};
use crate::call::Strand;
use crate::call::{Call, CallKind, CallSink, Flags};
use crate::metrics::Metrics;
use crate::reads::fastx::{Limits, RecordEnd, Reject};
use crate::reads::source::Input;
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Calls every G. A record misbehaves where it holds an N: by its position a panic, an error or a
/// panic at the end.
struct Mock {
    states: AtomicUsize,
    /// Nanoseconds a base.
    pace: u64,
}

impl Mock {
    fn new(pace: u64) -> Mock {
        Mock {
            states: AtomicUsize::new(0),
            pace,
        }
    }
}

struct MockState {
    position: u64,
    fail_at_end: bool,
    pace: u64,
}

impl Annotate for Mock {
    type State = MockState;

    fn read(&self) -> MockState {
        self.states.fetch_add(1, SeqCst);
        MockState {
            position: 0,
            fail_at_end: false,
            pace: self.pace,
        }
    }
}

impl Annotation for MockState {
    type Error = &'static str;

    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), &'static str> {
        if self.pace > 0 {
            std::thread::sleep(Duration::from_nanos(self.pace * codes.len() as u64));
        }
        for &code in codes {
            match (code, self.position % 3) {
                (4, 0) => panic!("a panic in a test"),
                (4, 1) => return Err("a mock error"),
                (4, _) => self.fail_at_end = true,
                (2, _) => sink.take(Call {
                    start: self.position,
                    end: self.position + 1,
                    strand: Strand::Forward,
                    kind: CallKind::Donor,
                    score: 1.0,
                    flags: Flags::NONE,
                    model: 0,
                }),
                _ => {}
            }
            self.position += 1;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn CallSink) -> Result<(), &'static str> {
        assert!(!self.fail_at_end, "a panic in a test, at the end");
        self.position = 0;
        Ok(())
    }

    fn abort(&mut self) {
        self.position = 0;
        self.fail_at_end = false;
    }
}

fn config(threads: usize, pool: usize, order: Order) -> PipelineConfig {
    PipelineConfig {
        threads,
        order,
        limits: Limits {
            max_read_len: 1000,
            chunk_bases: 8,
        },
        strict: false,
        pool,
        records: None,
        keep: None,
    }
}

fn bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Input {
    Input::Reader(name.into(), Box::new(Cursor::new(bytes.into())))
}

/// What came out: per finished record its name and calls; and the rejects.
#[derive(Default)]
struct Written {
    records: Vec<(String, Vec<u64>)>,
    rejects: Vec<String>,
    chunks: HashSet<usize>,
    open: Option<(u64, String, Vec<u64>, u64)>,
}

impl Output for Written {
    fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
        let chunk = finished.chunk;
        self.chunks.insert(std::ptr::from_ref(chunk) as usize);
        assert_eq!(chunk.first, self.open.is_none(), "records interleave");
        let name = String::from_utf8_lossy(&chunk.name).into_owned();
        let (record, open_name, calls, start) =
            self.open
                .get_or_insert((chunk.record, name.clone(), Vec::new(), 0));
        assert_eq!((*record, &*open_name), (chunk.record, &name));
        assert!(*start <= chunk.start);
        *start = chunk.start;
        calls.extend(finished.calls.iter().map(|call| call.start));
        match &chunk.end {
            None => {}
            Some(RecordEnd::Complete) => {
                let (_, name, calls, _) = self.open.take().expect("open");
                self.records.push((name, calls));
            }
            Some(RecordEnd::Rejected(_)) => {
                assert!(finished.calls.is_empty());
                self.open = None;
            }
        }
        Ok(())
    }

    fn rejected(&mut self, reject: &Reject) {
        assert!(self.open.is_none());
        self.rejects.push(reject.to_string());
    }
}

struct Ran {
    result: Result<Outcome, PipelineError>,
    written: Written,
    metrics: Arc<Metrics>,
}

fn run_with(config: &PipelineConfig, inputs: Vec<Input>, mock: &Mock) -> Ran {
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mut written = Written::default();
    let result = run(config, inputs, mock, &metrics, &stop, &mut written);
    let summary = metrics.summary();
    assert!(summary.adds_up(), "{summary}");
    assert_eq!(summary.queued, 0);
    assert!(
        written.chunks.len() <= config.pool.max(1) + 1,
        "chunks are recycled"
    );
    Ran {
        result,
        written,
        metrics,
    }
}

fn naive(bases: &str) -> Vec<u64> {
    let at = |(i, b): (usize, char)| (b == 'G').then_some(i as u64);
    bases.chars().enumerate().filter_map(at).collect()
}

fn fastq(records: &[(String, String)]) -> String {
    records
        .iter()
        .map(|(name, bases)| format!("@{name}\n{bases}\n+\n{}\n", "I".repeat(bases.len())))
        .collect()
}

fn fasta(records: &[(String, String)]) -> String {
    records
        .iter()
        .map(|(name, bases)| format!(">{name}\n{bases}\n"))
        .collect()
}

fn records() -> impl Strategy<Value = Vec<(String, String)>> {
    let bases = prop_oneof![
        8 => "[ACGT]{0,12}",
        3 => "[ACGT]{30,90}",
        1 => "[ACGT]{0,20}N[ACGT]{0,20}",
        1 => "[ACGT]{0,40}[*][ACGT]{0,9}",
    ];
    prop::collection::vec(bases, 0..40).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, bases)| (format!("r{i}"), bases))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_record_comes_out_once(
        first in records(),
        second in records(),
        threads in 1usize..6,
        pool in 1usize..9,
        ready: bool,
    ) {
        let order = if ready { Order::Ready } else { Order::Input };
        let inputs = vec![bytes("a", fastq(&first)), bytes("b", fasta(&second))];
        let ran = run_with(&config(threads, pool, order), inputs, &Mock::new(0));
        prop_assert!(ran.result.is_ok());
        let good = |bases: &str| !bases.contains(['N', '*']);
        let all = || first.iter().chain(&second);
        let expected = all().filter(|(_, b)| good(b));
        let mut expected: Vec<_> = expected.map(|(n, b)| (n.clone(), naive(b))).collect();
        let mut found = ran.written.records;
        if ready {
            expected.sort();
            found.sort();
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(ran.written.rejects.len(), all().filter(|(_, b)| !good(b)).count());
        let summary = ran.metrics.summary();
        prop_assert_eq!(summary.reads_in as usize, first.len() + second.len());
    }
}

#[test]
fn input_order_is_the_same_whatever_the_threads() {
    let records: Vec<_> = (0..300)
        .map(|i| (format!("r{i}"), "ACGTG".repeat(1 + i * 7 % 40)))
        .collect();
    for threads in [1, 2, 8] {
        let ran = run_with(
            &config(threads, 12, Order::Input),
            vec![bytes("a", fastq(&records))],
            &Mock::new(500),
        );
        let names: Vec<_> = ran
            .written
            .records
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(
            names,
            records
                .iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        );
        let summary = ran.metrics.summary();
        assert_eq!(summary.bases_in, summary.bases_out);
        assert_eq!(
            summary.calls[0].1 as usize,
            records.iter().map(|(_, b)| naive(b).len()).sum::<usize>()
        );
    }
}

#[test]
fn a_failing_record_is_lost_alone() {
    let text = ">a\nACG\n>panics\nNG\n>b\nG\n>errs\nANG\n>late\nCCN\n\
                >long\nGGGGGGGGGACGTACGTACGTNGGGGGGGGGGGGG\n>c\nGG\n";
    for order in [Order::Input, Order::Ready] {
        let mock = Mock::new(0);
        let ran = run_with(&config(1, 4, order), vec![bytes("a", text)], &mock);
        assert!(ran.result.is_ok());
        let names: Vec<_> = ran
            .written
            .records
            .iter()
            .map(|(n, c)| (n.as_str(), c.len()))
            .collect();
        assert_eq!(names, [("a", 1), ("b", 1), ("c", 2)]);
        assert_eq!(
            ran.written.rejects,
            [
                "a: record 2 (panics) at byte 7: internal error: a panic in a test",
                "a: record 4 (errs) at byte 23: internal error: a mock error",
                "a: record 5 (late) at byte 33: internal error: a panic in a test, at the end",
                "a: record 6 (long) at byte 43: internal error: a panic in a test",
            ]
        );
        assert_eq!(
            mock.states.load(SeqCst),
            4,
            "one, and a new one after each panic"
        );
    }
}

#[test]
fn bad_inputs_do_not_keep_the_others() {
    let inputs = vec![
        bytes("a", ">a\nG\n"),
        Input::Path("/nonexistent/reads.fa".into()),
        bytes("junk", "\x00\x01"),
        bytes("cut", "@x\nG\n+\nI\n@b\nAC"),
        bytes("empty", ""),
        bytes("z", ">z\nGG\n>bad\nA*\n"),
    ];
    let ran = run_with(&config(3, 5, Order::Input), inputs, &Mock::new(0));
    let outcome = ran.result.expect("no failure of the run");
    let errors: Vec<_> = outcome
        .input_errors
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "/nonexistent/reads.fa: no such file",
            "junk: not a FASTA, FASTQ or BAM file: byte 0x00 at byte 0",
            "cut: cut off: the last record, 2 (b) at byte 9, has no end",
        ]
    );
    assert!(!outcome.stopped);
    let names: Vec<_> = ran
        .written
        .records
        .iter()
        .map(|(n, _)| n.as_str())
        .collect();
    assert_eq!(names, ["a", "x", "z"]);
    assert_eq!(
        ran.written.rejects,
        [
            "cut: record 2 (b) at byte 9: cut off: the input ends inside the record",
            "z: record 2 (bad) at byte 6: '*' at byte 12 is no nucleotide",
        ]
    );
}

#[test]
fn a_strict_run_ends_at_the_first_reject() {
    let records: Vec<_> = (0..200)
        .map(|i| {
            (
                format!("r{i}"),
                if i == 50 {
                    "A*".into()
                } else {
                    "ACGG".to_string()
                },
            )
        })
        .collect();
    for threads in [1, 4] {
        let strict = PipelineConfig {
            strict: true,
            ..config(threads, 8, Order::Input)
        };
        let ran = run_with(&strict, vec![bytes("a", fasta(&records))], &Mock::new(0));
        let error = ran.result.expect_err("strict");
        assert!(matches!(error, PipelineError::Strict(_)));
        assert_eq!(
            error.to_string(),
            "a: record 51 (r50) at byte 490: '*' at byte 496 is no nucleotide"
        );
        assert_eq!(ran.written.records.len(), 50);
        assert!(ran.metrics.summary().reads_in < 200);
    }
}

#[test]
fn a_full_disk_ends_the_run() {
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let endless = Input::Reader(
        "e".into(),
        Box::new(Endless {
            text: b">r\nACGTGACGTACGTACGT\n",
            at: 0,
        }),
    );
    let mut left = 10;
    let mut output = |_: &FinishedChunk<'_>| {
        left -= 1;
        if left == 0 {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    };
    let result = run(
        &config(3, 6, Order::Input),
        vec![endless],
        &Mock::new(0),
        &metrics,
        &stop,
        &mut output,
    );
    assert!(
        matches!(result, Err(PipelineError::Output(e)) if e.kind() == io::ErrorKind::StorageFull)
    );
    assert!(metrics.summary().adds_up(), "{}", metrics.summary());
}

#[test]
fn a_panicking_output_does_not_hang() {
    let run = std::panic::catch_unwind(|| {
        let endless = Input::Reader(
            "e".into(),
            Box::new(Endless {
                text: b">r\nACGTG\n",
                at: 0,
            }),
        );
        let mut output = |_: &FinishedChunk<'_>| -> io::Result<()> { panic!("a panic in a test") };
        run(
            &config(2, 4, Order::Ready),
            vec![endless],
            &Mock::new(0),
            &Default::default(),
            &Default::default(),
            &mut output,
        )
    });
    assert!(run.is_err());
}

/// Repeats a text for ever.
struct Endless {
    text: &'static [u8],
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        for byte in out.iter_mut() {
            *byte = self.text[self.at];
            self.at = (self.at + 1) % self.text.len();
        }
        Ok(out.len())
    }
}

#[test]
fn a_stopped_run_finishes_what_was_read() {
    // Short reads; a contig without an end; a good record and then a source that says nothing any
    // more.
    for (order, text) in [
        (Order::Input, &b">r\nACGTG\n"[..]),
        (
            Order::Ready,
            b"@r\nACGTGACGTACGTACGTACGTACGT\n+\nIIIIIIIIIIIIIIIIIIIIIIIII\n",
        ),
        (Order::Input, b"ACGTG\n"),
        (Order::Ready, b"ACGTG\n"),
    ] {
        let contig = text[0] == b'A';
        let head = if contig { &b">c\n"[..] } else { b"" };
        let endless = Input::Reader("e".into(), Box::new(head.chain(Endless { text, at: 0 })));
        let metrics = Arc::new(Metrics::new());
        let stop = Arc::new(AtomicBool::new(false));
        let mut written = Written::default();
        let mut chunks = 0;
        let rejects = Mutex::new(Vec::new());
        struct Stopping<'a>(
            &'a mut Written,
            &'a mut usize,
            &'a AtomicBool,
            &'a Mutex<Vec<String>>,
        );
        impl Output for Stopping<'_> {
            fn chunk(&mut self, finished: &FinishedChunk<'_>) -> io::Result<()> {
                *self.1 += 1;
                if *self.1 == 100 {
                    self.2.store(true, SeqCst);
                }
                self.0.chunk(finished)
            }
            fn rejected(&mut self, reject: &Reject) {
                self.3.lock().expect("alone").push(reject.to_string());
            }
        }
        let outcome = run(
            &config(2, 6, order),
            vec![endless, bytes("never", ">x\nA\n")],
            &Mock::new(0),
            &metrics,
            &stop,
            &mut Stopping(&mut written, &mut chunks, &stop, &rejects),
        )
        .expect("stopping is no error");
        assert!(outcome.stopped && outcome.input_errors.is_empty());
        let summary = metrics.summary();
        assert!(summary.adds_up(), "{summary}");
        assert!((100..120).contains(&chunks), "{chunks}");
        let rejects = rejects.into_inner().expect("alone");
        if contig {
            assert_eq!(
                rejects,
                ["e: record 1 (c) at byte 0: reading was stopped inside the record"]
            );
        } else {
            assert!(rejects.len() <= 1);
            assert_eq!(summary.reads_out as usize, written.records.len());
        }
    }
}

#[test]
fn a_source_that_blocks_is_left_behind() {
    struct Blocks(Option<std::sync::mpsc::Receiver<()>>);
    impl Read for Blocks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            if let Some(receiver) = self.0.take() {
                let _ = receiver.recv();
            }
            Ok(0)
        }
    }
    for text in [
        ">a\nACGTG\n>c\nACGTACGTACGTACGTACG",
        "@a\nACGTG\n+\nIIIII\n@b\nAC",
    ] {
        let (keep, receiver) = std::sync::mpsc::channel();
        let input = Input::Reader(
            "live".into(),
            Box::new(Cursor::new(text).chain(Blocks(Some(receiver)))),
        );
        let metrics = Arc::new(Metrics::new());
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while metrics.summary().reads_out == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                stop.store(true, SeqCst);
            });
            let mut written = Written::default();
            let outcome = run(
                &config(2, 4, Order::Input),
                vec![input],
                &Mock::new(0),
                &metrics,
                &stop,
                &mut written,
            )
            .expect("stopping is no error");
            assert!(outcome.stopped);
            assert_eq!(written.records.len(), 1);
            let open = usize::from(text.starts_with('>'));
            assert_eq!(written.rejects.len(), open);
            assert!(metrics.summary().adds_up());
        });
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(keep);
    }
}

#[test]
fn long_records_do_not_starve_a_tiny_pool() {
    let long = "ACGTG".repeat(180);
    let records: Vec<_> = (0..20)
        .map(|i| {
            (
                format!("r{i}"),
                if i % 3 == 0 { long.clone() } else { "G".into() },
            )
        })
        .collect();
    for order in [Order::Input, Order::Ready] {
        for pool in [1, 2, 3, 7] {
            for threads in [1, 4] {
                let ran = run_with(
                    &config(threads, pool, order),
                    vec![bytes("a", fastq(&records))],
                    &Mock::new(0),
                );
                assert_eq!(ran.written.records.len(), 20);
            }
        }
    }
}

#[test]
fn a_short_record_passes_a_long_one_when_ready() {
    let long = "A".repeat(64);
    let text = format!("@long\n{long}\n+\n{long}\n@short\nG\n+\nI\n");
    let ran = run_with(
        &config(2, 40, Order::Ready),
        vec![bytes("a", text)],
        &Mock::new(500_000),
    );
    let names: Vec<_> = ran
        .written
        .records
        .iter()
        .map(|(n, _)| n.as_str())
        .collect();
    assert_eq!(names, ["short", "long"]);
}
