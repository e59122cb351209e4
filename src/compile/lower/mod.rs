//! From a float network in tract's graph to a list of steps, most of which our operators can do.
//!
//! The ONNX file is imported by [`fuse`](super::fuse) and tract-onnx, its constants are propagated,
//! and then each node is either part of a pattern or stays what it is.
//!
//! | step | file |
//! | --- | --- |
//! | what there is | `steps` |
//! | the walk over the graph, questions about it | `find` |
//! | convolutions and linear layers with all that melts into them | `conv` |
//! | rows: functions, sums, pools, concatenation, fused operators | `rows` |
//! | vectors: pooling by reading frame, dense layers | `dense` |

mod conv;
mod dense;
mod find;
mod rows;
mod steps;

use crate::model::error::ModelError;
use crate::model::file::ModelFile;
use crate::model::manifest::Manifest;
use safetensors::tensor::Dtype;
use std::path::Path;
pub use steps::{AffineStep, AttentionStep, ConvStep, DenseStep, EmbedStep, NormStep, Step};
use tract_nnef::ast::Identifier;
use tract_nnef::internal::*;

/// Prefix of the tensors that belong to operators which were not lowered.
pub const PLAIN: &str = "plain.";

/// A float network and its steps.
#[derive(Debug)]
pub struct Network {
    /// The float graph.
    pub model: TypedModel,
    /// What it consists of.
    pub steps: Vec<Step>,
    /// Its source of bases or ids.
    pub input: OutletId,
    /// True where it reads token ids.
    pub ids: bool,
    /// Positions for one of the symbol of the length.
    pub stride: usize,
    /// Symbol of the length, where that is open.
    symbol: Option<Symbol>,
}

fn failed(path: &Path, action: &'static str) -> impl Fn(TractError) -> ModelError {
    let file = path.display().to_string();
    move |error| ModelError::Graph {
        file: file.clone(),
        action,
        reason: format!("{error:#}"),
    }
}

/// Imports an ONNX file as tract's typed graph; `None` leaves the length open. Gives what its
/// positions must be a multiple of, too.
pub fn import(path: &Path, length: Option<usize>) -> Result<(TypedModel, usize), ModelError> {
    let imported = super::fuse::read(path)?.unpadded();
    let model = super::fuse::to_tract(&imported, length);
    let model = model.map_err(failed(path, "reading the ONNX file"))?;
    Ok((model, imported.stride))
}

impl Network {
    /// Reads an ONNX file and finds its steps.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Network, ModelError> {
        // A sequence scored as a whole has one length at most, and what depends on it is pooled;
        // else the length stays open.
        let length = manifest.sequence.is_some().then_some(manifest.tile);
        let (model, stride) = import(path, length)?;
        if !manifest.multiple.is_multiple_of(stride) {
            return Err(ModelError::Pack(format!(
                "lengths must be multiples of {stride}, the manifest states multiple = {}",
                manifest.multiple
            )));
        }
        let find = || -> TractResult<Network> {
            let input = model.input_outlets()?[0];
            let ids = model.outlet_fact(input)?.datum_type != f32::datum_type();
            let symbol = length
                .is_none()
                .then(|| model.symbols.sym(crate::model::layers::TILE));
            let mut network = Network {
                model: model.clone(),
                steps: vec![],
                input,
                ids,
                stride,
                symbol,
            };
            network.steps = find::steps(&network)?;
            Ok(network)
        };
        find().map_err(failed(path, "lowering"))
    }

    /// True where the channels of rows come last, `[1, T, channels]`, as transformers have it.
    pub fn turned(&self, outlet: OutletId) -> TractResult<bool> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        let open = |axis: usize| {
            let symbol = self.symbol.as_ref()?;
            shape.get(axis).map(|dim| dim.symbols().contains(symbol))
        };
        Ok(match (open(1), open(2)) {
            (Some(true), Some(false)) => true,
            (Some(false), Some(true)) => false,
            _ => self.ids,
        })
    }

    /// Hidden rows that may become integers, and their channels.
    pub fn hidden(&self) -> Vec<(OutletId, usize)> {
        let outputs = self.model.output_outlets().unwrap_or_default();
        let mut found = vec![];
        for step in &self.steps {
            if matches!(
                step,
                Step::Dense(_) | Step::Pool { .. } | Step::Frames { .. }
            ) {
                continue;
            }
            let output = step.output();
            let Ok(fact) = self.model.outlet_fact(output) else {
                continue;
            };
            let rows = fact.rank() == 3 && fact.datum_type == f32::datum_type();
            let axis = if self.turned(output).unwrap_or(false) {
                2
            } else {
                1
            };
            let read = !self.model.node(output.node).outputs[output.slot]
                .successors
                .is_empty();
            let last = outputs.contains(&output) && !read;
            if let (true, false, Ok(channels)) =
                (rows, last, fact.shape[axis.min(fact.rank() - 1)].to_usize())
            {
                found.push((output, channels));
            }
        }
        found
    }

    /// A sequence as the float graph takes it.
    pub fn feed(&self, sequence: &[u32]) -> TractResult<TVec<TValue>> {
        let mut inputs = tvec!();
        for input in self.model.input_outlets()? {
            let fact = self.model.outlet_fact(*input)?;
            inputs.push(if *input == self.input && !self.ids {
                super::quantize::one_hot(sequence)?
            } else {
                // A mask says that every token is real.
                let values = sequence.iter().map(|&id| match *input == self.input {
                    true => i64::from(id),
                    false => 1,
                });
                let values: Vec<i64> = values.collect();
                let tensor = Tensor::from_shape(&[1, values.len()], &values)?;
                tensor
                    .cast_to_dt(fact.datum_type)?
                    .into_owned()
                    .into_tvalue()
            });
        }
        Ok(inputs)
    }

    /// Positions of the input that one row of a value stands for.
    ///
    /// # Errors
    /// Where it has no whole number of them.
    pub fn rate(&self, outlet: OutletId) -> TractResult<usize> {
        // Far from lengths that only round to what they should be.
        const SYMBOL: i64 = 1 << 12;
        let values = match &self.symbol {
            Some(symbol) => SymbolValues::default().with(symbol, SYMBOL),
            None => SymbolValues::default(),
        };
        let length = |outlet: OutletId| -> TractResult<usize> {
            let shape = &self.model.outlet_fact(outlet)?.shape;
            let axis = if shape.rank() < 3 || self.turned(outlet)? {
                1
            } else {
                2
            };
            let length = shape.get(axis).context("no axis of positions")?;
            Ok(length.eval(&values).to_usize()?)
        };
        let (positions, rows) = (length(self.input)?, length(outlet)?);
        let whole = rows > 0 && positions.is_multiple_of(rows);
        ensure!(whole, "{rows} rows for {positions} positions");
        Ok(positions / rows)
    }

    /// True where a row stands for several positions somewhere.
    pub fn strided(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Conv(conv) => conv.shape.stride > 1 || conv.repeat > 1,
            Step::Window { .. } | Step::Repeat { .. } => true,
            _ => false,
        })
    }

    /// Positions to the left and right that the rows of each output depend on, where every step
    /// concerns rows.
    pub fn reach(&self) -> Option<Vec<(usize, usize)>> {
        // Of each value: left, right, and positions a row.
        let mut reach: HashMap<OutletId, (usize, usize, usize)> = HashMap::new();
        let wider =
            |a: (usize, usize, usize), b: (usize, usize, usize)| (a.0.max(b.0), a.1.max(b.1), a.2);
        for step in &self.steps {
            let of = |outlet: &OutletId| reach.get(outlet).copied().unwrap_or((0, 0, 1));
            // A row that is repeated also stands for positions before its own last one.
            let repeated = |(left, right, rate): (usize, usize, usize), factor: usize| {
                (left + rate - 1, right, (rate / factor).max(1))
            };
            let (output, own) = match step {
                Step::Conv(conv) => {
                    let s = &conv.shape;
                    let (mut left, mut right, mut rate) = of(&conv.input);
                    left += s.before * s.dilation * rate;
                    right += (s.width - 1 - s.before) * s.dilation * rate;
                    rate *= s.stride;
                    let mut own = (left, right, rate);
                    if conv.repeat > 1 {
                        own = repeated(own, conv.repeat);
                    }
                    if let Some(residual) = conv.residual.as_ref().map(of) {
                        own = wider(own, residual);
                    }
                    (conv.output, own)
                }
                Step::Affine(affine) => (affine.output, of(&affine.input)),
                Step::Softmax { input, output, .. } | Step::Turn { input, output } => {
                    (*output, of(input))
                }
                Step::Sum { inputs, output, .. } => {
                    (*output, wider(of(&inputs[0]), of(&inputs[1])))
                }
                Step::Repeat {
                    input,
                    factor,
                    output,
                    ..
                } => (*output, repeated(of(input), *factor)),
                Step::Join { inputs, output, .. } => {
                    let all = inputs.iter().map(of);
                    (*output, all.reduce(wider)?)
                }
                Step::Window {
                    input,
                    width,
                    stride,
                    before,
                    output,
                    ..
                } => {
                    let (left, right, rate) = of(input);
                    let right = right + (width - 1 - before) * rate;
                    (*output, (left + before * rate, right, rate * stride))
                }
                _ => return None,
            };
            reach.insert(output, own);
        }
        let outputs = self.model.output_outlets().ok()?.iter();
        let found = outputs.map(|output| reach.get(output).map(|(left, right, _)| (*left, *right)));
        found.collect()
    }
}

/// The tensors of operators that were not lowered, copied out of the file as tract needs them.
pub(super) fn plain_tensors(file: &ModelFile) -> TractResult<HashMap<Identifier, Arc<Tensor>>> {
    let mut tensors = HashMap::new();
    for (name, dtype, shape, _) in file.tensors() {
        let Some(label) = name.strip_prefix(PLAIN) else {
            continue;
        };
        let dt = match dtype {
            Dtype::F32 => f32::datum_type(),
            Dtype::F16 => f16::datum_type(),
            Dtype::I64 => i64::datum_type(),
            _ => bail!("tensor {name} of {dtype:?}"),
        };
        let region = file.tensor(&name, dtype).map_err(|e| format_err!("{e}"))?;
        let mut tensor = Tensor::zero_dt(dt, &shape)?;
        tensor.as_bytes_mut().copy_from_slice(region.bytes());
        tensors.insert(Identifier(label.to_string()), Arc::new(tensor));
    }
    Ok(tensors)
}
