//! Answers in a copy of the `.h5ad` that they are of.

use crate::cells::h5ad::{Answers, add, check};
use crate::cli::error::CliError;
use crate::cli::output::{End, Target, Writer};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::Path;

/// What columns and arrays are called: behind this.
pub(super) const PREFIX: &str = "strandline_";

/// A copy that waits for answers.
pub(super) struct Copy<'a> {
    input: &'a Path,
    target: Target,
    out: Writer,
    /// The input when it was copied.
    about: Metadata,
}

impl<'a> Copy<'a> {
    /// Copies the input, where the output is to be such a copy, and tries whether answers can be
    /// added, before anything is scored: with some for so many cells, whose names will be used
    /// again.
    ///
    /// # Errors
    /// Where they cannot be.
    pub(super) fn new(
        input: &'a Path,
        output: &Path,
        tried: impl Fn(usize) -> Answers,
    ) -> Result<Option<Copy<'a>>, CliError> {
        let ending = output.extension();
        if ending.is_none_or(|ending| !ending.eq_ignore_ascii_case("h5ad")) {
            return Ok(None);
        }
        let name = output.display();
        if fs::metadata(output).is_ok_and(|about| !about.is_file()) {
            let reason = format!("{name}: an .h5ad is written to a file only");
            return Err(CliError::Usage(reason));
        }
        let cells = check(input).map_err(|error| {
            let reason = format!("{name}: is for an input that is an .h5ad, too; {error}");
            CliError::Input(reason)
        })?;
        let target = Target::new(Some(output.to_path_buf()));
        let mut out = target.open()?;
        let mut file = File::open(input).map_err(CliError::io(input))?;
        let about = file.metadata().map_err(CliError::io(input))?;
        io::copy(&mut file, &mut out)
            .and_then(|_| out.flush())
            .map_err(|source| target.failed(source))?;
        let copy = Copy {
            input,
            target,
            out,
            about,
        };
        copy.add(&tried(cells as usize))?;
        Ok(Some(copy))
    }

    fn add(&self, answers: &Answers) -> Result<(), CliError> {
        let Some(path) = self.out.path() else {
            return Ok(());
        };
        add(path, answers).map_err(|error| {
            let (own, input) = (&self.target, self.input.display());
            // Nobody knows the file by the name that it has now.
            let reason = error
                .to_string()
                .replace(&path.display().to_string(), "the copy");
            CliError::Input(format!(
                "{own}: nothing can be added to a copy of {input}: write TSV or .npy, or write the \
                 input anew with anndata; {reason}"
            ))
        })
    }

    /// Adds the answers.
    ///
    /// # Errors
    /// Where the input is not what it was when it was copied, too.
    pub(super) fn end(self, answers: &Answers) -> Result<(), CliError> {
        let now = fs::metadata(self.input).map_err(CliError::io(self.input))?;
        if is_other(&self.about, &now) {
            let reason = format!("{}: has changed while it was read", self.input.display());
            return Err(CliError::Input(reason));
        }
        self.add(answers)?;
        let Copy { out, target, .. } = self;
        out.end(End::Complete)
            .map_err(|source| target.failed(source))
    }
}

/// Whether two looks saw two states of a file, or two files.
fn is_other(before: &Metadata, now: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if (before.dev(), before.ino()) != (now.dev(), now.ino()) {
            return true;
        }
    }
    before.len() != now.len() || before.modified().ok() != now.modified().ok()
}
