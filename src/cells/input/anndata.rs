//! AnnData's `.h5ad`, as its releases from 0.7 on write it: `X`, a layer or `raw/X`, dense or
//! sparse; names and columns of `obs` and `var` as texts, categories, nullable or plain arrays.

use super::array::{Numbers, Words};
use super::hdf5::{Array, H5, Object};
use super::matrix::{Arrays, Layout, Matrix, Stored};
use super::names;
use super::source::{CellSource, Choice, Gene};
use crate::cells::error::CellsError;

/// Columns of `var` that hold ids where its index has symbols, in the order of trust.
const IDS: [&str; 5] = [
    "gene_ids",
    "gene_id",
    "ensembl_id",
    "ensembl_ids",
    "feature_id",
];

/// Columns of `var` that hold symbols where its index has ids.
const SYMBOLS: [&str; 5] = [
    "feature_name",
    "gene_symbols",
    "gene_symbol",
    "gene_name",
    "symbol",
];

/// Columns of `var` that say what was measured.
const MODALITIES: [&str; 2] = ["feature_types", "feature_type"];

/// What Ensembl's ids begin with, of any species.
const ENSEMBL: &str = "ENS";

/// A column of `obs` or `var`, in any of AnnData's encodings. Missing values are empty.
enum Column {
    Plain(Box<Array>),
    Categories {
        codes: Box<Array>,
        names: Vec<String>,
    },
    Nullable {
        values: Box<Array>,
        mask: Box<Array>,
    },
}

impl Column {
    fn open(file: &H5, frame: &str, name: &str) -> Result<Option<Column>, CellsError> {
        let path = format!("{frame}/{name}");
        let Some(object) = file.find(&path)? else {
            return Ok(None);
        };
        if object == Object::Array {
            let values = file.array(&path)?;
            // Release 0.7 keeps categories apart.
            let categories = format!("{frame}/__categories/{name}");
            if file.find(&categories)? == Some(Object::Array) {
                return Column::categories(file, values, &categories).map(Some);
            }
            return Ok(Some(Column::Plain(Box::new(values))));
        }
        match file.text(&path, "encoding-type")?.as_deref() {
            Some("categorical") => {
                let codes = file.array(&format!("{path}/codes"))?;
                let categories = format!("{path}/categories");
                if file.find(&categories)? == Some(Object::Group) {
                    // Categories that are nullable texts, of which none is missing.
                    let values = format!("{categories}/values");
                    return Column::categories(file, codes, &values).map(Some);
                }
                Column::categories(file, codes, &categories).map(Some)
            }
            Some("nullable-integer" | "nullable-boolean" | "nullable-string-array") => {
                Ok(Some(Column::Nullable {
                    values: Box::new(file.array(&format!("{path}/values"))?),
                    mask: Box::new(file.array(&format!("{path}/mask"))?),
                }))
            }
            other => {
                let encoding = other.unwrap_or("unknown");
                Err(file.wrong(
                    &path,
                    format!("its encoding is {encoding}, which is not read"),
                ))
            }
        }
    }

    fn categories(file: &H5, codes: Array, path: &str) -> Result<Column, CellsError> {
        let mut array = file.array(path)?;
        let count = Numbers::len(&array);
        let names = (0..count)
            .map(|_| array.next_shown())
            .collect::<Result<_, _>>()?;
        let codes = Box::new(codes);
        Ok(Column::Categories { codes, names })
    }

    fn shape(&self) -> &[u64] {
        match self {
            Column::Plain(values) => values.shape(),
            Column::Categories { codes, .. } => codes.shape(),
            Column::Nullable { values, .. } => values.shape(),
        }
    }
}

impl Words for Column {
    fn len(&self) -> u64 {
        self.shape().first().copied().unwrap_or(0)
    }

    fn next(&mut self) -> Result<String, CellsError> {
        match self {
            Column::Plain(values) => values.next_shown(),
            Column::Categories { codes, names } => match codes.next_code()? {
                None => Ok(String::new()),
                Some(code) => {
                    let name = usize::try_from(code).ok().and_then(|code| names.get(code));
                    let count = names.len();
                    let wrong = || codes.wrong(format!("category {code} (from 0) of {count}"));
                    name.cloned().ok_or_else(wrong)
                }
            },
            Column::Nullable { values, mask } => {
                let text = values.next_shown()?;
                let missing = mask.next_code()? != Some(0);
                Ok(if missing { String::new() } else { text })
            }
        }
    }
}

/// A column that must have one value a row, if it is there.
fn column(file: &H5, frame: &str, name: &str, rows: u64) -> Result<Option<Column>, CellsError> {
    let Some(column) = Column::open(file, frame, name)? else {
        return Ok(None);
    };
    if column.shape() != [rows] {
        let reason = format!(
            "its shape is {:?}, where {rows} values are needed",
            column.shape()
        );
        return Err(file.wrong(&format!("{frame}/{name}"), reason));
    }
    Ok(Some(column))
}

fn all(mut column: Column) -> Result<Vec<String>, CellsError> {
    (0..column.len()).map(|_| column.next()).collect()
}

/// How many cells a file has, and what the index of their table is called.
///
/// # Errors
/// Where it is no AnnData.
pub(in crate::cells) fn table(file: &H5) -> Result<(u64, String), CellsError> {
    let cells = index(file, "obs")?.len();
    let name = file.text("obs", "_index")?;
    Ok((cells, name.unwrap_or_else(|| "_index".into())))
}

/// The names of a frame's rows, and how many rows it has.
fn index(file: &H5, frame: &str) -> Result<Column, CellsError> {
    match file.find(frame)? {
        Some(Object::Group) => {}
        Some(Object::Array) => {
            return Err(file.wrong(
                frame,
                "it is a table of records, as anndata before 0.7 wrote it: write it again with a \
                 newer one",
            ));
        }
        None => {
            let reason = format!("an HDF5 file without `{frame}`: neither AnnData nor 10x");
            return Err(CellsError::file(file.name(), reason));
        }
    }
    let name = file
        .text(frame, "_index")?
        .unwrap_or_else(|| "_index".into());
    let column = Column::open(file, frame, &name)?;
    column.ok_or_else(|| file.wrong(frame, format!("its index `{name}` is missing")))
}

/// The first of several columns that is there.
fn first(
    file: &H5,
    frame: &str,
    names: &[&str],
    rows: u64,
) -> Result<Option<Vec<String>>, CellsError> {
    for name in names {
        if let Some(column) = column(file, frame, name, rows)? {
            return all(column).map(Some);
        }
    }
    Ok(None)
}

fn genes(file: &H5, frame: &str) -> Result<Vec<Gene>, CellsError> {
    let index = index(file, frame)?;
    let rows = index.len();
    let mut symbols = all(index)?;
    let ids = symbols
        .iter()
        .filter(|name| name.starts_with(ENSEMBL))
        .count();
    let mut other = None;
    if 2 * ids > symbols.len() {
        if let Some(named) = first(file, frame, &SYMBOLS, rows)? {
            // A gene without a symbol is known by its id.
            let both = named.into_iter().zip(&symbols);
            let named = both.map(|(name, id)| if name.is_empty() { id.clone() } else { name });
            let named = named.collect();
            other = Some(std::mem::replace(&mut symbols, named));
        } else {
            other = Some(symbols.clone());
        }
    }
    let mut ids = other
        .or(first(file, frame, &IDS, rows)?)
        .map(Vec::into_iter);
    let mut modalities = first(file, frame, &MODALITIES, rows)?.map(Vec::into_iter);
    let full = |text: &String| !text.is_empty();
    let mut genes = vec![];
    for (number, symbol) in symbols.into_iter().enumerate() {
        if symbol.is_empty() {
            let reason = format!("its name in `{frame}` is empty");
            return Err(CellsError::gene(
                file.name(),
                &(number + 1).to_string(),
                reason,
            ));
        }
        genes.push(Gene {
            symbol,
            id: ids.as_mut().and_then(Iterator::next).filter(full),
            modality: modalities.as_mut().and_then(Iterator::next).filter(full),
        });
    }
    Ok(genes)
}

/// How the matrix at a path is laid out, and its sizes.
fn layout(file: &H5, path: &str) -> Result<(Layout, u64, u64), CellsError> {
    match file.find(path)? {
        None => {
            let parent = path.rsplit_once('/').map_or("", |path| path.0);
            let there = if file.find(parent)? == Some(Object::Group) || parent.is_empty() {
                file.members(parent)?
            } else {
                vec![]
            };
            let there: Vec<String> = there.into_iter().map(|member| member.0).collect();
            let reason = format!(
                "the file has no such matrix; there are: {}",
                there.join(", ")
            );
            Err(file.wrong(path, reason))
        }
        Some(Object::Array) => {
            let array = file.array(path)?;
            let [cells, genes] = *array.shape() else {
                let reason = format!("its shape is {:?}, not cells × genes", array.shape());
                return Err(file.wrong(path, reason));
            };
            Ok((Layout::Dense(Box::new(array)), cells, genes))
        }
        Some(Object::Group) => {
            let encoding = match file.text(path, "encoding-type")? {
                Some(encoding) => encoding,
                None => file.text(path, "h5sparse_format")?.unwrap_or_default(),
            };
            let shape = match file.sizes(path, "shape")? {
                Some(shape) => shape,
                None => file.sizes(path, "h5sparse_shape")?.unwrap_or_default(),
            };
            let [cells, genes] = shape[..] else {
                let reason = format!("its shape is {shape:?}, not cells × genes");
                return Err(file.wrong(path, reason));
            };
            let array = |name: &str| -> Result<Box<dyn Numbers>, CellsError> {
                let path = format!("{path}/{name}");
                let array = file.array(&path)?;
                if array.shape().len() != 1 {
                    let reason = format!("its shape is {:?}, not of one size", array.shape());
                    return Err(file.wrong(&path, reason));
                }
                Ok(Box::new(array))
            };
            let arrays = Arrays {
                data: array("data")?,
                indices: array("indices")?,
                indptr: array("indptr")?,
            };
            let layout = match &*encoding {
                "csr_matrix" | "csr" => Layout::ByCell(arrays),
                "csc_matrix" | "csc" => Layout::ByGene(arrays),
                _ => {
                    let reason = format!("its encoding is `{encoding}`, which is not read");
                    return Err(file.wrong(path, reason));
                }
            };
            Ok((layout, cells, genes))
        }
    }
}

/// Opens a file.
pub(super) fn open(file: H5, choice: &Choice) -> Result<Box<dyn CellSource>, CellsError> {
    let (path, frame) = match (&choice.layer, choice.raw) {
        (Some(layer), false) => (format!("layers/{layer}"), "var"),
        (None, true) => ("raw/X".into(), "raw/var"),
        (None, false) => ("X".into(), "var"),
        (Some(_), true) => {
            let reason = "a layer and `raw` are two matrices: choose one";
            return Err(CellsError::file(file.name(), reason));
        }
    };
    let names = index(&file, "obs")?;
    let (layout, cells, width) = layout(&file, &path)?;
    let genes = match &choice.genes {
        Some(path) => names::genes_by_hand(path)?,
        None => genes(&file, frame)?,
    };
    if genes.len() as u64 != width {
        let reason = format!(
            "it has {width} columns, and there are {} genes",
            genes.len()
        );
        return Err(file.wrong(&path, reason));
    }
    if names.shape() != [cells] {
        let reason = format!("it has {cells} rows, and `obs` has {} cells", names.len());
        return Err(file.wrong(&path, reason));
    }
    let matrix = Matrix::new(file.name(), genes, cells, Some(Box::new(names)), layout)?;
    let labels = move |name: &str, cells| column(&file, "obs", name, cells)?.map(all).transpose();
    Ok(Box::new(Stored { matrix, labels }))
}
