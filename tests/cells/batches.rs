//! Networks of one's own: batches, each with the model of its own norm; genes and proteins.

use super::binary::{data, run};
use super::copied::packed;

#[test]
fn each_batch_has_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let input = data("cells/csr.h5ad");
    let input = input.to_str().unwrap();
    let a = packed(at, "embedding", ("", ""));
    let b = packed(at, "embedding", ("cls_value = -2.0", "cls_value = 7.0"));
    let vectors = |more: &[&str]| {
        let words = ["cells", "embed", input, "-t", "1"];
        let ran = run(words.iter().chain(more)).exit(0);
        let lines = ran.text().lines().skip(1).map(str::to_string);
        (lines.collect::<Vec<String>>(), ran.err)
    };
    let (of_a, _) = vectors(&["--model", &a]);
    let (of_b, _) = vectors(&["--model", &b]);
    assert!(of_a.iter().zip(&of_b).all(|(a, b)| a != b));
    // Batches are -1, 0, 1, -1, ... of twelve cells.
    let [low, middle, high] = [("-1", &a), ("0", &b), ("1", &a)];
    let of = |(batch, model): (&str, &String)| format!("{batch}={model}");
    let [low, middle, high] = [of(low), of(middle), of(high)];
    let words = [
        "--batch",
        "batch",
        "--model-of",
        &low,
        "--model-of",
        &middle,
    ];
    let all: Vec<&str> = words.iter().copied().chain(["--model-of", &high]).collect();
    let (found, err) = vectors(&all);
    let place = |at: usize| if at % 3 == 1 { &of_b[at] } else { &of_a[at] };
    let expected: Vec<&String> = (0..12).map(place).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert!(err.contains("batch: mixing"), "{err}");
    let (found, err) = vectors(&words);
    assert_eq!(found.len(), 8);
    assert!(err.contains("4 cells have no vector"), "{err}");
    let other = of(("other", &a));
    let ran = run([
        "cells",
        "embed",
        input,
        "--batch",
        "batch",
        "--model-of",
        &other,
    ])
    .exit(1);
    assert!(ran.err.contains("no cell of batch other"), "{}", ran.err);
    run(["cells", "embed", input, "--model-of", &low]).exit(2);
}

#[test]
fn proteins_are_read_by_a_model_that_knows_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let input = data("cells/csr.h5ad");
    let input = input.to_str().unwrap();
    let genes = packed(at, "annotation", ("", ""));
    let both = packed(
        at,
        "annotation",
        ("bins = 51", "bins = 51\nproteins = \"p_\""),
    );
    let table = |model: &str| {
        let ran = run(["cells", "annotate", input, "--model", model]).exit(0);
        let count = |line: &str| line.rsplit('\t').next().unwrap().parse::<usize>().unwrap();
        let counts: Vec<usize> = ran.text().lines().skip(1).map(count).collect();
        (ran.text().to_string(), counts, ran.err)
    };
    let (one, few, err) = table(&genes);
    assert!(
        err.contains("7 of 7 columns") && err.contains("2 columns are no genes"),
        "{err}"
    );
    let (two, more, err) = table(&both);
    assert!(
        err.contains("7 of 7 columns") && err.contains("; 2 proteins"),
        "{err}"
    );
    assert_ne!(one, two);
    assert!(
        few.iter()
            .zip(&more)
            .all(|(few, more)| few <= more && *more <= few + 2)
    );
    assert!(few.iter().sum::<usize>() < more.iter().sum());
}
