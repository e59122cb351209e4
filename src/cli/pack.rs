//! `pack`: from a float network to a model file.

use super::arguments::packed::PackArguments;
use super::budget;
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target, say};
use super::sequences::samples;
use crate::annotate::Task;
use crate::compile::check::Check;
use crate::compile::pack::pack_watched;
use crate::compile::{external_data, manifest_of};
use crate::model::manifest::{Manifest, Tokeniser};
use std::fs;
use std::io::Write;

pub(super) fn run(arguments: &PackArguments) -> Result<(), CliError> {
    Files::default()
        .read([&arguments.onnx])
        .read(&arguments.manifest)
        .read(&arguments.calibrate)
        .write(&arguments.output)
        .check()?;
    budget::within(&arguments.budget, &arguments.onnx, |progress| {
        if arguments.print_manifest {
            say!("{}", manifest_of(&arguments.onnx)?.trim_end());
            return Ok(());
        }
        pack(arguments, progress)
    })
}

fn pack(arguments: &PackArguments, progress: &dyn Fn()) -> Result<(), CliError> {
    let (text, source) = match &arguments.manifest {
        Some(path) => (fs::read_to_string(path).map_err(CliError::io(path))?, path),
        None => (manifest_of(&arguments.onnx)?, &arguments.onnx),
    };
    let mut manifest = Manifest::from_toml(&text)
        .and_then(|manifest| Task::of(&manifest).map(|_| manifest))
        .map_err(|reason| CliError::Input(format!("{}: {reason}", source.display())))?;
    manifest.precision = arguments.precision;
    let mut all = vec![];
    for path in &arguments.calibrate {
        all.extend(samples(path, manifest.tokeniser == Tokeniser::Ids)?);
    }
    // From here on the network is read: its time begins.
    progress();
    Files::default()
        .read(&external_data(&arguments.onnx)?)
        .write(&arguments.output)
        .check()?;
    let checked = match arguments.allow_difference {
        Some(least) => Check::Cosine(least),
        None if arguments.no_check => Check::Skip,
        None => Check::Precision,
    };
    let packed = pack_watched(&arguments.onnx, &manifest, &all, checked, progress)?;
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
    // Renamed when it is whole: a model file that is mapped must never change in place.
    let target = Target::new(arguments.output.clone());
    let mut out = target.open()?;
    let wrote = out.write_all(&packed.bytes);
    let wrote = wrote.and_then(|()| out.end(End::Complete));
    wrote.map_err(|source| target.failed(source))?;
    if target.path().is_some() {
        say!("{target}: {} bytes", packed.bytes.len());
        for note in &packed.notes {
            say!("{note}");
        }
        if let Some(agreement) = &packed.agreement {
            say!("{agreement}");
        }
        for plain in &packed.plain {
            say!("not lowered, stays in float: {plain}");
        }
    }
    Ok(())
}
