//! A 10x folder: matrix, genes and cells, separated by a byte that no text has; with names of our
//! own where there is a matrix alone. However many cells are asked for at once, the answer is the
//! same, and there are never more cells than names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use strandline::cells::input::{Block, Choice, open};

const SEPARATOR: u8 = 0xff;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("strandline-cells-mtx-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
});

type Cells = Vec<(String, Vec<u32>, Vec<u32>)>;

/// Cells before the first error, and that error.
fn read(path: &Path, most: usize) -> (Cells, Option<String>) {
    let mut cells = vec![];
    let mut source = match open(path, &Choice::default()) {
        Ok(source) => source,
        Err(error) => return (cells, Some(error.to_string())),
    };
    let mut block = Block::default();
    loop {
        match source.next(&mut block, most) {
            Err(error) => return (cells, Some(error.to_string())),
            Ok(false) => return (cells, None),
            Ok(true) => {}
        }
        assert!(!block.is_empty() && block.len() <= most);
        for index in 0..block.len() {
            let (name, genes, values) = block.cell(index);
            assert!(genes.is_sorted_by(|a, b| a < b));
            assert!(
                genes
                    .iter()
                    .all(|&gene| (gene as usize) < source.genes().len())
            );
            let bits = values.iter().map(|value| value.to_bits()).collect();
            cells.push((name.to_string(), genes.to_vec(), bits));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|&byte| byte == SEPARATOR);
    let matrix = parts.next().unwrap_or_default();
    let genes = parts.next().unwrap_or(b"E1\tCD3D\nE2\tLYZ\nE3\tMS4A1\n");
    let names = parts.next().unwrap_or(b"AAAC-1\nAAAG-1\nAACC-1\nAAGT-1\n");
    for (name, bytes) in [
        ("matrix.mtx", matrix),
        ("genes.tsv", genes),
        ("barcodes.tsv", names),
    ] {
        std::fs::write(FOLDER.join(name), bytes).expect("a file");
    }
    let (whole, error) = read(&FOLDER, 1000);
    let lines = names.iter().filter(|&&byte| byte == b'\n').count();
    assert!(whole.len() <= lines, "more cells than names");
    assert!(
        error.is_some() || whole.len() == lines,
        "fewer cells, and no error"
    );
    let (each, same) = read(&FOLDER, 1);
    assert_eq!(same, error);
    // Cells of a block that ends in an error are not given.
    assert!(each.starts_with(&whole));
});
