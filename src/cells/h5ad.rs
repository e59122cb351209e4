//! Answers beside the cells that they are of: columns of `obs` and arrays of `obsm`, added to an
//! `.h5ad`, in the encodings of anndata 0.8 and later.

use super::error::CellsError;
use super::input::anndata::table;
use super::input::hdf5::{H5, guarded};
use hdf5_pure::{AttrValue, DatasetBuilder, File, FileAccessProperties, FileLocking, Group};
use std::path::Path;

/// A column of `obs`, one value a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Names, and which of them each cell has; none is a missing value.
    Categories {
        /// The names.
        names: Vec<String>,
        /// Indices of these.
        of: Vec<Option<u16>>,
    },
    /// Numbers; NaN is a missing value.
    Numbers(Vec<f32>),
    /// Whole numbers.
    Counts(Vec<u32>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Categories { of, .. } => of.len(),
            Column::Numbers(values) => values.len(),
            Column::Counts(values) => values.len(),
        }
    }
}

/// What is added to a file. Columns and arrays of these names are replaced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Names and values of columns of `obs`.
    pub columns: Vec<(String, Column)>,
    /// Names, widths and values, `[cells, width]`, of arrays of `obsm`.
    pub vectors: Vec<(String, usize, Vec<f32>)>,
}

/// The table of cells.
const OBS: &str = "obs";
const OBSM: &str = "obsm";
/// Where release 0.7 keeps the names of categories.
const CATEGORIES: &str = "__categories";
/// Which columns it has, in their order.
const ORDER: &str = "column-order";

/// A file as it is before answers are added.
struct Table {
    cells: u64,
    /// Columns of `obs`, in their order.
    order: Vec<String>,
    has_vectors: bool,
}

impl Table {
    /// Looks at a file, to which columns of these names are to be added.
    fn of<'a>(path: &Path, mut names: impl Iterator<Item = &'a str>) -> Result<Table, CellsError> {
        let file = H5::open(path)?;
        let (cells, index) = table(&file)?;
        if file.text(OBS, "encoding-type")?.as_deref() != Some("dataframe") {
            let reason = "it is no table of anndata 0.7 or later: nothing can be added to it";
            return Err(file.wrong(OBS, reason));
        }
        if names.any(|name| name == index) {
            let reason = format!("the names of its cells are called {index}, as a new column is");
            return Err(file.wrong(OBS, reason));
        }
        Ok(Table {
            cells,
            order: file.texts(OBS, ORDER)?.unwrap_or_default(),
            has_vectors: file.find(OBSM)?.is_some(),
        })
    }
}

/// How many cells a file has, if it is one that answers can be added to.
///
/// # Errors
/// Where it is no AnnData file, or its `obs` is not written as groups.
pub fn check(path: &Path) -> Result<u64, CellsError> {
    Ok(Table::of(path, [].into_iter())?.cells)
}

/// Adds answers to a file, in place: to a copy, if the file is somebody's. What else it holds stays
/// as it is. Of files whose format is older than HDF5 1.10, as most are, a copy lies in memory.
///
/// # Errors
/// Where [`check`] fails, an index has the name of a column, there is not one answer a cell, or the
/// file cannot be changed: not all that HDF5 can write can be.
pub fn add(path: &Path, answers: &Answers) -> Result<(), CellsError> {
    let name = path.display().to_string();
    let names = answers.columns.iter().map(|(name, _)| &**name);
    let Table {
        cells,
        mut order,
        has_vectors,
    } = Table::of(path, names)?;
    let columns = answers
        .columns
        .iter()
        .map(|(name, column)| (name, column.len()));
    let vectors = answers.vectors.iter();
    let vectors = vectors.map(|(name, width, all)| (name, all.len() / (*width).max(1)));
    for (column, count) in columns.chain(vectors) {
        if count as u64 != cells {
            let reason = format!("{count} answers for {cells} cells: it has changed");
            return Err(CellsError::part(&name, column, reason));
        }
    }
    guarded(&name, OBS, || {
        // Whoever writes the file has locked it.
        let properties = FileAccessProperties::new().with_locking(FileLocking::Disabled);
        let file = File::open_rw_with_options(path, properties)?;
        let obs = file.group(OBS)?;
        for (column, values) in &answers.columns {
            replace(&obs, column)?;
            write_column(&obs, column, values)?;
            if !order.contains(column) {
                order.push(column.clone());
            }
        }
        if !answers.columns.is_empty() {
            obs.set_attr(ORDER, AttrValue::VarLenStringArray(order))?;
        }
        if !answers.vectors.is_empty() && !has_vectors {
            file.root().create_group_with(OBSM, |group| {
                group.set_attr("encoding-type", text("dict"));
                group.set_attr("encoding-version", text("0.1.0"));
            })?;
            file.commit()?;
        }
        for (array, width, values) in &answers.vectors {
            let group = file.group(OBSM)?;
            replace(&group, array)?;
            group.create_dataset(array, |data| {
                data.with_f32_data(values)
                    .with_shape(&[cells, *width as u64]);
                for (mark, own) in marks("array") {
                    data.set_attr(mark, own);
                }
            })?;
        }
        file.commit()
    })
}

fn text(text: &str) -> AttrValue {
    AttrValue::VarLenString(text.to_string())
}

/// Removes what has this name, and the categories that release 0.7 keeps apart.
fn replace(group: &Group, name: &str) -> Result<(), hdf5_pure::Error> {
    let has = |group: &Group, name: &str| -> Result<bool, hdf5_pure::Error> {
        let (groups, arrays) = (group.groups()?, group.datasets()?);
        Ok(groups.iter().chain(&arrays).any(|own| own == name))
    };
    if has(group, name)? {
        group.delete(name)?;
    }
    if has(group, CATEGORIES)? && has(&group.group(CATEGORIES)?, name)? {
        group.delete(&format!("{CATEGORIES}/{name}"))?;
    }
    Ok(())
}

/// What a column is, for anndata.
fn marks(kind: &str) -> [(&'static str, AttrValue); 2] {
    [
        ("encoding-type", text(kind)),
        ("encoding-version", text("0.2.0")),
    ]
}

fn write_column(obs: &Group, name: &str, column: &Column) -> Result<(), hdf5_pure::Error> {
    let array = |path: &str, kind: &str, fill: &dyn Fn(&mut DatasetBuilder)| {
        let made = obs.create_dataset(path, |data| {
            fill(data);
            for (mark, own) in marks(kind) {
                data.set_attr(mark, own);
            }
        });
        made.map(drop)
    };
    match column {
        Column::Numbers(values) => array(name, "array", &|data| {
            data.with_f32_data(values);
        }),
        Column::Counts(values) => array(name, "array", &|data| {
            data.with_u32_data(values);
        }),
        Column::Categories { names, of } => {
            obs.create_group_with(name, |group| {
                for (mark, own) in marks("categorical") {
                    group.set_attr(mark, own);
                }
                group.set_attr("ordered", AttrValue::U8(0));
            })?;
            array(&format!("{name}/codes"), "array", &|data| {
                // The narrowest type, as pandas has it.
                if names.len() <= i8::MAX as usize {
                    let codes = of.iter().map(|own| own.map_or(-1, |own| own as i8));
                    data.with_i8_data(&codes.collect::<Vec<i8>>());
                } else {
                    let codes = of.iter().map(|own| own.map_or(-1, i32::from));
                    data.with_i32_data(&codes.collect::<Vec<i32>>());
                }
            })?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            array(&format!("{name}/categories"), "string-array", &|data| {
                data.with_vlen_strings(&names);
            })
        }
    }
}
