//! An ONNX file from beginning to end: lowered, calibrated, emitted, and the model file of it.

use super::contents::Contents;
use super::emitter::Emitter;
use crate::compile::contain::contained;
use crate::compile::lower;
use crate::compile::quantize::{self, Ranges};
use crate::kernels::NO_BASE;
use crate::model::Model;
use crate::model::error::ModelError;
use crate::model::file::{self, ModelFile};
use crate::model::manifest::{Manifest, Precision};
use crate::model::map::Bytes;
use std::iter;
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
/// tract reads the file and runs the float network. A network made to harm can have it take any
/// memory and time; the program's `pack` does this in a child with limits.
///
/// # Errors
/// Where the file is not ONNX, has other inputs than one-hot bases or token ids, or needs more
/// context than the manifest states.
pub fn pack(onnx: &Path, manifest: &Manifest, samples: &[Vec<u32>]) -> Result<Packed, ModelError> {
    pack_watched(onnx, manifest, samples, &|| ())
}

/// The same; `progress` is called after each step that should not take long: the reading, each
/// sample, the model file.
///
/// # Errors
/// As of [`pack`].
pub fn pack_watched(
    onnx: &Path,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    progress: &dyn Fn(),
) -> Result<Packed, ModelError> {
    contained(onnx, "packing", || whole(onnx, manifest, samples, progress))
}

fn whole(
    onnx: &Path,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    progress: &dyn Fn(),
) -> Result<Packed, ModelError> {
    let network = lower::read(onnx, manifest)?;
    progress();
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
        Precision::Int8 => quantize::measure(&network, manifest, samples, progress)?,
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
    progress();
    let bytes = file::serialize(&manifest, tensors)?;
    let copy = Bytes::copy_of(&bytes).map_err(|source| ModelError::Io {
        file: onnx.to_path_buf(),
        source,
    })?;
    let model = Model::build(ModelFile::parse(copy, &onnx.display().to_string())?)?;
    try_out(&model, samples)?;
    Ok(Packed {
        bytes,
        model,
        plain,
    })
}

/// Runs the model on its shortest and its longest piece: what is written also runs.
fn try_out(model: &Model, samples: &[Vec<u32>]) -> Result<(), ModelError> {
    let manifest = model.manifest();
    let lengths = match &manifest.sequence {
        Some(sequence) => [sequence.shortest, sequence.longest]
            .map(|length| length.next_multiple_of(sequence.multiple)),
        None => [
            manifest.multiple,
            manifest.tile - manifest.tile % manifest.multiple,
        ],
    };
    let mut runner = model.spawn()?;
    for length in lengths {
        let sample = samples.iter().flatten().copied();
        let piece: Vec<u32> = sample.chain(iter::repeat(0)).take(length).collect();
        if runner.reads_ids() {
            runner.run_ids(&piece)?;
        } else {
            let codes = piece.iter().map(|&code| u8::try_from(code));
            let codes: Vec<u8> = codes.map(|code| code.unwrap_or(NO_BASE)).collect();
            runner.run(&codes)?;
        }
    }
    Ok(())
}
