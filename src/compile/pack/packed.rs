//! An ONNX file from beginning to end: lowered, calibrated, emitted, and the model file of it.

use super::contents::Contents;
use super::emitter::Emitter;
use crate::compile::Watch;
use crate::compile::check::{Agreement, Check, check};
use crate::compile::contain::contained;
use crate::compile::lower::{self, Step};
use crate::compile::quantize::{self, Ranges};
use crate::model::Model;
use crate::model::error::ModelError;
use crate::model::file::{self, ModelFile};
use crate::model::genes::{RESPONSE, fits};
use crate::model::manifest::{Checked, Ends, LayerRecord, Manifest, Precision};
use crate::model::map::Bytes;
use std::iter;
use std::path::Path;
use tract_nnef::internal::*;

/// Most tokens that a network may ask of a sequence.
const MOST_SHORTEST: usize = 64;

/// What came out of packing.
#[derive(Debug)]
pub struct Packed {
    /// The model file's bytes.
    pub bytes: Vec<u8>,
    /// The model, built from those very bytes.
    pub model: Model,
    /// Operators that stayed tract's own, in float.
    pub plain: Vec<String>,
    /// Layers with weights in fp16 in an int8 file: their input would lose too much as integers.
    pub kept: Vec<String>,
    /// What of the manifest was changed, and why.
    pub notes: Vec<String>,
    /// How much it agrees with the network, where that was looked at.
    pub agreement: Option<Agreement>,
}

/// Packs an ONNX file. `samples` are base codes, token ids where the manifest's tokeniser is `ids`,
/// or the words of cells (`genes::join`) where it is `genes`, to calibrate activations on; int8
/// needs some. What comes out is run beside the network, and an error where it does not agree as
/// `checked` asks.
///
/// tract reads the file and runs the float network. A network made to harm can have it take any
/// memory and time; the program's `pack` does this in a child with limits.
///
/// # Errors
/// Where the file is not ONNX, has other inputs than one-hot bases or token ids, needs more
/// context than the manifest states, or what was packed gives other numbers.
pub fn pack(
    onnx: &Path,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    checked: Check,
) -> Result<Packed, ModelError> {
    pack_watched(onnx, manifest, samples, checked, &|_, _, _| ())
}

/// The same; `progress` is called after the reading, each sample, the model file and each
/// comparison, none of which should take long.
///
/// # Errors
/// As of [`pack`].
pub fn pack_watched(
    onnx: &Path,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    checked: Check,
    progress: Watch,
) -> Result<Packed, ModelError> {
    contained(onnx, "packing", || {
        let (mut packed, vocabulary) = unchecked(onnx, manifest, samples, checked, progress)?;
        let model = &packed.model;
        packed.agreement = check(checked, model, onnx, samples, vocabulary, progress)?;
        Ok(packed)
    })
}

/// The packed file, and how many token ids its network has rows for.
fn unchecked(
    onnx: &Path,
    manifest: &Manifest,
    samples: &[Vec<u32>],
    checked: Check,
    progress: Watch,
) -> Result<(Packed, usize), ModelError> {
    let mut network = lower::read(onnx, manifest)?;
    if let Some(cells) = &manifest.cells {
        lower::tabulate(&mut network, cells).map_err(|error| lowering(onnx, &error))?;
    }
    progress("reading", 1, 1);
    let mut manifest = manifest.clone();
    manifest.checked = match checked {
        Check::Precision => None,
        Check::Cosine(least) => Some(Checked::Cosine(least)),
        Check::Skip => Some(Checked::Skipped),
    };
    let mut notes = vec![];
    if network.cropped && manifest.ends.is_none() && manifest.sequence.is_none() && !network.ids {
        manifest.ends = Some(Ends::NPadded);
        notes.push("ends = \"n-padded\": the network gives no rows at its own ends".to_string());
    }
    if network.cells() != manifest.cells.is_some() {
        return Err(ModelError::Pack(
            match manifest.cells {
                Some(_) => "tokeniser = \"genes\", and the network reads no values beside ids",
                None => "the network reads values beside ids: tokeniser = \"genes\", and [cells]",
            }
            .to_string(),
        ));
    }
    let mut vocabulary = 0;
    for step in &network.steps {
        let Step::Embed(embed) = step else { continue };
        if embed.input != network.input {
            continue;
        }
        vocabulary = embed.tokens.len() / embed.width.max(1);
        let most = embed.positions.len() / embed.width.max(1);
        let most = most - most % manifest.multiple;
        if (1..manifest.tile).contains(&most) {
            notes.push(format!(
                "tile {most}, not {}: the network has learned no more positions",
                manifest.tile
            ));
            manifest.tile = most;
        }
    }
    if let Some(cells) = &manifest.cells
        && cells.names.len() != vocabulary
    {
        return Err(ModelError::Pack(format!(
            "{} has {} names of genes, the network has rows for {vocabulary}",
            cells.genes,
            cells.names.len()
        )));
    }
    if let Some(cells) = &manifest.cells {
        cells.check_names().map_err(ModelError::Pack)?;
    }
    let manifest = &manifest;
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
    if !network.ids
        && let Some(node) = network.mixes_positions().map_err(|e| lowering(onnx, &e))?
    {
        return Err(ModelError::Pack(format!(
            "{node} reads all positions at once, as a group norm or a global pool does: scores \
             would depend on where a read is cut"
        )));
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
    let contents = emit().map_err(|error| lowering(onnx, &error))?;
    let Contents {
        tensors,
        manifest,
        plain,
    } = contents;
    if !plain.is_empty() && (manifest.sequence.is_some() || manifest.cells.is_some()) {
        return Err(ModelError::Pack(format!(
            "a network that scores whole sequences or cells must be lowered whole; left over: {}",
            plain.join(", ")
        )));
    }
    progress("writing", 0, 1);
    let half = Precision::Fp16.to_string();
    let in_half = |layer: &&LayerRecord| {
        manifest.precision == Precision::Int8
            && layer.precision == half
            && !["strandline_dense", "strandline_rows_dense"].contains(&layer.operator.as_str())
    };
    let kept = manifest.layers.iter().filter(in_half);
    let kept = kept.map(|layer| layer.name.clone()).collect();
    let mut bytes = file::serialize(&manifest, tensors)?;
    let mut model = read_back(&bytes, onnx)?;
    if manifest.cells.is_some() {
        let fits = fits(&manifest.task, model.is_pooled(), manifest.outputs.len());
        fits.map_err(ModelError::Pack)?;
    }
    let shortest = try_out(&model, onnx, samples)?;
    if shortest > 1 {
        let mut manifest = manifest;
        manifest.shortest = shortest;
        bytes = file::with_manifest(&bytes, &manifest)?;
        model = read_back(&bytes, onnx)?;
        notes.push(format!(
            "a sequence has {shortest} tokens at least: the network takes no shorter ones"
        ));
    }
    let packed = Packed {
        bytes,
        model,
        plain,
        kept,
        notes,
        agreement: None,
    };
    Ok((packed, vocabulary))
}

fn lowering(onnx: &Path, error: &TractError) -> ModelError {
    ModelError::Graph {
        file: onnx.display().to_string(),
        action: "lowering",
        reason: format!("{error:#}"),
    }
}

/// The model of what will be written.
fn read_back(bytes: &[u8], onnx: &Path) -> Result<Model, ModelError> {
    let copy = Bytes::copy_of(bytes).map_err(|source| ModelError::Io {
        file: onnx.to_path_buf(),
        source,
    })?;
    Model::build(ModelFile::parse(copy, &onnx.display().to_string())?)
}

/// Runs the model on its shortest and its longest piece: what is written also runs. Gives the
/// tokens of the shortest, which a network may leave some out of.
fn try_out(model: &Model, onnx: &Path, samples: &[Vec<u32>]) -> Result<usize, ModelError> {
    let manifest = model.manifest();
    let lengths = match &manifest.sequence {
        Some(sequence) => [sequence.shortest, sequence.longest]
            .map(|length| length.next_multiple_of(sequence.multiple)),
        None => [
            manifest.multiple,
            manifest.tile - manifest.tile % manifest.multiple,
        ],
    };
    let words = manifest.tokeniser.words();
    let attempt = |length: usize| -> Result<(), ModelError> {
        let count = length * words;
        let sample = samples.iter().flatten().copied();
        let mut piece: Vec<u32> = sample.chain(iter::repeat(0)).take(count).collect();
        if let (Some(cells), true) = (&manifest.cells, manifest.task == RESPONSE) {
            // The last one that the manifest promises.
            piece[words - 1] = cells.perturbations.len() as u32;
        }
        let mut runner = model.spawn()?;
        let ran = contained(onnx, "running it", || runner.run_sample(&piece).map(drop));
        ran.map_err(|error| {
            ModelError::Pack(format!("a sequence of {length} cannot be run: {error}"))
        })
    };
    let [shortest, longest] = lengths;
    attempt(longest)?;
    match attempt(shortest) {
        Ok(()) => Ok(1),
        Err(error) if manifest.tokeniser.reads_ids() && manifest.multiple == 1 => {
            let more = shortest + 1..=MOST_SHORTEST.min(longest);
            let found = more.into_iter().find(|&length| attempt(length).is_ok());
            found.ok_or(error)
        }
        Err(error) => Err(error),
    }
}
