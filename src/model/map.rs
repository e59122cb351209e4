//! Bytes of a model: a mapped file or aligned static memory, and typed views into them.
//!
//! Views are slices of the bytes themselves; nothing is copied. The bytes stay where they are for
//! as long as any [`Region`] lives, because each holds an `Arc` of the whole.
#![allow(unsafe_code)]

use super::error::ModelError;
use half::f16;
use memmap2::{Mmap, MmapMut};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Tensors start at multiples of this many bytes, in the file and in memory.
pub const ALIGNMENT: usize = 64;

#[cfg(target_endian = "big")]
compile_error!("model files are little-endian and are used in place");

/// Static bytes at a multiple of 64, for models that are built in.
#[repr(C, align(64))]
pub struct Aligned<const LEN: usize>(pub [u8; LEN]);

enum Source {
    Mapped(Mmap),
    Static(&'static [u8]),
}

/// The bytes of one model.
pub struct Bytes(Source);

impl Bytes {
    /// Maps a file, read-only.
    ///
    /// A file that is shortened while it is mapped faults at the next access; no check can prevent
    /// that, so model files must be replaced by renaming a new one over the old, never written in
    /// place.
    pub fn map(path: &Path) -> Result<Arc<Bytes>, ModelError> {
        let io = |source| ModelError::Io {
            file: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(std::io::Error::other("is a folder, not a model file")));
        }
        if metadata.len() == 0 {
            return Err(io(std::io::Error::other("is empty")));
        }
        // SAFETY: the map is read-only and private to this type. Its bytes can change only if the
        // file is written in place or truncated meanwhile, which the documentation of this function
        // and of models/README.md excludes.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Arc::new(Bytes(Source::Mapped(map))))
    }

    /// Uses static memory, such as a model that is compiled in.
    ///
    /// # Panics
    /// Where it does not start at a multiple of [`ALIGNMENT`].
    pub fn from_static(bytes: &'static [u8]) -> Arc<Bytes> {
        assert!((bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        Arc::new(Bytes(Source::Static(bytes)))
    }

    /// Copies bytes into fresh aligned memory.
    pub fn copy_of(bytes: &[u8]) -> std::io::Result<Arc<Bytes>> {
        let mut map = MmapMut::map_anon(bytes.len().max(1))?;
        map[..bytes.len()].copy_from_slice(bytes);
        let map = map.make_read_only()?;
        Ok(Arc::new(Bytes(Source::Mapped(map))))
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Source::Mapped(map) => map,
            Source::Static(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.0 {
            Source::Mapped(_) => "mapped",
            Source::Static(_) => "static",
        };
        write!(f, "{} {kind} bytes", self.as_slice().len())
    }
}

/// A part of a model's bytes that stays valid on its own: what an operator holds of its weights.
#[derive(Clone, Debug)]
pub struct Region {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Region {
    /// The bytes in `range`, or `None` where they do not exist.
    pub fn new(bytes: &Arc<Bytes>, range: Range<usize>) -> Option<Region> {
        bytes.as_slice().get(range.clone())?;
        Some(Region {
            bytes: bytes.clone(),
            range,
        })
    }

    /// As bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.as_slice()[self.range.clone()]
    }

    /// As signed bytes.
    pub fn i8(&self) -> &[i8] {
        bytemuck::cast_slice(self.bytes())
    }

    /// As f32, where address and length allow it.
    pub fn f32(&self) -> Option<&[f32]> {
        bytemuck::try_cast_slice(self.bytes()).ok()
    }

    /// As fp16, where address and length allow it.
    pub fn f16(&self) -> Option<&[f16]> {
        bytemuck::try_cast_slice(self.bytes()).ok()
    }
}

/// The same place in the same memory.
impl PartialEq for Region {
    fn eq(&self, other: &Region) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) && self.range == other.range
    }
}

impl Eq for Region {}
