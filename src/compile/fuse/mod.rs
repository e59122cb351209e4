//! ONNX graphs, as exporters and quantisers write them, in the few operators that the lowering
//! knows.
//!
//! All of this happens on the ONNX file's own nodes, before tract reads them: there the patterns
//! are still what the exporter wrote. Recognised parts become nodes of the domain `strandline`,
//! which [`super::reference`] computes in tract; the rest stays as it is.
//!
//! | step | file |
//! | --- | --- |
//! | what a file must be, what its inputs mean | `inputs` |
//! | quantised files back to float | `qdq` |
//! | shapes and small integers in terms of the length T | `dim`, `shape` |
//! | constants folded, parts of the graph tried out | `tidy`, `probe` |
//! | reshapes, transposes, slices: which element of which source | `view` |
//! | linear layers, layer norms, pools, element by element | `rows`, `gelu` |
//! | attention, rotation by position, masks | `attention`, `rotary`, `mask` |
//! | tokens, positions, token types | `embed` |
//! | convolutions in two dimensions, channels last, upsampling | `conv` |

mod attention;
mod conv;
mod dim;
mod embed;
mod gelu;
mod inputs;
mod mask;
mod net;
mod probe;
mod qdq;
mod rotary;
mod rows;
mod shape;
#[cfg(test)]
mod tests;
mod tidy;
mod view;

use super::reference;
use crate::model::error::ModelError;
use crate::model::layers::TILE;
use dim::{Dim, Fact};
use net::Net;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_nnef::internal::*;
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};
use tract_onnx::prelude::{Framework, InferenceModelExt};

/// Lowest and highest value that a quantised file gives a tensor.
pub type Ranges = HashMap<String, (f32, f32)>;

/// Strides in all that a network may have.
const MOST_STRIDE: i64 = 65_536;

/// What a graph input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Bases, one-hot: f32 `[1, 4, T]`.
    OneHot,
    /// Token ids `[1, T]`.
    Ids,
    /// Which tokens are real, `[1, T]`. Not needed for a sequence without padding.
    Mask,
    /// Token types `[1, T]`; taken for zeros, which is what a single sequence has.
    Types,
    /// Indices of positions `[1, T]`; taken for 0, 1, 2 and so on.
    Positions,
}

/// A graph input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its meaning.
    pub meaning: Meaning,
    /// True where the file has it as `[1, T, 4]`; here it is `[1, 4, T]` all the same.
    pub transposed: bool,
    /// Its length, where the file fixes it.
    pub length: Option<usize>,
}

/// A float graph in the operators that the lowering knows, as far as they were recognised.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The graph; its length is the symbol T.
    pub proto: ModelProto,
    /// What a quantised file states of tensors, by their names in it; hints for calibration.
    pub ranges: Ranges,
    /// The inputs that the graph still reads, in order.
    pub inputs: Vec<Input>,
    /// Inputs of the file that the result does not depend on for a sequence without padding and of
    /// one type.
    pub dropped: Vec<Input>,
    /// What the length must be a multiple of, because of strided layers.
    pub stride: usize,
    /// Fused operators by kind, and how many.
    pub fused: BTreeMap<String, usize>,
    /// What looked like a pattern and was not understood, and why.
    pub notes: Vec<String>,
    name: String,
}

/// Why a file cannot be read.
#[derive(Debug)]
struct Fault {
    node: String,
    reason: String,
}

impl Fault {
    fn new(node: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault {
            node: node.into(),
            reason: reason.into(),
        }
    }
}

/// Reads an ONNX file.
///
/// # Errors
/// Where it is no ONNX, has inputs that are neither bases nor tokens, control flow, or quantisation
/// that is not understood; the error names the node.
pub fn read(path: &Path) -> Result<Imported, ModelError> {
    let file = path.display().to_string();
    let failed = |reason: String| ModelError::Graph {
        file: file.clone(),
        action: "reading the ONNX file",
        reason,
    };
    let proto = tract_onnx::onnx().proto_model_for_path(path);
    let proto = proto.map_err(|error| failed(format!("{error:#}")))?;
    let folder = path.parent().and_then(Path::to_str);
    // What was overlooked in a foreign file ends the file's reading, not the program.
    let read = catch_unwind(AssertUnwindSafe(|| import(proto, folder, &file)));
    let read = read.unwrap_or_else(|_| Err(Fault::new("the graph", "it could not be understood")));
    read.map_err(|fault| failed(format!("{}: {}", fault.node, fault.reason)))
}

/// Reads an ONNX model that is in memory; `folder` is where its external data lies, `name` what
/// errors call it.
fn import(mut proto: ModelProto, folder: Option<&str>, name: &str) -> Result<Imported, Fault> {
    let graph = proto
        .graph
        .take()
        .ok_or_else(|| Fault::new("the model", "it has no graph"))?;
    let default = |set: &&OperatorSetIdProto| set.domain.is_empty() || set.domain == "ai.onnx";
    let opset = proto
        .opset_import
        .iter()
        .find(default)
        .map_or(1, |set| set.version);
    inputs::check(&graph)?;
    let (mut net, inputs) = inputs::open(graph, opset, folder)?;
    let mut ranges = Ranges::new();
    // Products of scales must stay apart until the integers are gone.
    tidy::constants(&mut net, true);
    qdq::remove(&mut net, &mut ranges)?;
    tidy::drop_identities(&mut net);
    tidy::constants(&mut net, false);
    net.infer();
    let stride = divide_length(&mut net, &inputs)?;
    tidy::constants(&mut net, false);
    let mut notes = written_lengths(&net);
    fuse(&mut net, &mut notes)?;
    tidy::settle_shapes(&mut net);
    tidy::drop_views(&mut net);
    net.drop_dead();
    tidy::name_apart(&mut net);
    let read: HashSet<String> = net.nodes.iter().flat_map(|n| n.input.clone()).collect();
    let (inputs, dropped) = inputs.into_iter().partition(|i| read.contains(&i.name));
    let mut fused = BTreeMap::new();
    for node in &net.nodes {
        if let Some(kind) = node.op_type.strip_prefix(net::PREFIX) {
            *fused.entry(kind.to_string()).or_insert(0) += 1;
        }
    }
    net.inputs.retain(|i| read.contains(&i.name));
    proto.graph = Some(GraphProto {
        name: "graph".to_string(),
        node: net.nodes,
        initializer: net.constants.into_values().collect(),
        input: net.inputs,
        output: net.outputs,
        ..GraphProto::default()
    });
    proto.opset_import.push(OperatorSetIdProto {
        domain: net::DOMAIN.to_string(),
        version: 1,
    });
    proto.functions.clear();
    Ok(Imported {
        proto,
        ranges,
        inputs,
        dropped,
        stride,
        fused,
        notes,
        name: name.to_string(),
    })
}

/// The typed graph, constants propagated, not decluttered. `None` leaves the length open: it is
/// `stride` times the symbol `graph::TILE`, so that branches of different stride have lengths that
/// tract can tell to be equal.
///
/// # Errors
/// Where tract cannot read it, or the file fixes another length.
pub fn to_tract(imported: &Imported, length: Option<usize>) -> TractResult<TypedModel> {
    let build = || -> TractResult<TypedModel> {
        let mut model = reference::framework().model_for_proto_model(&imported.proto)?;
        let rows = match length {
            Some(length) => length.to_dim(),
            None => model.symbols.sym(TILE).to_dim() * imported.stride,
        };
        for (at, input) in imported.inputs.iter().enumerate() {
            let fact = match input.meaning {
                Meaning::OneHot => f32::fact([1.to_dim(), 4.to_dim(), rows.clone()]),
                _ => {
                    let rows = match (input.length, length) {
                        (Some(own), Some(asked)) if own != asked => {
                            bail!("{} has {own} tokens, not {asked}", input.name)
                        }
                        (Some(own), _) => own.to_dim(),
                        (None, _) => rows.clone(),
                    };
                    let stated = imported
                        .proto
                        .graph
                        .as_ref()
                        .and_then(|g| net::element_type(g.input.get(at)?));
                    stated.unwrap_or(DatumType::I64).fact([1.to_dim(), rows])
                }
            };
            model.set_input_fact(at, fact.into())?;
        }
        for output in 0..model.output_outlets()?.len() {
            model.set_output_fact(output, Default::default())?;
        }
        let mut model = model.into_typed()?;
        model.prop_consts()?;
        Ok(model)
    };
    // A graph is foreign input to tract's reader, which has places that panic.
    match catch_unwind(AssertUnwindSafe(build)) {
        Ok(built) => built,
        Err(_) => bail!("{}: tract could not read it", imported.name),
    }
}

impl Imported {
    /// The same graph for sequences without padding: masks are no longer read.
    pub fn unpadded(&self) -> Imported {
        let mut all = self.clone();
        let masks: Vec<Input> = self
            .inputs
            .iter()
            .filter(|i| i.meaning == Meaning::Mask)
            .cloned()
            .collect();
        let is_mask = |name: &String| masks.iter().any(|m| m.name == *name);
        let Some(graph) = all.proto.graph.as_mut() else {
            return all;
        };
        for node in graph
            .node
            .iter_mut()
            .filter(|n| n.op_type.starts_with(net::PREFIX))
        {
            if node.input.last().is_some_and(is_mask) {
                node.input.pop();
                node.attribute.retain(|a| a.name != "real");
            }
        }
        let used: HashSet<String> = graph.node.iter().flat_map(|n| n.input.clone()).collect();
        graph.input.retain(|i| used.contains(&i.name));
        let (kept, dropped) = all.inputs.into_iter().partition(|i| used.contains(&i.name));
        all.inputs = kept;
        all.dropped.extend::<Vec<Input>>(dropped);
        all
    }
}

/// Takes the length for a multiple of what strides divide it by; gives that multiple.
fn divide_length(net: &mut Net, inputs: &[Input]) -> Result<usize, Fault> {
    while let Some(factor) = shape::missing_factor(net).filter(|_| net.rows.fixed().is_none()) {
        let times = net
            .rows
            .times
            .checked_mul(factor)
            .filter(|&t| t <= MOST_STRIDE);
        let times = times.ok_or_else(|| {
            Fault::new(
                "the graph",
                format!("strides of more than {MOST_STRIDE} in all"),
            )
        })?;
        net.rows = Dim { times, plus: 0 };
        for input in inputs {
            let fact = Fact::shaped(
                inputs::stated(net.rows, input.meaning)
                    .into_iter()
                    .map(Some)
                    .collect(),
            );
            net.set_fact(&input.name, fact);
        }
        net.infer();
    }
    Ok(net.rows.times.max(1) as usize)
}

/// Reshapes that hold the length of the exporter's example, which is taken for any length.
fn written_lengths(net: &Net) -> Vec<String> {
    let reshapes = net.nodes.iter().filter(|n| n.op_type == "Reshape");
    let written = reshapes.filter_map(|n| {
        let from = net.fact(&n.input[0]).shape?;
        let to: Vec<Option<Dim>> = net
            .integers(&n.input[1])?
            .into_iter()
            .map(|d| Some(Dim::new(d)))
            .collect();
        if to.contains(&Some(Dim::new(0))) || to.contains(&Some(Dim::new(-1))) {
            return None;
        }
        let (at, dim) = shape::written_length(&from, &to)?;
        let length = to[at]?.fixed()? / dim.times;
        Some(format!(
            "{}: a length of {length} is written into the graph; taken for any length",
            rows::label(n)
        ))
    });
    written.collect()
}

fn fuse(net: &mut Net, notes: &mut Vec<String>) -> Result<(), Fault> {
    let rules = [
        rows::absorb,
        embed::absorb,
        rows::linear,
        rows::layer_norm,
        rows::written_norm,
        gelu::gelu,
        embed::embedding,
        rows::pool,
        mask::masked_mean,
        conv::absorb,
        conv::upsample,
        conv::flat,
        conv::untwist,
        conv::hoist,
        rows::hoist,
    ];
    let most = 20 * net.nodes.len() + 1000;
    let mut steps = 0;
    let mut at = 0;
    while at < net.nodes.len() {
        steps += 1;
        if steps > most {
            return Err(Fault::new(
                rows::label(&net.nodes[at]),
                "the graph's rewriting does not end",
            ));
        }
        // Its inputs may be known better than before.
        net.infer_node(at);
        if net.nodes[at].op_type.starts_with(net::PREFIX)
            && net.nodes[at].op_type != "strandline.Gelu"
        {
            at += 1;
            continue;
        }
        let mut new = rules.iter().find_map(|rule| rule(net, at));
        if new.is_none() {
            match attention::attention(net, at) {
                Ok(found) => new = found,
                Err(reason) => notes.push(format!(
                    "{}: attention was not recognised: {reason}",
                    rows::label(&net.nodes[at])
                )),
            }
        }
        match new {
            Some(new) => net.replace(at, new),
            None => at += 1,
        }
    }
    net.drop_dead();
    Ok(())
}
