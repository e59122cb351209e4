//! The model file: safetensors, checked whole before any view is made.
//!
//! Eight bytes of header length (little-endian), a JSON header padded with blanks so that the
//! tensors start at a multiple of 64, then the tensors without gaps, each a multiple of 64 bytes
//! long. The header's `__metadata__` holds the format's version, the manifest, the BLAKE3 hash of
//! the tensors and that of the header itself (taken with 64 zeros in its own place).
//! `models/README.md` has the layout as a table.

use super::error::ModelError;
use super::manifest::Manifest;
use super::map::{ALIGNMENT, Bytes, Region};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;

/// The version of the layout that this code reads and writes.
pub const FORMAT_VERSION: &str = "2";

/// Files below this size have their tensors' hash checked on opening; larger ones when asked.
pub const HASH_AT_OPEN: usize = 16 << 20;

const KEY_VERSION: &str = "strandline.format";
const KEY_MANIFEST: &str = "strandline.manifest";
const KEY_PAYLOAD: &str = "strandline.payload_blake3";
const KEY_HEADER: &str = "strandline.header_blake3";

/// The name of the tensor that holds the graph as NNEF text, where operators of tract's own are
/// left in it.
pub const GRAPH: &str = "graph.nnef";

/// The name of the tensor that holds the graph as JSON, where it consists of our layers.
pub const GRAPH_JSON: &str = "graph.json";

/// The name of the tensor that holds the names of a vocabulary of genes, one a line.
pub const GENES: &str = "genes";

/// Prefix of the tensors that fill the file up to the next multiple of 64.
const PADDING: &str = "pad.";

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A tensor to be written.
pub struct TensorData {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes, row-major, little-endian.
    pub data: Vec<u8>,
}

/// An opened model file: manifest and tensors, not yet a graph.
#[derive(Debug)]
pub struct ModelFile {
    name: String,
    bytes: Arc<Bytes>,
    header: Metadata,
    data_start: usize,
    manifest: Manifest,
    payload_hash: String,
}

impl ModelFile {
    /// Maps and checks a file.
    pub fn open(path: &Path) -> Result<ModelFile, ModelError> {
        ModelFile::parse(Bytes::map(path)?, &path.display().to_string())
    }

    /// Checks bytes that are already in memory; `name` is what errors call them.
    pub fn parse(bytes: Arc<Bytes>, name: &str) -> Result<ModelFile, ModelError> {
        let all = bytes.as_slice();
        let broken = |offset: usize, expected: &str, found: String| ModelError::Format {
            file: name.to_string(),
            offset: offset as u64,
            expected: expected.to_string(),
            found,
        };
        // The lengths come first and by hand, so that each failure has its offset; the reader of
        // safetensors checks them again.
        let Some(length) = all.first_chunk::<8>() else {
            let found = format!("{} bytes in all", all.len());
            return Err(broken(0, "a safetensors header length of 8 bytes", found));
        };
        let header_end = usize::try_from(u64::from_le_bytes(*length))
            .ok()
            .and_then(|length| length.checked_add(8))
            .filter(|&end| end <= all.len());
        let Some(data_start) = header_end else {
            let found = u64::from_le_bytes(*length);
            let room = all.len() - 8;
            let expected = format!("a header length of at most {room}");
            return Err(broken(0, &expected, found.to_string()));
        };
        let (_, header) = SafeTensors::read_metadata(all)
            .map_err(|e| broken(8, "a valid safetensors header", e.to_string()))?;
        let expected_len = data_start + header.data_len();
        if expected_len != all.len() {
            let expected = format!("{expected_len} bytes in the file");
            return Err(broken(all.len(), &expected, all.len().to_string()));
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        let get = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                let expected = format!("the metadata key {key}");
                broken(8, &expected, "none (not a strandline model?)".to_string())
            })
        };
        let version = get(KEY_VERSION)?;
        if version != FORMAT_VERSION {
            let expected = format!("format version {FORMAT_VERSION}");
            return Err(broken(8, &expected, version.clone()));
        }
        let header_hash = get(KEY_HEADER)?;
        let actual = hash_header(&all[..data_start], header_hash);
        if actual.as_deref() != Some(header_hash) {
            let found = actual.unwrap_or_else(|| "no place for it".to_string());
            let expected = format!("a header of BLAKE3 {header_hash}");
            return Err(broken(8, &expected, found));
        }
        if !data_start.is_multiple_of(ALIGNMENT) {
            return Err(broken(
                0,
                "tensors at a multiple of 64",
                data_start.to_string(),
            ));
        }
        for (tensor, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            // A tensor of padding begins where the one before it ends.
            if !start.is_multiple_of(ALIGNMENT) && !tensor.starts_with(PADDING) {
                let expected = format!("tensor {tensor} at a multiple of 64");
                return Err(broken(data_start + start, &expected, start.to_string()));
            }
            if end < start || data_start + end > all.len() {
                let expected = format!("tensor {tensor} within the file");
                return Err(broken(
                    data_start + start,
                    &expected,
                    format!("{start}..{end}"),
                ));
            }
        }
        let manifest: Manifest = serde_json::from_str(get(KEY_MANIFEST)?)
            .map_err(|e| ModelError::manifest(name, e.to_string()))?;
        manifest
            .validate()
            .map_err(|reason| ModelError::manifest(name, reason))?;
        let file = ModelFile {
            name: name.to_string(),
            payload_hash: get(KEY_PAYLOAD)?.clone(),
            data_start,
            header,
            manifest,
            bytes: bytes.clone(),
        };
        if all.len() < HASH_AT_OPEN {
            file.check_payload()?;
        }
        Ok(file)
    }

    /// Compares the tensors with their hash; done on opening for files below [`HASH_AT_OPEN`].
    pub fn check_payload(&self) -> Result<(), ModelError> {
        let payload = &self.bytes.as_slice()[self.data_start..];
        let actual = blake3::hash(payload).to_hex();
        if actual.as_str() == self.payload_hash {
            return Ok(());
        }
        Err(ModelError::Format {
            file: self.name.clone(),
            offset: self.data_start as u64,
            expected: format!("tensors of BLAKE3 {}", self.payload_hash),
            found: actual.to_string(),
        })
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// BLAKE3 of the tensors, hexadecimal: the model's content hash.
    pub fn content_hash(&self) -> &str {
        &self.payload_hash
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// True for a file of no bytes, which [`ModelFile::parse`] never lets through.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name, type, shape and size in bytes of every tensor, in the order of the file.
    pub fn tensors(&self) -> Vec<(String, Dtype, Vec<usize>, usize)> {
        let mut all: Vec<_> = self.header.tensors().into_iter().collect();
        all.sort_by_key(|(_, info)| info.data_offsets.0);
        all.into_iter()
            .map(|(name, info)| {
                let size = info.data_offsets.1 - info.data_offsets.0;
                (name, info.dtype, info.shape.clone(), size)
            })
            .collect()
    }

    /// The bytes of a tensor of type `dtype`, in place.
    pub fn tensor(&self, tensor: &str, dtype: Dtype) -> Result<Region, ModelError> {
        let wrong = |found: String| ModelError::Tensor {
            file: self.name.clone(),
            tensor: tensor.to_string(),
            expected: format!("{dtype:?}"),
            found,
        };
        let info = self
            .header
            .info(tensor)
            .ok_or_else(|| wrong("none of that name".to_string()))?;
        if info.dtype != dtype {
            return Err(wrong(format!("{:?}", info.dtype)));
        }
        let (start, end) = info.data_offsets;
        Region::new(&self.bytes, self.data_start + start..self.data_start + end)
            .ok_or_else(|| wrong(format!("bytes {start}..{end} outside the file")))
    }

    /// The graph as NNEF text.
    ///
    /// # Errors
    /// Where there is none, or other bytes than UTF-8.
    pub fn graph(&self) -> Result<&str, ModelError> {
        let missing = || ModelError::Tensor {
            file: self.name.clone(),
            tensor: GRAPH.to_string(),
            expected: format!("U8, or {GRAPH_JSON}"),
            found: "none of that name and type".to_string(),
        };
        let (start, bytes) = self.bytes_of(GRAPH).ok_or_else(missing)?;
        std::str::from_utf8(bytes).map_err(|e| ModelError::Format {
            file: self.name.clone(),
            offset: (start + e.valid_up_to()) as u64,
            expected: "NNEF text in UTF-8".to_string(),
            found: "other bytes".to_string(),
        })
    }

    /// The graph as JSON, where the file has it.
    pub fn graph_json(&self) -> Option<&[u8]> {
        self.bytes_of(GRAPH_JSON).map(|(_, bytes)| bytes)
    }

    /// The vocabulary of a model that reads cells, from id 0 on; none of another.
    ///
    /// # Errors
    /// Where a model that reads cells has none, or other bytes than UTF-8.
    pub fn genes(&self) -> Result<Vec<&str>, ModelError> {
        if self.manifest.cells.is_none() {
            return Ok(vec![]);
        }
        let missing = || ModelError::Tensor {
            file: self.name.clone(),
            tensor: GENES.to_string(),
            expected: "U8".to_string(),
            found: "none of that name and type".to_string(),
        };
        let (start, bytes) = self.bytes_of(GENES).ok_or_else(missing)?;
        let text = std::str::from_utf8(bytes).map_err(|e| ModelError::Format {
            file: self.name.clone(),
            offset: (start + e.valid_up_to()) as u64,
            expected: "names of genes in UTF-8".to_string(),
            found: "other bytes".to_string(),
        })?;
        Ok(text.lines().collect())
    }

    /// A tensor of bytes, and where it begins in the file.
    fn bytes_of(&self, name: &str) -> Option<(usize, &[u8])> {
        let info = self.header.info(name).filter(|i| i.dtype == Dtype::U8)?;
        let (start, end) = info.data_offsets;
        let at = self.data_start + start..self.data_start + end;
        Some((at.start, self.bytes.as_slice().get(at)?))
    }
}

/// BLAKE3 of a header whose own hash is replaced by zeros; `None` where the hash does not stand in
/// it exactly once.
fn hash_header(header: &[u8], own: &str) -> Option<String> {
    if own.len() != ZEROS.len() {
        return None;
    }
    let mut found = header
        .windows(own.len())
        .enumerate()
        .filter(|(_, window)| *window == own.as_bytes());
    let (at, _) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..at]);
    hasher.update(ZEROS.as_bytes());
    hasher.update(&header[at + own.len()..]);
    Some(hasher.finalize().to_hex().to_string())
}

/// The bytes of a model file. Tensors keep their order; data that is no multiple of 64 bytes long
/// is followed by a tensor of zeros (`pad.N`), since safetensors allows no gaps.
pub fn serialize(manifest: &Manifest, tensors: Vec<TensorData>) -> Result<Vec<u8>, ModelError> {
    let mut payload = Vec::new();
    let mut entries = Map::new();
    for (number, tensor) in tensors.into_iter().enumerate() {
        let start = payload.len();
        payload.extend_from_slice(&tensor.data);
        let end = payload.len();
        let dtype = serde_json::to_value(tensor.dtype)
            .map_err(|e| ModelError::Pack(format!("tensor {}: {e}", tensor.name)))?;
        entries.insert(
            tensor.name,
            json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}),
        );
        let padding = end.next_multiple_of(ALIGNMENT) - end;
        if padding > 0 {
            payload.resize(end + padding, 0);
            entries.insert(
                format!("{PADDING}{number}"),
                json!({"dtype": "U8", "shape": [padding], "data_offsets": [end, end + padding]}),
            );
        }
    }
    let hash = blake3::hash(&payload).to_hex().to_string();
    let mut bytes = write_header(manifest, entries, &hash)?;
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// The same file with another manifest.
///
/// # Errors
/// As [`serialize`], and where this is no model file.
pub fn with_manifest(file: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ModelError> {
    let fault = || ModelError::Pack("no model file".to_string());
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(fault)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| fault())?;
    let (header, payload) = rest.split_at_checked(length).ok_or_else(fault)?;
    let mut entries: Map<String, Value> = serde_json::from_slice(header).map_err(|_| fault())?;
    let metadata = entries.remove("__metadata__").ok_or_else(fault)?;
    let hash = metadata[KEY_PAYLOAD].as_str().ok_or_else(fault)?;
    let mut bytes = write_header(manifest, entries, hash)?;
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// All that stands before the payload.
fn write_header(
    manifest: &Manifest,
    entries: Map<String, Value>,
    payload_hash: &str,
) -> Result<Vec<u8>, ModelError> {
    let manifest =
        serde_json::to_string(manifest).map_err(|e| ModelError::Pack(format!("manifest: {e}")))?;
    let mut header = Map::new();
    header.insert(
        "__metadata__".to_string(),
        json!({
            KEY_VERSION: FORMAT_VERSION,
            KEY_MANIFEST: manifest,
            KEY_PAYLOAD: payload_hash,
            KEY_HEADER: ZEROS,
        }),
    );
    header.extend(entries);
    let mut json = Value::Object(header).to_string().into_bytes();
    let end = (8 + json.len()).next_multiple_of(ALIGNMENT);
    json.resize(end - 8, b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&json);
    let hash = hash_header(&bytes, ZEROS)
        .ok_or_else(|| ModelError::Pack("64 zeros occur in the manifest".to_string()))?;
    if let Some(at) = bytes
        .windows(ZEROS.len())
        .position(|window| window == ZEROS.as_bytes())
    {
        bytes[at..at + ZEROS.len()].copy_from_slice(hash.as_bytes());
    }
    Ok(bytes)
}
