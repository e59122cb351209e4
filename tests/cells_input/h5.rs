//! Files of HDF5 that anndata and 10x's layout gave: `tests/data/cells/h5ad.py` writes them, and
//! the same as text.

use crate::{Cells, read};
use std::fs;
use std::path::{Path, PathBuf};
use strandline::cells::h5ad::{Answers, Column, add, check};
use strandline::cells::input::{Choice, open};
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/cells")
        .join(name)
}

/// A text of tabs: its first row, and all others.
fn rows(name: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let text = fs::read_to_string(data(name)).unwrap();
    let split = |line: &str| line.split('\t').map(Into::into).collect();
    let mut lines = text.lines();
    (split(lines.next().unwrap()), lines.map(split).collect())
}

/// Genes and cells as the text has them.
fn expected(name: &str) -> (Vec<String>, Cells) {
    let (mut genes, rows) = rows(name);
    genes.remove(0);
    let cell = |row: Vec<String>| {
        let values = row[1..].iter().map(|value| value.parse::<f32>().unwrap());
        let own: Vec<(u32, f32)> = (0..).zip(values).filter(|pair| pair.1 != 0.0).collect();
        let (genes, values) = own.into_iter().unzip();
        (row[0].clone(), genes, values)
    };
    (genes, rows.into_iter().map(cell).collect())
}

fn same(file: &str, choice: &Choice, text: &str) {
    let (names, wanted) = expected(text);
    for most in [1, 5, 1000] {
        let (genes, cells) = read(&data(file), choice, most).unwrap();
        let genes: Vec<String> = genes.into_iter().map(|gene| gene.symbol).collect();
        assert_eq!(genes, names, "{file}");
        assert_eq!(cells, wanted, "{file}, {most} at once");
    }
}

#[test]
fn matrices_of_anndata() {
    let of = |layer: Option<&str>, raw: bool| Choice {
        layer: layer.map(Into::into),
        raw,
        ..Choice::default()
    };
    for file in ["csr.h5ad", "csc.h5ad", "dense.h5ad"] {
        same(file, &of(None, false), "X.tsv");
        same(file, &of(Some("half"), false), "half.tsv");
        same(file, &of(None, true), "raw.tsv");
        let error = |choice| read(&data(file), &choice, 1).unwrap_err().to_string();
        assert!(error(of(Some("none"), false)).contains("layers/none: the file has no such"));
        assert!(error(of(Some("half"), true)).contains("choose one"));
    }
    same("release_0_7.h5ad", &of(None, false), "X.tsv");
    let error = read(&data("release_0_7.h5ad"), &of(None, true), 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("raw/X: the file has no such matrix")
    );
}

#[test]
fn genes_have_ids_and_modalities() {
    for file in ["csr.h5ad", "tenx.h5"] {
        let source = open(&data(file), &Choice::default()).unwrap();
        for (at, gene) in source.genes().iter().enumerate() {
            let protein = file == "csr.h5ad" && at > 6;
            let modality = if protein {
                "Antibody Capture"
            } else {
                "Gene Expression"
            };
            assert_eq!(gene.symbol, format!("G{at}"));
            assert_eq!(gene.id, Some(format!("ENSG{at:05}")));
            assert_eq!(gene.modality.as_deref(), Some(modality));
        }
    }
}

#[test]
fn tenxs_own_file() {
    let (_, wanted) = expected("X.tsv");
    let (_, cells) = read(&data("tenx.h5"), &Choice::default(), 5).unwrap();
    assert_eq!(cells.len(), wanted.len());
    for (own, cell) in cells.iter().zip(&wanted) {
        assert_eq!((&own.1, &own.2), (&cell.1, &cell.2));
        assert_eq!(format!("{}-é", own.0), cell.0);
    }
}

#[test]
fn columns_of_obs_in_every_encoding() {
    let (names, rows) = rows("obs.tsv");
    let source = open(&data("csr.h5ad"), &Choice::default()).unwrap();
    for (at, name) in names.iter().enumerate().skip(1) {
        let labels = source.labels(name).unwrap().unwrap();
        let wanted: Vec<&String> = rows.iter().map(|row| &row[at]).collect();
        assert_eq!(labels.iter().collect::<Vec<_>>(), wanted, "{name}");
    }
    assert!(source.labels("absent").unwrap().is_none());
    let old = open(&data("release_0_7.h5ad"), &Choice::default()).unwrap();
    assert_eq!(
        old.labels("label").unwrap(),
        source.labels("label").unwrap()
    );
}

#[test]
fn a_filter_that_is_not_undone_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.h5ad");
    // The pipeline's message: its filter 1 (deflate) becomes 32015 (zstd). The values of
    // `release_0_7.h5ad` are packed in chunks of seven, with shuffle before.
    let mut bytes = fs::read(data("release_0_7.h5ad")).unwrap();
    let deflate = [&[1, 0, 8, 0, 1, 0, 1, 0][..], b"deflate\0"].concat();
    let mut changed = 0;
    for at in 0..bytes.len() - deflate.len() {
        if bytes[at..].starts_with(&deflate) {
            bytes[at..at + 2].copy_from_slice(&32015u16.to_le_bytes());
            changed += 1;
        }
    }
    assert!(changed > 0, "no deflate filter found");
    fs::write(&path, bytes).unwrap();
    let error = read(&path, &Choice::default(), 1).unwrap_err().to_string();
    assert!(
        error.contains("a.h5ad: X/data: its filter is zstd (32015)"),
        "{error}"
    );
}

/// Answers stand beside everything that was there before, and can be written anew.
#[test]
fn answers_are_added_to_a_copy() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.h5ad");
    let of: Vec<Option<u16>> = (0..12)
        .map(|cell| (cell % 3 != 2).then_some(cell % 3))
        .collect();
    let answers = |names: [&str; 2], value: f32| Answers {
        columns: vec![
            (
                "own_type".into(),
                Column::Categories {
                    names: names.map(String::from).to_vec(),
                    of: of.clone(),
                },
            ),
            ("own_p".into(), Column::Numbers(vec![value; 12])),
            ("own_n".into(), Column::Counts((0..12).collect())),
        ],
        vectors: vec![("X_own".into(), 2, vec![value; 24])],
    };
    for file in ["csr.h5ad", "csc.h5ad", "dense.h5ad", "release_0_7.h5ad"] {
        fs::copy(data(file), &path).unwrap();
        for (names, value) in [(["B", "T é"], 0.25), (["NK", "Mono"], 0.5)] {
            add(&path, &answers(names, value)).unwrap();
            let source = open(&path, &Choice::default()).unwrap();
            let column = |name: &str| source.labels(name).unwrap().unwrap();
            let types = [names[0], names[1], ""];
            let wanted: Vec<&str> = (0..12).map(|cell| types[cell % 3]).collect();
            assert_eq!(column("own_type"), wanted, "{file}");
            assert_eq!(column("own_p"), vec![value.to_string(); 12], "{file}");
            let counts: Vec<String> = (0..12).map(|cell| cell.to_string()).collect();
            assert_eq!(column("own_n"), counts, "{file}");
        }
        let before = open(&data(file), &Choice::default()).unwrap();
        let after = open(&path, &Choice::default()).unwrap();
        for name in ["label", "batch", "score", "named"] {
            assert_eq!(before.labels(name).unwrap(), after.labels(name).unwrap());
        }
        assert_eq!(
            read(&data(file), &Choice::default(), 5).unwrap(),
            read(&path, &Choice::default(), 5).unwrap(),
            "{file}"
        );
    }
    // One answer a cell, and no column over the names of cells.
    fs::copy(data("csr.h5ad"), &path).unwrap();
    let few = Answers {
        columns: vec![("own".into(), Column::Counts(vec![0; 11]))],
        ..Answers::default()
    };
    let error = add(&path, &few).unwrap_err().to_string();
    assert!(error.contains("11 answers for 12 cells"), "{error}");
    let index = Answers {
        columns: vec![("_index".into(), Column::Counts(vec![0; 12]))],
        ..Answers::default()
    };
    let error = add(&path, &index).unwrap_err().to_string();
    assert!(error.contains("the names of its cells"), "{error}");
    assert_eq!(
        fs::read(&path).unwrap(),
        fs::read(data("csr.h5ad")).unwrap()
    );
    for file in ["tenx.h5", "X.tsv"] {
        let error = check(&data(file)).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn broken_files_give_errors_or_no_more_cells() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.h5ad");
    for (file, step) in [
        ("release_0_7.h5ad", 13),
        ("dense.h5ad", 151),
        ("tenx.h5", 17),
    ] {
        let whole = read(&data(file), &Choice::default(), 1000).unwrap().1;
        let bytes = fs::read(data(file)).unwrap();
        for length in (0..bytes.len()).step_by(step) {
            fs::write(&path, &bytes[..length]).unwrap();
            let cut = read(&path, &Choice::default(), 1000);
            assert!(cut.is_err(), "{file} cut to {length} bytes");
        }
        for at in (0..bytes.len()).step_by(step) {
            for mask in [0x01, 0x40, 0xff] {
                let mut broken = bytes.clone();
                broken[at] ^= mask;
                fs::write(&path, &broken).unwrap();
                if let Ok((_, cells)) = read(&path, &Choice::default(), 1000) {
                    assert!(cells.len() <= whole.len(), "{file}: byte {at} ^ {mask}");
                }
            }
        }
    }
}
