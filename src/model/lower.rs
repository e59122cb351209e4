//! From a float network in tract's graph to a list of steps, most of which our operators can do.
//!
//! The ONNX file is imported by tract-onnx, its constants are propagated, and then each node is either part of a pattern (convolution with
//! batch norm, residual and ReLU; pooling by reading frame; dense layer) or stays what it is.

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::Manifest;
use super::ops::spec::{Function, Pooled};
use super::reference::{Fused, Pooling};
use crate::kernels::ConvShape;
use crate::kernels::pool::FRAMES;
use safetensors::tensor::Dtype;
use std::collections::HashSet;
use std::path::Path;
use tract_nnef::ast::Identifier;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::array::TypedConcat;
use tract_nnef::tract_core::ops::binary::TypedBinOp;
use tract_nnef::tract_core::ops::cnn::{Conv, MaxPool, PaddingSpec, SumPool};
use tract_nnef::tract_core::ops::einsum::EinSum;
use tract_nnef::tract_core::ops::element_wise::ElementWiseOp;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::math::Tanh;
use tract_nnef::tract_core::ops::math::{Add, Div, Max, Mul};
use tract_nnef::tract_core::ops::nn::{Reduce, Reducer, Sigmoid, Softmax};
use tract_nnef::tract_core::ops::source::TypedSource;

/// Prefix of the tensors that belong to operators which were not lowered.
pub const PLAIN: &str = "plain.";

/// A convolution with all that melts into its epilogue.
#[derive(Debug, Clone)]
pub struct ConvStep {
    /// Name of the convolution's node.
    pub name: String,
    /// Its input in the float graph.
    pub input: OutletId,
    /// Its shape as the network has it.
    pub shape: ConvShape,
    /// `[channels_out][channels_in][width]`, batch norm folded; a grouped convolution has zeros between its groups.
    pub weight: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// What is added before the activation.
    pub residual: Option<OutletId>,
    /// What follows.
    pub function: Function,
    /// Rows out of one input row, all alike: an upsampling that precedes a convolution of width 1.
    pub repeat: usize,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// A product and a sum with one constant a channel, and a function.
#[derive(Debug, Clone)]
pub struct AffineStep {
    /// Name of its last node.
    pub name: String,
    /// Its input.
    pub input: OutletId,
    /// One a channel.
    pub factor: Vec<f32>,
    /// One a channel.
    pub term: Vec<f32>,
    /// What follows.
    pub function: Function,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// A dense layer on a pooled vector.
#[derive(Debug, Clone)]
pub struct DenseStep {
    /// Name of the product's node.
    pub name: String,
    /// Its input.
    pub input: OutletId,
    /// Length of the input.
    pub inputs: usize,
    /// Length of the output.
    pub outputs: usize,
    /// `[outputs][inputs]`.
    pub weight: Vec<f32>,
    /// One an output.
    pub bias: Vec<f32>,
    /// What follows.
    pub function: Function,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// Embedding of token ids.
#[derive(Debug, Clone)]
pub struct EmbedStep {
    /// Name of the node.
    pub name: String,
    /// The ids.
    pub input: OutletId,
    /// Values of a row.
    pub width: usize,
    /// `[vocabulary][width]`.
    pub tokens: Vec<f32>,
    /// `[positions][width]`, empty where there are none.
    pub positions: Vec<f32>,
    /// The rows.
    pub output: OutletId,
}

/// Multi-head attention.
#[derive(Debug, Clone)]
pub struct AttentionStep {
    /// Name of the node.
    pub name: String,
    /// Queries, keys and values.
    pub inputs: [OutletId; 3],
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Factor on scores.
    pub scale: f32,
    /// Base of the rotation by position.
    pub rotary: Option<f32>,
    /// The rows.
    pub output: OutletId,
}

/// A part of the network, in order of evaluation.
#[derive(Debug, Clone)]
pub enum Step {
    /// A convolution of our own.
    Conv(ConvStep),
    /// A product, a sum and a function of single values.
    Affine(AffineStep),
    /// Rows several times.
    Repeat {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Rows out of one.
        factor: usize,
        /// All of them.
        output: OutletId,
    },
    /// Rows side by side.
    Join {
        /// Name of the node.
        name: String,
        /// The rows.
        inputs: Vec<OutletId>,
        /// All channels.
        output: OutletId,
    },
    /// Maximum or mean of neighbouring rows.
    Window {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Rows of a window.
        width: usize,
        /// From one window to the next.
        stride: usize,
        /// Rows before the output's own position.
        before: usize,
        /// The mean, or else the maximum.
        mean: bool,
        /// The pooled rows.
        output: OutletId,
    },
    /// One vector from all rows.
    Pool {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// What is taken.
        pooled: Pooled,
        /// The vector.
        output: OutletId,
    },
    /// Rows of a table, one an id.
    Embed(EmbedStep),
    /// Layer norm.
    Norm {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Multiplied.
        gamma: Vec<f32>,
        /// Added.
        beta: Vec<f32>,
        /// Added to the variance.
        epsilon: f32,
        /// The normalised rows.
        output: OutletId,
    },
    /// Attention over a whole sequence.
    Attention(AttentionStep),
    /// Soft-max over channels.
    Softmax {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Probabilities.
        output: OutletId,
    },
    /// Maximum and mean by reading frame.
    Frames {
        /// Name of the concatenation's node.
        name: String,
        /// Rows to pool.
        input: OutletId,
        /// Channels of the rows.
        channels: usize,
        /// The pooled vector.
        output: OutletId,
    },
    /// A dense layer of our own.
    Dense(DenseStep),
    /// A node that stays tract's.
    Plain(usize),
}

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

/// Imports an ONNX file as tract's typed graph; `None` leaves the length open. Gives what its positions must be a multiple of, too.
pub fn import(path: &Path, length: Option<usize>) -> Result<(TypedModel, usize), ModelError> {
    let imported = super::fuse::read(path)?.unpadded();
    let model = super::fuse::to_tract(&imported, length);
    let model = model.map_err(failed(path, "reading the ONNX file"))?;
    Ok((model, imported.stride))
}

impl Network {
    /// Reads an ONNX file and finds its steps.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Network, ModelError> {
        // A sequence scored as a whole has one length at most, and what depends on it is pooled; else the length stays open.
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
            let steps = find_steps(&model)?;
            let symbol = length
                .is_none()
                .then(|| model.symbols.sym(super::graph::TILE));
            Ok(Network {
                model: model.clone(),
                steps,
                input,
                ids,
                stride,
                symbol,
            })
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
            let output = match step {
                Step::Conv(conv) => conv.output,
                Step::Affine(affine) => affine.output,
                Step::Embed(embed) => embed.output,
                Step::Norm { output, .. } => *output,
                Step::Attention(attention) => attention.output,
                Step::Plain(node) => OutletId::new(*node, 0),
                _ => continue,
            };
            let Ok(fact) = self.model.outlet_fact(output) else {
                continue;
            };
            let rows = fact.rank() == 3 && fact.datum_type == f32::datum_type();
            let axis = if self.turned(output).unwrap_or(false) {
                2
            } else {
                1
            };
            if let (true, false, Ok(channels)) = (
                rows,
                outputs.contains(&output),
                fact.shape[axis.min(fact.rank() - 1)].to_usize(),
            ) {
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

    /// True where a row stands for several positions somewhere.
    pub fn strided(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Conv(conv) => conv.shape.stride > 1 || conv.repeat > 1,
            Step::Window { .. } | Step::Repeat { .. } => true,
            _ => false,
        })
    }

    /// Positions to the left and right that the output's rows depend on, where every step concerns rows.
    pub fn reach(&self) -> Option<(usize, usize)> {
        // Of each value: left, right, and positions a row.
        let mut reach: HashMap<OutletId, (usize, usize, usize)> = HashMap::new();
        let mut last = (0, 0, 1);
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
                Step::Softmax { input, output, .. } => (*output, of(input)),
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
            last = own;
        }
        Some((last.0, last.1))
    }
}

fn find_steps(model: &TypedModel) -> TractResult<Vec<Step>> {
    let mut steps = vec![];
    let mut done: HashSet<usize> = HashSet::new();
    let mut finder = Finder {
        model,
        ready: model.input_outlets()?.iter().copied().collect(),
    };
    for id in model.eval_order()? {
        let node = model.node(id);
        if done.contains(&id) || node.op_is::<Const>() || node.op_is::<TypedSource>() {
            continue;
        }
        let (step, nodes) = match finder.step(id)? {
            Some(found) => found,
            None => (Step::Plain(id), vec![id]),
        };
        for id in &nodes {
            let slots = 0..model.node(*id).outputs.len();
            finder
                .ready
                .extend(slots.map(|slot| OutletId::new(*id, slot)));
        }
        done.extend(nodes);
        steps.push(step);
    }
    fold_repeats(model, &mut steps)?;
    // Pooling is recognised at its end, so the nodes before it have become plain steps by then.
    for id in model.eval_order()? {
        if let Some((frames, nodes)) = finder.frames(id) {
            steps.retain(|step| !matches!(step, Step::Plain(n) if nodes.contains(n) && *n != id));
            for step in &mut steps {
                if matches!(step, Step::Plain(n) if *n == id) {
                    *step = frames.clone();
                }
            }
        }
    }
    Ok(steps)
}

/// A convolution of width 1 commutes with repeating rows, and is done on fewer of them.
fn fold_repeats(model: &TypedModel, steps: &mut Vec<Step>) -> TractResult<()> {
    let outputs = model.output_outlets()?;
    let mut folded = vec![];
    for (index, step) in steps.iter().enumerate() {
        let Step::Repeat {
            input,
            factor,
            output,
            ..
        } = step
        else {
            continue;
        };
        let readers = &model.node(output.node).outputs[output.slot].successors;
        if readers.len() == 1 && !outputs.contains(output) {
            folded.push((index, *input, *factor, *output));
        }
    }
    for (index, input, factor, output) in folded.into_iter().rev() {
        let conv = steps.iter_mut().find_map(|step| match step {
            Step::Conv(conv) if conv.input == output => Some(conv),
            _ => None,
        });
        if let Some(conv) = conv
            && (conv.shape.width, conv.shape.stride, conv.repeat) == (1, 1, 1)
        {
            conv.input = input;
            conv.repeat = factor;
            steps.remove(index);
        }
    }
    Ok(())
}

struct Finder<'a> {
    model: &'a TypedModel,
    /// Values of earlier steps: what a later one may add.
    ready: HashSet<OutletId>,
}

impl Finder<'_> {
    /// The step that begins at a node, and the nodes it covers.
    fn step(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        if let Some((conv, nodes)) = self.conv(id)? {
            return Ok(Some((Step::Conv(conv), nodes)));
        }
        if let Some((dense, nodes)) = self.dense(id)? {
            return Ok(Some((Step::Dense(dense), nodes)));
        }
        if let Some((affine, nodes)) = self.affine(id)? {
            return Ok(Some((Step::Affine(affine), nodes)));
        }
        if let Some(found) = self.fused(id)? {
            return Ok(Some(found));
        }
        Ok(self.rows(id)?.map(|step| (step, vec![id])))
    }

    /// Steps that the front end has found in the ONNX file.
    fn fused(&self, id: usize) -> TractResult<Option<(Step, Vec<usize>)>> {
        let node = self.model.node(id);
        let Some(fused) = node.op_as::<Fused>() else {
            return Ok(None);
        };
        let (name, output) = (node.name.clone(), OutletId::new(id, 0));
        let constant = |slot: usize| {
            let outlet = node.inputs.get(slot).copied()?;
            self.constant(outlet)
        };
        let input = node.inputs[0];
        let step = match fused {
            Fused::LayerNorm { epsilon } => {
                let (Some(gamma), Some(beta)) = (constant(1), constant(2)) else {
                    return Ok(None);
                };
                Step::Norm {
                    name,
                    input,
                    gamma,
                    beta,
                    epsilon: f32::from_bits(*epsilon),
                    output,
                }
            }
            Fused::Gelu { tanh: false } => {
                let Some(channels) = self.width(input) else {
                    return Ok(None);
                };
                Step::Affine(AffineStep {
                    name,
                    input,
                    factor: vec![1.0; channels],
                    term: vec![0.0; channels],
                    function: Function::Gelu,
                    output,
                })
            }
            Fused::Embedding => {
                let (Some(tokens), Some(width)) = (constant(1), self.width(output)) else {
                    return Ok(None);
                };
                Step::Embed(EmbedStep {
                    name,
                    input,
                    width,
                    tokens,
                    positions: constant(2).unwrap_or_default(),
                    output,
                })
            }
            Fused::Attention {
                heads,
                scale,
                rotary,
                ..
            } => {
                let Some(channels) = self.width(output) else {
                    return Ok(None);
                };
                Step::Attention(AttentionStep {
                    name,
                    inputs: [node.inputs[0], node.inputs[1], node.inputs[2]],
                    heads: *heads,
                    width: channels / heads,
                    scale: f32::from_bits(*scale),
                    rotary: rotary.map(f32::from_bits),
                    output,
                })
            }
            Fused::Pool { kind, .. } => {
                let pooled = match kind {
                    Pooling::Mean => Pooled::Mean,
                    Pooling::Max => Pooled::Max,
                    Pooling::First => Pooled::First,
                };
                Step::Pool {
                    name,
                    input,
                    pooled,
                    output,
                }
            }
            Fused::Upsample { factor } => Step::Repeat {
                name,
                input,
                factor: *factor,
                output,
            },
            Fused::Linear => {
                return Ok(self
                    .linear(id)?
                    .map(|(conv, nodes)| (Step::Conv(conv), nodes)));
            }
            Fused::Gelu { tanh: true } => return Ok(None),
        };
        Ok(Some((step, vec![id])))
    }

    /// Channels of rows, `[1, T, channels]` or `[1, channels, T]`: the dimension that is known.
    fn width(&self, outlet: OutletId) -> Option<usize> {
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        if shape.rank() != 3 || shape[0] != 1.to_dim() {
            return None;
        }
        shape[2].to_usize().or_else(|_| shape[1].to_usize()).ok()
    }

    /// A linear layer on rows.
    fn linear(&self, id: usize) -> TractResult<Option<(ConvStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let shape = &self.model.outlet_fact(node.inputs[1])?.shape;
        let Some(by_input) = self.constant(node.inputs[1]) else {
            return Ok(None);
        };
        let (channels_in, channels_out) = (shape[0].to_usize()?, shape[1].to_usize()?);
        if self.width(OutletId::new(id, 0)) != Some(channels_out) {
            return Ok(None);
        }
        let bias = match node.inputs.get(2) {
            Some(bias) => match self.constant(*bias) {
                Some(bias) => bias,
                None => return Ok(None),
            },
            None => vec![0.0; channels_out],
        };
        let weight = (0..channels_out * channels_in)
            .map(|at| by_input[at % channels_in * channels_out + at / channels_in])
            .collect();
        let step = ConvStep {
            name: node.name.clone(),
            input: node.inputs[0],
            shape: ConvShape::linear(channels_in, channels_out),
            weight,
            bias,
            residual: None,
            function: Function::Identity,
            repeat: 1,
            output: OutletId::new(id, 0),
        };
        Ok(Some(self.epilogue(step, vec![id])?))
    }

    /// A sum of `outlet` with a value of the same shape that is known before it.
    fn added(&self, outlet: OutletId) -> TractResult<Option<(&TypedNode, OutletId)>> {
        let Some((next, other)) = self.reader::<Add>(outlet) else {
            return Ok(None);
        };
        let known = self.ready.contains(&other) && self.constant(other).is_none();
        let shapes = (
            &self.model.outlet_fact(other)?.shape,
            &self.model.outlet_fact(outlet)?.shape,
        );
        Ok((known && shapes.0 == shapes.1).then_some((next, other)))
    }

    /// What follows a convolution and melts into it: something added, then a function.
    fn epilogue(
        &self,
        mut step: ConvStep,
        mut nodes: Vec<usize>,
    ) -> TractResult<(ConvStep, Vec<usize>)> {
        if let Some((next, other)) = self.added(step.output)? {
            step.residual = Some(other);
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        if let Some((found, next)) = self.function(step.output)
            && matches!(found, Function::Relu | Function::Gelu)
        {
            step.function = found;
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        if step.residual.is_none()
            && step.function == Function::Relu
            && let Some((next, other)) = self.added(step.output)?
        {
            step.function = Function::ReluFirst;
            step.residual = Some(other);
            step.output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        Ok((step, nodes))
    }

    /// Channels of a value of rows, `[1, channels, T]`.
    fn channels(&self, outlet: OutletId) -> Option<usize> {
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        let rows = shape.rank() == 3 && shape[0] == 1.to_dim();
        rows.then(|| shape[1].to_usize().ok()).flatten()
    }

    /// A function of single values behind `outlet`.
    fn function(&self, outlet: OutletId) -> Option<(Function, &TypedNode)> {
        if let Some(node) = self.relu(outlet) {
            return Some((Function::Relu, node));
        }
        let node = self.only_reader(outlet)?;
        if let Some(Fused::Gelu { tanh: false }) = node.op_as::<Fused>() {
            return Some((Function::Gelu, node));
        }
        Some((self.elementwise(node)?, node))
    }

    fn elementwise(&self, node: &TypedNode) -> Option<Function> {
        let op = &node.op_as::<ElementWiseOp>()?.0;
        if op.is::<Sigmoid>() {
            Some(Function::Sigmoid)
        } else if op.is::<Tanh>() {
            Some(Function::Tanh)
        } else {
            None
        }
    }

    /// Products and sums with one constant a channel, then a function; any of them may be missing, not all.
    fn affine(&self, id: usize) -> TractResult<Option<(AffineStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let constant = |outlet: &OutletId| self.constant(*outlet).is_some();
        let Some(input) = node.inputs.iter().find(|input| !constant(input)).copied() else {
            return Ok(None);
        };
        let Some(channels) = self.channels(input) else {
            return Ok(None);
        };
        let (mut factor, mut term) = (vec![1f32; channels], vec![0f32; channels]);
        let (mut nodes, mut function) = (vec![], Function::Identity);
        let mut next = Some(node);
        let mut output = input;
        while let Some(node) = next {
            let other = node.inputs.iter().find(|input| **input != output);
            let other = other.and_then(|other| self.channel_constant(*other, channels));
            let is_relu = |values: &Vec<f32>| values.iter().all(|x| *x == 0.0);
            let Some(op) = self.binary(node) else {
                if let Some(found) = self.elementwise(node) {
                    function = found;
                    nodes.push(node.id);
                    output = OutletId::new(node.id, 0);
                }
                break;
            };
            match other {
                Some(values) if op.0.is::<Mul>() => {
                    for ((f, t), v) in factor.iter_mut().zip(&mut term).zip(&values) {
                        (*f, *t) = (*f * v, *t * v);
                    }
                }
                Some(values) if op.0.is::<Add>() => {
                    term.iter_mut().zip(&values).for_each(|(t, v)| *t += v);
                }
                Some(values) if op.0.is::<Max>() && is_relu(&values) => {
                    function = Function::Relu;
                    nodes.push(node.id);
                    output = OutletId::new(node.id, 0);
                    break;
                }
                _ => break,
            }
            nodes.push(node.id);
            output = OutletId::new(node.id, 0);
            next = self.only_reader(output);
        }
        let Some(last) = nodes.last() else {
            return Ok(None);
        };
        let step = AffineStep {
            name: self.model.node(*last).name.clone(),
            input,
            factor,
            term,
            function,
            output,
        };
        Ok(Some((step, nodes)))
    }

    /// Steps of one node without weights.
    fn rows(&self, id: usize) -> TractResult<Option<Step>> {
        let node = self.model.node(id);
        let output = OutletId::new(id, 0);
        let name = node.name.clone();
        let Some(&input) = node.inputs.first() else {
            return Ok(None);
        };
        if self.channels(input).is_none() {
            return Ok(None);
        }
        if let Some(concat) = node.op_as::<TypedConcat>() {
            let all = node.inputs.iter().all(|input| self.ready.contains(input));
            let join = concat.axis == 1 && self.channels(output).is_some() && all;
            let inputs = node.inputs.to_vec();
            return Ok(join.then_some(Step::Join {
                name,
                inputs,
                output,
            }));
        }
        if let Some(softmax) = node.op_as::<Softmax>() {
            let whole = *softmax.axes == [1] && self.model.output_outlets()?.contains(&output);
            return Ok(whole.then_some(Step::Softmax {
                name,
                input,
                output,
            }));
        }
        let (pool, mean) = match (node.op_as::<MaxPool>(), node.op_as::<SumPool>()) {
            (Some(max), _) if max.with_index_outputs.is_none() => (&max.pool_spec, false),
            (_, Some(sum)) if sum.normalize && !sum.count_include_pad => (&sum.pool_spec, true),
            _ => return Ok(None),
        };
        if pool.kernel_shape.len() != 1 || pool.dilation(0) != 1 {
            return Ok(None);
        }
        let (width, stride) = (pool.kernel_shape[0], pool.stride(0));
        let (before, after) = match &pool.padding {
            PaddingSpec::Explicit(before, after) => (before[0], after[0]),
            PaddingSpec::Valid => (0, 0),
            _ => return Ok(None),
        };
        // As many windows as the rows have whole strides.
        if !(before + after < width && width <= before + after + stride) {
            return Ok(None);
        }
        Ok(Some(Step::Window {
            name,
            input,
            width,
            stride,
            before,
            mean,
            output,
        }))
    }

    fn constant(&self, outlet: OutletId) -> Option<Vec<f32>> {
        let konst = self.model.outlet_fact(outlet).ok()?.konst.clone()?;
        let values = konst.cast_to::<f32>().ok()?;
        let view = values.try_as_plain_ram().ok()?;
        Some(view.as_slice::<f32>().ok()?.to_vec())
    }

    /// The only reader of an outlet that is no output of the graph.
    fn only_reader(&self, outlet: OutletId) -> Option<&TypedNode> {
        let node = self.model.node(outlet.node);
        let readers = &node.outputs[outlet.slot].successors;
        let is_output = self.model.output_outlets().ok()?.contains(&outlet);
        match (readers.as_slice(), is_output) {
            ([one], false) => Some(self.model.node(one.node)),
            _ => None,
        }
    }

    fn binary<'n>(&self, node: &'n TypedNode) -> Option<&'n TypedBinOp> {
        node.op_as::<TypedBinOp>()
    }

    /// The reader of `outlet` if it is the binary operator B, with its other operand.
    fn reader<B: tract_nnef::tract_core::ops::binary::BinMiniOp>(
        &self,
        outlet: OutletId,
    ) -> Option<(&TypedNode, OutletId)> {
        let node = self.only_reader(outlet)?;
        self.binary(node)?.0.downcast_ref::<B>()?;
        let other = match node.inputs.as_slice() {
            [a, b] if *a == outlet => *b,
            [a, b] if *b == outlet => *a,
            _ => return None,
        };
        Some((node, other))
    }

    /// A ReLU behind `outlet`.
    fn relu(&self, outlet: OutletId) -> Option<&TypedNode> {
        let (node, other) = self.reader::<Max>(outlet)?;
        let zero = self.constant(other)?.iter().all(|x| *x == 0.0);
        zero.then_some(node)
    }

    fn conv(&self, id: usize) -> TractResult<Option<(ConvStep, Vec<usize>)>> {
        let node = self.model.node(id);
        let Some(op) = node.op_as::<Conv>() else {
            return Ok(None);
        };
        let pool = &op.pool_spec;
        let one_axis = pool.kernel_shape.len() == 1;
        if !one_axis || op.q_params.is_some() {
            return Ok(None);
        }
        let (width, dilation, stride) = (pool.kernel_shape[0], pool.dilation(0), pool.stride(0));
        let span = (width - 1) * dilation;
        let (before, after) = match &pool.padding {
            PaddingSpec::Explicit(before, after) => (before[0], after[0]),
            PaddingSpec::Valid => (0, 0),
            PaddingSpec::SameUpper => (span / 2, span - span / 2),
            PaddingSpec::SameLower => (span - span / 2, span / 2),
            _ => return Ok(None),
        };
        // As many positions out as in, by whole strides, and the output's own position under a tap.
        let whole = before + after <= span && span < before + after + stride;
        if !whole || !before.is_multiple_of(dilation) || before > span {
            return Ok(None);
        }
        let oihw = format!("{:?}", op.kernel_fmt) == "OIHW";
        let (Some(mut weight), Some(mut bias), true) = (
            self.constant(node.inputs[1]),
            self.constant(node.inputs[2]),
            oihw,
        ) else {
            return Ok(None);
        };
        let (channels_in, channels_out) = (op.input_channels(), op.output_channels());
        if bias.len() == 1 {
            bias = vec![bias[0]; channels_out];
        }
        let group = op.group;
        if weight.len() * group != channels_in * channels_out * width || bias.len() != channels_out
        {
            return Ok(None);
        }
        if group > 1 {
            let (own_in, own_out) = (channels_in / group, channels_out / group);
            let grouped =
                std::mem::replace(&mut weight, vec![0.0; channels_in * channels_out * width]);
            for (o, row) in grouped.chunks_exact(own_in * width).enumerate() {
                let at = (o * channels_in + o / own_out * own_in) * width;
                weight[at..at + row.len()].copy_from_slice(row);
            }
        }
        let mut nodes = vec![id];
        let mut output = OutletId::new(id, 0);
        // Batch norm that the exporter left behind: products and sums with one constant a channel.
        loop {
            if let Some((next, other)) = self.reader::<Mul>(output)
                && let Some(factors) = self.channel_constant(other, channels_out)
            {
                for (o, factor) in factors.iter().enumerate() {
                    let row = o * channels_in * width..(o + 1) * channels_in * width;
                    weight[row].iter_mut().for_each(|w| *w *= factor);
                    bias[o] *= factor;
                }
                output = OutletId::new(next.id, 0);
                nodes.push(next.id);
            } else if let Some((next, other)) = self.reader::<Add>(output)
                && let Some(terms) = self.channel_constant(other, channels_out)
            {
                bias.iter_mut().zip(&terms).for_each(|(b, t)| *b += t);
                output = OutletId::new(next.id, 0);
                nodes.push(next.id);
            } else {
                break;
            }
        }
        let step = ConvStep {
            name: node.name.clone(),
            input: node.inputs[0],
            shape: ConvShape {
                channels_in,
                channels_out,
                width,
                dilation,
                before: before / dilation,
                stride,
            },
            weight,
            bias,
            residual: None,
            function: Function::Identity,
            repeat: 1,
            output,
        };
        Ok(Some(self.epilogue(step, nodes)?))
    }

    /// A constant of one value a channel (or one for all) along the channel axis.
    fn channel_constant(&self, outlet: OutletId, channels: usize) -> Option<Vec<f32>> {
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        let values = self.constant(outlet)?;
        if values.len() == 1 {
            return Some(vec![values[0]; channels]);
        }
        let along = shape.rank() == 3 && shape[1] == channels.to_dim();
        (along && values.len() == channels).then_some(values)
    }

    /// True where the value is known to be non-negative: the output of a ReLU.
    fn is_relu(&self, outlet: OutletId) -> bool {
        let node = self.model.node(outlet.node);
        self.binary(node).is_some_and(|op| op.0.is::<Max>())
            && node
                .inputs
                .iter()
                .filter_map(|input| self.constant(*input))
                .any(|values| values.iter().all(|x| *x == 0.0))
    }

    fn dense(&self, id: usize) -> TractResult<Option<(DenseStep, Vec<usize>)>> {
        let node = self.model.node(id);
        if !node.op_is::<EinSum>() || node.inputs.len() != 2 {
            return Ok(None);
        }
        let info = node.op.info()?.concat();
        let (input, weights, transposed) = match info.split(' ').next() {
            Some("mk,nk->mn") => (node.inputs[0], node.inputs[1], false),
            Some("mk,kn->mn") => (node.inputs[0], node.inputs[1], true),
            _ => return Ok(None),
        };
        let Some(values) = self.constant(weights) else {
            return Ok(None);
        };
        let fact = self.model.outlet_fact(weights)?;
        let row = self.model.outlet_fact(input)?.shape[0] == 1.to_dim();
        let (Ok(a), Ok(b)) = (fact.shape[0].to_usize(), fact.shape[1].to_usize()) else {
            return Ok(None);
        };
        if !row {
            return Ok(None);
        }
        let (outputs, inputs) = if transposed { (b, a) } else { (a, b) };
        let mut weight = values;
        if transposed {
            let by_input = weight;
            weight = (0..outputs * inputs)
                .map(|at| by_input[at % inputs * outputs + at / inputs])
                .collect();
        }
        let mut nodes = vec![id];
        let mut output = OutletId::new(id, 0);
        let mut bias = vec![0.0; outputs];
        if let Some((next, other)) = self.reader::<Add>(output)
            && let Some(terms) = self.constant(other)
            && (terms.len() == outputs || terms.len() == 1)
        {
            for (o, b) in bias.iter_mut().enumerate() {
                *b = terms[o % terms.len()];
            }
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        let mut function = Function::Identity;
        if let Some((found, next)) = self.function(output) {
            function = found;
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        let step = DenseStep {
            name: node.name.clone(),
            input,
            inputs,
            outputs,
            weight,
            bias,
            function,
            output,
        };
        Ok(Some((step, nodes)))
    }

    /// Concatenation of maximum and mean over axis 2 of `[1, C, T / 3, 3]`.
    fn frames(&self, id: usize) -> Option<(Step, Vec<usize>)> {
        let node = self.model.node(id);
        node.op_as::<TypedConcat>()
            .filter(|concat| concat.axis == 1)?;
        let [first, second] = node.inputs.as_slice() else {
            return None;
        };
        let mut nodes = vec![id];
        let maximum = self.behind_views(*first, &mut nodes);
        let is = |outlet: OutletId, reducer: Reducer| {
            let reduce = self.model.node(outlet.node).op_as::<Reduce>()?;
            (reduce.reducer == reducer && *reduce.axes == [2]).then_some(outlet.node)
        };
        let max_node = is(maximum, Reducer::Max)?;
        let mean = self.behind_views(*second, &mut nodes);
        let division = self.model.node(mean.node);
        let op = self.binary(division)?;
        let count = self.constant(division.inputs[1])?;
        let sum_node = is(division.inputs[0], Reducer::Sum)?;
        let from = self.model.node(max_node).inputs[0];
        if self.model.node(sum_node).inputs[0] != from {
            return None;
        }
        let reshape = self.model.node(from.node);
        let Some(AxisOp::Reshape(2, _, _)) = reshape.op_as::<AxisOp>() else {
            return None;
        };
        let shape = &self.model.outlet_fact(from).ok()?.shape;
        let codons = shape[2].to_usize().ok()? as f32;
        // Written as a division by the count or as a product with its inverse.
        let divides = op.0.is::<Div>() && count.iter().all(|c| *c == codons);
        let multiplies = op.0.is::<Mul>() && count.iter().all(|c| *c == 1.0 / codons);
        if shape[3] != FRAMES.to_dim() || !(divides || multiplies) {
            return None;
        }
        let channels = shape[1].to_usize().ok()?;
        if !self.is_relu(reshape.inputs[0]) {
            return None;
        }
        nodes.extend([max_node, division.id, sum_node, reshape.id]);
        let frames = Step::Frames {
            name: node.name.clone(),
            input: reshape.inputs[0],
            channels,
            output: OutletId::new(id, 0),
        };
        Some((frames, nodes))
    }

    /// Skips operators that only change the view.
    fn behind_views(&self, mut outlet: OutletId, nodes: &mut Vec<usize>) -> OutletId {
        while self.model.node(outlet.node).op_is::<AxisOp>() {
            nodes.push(outlet.node);
            outlet = self.model.node(outlet.node).inputs[0];
        }
        outlet
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
