//! From an ONNX file to a float network and its steps.

use super::network::Network;
use super::walk;
use crate::compile::fuse::{self, Imported, Meaning};
use crate::model::error::ModelError;
use crate::model::layers::TILE;
use crate::model::manifest::Manifest;
use std::path::Path;
use tract_nnef::internal::*;

/// Imports an ONNX file, and as tract's typed graph; `None` leaves the length open.
fn import(path: &Path, length: Option<usize>) -> Result<(TypedModel, Imported), ModelError> {
    let imported = fuse::read(path)?.unpadded();
    let model = fuse::to_tract(&imported, length);
    let model = model.map_err(failed(path, "reading the ONNX file"))?;
    Ok((model, imported))
}

/// Reads an ONNX file and finds its steps.
pub fn read(path: &Path, manifest: &Manifest) -> Result<Network, ModelError> {
    // A sequence scored as a whole has one length at most, and what depends on it is pooled;
    // else the length stays open.
    let length = manifest.sequence.is_some().then_some(manifest.tile);
    let network = of_length(path, length)?;
    let stride = network.stride;
    if !manifest.multiple.is_multiple_of(stride) {
        return Err(ModelError::Pack(format!(
            "lengths must be multiples of {stride}, the manifest states multiple = {}",
            manifest.multiple
        )));
    }
    Ok(network)
}

/// The same, of any length, where no manifest says anything of the network yet.
pub fn open(path: &Path) -> Result<Network, ModelError> {
    of_length(path, None)
}

fn of_length(path: &Path, length: Option<usize>) -> Result<Network, ModelError> {
    let (model, imported) = import(path, length)?;
    let find = || -> TractResult<Network> {
        let sources = model.input_outlets()?;
        let source = |wanted: Meaning| {
            let meanings = imported.inputs.iter().map(|input| input.meaning);
            let mut found = meanings.zip(sources).filter(|(own, _)| *own == wanted);
            found.next().map(|(_, outlet)| *outlet)
        };
        let main = source(Meaning::OneHot).or(source(Meaning::Ids));
        let input = main.context("it has no input")?;
        let ids = model.outlet_fact(input)?.datum_type != f32::datum_type();
        let symbol = length.is_none().then(|| model.symbols.sym(TILE));
        let mut network = Network {
            model: model.clone(),
            steps: vec![],
            input,
            values: source(Meaning::Values),
            flags: source(Meaning::Flags),
            ids,
            stride: imported.stride,
            cropped: imported.crop != (0, 0),
            symbol,
        };
        network.steps = walk::steps(&network)?;
        Ok(network)
    };
    find().map_err(failed(path, "lowering"))
}

fn failed(path: &Path, action: &'static str) -> impl Fn(TractError) -> ModelError {
    let file = path.display().to_string();
    move |error| ModelError::Graph {
        file: file.clone(),
        action,
        reason: format!("{error:#}"),
    }
}
