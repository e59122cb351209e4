//! An ONNX file from beginning to end: lowered, calibrated, emitted, and the model file of it.

use super::contents::Contents;
use super::emitter::Emitter;
use crate::compile::lower;
use crate::compile::quantize::{self, Ranges};
use crate::model::Model;
use crate::model::error::ModelError;
use crate::model::file::{self, ModelFile};
use crate::model::manifest::{Manifest, Precision};
use crate::model::map::Bytes;
use std::path::Path;
use tract_nnef::internal::*;

/// What came out of packing.
#[derive(Debug)]
pub struct Packed {
    /// The model file's bytes.
    pub bytes: Vec<u8>,
    /// The model, built from those very bytes.
    pub model: Model,
    /// Operators that stayed tract's own, in float.
    pub plain: Vec<String>,
}

/// Packs an ONNX file. `samples` are base codes, or token ids where the manifest's tokeniser is
/// `ids`, to calibrate activations on; int8 needs some.
///
/// # Errors
/// Where the file is not ONNX, has other inputs than one-hot bases or token ids, or needs more
/// context than the manifest states.
pub fn pack(onnx: &Path, manifest: &Manifest, samples: &[Vec<u32>]) -> Result<Packed, ModelError> {
    let network = lower::read(onnx, manifest)?;
    for (output, (left, right)) in network.reach().unwrap_or_default().into_iter().enumerate() {
        let stated = match &manifest.cascade {
            Some(cascade) if output == 0 => &cascade.context,
            _ => &manifest.context,
        };
        if left > stated.left || right > stated.right {
            return Err(ModelError::Pack(format!(
                "the network reaches {left} bases to the left and {right} to the right, \
                 the manifest states {} and {}",
                stated.left, stated.right
            )));
        }
    }
    if manifest.is_scan() && network.strided() {
        return Err(ModelError::Pack(format!(
            "task {} takes no strides: scores would depend on where a read is cut",
            manifest.task
        )));
    }
    let ranges = match manifest.precision {
        Precision::Int8 => quantize::measure(&network, manifest, samples)?,
        _ => Ranges::default(),
    };
    let emit = || -> TractResult<Contents> {
        let mut emitter = Emitter::new(&network, manifest, &ranges)?;
        for step in &network.steps {
            emitter.step(step)?;
        }
        emitter.finish()
    };
    let contents = emit().map_err(|error| ModelError::Graph {
        file: onnx.display().to_string(),
        action: "lowering",
        reason: format!("{error:#}"),
    })?;
    let Contents {
        tensors,
        manifest,
        plain,
    } = contents;
    if !plain.is_empty() && manifest.sequence.is_some() {
        return Err(ModelError::Pack(format!(
            "a network that scores whole sequences must be lowered whole; left over: {}",
            plain.join(", ")
        )));
    }
    let bytes = file::serialize(&manifest, tensors)?;
    let copy = Bytes::copy_of(&bytes).map_err(|source| ModelError::Io {
        file: onnx.to_path_buf(),
        source,
    })?;
    let model = Model::build(ModelFile::parse(copy, &onnx.display().to_string())?)?;
    Ok(Packed {
        bytes,
        model,
        plain,
    })
}
