//! The graph of a network that is lowered whole: its layers in order of evaluation, as JSON in the
//! tensor `graph.json`.
//!
//! Reading it costs microseconds where tract's parser of NNEF, which a graph with operators of
//! tract's own needs, costs milliseconds: a process should not wait for its models.

use super::file::{GRAPH_JSON, ModelFile};
use super::manifest::{Precision, Tokeniser};
use super::ops::layer::Layer;
use super::ops::spec::Spec;
use crate::kernels::pool::Pooling;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tract_core::internal::*;

/// The symbol that a graph's text uses for the tile's length.
pub(crate) const TILE: &str = "T";

/// The name of the first source: codes or token ids.
pub(crate) const INPUT: &str = "codes";

/// The name of the second source.
pub(crate) const LENGTH: &str = "length";

/// The names of two more, of a network that reads cells: one number and one flag a token.
pub(crate) const VALUES: &str = "values";
pub(crate) const FLAGS: &str = "flags";

/// Most layers of a graph.
const MOST: usize = 1 << 16;

/// The layers of a network, as the compiler writes them and a file holds them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerGraph {
    /// Zero rows at each end of every buffer.
    pub(crate) halo: usize,
    /// Positions for one of the symbol of the length.
    pub(crate) stride: usize,
    /// In order of evaluation.
    pub(crate) layers: Vec<LayerEntry>,
    /// Labels of the layers whose rows, side by side, are the output; none for the last layer
    /// alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<String>,
}

/// One layer of the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerEntry {
    /// The name of its output, and the prefix of its tensors.
    pub(crate) label: String,
    /// Of its weights.
    pub(crate) precision: Precision,
    /// `codes`, `length`, `values`, `flags`, or the label of an earlier layer.
    pub(crate) inputs: Vec<String>,
    /// What it does.
    pub(crate) spec: Spec,
}

/// Builds the graph of a file, or gives nothing where it has one in NNEF.
pub(super) fn read(file: &ModelFile) -> TractResult<Option<TypedModel>> {
    let Some(graph) = parse(file)? else {
        return Ok(None);
    };
    let mut builder = Builder::new(file, &graph)?;
    builder.first = graph.first_rows()?;
    for entry in &graph.layers {
        builder.add(entry, None)?;
    }
    let outputs = builder.outlets(&graph.outputs()?)?;
    builder.model.select_output_outlets(&outputs)?;
    Ok(Some(builder.model))
}

/// A graph of two outputs in two stages.
pub(super) struct Stages {
    /// What the first output needs. It gives that, and behind it whatever the second stage reads.
    pub first: TypedModel,
    /// The rest. It reads codes, length, and what the first stage gives behind its output.
    pub second: TypedModel,
    /// Labels of its layers.
    pub in_second: Vec<String>,
}

/// Builds the graph of a file with two outputs in stages.
pub(super) fn read_stages(file: &ModelFile) -> TractResult<Stages> {
    let graph = parse(file)?.context("tiers need a network that is lowered whole")?;
    let outputs = graph.outputs()?;
    let [early, late] = &*outputs else {
        bail!("tiers need two outputs, there are {}", outputs.len());
    };
    let in_first = graph.needed_by(early);
    let is_first = |entry: &&LayerEntry| in_first.contains(entry.label.as_str());
    let is_second = |entry: &&LayerEntry| !in_first.contains(entry.label.as_str());
    let mut first = Builder::new(file, &graph)?;
    for entry in graph.layers.iter().filter(is_first) {
        first.add(entry, None)?;
    }
    let mut shared: Vec<String> = vec![];
    for name in graph
        .layers
        .iter()
        .filter(is_second)
        .flat_map(|entry| &entry.inputs)
    {
        let produced = name != INPUT && name != LENGTH && in_first.contains(name.as_str());
        if produced && !shared.contains(name) {
            shared.push(name.clone());
        }
    }
    // How far from a row of the output the rows of each layer are still needed.
    let mut spread: HashMap<&str, usize> = HashMap::from([(late.as_str(), 0)]);
    for entry in graph.layers.iter().filter(is_second).rev() {
        let own = *spread.entry(&entry.label).or_insert(0);
        let reach = entry.spec.operator().reach();
        for input in &entry.inputs {
            let of = spread.entry(input).or_insert(0);
            *of = own.saturating_add(reach).max(*of);
        }
    }
    let mut second = Builder::new(file, &graph)?;
    second.model.symbols = first.model.symbols.clone();
    for (name, outlet) in shared.iter().zip(first.outlets(&shared)?) {
        let fact = first.model.outlet_fact(outlet)?.clone();
        let outlet = second.model.add_source(name, fact.without_value())?;
        second.values.insert(name.clone(), outlet);
    }
    for entry in graph.layers.iter().filter(is_second) {
        // Rows are asked for by their number in the output.
        ensure!(
            entry.spec.operator().keeps_rows(),
            "layer {}: tiers, and its rows are not those of the input",
            entry.label
        );
        second.add(entry, spread.get(entry.label.as_str()).copied())?;
    }
    let wanted: Vec<String> = std::iter::once(early.clone()).chain(shared).collect();
    let outlets = first.outlets(&wanted)?;
    first.model.select_output_outlets(&outlets)?;
    let outlets = second.outlets(std::slice::from_ref(late))?;
    second.model.select_output_outlets(&outlets)?;
    let in_second = graph.layers.iter().filter(is_second);
    Ok(Stages {
        in_second: in_second.map(|entry| entry.label.clone()).collect(),
        first: first.model,
        second: second.model,
    })
}

pub(super) fn parse(file: &ModelFile) -> TractResult<Option<LayerGraph>> {
    let Some(text) = file.graph_json() else {
        return Ok(None);
    };
    let graph: LayerGraph = serde_json::from_slice(text).map_err(|e| {
        format_err!(
            "{GRAPH_JSON}: line {}, column {}: {e}",
            e.line(),
            e.column()
        )
    })?;
    ensure!(graph.layers.len() <= MOST, "{} layers", graph.layers.len());
    for LayerEntry {
        label,
        precision,
        spec,
        ..
    } in &graph.layers
    {
        spec.validate(*precision, graph.halo)
            .map_err(|reason| format_err!("layer {label}: {reason}"))?;
    }
    let tile = file.manifest().tile;
    let strides = 1..=tile.max(1);
    ensure!(
        strides.contains(&graph.stride),
        "{GRAPH_JSON}: a stride of {}",
        graph.stride
    );
    Ok(Some(graph))
}

impl LayerGraph {
    /// A layer, and all that it reads, directly or through others.
    pub(super) fn needed_by<'a>(&'a self, label: &'a str) -> HashSet<&'a str> {
        let mut needed = HashSet::from([label]);
        for entry in self.layers.iter().rev() {
            if needed.contains(entry.label.as_str()) {
                needed.extend(entry.inputs.iter().map(String::as_str));
            }
        }
        needed
    }

    /// Labels of the layers of which only the first row is read in the end: those between the last
    /// attention and a pool that keeps the first token.
    fn first_rows(&self) -> TractResult<HashSet<String>> {
        let outputs = self.outputs()?;
        // Of each layer so far, whether everything that reads it needs its first row alone.
        let mut first: HashMap<&str, bool> = HashMap::new();
        let mut found = HashSet::new();
        for entry in self.layers.iter().rev() {
            let label = entry.label.as_str();
            let own = first.get(label).copied().unwrap_or(false) && !outputs.contains(&entry.label);
            let pool = matches!(&entry.spec, Spec::Pool(pool) if pool.pooling == Pooling::First);
            let attention = matches!(&entry.spec, Spec::Attention(_));
            if own && (attention || entry.spec.is_by_row()) {
                found.insert(label.to_string());
            }
            for (slot, input) in entry.inputs.iter().enumerate() {
                // Queries are the rows of an attention's output; keys and values are all needed.
                let by_row = entry.spec.is_by_row() || (attention && slot == 0);
                let reads_first = pool || (own && by_row);
                let all = first.entry(input.as_str()).or_insert(true);
                *all &= reads_first;
            }
        }
        Ok(found)
    }

    /// Labels of the layers whose rows are the output.
    pub(super) fn outputs(&self) -> TractResult<Vec<String>> {
        if !self.outputs.is_empty() {
            return Ok(self.outputs.clone());
        }
        let last = self.layers.last().context("a graph without layers")?;
        Ok(vec![last.label.clone()])
    }
}

/// A graph of tract's that grows layer by layer.
struct Builder<'a> {
    file: &'a ModelFile,
    halo: usize,
    model: TypedModel,
    values: HashMap<String, OutletId>,
    /// Labels of layers of which only the first row is read.
    first: HashSet<String>,
}

impl<'a> Builder<'a> {
    fn new(file: &'a ModelFile, graph: &LayerGraph) -> TractResult<Builder<'a>> {
        let mut model = TypedModel::default();
        let rows = model.symbols.sym(TILE).to_dim() * graph.stride as i64;
        let tokeniser = file.manifest().tokeniser;
        let fact = match tokeniser {
            Tokeniser::OneHot => u8::fact([rows.clone()]),
            _ => u32::fact([rows.clone()]),
        };
        let mut values = HashMap::new();
        values.insert(INPUT.to_string(), model.add_source(INPUT, fact)?);
        let length = model.add_source(LENGTH, i64::fact::<&[usize]>(&[]))?;
        values.insert(LENGTH.to_string(), length);
        for (name, fact) in [
            (VALUES, f32::fact([rows.clone()])),
            (FLAGS, u32::fact([rows])),
        ] {
            // A source that nothing reads would keep its value in a run.
            let mut inputs = graph.layers.iter().flat_map(|entry| &entry.inputs);
            if tokeniser == Tokeniser::Genes && inputs.any(|input| input == name) {
                values.insert(name.to_string(), model.add_source(name, fact)?);
            }
        }
        Ok(Builder {
            file,
            halo: graph.halo,
            model,
            values,
            first: HashSet::new(),
        })
    }

    fn add(&mut self, entry: &LayerEntry, spread: Option<usize>) -> TractResult<()> {
        let label = &entry.label;
        let inputs = self
            .outlets(&entry.inputs)
            .with_context(|| format!("layer {label}"))?;
        let (spec, precision) = (entry.spec.clone(), entry.precision);
        let mut layer = Layer::load(self.file, spec, precision, self.halo, label)?;
        layer.attributes.spread = spread;
        layer.attributes.first = self.first.contains(label);
        let outlet = self.model.wire_node(label, layer, &inputs)?[0];
        let earlier = self.values.insert(label.clone(), outlet);
        ensure!(earlier.is_none(), "two layers are called {label:?}");
        Ok(())
    }

    fn outlets(&self, names: &[String]) -> TractResult<Vec<OutletId>> {
        let found = names.iter().map(|name| {
            let found = self.values.get(name).copied();
            found.with_context(|| format!("it reads {name:?}, which no layer before it gives"))
        });
        found.collect()
    }
}
