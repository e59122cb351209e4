//! The `.h5` of 10x Genomics: `matrix` with `features` (Cell Ranger 3 and later), or a group named
//! after the genome with `genes` and `gene_names` (before).

use super::array::{Words, all_wholes};
use super::hdf5::{Array, H5, Object};
use super::matrix::{Arrays, Layout, Matrix, Stored};
use super::source::{CellSource, Gene};
use crate::cells::error::CellsError;

/// Where names of cells stand in a group with a matrix.
const BARCODES: &str = "barcodes";

/// The group with the matrix, of all those that have one.
fn group(file: &H5) -> Option<String> {
    let members = file.members("").ok()?;
    let groups = members
        .into_iter()
        .filter(|member| member.1 == Object::Group);
    let mut groups = groups.map(|member| member.0).filter(|group| {
        matches!(
            file.find(&format!("{group}/{BARCODES}")),
            Ok(Some(Object::Array))
        )
    });
    groups.next()
}

/// True where a file is laid out as 10x does.
pub(super) fn is_tenx(file: &H5) -> bool {
    group(file).is_some()
}

/// Opens a file.
pub(super) fn open(file: H5) -> Result<Box<dyn CellSource>, CellsError> {
    let group = group(&file).unwrap_or_else(|| "matrix".into());
    let path = |name: &str| format!("{group}/{name}");
    let row = |name: &str| -> Result<Array, CellsError> {
        let array = file.array(&path(name))?;
        if array.shape().len() != 1 {
            let reason = format!("its shape is {:?}, not of one size", array.shape());
            return Err(file.wrong(&path(name), reason));
        }
        Ok(array)
    };
    let shape = all_wholes(&mut row("shape")?)?;
    let [width, cells] = shape[..] else {
        let reason = format!("{} numbers, where genes and cells are needed", shape.len());
        return Err(file.wrong(&path("shape"), reason));
    };
    let all = |name: &str| -> Result<Vec<String>, CellsError> {
        let mut array = row(name)?;
        let count = Words::len(&array);
        if count != width {
            let reason = format!("{count} of them, where the matrix has {width} genes");
            return Err(file.wrong(&path(name), reason));
        }
        (0..count).map(|_| Words::next(&mut array)).collect()
    };
    let (ids, names, mut modalities) = if file.find(&path("features"))? == Some(Object::Group) {
        let modalities = match file.find(&path("features/feature_type"))? {
            Some(_) => Some(all("features/feature_type")?.into_iter()),
            None => None,
        };
        (all("features/id")?, all("features/name")?, modalities)
    } else {
        (all("genes")?, all("gene_names")?, None)
    };
    let mut genes = vec![];
    for (number, (id, symbol)) in ids.into_iter().zip(names).enumerate() {
        if symbol.is_empty() {
            let reason = "its name is empty";
            return Err(CellsError::gene(
                file.name(),
                &(number + 1).to_string(),
                reason,
            ));
        }
        let full = |text: &String| !text.is_empty();
        genes.push(Gene {
            symbol,
            id: Some(id).filter(full),
            modality: modalities.as_mut().and_then(Iterator::next).filter(full),
        });
    }
    // Compressed by column of genes × cells: a cell a row.
    let layout = Layout::ByCell(Arrays {
        data: Box::new(row("data")?),
        indices: Box::new(row("indices")?),
        indptr: Box::new(row("indptr")?),
    });
    let names = Box::new(row(BARCODES)?);
    let matrix = Matrix::new(file.name(), genes, cells, Some(names), layout)?;
    let labels = |_: &str, _| Ok(None);
    Ok(Box::new(Stored { matrix, labels }))
}
