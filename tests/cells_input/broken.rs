//! Files broken at every place.

use crate::archive::zip;
use crate::npz::members;
use crate::{barcodes, features, folder, gzip, matrix, plain_folder, read, saved, table};
use std::fs;
use std::path::Path;
use strandline::cells::input::Choice;
use tempfile::TempDir;

/// Every shorter version of a file, and every one with a byte changed in one of four ways.
fn broken(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let changed = (0..bytes.len()).flat_map(|at| {
        [0x01, 0x03, 0x10, 0x80].map(|mask| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= mask;
            bytes
        })
    });
    cut.chain(changed)
}

/// Reads `path` with each broken version of its file at `place` and counts those that are read.
fn all_broken(path: &Path, place: &Path, same: bool) -> usize {
    let bytes = fs::read(place).unwrap();
    let whole = read(path, &Choice::default(), 2).unwrap();
    let mut good = 0;
    for broken in broken(&bytes) {
        fs::write(place, &broken).unwrap();
        if let Ok(given) = read(path, &Choice::default(), 2) {
            good += 1;
            assert!(given.1.len() <= whole.1.len(), "more cells than before");
            assert!(
                broken.len() == bytes.len() || !same,
                "cut to {}",
                broken.len()
            );
            assert!(!same || given == whole, "{given:?}");
        }
    }
    fs::write(place, bytes).unwrap();
    good
}

#[test]
fn broken_folders_give_errors() {
    let folder = plain_folder(&matrix());
    let path = folder.path();
    for name in ["matrix.mtx", "features.tsv", "barcodes.tsv"] {
        let place = path.join(name);
        let bytes = fs::read(&place).unwrap();
        for length in 0..bytes.len() {
            fs::write(&place, &bytes[..length]).unwrap();
            assert!(
                read(path, &Choice::default(), 2).is_err(),
                "{name}: {length}"
            );
        }
        fs::write(&place, bytes).unwrap();
        all_broken(path, &place, false);
    }
}

#[test]
fn broken_archives_give_errors_or_the_same() {
    let packed = folder(&[
        ("matrix.mtx.gz", &gzip(matrix().as_bytes())),
        ("features.tsv.gz", &gzip(features().as_bytes())),
        ("barcodes.tsv.gz", &gzip(barcodes().as_bytes())),
    ]);
    for name in ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"] {
        let good = all_broken(packed.path(), &packed.path().join(name), true);
        assert!(good < 64, "{name}: {good}");
    }
    for (deflated, zip64) in [(true, false), (false, true)] {
        let path = saved(&packed, "a.npz", &zip(&members()[..6], deflated, zip64));
        all_broken(&path, &path, true);
    }
}

#[test]
fn broken_tables_give_errors_or_fewer_cells() {
    let folder = TempDir::new().unwrap();
    let path = saved(&folder, "a.tsv", table("\t").as_bytes());
    all_broken(&path, &path, false);
    let path = saved(&folder, "a.tsv.gz", &gzip(table(",").as_bytes()));
    all_broken(&path, &path, true);
}
