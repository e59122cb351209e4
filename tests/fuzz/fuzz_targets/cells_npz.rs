//! An `.npz`: any bytes, and arrays of any bytes in an archive whose checksums are right. However
//! many cells are asked for at once, the answer is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;
use strandline::cells::input::{Block, Choice, open};

/// What separates arrays in an input that is no archive.
const SEPARATOR: &[u8] = b"\n\xff";

const NAMES: [&str; 7] = [
    "shape", "indptr", "indices", "data", "genes", "cells", "label",
];

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("strandline-cells-{}.npz", std::process::id());
    std::env::temp_dir().join(name)
});

type Cells = Vec<(String, Vec<u32>, Vec<u32>)>;

/// Cells before the first error, and that error.
fn read(most: usize) -> (Cells, Option<String>) {
    let mut cells = vec![];
    let mut source = match open(&FILE, &Choice::default()) {
        Ok(source) => source,
        Err(error) => return (cells, Some(error.to_string())),
    };
    if let Ok(Some(labels)) = source.labels("label") {
        assert_eq!(Some(labels.len() as u64), source.cells());
    }
    let mut block = Block::default();
    // A matrix without names may have any number of empty cells.
    while cells.len() < 10_000 {
        match source.next(&mut block, most) {
            Err(error) => return (cells, Some(error.to_string())),
            Ok(false) => return (cells, None),
            Ok(true) => {}
        }
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
    cells.truncate(10_000);
    (cells, None)
}

fn check(bytes: &[u8]) {
    std::fs::write(&*FILE, bytes).expect("a file");
    let (whole, error) = read(1000);
    let (each, same) = read(1);
    assert_eq!(same, error);
    // Cells of a block that ends in an error are not given.
    assert!(each.starts_with(&whole));
}

/// An archive of stored members.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (vec![], vec![]);
    for (name, content) in members {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let name = format!("{name}.npy");
        let length = (content.len() as u32).to_le_bytes();
        let fields = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0],
            &crc.sum().to_le_bytes()[..],
        ]
        .concat();
        let fields = [&fields[..], &length, &length, &[name.len() as u8, 0, 0, 0]].concat();
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&fields);
        bytes.extend(name.as_bytes());
        bytes.extend(*content);
    }
    let sizes = [directory.len() as u32, bytes.len() as u32].map(u32::to_le_bytes);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([members.len() as u8, 0, members.len() as u8, 0]);
    bytes.extend(sizes.concat());
    bytes.extend([0, 0]);
    bytes
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let (mut members, mut rest) = (vec![], data);
    for name in NAMES {
        let end = rest
            .windows(SEPARATOR.len())
            .position(|two| two == SEPARATOR);
        members.push((name, &rest[..end.unwrap_or(rest.len())]));
        let Some(end) = end else {
            break;
        };
        rest = &rest[end + SEPARATOR.len()..];
    }
    check(&archive(&members));
});
