//! What the commands of `cells` refuse or warn of, and that it costs nothing else.

use super::binary::{run, run_with};
use super::growing::grow;
use super::pbmc;
use std::fs;
use std::path::Path;

/// A file of this content; its path as text.
fn written(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_string()
}

/// A table of cells with the first genes of the built-in model of types.
fn table(genes: usize, cells: &[(&str, f32)]) -> String {
    let all = include_str!("../../models/cell-types.genes.txt").lines();
    let genes: Vec<&str> = all
        .filter(|gene| !gene.starts_with('<'))
        .take(genes)
        .collect();
    let mut text = format!("cell\t{}\n", genes.join("\t"));
    for (name, value) in cells {
        let values = genes.iter().enumerate();
        let values = values.map(|(at, _)| format!("{}", value * (1 + at % 3) as f32));
        text += &format!("{name}\t{}\n", values.collect::<Vec<_>>().join("\t"));
    }
    text
}

#[test]
fn no_output_is_written_over_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    grow(at, &[("t1", 1.0), ("b1", 1.0)]);
    let labels = written(at, "labels.tsv", "cell\tlabel\nt1\tT\nb1\tB\n");
    let genes = written(at, "genes.txt", "CD3D\nCD3E\nIL7R\nMS4A1\nCD79A\nLYZ\n");
    let (whole, matrix) = (at.to_str().unwrap(), at.join("matrix.mtx"));
    let matrix = matrix.to_str().unwrap();
    let path = |name: &str| at.join(name).to_str().unwrap().to_string();
    let (barcodes, features) = (path("barcodes.tsv"), path("features.tsv"));
    let cases: [(&[&str], &str); 7] = [
        (&["annotate", whole], matrix),
        (&["annotate", whole], &barcodes),
        (&["embed", whole], &features),
        (&["annotate", matrix], &barcodes),
        (&["embed", matrix], &features),
        (
            &["map", whole, "--reference", whole, "--labels", &labels],
            &labels,
        ),
        (
            &["perturb", matrix, "--gene", "JAK2", "--genes", &genes],
            &genes,
        ),
    ];
    for (words, output) in cases {
        let before = fs::read(output).unwrap();
        let all = ["cells"].iter().chain(words).copied();
        let ran = run(all.chain(["-o", output])).exit(2);
        assert!(ran.err.contains("is read"), "{words:?}: {}", ran.err);
        assert_eq!(fs::read(output).unwrap(), before, "{words:?}");
    }
    // A file beside them that is none of these is free.
    run(["cells", "annotate", whole, "-o", &path("types.tsv")]).exit(0);
}

#[test]
fn options_mean_something() {
    let input = pbmc();
    let input = input.to_str().unwrap();
    let cases: [&[&str]; 7] = [
        &["network", "--resolution", "0"],
        &["network", "--resolution", "NaN"],
        &["network", "--min-cosine", "1.5"],
        &["network", "--programs", "-"],
        &["embed", input, "--labels", "some.tsv"],
        &["annotate", input, "--follow", "--until-quiet", "0"],
        &["annotate", input, "--min-probability", "2"],
    ];
    for words in cases {
        run(["cells"].iter().chain(words)).exit(2);
    }
    // What the values are can be said in every command.
    let said: [&[&str]; 4] = [
        &["annotate", input],
        &["embed", input],
        &["map", input, "--reference", input, "--labels", "LABELS"],
        &["perturb", input, "--gene", "jak2"],
    ];
    let labels = pbmc().join("labels.tsv");
    for words in said {
        let words = words.iter().map(|word| match *word {
            "LABELS" => labels.to_str().unwrap(),
            word => word,
        });
        let words = ["cells"].into_iter().chain(words);
        let ran = run(words.chain(["--input", "counts"])).exit(0);
        assert!(ran.err.contains("pbmc: counts;"), "{}", ran.err);
    }
}

#[test]
fn inputs_that_are_not_clear_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ran = run_with(["cells", "annotate", "-"], b"cell\tCD3D\nc\t1\n").exit(1);
    assert!(ran.err.contains("standard input"), "{}", ran.err);
    grow(at, &[("t1", 1.0)]);
    written(at, "matrix.mtx.gz", "");
    let ran = run(["cells", "annotate", at.to_str().unwrap()]).exit(1);
    assert!(ran.err.contains("which one is meant"), "{}", ran.err);
    // Genes in rows.
    let model = include_str!("../../models/cell-types.genes.txt").lines();
    let mut text = "gene\tc1\tc2\n".to_string();
    model
        .take(400)
        .for_each(|gene| text += &format!("{gene}\t1\t2\n"));
    let by_gene = written(at, "by_gene.tsv", &text);
    let ran = run(["cells", "annotate", &by_gene]).exit(1);
    assert!(ran.err.contains("the transpose"), "{}", ran.err);
    let empty = written(at, "empty.txt", "\n");
    let ran = run(["cells", "network", "--genes", &empty]).exit(1);
    assert!(
        ran.err.contains("empty.txt: it names no gene"),
        "{}",
        ran.err
    );
}

/// Scaled values, as many .h5ad have them in X.
#[test]
fn a_run_in_which_no_cell_can_be_used_fails() {
    let folder = tempfile::tempdir().unwrap();
    let scaled = written(
        folder.path(),
        "scaled.tsv",
        &table(400, &[("a", -1.0), ("b", -0.5)]),
    );
    let out = folder.path().join("out.tsv");
    for command in ["annotate", "embed"] {
        let words = ["cells", command, &scaled, "-o", out.to_str().unwrap()];
        let ran = run(words).exit(1);
        for part in ["none of 2 cells", "--raw or --layer"] {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
        assert!(!out.exists());
    }
}

#[test]
fn labels_that_do_not_fit_leave_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let input = written(at, "x.tsv", &table(400, &[("a", 1.0), ("b", 2.0)]));
    let labels = written(at, "l.tsv", "cell\tlabel\na\tT\n");
    let out = at.join("out.tsv");
    let words = [
        "cells", "embed", &input, "--labels", &labels, "--label", "label",
    ];
    let words = words.into_iter().chain(["-o", out.to_str().unwrap()]);
    let ran = run(words).exit(1);
    assert!(ran.err.contains("no line for cell b"), "{}", ran.err);
    assert!(!out.exists());
}

#[test]
fn what_makes_an_answer_doubtful_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let warned = |content: &str| {
        let input = written(at, "x.tsv", content);
        run(["cells", "annotate", &input]).exit(0).err
    };
    let cells = [("a", 1.0), ("b", 2.0), ("c", 1.0), ("d", 0.3)];
    let fine = warned(&table(400, &cells[..3]));
    assert!(!fine.contains("WARN"), "{fine}");
    assert!(warned(&table(300, &cells[..3])).contains("means little"));
    assert!(warned(&table(400, &cells)).contains("1 of the first 4 cells do not look like counts"));
    let mouse = table(400, &cells[..3]).to_lowercase();
    assert!(warned(&mouse).contains("cells of a mouse?"));
    // Genes that hardly are alike more than random vectors.
    let ran = run(["cells", "network"]).exit(0);
    assert!(ran.err.contains("random vectors"), "{}", ran.err);
    // All neighbours are written: their number is the one that was asked for.
    let ran = run(["cells", "network", "--min-cosine", "-1"]).exit(0);
    assert!(!ran.err.contains("random vectors"), "{}", ran.err);
}

/// The antibody against a protein may have the name of its gene.
#[test]
fn antibodies_are_no_genes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    grow(at, &[("t1", 1.0), ("b1", 1.0)]);
    let input = at.to_str().unwrap();
    let genes = run(["cells", "annotate", input]).exit(0);
    let features = fs::read_to_string(at.join("features.tsv")).unwrap();
    let lyz = "LYZ\tLYZ\tGene Expression";
    assert!(features.contains(lyz));
    written(
        at,
        "features.tsv",
        &features.replace(lyz, "CD3D\tCD3D\tAntibody Capture"),
    );
    let matrix = fs::read_to_string(at.join("matrix.mtx")).unwrap();
    let header = "6 2 5\n";
    assert!(matrix.contains(header));
    let bound = matrix.replace(header, "6 2 6\n") + "6 2 900\n";
    written(at, "matrix.mtx", &bound);
    let both = run(["cells", "annotate", input]).exit(0);
    assert!(
        both.err.contains("; 1 columns are no genes"),
        "{}",
        both.err
    );
    assert_eq!(both.text(), genes.text());
    // Neither do they say what values are, nor make a cell unusable.
    for value in ["nan", "-3", "0.25"] {
        let bound = bound.replace("integer", "real");
        written(
            at,
            "matrix.mtx",
            &bound.replace(" 900\n", &format!(" {value}\n")),
        );
        let other = run(["cells", "annotate", input]).exit(0);
        assert_eq!(other.text(), genes.text(), "{value}");
    }
}

#[test]
fn genes_are_named_as_columns_are() {
    let input = pbmc();
    let perturb = |gene: &str| run(["cells", "perturb", input.to_str().unwrap(), "--gene", gene]);
    let one = perturb("STAT1").exit(0);
    assert_eq!(perturb("stat1").exit(0).out, one.out);
    assert!(!one.err.contains("learned nothing"), "{}", one.err);
    let stranger = perturb("CD37").exit(0);
    assert!(stranger.err.contains("CD37: "), "{}", stranger.err);
    assert!(stranger.err.contains("learned nothing"), "{}", stranger.err);
    assert!(perturb("STAT9").exit(1).err.contains("it has STAT1"));
    assert!(perturb("<cls>").exit(1).err.contains("no gene"));
    // Cells of a line of which it knows too little.
    assert!(one.err.contains("means little"), "{}", one.err);
}

#[test]
fn built_in_models_of_cells_are_listed_and_measured() {
    let all = run(["models"]).exit(0);
    for part in [
        "(cell-type)",
        "(cell-embedding)",
        "(perturbation)",
        "Naive CD4 T",
    ] {
        assert!(all.text().contains(part), "{part}");
    }
    for task in ["cell-type", "cell-embedding", "perturbation"] {
        let ran = run(["bench-model", task, "--length", "20", "--runs", "1"]).exit(0);
        assert!(ran.text().contains("length         20"), "{}", ran.text());
    }
}
