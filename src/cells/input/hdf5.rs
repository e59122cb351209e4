//! HDF5 files: arrays in windows, texts and attributes, through the crate `hdf5-pure`.
//!
//! Only what is asked for is read. Should the crate panic on a broken file, that is an error that
//! names the file.

use super::array::{Element, Numbers, Words};
use crate::cells::error::CellsError;
use hdf5_pure::{AttrValue, Dataset, Datatype, DatatypeByteOrder, File, Layout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

/// Bytes of an array that are read at once, where a row has no more.
const WINDOW: u64 = 4 << 20;

/// Largest chunk, and largest row, in bytes.
const LARGEST: u64 = 64 << 20;

/// Texts that are read at once.
const TEXTS: u64 = 1 << 12;

/// Filters that are undone: deflate (gzip), shuffle, the Fletcher checksum, LZF.
const FILTERS: [u16; 4] = [1, 2, 3, 32000];

/// Names of others, as the HDF Group registers them.
const OTHER_FILTERS: [(u16, &str); 11] = [
    (4, "szip"),
    (5, "nbit"),
    (6, "scaleoffset"),
    (307, "bzip2"),
    (32001, "blosc"),
    (32004, "lz4"),
    (32008, "bitshuffle"),
    (32013, "zfp"),
    (32015, "zstd"),
    (32017, "sz"),
    (32026, "blosc2"),
];

/// Runs what calls the crate.
pub(in crate::cells) fn guarded<T, E: ToString>(
    file: &str,
    part: &str,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, CellsError> {
    let result = catch_unwind(AssertUnwindSafe(run));
    let result = result.map_err(|_| "the HDF5 reader gave up on it: the file is damaged");
    match result {
        Ok(result) => result.map_err(|error| CellsError::part(file, part, error)),
        Err(reason) => Err(CellsError::part(file, part, reason)),
    }
}

/// What stands at a path of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cells) enum Object {
    Group,
    Array,
}

/// An open file.
#[derive(Clone)]
pub(in crate::cells) struct H5 {
    name: Rc<str>,
    file: Rc<File>,
}

impl H5 {
    /// Opens a file.
    pub(in crate::cells) fn open(path: &Path) -> Result<H5, CellsError> {
        let name = path.display().to_string();
        let file = guarded(&name, "/", || File::open_streaming(path))?;
        Ok(H5 {
            name: name.into(),
            file: Rc::new(file),
        })
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An error that names file and object.
    pub(in crate::cells) fn wrong(&self, part: &str, reason: impl ToString) -> CellsError {
        CellsError::part(&self.name, part, reason)
    }

    /// Groups and arrays of a group.
    pub(super) fn members(&self, group: &str) -> Result<Vec<(String, Object)>, CellsError> {
        guarded(&self.name, group, || {
            let group = match group {
                "" => self.file.root(),
                path => self.file.group(path)?,
            };
            let groups = group
                .groups()?
                .into_iter()
                .map(|name| (name, Object::Group));
            let arrays = group
                .datasets()?
                .into_iter()
                .map(|name| (name, Object::Array));
            Ok::<_, hdf5_pure::Error>(groups.chain(arrays).collect())
        })
    }

    /// What stands at a path, if anything does.
    pub(in crate::cells) fn find(&self, path: &str) -> Result<Option<Object>, CellsError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !parent.is_empty() && self.find(parent)? != Some(Object::Group) {
            return Ok(None);
        }
        let members = self.members(parent)?;
        Ok(members
            .into_iter()
            .find(|member| member.0 == name)
            .map(|member| member.1))
    }

    /// An attribute of an object, if it has it.
    fn attribute(&self, path: &str, name: &str) -> Result<Option<AttrValue>, CellsError> {
        let object = self.find(path)?;
        guarded(&self.name, path, || {
            let mut attributes = match object {
                Some(Object::Array) => self.file.dataset(path)?.attrs()?,
                _ => self.file.group(path)?.attrs()?,
            };
            Ok::<_, hdf5_pure::Error>(attributes.remove(name))
        })
    }

    /// An attribute that is a list of texts, if the object has it and it is not empty.
    pub(in crate::cells) fn texts(
        &self,
        path: &str,
        name: &str,
    ) -> Result<Option<Vec<String>>, CellsError> {
        match self.attribute(path, name)? {
            Some(
                AttrValue::VarLenStringArray(all)
                | AttrValue::VarLenAsciiStringArray(all)
                | AttrValue::StringArray(all)
                | AttrValue::AsciiStringArray(all),
            ) => Ok(Some(all)),
            // An empty list has numbers.
            Some(AttrValue::F64Array(all)) if all.is_empty() => Ok(None),
            None => Ok(None),
            Some(_) => {
                let reason = format!("its attribute `{name}` is no list of texts");
                Err(self.wrong(path, reason))
            }
        }
    }

    /// An attribute that is a text.
    pub(in crate::cells) fn text(
        &self,
        path: &str,
        name: &str,
    ) -> Result<Option<String>, CellsError> {
        let text = match self.attribute(path, name)? {
            None => return Ok(None),
            Some(
                AttrValue::String(text)
                | AttrValue::AsciiString(text)
                | AttrValue::VarLenString(text)
                | AttrValue::VarLenAsciiString(text)
                | AttrValue::StringSized { value: text, .. }
                | AttrValue::AsciiStringSized { value: text, .. },
            ) => text,
            Some(_) => {
                return Err(self.wrong(path, format!("its attribute `{name}` is not a text")));
            }
        };
        Ok(Some(text))
    }

    /// An attribute that is some numbers.
    pub(super) fn sizes(&self, path: &str, name: &str) -> Result<Option<Vec<u64>>, CellsError> {
        let wholes: Option<Vec<u64>> = match self.attribute(path, name)? {
            None => return Ok(None),
            Some(AttrValue::I64Array(all)) => all
                .iter()
                .map(|&number| u64::try_from(number).ok())
                .collect(),
            Some(AttrValue::I32Array(all)) => all
                .iter()
                .map(|&number| u64::try_from(number).ok())
                .collect(),
            Some(AttrValue::U64Array(all)) => Some(all),
            Some(AttrValue::U32Array(all)) => Some(all.into_iter().map(u64::from).collect()),
            Some(_) => None,
        };
        let wholes = wholes.ok_or_else(|| {
            self.wrong(
                path,
                format!("its attribute `{name}` is not of whole numbers"),
            )
        })?;
        Ok(Some(wholes))
    }

    /// Opens an array.
    pub(super) fn array(&self, path: &str) -> Result<Array, CellsError> {
        let wrong = |reason: String| self.wrong(path, reason);
        let (data, shape, kind, layout) = guarded(&self.name, path, || {
            let data = self.file.dataset(path)?;
            let (shape, kind, layout) = (data.shape()?, data.datatype()?, data.layout()?);
            Ok::<_, hdf5_pure::Error>((data, shape, kind, layout))
        })?;
        for id in guarded(&self.name, path, || Ok::<_, String>(data.filters()))? {
            if !FILTERS.contains(&id) {
                let name = OTHER_FILTERS.iter().find(|filter| filter.0 == id);
                let name = name.map_or("unknown", |filter| filter.1);
                return Err(wrong(format!(
                    "its filter is {name} ({id}), where gzip, LZF and shuffle are read: write it \
                     again with `compression=\"gzip\"`"
                )));
            }
        }
        let chunk = match layout {
            Layout::Chunked { chunk_shape, .. } => chunk_shape,
            Layout::Virtual => {
                return Err(wrong("it lies in other files, which is not read".into()));
            }
            _ => vec![],
        };
        let kind = Kind::new(&kind).map_err(wrong)?;
        let len = shape
            .iter()
            .try_fold(1u64, |all, &size| all.checked_mul(size));
        let len = len.ok_or_else(|| wrong(format!("its shape {shape:?} is too large")))?;
        // No filter packs more than deflate, which makes at most 1,032 bytes of one.
        let held = self.file.file_size().saturating_mul(1032);
        if len.saturating_mul(kind.size() as u64) > held {
            return Err(wrong(format!(
                "its shape {shape:?} is more than the file can hold"
            )));
        }
        // The crate makes room for what the index says of a chunk before it reads it. Indices of
        // version 2 cannot be listed.
        let chunks = if chunk.is_empty() {
            Ok(vec![])
        } else {
            data.chunks()
        };
        let end = self.file.file_size();
        let beyond = chunks.unwrap_or_default().into_iter().find(|chunk| {
            chunk
                .address
                .checked_add(chunk.storage_size)
                .is_none_or(|to| to > end)
        });
        if let Some(chunk) = beyond {
            let at = chunk.address;
            return Err(wrong(format!(
                "its chunk at byte {at} reaches beyond the file"
            )));
        }
        // A scalar is one row.
        let rows = shape.first().copied().unwrap_or(1);
        let width = len.checked_div(rows).unwrap_or(0);
        let size = kind.size() as u64;
        let bytes = chunk
            .iter()
            .try_fold(size, |all, &size| all.checked_mul(size));
        if bytes.is_none_or(|bytes| bytes > LARGEST) || width.saturating_mul(size) > LARGEST {
            return Err(wrong(format!(
                "its chunks {chunk:?} or rows of {width} need more than {LARGEST} bytes"
            )));
        }
        let fit = (WINDOW / (width * size).max(1)).max(1);
        // Whole chunks, so that none is unpacked twice, unless they are too tall.
        let tall = chunk.first().copied().unwrap_or(1).max(1);
        let window = if tall.saturating_mul(width * size) <= LARGEST {
            (fit / tall).max(1) * tall
        } else {
            fit
        };
        Ok(Array {
            file: self.name.clone(),
            part: path.into(),
            data,
            kind,
            shape,
            len,
            window: window * width,
            rows: window,
            at: 0,
            bytes: vec![],
            texts: vec![],
        })
    }
}

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number(Element),
    /// What h5py makes of NumPy's flags: an enumeration.
    Bool,
    /// A text, fixed or of variable length; the size in the array itself.
    Text(usize),
}

impl Kind {
    fn new(kind: &Datatype) -> Result<Kind, String> {
        let little = |order: &DatatypeByteOrder| match order {
            DatatypeByteOrder::LittleEndian => Ok(()),
            _ => Err("its numbers are big-endian, where little-endian is read".to_string()),
        };
        match kind {
            Datatype::FixedPoint {
                size: size @ 1..=8,
                byte_order,
                layout,
            } => {
                if *size > 1 {
                    little(byte_order)?;
                }
                let size = *size as usize;
                if layout.signed {
                    Ok(Kind::Number(Element::Signed(size)))
                } else {
                    Ok(Kind::Number(Element::Unsigned(size)))
                }
            }
            Datatype::FloatingPoint {
                size: size @ (2 | 4 | 8),
                byte_order,
                ..
            } => {
                little(byte_order)?;
                Ok(Kind::Number(Element::Float(*size as usize)))
            }
            Datatype::String { size, .. } => Ok(Kind::Text(*size as usize)),
            Datatype::VariableLength {
                is_string: true, ..
            } => Ok(Kind::Text(16)),
            Datatype::Enumeration {
                size: 1, members, ..
            } if members.len() == 2 => Ok(Kind::Bool),
            Datatype::Compound { .. } => Err(
                "it is a table of records, as anndata before 0.7 wrote it: write it again \
                     with a newer one"
                    .into(),
            ),
            _ => Err(format!("its elements are {kind:?}, which is not read")),
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Bool => 1,
            Kind::Number(element) => element.size(),
            Kind::Text(size) => size.max(1),
        }
    }
}

/// An array, read from front to back.
pub(super) struct Array {
    file: Rc<str>,
    part: String,
    data: Dataset,
    kind: Kind,
    shape: Vec<u64>,
    len: u64,
    /// Elements, and rows, that are read at once.
    window: u64,
    rows: u64,
    /// The next element, counted from 0.
    at: u64,
    /// The window that it lies in, or behind whose end it lies.
    bytes: Vec<u8>,
    texts: Vec<String>,
}

impl Array {
    /// Its sizes.
    pub(super) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// True where its elements are texts.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_))
    }

    fn element(&self) -> Result<Element, CellsError> {
        match self.kind {
            Kind::Number(element) => Ok(element),
            Kind::Bool => Ok(Element::Unsigned(1)),
            Kind::Text(_) => Err(self.wrong("it has texts, where numbers are needed".into())),
        }
    }

    /// Hands up to `count` elements, as bytes, to `give`, and returns how many.
    fn piece(
        &mut self,
        count: usize,
        give: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<usize, CellsError> {
        if count as u64 > self.len - self.at {
            let (at, len) = (self.at, self.len);
            return Err(self.wrong(format!("{count} elements behind {at}, where it has {len}")));
        }
        let (size, inside) = (self.kind.size(), self.at % self.window);
        if inside == 0 {
            let first = self.at / self.window * self.rows;
            let window = self.window.min(self.len - self.at);
            let read = || self.data.read_raw_rows(first, self.rows);
            let bytes = guarded(&self.file, &self.part, read)?;
            if bytes.len() as u64 != window * size as u64 {
                return Err(self.wrong(format!("{} bytes for {window} elements", bytes.len())));
            }
            self.bytes = bytes;
        }
        let from = inside as usize * size;
        let to = (from + count * size).min(self.bytes.len());
        give(&self.bytes[from..to]).map_err(|reason| self.wrong(reason))?;
        let given = (to - from) / size;
        self.at += given as u64;
        Ok(given)
    }

    /// An element as text, numbers as Python shows them.
    pub(super) fn next_shown(&mut self) -> Result<String, CellsError> {
        let mut text = String::new();
        match self.kind {
            Kind::Text(_) => return Words::next(self),
            Kind::Number(element) => self.piece(1, |bytes| {
                text = element.shown(bytes);
                Ok(())
            })?,
            Kind::Bool => self.piece(1, |bytes| {
                text = if bytes == [0] { "False" } else { "True" }.into();
                Ok(())
            })?,
        };
        Ok(text)
    }

    /// A whole number, of which -1 is none.
    pub(super) fn next_code(&mut self) -> Result<Option<u64>, CellsError> {
        let element = self.element()?;
        let mut code = None;
        self.piece(1, |bytes| {
            if matches!(element, Element::Signed(_)) && bytes.iter().all(|&byte| byte == 0xff) {
                return Ok(());
            }
            let mut wholes = vec![];
            element.wholes(bytes, &mut wholes)?;
            code = wholes.pop();
            Ok(())
        })?;
        Ok(code)
    }
}

impl Numbers for Array {
    fn len(&self) -> u64 {
        self.len
    }

    fn wrong(&self, reason: String) -> CellsError {
        CellsError::part(&self.file, &self.part, reason)
    }

    fn reals(&mut self, count: usize, out: &mut Vec<f32>) -> Result<(), CellsError> {
        let (element, mut left) = (self.element()?, count);
        while left > 0 {
            left -= self.piece(left, |bytes| {
                element.reals(bytes, out);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn wholes(&mut self, count: usize, out: &mut Vec<u64>) -> Result<(), CellsError> {
        let (element, mut left) = (self.element()?, count);
        while left > 0 {
            left -= self.piece(left, |bytes| element.wholes(bytes, out))?;
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), CellsError> {
        self.at = 0;
        Ok(())
    }
}

impl Words for Array {
    fn len(&self) -> u64 {
        self.len
    }

    fn next(&mut self) -> Result<String, CellsError> {
        if !self.is_text() || self.shape.len() != 1 {
            return Err(self.wrong("it is not a list of texts".into()));
        }
        if self.texts.is_empty() {
            let read = || self.data.read_string_rows(self.at, TEXTS);
            self.texts = guarded(&self.file, &self.part, read)?;
            if self.texts.len() as u64 != TEXTS.min(self.len - self.at) {
                let (at, count) = (self.at, self.texts.len());
                return Err(self.wrong(format!("{count} texts from text {at} on")));
            }
            self.texts.reverse();
        }
        self.at += 1;
        let text = self.texts.pop();
        text.ok_or_else(|| self.wrong(format!("it has no more than {} texts", self.len)))
    }
}
