//! The program as its first command in the README builds it: what it does without the compiler, and
//! what it says where that is missing.

mod altered;
mod binary;

use altered::{builtin_bytes, tensors};
use binary::{data, run, run_with};
#[cfg(not(feature = "study"))]
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use strandline::annotate::Task;
use strandline::model::file::{GRAPH, GRAPH_JSON, ModelFile, serialize};
use strandline::model::manifest::LayerRecord;

/// A packed file whose graph is NNEF text, since `operator` is tract's own.
fn with_foreign_operator(path: &Path, operator: &str) {
    let bytes = builtin_bytes(Task::Promoter300, |manifest| {
        manifest.task = Task::Promoter.to_string();
        let record = LayerRecord {
            name: "last".to_string(),
            operator: operator.to_string(),
            precision: "f32".to_string(),
            output_scale: None,
            signal_to_noise: None,
            macs: 0,
        };
        manifest.layers.push(record);
        manifest.reproducible = None;
    });
    fs::write(path, bytes).unwrap();
    let file = ModelFile::open(path).unwrap();
    let mut tensors = tensors(&file);
    let graph = tensors.iter_mut().find(|t| t.name == GRAPH_JSON).unwrap();
    graph.name = GRAPH.to_string();
    // Only layers have labels in the text; a lean build reads no more of it.
    let layers = file.manifest().layers.iter().filter(|l| l.name != "last");
    let labels: Vec<String> = layers.map(|l| format!("label = \"{}\"", l.name)).collect();
    graph.data = format!("version 1.0; {}", labels.join("; ")).into_bytes();
    graph.shape = vec![graph.data.len()];
    let bytes = serialize(file.manifest(), tensors).unwrap();
    // The old file is mapped: it must not change in place.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn reads_are_annotated() {
    let reads = data("reads.fastq.gz");
    let ran = run(["annotate".as_ref(), "--tier=fast".as_ref(), &*reads]).exit(0);
    assert!(ran.text().lines().count() > 100, "{}", ran.err);
    let rna = run_with(
        ["annotate", "--molecule=rna"],
        b">r\nACGTACGTACGTACGTACGTACGTACGTATG\n",
    );
    rna.exit(0);
}

#[test]
fn files_with_operators_of_tracts_own_say_which_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("foreign.safetensors");
    with_foreign_operator(&file, "Softsign");
    let file = file.to_str().unwrap();
    let output = folder.path().join("calls.tsv");
    fs::write(&output, "kept").unwrap();
    let out = output.to_str().unwrap();
    for line in [
        &["inspect", file][..],
        &["bench-model", file],
        &["annotate", "--model", file, "--tasks=promoter", "-o", out],
        &["score", "-", "--model", file, "-o", out],
    ] {
        let ran = run(line).exit(1);
        assert!(ran.err.contains("foreign.safetensors: "), "{}", ran.err);
        if cfg!(not(feature = "pack")) {
            assert!(ran.err.contains("Softsign"), "{}", ran.err);
            let missing = "needs a build with the feature `pack`";
            assert!(ran.err.contains(missing), "{}", ran.err);
        }
        assert_eq!(fs::read(&output).unwrap(), b"kept");
    }
}

#[cfg(not(feature = "study"))]
#[test]
fn a_report_has_no_genes_and_says_what_to_build() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (report, reads) = (file("report.html"), data("transcripts.fa"));
    let line = ["annotate", "-o", "/dev/null", "--report", &report];
    let line: Vec<&OsStr> = line.iter().map(AsRef::as_ref).collect();
    let line = [&line[..], &[reads.as_ref()]].concat();
    run(&line).exit(0);
    assert!(
        fs::read_to_string(&report)
            .unwrap()
            .contains("What the run saw")
    );
    fs::remove_file(&report).unwrap();
    let ran = run([&line[..], &["--report-gff".as_ref(), "genes.gtf".as_ref()]].concat()).exit(2);
    assert!(
        ran.err.contains("cargo build --release --features full"),
        "{}",
        ran.err
    );
    assert!(!Path::new(&report).exists());
}

#[cfg(not(feature = "pack"))]
#[test]
fn pack_and_verify_say_what_to_build() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let out = output.to_str().unwrap();
    for line in [
        &["pack", "network.onnx", "--manifest", "m.toml", "-o", out][..],
        &["verify", "models/splice.safetensors"],
    ] {
        let ran = run(line).exit(2);
        assert!(
            ran.err.contains("cargo build --release --features full"),
            "{}",
            ran.err
        );
        assert!(ran.out.is_empty() && !output.exists());
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    // Wrong arguments are said first.
    let ran = run(["pack"]).exit(2);
    assert!(ran.err.contains("--output"), "{}", ran.err);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_says_what_to_build() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls.parquet");
    fs::write(&output, "kept").unwrap();
    let reads = data("reads.fastq.gz");
    let out = output.to_str().unwrap();
    let reads = reads.to_str().unwrap();
    let ran = run(["annotate", "--format=parquet", reads, "-o", out]).exit(2);
    let missing = "cargo build --release --features parquet";
    assert!(ran.err.contains(missing), "{}", ran.err);
    assert_eq!(fs::read(&output).unwrap(), b"kept");
}

#[cfg(not(feature = "fleet"))]
#[test]
fn what_speaks_with_a_broker_says_what_to_build() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls.jsonl");
    let (reads, url) = (data("reads.fastq.gz"), "nats://127.0.0.1/CALLS");
    let (reads, out) = (reads.to_str().unwrap(), output.to_str().unwrap());
    for line in [
        &[
            "annotate",
            reads,
            "--format=jsonl",
            "-o",
            out,
            "--publish",
            url,
        ][..],
        &["publish", reads, url],
        &["queue", url, reads, "--job=j"],
        &["work", url],
        &["collect", url, "j", "-o", out],
    ] {
        let ran = run(line).exit(2);
        let missing = "cargo build --release --features fleet";
        assert!(ran.err.contains(missing), "{}", ran.err);
        assert!(!output.exists());
    }
}
