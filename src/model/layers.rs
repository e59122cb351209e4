//! The graph of a network that is lowered whole: its layers in order of evaluation, as JSON in the tensor `graph.json`.
//!
//! Reading it costs microseconds where tract's parser of NNEF, which a graph with operators of tract's own needs, costs milliseconds: a
//! process should not wait for its models.

use super::file::{GRAPH_JSON, ModelFile};
use super::graph::{INPUT, LENGTH, TILE};
use super::manifest::Precision;
use super::ops::{Layer, Spec};
use super::registry;
use serde::{Deserialize, Serialize};
use tract_nnef::internal::*;

/// Most layers of a graph.
const MOST: usize = 1 << 16;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    /// Zero rows at each end of every buffer.
    halo: usize,
    /// Positions for one of the symbol of the length.
    stride: usize,
    layers: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    label: String,
    precision: Precision,
    /// `codes`, `length`, or the label of an earlier layer.
    inputs: Vec<String>,
    spec: Spec,
}

/// Writes a graph that consists of our layers alone; the last one gives its output.
pub(super) fn write(model: &TypedModel, stride: usize) -> TractResult<Vec<u8>> {
    let mut graph = Graph {
        halo: 0,
        stride,
        layers: vec![],
    };
    for id in model.eval_order()? {
        let node = model.node(id);
        let Some(layer) = node.op_as::<Layer>() else {
            continue;
        };
        graph.halo = layer.halo;
        let inputs = node.inputs.iter();
        graph.layers.push(Entry {
            label: layer.label.clone(),
            precision: layer.precision,
            inputs: inputs
                .map(|input| model.node(input.node).name.clone())
                .collect(),
            spec: layer.spec.clone(),
        });
    }
    let output = model.output_outlets()?[0].node;
    let last = graph.layers.last().map(|layer| &layer.label);
    ensure!(
        last == Some(&model.node(output).name),
        "the output is not the last layer"
    );
    Ok(serde_json::to_vec(&graph)?)
}

/// Builds the graph of a file, or gives nothing where it has one in NNEF.
pub(super) fn read(file: &ModelFile) -> TractResult<Option<TypedModel>> {
    let Some(text) = file.graph_json() else {
        return Ok(None);
    };
    let graph: Graph = serde_json::from_slice(text).map_err(|e| {
        format_err!(
            "{GRAPH_JSON}: line {}, column {}: {e}",
            e.line(),
            e.column()
        )
    })?;
    ensure!(graph.layers.len() <= MOST, "{} layers", graph.layers.len());
    let tile = file.manifest().tile;
    let strides = 1..=tile.max(1);
    ensure!(
        strides.contains(&graph.stride),
        "{GRAPH_JSON}: a stride of {}",
        graph.stride
    );
    let mut model = TypedModel::default();
    let length = model.symbols.sym(TILE).to_dim() * graph.stride as i64;
    let fact = match file.manifest().tokeniser == "ids" {
        true => u32::fact([length]),
        false => u8::fact([length]),
    };
    let mut values = HashMap::new();
    values.insert(INPUT.to_string(), model.add_source(INPUT, fact)?);
    let length = model.add_source(LENGTH, i64::fact::<&[usize]>(&[]))?;
    values.insert(LENGTH.to_string(), length);
    let mut last = None;
    for entry in graph.layers {
        let mut inputs: TVec<OutletId> = tvec!();
        for name in &entry.inputs {
            let found = values.get(name).copied();
            inputs.push(found.with_context(|| format!("layer {} reads {name:?}", entry.label))?);
        }
        let label = entry.label;
        let layer = registry::layer(
            file,
            entry.spec,
            entry.precision,
            graph.halo,
            &label,
            inputs.len(),
        )?;
        let outlet = model.wire_node(&label, layer, &inputs)?[0];
        let taken = values.insert(label.clone(), outlet);
        ensure!(taken.is_none(), "two layers are called {label:?}");
        last = Some(outlet);
    }
    let output = last.context("a graph without layers")?;
    model.select_output_outlets(&[output])?;
    Ok(Some(model))
}
