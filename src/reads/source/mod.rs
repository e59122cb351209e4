//! Where bytes come from: a file or standard input, plain or gzip, known by its content.
//!
//! A [`Stream`] yields uncompressed bytes and knows how far it has come in the compressed ones, so
//! that a tail that was cut off is an error with a position and never looks like the end of the
//! file.

mod gzip;

pub(crate) use gzip::block_size;
use gzip::{Compressed, Gunzip, is_bgzf};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes held of an input before they are decompressed.
const RAW_BUFFER: usize = 64 * 1024;

/// One thing to read.
pub enum Input {
    /// A file, a named pipe or a device.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Anything else that yields bytes, with the name to call it by in messages.
    Reader(String, Box<dyn Read + Send>),
}

impl Input {
    /// What stands on a command line: `-` is standard input, everything else a path.
    pub fn from_argument(argument: impl Into<PathBuf>) -> Input {
        let path = argument.into();
        if path.as_os_str() == "-" {
            Input::Stdin
        } else {
            Input::Path(path)
        }
    }

    /// The name in messages: the path as given, or `standard input`.
    pub fn name(&self) -> String {
        match self {
            Input::Path(path) => path.display().to_string(),
            Input::Stdin => "standard input".into(),
            Input::Reader(name, _) => name.clone(),
        }
    }

    /// Opens it, without looking at a byte yet.
    ///
    /// # Errors
    /// [`InputError::Missing`], [`InputError::Folder`], or [`InputError::Io`] where the system
    /// refuses.
    pub fn open(self) -> Result<Box<dyn Read + Send>, InputError> {
        match self {
            Input::Reader(_, reader) => Ok(reader),
            Input::Stdin => Ok(Box::new(io::stdin())),
            Input::Path(path) => {
                let file: Arc<str> = path.display().to_string().into();
                let failed = |source: io::Error| match source.kind() {
                    io::ErrorKind::NotFound => InputError::Missing { file: file.clone() },
                    _ => InputError::Io {
                        file: file.clone(),
                        offset: 0,
                        source,
                    },
                };
                let opened = File::open(&path).map_err(failed)?;
                if opened.metadata().map_err(failed)?.is_dir() {
                    return Err(InputError::Folder { file });
                }
                Ok(Box::new(opened))
            }
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({})", self.name())
    }
}

/// What ends an input before its end. Everything that was readable before it has been handed out
/// when it comes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// There is no such file.
    #[error("{file}: no such file")]
    Missing {
        /// The input.
        file: Arc<str>,
    },
    /// A pipe or a device where a file was meant.
    #[error("{file}: is no file, and only a file can be read from its middle")]
    NoFile {
        /// The input.
        file: Arc<str>,
    },
    /// A search from the middle of the file took something for a record that is none.
    #[error(
        "{file}: no record begins where the next shard does, at byte {offset}: from its middle, \
         something in this file looks like a record that is none; share it by numbers of records \
         (--records)"
    )]
    NoRecord {
        /// The input.
        file: Arc<str>,
        /// The byte of the file where the next shard begins, or its block does.
        offset: u64,
    },
    /// A folder where a file was meant.
    #[error("{file}: is a folder, not a file")]
    Folder {
        /// The input.
        file: Arc<str>,
    },
    /// Neither FASTA nor FASTQ.
    #[error("{file}: not a FASTA, FASTQ or BAM file: {found} at byte {offset}")]
    NotSequences {
        /// The input.
        file: Arc<str>,
        /// Where the first byte that is not blank lies in the uncompressed stream.
        offset: u64,
        /// What it looks like.
        found: String,
    },
    /// Something else where a BAM file is needed.
    #[error("{file}: not a BAM file: only BAM records can be passed through to BAM")]
    NotBam {
        /// The input.
        file: Arc<str>,
    },
    /// A gzip file without its end.
    #[error("{file}: gzip data cut off at byte {offset} of the compressed file")]
    TruncatedGzip {
        /// The input.
        file: Arc<str>,
        /// Compressed bytes read.
        offset: u64,
    },
    /// BGZF without the block that marks its end.
    #[error(
        "{file}: no end block behind byte {offset} of the compressed file: it may have been cut \
         off between two blocks"
    )]
    NoEndBlock {
        /// The input.
        file: Arc<str>,
        /// Compressed bytes read.
        offset: u64,
    },
    /// A gzip file with damage in it.
    #[error("{file}: bad gzip data before byte {offset} of the compressed file: {source}")]
    CorruptGzip {
        /// The input.
        file: Arc<str>,
        /// Compressed bytes read; the damage lies before or at it.
        offset: u64,
        /// The reason of the decoder.
        source: io::Error,
    },
    /// A last record without its end.
    #[error("{file}: cut off: the last record, {number} ({name}) at byte {offset}, has no end")]
    CutOff {
        /// The input.
        file: Arc<str>,
        /// The record's number in the input, from 1.
        number: u64,
        /// Its name, shortened.
        name: String,
        /// Where the record begins in the uncompressed stream.
        offset: u64,
    },
    /// Not one record was good.
    #[error("{file}: none of its {records} records was accepted")]
    AllRejected {
        /// The input.
        file: Arc<str>,
        /// Those that were rejected or passed over.
        records: u64,
    },
    /// The system could not open or read it.
    #[error("{file}: cannot read on at byte {offset}: {source}")]
    Io {
        /// The input.
        file: Arc<str>,
        /// Bytes read before, as they lie in the input.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
}

impl InputError {
    /// The input.
    pub fn file(&self) -> &str {
        use InputError::*;
        match self {
            Missing { file }
            | NoFile { file }
            | Folder { file }
            | NotBam { file }
            | NoRecord { file, .. }
            | NotSequences { file, .. }
            | TruncatedGzip { file, .. }
            | NoEndBlock { file, .. }
            | CorruptGzip { file, .. }
            | CutOff { file, .. }
            | AllRejected { file, .. }
            | Io { file, .. } => file,
        }
    }

    /// The record that it interrupted, from 1, where that is known.
    pub fn record(&self) -> Option<u64> {
        match self {
            InputError::CutOff { number, .. } => Some(*number),
            _ => None,
        }
    }

    /// The byte where it lies, where that is known: of the uncompressed stream, but for gzip's own
    /// errors and the system's.
    pub fn byte(&self) -> Option<u64> {
        use InputError::*;
        match self {
            NoRecord { offset, .. }
            | NotSequences { offset, .. }
            | TruncatedGzip { offset, .. }
            | NoEndBlock { offset, .. }
            | CorruptGzip { offset, .. }
            | CutOff { offset, .. }
            | Io { offset, .. } => Some(*offset),
            Missing { .. } | NoFile { .. } | Folder { .. } | NotBam { .. } | AllRejected { .. } => {
                None
            }
        }
    }

    /// True for what is no error in a compressed file that may still grow.
    pub(crate) fn may_grow(&self) -> bool {
        matches!(
            self,
            InputError::TruncatedGzip { .. } | InputError::NoEndBlock { .. }
        )
    }
}

/// How a file's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    /// Gzip that can only be read from its beginning.
    Gzip,
    /// Gzip in blocks, each of which can be read by itself.
    Bgzf,
}

/// How a file is packed, by its first bytes.
///
/// # Errors
/// As [`Input::open`].
pub(crate) fn packing(path: &Path) -> Result<Packing, InputError> {
    let input = Input::Path(path.to_owned());
    let file: Arc<str> = input.name().into();
    let stream = Stream::new(file, input.open()?)?;
    Ok(match &stream.bytes {
        Bytes::Plain(_) => Packing::Plain,
        Bytes::Gzip(gz) if is_bgzf(gz.get_ref().buffered()) => Packing::Bgzf,
        Bytes::Gzip(_) => Packing::Gzip,
    })
}

/// Uncompressed bytes of one input.
pub struct Stream {
    file: Arc<str>,
    bytes: Bytes,
}

enum Bytes {
    Plain(Compressed),
    Gzip(Box<Gunzip>),
}

impl Stream {
    /// Looks at the first bytes of `reader` and decides whether they are gzip. `file` names it in
    /// errors.
    ///
    /// # Errors
    /// [`InputError::Io`] where those bytes cannot be read.
    pub fn new(file: Arc<str>, reader: Box<dyn Read + Send>) -> Result<Stream, InputError> {
        Stream::behind(file, reader, 0)
    }

    /// The same of an input whose first `before` bytes are left out.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub(crate) fn behind(
        file: Arc<str>,
        reader: Box<dyn Read + Send>,
        before: u64,
    ) -> Result<Stream, InputError> {
        let mut raw = Compressed::new(reader, RAW_BUFFER, before);
        let head = match raw.head() {
            Ok(head) => head,
            Err(source) => {
                let offset = raw.position();
                return Err(InputError::Io {
                    file,
                    offset,
                    source,
                });
            }
        };
        let bytes = if head.starts_with(&[0x1f, 0x8b]) {
            Bytes::Gzip(Box::new(Gunzip::new(raw)))
        } else {
            Bytes::Plain(raw)
        };
        Ok(Stream { file, bytes })
    }

    /// True for gzip.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.bytes, Bytes::Gzip(_))
    }

    /// Watches for the gzip member that begins at byte `at` of the input.
    pub(crate) fn watch(&mut self, at: u64) {
        if let Bytes::Gzip(gz) = &mut self.bytes {
            gz.watch(at);
        }
    }

    /// Uncompressed bytes before the member that is watched for, once it has begun.
    pub(crate) fn before_watched(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Plain(_) => None,
            Bytes::Gzip(gz) => gz.before_watched(),
        }
    }

    /// The input's name.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Fills the front of `out` and returns how much; 0 is the true end.
    ///
    /// # Errors
    /// [`InputError::TruncatedGzip`], [`InputError::NoEndBlock`], [`InputError::CorruptGzip`],
    /// [`InputError::Io`].
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, InputError> {
        loop {
            let result = match &mut self.bytes {
                Bytes::Plain(raw) => raw.read(out),
                Bytes::Gzip(gz) => gz.read(out),
            };
            match result {
                Ok(0) => {
                    return match &self.bytes {
                        Bytes::Gzip(gz) if gz.lacks_end_block() => Err(InputError::NoEndBlock {
                            file: self.file.clone(),
                            offset: gz.get_ref().position(),
                        }),
                        _ => Ok(0),
                    };
                }
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, source: io::Error) -> InputError {
        let file = self.file.clone();
        let raw = match &self.bytes {
            Bytes::Plain(raw) => raw,
            Bytes::Gzip(gz) => gz.get_ref(),
        };
        let offset = raw.position();
        match &self.bytes {
            // The decoder wraps nothing, so an error that did not come from below is its own
            // verdict on the data.
            Bytes::Gzip(_) if !raw.failed() => match source.kind() {
                io::ErrorKind::UnexpectedEof => InputError::TruncatedGzip { file, offset },
                _ => InputError::CorruptGzip {
                    file,
                    offset,
                    source,
                },
            },
            _ => InputError::Io {
                file,
                offset,
                source,
            },
        }
    }
}
