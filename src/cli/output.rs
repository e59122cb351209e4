//! Where output goes: standard output, or a file that gets its name when it is complete.

use super::error::CliError;
use crate::sink::bgzf::BgzfWriter;
use std::fs::{self, File, OpenOptions, TryLockError};
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

    /// Opens it for bytes as they are.
    pub(super) fn open(&self) -> Result<Writer, CliError> {
        self.open_as(false)
    }

    /// Opens it for text, which is written as BGZF where the file's name ends in `.gz`.
    pub(super) fn open_text(&self) -> Result<Writer, CliError> {
        self.open_as(self.path().is_some_and(is_gz))
    }

    fn open_as(&self, bgzip: bool) -> Result<Writer, CliError> {
        let (target, part): (Box<dyn Write>, _) = match self {
            Target::Standard => (Box::new(io::stdout().lock()), None),
            Target::File(path) => {
                let (file, part) = create(path).map_err(CliError::io(path))?;
                (Box::new(file), part)
            }
        };
        let stream = if bgzip {
            Stream::Bgzip(Box::new(BgzfWriter::new(target)))
        } else {
            Stream::Plain(target)
        };
        Ok(Writer {
            stream: Some(BufWriter::with_capacity(1 << 16, stream)),
            part,
            failed: false,
        })
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

/// True where a name says that the file is compressed.
pub(super) fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

/// The file that is written until an output is complete.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A file on its way to its name.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
    name: PathBuf,
}

/// Opens what an output is written to. What is no file, such as a pipe or a device, has no name to
/// wait for.
fn create(path: &Path) -> io::Result<(File, Option<Part>)> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(about) if !about.is_file() => {
            return Ok((OpenOptions::new().write(true).open(path)?, None));
        }
        _ => (),
    }
    // Behind a link, the file that it names is replaced, not the link.
    let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let part = part_of(&name);
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&part);
    let file = open.map_err(|error| named(&part, error))?;
    match file.try_lock() {
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => (),
        Err(TryLockError::WouldBlock) => {
            let message = format!("{} is being written by another run", part.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
    }
    file.set_len(0).map_err(|error| named(&part, error))?;
    let own = file.try_clone()?;
    let part = Part {
        file,
        path: part,
        name,
    };
    Ok((own, Some(part)))
}

/// An error about another file than the one that the user named.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// How an output ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The file gets its name.
    Complete,
    /// What there is stays in the file with `.part` behind its name.
    Incomplete,
    /// Nothing is worth keeping.
    Nothing,
}

enum Stream {
    Plain(Box<dyn Write>),
    Bgzip(Box<BgzfWriter<Box<dyn Write>>>),
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(writer) => writer.write(bytes),
            Stream::Bgzip(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(writer) => writer.flush(),
            Stream::Bgzip(writer) => writer.flush(),
        }
    }
}

/// What output is written to. A file that is dropped before [`Writer::end`] leaves nothing, unless
/// it could not be written to its end: what was written of a live run comes from nowhere else.
pub(super) struct Writer {
    /// There until its end.
    stream: Option<BufWriter<Stream>>,
    part: Option<Part>,
    /// Something could not be written.
    failed: bool,
}

impl Writer {
    /// Where its bytes lie until its end, if that is a file.
    #[cfg(any(feature = "cells", feature = "fleet"))]
    pub(super) fn path(&self) -> Option<&Path> {
        self.part.as_ref().map(|part| &*part.path)
    }

    /// Writes what is left, and gives the file its name if it is complete.
    pub(super) fn end(mut self, end: End) -> io::Result<()> {
        let flushed = match self.stream.take() {
            Some(mut stream) => match stream.flush() {
                Ok(()) => stream.into_inner().map_err(io::Error::from),
                Err(error) => {
                    // Not again when it is dropped.
                    let _ = stream.into_parts();
                    Err(error)
                }
            },
            None => return Ok(()),
        };
        let flushed = flushed.and_then(|stream| match stream {
            Stream::Plain(mut writer) => writer.flush(),
            Stream::Bgzip(writer) => writer.finish(end == End::Complete).map(drop),
        });
        let Some(part) = self.part.take() else {
            return flushed;
        };
        match end {
            End::Complete => {
                let placed = flushed.and_then(|()| {
                    part.file.sync_data()?;
                    fs::rename(&part.path, &part.name)
                });
                if placed.is_err() {
                    part.say_incomplete();
                }
                placed
            }
            End::Incomplete => {
                part.say_incomplete();
                flushed
            }
            End::Nothing => part.remove(),
        }
    }
}

impl Part {
    fn say_incomplete(&self) {
        let (name, path) = (self.name.display(), self.path.display());
        log::warn!(
            "{name}: not complete; what there is lies in {path}: the next run begins it anew, so \
             move it if you need it"
        );
    }

    fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            // What is buffered must not be written behind the file's end.
            if let Some(stream) = self.stream.take() {
                let _ = stream.into_parts();
            }
            let holds = part.file.metadata().is_ok_and(|about| about.len() > 0);
            if self.failed && holds {
                part.say_incomplete();
            } else {
                let _ = part.remove();
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.stream {
            Some(stream) => stream.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.stream {
            Some(stream) => stream.flush(),
            None => Ok(()),
        };
        self.failed |= flushed.is_err();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(folder: &tempfile::TempDir, name: &str) -> (Target, PathBuf, PathBuf) {
        let path = folder.path().join(name);
        (Target::File(path.clone()), part_of(&path), path)
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let (out, part, path) = target(&folder, "calls.tsv");
        fs::write(&path, "earlier").unwrap();
        for (end, kept, left) in [
            (None, "earlier", None),
            (Some(End::Nothing), "earlier", None),
            (Some(End::Incomplete), "earlier", Some("new")),
            (Some(End::Complete), "new", None),
        ] {
            let mut writer = out.open_text().unwrap();
            writer.write_all(b"new").unwrap();
            match end {
                Some(end) => writer.end(end).unwrap(),
                None => drop(writer),
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), kept, "{end:?}");
            let found = fs::read_to_string(&part).ok();
            assert_eq!(found.as_deref(), left, "{end:?}");
        }
    }

    #[test]
    fn what_another_run_writes_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (out, _, path) = target(&folder, "calls.tsv");
        let mut first = out.open().unwrap();
        let Err(error) = out.open() else {
            panic!("two runs write one file");
        };
        assert!(error.to_string().contains("another run"), "{error}");
        first.write_all(b"first").unwrap();
        first.end(End::Complete).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_goes_on_naming_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (out, _, link) = target(&folder, "link");
        let file = folder.path().join("file");
        fs::write(&file, "earlier").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut writer = out.open().unwrap();
        writer.write_all(b"new").unwrap();
        writer.end(End::Complete).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let mut writer = Target::File("/dev/null".into()).open().unwrap();
        writer.write_all(b"new").unwrap();
        writer.end(End::Complete).unwrap();
    }

    #[test]
    fn a_name_in_gz_is_bgzip_for_text() {
        let folder = tempfile::tempdir().unwrap();
        let (out, part, path) = target(&folder, "calls.bed.gz");
        let mut writer = out.open_text().unwrap();
        writer.write_all(b"chr1\t1\t2\n").unwrap();
        writer.flush().unwrap();
        let growing = fs::read(&part).unwrap();
        writer.end(End::Complete).unwrap();
        let whole = fs::read(&path).unwrap();
        assert!(whole.starts_with(&growing) && growing.starts_with(&[0x1f, 0x8b]));
        assert_eq!(whole.len() - growing.len(), 28, "the end block");
    }
}
