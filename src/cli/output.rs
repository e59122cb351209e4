//! Where output goes: standard output, or a file.

use super::error::CliError;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// `println!` that takes a closed pipe for an error of its own kind, not for a reason to panic.
macro_rules! say {
    ($($line:tt)*) => {
        crate::cli::output::print_line(format_args!($($line)*))?
    };
}
pub(super) use say;

/// Writes a line to standard output.
pub(super) fn print_line(line: std::fmt::Arguments<'_>) -> Result<(), CliError> {
    writeln!(io::stdout(), "{line}").map_err(|source| Target::Standard.failed(source))
}

/// What output is written to.
pub(super) type Writer = BufWriter<Box<dyn Write>>;

/// What stands behind `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Standard,
    File(PathBuf),
}

impl Target {
    /// `-` is standard output, and so is nothing.
    pub(super) fn new(output: Option<PathBuf>) -> Target {
        match output {
            Some(path) if path.as_os_str() != "-" => Target::File(path),
            _ => Target::Standard,
        }
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Target::Standard => None,
            Target::File(path) => Some(path),
        }
    }

    /// Opens it; a file is emptied.
    pub(super) fn open(&self) -> Result<Writer, CliError> {
        let target: Box<dyn Write> = match self {
            Target::Standard => Box::new(io::stdout().lock()),
            Target::File(path) => Box::new(File::create(path).map_err(CliError::io(path))?),
        };
        Ok(Target::buffered(target))
    }

    /// The buffer that all output goes through.
    pub(super) fn buffered(target: Box<dyn Write>) -> Writer {
        BufWriter::with_capacity(1 << 16, target)
    }

    /// An error of this output, under its name.
    pub(super) fn failed(&self, source: io::Error) -> CliError {
        CliError::Io {
            file: self.to_string(),
            source,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Standard => f.write_str("standard output"),
            Target::File(path) => path.display().fmt(f),
        }
    }
}
