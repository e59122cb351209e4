//! Files that are new or have changed.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

/// Files under a folder that may hold reads.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Size and time of change when a file was last seen.
    seen: HashMap<PathBuf, (u64, SystemTime)>,
    /// What is called like a file and is none.
    refused: BTreeSet<PathBuf>,
}

impl Folder {
    /// Nothing seen yet.
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder {
            path,
            seen: HashMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is called like a file of reads and is none: pipes and devices.
    pub(super) fn refused(&self) -> &BTreeSet<PathBuf> {
        &self.refused
    }

    /// Files that are new or have changed, in order of name; nested folders too. A file that cannot
    /// be looked at is logged and looked at again.
    ///
    /// # Errors
    /// Where the folder itself cannot be read.
    pub(super) fn changed(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![];
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if folder == self.path => return Err(error),
                // It may have gone since.
                Err(error) => {
                    log::debug!("{}: {error}", folder.display());
                    continue;
                }
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(about) = fs::metadata(&path) else {
                    continue;
                };
                if about.is_dir() {
                    folders.push(path);
                } else if may_hold_reads(&path) && !about.is_file() {
                    if self.refused.insert(path.clone()) {
                        log::error!("{}: is no file, and cannot be followed", path.display());
                    }
                } else if may_hold_reads(&path) {
                    let state = (
                        about.len(),
                        about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    );
                    if self.seen.insert(path.clone(), state) != Some(state) {
                        found.push(path);
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The files of a folder that may hold reads, as far as it can be read.
pub fn reads_of(folder: &Path) -> Vec<PathBuf> {
    Folder::new(folder.to_owned()).changed().unwrap_or_default()
}

/// True for names that end in `.fastq`, `.fq` or `.bam`, and one in `.gz` or `.bgz` behind it. What
/// a basecaller calls otherwise while it grows has its name when it is complete.
pub fn may_hold_reads(path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return false;
    };
    let name = name.to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".bgz"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(&name);
    [".fastq", ".fq", ".bam"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_what_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("pass/barcode01");
        fs::create_dir_all(&nested).unwrap();
        let file = nested.join("x.fastq.gz");
        fs::write(&file, b"1").unwrap();
        for other in [
            "summary.txt",
            "x.fastq.md5",
            "x.bam.bai",
            "x.fastq.gz.part",
            "fastq",
        ] {
            fs::write(folder.path().join(other), b"1").unwrap();
        }
        let mut watched = Folder::new(folder.path().to_owned());
        assert_eq!(watched.changed().unwrap(), std::slice::from_ref(&file));
        assert!(watched.changed().unwrap().is_empty());
        fs::write(&file, b"22").unwrap();
        assert_eq!(watched.changed().unwrap(), [file]);
        assert!(Folder::new("nowhere".into()).changed().is_err());
    }
}
