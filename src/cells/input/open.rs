//! What a path holds, by its first bytes.

use super::source::{CellSource, Choice};
use super::{anndata, folder, hdf5, npz, table, tenx};
use crate::cells::error::CellsError;
use crate::reads::source::{Input, Stream};
use std::fs;
use std::path::{Path, PathBuf};

/// The first bytes of a zip archive, and of one with nothing in it.
const ZIP: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// The first bytes of an HDF5 file.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

const MATRIX_MARKET: &[u8] = b"%%MatrixMarket";

/// The files that are read where an input is opened: the three of a folder, what lies beside a
/// MatrixMarket file, or the one that is named.
///
/// # Errors
/// Where one cannot be looked at, or is missing.
pub fn files(path: &Path, choice: &Choice) -> Result<Vec<PathBuf>, CellsError> {
    if path.is_dir() {
        return folder::files_of_folder(path, choice);
    }
    readable(path)?;
    if head(path)?.starts_with(MATRIX_MARKET) {
        return folder::files_of_matrix(path, choice);
    }
    let genes = choice.genes.iter().cloned();
    Ok([path.to_path_buf()].into_iter().chain(genes).collect())
}

/// Files are read several times, and from several places: no pipe can be.
fn readable(path: &Path) -> Result<(), CellsError> {
    let file = path.display().to_string();
    let refused = |what: &str| {
        let reason = format!(
            "{what} cannot be read, as cells are looked at more than once: \
                              write a file first"
        );
        Err(CellsError::file(&file, reason))
    };
    if path.as_os_str() == "-" {
        return refused("standard input");
    }
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => refused("what is no file, such as a pipe,"),
        _ => Ok(()),
    }
}

/// Opens an input, whatever its kind.
///
/// # Errors
/// Where it cannot be read, is of no kind that is known, or is wrong in what is read first: names
/// of genes, numbers of cells.
pub fn open(path: &Path, choice: &Choice) -> Result<Box<dyn CellSource>, CellsError> {
    let file = path.display().to_string();
    if path.is_dir() {
        plain(&file, "a 10x folder", choice)?;
        return Ok(Box::new(folder::open_folder(path, choice)?));
    }
    readable(path)?;
    let head = head(path)?;
    if head.starts_with(HDF5) {
        return open_hdf5(path, choice);
    }
    if head.starts_with(MATRIX_MARKET) {
        plain(&file, "a MatrixMarket file", choice)?;
        return Ok(Box::new(folder::open_matrix(path, choice)?));
    }
    if ZIP.iter().any(|magic| head.starts_with(magic)) {
        plain(&file, "an npz file", choice)?;
        return npz::open(path, choice);
    }
    if head.is_empty() {
        return Err(CellsError::file(&file, "the file is empty"));
    }
    if let Some(at) = head.iter().position(|&byte| byte == 0) {
        return Err(CellsError::byte(
            &file,
            at as u64,
            "neither text nor a format that is known: 10x folders, MatrixMarket, npz, h5ad, 10x \
             h5, TSV and CSV are read",
        ));
    }
    plain(&file, "a table", choice)?;
    named(&file, "a table", choice)?;
    Ok(Box::new(table::open(path)?))
}

/// The first bytes of a file, unpacked where it is gzip.
fn head(path: &Path) -> Result<Vec<u8>, CellsError> {
    let input = Input::Path(path.into());
    let mut stream = Stream::new(input.name().into(), input.open()?)?;
    let mut head = vec![0; 512];
    let mut length = 0;
    while length < head.len() {
        let read = stream.read(&mut head[length..])?;
        if read == 0 {
            break;
        }
        length += read;
    }
    head.truncate(length);
    Ok(head)
}

/// Layers and `raw` are AnnData's alone.
fn plain(file: &str, kind: &str, choice: &Choice) -> Result<(), CellsError> {
    let asked = if choice.raw {
        "raw"
    } else if choice.layer.is_some() {
        "layers"
    } else {
        return Ok(());
    };
    let reason = format!("{kind} has no `{asked}`: only AnnData files have");
    Err(CellsError::file(file, reason))
}

/// What always names its genes needs no other names.
fn named(file: &str, kind: &str, choice: &Choice) -> Result<(), CellsError> {
    let Some(path) = &choice.genes else {
        return Ok(());
    };
    let path = path.display();
    let reason = format!("{kind} names its genes itself: {path} is for a matrix without names");
    Err(CellsError::file(file, reason))
}

fn open_hdf5(path: &Path, choice: &Choice) -> Result<Box<dyn CellSource>, CellsError> {
    let file = hdf5::H5::open(path)?;
    if tenx::is_tenx(&file) {
        plain(file.name(), "a 10x h5 file", choice)?;
        named(file.name(), "a 10x h5 file", choice)?;
        return tenx::open(file);
    }
    anndata::open(file, choice)
}
