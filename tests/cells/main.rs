//! The commands of `cells` on 297 cells of blood, on what cannot be used, and on a matrix that
//! grows.

#[cfg(feature = "pack")]
mod batches;
#[path = "../binary/mod.rs"]
mod binary;
#[cfg(feature = "pack")]
mod copied;
mod growing;
mod refused;

use binary::{data, run};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use strandline::cells::input::{Choice, open};
use strandline::cells::model::{CellModel, Kind};
use strandline::cells::run::{Flagged, Job, RunError, Scored, Settings, run as run_cells};

fn pbmc() -> PathBuf {
    data("cells/pbmc")
}

/// Lines of a table without its header, field by field.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect()).collect()
}

fn labels() -> HashMap<String, String> {
    let text = fs::read_to_string(data("cells/pbmc/labels.tsv")).unwrap();
    let lines = text.lines().skip(1);
    let pair = |line: &str| {
        let (cell, label) = line.split_once('\t').unwrap();
        (cell.to_string(), label.to_string())
    };
    lines.map(pair).collect()
}

#[test]
fn most_cells_of_blood_get_their_type() {
    let ran = run(["cells", "annotate", pbmc().to_str().unwrap()]).exit(0);
    let (labels, rows) = (labels(), rows(ran.text()));
    assert_eq!(rows.len(), 297);
    assert!(
        ran.err
            .contains("cells    297 in = 297 scored + 0 rejected"),
        "{}",
        ran.err
    );
    let right = rows.iter().filter(|row| labels[row[0]] == row[1]).count();
    println!("{right} of {}", rows.len());
    assert!(right * 100 >= 78 * rows.len(), "{right}");
    // T cells are told apart worst; monocytes and B cells are never taken for each other.
    for row in &rows {
        let known = &labels[row[0]];
        assert!(!(known == "B" && row[1].contains("Mono")), "{row:?}");
        let p: Vec<f32> = [2, 5, 7].map(|at| row[at].parse().unwrap()).to_vec();
        assert!(p[0] >= p[1] && p[1] >= p[2] && p[0] <= 1.0, "{row:?}");
        assert_eq!(row[1] == "unknown", row[1] != row[3], "{row:?}");
    }
}

#[test]
fn threads_change_nothing_and_a_seed_only_itself() {
    let input = pbmc();
    let of = |more: &[&str]| {
        let words = ["cells", "annotate", input.to_str().unwrap()];
        run(words.iter().chain(more)).exit(0).out
    };
    let one = of(&["-t", "1"]);
    assert_eq!(of(&["-t", "3"]), one);
    assert_eq!(of(&["--seed", "7"]), of(&["--seed", "7", "-t", "2"]));
}

/// Outputs of cells of an input by name, as bits.
fn outputs(model: &CellModel, path: &Path, threads: usize) -> HashMap<String, Vec<u32>> {
    let mut source = open(path, &Choice::default()).unwrap();
    let settings = Settings {
        input: None,
        seed: None,
        threads,
    };
    let job = Job {
        model,
        settings: &settings,
        flagged: Flagged::default(),
    };
    let mut all = HashMap::new();
    let each = |cell: Scored| -> Result<(), RunError> {
        let outcome = cell.result.unwrap();
        let bits = outcome.outputs.iter().map(|x| x.to_bits()).collect();
        all.insert(cell.name.to_string(), bits);
        Ok(())
    };
    run_cells(job, &mut *source, |_, _| true, each).unwrap();
    all
}

/// A cell alone, among others, in another order of genes: the same bits.
#[test]
fn a_cell_depends_on_itself_alone() {
    let model = Kind::Type.builtin().unwrap();
    let whole = outputs(&model, &pbmc(), 2);
    let folder = tempfile::tempdir().unwrap();
    let mut source = open(&pbmc(), &Choice::default()).unwrap();
    let genes: Vec<String> = source.genes().iter().map(|g| g.symbol.clone()).collect();
    let mut block = Default::default();
    assert!(source.next(&mut block, 40).unwrap());
    // Every seventh cell, genes backwards.
    let mut text = "cell".to_string();
    genes
        .iter()
        .rev()
        .for_each(|gene| text += &format!("\t{gene}"));
    let mut chosen = vec![];
    for cell in (0..block.len()).step_by(7) {
        let (name, columns, values) = block.cell(cell);
        let mut row = vec![0f32; genes.len()];
        columns
            .iter()
            .zip(values)
            .for_each(|(at, value)| row[*at as usize] = *value);
        text += &format!("\n{name}");
        row.iter()
            .rev()
            .for_each(|value| text += &format!("\t{value}"));
        chosen.push(name.to_string());
    }
    let file = folder.path().join("some.tsv");
    fs::write(&file, text + "\n").unwrap();
    let some = outputs(&model, &file, 1);
    assert_eq!(some.len(), chosen.len());
    for name in chosen {
        assert_eq!(some[&name], whole[&name], "{name}");
    }
}

#[test]
fn cells_that_cannot_be_used_cost_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.tsv");
    let table = "cell\tCD3D\tMS4A1\tLYZ\tNKG7\nfine\t3\t0\t1\t0\nminus\t1\t-2\t0\t0\n\
                 nan\t1\tNaN\t0\t0\nempty\t0\t0\t0\t0\nalso\t0\t9\t0\t0\n";
    fs::write(&file, table).unwrap();
    let ran = run(["cells", "annotate", file.to_str().unwrap()]).exit(0);
    let names: Vec<&str> = rows(ran.text()).iter().map(|row| row[0]).collect();
    assert_eq!(names, ["fine", "also"]);
    for part in [
        "5 in = 2 scored + 3 rejected",
        "odd.tsv",
        "cell minus",
        "MS4A1",
        "-2",
        "cell nan",
        "cell empty",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    // None of the model's genes.
    fs::write(&file, "cell\tq1\tq2\nc\t1\t2\n").unwrap();
    let ran = run(["cells", "annotate", file.to_str().unwrap()]).exit(1);
    assert!(
        ran.err.contains("odd.tsv") && ran.err.contains("q1"),
        "{}",
        ran.err
    );
    let gone = folder.path().join("gone");
    let ran = run(["cells", "embed", gone.to_str().unwrap()]).exit(1);
    assert!(ran.err.contains("gone"), "{}", ran.err);
}

#[test]
fn a_cell_is_nearest_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (input, array) = (pbmc(), folder.path().join("e.npy"));
    let input = input.to_str().unwrap();
    let table = input.to_string() + "/labels.tsv";
    let words = [
        "cells", "embed", input, "--labels", &table, "--label", "label", "-o",
    ];
    let ran = run(words.iter().copied().chain([array.to_str().unwrap()])).exit(0);
    assert!(ran.err.contains("label: silhouette"), "{}", ran.err);
    let array = strandline::cells::npy::read(&*fs::read(&array).unwrap()).unwrap();
    assert_eq!(array.values.len(), 297 * array.width);
    for row in array.values.chunks(array.width) {
        let length: f32 = row.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    let words = [
        "cells",
        "map",
        input,
        "--reference",
        input,
        "--labels",
        &table,
        "-k",
        "1",
    ];
    let ran = run(words).exit(0);
    let labels = labels();
    for row in rows(ran.text()) {
        assert_eq!((row[1], row[3]), (&*labels[row[0]], row[0]), "{row:?}");
        assert_eq!(row[4], "1.0000");
    }
    let ran = run(["cells", "map", input, "--reference", input]).exit(1);
    assert!(ran.err.contains("--labels"), "{}", ran.err);
}

/// A packed file knows its own vocabulary: cells go into every command that takes samples.
#[test]
fn packed_files_take_cells_as_samples() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |name: &str| root.join(name).to_str().unwrap().to_string();
    let (model, input) = (path("models/cell-types.safetensors"), pbmc());
    let out = folder.path().join("out.txt");
    let words = [
        "bench-model",
        &model,
        "--input",
        input.to_str().unwrap(),
        "--output",
    ];
    run(words.iter().copied().chain([out.to_str().unwrap()])).exit(0);
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 297);
    assert_eq!(text.lines().next().unwrap().split(' ').count(), 9);
    if cfg!(feature = "pack") {
        let onnx = path("models/float/cell-types.onnx");
        let words = [
            "verify",
            &model,
            "--against",
            &onnx,
            input.to_str().unwrap(),
        ];
        let ran = run(words).exit(0);
        assert!(ran.text().contains("compared on"), "{}", ran.text());
    }
}

/// Cells without a label are no neighbours, and a reference without any is an error.
#[test]
fn a_reference_is_of_labelled_cells() {
    let folder = tempfile::tempdir().unwrap();
    let (table, input) = (folder.path().join("labels.tsv"), pbmc());
    let input = input.to_str().unwrap();
    let (labels, mut lines) = (labels(), "cell\tlabel\n".to_string());
    for (cell, label) in &labels {
        let label = if label == "B" { "" } else { label };
        lines += &format!("{cell}\t{label}\n");
    }
    fs::write(&table, lines).unwrap();
    let words = ["cells", "map", input, "--reference", input, "--labels"];
    let words: Vec<&str> = words.into_iter().chain([table.to_str().unwrap()]).collect();
    let ran = run(&words).exit(0);
    let found = rows(ran.text());
    assert_eq!(found.len(), 297);
    assert!(
        found
            .iter()
            .all(|row| row[1] != "B" && labels[row[3]] != "B")
    );
    let none: String = labels.keys().map(|cell| format!("{cell}\t\n")).collect();
    fs::write(&table, format!("cell\tlabel\n{none}")).unwrap();
    let ran = run(&words).exit(1);
    assert!(ran.err.contains("no cell with a label"), "{}", ran.err);
}

/// The interferon pathway of THP-1 cells without JAK2: what it drives goes down.
#[test]
fn a_knock_out_says_what_goes_down() {
    let input = pbmc();
    let input = input.to_str().unwrap();
    let ran = run(["cells", "perturb", input, "--gene", "JAK2"]).exit(0);
    let rows = rows(ran.text());
    for row in &rows {
        let [control, predicted, change] = [1, 2, 3].map(|at| row[at].parse::<f64>().unwrap());
        assert!((predicted - control - change).abs() < 2e-4, "{row:?}");
        assert_eq!(row[4], if change < 0.0 { "-" } else { "+" }, "{row:?}");
    }
    let sizes: Vec<f64> = rows
        .iter()
        .map(|row| row[3].parse::<f64>().unwrap().abs())
        .collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b));
    let words = ["cells", "perturb", input, "--gene", "NOGENE"];
    assert!(run(words).exit(1).err.contains("NOGENE"));
    let words = ["cells", "perturb", input, "--gene", "JAK2", "--as", "oe"];
    assert!(run(words).exit(1).err.contains("ko"));
}

#[test]
fn genes_make_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (edges, programs, xml, svg) = (path("e"), path("p"), path("g.graphml"), path("n.svg"));
    let words = [
        "cells",
        "network",
        "-o",
        &edges,
        "--programs",
        &programs,
        "--graphml",
        &xml,
        "--svg",
        &svg,
        "--resolution",
        "5",
        "--min-cosine",
        "0.2",
    ];
    run(words).exit(0);
    let text = fs::read_to_string(&edges).unwrap();
    assert!(rows(&text).len() > 100);
    assert!(fs::read_to_string(&xml).unwrap().contains("<graphml"));
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    assert!(!fs::read_to_string(&programs).unwrap().is_empty());
    let again = path("again");
    run([
        "cells",
        "network",
        "-o",
        &again,
        "--resolution",
        "5",
        "--min-cosine",
        "0.2",
    ])
    .exit(0);
    assert_eq!(fs::read_to_string(&again).unwrap(), text);
}
