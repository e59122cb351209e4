//! A sparse matrix in an `.npz` of NumPy: the arrays `data`, `indices`, `indptr` and `shape`, cells
//! × genes, as `scipy.sparse.save_npz` names them too (`format` is then `csr` or `csc`); `genes`,
//! maybe `cells`, and any other array with one value a cell.

use super::array::{Words, all_wholes};
use super::matrix::{Arrays, Layout, Matrix, Stored};
use super::names;
use super::npy::Npy;
use super::source::{CellSource, Choice, Gene};
use super::zip::Archive;
use crate::cells::error::CellsError;
use std::path::Path;
use std::rc::Rc;

/// An array that must be there.
fn needed(archive: &Rc<Archive>, name: &str) -> Result<Npy, CellsError> {
    Npy::open(archive, name)?.ok_or_else(|| {
        let there: Vec<&str> = archive.names().take(20).collect();
        let reason = format!(
            "the archive lacks the array `{name}`; `data`, `indices`, `indptr`, `shape` and \
             `genes` are needed, and there are: {}",
            there.join(", ")
        );
        CellsError::file(archive.file(), reason)
    })
}

/// An array that has one dimension.
fn row(archive: &Rc<Archive>, name: &str) -> Result<Npy, CellsError> {
    let array = needed(archive, name)?;
    if array.shape().len() != 1 {
        let reason = format!("its shape is {:?}, where one size is needed", array.shape());
        return Err(CellsError::part(archive.file(), name, reason));
    }
    Ok(array)
}

/// Opens an archive.
pub(super) fn open(path: &Path, choice: &Choice) -> Result<Box<dyn CellSource>, CellsError> {
    let archive = Rc::new(Archive::open(path)?);
    let file = archive.file();
    let format = match Npy::open(&archive, "format")? {
        Some(mut format) if Words::len(&format) == 1 => Words::next(&mut format)?,
        _ => "csr".into(),
    };
    let shape = all_wholes(&mut row(&archive, "shape")?)?;
    let [cells, width] = shape[..] else {
        let reason = format!("{} numbers, where cells and genes are needed", shape.len());
        return Err(CellsError::part(file, "shape", reason));
    };
    let arrays = Arrays {
        data: Box::new(row(&archive, "data")?),
        indices: Box::new(row(&archive, "indices")?),
        indptr: Box::new(row(&archive, "indptr")?),
    };
    let layout = match &*format {
        "csr" => Layout::ByCell(arrays),
        "csc" => Layout::ByGene(arrays),
        _ => {
            let reason = format!("the matrix is `{format}`, where `csr` and `csc` are read");
            return Err(CellsError::part(file, "format", reason));
        }
    };
    let genes = match &choice.genes {
        Some(path) => names::genes_by_hand(path)?,
        None => genes(&archive)?,
    };
    if genes.len() as u64 != width {
        let reason = format!(
            "the matrix has {width} columns, and there are {} genes",
            genes.len()
        );
        return Err(CellsError::part(file, "shape", reason));
    }
    let names = Npy::open(&archive, "cells")?.map(|names| Box::new(names) as Box<dyn Words>);
    let matrix = Matrix::new(file, genes, cells, names, layout)?;
    Ok(Box::new(Stored {
        matrix,
        labels: move |column: &str, cells| labels(&archive, column, cells),
    }))
}

fn genes(archive: &Rc<Archive>) -> Result<Vec<Gene>, CellsError> {
    let mut array = row(archive, "genes")?;
    let mut genes = vec![];
    for number in 1..=Words::len(&array) {
        let symbol = Words::next(&mut array)?;
        if symbol.is_empty() {
            let reason = "its name is empty";
            return Err(CellsError::gene(
                archive.file(),
                &number.to_string(),
                reason,
            ));
        }
        genes.push(Gene {
            symbol,
            ..Gene::default()
        });
    }
    Ok(genes)
}

/// A column of the cells.
fn labels(
    archive: &Rc<Archive>,
    column: &str,
    cells: u64,
) -> Result<Option<Vec<String>>, CellsError> {
    let Some(mut array) = Npy::open(archive, column)? else {
        return Ok(None);
    };
    let values = Words::len(&array);
    if array.shape().len() != 1 || values != cells {
        let reason = format!("{values} values, where there are {cells} cells");
        return Err(CellsError::part(archive.file(), column, reason));
    }
    (0..cells)
        .map(|_| array.next_shown())
        .collect::<Result<_, _>>()
        .map(Some)
}
