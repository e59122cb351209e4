//! `pack` and `verify`: from a float network to a model file, and how the two compare.

use super::records::each_record;
use super::sequences::samples;
use super::{CliError, PackArguments, VerifyArguments};
use crate::annotate::Task;
use crate::compile::pack;
use crate::lab::verify::{Comparison, compare};
use crate::model::Model;
use crate::model::file::ModelFile;
use crate::model::manifest::{Manifest, Tokeniser};
use std::fs;
use std::io::Write;

pub(super) fn pack(arguments: &PackArguments) -> Result<(), CliError> {
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
        let reason = match packed.plain.is_empty() {
            true => format!("precision {}", written.precision),
            false => format!("not lowered: {}", packed.plain.join(", ")),
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

pub(super) fn verify(arguments: &VerifyArguments) -> Result<(), CliError> {
    let file = ModelFile::open(&arguments.file)?;
    file.check_payload()?;
    say!(
        "{}: header and tensors agree with their hashes",
        arguments.file.display()
    );
    let Some(onnx) = &arguments.against else {
        return Ok(());
    };
    if arguments.reads.is_empty() {
        return Err(CliError::Usage(
            "--against needs READS to compare on".to_string(),
        ));
    }
    let mut samples = vec![];
    for path in &arguments.reads {
        each_record(path, |_, _, codes| {
            samples.push(codes.to_vec());
            Ok(())
        })?;
    }
    let Comparison { columns, bases } = compare(Model::build(file)?, onnx, &samples)?;
    say!("compared on {bases} positions with {}", onnx.display());
    say!("output        largest    mean       cosine     calls      of them changed");
    for c in columns {
        say!(
            "{:12}  {:<9.5}  {:<9.6}  {:<9.6}  {:<9}  {}",
            c.name,
            c.largest,
            c.mean,
            c.cosine,
            c.calls,
            c.changed
        );
    }
    Ok(())
}
