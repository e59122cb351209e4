//! The line of a report that names what its figures come from.

use crate::kernels::Isa;

/// Models by name and version, and the instruction set.
pub(super) fn models_in_use<'a>(models: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let names: Vec<String> = models
        .map(|(name, version)| format!("{name}/{version}"))
        .collect();
    format!("models   {} on {}", names.join(", "), Isa::selected())
}
