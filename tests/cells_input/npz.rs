//! The arrays of an `.npz`.

use crate::archive::{floats, integers, npy, texts, zip};
use crate::{CELLS, GENES, cells, error, expected, read, saved};
use strandline::cells::input::{Choice, open};
use tempfile::TempDir;

/// The matrix of these tests as arrays, compressed by cell.
pub fn members() -> Vec<(&'static str, Vec<u8>)> {
    let (mut indices, mut data, mut indptr) = (vec![], vec![], vec![0]);
    for (_, genes, values) in CELLS {
        indices.extend(genes.iter().map(|&gene| i64::from(gene)));
        data.extend(values);
        indptr.push(data.len() as i64);
    }
    vec![
        ("data.npy", floats(&data)),
        ("indices.npy", integers(&indices)),
        ("indptr.npy", integers(&indptr)),
        (
            "shape.npy",
            integers(&[CELLS.len() as i64, GENES.len() as i64]),
        ),
        ("genes.npy", texts(1, &GENES.map(|gene| gene.1))),
        ("cells.npy", texts(3, &CELLS.map(|cell| cell.0))),
        ("label.npy", texts(1, &["B", "T", "", "naïve", "T"])),
        ("replicate.npy", integers(&[1, 2, 1, -3, 1])),
    ]
}

#[test]
fn an_npz_gives_genes_cells_and_columns() {
    let folder = TempDir::new().unwrap();
    for (deflated, zip64) in [(false, false), (true, false), (false, true), (true, true)] {
        let path = saved(&folder, "a.npz", &zip(&members(), deflated, zip64));
        assert_eq!(cells(&path), expected());
        let source = open(&path, &Choice::default()).unwrap();
        let symbols: Vec<&str> = source.genes().iter().map(|gene| &*gene.symbol).collect();
        assert_eq!(symbols, GENES.map(|gene| gene.1));
        let labels = source.labels("label").unwrap().unwrap();
        assert_eq!(labels, ["B", "T", "", "naïve", "T"]);
        let labels = source.labels("replicate").unwrap().unwrap();
        assert_eq!(labels, ["1", "2", "1", "-3", "1"]);
        assert!(source.labels("batch").unwrap().is_none());
        assert!(source.labels("genes").is_err());
    }
}

#[test]
fn scipys_arrays_are_read_by_row_and_by_column() {
    let folder = TempDir::new().unwrap();
    let mut arrays = members();
    arrays[0].1 = {
        let values = [5.0, 1.0, 7.0, 2.0, 1.0, 3.0, 12.0, 4.0, 250.0f64];
        let elements: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        npy(1, "<f8", "(9,)", &elements)
    };
    arrays[1].1 = npy(1, "|u1", "(9,)", &[0, 3, 1, 3, 0, 3, 0, 3, 4]);
    arrays[2].1 = integers(&[0, 2, 4, 6, 9]);
    arrays.push(("format.npy", npy(1, "|S3", "()", b"csc")));
    let path = saved(&folder, "a.npz", &zip(&arrays, true, false));
    assert_eq!(cells(&path), expected());
    arrays.last_mut().unwrap().1 = npy(1, "|S3", "()", b"coo");
    let path = saved(&folder, "a.npz", &zip(&arrays, true, false));
    assert!(error(&path).contains("format: the matrix is `coo`"));
    // Names from elsewhere.
    let named = saved(&folder, "genes", b"A\nB\nC\nD\n");
    let mut arrays = members();
    arrays.remove(4);
    let path = saved(&folder, "a.npz", &zip(&arrays, true, false));
    assert!(error(&path).contains("lacks the array `genes`"));
    let choice = Choice {
        genes: Some(named),
        ..Choice::default()
    };
    assert_eq!(read(&path, &choice, 9).unwrap().0[1].symbol, "B");
}

#[test]
fn what_is_wrong_in_an_npz_is_named() {
    let folder = TempDir::new().unwrap();
    let wrong = [
        (
            1,
            integers(&[0, 2, 4, 1, 0, 1, 2, 3, 3]),
            "cell AAAC-1: gene 4 (from 0)",
        ),
        (
            1,
            integers(&[0, 2, 2, 1, 0, 1, 2, 3, 3]),
            "cell AAAC-1, gene MS4A1: ",
        ),
        (
            1,
            integers(&[0, 2, -2, 1, 0, 1, 2, 3, 3]),
            "indices: -2 is negative",
        ),
        (1, integers(&[0, 2, 3]), "indices: 3 indices for 9 values"),
        (
            2,
            integers(&[0, 3, 2, 4, 8, 9]),
            "indptr: a start of 2 follows",
        ),
        (2, integers(&[0, 3, 4, 4, 8, 8]), "indptr: it ends with 8"),
        (2, integers(&[0, 3, 4, 4, 8, 10]), "indptr: a start of 10"),
        (
            2,
            integers(&[1, 3, 4, 4, 8, 9]),
            "indptr: it does not begin with 0",
        ),
        (2, integers(&[0, 3, 4, 9, 9]), "5 starts for 5 rows"),
        (2, integers(&[0, 0, 0, 0, 0, 9]), "9 values of one cell"),
        (3, integers(&[5, 4, 3]), "shape: 3 numbers"),
        (
            3,
            integers(&[5, 5]),
            "shape: the matrix has 5 columns, and there are 4",
        ),
        (3, integers(&[6, 4]), "5 names for 6 cells"),
        (
            4,
            npy(1, "|O", "(4,)", b"\x80\x04"),
            "genes.npy: elements of type `|O` are Python",
        ),
        (
            4,
            texts(1, &["A", "B", "", "D"]),
            "gene 3: its name is empty",
        ),
        (5, texts(1, &["A", "B", "C"]), "3 names for 5 cells"),
        (
            0,
            npy(1, "<f4", "(9,)", &[0; 35]),
            "35 bytes follow its header",
        ),
        (0, npy(1, ">f4", "(9,)", &[0; 36]), "big-endian"),
        (
            0,
            npy(1, "<f4", "(3, 3)", &[0; 36]),
            "data: its shape is [3, 3]",
        ),
        (
            0,
            npy(1, "<f4", "(999999999999,)", &[0; 36]),
            "36 bytes follow",
        ),
    ];
    for (member, bytes, reason) in wrong {
        let mut arrays = members();
        arrays[member].1 = bytes;
        let text = error(&saved(&folder, "a.npz", &zip(&arrays, true, false)));
        assert!(text.contains(reason), "{text}\n{reason}");
        assert!(text.contains("a.npz: "), "{text}");
    }
}
