//! `pack`: from a float network to a model file.

use super::arguments::packed::PackArguments;
use super::budget::{self, Clock};
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target, say};
use super::sequences::{Amount, samples};
use crate::annotate::Task;
use crate::compile::check::Check;
use crate::compile::pack::pack_watched;
use crate::compile::{external_data, manifest_of};
use crate::model::manifest::Manifest;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io::Write;
use std::time::Duration;

pub(super) fn run(arguments: &PackArguments, quiet: bool) -> Result<(), CliError> {
    Files::default()
        .read([&arguments.onnx])
        .read(&arguments.manifest)
        .read(&arguments.calibrate)
        .write(&arguments.output)
        .check()?;
    budget::within(&arguments.budget, &arguments.onnx, |clock| {
        if arguments.print_manifest {
            clock.step();
            say!("{}", manifest_of(&arguments.onnx)?.trim_end());
            return Ok(());
        }
        pack(arguments, quiet, clock)
    })
}

/// A bar on standard error, where that is a terminal.
fn bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1).with_message("reading");
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {pos}/{len} {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn pack(arguments: &PackArguments, quiet: bool, clock: &Clock) -> Result<(), CliError> {
    let (text, source) = match &arguments.manifest {
        Some(path) => (fs::read_to_string(path).map_err(CliError::io(path))?, path),
        None => {
            clock.step();
            (manifest_of(&arguments.onnx)?, &arguments.onnx)
        }
    };
    // Samples may come as slowly as they like.
    clock.stop();
    let mut vocabulary = None;
    let mut manifest = Manifest::from_toml(&text)
        .and_then(|manifest| Task::of(&manifest).map(|_| manifest))
        .map_err(|reason| CliError::Input(format!("{}: {reason}", source.display())))?;
    if let Some(cells) = &mut manifest.cells {
        let path = source.with_file_name(&cells.genes);
        let names = fs::read_to_string(&path).map_err(CliError::io(&path))?;
        // Some editors write a byte order mark.
        let names = names.trim_start_matches('\u{feff}');
        cells.names = names.lines().map(str::to_string).collect();
        vocabulary = Some(path);
    }
    manifest.precision = arguments.precision;
    if arguments.min_snr.is_some() {
        manifest.min_snr = arguments.min_snr;
    }
    let names = manifest.cells.iter().flat_map(|cells| &cells.names);
    let names: Vec<&str> = names.map(String::as_str).collect();
    let mut all = vec![];
    for path in &arguments.calibrate {
        all.extend(samples(path, &manifest, &names, Amount::Some)?);
    }
    // From here on the network is read.
    clock.step();
    Files::default()
        .read(&external_data(&arguments.onnx)?)
        .read(&vocabulary)
        .write(&arguments.output)
        .check()?;
    let checked = match arguments.allow_difference {
        Some(least) => Check::Cosine(least),
        None if arguments.no_check => Check::Skip,
        None => Check::Precision,
    };
    let bar = bar(quiet);
    let watch = |stage: &'static str, done: usize, of: usize| {
        clock.step();
        bar.set_length(of as u64);
        bar.set_message(stage);
        bar.set_position(done as u64);
    };
    let packed = pack_watched(&arguments.onnx, &manifest, &all, checked, &watch);
    bar.finish_and_clear();
    let packed = packed?;
    let written = packed.model.manifest();
    if arguments.require_bits && written.reproducible.is_none() {
        let reason = if !packed.plain.is_empty() {
            format!("not lowered: {}", packed.plain.join(", "))
        } else if !packed.kept.is_empty() {
            format!("kept in fp16: {}", packed.kept.join(", "))
        } else {
            format!("precision {}", written.precision)
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
        for kept in &packed.kept {
            say!("too much noise in int8, stays in fp16: {kept}");
        }
        for plain in &packed.plain {
            say!("not lowered, stays in float: {plain}");
        }
    }
    Ok(())
}
