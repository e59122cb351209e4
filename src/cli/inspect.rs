//! `inspect`: what a model file holds.

use super::arguments::packed::InspectArguments;
use super::error::CliError;
use super::guard::Files;
use super::output::say;
use crate::annotate::Task;
use crate::model::Model;
use crate::model::manifest::{Reproducible, Tier};

pub(super) fn run(arguments: &InspectArguments) -> Result<(), CliError> {
    Files::default().read([&arguments.file]).check()?;
    let model = Model::open(&arguments.file)?;
    Task::of_model(&model)?;
    let file = model.file();
    file.check_payload()?;
    let manifest = serde_json::to_string_pretty(file.manifest()).map_err(CliError::input)?;
    say!("{manifest}\n");
    say!("file          {} bytes", file.len());
    say!("tensors       BLAKE3 {}", file.content_hash());
    let reproducible = file.manifest().reproducible;
    let reproducible = reproducible.map_or("not declared", Reproducible::name);
    say!("reproducible  {reproducible}");
    if let Some(checked) = file.manifest().checked {
        say!("agreement     {checked}");
    }
    // Of a file with tiers each is a network of its own.
    let tiers = Model::open_tier(&arguments.file, Tier::Auto)?;
    let growing = if tiers.keeps_rows() {
        "rows are kept"
    } else {
        "margins are computed anew"
    };
    say!("growing read  {growing}");
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
