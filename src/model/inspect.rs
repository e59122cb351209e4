//! What a graph consists of, and how much memory a worker needs to run it.

use super::layers::TILE;
use super::manifest::Manifest;
use super::ops::layer::Layer;
use super::ops::scratch::ScratchBytes;
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;

/// One node of a graph, for `inspect`.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorRecord {
    /// The node's name.
    pub name: String,
    /// The operator's name.
    pub operator: String,
    /// True where it is ours.
    pub lowered: bool,
    /// Multiply-accumulates a position (a run, behind a pool).
    pub macs: u64,
    /// Bytes of its output for a whole tile.
    pub activation_bytes: u64,
    /// Scale of its output, where that is integer rows of one scale; without it and with a
    /// signal-to-noise ratio, each row has its own.
    pub output_scale: Option<f32>,
    /// Of the integer rows on the calibration data, in decibels.
    pub signal_to_noise: Option<f32>,
}

/// What the symbol of the length stands for in a tile: a graph with strides has a source of several
/// of it.
pub(super) fn symbol_value(model: &TypedModel, tile: usize) -> TractResult<usize> {
    let source = model.outlet_fact(model.input_outlets()?[0])?;
    let one = SymbolValues::default().with(&model.symbols.sym(TILE), 1);
    let stride = source.shape.volume().eval(&one).to_usize()?;
    ensure!(
        stride > 0 && tile.is_multiple_of(stride),
        "a tile of {tile} for strides of {stride}"
    );
    Ok(tile / stride)
}

/// The nodes of a graph, in order of evaluation.
pub(super) fn list_operators(
    model: &TypedModel,
    manifest: &Manifest,
) -> TractResult<Vec<OperatorRecord>> {
    let symbol = model.symbols.sym(TILE);
    let value = symbol_value(model, manifest.tile).unwrap_or(manifest.tile);
    let values = SymbolValues::default().with(&symbol, value as i64);
    let mut records = vec![];
    for id in model.eval_order()? {
        let node = model.node(id);
        if node.op_is::<Const>() || node.op_is::<TypedSource>() {
            continue;
        }
        let fact = &node.outputs[0].fact;
        let elements = fact.shape.volume().eval(&values).to_usize().unwrap_or(0);
        let layer = node.op_as::<Layer>();
        let record = layer.and_then(|layer| {
            let mut records = manifest.layers.iter();
            records.find(|record| record.name == layer.attributes.label)
        });
        records.push(OperatorRecord {
            name: node.name.clone(),
            operator: node.op.name().to_string(),
            lowered: layer.is_some(),
            macs: record.map_or(0, |record| record.macs),
            output_scale: record.and_then(|record| record.output_scale),
            signal_to_noise: record.and_then(|record| record.signal_to_noise),
            activation_bytes: elements.saturating_mul(fact.datum_type.size_of()) as u64,
        });
    }
    Ok(records)
}

/// Bytes of working memory for the layers of some graphs, for a tile: what one layer needs another
/// one takes over.
pub(super) fn scratch_bytes<'a>(
    graphs: impl IntoIterator<Item = &'a TypedModel>,
    tile: usize,
) -> usize {
    let nodes = graphs.into_iter().flat_map(|model| model.nodes());
    let layers = nodes.filter_map(|node| node.op_as::<Layer>());
    let sizes = layers.map(|layer| layer.scratch_bytes(tile));
    sizes.fold(ScratchBytes::default(), ScratchBytes::max).sum()
}

/// Bytes of the buffers of a runner that runs some graphs one after another, with all their outputs
/// kept to the end: each with its nodes in order of evaluation. `values` are what the symbols of
/// their shapes stand for.
pub(super) fn activation_bytes<'a>(
    graphs: impl IntoIterator<Item = (&'a TypedModel, &'a [usize])>,
    values: &SymbolValues,
) -> TractResult<usize> {
    let mut free = HashMap::new();
    let mut held = 0;
    for (model, order) in graphs {
        held += added(model, order, values, &mut free)?;
    }
    Ok(held)
}

/// Type, shape and halo of a buffer.
type Kind = (DatumType, TVec<usize>, usize);

/// Bytes of the buffers that a graph needs beyond those that are `free`.
fn added(
    model: &TypedModel,
    order: &[usize],
    values: &SymbolValues,
    free: &mut HashMap<Kind, usize>,
) -> TractResult<usize> {
    let mut last_read: HashMap<OutletId, usize> = HashMap::new();
    for (step, id) in order.iter().enumerate() {
        last_read.extend(model.node(*id).inputs.iter().map(|input| (*input, step)));
    }
    for output in model.output_outlets()? {
        last_read.insert(*output, order.len());
    }
    let mut live: Vec<(OutletId, Kind)> = vec![];
    let mut held = 0;
    for (step, id) in order.iter().enumerate() {
        let node = model.node(*id);
        if let Some(layer) = node.op_as::<Layer>() {
            let fact = &node.outputs[0].fact;
            let shape = fact.shape.eval_to_usize(values)?.into_owned();
            let bytes = shape.iter().product::<usize>() * fact.datum_type.size_of();
            let kind = (fact.datum_type, shape, layer.halo_rows());
            match free.get_mut(&kind).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => held += bytes,
            }
            live.push((OutletId::new(*id, 0), kind));
        }
        // An operator's inputs are held until its output is there.
        live.retain(|(outlet, kind)| {
            let needed = last_read.get(outlet).is_some_and(|last| *last > step);
            if !needed {
                *free.entry(kind.clone()).or_insert(0) += 1;
            }
            needed
        });
    }
    Ok(held)
}
