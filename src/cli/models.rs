//! `pack`, `inspect`, `verify` and `models`: what concerns model files.

use super::records::each_record;
use super::{CliError, InspectArguments, PackArguments, VerifyArguments};
use crate::builtin;
use crate::kernels::Isa;
use crate::model::Model;
use crate::model::file::ModelFile;
use crate::model::manifest::{Manifest, Task, Tier};
use crate::model::pack;
use crate::verify::{Comparison, compare};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

pub(super) fn pack(arguments: &PackArguments) -> Result<(), CliError> {
    let path = &arguments.manifest;
    let text = fs::read_to_string(path).map_err(CliError::io(path))?;
    let mut manifest = Manifest::from_toml(&text)
        .map_err(|reason| CliError::Input(format!("{}: {reason}", path.display())))?;
    manifest.precision = arguments.precision;
    let mut all = vec![];
    for path in &arguments.calibrate {
        all.extend(samples(path, manifest.tokeniser == "ids")?);
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
    // Written beside the target and renamed: a model file that is mapped must never change in place.
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

/// Sequences of a file: ids, bases of FASTA or FASTQ, or bases with one sequence a line.
pub(super) fn samples(path: &Path, ids: bool) -> Result<Vec<Vec<u32>>, CliError> {
    if ids {
        return token_lines(path);
    }
    let mut first = [0u8; 1];
    let letters = fs::File::open(path)
        .and_then(|mut file| file.read(&mut first))
        .map_err(CliError::io(path))?;
    if letters == 1 && first[0].is_ascii_alphabetic() {
        let text = fs::read_to_string(path).map_err(CliError::io(path))?;
        let code = |letter: u8| u32::from(crate::nucleotide::code(letter));
        return Ok(text
            .lines()
            .map(|line| line.bytes().map(code).collect())
            .collect());
    }
    let mut all = vec![];
    each_record(path, |_, _, codes| {
        all.push(codes.iter().map(|&code| u32::from(code)).collect());
        Ok(())
    })?;
    Ok(all)
}

/// Token ids of a text file, one sequence a line, blanks between ids.
pub(super) fn token_lines(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io(path))?;
    let parse = |(number, line): (usize, &str)| {
        let ids = line.split_whitespace().map(str::parse::<u32>);
        ids.collect::<Result<Vec<u32>, _>>()
            .map_err(|e| CliError::Input(format!("{}: line {}: {e}", path.display(), number + 1)))
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(parse)
        .collect()
}

pub(super) fn inspect(arguments: &InspectArguments) -> Result<(), CliError> {
    let model = Model::open(&arguments.file)?;
    let file = model.file();
    file.check_payload()?;
    let manifest = serde_json::to_string_pretty(file.manifest())
        .map_err(|e| CliError::Input(e.to_string()))?;
    say!("{manifest}\n");
    say!("file          {} bytes", file.len());
    say!("tensors       BLAKE3 {}", file.content_hash());
    let reproducible = file
        .manifest()
        .reproducible
        .as_deref()
        .unwrap_or("not declared");
    say!("reproducible  {reproducible}");
    say!(
        "arithmetic    {} multiply-accumulates {}\n",
        file.manifest().macs(),
        file.manifest().macs_unit()
    );
    say!("{:32} {:>6} {:>10}  shape", "tensor", "type", "bytes");
    for (name, dtype, shape, size) in file.tensors() {
        say!(
            "{name:32} {:>6} {size:>10}  {shape:?}",
            format!("{dtype:?}")
        );
    }
    say!(
        "\n{:32} {:24} {:>8} {:>12} {:>10} {:>8}",
        "node",
        "operator",
        "MACs",
        "activations",
        "scale",
        "SNR"
    );
    for node in model.operators() {
        let (scale, noise) = match (node.output_scale, node.signal_to_noise) {
            (Some(scale), Some(noise)) => (format!("{scale:.3e}"), format!("{noise:.1} dB")),
            (None, Some(noise)) => ("by row".to_string(), format!("{noise:.1} dB")),
            _ => (String::new(), String::new()),
        };
        let plain = if node.lowered { "" } else { "  (tract, float)" };
        let line = format!(
            "{:32} {:24} {:>8} {:>12} {scale:>10} {noise:>8}{plain}",
            node.name, node.operator, node.macs, node.activation_bytes,
        );
        say!("{}", line.trim_end());
    }
    say!(
        "\nactivations of one worker: {} bytes for a tile of {}, scratch: {} bytes",
        model.activation_bytes()?,
        file.manifest().tile,
        model.scratch_bytes()
    );
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

pub(super) fn list() -> Result<(), CliError> {
    say!("instruction set {} (of {})\n", Isa::selected(), available());
    for task in Task::ALL {
        let file = builtin::file(task)?;
        let manifest = file.manifest();
        let reproducible = manifest.reproducible.as_deref().unwrap_or("not declared");
        say!("{} {} ({task})", manifest.name, manifest.version);
        say!("  {}", manifest.description);
        say!(
            "  {} bytes, {}, reproducible: {reproducible}",
            file.len(),
            manifest.precision
        );
        if manifest.cascade.is_none() {
            cost(manifest)?;
        } else {
            for tier in [Tier::Fast, Tier::Accurate] {
                say!("  --tier {}", tier.name());
                cost(builtin::model(task, tier)?.manifest())?;
            }
            say!("  --tier auto: fast everywhere, accurate around what survives it");
        }
        for (name, value) in &manifest.figures {
            say!("  {name} = {value}");
        }
        say!(
            "  licence {}; BLAKE3 {}\n",
            manifest.licence,
            file.content_hash()
        );
    }
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
        let threshold = match output.kind {
            Some(kind) if kind.is_probability() => format!("; threshold {}", output.threshold),
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
