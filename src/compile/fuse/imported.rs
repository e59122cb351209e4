//! A float graph after its rewriting, and as tract has it.

use super::crop::Crop;
use super::meaning::{Input, Meaning};
use super::node;
use super::qdq::Ranges;
use crate::compile::reference;
use crate::model::layers::TILE;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::array::StridedSlice;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::InferenceModelExt;

/// A float graph in the operators that the lowering knows, as far as they were recognised.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The graph; its length is the symbol T.
    pub proto: ModelProto,
    /// What a quantised file states of tensors, by their names in it. Reported only:
    /// calibration measures for itself.
    pub ranges: Ranges,
    /// The inputs that the graph still reads, in order.
    pub inputs: Vec<Input>,
    /// Inputs of the file that the result does not depend on for a sequence without padding and of
    /// one type.
    pub dropped: Vec<Input>,
    /// What the length must be a multiple of, because of strided layers.
    pub stride: usize,
    /// True where the file holds operators that round, before it was brought back to float.
    pub quantised: bool,
    /// Positions at the beginning and at the end for which the file's own graph gives no row.
    pub crop: Crop,
    /// Fused operators by kind, and how many.
    pub fused: BTreeMap<String, usize>,
    /// What looked like a pattern and was not understood, and why.
    pub notes: Vec<String>,
    /// What errors call the file.
    pub name: String,
}

/// The typed graph, constants propagated, not decluttered. `None` leaves the length open: it is
/// `stride` times the symbol [`TILE`], so that branches of different stride have lengths that
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
                        .and_then(|g| node::element_type(g.input.get(at)?));
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
        settle_slices(&mut model)?;
        Ok(model)
    };
    // A graph is foreign input to tract's reader, which has places that panic.
    match catch_unwind(AssertUnwindSafe(build)) {
        Ok(built) => built,
        Err(_) => bail!("{}: tract could not read it", imported.name),
    }
}

/// Slices whose bounds are known by now, as operators that can be written to a file.
fn settle_slices(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let node = model.node(id);
        if node.op_is::<StridedSlice>()
            && let Some(patch) = node.op.declutter(model, node)?
        {
            patch.apply(model)?;
        }
    }
    Ok(())
}

impl Imported {
    /// The same graph for sequences without padding: masks are no longer read.
    pub fn unpadded(self) -> Imported {
        let mut all = self;
        let masks: Vec<Input> = all
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
            .filter(|n| n.op_type.starts_with(node::PREFIX))
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
