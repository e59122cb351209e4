//! From a float network in tract's graph to a list of steps, most of which our operators can do.
//!
//! The ONNX file is imported by tract-onnx, its constants are propagated, and then each node is either part of a pattern (convolution with
//! batch norm, residual and ReLU; pooling by reading frame; dense layer) or stays what it is.

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::Manifest;
use crate::kernels::ConvShape;
use crate::kernels::pool::FRAMES;
use safetensors::tensor::Dtype;
use std::collections::HashSet;
use std::path::Path;
use tract_nnef::ast::Identifier;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::array::TypedConcat;
use tract_nnef::tract_core::ops::binary::TypedBinOp;
use tract_nnef::tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_nnef::tract_core::ops::einsum::EinSum;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::math::{Add, Div, Max, Mul};
use tract_nnef::tract_core::ops::nn::{Reduce, Reducer};
use tract_nnef::tract_core::ops::source::TypedSource;
use tract_onnx::prelude::{Framework, InferenceModelExt};

/// Prefix of the tensors that belong to operators which were not lowered.
pub const PLAIN: &str = "plain.";

/// A convolution with all that melts into its epilogue.
#[derive(Debug, Clone)]
pub struct ConvStep {
    /// Name of the convolution's node.
    pub name: String,
    /// Its input in the float graph.
    pub input: OutletId,
    /// Its shape.
    pub shape: ConvShape,
    /// `[channels_out][channels_in][width]`, batch norm folded.
    pub weight: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// What is added before the activation.
    pub residual: Option<OutletId>,
    /// True where a ReLU follows.
    pub relu: bool,
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
    /// True where a ReLU follows.
    pub relu: bool,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// A part of the network, in order of evaluation.
#[derive(Debug, Clone)]
pub enum Step {
    /// A convolution of our own.
    Conv(ConvStep),
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
}

fn failed(path: &Path, action: &'static str) -> impl Fn(TractError) -> ModelError {
    let file = path.display().to_string();
    move |error| ModelError::Graph {
        file: file.clone(),
        action,
        reason: format!("{error:#}"),
    }
}

/// Imports an ONNX file with an input of `[1, 4, length]`; `None` leaves the length open.
pub fn import(path: &Path, length: Option<usize>) -> Result<TypedModel, ModelError> {
    let import = || -> TractResult<TypedModel> {
        let mut model = tract_onnx::onnx().model_for_path(path)?;
        let length = match length {
            Some(length) => length.to_dim(),
            None => model.symbols.sym(super::graph::TILE).to_dim(),
        };
        let fact = f32::fact([1.to_dim(), 4.to_dim(), length]);
        model.set_input_fact(0, fact.into())?;
        let outputs = model.output_outlets()?.len();
        ensure!(outputs == 1, "{outputs} outputs, not 1");
        model.set_output_fact(0, Default::default())?;
        let mut model = model.into_typed()?;
        model.prop_consts()?;
        Ok(model)
    };
    import().map_err(failed(path, "reading the ONNX file"))
}

impl Network {
    /// Reads an ONNX file and finds its steps.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Network, ModelError> {
        // A scan keeps its length open; a sequence has one length at most, and what depends on it is pooled.
        let length = (!manifest.task.is_scan()).then_some(manifest.tile);
        let model = import(path, length)?;
        let steps = find_steps(&model).map_err(failed(path, "lowering"))?;
        Ok(Network { model, steps })
    }

    /// Bases to the left and right that the output depends on, where every step is a convolution.
    pub fn reach(&self) -> Option<(usize, usize)> {
        let mut reach: HashMap<OutletId, (usize, usize)> = HashMap::new();
        let mut last = (0, 0);
        for step in &self.steps {
            let Step::Conv(conv) = step else { return None };
            let from = reach.get(&conv.input).copied().unwrap_or((0, 0));
            let s = &conv.shape;
            let mut own = (
                from.0 + s.before * s.dilation,
                from.1 + (s.width - 1 - s.before) * s.dilation,
            );
            if let Some(residual) = conv.residual.and_then(|r| reach.get(&r)) {
                own = (own.0.max(residual.0), own.1.max(residual.1));
            }
            reach.insert(conv.output, own);
            last = own;
        }
        Some(last)
    }
}

fn find_steps(model: &TypedModel) -> TractResult<Vec<Step>> {
    let mut steps = vec![];
    let mut done: HashSet<usize> = HashSet::new();
    let finder = Finder { model };
    for id in model.eval_order()? {
        let node = model.node(id);
        if done.contains(&id) || node.op_is::<Const>() || node.op_is::<TypedSource>() {
            continue;
        }
        let step = match finder.conv(id)? {
            Some((conv, nodes)) => {
                done.extend(nodes);
                Step::Conv(conv)
            }
            None => match finder.dense(id)? {
                Some((dense, nodes)) => {
                    done.extend(nodes);
                    Step::Dense(dense)
                }
                None => Step::Plain(id),
            },
        };
        steps.push(step);
    }
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

struct Finder<'a> {
    model: &'a TypedModel,
}

impl Finder<'_> {
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
        if !one_axis || op.group != 1 || pool.stride(0) != 1 || op.q_params.is_some() {
            return Ok(None);
        }
        let (width, dilation) = (pool.kernel_shape[0], pool.dilation(0));
        let span = (width - 1) * dilation;
        let (before, after) = match &pool.padding {
            PaddingSpec::Explicit(before, after) => (before[0], after[0]),
            PaddingSpec::Valid => (0, 0),
            PaddingSpec::SameUpper => (span / 2, span - span / 2),
            PaddingSpec::SameLower => (span - span / 2, span / 2),
            _ => return Ok(None),
        };
        // As many positions out as in, and the output's own position under a tap.
        if before + after != span || !before.is_multiple_of(dilation) {
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
        if weight.len() != channels_in * channels_out * width || bias.len() != channels_out {
            return Ok(None);
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
        let mut residual = None;
        if let Some((next, other)) = self.reader::<Add>(output)
            && self.is_relu(other)
            && self.model.outlet_fact(other)?.shape == self.model.outlet_fact(output)?.shape
        {
            residual = Some(other);
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
        }
        let mut relu = false;
        if let Some(next) = self.relu(output) {
            relu = true;
            output = OutletId::new(next.id, 0);
            nodes.push(next.id);
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
            },
            weight,
            bias,
            residual,
            relu,
            output,
        };
        Ok(Some((step, nodes)))
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
        let mut relu = false;
        if let Some(next) = self.relu(output) {
            relu = true;
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
            relu,
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
