//! `pack`: from a float network to a model file.

use super::arguments::packed::PackArguments;
use super::check;
use super::error::CliError;
use super::output::say;
use super::sequences::samples;
use crate::annotate::Task;
use crate::compile::pack;
use crate::model::manifest::{Manifest, Tokeniser};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

pub(super) fn run(arguments: &PackArguments) -> Result<(), CliError> {
    let read = [&arguments.onnx, &arguments.manifest].into_iter();
    let read = read.chain(&arguments.calibrate).map(PathBuf::as_path);
    check::files(read, [&*arguments.output])?;
    let path = &arguments.manifest;
    let text = fs::read_to_string(path).map_err(CliError::io(path))?;
    let mut manifest = Manifest::from_toml(&text)
        .and_then(|manifest| Task::of(&manifest).map(|_| manifest))
        .map_err(|reason| CliError::Input(format!("{}: {reason}", path.display())))?;
    manifest.precision = arguments.precision;
    let mut all = vec![];
    for path in &arguments.calibrate {
        all.extend(samples(path, manifest.tokeniser == Tokeniser::Ids)?);
    }
    let packed = pack::pack(&arguments.onnx, &manifest, &all)?;
    let written = packed.model.manifest();
    if arguments.require_bits && written.reproducible.is_none() {
        let reason = if packed.plain.is_empty() {
            format!("precision {}", written.precision)
        } else {
            format!("not lowered: {}", packed.plain.join(", "))
        };
        return Err(CliError::Input(format!(
            "scores cannot be reproducible to the bit: {reason}"
        )));
    }
    // Written beside the target and renamed: a model file that is mapped must never change in
    // place.
    let target = &arguments.output;
    let failed = CliError::io(target);
    let mut name = target.clone().into_os_string();
    name.push(".partial");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&name)?;
        file.write_all(&packed.bytes)?;
        file.sync_all()?;
        fs::rename(&name, target)
    };
    write().map_err(failed)?;
    say!("{}: {} bytes", target.display(), packed.bytes.len());
    for plain in &packed.plain {
        say!("not lowered, stays in float: {plain}");
    }
    Ok(())
}
