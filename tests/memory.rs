//! The real binary's peak memory depends on its configuration, never on its input: a read of 10 Mb
//! and many short ones. Linux only, since it reads /proc.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The promise, in kilobytes.
const MOST: u64 = 64_000;

/// Random letters, the same every time.
struct Letters(u64);

impl Letters {
    fn fill(&mut self, out: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            out.push(b"ACGT"[(self.0 >> 33) as usize % 4]);
        }
    }
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args(["annotate", "-", "--strand", "forward", "--threads", "4"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Feeds the binary and gives its peak resident memory in kilobytes and its summary.
fn peak(arguments: &[&str], feed: impl FnOnce(&mut dyn Write)) -> (u64, String) {
    let mut child = start(arguments);
    let status = format!("/proc/{}/status", child.id());
    let (peak, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // The mark only rises, so the last look before the end has all of it but the last
        // milliseconds.
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                let text = fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
                let value = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
                peak.fetch_max(value.unwrap_or(0), Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        feed(&mut stdin);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        ended.store(true, Relaxed);
        output
    });
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{summary}");
    let peak = peak.into_inner();
    assert!(peak > 1_000, "{peak} kB: nothing was measured");
    println!("{peak} kB: {arguments:?}");
    (peak, summary)
}

#[test]
fn a_contig_of_10_mb_streams() {
    let (peak, summary) = peak(&["--tasks", "promoter"], |stdin| {
        stdin.write_all(b">contig\n").unwrap();
        let mut letters = Letters(1);
        let mut line = vec![];
        for _ in 0..1_000 {
            line.clear();
            letters.fill(&mut line, 10_000);
            line.push(b'\n');
            stdin.write_all(&line).unwrap();
        }
    });
    assert!(summary.contains("1 in = 1 out + 0 rejected"), "{summary}");
    assert!(summary.contains("10000000 in, 10000000 out"), "{summary}");
    assert!(peak < MOST, "{peak} kB");
}

#[test]
fn a_fastq_read_of_10_mb_fits() {
    let (peak, summary) = peak(&["--tasks", "promoter"], |stdin| {
        let mut line = vec![];
        Letters(2).fill(&mut line, 10_000_000);
        stdin.write_all(b"@read\n").unwrap();
        stdin.write_all(&line).unwrap();
        stdin.write_all(b"\n+\n").unwrap();
        line.fill(b'I');
        stdin.write_all(&line).unwrap();
        stdin.write_all(b"\n").unwrap();
    });
    assert!(summary.contains("1 in = 1 out + 0 rejected"), "{summary}");
    assert!(summary.contains("10000000 in, 10000000 out"), "{summary}");
    assert!(peak < MOST, "{peak} kB");
}

fn short_reads(count: u64, arguments: &[&str]) -> u64 {
    let (peak, summary) = peak(arguments, |stdin| {
        let mut letters = Letters(3);
        let mut record = vec![];
        for number in 0..count {
            record.clear();
            writeln!(record, "@read{number}").unwrap();
            letters.fill(&mut record, 200);
            record.extend_from_slice(b"\n+\n");
            record.resize(record.len() + 200, b'I');
            record.push(b'\n');
            stdin.write_all(&record).unwrap();
        }
    });
    let expected = format!("{count} in = {count} out + 0 rejected");
    assert!(summary.contains(&expected), "{summary}");
    peak
}

#[test]
fn the_number_of_reads_does_not_matter() {
    for arguments in [["--tasks", "promoter"], ["--molecule", "rna"]] {
        let few = short_reads(20_000, &arguments);
        let many = short_reads(100_000, &arguments);
        assert!(many < MOST, "{arguments:?}: {many} kB");
        // Some megabytes for what threads and the allocator do differently from run to run; the
        // reads themselves are 16 MB more.
        assert!(
            many < few + 6_000,
            "{arguments:?}: {few} kB for 20,000 reads, {many} kB for 100,000"
        );
    }
}

#[test]
fn all_tasks_on_both_strands_fit() {
    let arguments = [
        "--tasks",
        "splice,promoter,expression",
        "--min-score",
        "0.01",
    ];
    let peak = short_reads(5_000, &arguments);
    assert!(peak < MOST, "{peak} kB");
}
