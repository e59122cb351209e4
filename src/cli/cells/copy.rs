//! Answers in a copy of the `.h5ad` that they are of.

use crate::cells::h5ad::{Answers, add, check};
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What columns and arrays are called: behind this.
pub(super) const PREFIX: &str = "strandline_";

/// Whether an output is to be such a copy.
///
/// # Errors
/// Where it is, and the input cannot be added to.
pub(super) fn is_copy(input: &Path, output: &Path) -> Result<bool, CliError> {
    if output.extension().is_none_or(|ending| ending != "h5ad") {
        return Ok(false);
    }
    let failed = |error| {
        let output = output.display();
        let reason = format!("{output}: is for an input that is an .h5ad, too; {error}");
        CliError::Input(reason)
    };
    check(input).map_err(failed)?;
    Ok(true)
}

/// Copies the input and adds to it.
pub(super) fn write(input: &Path, output: &Path, answers: &Answers) -> Result<(), CliError> {
    let target = Target::new(Some(output.to_path_buf()));
    let failed = |source| target.failed(source);
    let mut out = target.open()?;
    let mut file = File::open(input).map_err(CliError::io(input))?;
    io::copy(&mut file, &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    add(out.path().unwrap_or(output), answers)?;
    out.end(End::Complete).map_err(failed)
}
