//! `inspect` and `models`: what model files say of themselves.

use super::{CliError, InspectArguments};
use crate::annotate::{Task, builtin, kind};
use crate::kernels::Isa;
use crate::model::Model;
use crate::model::manifest::{Manifest, Reproducible, Tier};
use std::io::Write;

pub(super) fn inspect(arguments: &InspectArguments) -> Result<(), CliError> {
    let model = Model::open(&arguments.file)?;
    let file = model.file();
    file.check_payload()?;
    let manifest = serde_json::to_string_pretty(file.manifest())
        .map_err(|e| CliError::Input(e.to_string()))?;
    say!("{manifest}\n");
    say!("file          {} bytes", file.len());
    say!("tensors       BLAKE3 {}", file.content_hash());
    let reproducible = file.manifest().reproducible;
    let reproducible = reproducible.map_or("not declared", Reproducible::name);
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

pub(super) fn list() -> Result<(), CliError> {
    say!("instruction set {} (of {})\n", Isa::selected(), available());
    for task in Task::ALL {
        let file = builtin::file(task)?;
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
