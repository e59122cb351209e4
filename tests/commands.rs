//! `score`, `simulate`, `eval`, `models`, `inspect`, `verify` and `pack`: the real binary.

mod altered;
mod binary;

use altered::builtin_bytes;
use binary::{data, run, run_with};
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use strandline::annotate::Scorer;
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::annotate::calibrate::Calibration;
use strandline::call::Strand;
use strandline::model::manifest::{Context, Manifest, Tier};
use strandline::reads::nucleotide;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Shape and values of a `.npy` file of float32 rows.
fn npy(path: &Path) -> ([usize; 2], Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header = std::str::from_utf8(&bytes[10..128]).unwrap();
    assert!(
        header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': ("),
        "{header}"
    );
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let shape: Vec<usize> = shape
        .split(',')
        .map(|n| n.trim().parse().unwrap())
        .collect();
    let (values, rest) = bytes[128..].as_chunks::<4>();
    assert!(rest.is_empty());
    let values: Vec<f32> = values.iter().map(|x| f32::from_le_bytes(*x)).collect();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    (shape.try_into().unwrap(), values)
}

/// Sample reads with a bad record among them, as FASTQ.
fn three_reads() -> Vec<(String, Vec<u8>)> {
    let mut text = String::new();
    let file = File::open(data("reads.fastq.gz")).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let read = |record: &[&str]| (record[0][1..].to_string(), record[1].as_bytes().to_vec());
    lines.chunks_exact(4).take(3).map(read).collect()
}

#[test]
fn score_writes_a_row_a_base_in_forward_order() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("reads.fa");
    let reads = three_reads();
    let mut fasta = vec![];
    for (number, (name, letters)) in reads.iter().enumerate() {
        fasta.extend_from_slice(format!(">{name}\n").as_bytes());
        fasta.extend_from_slice(letters);
        // The second record is bad, and keeps its number.
        fasta.extend_from_slice(if number == 1 { b"!\n" } else { b"\n" });
    }
    fs::write(&input, fasta).unwrap();
    for (task, columns) in [(Task::Splice, 2), (Task::Promoter, 1)] {
        let out = folder.path().join(task.name());
        let ran = run([
            "score",
            &text(&input),
            "--task",
            task.name(),
            "-o",
            &text(&out),
        ])
        .exit(0);
        assert!(ran.err.contains("record 2"), "{}", ran.err);
        let index = fs::read_to_string(out.join("index.tsv")).unwrap();
        let mut lines = index.lines();
        assert_eq!(lines.next(), Some("record\tstrand\tlength\tfile"));
        let mut scorer = Scorer::new(builtin::model(task, Tier::Auto).unwrap()).unwrap();
        let outputs = scorer.manifest().outputs.clone();
        for (number, (name, letters)) in reads.iter().enumerate().filter(|(n, _)| *n != 1) {
            for (strand, side) in [(Strand::Forward, "forward"), (Strand::Reverse, "reverse")] {
                let file = format!("{:08}.{side}.npy", number + 1);
                let expected = format!("{name}\t{strand}\t{}\t{file}", letters.len());
                assert_eq!(lines.next(), Some(&*expected));
                let (shape, values) = npy(&out.join(file));
                assert_eq!(shape, [letters.len(), columns]);
                assert!(values.iter().all(|p| (0.0..=1.0).contains(p)));
                let mut codes = vec![];
                nucleotide::encode(letters, &mut codes);
                let raw = scorer.raw(&codes, strand).unwrap();
                for (i, (own, raw)) in values.iter().zip(raw).enumerate() {
                    let (at, output) = (i / columns, &outputs[i % columns]);
                    let ends = at.min(letters.len() - 1 - at);
                    let short = output.short_context.iter().find(|s| ends < s.below);
                    let knots = short.map_or(&output.calibration, |s| &s.calibration);
                    let score = Calibration::new(knots, output.link).score(raw);
                    assert_eq!(own.to_bits(), score.to_bits());
                }
            }
        }
        assert_eq!(lines.next(), None);
    }
    let out = folder.path().join("one");
    let forward = ["--strand", "forward", "-o", &text(&out)];
    run(["score", &text(&input), "--task", "splice"]
        .iter()
        .chain(&forward))
    .exit(0);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
}

#[test]
fn score_whole_writes_a_line_a_record() {
    let reads = three_reads();
    let mut fasta = String::new();
    for (name, letters) in &reads {
        let window = std::str::from_utf8(&letters[500..570]).unwrap();
        fasta += &format!(">{name} comment\n{window}\n");
    }
    fasta += ">short\nACGT\n";
    for (task, column, range) in [
        ("promoter", "promoter", 0.0..=1.0),
        ("expression", "mean_ribosome_load", 0.0..=20.0),
    ] {
        let ran = run_with(
            ["score", "-", "--task", task, "--whole", "-o", "-"],
            fasta.as_bytes(),
        );
        let ran = ran.exit(0);
        let mut lines = ran.text().lines();
        assert_eq!(lines.next(), Some(&*format!("record\t{column}")));
        for (name, _) in &reads {
            let (record, score) = lines.next().unwrap().split_once('\t').unwrap();
            assert_eq!(record, name);
            assert!(range.contains(&score.parse::<f64>().unwrap()), "{score}");
        }
        let (record, score) = lines.next().unwrap().split_once('\t').unwrap();
        assert_eq!((record, score == "NA"), ("short", task == "expression"));
        assert_eq!(lines.next(), None);
    }
    let splice = run_with(
        ["score", "-", "--task", "splice", "--whole", "-o", "-"],
        fasta.as_bytes(),
    );
    assert!(
        splice
            .exit(0)
            .text()
            .starts_with("record\tacceptor\tdonor\n")
    );
    // No window is ruled out by the first tier.
    for task in ["splice", "promoter"] {
        let fixed = ["score", "-", "--task", task, "--whole", "-o", "-", "--tier"];
        let of = |tier| run_with(fixed.into_iter().chain([tier]), fasta.as_bytes()).exit(0);
        assert_eq!(of("auto").text(), of("accurate").text());
        assert_ne!(of("auto").text(), of("fast").text());
    }
    let cut = fs::read(data("inputs/bad_cut_in_quality.fq")).unwrap();
    let ran = run_with(
        ["score", "-", "--task", "expression", "--whole", "-o", "-"],
        &cut,
    )
    .exit(1);
    assert_eq!(ran.text().lines().count(), 3);
    assert!(ran.err.contains("standard input: cut off"), "{}", ran.err);
}

#[test]
fn simulate_makes_the_sample_reads_again() {
    let folder = tempfile::tempdir().unwrap();
    let (reads, truth) = (
        folder.path().join("reads.fastq"),
        folder.path().join("truth.tsv"),
    );
    run([
        "simulate",
        &text(&data("genes.fa.gz")),
        "--sites",
        &text(&data("sites.tsv")),
        "--reads",
        "150",
        "--error-rate",
        "0.02",
        "--seed",
        "1",
        "-o",
        &text(&reads),
        "--truth",
        &text(&truth),
    ])
    .exit(0);
    assert!(fs::read(truth).unwrap() == fs::read(data("reads_truth.tsv")).unwrap());
    let mut recorded = vec![];
    let file = File::open(data("reads.fastq.gz")).unwrap();
    MultiGzDecoder::new(file)
        .read_to_end(&mut recorded)
        .unwrap();
    assert!(fs::read(reads).unwrap() == recorded);
}

#[test]
fn simulate_needs_sites_of_its_genes() {
    let folder = tempfile::tempdir().unwrap();
    let [sites, reads, truth] = ["s.tsv", "r.fq", "t.tsv"].map(|name| folder.path().join(name));
    let head = "gene_idx\tgene\tchrom\tstrand\tpos0\tkind\n";
    fs::write(&sites, format!("{head}elsewhere\tG\tchr1\t+\t5\tdonor\n")).unwrap();
    let genes = text(&data("genes.fa.gz"));
    let (sites, reads, truth) = (text(&sites), text(&reads), text(&truth));
    let words = [
        "simulate", &genes, "--sites", &sites, "--reads", "1", "-o", &reads,
    ];
    let ran = run([&words[..], &["--truth", &truth, "--errors", "nanopore"]].concat()).exit(1);
    assert!(
        ran.err.contains("sites of none of the genes"),
        "{}",
        ran.err
    );
    assert!(!Path::new(&reads).exists());
}

#[test]
fn eval_prints_figures_by_read_length() {
    let reads = text(&data("reads.fastq.gz"));
    let truth = text(&data("reads_truth.tsv"));
    let ran = run(["eval", &reads, "--truth", &truth]).exit(0);
    let header = ran.text().lines().next().unwrap();
    for column in ["kind", "top-k", "AUPRC", "threshold", "precision", "recall"] {
        assert!(header.contains(column), "{header}");
    }
    for (kind, sites) in [("acceptor", "333"), ("donor", "323")] {
        let row = ran
            .text()
            .lines()
            .find(|l| l.starts_with(kind) && l.contains(" all "))
            .unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!((cells[2], cells[4]), ("150", sites), "{row}");
        for figure in [cells[5], cells[6], cells[9], cells[10]] {
            assert!(
                (0.3..=1.0).contains(&figure.parse::<f64>().unwrap()),
                "{row}"
            );
        }
    }
    let ran = run(["eval", &reads, "--truth", &text(&data("nothing.tsv"))]).exit(1);
    assert!(ran.err.contains("nothing.tsv"), "{}", ran.err);
    run(["eval", &reads, "--truth", &truth, "--task", "promoter"]).exit(2);
}

#[test]
fn models_and_inspect_tell_what_is_inside() {
    let ran = run(["models"]).exit(0);
    for task in Task::ALL {
        let file = builtin::file(task).unwrap();
        let manifest = file.manifest();
        let line = format!("{} {} ({task})", manifest.name, manifest.version);
        assert!(ran.text().contains(&line) && ran.text().contains(file.content_hash()));
        for figure in manifest.figures.keys() {
            assert!(ran.text().contains(figure.as_str()), "{figure}");
        }
        let inspected = run([
            "inspect",
            &text(&path(&format!("models/{task}.safetensors"))),
        ])
        .exit(0);
        let out = inspected.text();
        assert!(
            out.contains(file.content_hash()) && out.contains("reproducible  bits"),
            "{out}"
        );
        for (name, ..) in file.tensors() {
            assert!(out.contains(&name), "{name}");
        }
        for layer in &manifest.layers {
            assert!(out.contains(&layer.operator), "{}", layer.operator);
        }
        assert!(!out.contains("(tract, float)"));
    }
}

/// The rows of `verify --against`: name, largest and mean difference, cosine, calls, changed calls.
fn verified(model: &Path, onnx: &Path, reads: &Path) -> Vec<(String, [f64; 5])> {
    let ran = run([
        "verify",
        &text(model),
        "--against",
        &text(onnx),
        &text(reads),
    ])
    .exit(0);
    let lines = ran
        .text()
        .lines()
        .skip_while(|l| !l.starts_with("output"))
        .skip(1);
    let rows: Vec<_> = lines
        .map(|line| {
            let mut cells = line.split_whitespace();
            let name = cells.next().unwrap().to_string();
            let figures: Vec<f64> = cells.map(|c| c.parse().unwrap()).collect();
            (name, figures.try_into().unwrap())
        })
        .collect();
    assert!(!rows.is_empty(), "{}", ran.text());
    rows
}

/// A few reads.
fn few(folder: &Path) -> PathBuf {
    let file = folder.join("few.fa");
    let record = |(name, letters): &(String, Vec<u8>)| {
        format!(">{name}\n{}\n", str::from_utf8(letters).unwrap())
    };
    let records = three_reads();
    fs::write(&file, records.iter().map(record).collect::<String>()).unwrap();
    file
}

/// Sequences of 25 to 100 nt.
fn utrs(folder: &Path) -> PathBuf {
    let file = folder.join("utrs.fa");
    let mut fasta = String::new();
    for (name, letters) in three_reads() {
        for (number, piece) in letters.chunks_exact(100).take(20).enumerate() {
            let piece = std::str::from_utf8(&piece[..25 + 3 * number]).unwrap();
            fasta += &format!(">{name}_{number}\n{piece}\n");
        }
    }
    fs::write(&file, fasta).unwrap();
    file
}

#[test]
fn built_in_models_agree_with_their_networks() {
    let folder = tempfile::tempdir().unwrap();
    for task in Task::ALL {
        let samples = match task {
            Task::Ires => few(folder.path()),
            _ if task.is_scan() => data("genes.fa.gz"),
            _ => utrs(folder.path()),
        };
        let model = path(&format!("models/{task}.safetensors"));
        let onnx = path(&format!("models/float/{task}.onnx"));
        for (name, [_, mean, cosine, calls, changed]) in verified(&model, &onnx, &samples) {
            assert!(
                cosine > 0.99 && mean < 0.5,
                "{name}: mean {mean}, cosine {cosine}"
            );
            assert!(
                changed <= 5.0 + 0.2 * calls,
                "{name}: {changed} of {calls} calls"
            );
        }
    }
}

/// The manifest of a built-in model as `pack` takes it.
fn manifest_toml(folder: &Path, task: Task, change: impl FnOnce(&mut Manifest)) -> PathBuf {
    let mut manifest = builtin::file(task).unwrap().manifest().clone();
    manifest.layers.clear();
    manifest.reproducible = None;
    change(&mut manifest);
    let file = folder.join(format!("{task}.toml"));
    fs::write(&file, toml::to_string(&manifest).unwrap()).unwrap();
    file
}

#[test]
fn packing_the_networks_again_gives_models_that_agree() {
    // One after another they take a minute.
    std::thread::scope(|scope| {
        for task in Task::ALL {
            scope.spawn(move || packed_again(task));
        }
        scope.spawn(packed_as_the_cards_say);
    });
}

/// The command of the model cards, for models that no task names: with a few reads.
fn packed_as_the_cards_say() {
    let folder = tempfile::tempdir().unwrap();
    let few = text(&few(folder.path()));
    for name in ["splice-insect", "splice-nematode", "splice-plant"] {
        let onnx = path(&format!("models/float/{name}.onnx"));
        let manifest = text(&path(&format!("models/{name}.toml")));
        let model = folder.path().join(name);
        let pack = ["pack", &text(&onnx), "--manifest", &manifest];
        let calibrated = ["--calibrate", &few, "--require-bits", "-o", &text(&model)];
        run(pack.iter().chain(&calibrated)).exit(0);
        for (output, [_, mean, cosine, ..]) in verified(&model, &onnx, few.as_ref()) {
            assert!(mean < 0.5 && cosine > 0.99, "{name} {output}");
        }
    }
}

fn packed_again(task: Task) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest_toml(folder.path(), task, |_| ());
    let samples = match task {
        // Its wide pools take their time in float: a few reads do.
        Task::Tf | Task::Ires => few(folder.path()),
        _ if task.is_scan() => data("reads.fastq.gz"),
        _ => utrs(folder.path()),
    };
    let onnx = path(&format!("models/float/{task}.onnx"));
    let pack = |precision: &str, name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let (onnx, manifest, out_name) = (text(&onnx), text(&manifest), text(&out));
        let samples = text(&samples);
        let fixed = [
            "pack",
            &onnx,
            "--manifest",
            &manifest,
            "--precision",
            precision,
            "--calibrate",
            &samples,
            "-o",
            &out_name,
        ];
        (run(fixed.iter().chain(more)), out)
    };
    let compared = if task.is_scan() {
        let genes = folder.path().join("gene.fa");
        let (name, letters) = &three_reads()[0];
        fs::write(
            &genes,
            format!(">{name}\n{}\n", str::from_utf8(letters).unwrap()),
        )
        .unwrap();
        genes
    } else {
        samples.clone()
    };
    for (precision, largest, mean) in [
        ("f32", 1e-3, 1e-4),
        // In logits: the accurate donor network is .164 off at its worst base, .007 on average.
        ("fp16", 0.2, 0.02),
        ("int8", 20.0, 0.5),
    ] {
        let (ran, model) = pack(precision, precision, &[]);
        let ran = ran.exit(0);
        assert!(!ran.text().contains("not lowered"), "{}", ran.text());
        for (name, [most, average, cosine, ..]) in verified(&model, &onnx, &compared) {
            assert!(
                most < largest && average < mean,
                "{task} {precision} {name}: {most}, {average}"
            );
            assert!(cosine > 0.99, "{task} {precision} {name}: cosine {cosine}");
        }
        let inspected = run(["inspect", &text(&model)]).exit(0);
        let declared = inspected.text().contains("reproducible  bits");
        assert_eq!(declared, precision == "int8", "{task} {precision}");
        let (ran, again) = pack(precision, "again", &["--require-bits"]);
        if precision == "int8" {
            ran.exit(0);
            assert!(fs::read(&again).unwrap() == fs::read(&model).unwrap());
            fs::remove_file(again).unwrap();
        } else {
            let ran = ran.exit(1);
            assert!(
                ran.err.contains(&format!("precision {precision}")),
                "{}",
                ran.err
            );
            assert!(!again.exists());
        }
        if !task.makes_calls() {
            continue;
        }
        let molecule = if task == Task::Expression {
            "rna"
        } else {
            "dna"
        };
        let fasta = format!(">r\n{}ATG\n", "ACGTTGCA".repeat(20));
        let annotate = [
            "annotate",
            "-q",
            "--molecule",
            molecule,
            "--tasks",
            task.name(),
            "--model",
        ];
        let model = text(&model);
        run_with(annotate.iter().copied().chain([&*model]), fasta.as_bytes()).exit(0);
    }
}

#[test]
fn what_cannot_be_lowered_is_listed_and_runs_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // Also with tiles that a read takes several of.
    for tile in [8_192, 200] {
        let manifest = manifest_toml(folder.path(), Task::Splice, |manifest| {
            *manifest = manifest.of_tier(Tier::Fast);
            manifest.context = Context { left: 8, right: 8 };
            manifest.tile = tile;
            for output in &mut manifest.outputs {
                output.calibration.clear();
                output.short_context.clear();
            }
        });
        // Softsign as tract has it; the sum in the middle is one of ours.
        let plain = ["(Abs)", "(Div)"];
        for network in ["softsign_end", "softsign_between"] {
            let onnx = data(&format!("{network}.onnx"));
            for (precision, largest) in [("f32", 1e-4), ("int8", 0.1)] {
                let out = folder.path().join("unlowered.safetensors");
                let (onnx_name, manifest, out_name) = (text(&onnx), text(&manifest), text(&out));
                let reads = text(&data("reads.fastq.gz"));
                let fixed = [
                    "pack",
                    &onnx_name,
                    "--manifest",
                    &manifest,
                    "--precision",
                    precision,
                    "--calibrate",
                    &reads,
                    "-o",
                    &out_name,
                ];
                let ran = run(fixed).exit(0);
                let listed = ran
                    .text()
                    .lines()
                    .filter(|l| l.starts_with("not lowered"))
                    .count();
                assert_eq!(listed, plain.len(), "{}", ran.text());
                for operator in plain {
                    assert!(ran.text().contains(operator), "{}", ran.text());
                }
                for (name, [most, ..]) in verified(&out, &onnx, &data("genes.fa.gz")) {
                    assert!(most < largest, "{network} {precision} {name}: {most}");
                }
                let inspected = run(["inspect", &out_name]).exit(0);
                assert!(inspected.text().contains("(tract, float)"));
                assert!(inspected.text().contains("reproducible  not declared"));
                fs::remove_file(&out).unwrap();
                let ran = run(fixed.iter().copied().chain(["--require-bits"])).exit(1);
                assert!(
                    ran.err.contains("not lowered") && ran.err.contains(plain[0]),
                    "{}",
                    ran.err
                );
                assert!(!out.exists());
            }
        }
    }
}

#[test]
fn pack_refuses_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out.safetensors"));
    let splice = text(&path("models/float/splice.onnx"));
    let good = text(&manifest_toml(folder.path(), Task::Splice, |_| ()));
    let narrow = folder.path().join("narrow");
    fs::create_dir(&narrow).unwrap();
    let narrow = text(&manifest_toml(&narrow, Task::Splice, |m| {
        m.context.left = 3;
        m.cascade.as_mut().unwrap().context.left = 3;
    }));
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "name = [").unwrap();
    let reads = text(&data("reads.fastq.gz"));
    let text_file = text(&data("README.md"));
    for (onnx, manifest, samples, expected) in [
        (&splice, &good, None, "--calibrate"),
        (&splice, &narrow, Some(&reads), "states 3"),
        (&splice, &text(&broken), Some(&reads), "broken.toml"),
        (
            &splice,
            &text(&folder.path().join("none.toml")),
            Some(&reads),
            "none.toml",
        ),
        (&text_file, &good, Some(&reads), "README.md"),
        (
            &text(&folder.path().join("none.onnx")),
            &good,
            Some(&reads),
            "none.onnx",
        ),
        (
            &text(&path("models/float/expression.onnx")),
            &good,
            Some(&reads),
            "",
        ),
    ] {
        let mut arguments = vec!["pack", onnx, "--manifest", manifest, "-o", &out];
        if let Some(samples) = samples {
            arguments.extend(["--calibrate", samples]);
        }
        let ran = run(arguments).exit(1);
        assert!(
            ran.err.starts_with("error: ") && ran.err.contains(expected),
            "{}",
            ran.err
        );
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn a_model_of_ones_own_replaces_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("own.safetensors");
    let bytes = builtin_bytes(Task::Promoter, |m| m.name = "own-promoter".into());
    fs::write(&model, bytes).unwrap();
    let reads = text(&data("inputs/good_bgzf.fa.gz"));
    let fixed = [
        "annotate",
        &reads,
        "--min-score",
        "0",
        "--model",
        &text(&model),
    ];
    let ran = run(fixed).exit(0);
    assert!(ran.text().contains("\town-promoter-auto/"));
    assert!(!ran.text().contains("\tpromoter-auto/"));
    assert!(ran.text().contains("\tdonor\t"));
    let ran = run(fixed.iter().copied().chain(["--tasks", "splice"])).exit(2);
    assert!(ran.err.contains("own.safetensors"), "{}", ran.err);
    fs::write(&model, b"no model").unwrap();
    let ran = run(fixed).exit(1);
    assert!(ran.err.contains("own.safetensors: byte 0"), "{}", ran.err);
}

#[test]
fn a_model_of_an_unknown_task_is_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("other.safetensors");
    let bytes = builtin_bytes(Task::Promoter, |m| m.task = "folding".to_string());
    fs::write(&model, bytes).unwrap();
    for command in ["inspect", "verify", "bench-model"] {
        let ran = run([command, &text(&model)]).exit(1);
        let named = ran.err.contains("other.safetensors");
        let refused = ran.err.contains("no task \"folding\"");
        assert!(named && refused, "{command}: {}", ran.err);
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let splice = text(&path("models/splice.safetensors"));
    for arguments in [&["models"][..], &["inspect", &splice]] {
        let mut child = binary::strandline(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert!(ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_standard_error_that_is_full_or_closed_costs_its_lines() {
    let reads = text(&data("reads.fastq.gz"));
    let missing = text(&data("missing.fq"));
    let run = |stderr: Stdio, reads: &str| {
        let mut command = binary::strandline(["annotate", "--status-every", "0.01", reads]);
        command.stdout(Stdio::piped()).stderr(stderr);
        command.output().unwrap()
    };
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let (closed, writer) = std::io::pipe().unwrap();
    drop(closed);
    let expected = run(Stdio::null(), &reads);
    assert!(expected.status.success());
    for stderr in [full().into(), writer.into()] {
        let output = run(stderr, &reads);
        assert!(output.status.success(), "{:?}", output.status);
        assert_eq!(output.stdout, expected.stdout);
    }
    assert_eq!(run(full().into(), &missing).status.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_file_of_decisions_costs_its_lines_and_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, calls) = (folder.path().join("p.toml"), folder.path().join("c.tsv"));
    let rules = "default = \"eject\"\n[[rule]]\nkinds = [\"donor\"]\nat_least = 1\n\
                 within = 3000\ndecision = \"keep\"\n";
    fs::write(&policy, rules).unwrap();
    let (policy, calls) = (text(&policy), text(&calls));
    let reads = text(&data("reads.fastq.gz"));
    let line = ["annotate", &reads, "--policy", &policy, "-o", &calls];
    let ran = run(line.iter().chain(&["--decisions", "/dev/full"])).exit(1);
    let lost = "/dev/full: 150 decisions could not be written";
    assert!(ran.err.contains(lost), "{}", ran.err);
    assert!(ran.err.contains("150 in = 150 out"), "{}", ran.err);
    let whole = fs::read(&calls).unwrap();
    run(line).exit(0);
    assert_eq!(fs::read(&calls).unwrap().len(), whole.len());
}

#[test]
fn numbers_are_served_to_other_machines_only_where_that_is_asked_for() {
    let ran = run(["annotate", "--metrics", "0.0.0.0:0", "-"]).exit(2);
    assert!(ran.err.contains("?bind=any"), "{}", ran.err);
    run(["annotate", "--metrics", "0.0.0.0:0?bind=any", "-q", "-"]).exit(0);
}

#[test]
fn bench_model_times_and_writes_what_the_library_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.txt"), folder.path().join("out.txt"));
    fs::write(&input, "GATTACAGGTAAGTCC\nACGTN\n").unwrap();
    let names = [text(&input), text(&output)];
    run([
        "bench-model",
        "splice",
        "--input",
        &names[0],
        "--output",
        &names[1],
    ])
    .exit(0);
    let written = fs::read_to_string(&output).unwrap();
    let mut scorer = Scorer::new(builtin::model(Task::Splice, Tier::Auto).unwrap()).unwrap();
    for (letters, block) in ["GATTACAGGTAAGTCC", "ACGTN"]
        .iter()
        .zip(written.split("\n\n"))
    {
        let mut codes = vec![];
        nucleotide::encode(letters.as_bytes(), &mut codes);
        let expected = scorer.raw(&codes, Strand::Forward).unwrap();
        let found: Vec<f32> = block
            .split_whitespace()
            .map(|x| x.parse().unwrap())
            .collect();
        assert_eq!(found, expected);
    }
    let steps = ["bench-model", "promoter", "--length", "500", "--steps"];
    let ran = run_with(steps, b"\n\n\n").exit(0);
    assert_eq!(ran.text().lines().count(), 3);
    assert!(
        ran.text()
            .lines()
            .all(|line| line.parse::<u64>().unwrap() > 0)
    );
    for threads in ["1", "2"] {
        let ran = run([
            "bench-model",
            "splice",
            "--length",
            "20000",
            "--tier",
            "fast",
            "--runs",
            "2",
            "--threads",
            threads,
        ]);
        assert!(ran.exit(0).text().contains("GMAC/s"));
    }
    let sample = text(&path("tests/data/genes.fa.gz"));
    let ran = run(["bench-model", "splice", "--input", &sample, "--runs", "1"]).exit(0);
    let line = ran.text().lines().find(|l| l.starts_with("second look"));
    let numbers: Vec<f64> = line
        .unwrap_or_default()
        .split(' ')
        .filter_map(|w| w.parse().ok())
        .collect();
    // A survivor needs its own row and those of the call rule, its neighbours share theirs.
    let [share, rows] = numbers[..] else {
        panic!("{}", ran.text())
    };
    assert!(share > 0.0 && share < 20.0 && rows >= 1.0, "{share} {rows}");
    run([
        "bench-model",
        "splice",
        "--strand",
        "both",
        "--threads",
        "2",
    ])
    .exit(2);
    let ran = run(["bench-model", "nothing.safetensors"]).exit(1);
    assert!(ran.err.contains("nothing.safetensors"), "{}", ran.err);
    run(["bench-model"]).exit(2);
}
