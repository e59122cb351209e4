//! Lines on standard error, and the one of a report that names what its figures come from.

use crate::kernels::Isa;
use std::fmt::Display;
use std::io::{self, Write};

/// Models by name and version, and the instruction set.
pub(super) fn models_in_use<'a>(models: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let names: Vec<String> = models
        .map(|(name, version)| format!("{name}/{version}"))
        .collect();
    format!("models   {} on {}", names.join(", "), Isa::selected())
}

/// Prints a line to standard error. One that is full or closed costs the line, not the run.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
