//! `pack`: a float ONNX network becomes a model file of our operators, quantised by what it does on
//! sample input.

mod conv;
mod layers;
mod rows;
mod transformer;
mod values;

use super::foreign::framework;
use super::lower::{Network, PLAIN, Step};
use super::quantize::{self, Ranges};
use crate::model::Model;
use crate::model::error::ModelError;
use crate::model::file::{self, GRAPH, GRAPH_JSON, ModelFile, TensorData};
use crate::model::layers::{INPUT, LENGTH, TILE};
use crate::model::manifest::{LayerRecord, Manifest, Precision, Reproducible};
use crate::model::map::Bytes;
use safetensors::tensor::Dtype;
use std::collections::HashSet;
use std::path::Path;
use tract_nnef::internal::*;
use values::Value;

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
    let network = Network::read(onnx, manifest)?;
    for (output, (left, right)) in network.reach().unwrap_or_default().into_iter().enumerate() {
        let stated = match &manifest.cascade {
            Some(cascade) if output == 0 => &cascade.context,
            _ => &manifest.context,
        };
        if left > stated.left || right > stated.right {
            return Err(ModelError::Pack(format!(
                "the network reaches {left} bases to the left and {right} to the right, the manifest states {} and {}",
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
    let emit = || -> TractResult<(Vec<TensorData>, Manifest, Vec<String>)> {
        let mut emitter = Emitter::new(&network, manifest, &ranges)?;
        for step in &network.steps {
            emitter.step(step)?;
        }
        emitter.finish()
    };
    let (tensors, manifest, plain) = emit().map_err(|error| ModelError::Graph {
        file: onnx.display().to_string(),
        action: "lowering",
        reason: format!("{error:#}"),
    })?;
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

/// Writes the steps of a network as layers.
struct Emitter<'a> {
    network: &'a Network,
    manifest: Manifest,
    ranges: &'a Ranges,
    target: TypedModel,
    length: OutletId,
    input: OutletId,
    values: HashMap<OutletId, Value>,
    /// Integer rows made of float ones.
    quantised: HashMap<OutletId, Value>,
    plain_values: HashMap<OutletId, OutletId>,
    tensors: Vec<TensorData>,
    plain: Vec<String>,
    /// Values that a soft-max at the end or the output itself reads: rows without halo.
    bare: HashSet<OutletId>,
    /// Values that something reads in float.
    wanted_float: HashSet<OutletId>,
    /// Values that something reads in float or in one scale.
    plainly_read: HashSet<OutletId>,
    halo: usize,
    precision: Precision,
}

impl<'a> Emitter<'a> {
    fn new(network: &'a Network, manifest: &Manifest, ranges: &'a Ranges) -> TractResult<Self> {
        let mut target = TypedModel {
            symbols: network.model.symbols.clone(),
            ..TypedModel::default()
        };
        let tile = target.symbols.sym(TILE).to_dim() * network.stride as i64;
        let fact = match network.ids {
            true => u32::fact([tile]),
            false => u8::fact([tile]),
        };
        let input = target.add_source(INPUT, fact)?;
        let length = target.add_source(LENGTH, i64::fact::<&[usize]>(&[]))?;
        let integer = manifest.precision == Precision::Int8;
        let source = network.input;
        let reach = network.steps.iter().filter_map(|step| match step {
            Step::Conv(conv) if conv.input != source => {
                Some(quantize::Layout::of(conv, integer, false).shape.reach())
            }
            _ => None,
        });
        let (bare, wanted_float) = (bare_values(network)?, floats_wanted(network));
        let mut plainly_read = HashSet::new();
        for step in &network.steps {
            plainly_read.extend(step.plainly_read());
            if let Step::Plain(node) = step {
                plainly_read.extend(network.model.node(*node).inputs.iter().copied());
            }
        }
        let first = match network.ids {
            true => Value::Ids,
            false => Value::Codes,
        };
        Ok(Emitter {
            halo: reach.max().unwrap_or(0),
            precision: manifest.precision,
            manifest: Manifest {
                layers: vec![],
                reproducible: None,
                ..manifest.clone()
            },
            network,
            ranges,
            target,
            length,
            input,
            values: HashMap::from([(source, first)]),
            quantised: HashMap::new(),
            plain_values: HashMap::new(),
            tensors: vec![],
            plain: vec![],
            bare,
            wanted_float,
            plainly_read,
        })
    }

    fn tensor(&mut self, name: String, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        self.tensors.push(TensorData {
            name,
            dtype,
            shape: shape.to_vec(),
            data,
        });
    }

    fn floats(&mut self, name: String, values: &[f32]) {
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::F32, &[values.len()], data);
    }

    fn integers(&mut self, name: String, values: &[i8]) {
        let data = values.iter().map(|&w| w as u8).collect();
        self.tensor(name, Dtype::I8, &[values.len()], data);
    }

    /// Writes weights as fp16 or f32.
    fn float_weights(&mut self, name: String, values: &[f32]) {
        if self.precision == Precision::F32 {
            return self.floats(name, values);
        }
        let halves = values.iter().map(|&x| half::f16::from_f32(x));
        let data = halves.flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::F16, &[values.len()], data);
    }

    fn finish(mut self) -> TractResult<(Vec<TensorData>, Manifest, Vec<String>)> {
        let outputs = self.network.model.output_outlets()?.to_vec();
        let mut outlets = vec![];
        for &output in &outputs {
            let vector = match outputs.len() {
                1 => self.vector(output)?,
                _ => None,
            };
            outlets.push(match vector {
                Some(vector) => vector,
                None => {
                    let rows = self.last_rows(output)?;
                    let (outlet, rate) = rows.with_context(|| {
                        format!("the output became {:?}", self.values.get(&output))
                    })?;
                    ensure!(
                        rate == 1,
                        "the output has one row for {rate} positions, not for each"
                    );
                    outlet
                }
            });
        }
        self.target.select_output_outlets(&outlets)?;
        if self.plain.is_empty() && self.precision == Precision::Int8 {
            self.manifest.reproducible = Some(Reproducible::Bits);
        }
        let (name, mut text) = match self.plain.is_empty() {
            true => (
                GRAPH_JSON,
                crate::model::layers::write(&self.target, self.network.stride)?,
            ),
            false => (GRAPH, self.nnef()?),
        };
        let len = text.len().next_multiple_of(crate::model::map::ALIGNMENT);
        text.resize(len, b'\n');
        let graph = TensorData {
            name: name.to_string(),
            dtype: Dtype::U8,
            shape: vec![len],
            data: text,
        };
        self.tensors.insert(0, graph);
        Ok((self.tensors, self.manifest, self.plain))
    }

    /// The graph as NNEF, for operators of tract's own; their constants become tensors of the file.
    fn nnef(&mut self) -> TractResult<Vec<u8>> {
        let nnef = framework();
        let proto = tract_nnef::ser::to_proto_model(&nnef, &self.target)?;
        for (name, tensor) in &proto.tensors {
            let dtype = match tensor.datum_type() {
                DatumType::F32 => Dtype::F32,
                DatumType::F16 => Dtype::F16,
                DatumType::I64 => Dtype::I64,
                other => bail!("constant {} of {other:?}", name.0),
            };
            let shape = tensor.shape().to_vec();
            let data = tensor.as_bytes().to_vec();
            self.tensor(format!("{PLAIN}{}", name.0), dtype, &shape, data);
        }
        let mut text = vec![];
        tract_nnef::ast::dump::Dumper::new(&nnef, &mut text).document(&proto.doc)?;
        Ok(text)
    }

    /// Lists a layer in the manifest.
    fn record(&mut self, label: &str, operator: &str, macs: u64, rows: Option<RowsRecord>) {
        let precision = match operator {
            "strandline_dense" if self.precision == Precision::Int8 => Precision::Fp16,
            _ => self.precision,
        };
        self.manifest.layers.push(LayerRecord {
            name: label.to_string(),
            operator: operator.to_string(),
            precision: precision.to_string(),
            output_scale: rows.and_then(|r| r.scale),
            signal_to_noise: rows.map(|r| r.signal_to_noise),
            macs,
        });
    }
}

/// Values that are written without halo: the output, and what a soft-max at the end reads. Where
/// something else reads them, too, they are not.
fn bare_values(network: &Network) -> TractResult<HashSet<OutletId>> {
    let model = &network.model;
    let readers = |outlet: &OutletId| {
        model.node(outlet.node).outputs[outlet.slot]
            .successors
            .len()
    };
    let outputs = model.output_outlets()?.iter();
    let mut bare: HashSet<OutletId> = outputs.copied().filter(|o| readers(o) == 0).collect();
    for step in network.steps.iter().rev() {
        if let Step::Softmax { input, output, .. } | Step::Turn { input, output } = step
            && bare.contains(output)
            && readers(input) == 1
        {
            bare.insert(*input);
        }
    }
    Ok(bare)
}

/// Values that something reads in float.
fn floats_wanted(network: &Network) -> HashSet<OutletId> {
    let mut wanted = HashSet::new();
    for step in &network.steps {
        match step {
            Step::Conv(conv) => wanted.extend(conv.residual),
            Step::Norm(norm) => drop(wanted.insert(norm.input)),
            Step::Pool { input, .. } => drop(wanted.insert(*input)),
            Step::Affine(affine) => drop(wanted.insert(affine.input)),
            _ => (),
        }
    }
    wanted
}

/// How rows were quantised.
#[derive(Debug, Clone, Copy)]
struct RowsRecord {
    /// One scale for all, or none where each row has its own.
    scale: Option<f32>,
    /// In decibels.
    signal_to_noise: f32,
}
