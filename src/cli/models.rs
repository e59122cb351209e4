//! `models`: what is built in.

use super::error::CliError;
use super::output::say;
use crate::annotate::builtin::BuiltIn;
use crate::annotate::kind;
use crate::kernels::Isa;
use crate::model::file::ModelFile;
use crate::model::manifest::{Manifest, Reproducible, Tier};

pub(super) fn run() -> Result<(), CliError> {
    say!("instruction set {} (of {})\n", Isa::selected(), available());
    for model in BuiltIn::all() {
        let file = model.file()?;
        let manifest = file.manifest();
        head(&file, &model.to_string())?;
        if manifest.cascade.is_none() {
            cost(manifest)?;
        } else {
            for tier in [Tier::Fast, Tier::Accurate] {
                say!("  --tier {}", tier.name());
                cost(model.model(tier)?.manifest())?;
            }
            say!("  --tier auto: fast everywhere, accurate around what survives it");
        }
        foot(&file)?;
    }
    #[cfg(feature = "cells")]
    cells()?;
    Ok(())
}

/// Models that read cells.
#[cfg(feature = "cells")]
fn cells() -> Result<(), CliError> {
    for kind in crate::cells::model::Kind::BUILT_IN {
        let model = kind.builtin()?;
        let (file, manifest) = (model.model().file(), model.model().manifest());
        head(file, kind.task())?;
        say!(
            "  {} kMAC {}; {} genes, at most {} tokens",
            manifest.macs() as f64 / 1000.0,
            manifest.macs_unit(),
            model.tokens().known(),
            manifest.tile,
        );
        let outputs = &manifest.outputs;
        match &outputs[..] {
            outputs if outputs.len() > MOST_NAMED => say!("  {} outputs", outputs.len()),
            outputs => {
                let names: Vec<&str> = outputs.iter().map(|own| &*own.name).collect();
                say!("  outputs: {}", names.join(", "));
            }
        }
        foot(file)?;
    }
    Ok(())
}

/// Outputs that are named; an embedding has more.
#[cfg(feature = "cells")]
const MOST_NAMED: usize = 20;

/// What a model is.
fn head(file: &ModelFile, task: &str) -> Result<(), CliError> {
    let manifest = file.manifest();
    let reproducible = manifest.reproducible;
    let reproducible = reproducible.map_or("not declared", Reproducible::name);
    say!("{} {} ({task})", manifest.name, manifest.version);
    say!("  {}", manifest.description);
    say!(
        "  {} bytes, {}, reproducible: {reproducible}",
        file.len(),
        manifest.precision
    );
    Ok(())
}

/// How good it is, and which one.
fn foot(file: &ModelFile) -> Result<(), CliError> {
    let manifest = file.manifest();
    for (name, value) in &manifest.figures {
        say!("  {name} = {value}");
    }
    say!(
        "  licence {}; BLAKE3 {}\n",
        manifest.licence,
        file.content_hash()
    );
    Ok(())
}

/// What a model costs, sees and gives.
fn cost(manifest: &Manifest) -> Result<(), CliError> {
    say!(
        "  {} kMAC {}, context {} + {} nt",
        manifest.macs() as f64 / 1000.0,
        manifest.macs_unit(),
        manifest.context.left,
        manifest.context.right,
    );
    for output in &manifest.outputs {
        let threshold = match kind(output) {
            Ok(Some(kind)) if kind.is_probability() => format!("; threshold {}", output.threshold),
            _ => String::new(),
        };
        say!("  {}: {}{threshold}", output.name, output.meaning);
    }
    Ok(())
}

fn available() -> String {
    let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    names.join(", ")
}
