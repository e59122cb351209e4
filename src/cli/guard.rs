//! A user's files: nothing that is written may be one that is read, or written twice.

use super::error::CliError;
use super::output::part_of;
use std::fs;
use std::path::{Path, PathBuf};

/// What the shell may have redirected; there is no such name on other systems.
const STANDARD_INPUT: &str = "/dev/stdin";
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// What a command reads and writes.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: Vec<PathBuf>,
    written: Vec<Written>,
    /// Outputs that are standard output.
    standard: usize,
    /// A folder, and which of its files are read.
    followed: Option<Followed>,
}

#[derive(Debug)]
struct Written {
    path: PathBuf,
    /// It is begun under another name.
    begun: Option<PathBuf>,
}

#[derive(Debug)]
struct Followed {
    folder: PathBuf,
    is_read: fn(&Path) -> bool,
}

impl Files {
    /// Files that are read; what names none does no harm.
    pub(super) fn read<'a>(mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Files {
        self.read.extend(paths.into_iter().cloned());
        self
    }

    /// Files that are written, and get their names when they are complete.
    pub(super) fn write<'a>(mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Files {
        for path in paths {
            if path.as_os_str() == "-" {
                self.standard += 1;
                continue;
            }
            self.written.push(Written {
                path: path.clone(),
                begun: Some(part_of(path)),
            });
        }
        self
    }

    /// Files that are written in place.
    pub(super) fn append<'a>(mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Files {
        self.written.extend(paths.into_iter().map(|path| Written {
            path: path.clone(),
            begun: None,
        }));
        self
    }

    /// A folder whose files are read that `is_read` says, those that come later too.
    pub(super) fn follow(mut self, folder: Option<&PathBuf>, is_read: fn(&Path) -> bool) -> Files {
        self.followed = folder.map(|folder| Followed {
            folder: folder.clone(),
            is_read,
        });
        self
    }

    /// Those of a folder that `is_written` may be written again.
    pub(super) fn write_into(mut self, folder: &Path, is_written: fn(&str) -> bool) -> Files {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_written) {
                self = self.append([&entry.path()]);
            }
        }
        self
    }

    /// Leaves a folder alone that holds such files already: nobody named them, and they may be all
    /// that there is of a run.
    ///
    /// # Errors
    /// Wrong usage, where it holds one.
    pub(super) fn keep(folder: &Path, is_written: fn(&str) -> bool) -> Result<(), CliError> {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_written) {
                let message = format!(
                    "{}: is there already, and would be overwritten: name a folder without it",
                    entry.path().display()
                );
                return Err(CliError::Usage(message));
            }
        }
        Ok(())
    }

    /// # Errors
    /// Wrong usage, where a file that is written is read too, or written twice, or would be
    /// followed: by its identity, so that no link hides it.
    pub(super) fn check(&self) -> Result<(), CliError> {
        let standard = self.read.iter().filter(|path| path.as_os_str() == "-");
        if standard.count() > 1 {
            return Err(CliError::usage("standard input can be read once only"));
        }
        if self.standard > 1 {
            let message = "standard output: two outputs go there, and would be mixed";
            return Err(CliError::usage(message));
        }
        let read: Vec<Identity> = self.read.iter().filter_map(|path| existing(path)).collect();
        if existing(Path::new(STANDARD_OUTPUT)).is_some_and(|own| read.contains(&own)) {
            let message = "standard output: its file is read, and cannot be written as well";
            return Err(CliError::usage(message));
        }
        let mut written: Vec<Identity> = vec![];
        for file in &self.written {
            let refuse = |reason: &str| {
                let message = format!("{}: {reason}", file.path.display());
                Err(CliError::Usage(message))
            };
            // What is no file can be written twice, and has no name to wait for.
            if fs::metadata(&file.path).is_ok_and(|about| !about.is_file()) {
                continue;
            }
            for path in [Some(&file.path), file.begun.as_ref()]
                .into_iter()
                .flatten()
            {
                let Some(own) = identity(path) else {
                    continue;
                };
                if read.contains(&own) {
                    return refuse("is read, and cannot be written at the same time");
                }
                if written.contains(&own) {
                    return refuse("is written twice");
                }
                written.push(own);
            }
            if self.is_followed(&file.path) {
                return refuse("lies in the followed folder, where it would be read");
            }
        }
        Ok(())
    }

    fn is_followed(&self, path: &Path) -> bool {
        let Some(Followed { folder, is_read }) = &self.followed else {
            return false;
        };
        let Ok(folder) = fs::canonicalize(folder) else {
            return false;
        };
        placed(path).is_some_and(|path| path.starts_with(folder) && is_read(&path))
    }
}

/// What makes two names name one file.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// A file that is there.
    #[cfg(unix)]
    Inode(u64, u64),
    /// Its place.
    Path(PathBuf),
}

/// The identity of a file that is there; `-` is what standard input was redirected from. Devices
/// and pipes have none: they can be read and written at the same time.
fn existing(path: &Path) -> Option<Identity> {
    let path = match path.to_str() {
        Some("-") => Path::new(STANDARD_INPUT),
        _ => path,
    };
    let about = fs::metadata(path).ok()?;
    if !about.is_file() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some(Identity::Inode(about.dev(), about.ino()))
    }
    #[cfg(not(unix))]
    {
        fs::canonicalize(path).ok().map(Identity::Path)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    if fs::metadata(path).is_ok() {
        return existing(path);
    }
    placed(path).map(Identity::Path)
}

/// Where a file lies, or would lie.
fn placed(path: &Path) -> Option<PathBuf> {
    if let Ok(path) = fs::canonicalize(path) {
        return Some(path);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::follow::may_hold_reads;

    fn refused(files: &Files) -> String {
        match files.check() {
            Err(CliError::Usage(message)) => message,
            other => panic!("{files:?}: {other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_not_written_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in.fq"), "@a").unwrap();
        fs::hard_link(at("in.fq"), at("hard")).unwrap();
        let mut names = vec![at("in.fq"), at("hard"), folder.path().join("./in.fq")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("in.fq"), at("soft")).unwrap();
            names.push(at("soft"));
        }
        for name in names {
            let files = Files::default().read([&at("in.fq")]).write([&name]);
            assert!(refused(&files).contains("is read"), "{}", name.display());
            let files = Files::default().read([&name]).append([&at("in.fq")]);
            assert!(refused(&files).contains("is read"), "{}", name.display());
        }
        // What an output is called until it is complete.
        fs::write(at("out.part"), "@a").unwrap();
        let files = Files::default().read([&at("out.part")]).write([&at("out")]);
        assert!(refused(&files).contains("is read"));
        let free = Files::default().read([&at("in.fq"), &"-".into()]);
        assert!(free.write([&at("new"), &"-".into()]).check().is_ok());
    }

    #[test]
    fn nothing_is_written_twice_or_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let twice = Files::default().write([&at("x"), &folder.path().join("./x")]);
        assert!(refused(&twice).contains("written twice"));
        let mixed = Files::default().write([&"-".into(), &"-".into()]);
        assert!(refused(&mixed).contains("mixed"));
        let followed = folder.path().to_owned();
        let follow = || Files::default().follow(Some(&followed), may_hold_reads);
        assert!(refused(&follow().append([&at("calls.fastq")])).contains("followed folder"));
        assert!(follow().append([&at("calls.tsv")]).check().is_ok());
        fs::write(at("index.tsv"), "").unwrap();
        let into = Files::default().read([&at("index.tsv")]);
        let into = into.write_into(&followed, |name| name == "index.tsv");
        assert!(refused(&into).contains("is read"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_no_files() {
        let null: PathBuf = "/dev/null".into();
        let files = Files::default().read([&null]).write([&null]);
        assert!(files.check().is_ok());
        let twice = Files::default().write([&null, &null]);
        assert!(twice.check().is_ok());
    }
}
