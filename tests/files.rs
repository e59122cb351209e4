//! A user's files: nothing that is read is written, and what stands under an output's name is
//! complete.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn strandline(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    command.args(arguments).current_dir(folder);
    command
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    strandline(arguments, folder).output().unwrap()
}

/// A good record of 2,000 bases.
fn record(name: &str) -> String {
    let letters = "ACGTTGCAGGTAAGTCCATG".repeat(100);
    format!("@{name}\n{letters}\n+\n{}\n", "I".repeat(2000))
}

#[test]
fn no_command_writes_what_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = data("../../models/splice.safetensors");
    for name in ["r.fq", "g.fa", "s.tsv", "p.toml", "b.json"] {
        fs::write(at(name), record("a")).unwrap();
    }
    fs::copy(&model, at("m.safetensors")).unwrap();
    fs::hard_link(at("r.fq"), at("hard")).unwrap();
    fs::create_dir(at("run")).unwrap();
    fs::write(at("run/x.fastq"), record("x")).unwrap();
    fs::hard_link(at("r.fq"), at("index.tsv")).unwrap();
    fs::create_dir(at("out")).unwrap();
    fs::hard_link(at("r.fq"), at("out/index.tsv")).unwrap();
    fs::hard_link(at("r.fq"), at("out/reads_1.fastq")).unwrap();
    let simulate = ["simulate", "g.fa", "--sites", "s.tsv", "--reads=1"];
    let live = ["annotate", "--order=live", "--policy", "p.toml"];
    for (line, more) in [
        (&["annotate", "r.fq", "-o"][..], &["r.fq"][..]),
        (&["annotate", "r.fq", "-o"], &["hard"]),
        (&["annotate", "r.fq", "--format=bam", "-o"], &["./r.fq"]),
        (
            &["annotate", "r.fq", "--model=m.safetensors", "-o"],
            &["m.safetensors"],
        ),
        (&live, &["r.fq", "--decisions", "r.fq"]),
        (&live, &["r.fq", "--decisions", "p.toml"]),
        (&live, &["r.fq", "-o", "new", "--decisions", "new"]),
        (&["annotate", "--follow", "run", "-o"], &["run/x.fastq"]),
        (&["annotate", "--follow", "run", "-o"], &["run/new.fq"]),
        (
            &["annotate", "--follow", "run", "-o", "c.tsv", "--journal"],
            &["run/x.fastq"],
        ),
        (&["score", "r.fq", "--task=te", "--whole", "-o"], &["hard"]),
        (&["score", "r.fq", "--task=splice", "-o"], &["out"]),
        (&simulate, &["-o", "g.fa", "--truth", "t"]),
        (&simulate, &["-o", "x", "--truth", "s.tsv"]),
        (&simulate, &["-o", "x", "--truth", "x"]),
        (&["replay", "hard", "--to"], &["out"]),
        (
            &["bench-model", "splice", "--input", "r.fq", "--output"],
            &["hard"],
        ),
        (&["bench", "r.fq", "--json"], &["hard"]),
        (
            &["bench", "r.fq", "--baseline", "b.json", "--html"],
            &["b.json"],
        ),
        #[cfg(feature = "pack")]
        (&["pack", "g.fa", "--manifest", "p.toml", "-o"], &["p.toml"]),
    ] {
        let done = run(&[line, more].concat(), folder.path());
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{line:?} {more:?}: {said}");
        for name in ["r.fq", "g.fa", "s.tsv", "p.toml", "b.json", "out/index.tsv"] {
            let text = fs::read_to_string(at(name)).unwrap();
            assert!(text == record("a"), "{line:?} {more:?} changed {name}");
        }
        assert!(fs::read(at("m.safetensors")).unwrap() == fs::read(&model).unwrap());
        assert!(fs::read_to_string(at("run/x.fastq")).unwrap() == record("x"));
        for name in ["new", "new.part", "c.tsv", "x", "t"] {
            assert!(!at(name).exists(), "{line:?} {more:?} left {name}");
        }
    }
}

#[test]
fn files_in_a_folder_that_nobody_named_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("r.fq"), record("a")).unwrap();
    fs::create_dir(at("run")).unwrap();
    let replay = ["replay", "r.fq", "--speed=1000", "--to=run"];
    let score = ["score", "r.fq", "--task=splice", "-o=run"];
    for (line, mine) in [
        (&replay[..], "reads_1.fastq"),
        (&replay, "reads_7.fastq.gz"),
        (&replay, "reads_1.fastq.part"),
        (&score, "index.tsv"),
    ] {
        let mine = at("run").join(mine);
        fs::write(&mine, "mine").unwrap();
        let done = run(line, folder.path());
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{line:?} {mine:?}: {said}");
        assert!(said.contains("would be overwritten"), "{said}");
        assert_eq!(fs::read_dir(at("run")).unwrap().count(), 1, "{mine:?}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        fs::remove_file(&mine).unwrap();
        // Scores that are made anew take the place of earlier ones.
        for round in 0..2 {
            let done = run(line, folder.path());
            let said = String::from_utf8_lossy(&done.stderr);
            let expected = if line == replay && round > 0 { 2 } else { 0 };
            assert_eq!(done.status.code(), Some(expected), "{line:?}: {said}");
        }
        fs::remove_dir_all(at("run")).unwrap();
        fs::create_dir(at("run")).unwrap();
    }
}

#[test]
fn an_earlier_result_outlives_a_run_that_comes_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("calls.tsv"), "earlier").unwrap();
    fs::write(at("bad.fq"), "@a\nAC!T\n+\nIIII\n@b\nAC\n+\nI\n").unwrap();
    let cut = data("inputs/bad_cut.bam");
    for (input, part) in [
        (Path::new("missing.fq"), false),
        // Every record of it is rejected.
        (Path::new("bad.fq"), true),
        (&cut, true),
    ] {
        let input = input.to_str().unwrap();
        let done = run(&["annotate", input, "-o", "calls.tsv"], folder.path());
        assert_eq!(done.status.code(), Some(1), "{input}");
        assert_eq!(fs::read(at("calls.tsv")).unwrap(), b"earlier", "{input}");
        assert_eq!(at("calls.tsv.part").exists(), part, "{input}");
    }
    // Of a live run as well.
    let done = run(&["annotate", "--order=live", "bad.fq"], folder.path());
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("none of its 2 records"), "{said}");
    fs::write(at("good.fq"), record("a")).unwrap();
    let done = run(&["annotate", "good.fq", "-o", "calls.tsv"], folder.path());
    assert_eq!(done.status.code(), Some(0));
    assert!(fs::read(at("calls.tsv")).unwrap().starts_with(b"#read"));
    assert!(!at("calls.tsv.part").exists());
}

#[test]
fn a_name_in_gz_holds_the_same_lines() {
    let folder = tempfile::tempdir().unwrap();
    let reads = data("reads.fastq.gz");
    let line = [
        "annotate",
        reads.to_str().unwrap(),
        "--format=bed",
        "--tier=fast",
        "-o",
    ];
    for name in ["calls.bed", "calls.bed.gz"] {
        assert!(
            run(&[&line[..], &[name]].concat(), folder.path())
                .status
                .success()
        );
    }
    let packed = fs::read(folder.path().join("calls.bed.gz")).unwrap();
    let mut plain = vec![];
    let mut unpacked = flate2::read::MultiGzDecoder::new(&packed[..]);
    unpacked.read_to_end(&mut plain).unwrap();
    assert!(plain == fs::read(folder.path().join("calls.bed")).unwrap());
    assert_eq!(packed[12..14], *b"BC", "blocks of BGZF");
}

/// Starts a run that reads standard input and waits until it has taken a record.
#[cfg(unix)]
fn waiting(arguments: &[&str], folder: &Path) -> Child {
    let mut command = strandline(arguments, folder);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(record("a").as_bytes()).unwrap();
    input.flush().unwrap();
    let part = folder.join("calls.tsv.part");
    while fs::metadata(&part).map_or(0, |about| about.len()) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([name, &id])
            .status()
            .unwrap()
            .success()
    );
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_what_there_is_and_says_so() {
    for (name, code, live) in [
        ("-INT", 130, false),
        ("-TERM", 143, false),
        ("-TERM", 0, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (calls, part) = (
            folder.path().join("calls.tsv"),
            folder.path().join("calls.tsv.part"),
        );
        let order = if live {
            "--order=live"
        } else {
            "--order=ready"
        };
        // A call at every peak.
        let line = [
            "annotate",
            "-",
            order,
            "--tasks=promoter",
            "--min-score=0",
            "-o",
            "calls.tsv",
        ];
        let mut child = waiting(&line, folder.path());
        // The input goes on.
        let input = child.stdin.take();
        signal(&child, name);
        let status = child.wait().unwrap();
        drop(input);
        assert_eq!(status.code(), Some(code), "{name} {order}");
        // Of a live run this is the normal end.
        assert_eq!(
            (calls.exists(), part.exists()),
            (live, !live),
            "{name} {order}"
        );
        let text = fs::read_to_string(if live { calls } else { part }).unwrap();
        assert!(text.starts_with("#read"));
    }
}

/// Files have an end of their own, in whatever order they are read.
#[cfg(unix)]
#[test]
fn a_signal_leaves_files_unread_in_live_order_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let reads: String = (0..4000)
        .map(|number| record(&number.to_string()))
        .collect();
    fs::write(at("reads.fastq"), reads).unwrap();
    fs::write(at("calls.tsv"), "earlier").unwrap();
    let line = [
        "annotate",
        "reads.fastq",
        "--order=live",
        "--min-score=0",
        "-o",
        "calls.tsv",
    ];
    let mut child = strandline(&line, folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while fs::metadata(at("calls.tsv.part")).map_or(0, |about| about.len()) < 1000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_to_string(at("calls.tsv")).unwrap(), "earlier");
    assert!(at("calls.tsv.part").exists());
}

/// What the shell opens has a name, too.
#[cfg(unix)]
#[test]
fn redirected_files_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (line, redirected) in [
        ("annotate -o r.fastq", "< r.fastq"),
        ("annotate - -o link.fastq", "< r.fastq"),
        ("annotate --order live - -o r.fastq", "< r.fastq"),
        ("score - --whole --task te -o r.fastq", "< r.fastq"),
        ("annotate r.fastq", ">> r.fastq"),
        ("annotate r.fastq -o -", ">> link.fastq"),
        ("replay r.fastq", ">> r.fastq"),
        ("eval r.fastq --truth other", ">> r.fastq"),
        ("inspect r.fastq", ">> link.fastq"),
    ] {
        drop(fs::remove_file(at("link.fastq")));
        fs::write(at("r.fastq"), record("a")).unwrap();
        fs::hard_link(at("r.fastq"), at("link.fastq")).unwrap();
        let ran = Command::new("sh")
            .args(["-c", &format!("\"$0\" {line} {redirected}")])
            .arg(env!("CARGO_BIN_EXE_strandline"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains("is read"), "{line}: {said}");
        assert_eq!(
            fs::read_to_string(at("r.fastq")).unwrap(),
            record("a"),
            "{line}"
        );
    }
    // Another file is nobody's.
    let ran = Command::new("sh")
        .args(["-c", "\"$0\" annotate - < r.fastq > calls.tsv"])
        .arg(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0));
}

/// A file that may grow no larger stands for a disk that is full.
#[cfg(unix)]
#[test]
fn what_was_written_before_the_disk_was_full_stays() {
    let folder = tempfile::tempdir().unwrap();
    let reads = data("reads.fastq.gz");
    fs::write(folder.path().join("calls.tsv"), "earlier").unwrap();
    for order in ["input", "live"] {
        let done = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_strandline"))
            .args([
                "annotate",
                "--tier=fast",
                "--order",
                order,
                "-o",
                "calls.tsv",
            ])
            .arg(&reads)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{order}: {said}");
        assert!(said.contains("error: calls.tsv: "), "{order}: {said}");
        assert!(
            said.contains("calls.tsv.part: the next run"),
            "{order}: {said}"
        );
        let part = folder.path().join("calls.tsv.part");
        assert!(fs::metadata(part).unwrap().len() > 4096, "{order}: {said}");
        let calls = fs::read(folder.path().join("calls.tsv")).unwrap();
        assert_eq!(calls, b"earlier");
    }
}
