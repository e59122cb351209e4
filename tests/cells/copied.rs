//! Answers in a copy of the `.h5ad` that they are of.

use super::binary::{data, run, strandline};
use super::rows;
use std::fs;
use std::path::Path;
use strandline::cells::input::{Choice, open};

/// A network of types, and one of embeddings, for the genes of `csr.h5ad`.
pub fn packed(folder: &Path, head: &str, change: (&str, &str)) -> String {
    let own = |ending: &str| data(&format!("cells/scgpt/{head}.{ending}"));
    let genes = fs::read_to_string(own("genes.txt")).unwrap();
    // The last two columns of that file are antibodies.
    let genes = genes.replace("GENE35", "p_G7").replace("GENE36", "p_G8");
    let genes = genes.replace("GENE", "G");
    fs::write(folder.join(format!("{head}.genes.txt")), genes).unwrap();
    let manifest = folder.join(format!("{head}.toml"));
    let text = fs::read_to_string(own("toml")).unwrap();
    assert!(text.contains(change.0));
    fs::write(&manifest, text.replace(change.0, change.1)).unwrap();
    let model = folder.join(format!("{head}{}.safetensors", change.1.len()));
    let (onnx, model) = (own("onnx"), model.to_str().unwrap().to_string());
    let words = [
        "pack",
        onnx.to_str().unwrap(),
        "--manifest",
        manifest.to_str().unwrap(),
    ];
    run(words
        .into_iter()
        .chain(["--precision", "f32", "-o", &model]))
    .exit(0);
    model
}

#[test]
fn a_copy_has_the_columns_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (model, input) = (packed(at, "annotation", ("", "")), data("cells/csr.h5ad"));
    let (input, copy) = (input.to_str().unwrap(), at.join("out.h5ad"));
    let words = [
        "cells",
        "annotate",
        input,
        "--model",
        &model,
        "--min-probability",
        "0.3",
    ];
    let table = run(words).exit(0);
    let copied = run(words.into_iter().chain(["-o", copy.to_str().unwrap()])).exit(0);
    assert_eq!(copied.out, b"");
    let source = open(&copy, &Choice::default()).unwrap();
    let names = [
        "type",
        "probability",
        "first",
        "second",
        "probability2",
        "genes",
    ];
    let places = [1, 2, 3, 4, 5, 8];
    let found = rows(table.text());
    assert_eq!(found.len(), 12);
    for (name, place) in names.into_iter().zip(places) {
        let column = source
            .labels(&format!("strandline_{name}"))
            .unwrap()
            .unwrap();
        for (own, row) in column.iter().zip(&found) {
            match own.parse::<f32>() {
                Ok(own) => assert!((own - row[place].parse::<f32>().unwrap()).abs() < 1e-4),
                Err(_) => assert_eq!(own, row[place], "{name}"),
            }
        }
    }
    assert!(source.labels("label").unwrap().is_some());
    let model = packed(at, "embedding", ("", ""));
    let words = [
        "cells",
        "embed",
        input,
        "--model",
        &model,
        "-o",
        copy.to_str().unwrap(),
    ];
    run(words).exit(0);
    let bytes = fs::read(&copy).unwrap();
    assert!(bytes.windows(12).any(|own| own == b"X_strandline"));
}

/// The copy is of what was scored: an input that has changed meanwhile has no answers.
#[cfg(unix)]
#[test]
fn an_input_that_is_replaced_is_noticed() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (input, copy) = (at.join("in.h5ad"), at.join("out.h5ad"));
    fs::copy(data("cells/csr.h5ad"), &input).unwrap();
    // Labels come through a pipe: the run waits for them behind the copy.
    let pipe = at.join("labels");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let embedding = packed(at, "embedding", ("", ""));
    let words = [
        "cells",
        "embed",
        input.to_str().unwrap(),
        "--model",
        &embedding,
    ];
    let words = words.into_iter().chain(["--label", "x", "--labels"]);
    let words = words.chain([pipe.to_str().unwrap(), "-o", copy.to_str().unwrap()]);
    let child = strandline(words).stderr(Stdio::piped()).spawn().unwrap();
    let mut labels = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    fs::copy(data("cells/csc.h5ad"), at.join("other")).unwrap();
    fs::rename(at.join("other"), &input).unwrap();
    let lines = (0..12).map(|cell| format!("cell{cell}-é\t{}\n", cell % 2));
    let text = "cell\tx\n".to_string() + &lines.collect::<String>();
    labels.write_all(text.as_bytes()).unwrap();
    drop(labels);
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("has changed while it was read"), "{err}");
    assert!(!copy.exists() && !at.join("out.h5ad.part").exists());
}

#[test]
fn only_a_table_of_anndata_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("out.h5ad");
    let copy = copy.to_str().unwrap();
    let folder = data("cells/pbmc");
    for command in ["annotate", "embed"] {
        let words = ["cells", command, folder.to_str().unwrap(), "-o", copy];
        let ran = run(words).exit(1);
        assert!(ran.err.contains("out.h5ad"), "{}", ran.err);
        assert!(!Path::new(copy).exists());
    }
    let words = [
        "cells",
        "annotate",
        folder.to_str().unwrap(),
        "--follow",
        "-o",
        copy,
    ];
    run(words).exit(2);
}
