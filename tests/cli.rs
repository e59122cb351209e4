//! `strandline annotate`, the real binary: good and bad files, exit codes, formats, order, pipes,
//! signals.

mod binary;

use binary::{Ran, data, run, run_with, strandline};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Reads in but for those passed over, out and rejected from the summary, which must add up.
fn counters(err: &str) -> [u64; 3] {
    let line = err
        .lines()
        .find_map(|l| l.strip_prefix("reads "))
        .expect(err);
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    let [all, good, rejected, shed, ref passed @ ..] = numbers[..] else {
        panic!("{line}");
    };
    let all = all - passed.iter().sum::<u64>();
    assert_eq!(all, good + rejected + shed, "{line}");
    assert!(!err.contains("UNACCOUNTED"), "{err}");
    [all, good, rejected]
}

fn input(name: &str) -> PathBuf {
    data("inputs").join(name)
}

fn annotate(more: &[&str], inputs: &[PathBuf]) -> Ran {
    let mut arguments: Vec<PathBuf> = vec!["annotate".into()];
    arguments.extend(more.iter().map(PathBuf::from));
    arguments.extend(inputs.iter().cloned());
    run(arguments)
}

/// Good reads, rejected reads, exit code, and what must stand on standard error, of every file in
/// `tests/data/inputs`.
const CORPUS: [(&str, u64, u64, i32, &str); 47] = [
    ("good_letters.fa", 3, 0, 0, ""),
    ("good_crlf.fa", 2, 0, 0, ""),
    ("good_crlf.fq", 2, 0, 0, ""),
    ("good_no_final_newline.fa", 2, 0, 0, ""),
    ("good_no_final_newline.fq", 2, 0, 0, ""),
    ("good_multiline.fa", 3, 0, 0, ""),
    ("good_empty_and_tiny.fa", 4, 0, 0, ""),
    ("good_empty_and_tiny.fq", 4, 0, 0, ""),
    ("good_names.fq", 5, 0, 0, ""),
    ("good_at_in_quality.fq", 3, 0, 0, ""),
    ("good_members.fq.gz", 2, 0, 0, ""),
    ("good_bgzf.fa.gz", 2, 0, 0, ""),
    ("good_400kb.fq.gz", 3, 0, 0, ""),
    ("good_empty.fa", 0, 0, 0, ""),
    ("good_empty.fq.gz", 0, 0, 0, ""),
    ("good_unaligned.bam", 3, 0, 0, ""),
    ("good_aligned.bam", 2, 0, 0, ""),
    ("good_no_records.bam", 0, 0, 0, ""),
    ("bad_tags.bam", 3, 0, 0, ""),
    (
        "bad_layout.bam",
        2,
        1,
        0,
        "record 2 at byte 243: the lengths in the BAM record do not fit its size",
    ),
    (
        "bad_size.bam",
        1,
        1,
        1,
        "cut off: the last record, 2 () at byte 243, has no end",
    ),
    (
        "bad_cut.bam",
        2,
        1,
        1,
        "cut off: the last record, 3 (third) at byte 416, has no end",
    ),
    (
        "bad_header.bam",
        0,
        0,
        1,
        "a BAM header that is broken or cut off at byte 20",
    ),
    (
        "bad_no_end.bam",
        3,
        0,
        1,
        "no end block behind byte 274 of the compressed file",
    ),
    (
        "bad_truncated.bam",
        0,
        0,
        1,
        "gzip data cut off at byte 164 of the compressed file",
    ),
    (
        "bad_unequal.fq",
        2,
        1,
        0,
        "record 2 (second) at byte 131: 60 bases but 53 quality values",
    ),
    (
        "bad_quality_longer.fq",
        2,
        1,
        0,
        "record 2 (second) at byte 131: 60 bases but 63 quality values",
    ),
    (
        "bad_letter.fq",
        2,
        1,
        0,
        "record 2 (second) at byte 131: 'E' at byte 159 is no nucleotide",
    ),
    (
        "bad_letter.fa",
        2,
        1,
        0,
        "record 2 (second) at byte 99: 'J' at byte 188 is no nucleotide",
    ),
    (
        "bad_header.fq",
        2,
        1,
        0,
        "record 2 at byte 131: expected '@', found 's'",
    ),
    (
        "bad_no_name.fq",
        2,
        1,
        0,
        "record 2 at byte 131: the header has no name",
    ),
    (
        "bad_no_separator.fq",
        2,
        1,
        0,
        "record 2 (second) at byte 131: '?' at byte 200 is no nucleotide",
    ),
    ("good_multiline.fq", 3, 0, 0, ""),
    (
        "bad_quality_byte.fq",
        2,
        1,
        0,
        "record 2 (second) at byte 131: byte 0x20 at byte 212 is no quality value",
    ),
    (
        "bad_binary_tail.fq",
        2,
        1,
        0,
        "record 3 at byte 263: expected '@', found byte 0x00",
    ),
    (
        "bad_cut_in_sequence.fq",
        2,
        1,
        1,
        "cut off: the last record, 3 (third) at byte 263, has no end",
    ),
    (
        "bad_cut_before_quality.fq",
        2,
        1,
        1,
        "cut off: the last record, 3 (third) at byte 263, has no end",
    ),
    (
        "bad_cut_in_quality.fq",
        2,
        1,
        1,
        "cut off: the last record, 3 (third) at byte 263, has no end",
    ),
    (
        "bad_truncated.fq.gz",
        2,
        1,
        1,
        "gzip data cut off at byte 610 of the compressed file",
    ),
    (
        "bad_truncated.fa.gz",
        1,
        1,
        1,
        "gzip data cut off at byte 535 of the compressed file",
    ),
    (
        "bad_truncated_trailer.fq.gz",
        2,
        0,
        1,
        "gzip data cut off at byte 111 of the compressed file",
    ),
    (
        "bad_checksum.fq.gz",
        2,
        0,
        1,
        "bad gzip data before byte 11",
    ),
    (
        "bad_after_gzip.fq.gz",
        2,
        0,
        1,
        "bad gzip data before byte 11",
    ),
    (
        "bad_binary.fq",
        0,
        0,
        1,
        "not a FASTA, FASTQ or BAM file: byte 0x00 at byte 0",
    ),
    (
        "bad_text.txt",
        0,
        0,
        1,
        "not a FASTA, FASTQ or BAM file: 'T' at byte 0",
    ),
    (
        "bad_no_header.txt",
        0,
        0,
        1,
        "not a FASTA, FASTQ or BAM file: 'A' at byte 0",
    ),
    (
        "bad_table.tsv",
        0,
        0,
        1,
        "not a FASTA, FASTQ or BAM file: 'r' at byte 0",
    ),
];

#[test]
fn every_file_of_the_corpus_ends_as_it_should() {
    let mut there: BTreeSet<String> = BTreeSet::new();
    for entry in fs::read_dir(data("inputs")).unwrap() {
        there.insert(entry.unwrap().file_name().into_string().unwrap());
    }
    assert!(there.remove("README.md"));
    let listed: BTreeSet<String> = CORPUS.iter().map(|c| c.0.to_string()).collect();
    assert_eq!(listed, there);
    // A call at every peak, so that the calls tell which reads were annotated.
    let options = ["--tasks", "promoter", "--min-score", "0"];
    for (name, good, rejected, code, message) in CORPUS {
        let path = input(name);
        let ran = annotate(&options, std::slice::from_ref(&path)).exit(code);
        assert_eq!(
            counters(&ran.err),
            [good + rejected, good, rejected],
            "{name}"
        );
        assert!(ran.err.contains(message), "{name}: {}", ran.err);
        if message.is_empty() {
            assert!(!ran.err.contains("[WARN"), "{}", ran.err);
        } else {
            assert!(
                ran.err.contains(&format!("{}: ", path.display())),
                "{}",
                ran.err
            );
        }
        let from_stdin = run_with(
            ["annotate", "-", "--tasks", "promoter", "--min-score", "0"],
            &fs::read(&path).unwrap(),
        )
        .exit(code);
        assert!(from_stdin.out == ran.out, "{name}");
        if !message.is_empty() {
            assert!(
                from_stdin.err.contains("standard input: "),
                "{}",
                from_stdin.err
            );
        }
        let strict = if rejected > 0 { 1 } else { code };
        let options = ["--tasks", "promoter", "--strict"];
        let ran = annotate(&options, &[path]).exit(strict);
        counters(&ran.err);
        assert!(ran.err.contains(message), "{name}: {}", ran.err);
    }
}

#[test]
fn reads_around_a_bad_one_are_annotated() {
    let options = ["--tasks", "promoter", "--min-score", "0"];
    let ran = annotate(&options, &[input("bad_letter.fq")]).exit(0);
    let reads: BTreeSet<&str> = ran
        .text()
        .lines()
        .skip(1)
        .map(|l| l.split('\t').next().unwrap())
        .collect();
    assert_eq!(reads, BTreeSet::from(["first", "third"]));
}

#[test]
fn bad_inputs_do_not_keep_the_others_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = [
        input("good_crlf.fq"),
        folder.path().join("missing.fq"),
        folder.path().to_path_buf(),
        input("bad_truncated.fq.gz"),
        input("bad_text.txt"),
        input("good_empty.fa"),
        input("good_bgzf.fa.gz"),
    ];
    let ran = annotate(&["--tasks", "promoter"], &inputs).exit(1);
    assert_eq!(counters(&ran.err), [7, 6, 1]);
    assert!(ran.err.contains("missing.fq: no such file"), "{}", ran.err);
    assert!(ran.err.contains("is a folder, not a file"), "{}", ran.err);
    assert!(ran.err.contains("cut off at byte 610"), "{}", ran.err);
    assert!(ran.err.contains("bad_text.txt: not a FASTA"), "{}", ran.err);
}

#[test]
fn long_reads_are_rejected_above_the_limit() {
    let long = [input("good_400kb.fq.gz")];
    let ran = annotate(&["--tasks", "promoter", "--max-read-len", "400000"], &long).exit(0);
    assert_eq!(counters(&ran.err), [3, 3, 0]);
    let ran = annotate(&["--tasks", "promoter", "--max-read-len", "399999"], &long).exit(0);
    assert_eq!(counters(&ran.err), [3, 2, 1]);
    assert!(
        ran.err
            .contains("400000 bases, more than the limit of 399999"),
        "{}",
        ran.err
    );
}

#[test]
fn wrong_usage_is_exit_2() {
    let good = input("good_crlf.fa")
        .into_os_string()
        .into_string()
        .unwrap();
    for arguments in [
        &["annotate", "--bogus"][..],
        &["annotate", &good, "--format", "xml"],
        &["annotate", &good, "--tasks", "folding"],
        &["annotate", &good, "--min-score", "3"],
        &["annotate", &good, "--threads", "0"],
        &["annotate", &good, "--max-starts", "0", "--molecule", "rna"],
        &[
            "annotate",
            &good,
            "--format",
            "splice-tsv",
            "--tasks",
            "promoter",
        ],
        &["annotate", "-", "--clade", "auto"],
        &["annotate", &good, "--clade", "fungus"],
        &["annotate", &good, "--clade", "plant", "--tasks", "promoter"],
        &[
            "score",
            &good,
            "--task=te",
            "--clade=plant",
            "--whole",
            "-o=x",
        ],
        &["clade"],
        &["score", &good, "--task", "expression", "-o", "x"],
        &["score", &good, "-o", "x"],
        &["frobnicate"],
        &[],
    ] {
        let ran = run(arguments).exit(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}");
    }
    run(["--help"]).exit(0);
    let help = run(["annotate", "--help"]).exit(0);
    assert!(help.text().contains("--molecule"));
    run(["--version"]).exit(0);
}

fn reads() -> PathBuf {
    data("reads.fastq.gz")
}

/// The first sample reads, as text.
fn some_reads(count: usize) -> Vec<u8> {
    let file = fs::File::open(reads()).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let lines: Vec<&str> = text.lines().take(4 * count).collect();
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn threads_change_nothing_and_ready_order_only_the_order() {
    let text = some_reads(40);
    let with = |more: &[&str]| {
        let arguments = ["annotate", "--min-score", "0.05"].iter().chain(more);
        run_with(arguments, &text).exit(0)
    };
    let one = with(&["--threads", "1"]);
    assert!(one.text().lines().count() > 100);
    assert!(with(&["--threads", "4"]).out == one.out);
    let ready = with(&["--threads", "4", "--order", "ready"]);
    let sorted = |ran: &Ran| {
        let mut lines: Vec<String> = ran.text().lines().map(String::from).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&ready), sorted(&one));
    for ran in [&one, &ready] {
        assert_eq!(counters(&ran.err), [40, 40, 0]);
        let calls = ran
            .err
            .lines()
            .find_map(|l| l.strip_prefix("calls "))
            .unwrap();
        let calls: usize = calls
            .split_whitespace()
            .filter_map(|w| w.parse::<usize>().ok())
            .sum();
        assert_eq!(calls, ran.text().lines().count() - 1);
        for word in ["p50", "p90", "p99 ", "p99.9", "Mb/s"] {
            assert!(ran.err.contains(word), "{}", ran.err);
        }
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let ran = annotate(&["-q", "--tasks", "promoter"], &[input("bad_letter.fq")]).exit(0);
    assert_eq!(ran.err, "");
    let ran = annotate(&["-q", "--tasks", "promoter"], &[input("nothing.fq")]).exit(1);
    assert!(
        ran.err.contains("no such file") && !ran.err.contains("reads "),
        "{}",
        ran.err
    );
}

#[test]
fn every_format_has_its_shape() {
    let text = some_reads(12);
    let with = |format: &str, more: &[&str]| {
        let fixed = ["annotate", "-q", "--format", format];
        let ran = run_with(fixed.iter().chain(more), &text).exit(0);
        ran.text().to_string()
    };
    let splice = ["--tasks", "splice", "--min-score", "0.1"];
    let tsv = with("tsv", &splice);
    let mut lines = tsv.lines();
    assert_eq!(
        lines.next(),
        Some("#read\tstart\tend\tstrand\tkind\tscore\tmodel\tflags")
    );
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split('\t').collect()).collect();
    assert!(rows.len() > 20);
    for row in &rows {
        let [_, start, end, strand, kind, score, model, flags] = row[..] else {
            panic!("{row:?}");
        };
        assert_eq!(
            start.parse::<u64>().unwrap() + 1,
            end.parse::<u64>().unwrap()
        );
        assert!(["+", "-"].contains(&strand) && ["donor", "acceptor"].contains(&kind));
        assert!(
            (0.1..=1.0).contains(&score.parse::<f64>().unwrap()),
            "{score}"
        );
        assert!(
            model.contains('/') && [".", "short-context"].contains(&flags),
            "{row:?}"
        );
    }
    let table = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        lines
            .map(|l| l.split('\t').map(String::from).collect())
            .collect()
    };
    let bed = table(&with("bed", &splice));
    let gff3 = with("gff3", &splice);
    assert!(gff3.starts_with("##gff-version 3\n"));
    let gff3 = table(&gff3);
    let jsonl = with("jsonl", &splice);
    let jsonl: Vec<serde_json::Value> = jsonl
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!([bed.len(), gff3.len(), jsonl.len()], [rows.len(); 3]);
    // Not only the highest of their surroundings.
    let aligner = table(&with("splice-tsv", &["--min-score", "0.01"]));
    assert!(aligner.len() > rows.len());
    for (i, row) in rows.iter().enumerate() {
        let start: u64 = row[1].parse().unwrap();
        assert_eq!(bed[i][..3], row[..3]);
        assert_eq!(bed[i][3], row[4..].join("|"));
        // The thick part is the whole; nothing stands behind the colour, where BED12 has blocks.
        assert_eq!(bed[i][5..8], [row[3], row[1], row[2]]);
        assert_eq!(bed[i][8].split(',').count(), 3);
        assert_eq!(bed[i].len(), 9);
        let term = match row[4] {
            "donor" => "five_prime_cis_splice_site",
            _ => "three_prime_cis_splice_site",
        };
        let one_based = (start + 1).to_string();
        assert_eq!(gff3[i][1..5], ["strandline", term, &one_based, &one_based]);
        assert_eq!((&*gff3[i][6], gff3[i].len()), (row[3], 9));
        let (read, strand, kind, model) = (row[0], row[3], row[4], row[6]);
        let id = format!("ID={read}:{one_based}-{one_based}:{strand}:{kind}:{model};Name={kind};");
        assert!(gff3[i][8].starts_with(&id), "{:?}", gff3[i]);
        assert_eq!(jsonl[i]["start"], start);
        assert_eq!(
            (jsonl[i]["read"].as_str(), jsonl[i]["kind"].as_str()),
            (Some(row[0]), Some(row[4]))
        );
        let (letter, boundary) = match (row[4], row[3]) {
            ("donor", "+") => ("D", start + 1),
            ("donor", _) => ("D", start),
            ("acceptor", "+") => ("A", start),
            _ => ("A", start + 1),
        };
        let line = [row[0], &boundary.to_string(), row[3], letter];
        assert!(aligner.iter().any(|own| own[..4] == line), "{line:?}");
    }
    // More often sites than GT and AG are.
    for line in &aligner {
        assert!(
            (-2..=13).contains(&line[4].parse::<i32>().unwrap()),
            "{line:?}"
        );
    }
    let bedgraph = with("bedgraph", &splice);
    let bedgraph = table(&bedgraph);
    assert!(!bedgraph.is_empty() && bedgraph.len() <= rows.len());
    for row in &bedgraph {
        assert_eq!(row.len(), 4);
        assert!((0.0..=1.0).contains(&row[3].parse::<f64>().unwrap()));
    }
    // A file a strand: the calls of that strand, each in its place.
    for (strand, own) in [("+", "forward"), ("-", "reverse")] {
        let options = [&splice[..], &["--strand", own]].concat();
        let bedgraph = table(&with("bedgraph", &options));
        let expected: Vec<Vec<&str>> = rows
            .iter()
            .filter(|row| row[3] == strand)
            .map(|row| vec![row[0], row[1], row[2], row[5]])
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(bedgraph, expected, "{own}");
    }
}

#[test]
fn rna_is_scored_before_its_first_start_codon() {
    let upstream = "CCGGA".repeat(10);
    let text = format!(">rna\n{upstream}AUG{upstream}AUGCC\n>none\n{upstream}\n");
    let ran = run_with(["annotate", "--molecule", "rna", "-q"], text.as_bytes()).exit(0);
    let rows: Vec<&str> = ran.text().lines().skip(1).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(
        rows[0].starts_with("rna\t0\t50\t+\texpression\t"),
        "{rows:?}"
    );
    assert!(rows[0].ends_with("\t5p-unverified"), "{rows:?}");
    let ran = run_with(
        ["annotate", "--molecule", "rna", "--max-starts", "5"],
        text.as_bytes(),
    )
    .exit(0);
    assert_eq!(ran.text().lines().count(), 3);
}

#[test]
fn output_goes_to_a_file_and_failures_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("calls.tsv");
    let own = target.display().to_string();
    let small = input("good_members.fq.gz");
    let to_stdout = annotate(&["--min-score", "0.01"], std::slice::from_ref(&small)).exit(0);
    annotate(
        &["--min-score", "0.01", "-o", &own],
        std::slice::from_ref(&small),
    )
    .exit(0);
    assert!(fs::read(&target).unwrap() == to_stdout.out);
    let missing = folder
        .path()
        .join("no/such/folder.tsv")
        .display()
        .to_string();
    let ran = annotate(&["-o", &missing], std::slice::from_ref(&small)).exit(1);
    assert!(ran.err.contains(&missing), "{}", ran.err);
    // A full disk: early, where the output outgrows the buffer, and at the very end.
    if cfg!(target_os = "linux") {
        for (inputs, min_score) in [(reads(), "0"), (small, "0.5")] {
            let options = [
                "--tasks",
                "promoter",
                "--min-score",
                min_score,
                "-o",
                "/dev/full",
            ];
            let ran = annotate(&options, &[inputs]).exit(1);
            assert!(ran.err.contains("/dev/full: No space left"), "{}", ran.err);
            counters(&ran.err);
        }
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = strandline(["annotate", "--tasks", "promoter", "--min-score", "0"])
        .arg(reads())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("#read"));
    drop(out);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    counters(&err);
}

/// Sends SIGINT to a run that reads standard input, and gives what it said.
#[cfg(unix)]
fn interrupted(record: Option<&[u8]>) -> (i32, String, String) {
    let mut child = strandline(["annotate", "--tasks", "promoter", "--min-score", "0.3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let id = child.id();
    std::thread::scope(|scope| {
        let ended = scope.spawn(move || {
            let started = Instant::now();
            std::thread::sleep(Duration::from_millis(1_500));
            let kill = format!("kill -INT {id}");
            let status = std::process::Command::new("sh")
                .args(["-c", &kill])
                .status();
            assert!(status.unwrap().success());
            let output = child.wait_with_output().unwrap();
            assert!(
                started.elapsed() < Duration::from_secs(15),
                "{:?}",
                started.elapsed()
            );
            output
        });
        // Until the program closes its end; without a record standard input stays open and silent.
        match record {
            Some(record) => while stdin.write_all(record).is_ok() {},
            None => {
                while !ended.is_finished() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        let output = ended.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    })
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_stream_with_counters_that_add_up() {
    let record = some_reads(3);
    let (code, out, err) = interrupted(Some(&record));
    assert_eq!(code, 130, "{err}");
    let [reads, good, _] = counters(&err);
    assert!(reads > 10 && good > 10, "{err}");
    assert!(out.ends_with('\n'));
    let (code, out, err) = interrupted(None);
    assert_eq!(code, 130, "{err}");
    assert_eq!(counters(&err), [0; 3]);
    assert_eq!(out.lines().count(), 1);
    // Record after record without a base.
    let (code, _, err) = interrupted(Some(b">empty\n"));
    assert_eq!(code, 130, "{err}");
    counters(&err);
}
