//! `pack`: a float ONNX network becomes a model file of our operators, quantised by what it does on sample input.

use super::error::ModelError;
use super::file::{self, GRAPH, ModelFile, TensorData};
use super::graph::{LENGTH, Model, TILE};
use super::lower::{ConvStep, DenseStep, Network, PLAIN, Step};
use super::manifest::{LayerRecord, Manifest, Precision};
use super::map::Bytes;
use super::ops::{Layer, Spec, Written};
use super::quantize::{self, Ranges};
use super::registry::framework;
use crate::kernels::Isa;
use half::f16;
use safetensors::tensor::Dtype;
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

/// Packs an ONNX file. `samples` are base codes to calibrate activations on; int8 needs some.
///
/// # Errors
/// Where the file is not ONNX, has other inputs than `[1, 4, T]`, or needs more context than the manifest states.
pub fn pack(onnx: &Path, manifest: &Manifest, samples: &[Vec<u8>]) -> Result<Packed, ModelError> {
    let network = Network::read(onnx, manifest)?;
    if let (Some((left, right)), true) = (network.reach(), manifest.task.is_scan()) {
        let stated = &manifest.context;
        if left > stated.left || right > stated.right {
            return Err(ModelError::Pack(format!(
                "the network reaches {left} bases to the left and {right} to the right, the manifest states {} and {}",
                stated.left, stated.right
            )));
        }
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
    if !plain.is_empty() && !manifest.task.is_scan() {
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

/// What a value of the float graph has become.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// The base codes.
    Codes,
    /// Integer rows with a scale.
    Integer {
        outlet: OutletId,
        scale: f32,
        signed: bool,
    },
    /// Float rows with halo.
    Rows(OutletId),
    /// A vector, or the graph's output rows.
    Float(OutletId),
    /// As in the float graph.
    Plain(OutletId),
}

struct Emitter<'a> {
    network: &'a Network,
    manifest: Manifest,
    ranges: &'a Ranges,
    target: TypedModel,
    length: OutletId,
    codes: OutletId,
    values: HashMap<OutletId, Value>,
    plain_values: HashMap<OutletId, OutletId>,
    tensors: Vec<TensorData>,
    plain: Vec<String>,
    halo: usize,
    precision: Precision,
}

impl<'a> Emitter<'a> {
    fn new(network: &'a Network, manifest: &Manifest, ranges: &'a Ranges) -> TractResult<Self> {
        let mut target = TypedModel {
            symbols: network.model.symbols.clone(),
            ..TypedModel::default()
        };
        let tile = target.symbols.sym(TILE).to_dim();
        let codes = target.add_source("codes", u8::fact([tile]))?;
        let length = target.add_source(LENGTH, i64::fact::<&[usize]>(&[]))?;
        let source = network.model.input_outlets()?[0];
        let reach = network.steps.iter().filter_map(|step| match step {
            Step::Conv(conv) if conv.input != source => Some(conv.shape.reach()),
            _ => None,
        });
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
            codes,
            values: HashMap::from([(source, Value::Codes)]),
            plain_values: HashMap::new(),
            tensors: vec![],
            plain: vec![],
        })
    }

    fn step(&mut self, step: &Step) -> TractResult<()> {
        match step {
            Step::Conv(conv) => {
                if !self.conv(conv)? {
                    self.plain_nodes(conv.output)?;
                }
            }
            Step::Frames {
                name,
                input,
                channels,
                output,
            } => self.frames(name, *input, *channels, *output)?,
            Step::Dense(dense) => {
                if !self.dense(dense)? {
                    self.plain_nodes(dense.output)?;
                }
            }
            Step::Plain(node) => self.plain_node(*node)?,
        }
        Ok(())
    }

    fn is_output(&self, outlet: OutletId) -> TractResult<bool> {
        Ok(self.network.model.output_outlets()?.contains(&outlet))
    }

    fn label(&self, name: &str) -> String {
        let clean: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let clean = clean.trim_matches('_').to_string();
        let taken = |label: &str| self.target.nodes().iter().any(|n| n.name == label);
        let mut label = format!("n_{clean}");
        let mut number = 1;
        while taken(&label) {
            number += 1;
            label = format!("n_{clean}_{number}");
        }
        label
    }

    fn wire(&mut self, label: &str, spec: Spec, inputs: &[OutletId]) -> TractResult<OutletId> {
        let layer = Layer {
            spec,
            precision: self.precision,
            halo: self.halo,
            label: label.to_string(),
            parameters: None,
            input_scale: 1f32.to_bits(),
            isa: Isa::Scalar,
        };
        Ok(self.target.wire_node(label, layer, inputs)?[0])
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

    /// Writes weights as fp16 or f32.
    fn float_weights(&mut self, name: String, values: &[f32]) {
        if self.precision == Precision::F32 {
            return self.floats(name, values);
        }
        let halves = values.iter().map(|&x| f16::from_f32(x));
        let data = halves.flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::F16, &[values.len()], data);
    }

    fn record(&mut self, label: &str, operator: &str, precision: Precision, scale: Option<f32>) {
        let macs = self
            .target
            .nodes()
            .iter()
            .find(|node| node.name == label)
            .and_then(|node| node.op_as::<Layer>())
            .map_or(0, Layer::macs);
        self.manifest.layers.push(LayerRecord {
            name: label.to_string(),
            operator: operator.to_string(),
            precision: precision.to_string(),
            output_scale: scale,
            macs,
        });
    }

    /// Lowers a convolution; false where its input is not one our operators take.
    fn conv(&mut self, step: &ConvStep) -> TractResult<bool> {
        let last = self.is_output(step.output)?;
        let input = self.values.get(&step.input).copied();
        let codes = matches!(input, Some(Value::Codes));
        let integer = self.precision == Precision::Int8;
        let (rows, scale_in, signed) = match input {
            Some(Value::Codes) if step.residual.is_none() && step.shape.channels_in == 4 => {
                (self.codes, 1.0, false)
            }
            Some(Value::Integer {
                outlet,
                scale,
                signed,
            }) if step.shape.channels_in.is_multiple_of(4) => (outlet, scale, signed),
            Some(Value::Rows(outlet)) => (outlet, 1.0, false),
            _ => return Ok(false),
        };
        let residual = match step.residual.map(|r| self.values.get(&r).copied()) {
            None => None,
            Some(Some(Value::Integer {
                outlet,
                scale,
                signed: false,
            })) => Some((outlet, scale)),
            Some(Some(Value::Rows(outlet))) => Some((outlet, 1.0)),
            Some(_) => return Ok(false),
        };
        let narrow = step.shape.width <= crate::kernels::table::MAX_WIDTH;
        if codes && integer && !narrow {
            return Ok(false);
        }
        let label = self.label(&step.name);
        let (output, scale_out) = match (last, integer, step.relu) {
            (true, _, relu) => (Written::Last(relu), None),
            (false, false, relu) => (Written::Rows(relu), None),
            (false, true, relu) => {
                let kind = if relu {
                    Written::Unsigned
                } else {
                    Written::Signed
                };
                (kind, Some(self.ranges.scale(step.output)?))
            }
        };
        if integer {
            let unit = scale_out.unwrap_or(1.0);
            let packed = match codes {
                true => quantize::codes_weights(step, unit),
                false => quantize::conv_weights(step, scale_in, unit),
            };
            let data = packed.weight.iter().map(|&w| w as u8).collect();
            let count = packed.weight.len();
            self.tensor(format!("{label}.weight"), Dtype::I8, &[count], data);
            self.floats(format!("{label}.scale"), &packed.scale);
            self.floats(format!("{label}.bias"), &packed.bias);
            if let Some((_, scale)) = residual {
                self.floats(format!("{label}.residual"), &[scale / unit]);
            }
        } else {
            let (weight, bias) = quantize::float_conv_weights(step);
            self.float_weights(format!("{label}.weight"), &weight);
            self.floats(format!("{label}.bias"), &bias);
        }
        let mut inputs = vec![rows, self.length];
        inputs.extend(residual.map(|(outlet, _)| outlet));
        let shape = step.shape;
        let spec = match codes {
            true => Spec::CodesConv { shape, output },
            false => Spec::Conv {
                shape,
                signed,
                residual: residual.is_some(),
                output,
            },
        };
        let operator = match codes {
            true => "strandline_codes_conv",
            false if residual.is_some() => "strandline_conv_add",
            false => "strandline_conv",
        };
        let outlet = self.wire(&label, spec, &inputs)?;
        self.record(&label, operator, self.precision, scale_out);
        let value = match (last, scale_out) {
            (true, _) => Value::Float(outlet),
            (false, Some(scale)) => Value::Integer {
                outlet,
                scale,
                signed: !step.relu,
            },
            (false, None) => Value::Rows(outlet),
        };
        self.values.insert(step.output, value);
        Ok(true)
    }

    fn frames(
        &mut self,
        name: &str,
        input: OutletId,
        channels: usize,
        output: OutletId,
    ) -> TractResult<()> {
        let label = self.label(name);
        let rows = match self.values.get(&input).copied() {
            Some(Value::Integer {
                outlet,
                scale,
                signed: false,
            }) => {
                self.floats(format!("{label}.scale"), &[scale]);
                outlet
            }
            Some(Value::Rows(outlet)) => outlet,
            _ => bail!("{name} pools something that was not lowered"),
        };
        let inputs = [rows, self.length];
        let outlet = self.wire(&label, Spec::Frames { channels }, &inputs)?;
        self.record(&label, "strandline_frames", self.precision, None);
        self.values.insert(output, Value::Float(outlet));
        Ok(())
    }

    fn dense(&mut self, step: &DenseStep) -> TractResult<bool> {
        let Some(Value::Float(input)) = self.values.get(&step.input).copied() else {
            return Ok(false);
        };
        let label = self.label(&step.name);
        let (weight, bias) = quantize::dense_weights(step);
        self.float_weights(format!("{label}.weight"), &weight);
        self.floats(format!("{label}.bias"), &bias);
        let spec = Spec::Dense {
            inputs: step.inputs,
            outputs: step.outputs,
            relu: step.relu,
        };
        let outlet = self.wire(&label, spec, &[input])?;
        let precision = match self.precision {
            Precision::F32 => Precision::F32,
            _ => Precision::Fp16,
        };
        self.record(&label, "strandline_dense", precision, None);
        self.values.insert(step.output, Value::Float(outlet));
        Ok(true)
    }

    /// The value of an outlet in the float graph's own layout.
    fn plain_value(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(wired) = self.plain_values.get(&outlet) {
            return Ok(*wired);
        }
        let source = self.network.model.node(outlet.node);
        let wired = match self.values.get(&outlet).copied() {
            Some(Value::Plain(wired)) => wired,
            Some(Value::Codes) => {
                let label = self.label("one_hot");
                self.wire(&label, Spec::OneHot, &[self.codes, self.length])?
            }
            Some(value @ (Value::Integer { .. } | Value::Rows(_))) => {
                let label = self.label(&format!("{}_plain", source.name));
                let shape = &self.network.model.outlet_fact(outlet)?.shape;
                let channels = shape[1].to_usize()?;
                let (rows, signed) = match value {
                    Value::Integer {
                        outlet,
                        scale,
                        signed,
                    } => {
                        self.floats(format!("{label}.scale"), &[scale]);
                        (outlet, signed)
                    }
                    Value::Rows(outlet) => (outlet, false),
                    _ => bail!("no rows"),
                };
                let spec = Spec::ToPlain { channels, signed };
                self.wire(&label, spec, &[rows, self.length])?
            }
            Some(Value::Float(_)) => bail!("{} is pooled and not lowered", source.name),
            None => {
                let fact = self.network.model.outlet_fact(outlet)?;
                let konst = fact
                    .konst
                    .clone()
                    .with_context(|| format!("{source} came late"))?;
                let label = self.label(&source.name);
                self.target.add_const(label, konst)?
            }
        };
        self.plain_values.insert(outlet, wired);
        Ok(wired)
    }

    /// Keeps a node as it is, and says so.
    fn plain_node(&mut self, id: usize) -> TractResult<()> {
        let node = self.network.model.node(id);
        let mut inputs: TVec<OutletId> = tvec!();
        for input in &node.inputs {
            inputs.push(self.plain_value(*input)?);
        }
        let label = self.label(&node.name);
        let outlets = self.target.wire_node(&label, node.op.clone(), &inputs)?;
        for (slot, outlet) in outlets.iter().enumerate() {
            self.values
                .insert(OutletId::new(id, slot), Value::Plain(*outlet));
        }
        self.manifest.layers.push(LayerRecord {
            name: label,
            operator: node.op.name().to_string(),
            precision: Precision::F32.to_string(),
            output_scale: None,
            macs: 0,
        });
        self.plain
            .push(format!("{} ({})", node.name, node.op.name()));
        Ok(())
    }

    /// Keeps the nodes of a pattern that turned out not to be lowerable, back from its output to what is known.
    fn plain_nodes(&mut self, output: OutletId) -> TractResult<()> {
        let mut pending = vec![output.node];
        let mut order = vec![];
        while let Some(id) = pending.pop() {
            let node = self.network.model.node(id);
            order.push(id);
            for input in &node.inputs {
                let known = self.values.contains_key(input)
                    || self.network.model.outlet_fact(*input)?.konst.is_some();
                if !known && !order.contains(&input.node) {
                    pending.push(input.node);
                }
            }
        }
        for id in order.into_iter().rev() {
            self.plain_node(id)?;
        }
        Ok(())
    }

    fn finish(mut self) -> TractResult<(Vec<TensorData>, Manifest, Vec<String>)> {
        let output = self.network.model.output_outlets()?[0];
        let outlet = match self.values.get(&output).copied() {
            Some(Value::Float(outlet)) => outlet,
            Some(Value::Plain(outlet)) => {
                let shape = self.network.model.outlet_fact(output)?.shape.clone();
                ensure!(
                    shape.rank() == 3,
                    "an output of rank {}, not 3",
                    shape.rank()
                );
                let channels = shape[1].to_usize()?;
                let label = self.label("output_rows");
                self.wire(&label, Spec::FromPlain { channels }, &[outlet, self.length])?
            }
            other => bail!("the output became {other:?}"),
        };
        self.target.select_output_outlets(&[outlet])?;
        if self.plain.is_empty() && self.precision == Precision::Int8 {
            self.manifest.reproducible = Some("bits".to_string());
        }
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
        let len = text.len().next_multiple_of(super::map::ALIGNMENT);
        text.resize(len, b'\n');
        let graph = TensorData {
            name: GRAPH.to_string(),
            dtype: Dtype::U8,
            shape: vec![len],
            data: text,
        };
        self.tensors.insert(0, graph);
        Ok((self.tensors, self.manifest, self.plain))
    }
}
