//! A manifest for a network that comes without one: what can be read off the network itself.

use super::lower::{self, Network, Step};
use crate::compile::contain::contained;
use crate::model::error::ModelError;
use crate::model::manifest::Ends;
use std::fmt::Write;
use std::path::Path;
use tract_nnef::internal::*;

/// Tokens at once, where no table of positions says how many.
const TOKENS: usize = 512;

/// Bases at once, unless the context asks for more: a tile computes its context twice.
const BASES: usize = 4096;
const CONTEXTS: usize = 8;

/// The manifest, as TOML, of a `raw` model of this network, with a comment on each line that a task
/// would have otherwise.
///
/// # Errors
/// Where the network cannot be read, or leaves something open that only its owner knows.
pub fn manifest_of(onnx: &Path) -> Result<String, ModelError> {
    contained(onnx, "reading the ONNX file", || {
        let network = lower::open(onnx)?;
        let failed = |error: TractError| ModelError::Graph {
            file: onnx.display().to_string(),
            action: "lowering",
            reason: format!("{error:#}"),
        };
        let name = onnx.file_stem().map_or("model".into(), |stem| {
            let name = stem.to_string_lossy();
            name.replace(|c: char| c.is_control() || "\"\\".contains(c), "_")
        });
        write(&network, &name)
            .map_err(failed)?
            .map_err(ModelError::Pack)
    })
}

/// The text; or what the owner must say.
fn write(network: &Network, name: &str) -> TractResult<Result<String, String>> {
    let columns = columns(network)?;
    let multiple = network.stride;
    let (mut left, mut right) = (0, 0);
    let tile = if network.ids {
        let positions = network.steps.iter().filter_map(|step| match step {
            Step::Embed(embed) => Some(embed.positions.len() / embed.width.max(1)),
            _ => None,
        });
        positions.filter(|&n| n > 0).min().unwrap_or(TOKENS)
    } else {
        if columns.iter().any(|(_, rows)| !rows) {
            return Ok(Err(
                "it gives one row for a whole sequence: state in a manifest how long sequences \
                 are, as [sequence]"
                    .to_string(),
            ));
        }
        let Some(reach) = network.reach() else {
            return Ok(Err(
                "operators of tract's own hide how many bases a score depends on: state it in a \
                 manifest, as context"
                    .to_string(),
            ));
        };
        for (before, behind) in reach {
            (left, right) = (left.max(before), right.max(behind));
        }
        BASES.max(CONTEXTS * (left + right))
    };
    let tile = tile.next_multiple_of(multiple);
    let tokeniser = match (network.cells(), network.ids) {
        (true, _) => "genes",
        (false, true) => "ids",
        (false, false) => "one-hot",
    };
    let ends = if network.cropped && !network.ids {
        Ends::NPadded
    } else {
        Ends::Masked
    };
    let mut text = format!(
        "name = \"{name}\"\n\
         version = \"0.1.0\"\n\
         task = \"raw\"            # splice, promoter, ...: models/README.md lists them\n\
         description = \"{name}\"\n\
         alphabet = \"ACGT\"\n\
         tokeniser = \"{tokeniser}\"\n\
         stride = 1\n\
         multiple = {multiple}\n\
         tile = {tile}\n\
         context = {{ left = {left}, right = {right} }}\n\
         ends = \"{ends}\"\n\
         licence = \"unknown\"\n\
         \n\
         [training]\n\
         data = \"unknown\"\n\
         split = \"unknown\"\n\
         recipe = \"unknown\"\n"
    );
    if network.cells() {
        text.push_str(
            "\n[cells]\n\
             genes = \"genes.txt\"  # the vocabulary, one name a line\n\
             cls = \"<cls>\"        # the token before all genes, if there is one\n\
             normalise = 10000.0\n\
             log1p = true\n\
             bins = 51             # absent for values that are not binned\n",
        );
    }
    for (name, _) in columns {
        write!(
            text,
            "\n[[outputs]]\n\
             name = \"{name}\"       # for a task with kind, threshold and base_rate\n\
             meaning = \"raw output\"\n\
             link = \"identity\"   # logit, where the output is one\n"
        )?;
    }
    Ok(Ok(text))
}

/// The names of all columns, and whether each has a row for every position.
fn columns(network: &Network) -> TractResult<Vec<(String, bool)>> {
    let mut all = vec![];
    for outlet in network.model.output_outlets()? {
        let shape = &network.model.outlet_fact(*outlet)?.shape;
        let open = |axis: usize| {
            let symbol = network.symbol.as_ref();
            symbol.is_some_and(|symbol| shape[axis].symbols().contains(symbol))
        };
        if shape.rank() == 2 && open(1) {
            all.push((format!("c{}", all.len()), true));
            continue;
        }
        let rows = shape.rank() == 3;
        let axis = match shape.rank() {
            2 => 1,
            3 if network.channels_last(*outlet)? => 2,
            3 => 1,
            rank => bail!(
                "an output of {rank} axes: where it is one number a sequence, a manifest with \
                 [sequence] says so and how long sequences are"
            ),
        };
        for _ in 0..shape[axis].to_usize()? {
            all.push((format!("c{}", all.len()), rows));
        }
    }
    Ok(all)
}
