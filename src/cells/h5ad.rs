//! Answers beside the cells that they are of: columns of `obs` and arrays of `obsm`, added to an
//! `.h5ad`, in the encodings of anndata 0.8 and later.

use super::error::CellsError;
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
/// Which columns it has, in their order.
const ORDER: &str = "column-order";

/// Whether answers can be added to a file.
///
/// # Errors
/// Where it is no AnnData file, or its `obs` is not written as groups.
pub fn check(path: &Path) -> Result<(), CellsError> {
    let file = H5::open(path)?;
    if file.text(OBS, "encoding-type")?.as_deref() != Some("dataframe") {
        let reason = "it is no table of anndata 0.7 or later: nothing can be added to it";
        return Err(file.wrong(OBS, reason));
    }
    Ok(())
}

/// Adds answers to a file, in place: to a copy, if the file is somebody's. What else it holds stays
/// as it is. Of files whose format is older than HDF5 1.10, as most are, a copy lies in memory.
///
/// # Errors
/// Where [`check`] fails, or the file cannot be changed.
pub fn add(path: &Path, answers: &Answers) -> Result<(), CellsError> {
    check(path)?;
    let name = path.display().to_string();
    guarded(&name, OBS, || {
        // Whoever writes the file has locked it.
        let properties = FileAccessProperties::new().with_locking(FileLocking::Disabled);
        let file = File::open_rw_with_options(path, properties)?;
        let obs = file.group(OBS)?;
        let mut order = match obs.attrs()?.remove(ORDER) {
            Some(
                AttrValue::VarLenStringArray(names)
                | AttrValue::VarLenAsciiStringArray(names)
                | AttrValue::StringArray(names)
                | AttrValue::AsciiStringArray(names),
            ) => names,
            // A table without columns has an empty list of numbers.
            _ => vec![],
        };
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
        if !answers.vectors.is_empty() && !file.root().groups()?.iter().any(|own| own == OBSM) {
            file.root().create_group_with(OBSM, |group| {
                group.set_attr("encoding-type", text("dict"));
                group.set_attr("encoding-version", text("0.1.0"));
            })?;
            file.commit()?;
        }
        for (array, width, values) in &answers.vectors {
            let group = file.group(OBSM)?;
            replace(&group, array)?;
            let width = *width as u64;
            let cells = values.len() as u64 / width.max(1);
            group.create_dataset(array, |data| {
                data.with_f32_data(values).with_shape(&[cells, width]);
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

/// Removes what has this name.
fn replace(group: &Group, name: &str) -> Result<(), hdf5_pure::Error> {
    let (groups, arrays) = (group.groups()?, group.datasets()?);
    if groups.iter().chain(&arrays).any(|own| own == name) {
        group.delete(name)?;
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
            let codes: Vec<i32> = of.iter().map(|own| own.map_or(-1, i32::from)).collect();
            array(&format!("{name}/codes"), "array", &|data| {
                data.with_i32_data(&codes);
            })?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            array(&format!("{name}/categories"), "string-array", &|data| {
                data.with_vlen_strings(&names);
            })
        }
    }
}
