//! From an opened file to plans that run: the graph or, where there are tiers, its two stages, each
//! fixed to the tile and optimised once.

use super::file::ModelFile;
use super::inspect::{OperatorRecord, list_operators, symbol_value};
use super::layers::{self, Stages, TILE};
use super::manifest::{Cascade, LayerRecord, Manifest, Tier, Tokeniser};
use super::ops::form::Written;
use super::ops::layer::Layer;
use crate::kernels::Isa;
use tract_core::internal::*;
use tract_core::ops::source::TypedSource;

/// A graph and the order in which its nodes are evaluated.
pub(super) type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;

/// All that a model needs beside its file.
#[derive(Debug)]
pub(super) struct Built {
    /// What the tier shows of the file's.
    pub manifest: Manifest,
    pub plan: Arc<Plan>,
    pub second: Option<SecondStage>,
    /// True where an operator of tract's own needs tensors of the very length of the input.
    pub exact_length: bool,
    /// True where the output is a vector, not rows.
    pub pooled: bool,
    pub operators: Vec<OperatorRecord>,
    /// What the symbols of the shapes stand for in a whole tile.
    pub symbols: SymbolValues,
}

/// What is computed only where the first stage of the network asks for it.
#[derive(Debug)]
pub(super) struct SecondStage {
    pub plan: Arc<Plan>,
    pub tier: Tier,
    pub cascade: Cascade,
    /// Around a position that survives, for the call rule.
    pub around: usize,
}

/// Builds what a tier of a file takes, or all of it where it has none.
pub(super) fn build(file: &Arc<ModelFile>, isa: Isa, tier: Option<Tier>) -> TractResult<Built> {
    let own = file.manifest();
    if let (Some(tier), Some(cascade)) = (tier, &own.cascade) {
        return build_tier(file, isa, (tier, cascade));
    }
    let model = match layers::read(file)? {
        Some(model) => model,
        None => read_foreign(file)?,
    };
    let pooled = check_output(&model, own)?;
    let mut built = fix(model, own, isa)?;
    built.pooled = pooled;
    Ok(built)
}

fn build_tier(
    file: &Arc<ModelFile>,
    isa: Isa,
    (tier, cascade): (Tier, &Cascade),
) -> TractResult<Built> {
    let own = file.manifest();
    let Stages {
        mut first,
        second,
        in_second,
    } = layers::read_stages(file)?;
    let is_second = |layer: &LayerRecord| in_second.contains(&layer.name);
    let mut manifest = own.of_tier(tier);
    if tier == Tier::Fast {
        manifest.layers.retain(|layer| !is_second(layer));
    }
    let columns = |model: &TypedModel| -> TractResult<Option<usize>> {
        let shape = &model.outlet_fact(model.output_outlets()?[0])?.shape;
        Ok(shape.last().map(|d| d.to_usize()).transpose()?)
    };
    ensure!(
        columns(&first)? == Some(cascade.columns)
            && columns(&second)? == Some(own.outputs.len() - cascade.columns),
        "the outputs have other columns than the tiers in the manifest"
    );
    if tier == Tier::Fast {
        let output = first.output_outlets()?[0];
        first.select_output_outlets(&[output])?;
    }
    let mut built = fix(first, own, isa)?;
    built.manifest = manifest;
    if tier != Tier::Fast {
        let second = fix(second, own, isa)?;
        built.operators.extend(second.operators);
        built.second = Some(SecondStage {
            plan: second.plan,
            tier,
            cascade: cascade.clone(),
            around: own.outputs.iter().map(|o| o.separation).max().unwrap_or(0),
        });
    }
    Ok(built)
}

/// Fixes a graph to the tile, for one instruction set.
fn fix(mut model: TypedModel, manifest: &Manifest, isa: Isa) -> TractResult<Built> {
    for node in model.nodes_mut() {
        if let Some(layer) = node.op_as_mut::<Layer>() {
            layer.attributes.isa = isa;
        }
    }
    let sources = model.input_outlets()?;
    ensure!(sources.len() >= 2, "a graph of {} sources", sources.len());
    let source = model.outlet_fact(sources[0])?.datum_type;
    let symbol = model.symbols.sym(TILE);
    let value = symbol_value(&model, manifest.tile)?;
    let symbols = SymbolValues::default().with(&symbol, value as i64);
    let exact_length = !model.nodes().iter().all(is_ours);
    let model = if exact_length {
        model
    } else {
        model.set_symbols(&HashMap::from([(symbol, value.to_dim())]))?
    };
    let expected = match manifest.tokeniser {
        Tokeniser::Ids => u32::datum_type(),
        Tokeniser::OneHot => u8::datum_type(),
    };
    ensure!(
        source == expected,
        "a source of {source:?}, not {expected:?}"
    );
    let operators = list_operators(&model, manifest)?;
    Ok(Built {
        manifest: manifest.clone(),
        plan: SimplePlan::new(model.into_optimized()?)?,
        second: None,
        exact_length,
        pooled: false,
        operators,
        symbols,
    })
}

/// The graph of a file with operators of tract's own.
fn read_foreign(file: &Arc<ModelFile>) -> TractResult<TypedModel> {
    if let Some(reader) = crate::FOREIGN_GRAPHS {
        return reader.read(file);
    }
    let layers = &file.manifest().layers;
    let plain = layers
        .iter()
        .find(|layer| !layer.operator.starts_with("strandline_"));
    match plain {
        Some(LayerRecord { name, operator, .. }) => bail!(
            "{operator} ({name}) is an operator of tract's own: it needs a build with the \
             feature `pack`"
        ),
        None => bail!("operators of tract's own: it needs a build with the feature `pack`"),
    }
}

fn is_ours(node: &TypedNode) -> bool {
    node.op_is::<Layer>() || node.op_is::<TypedSource>()
}

/// The graph's outputs must have the columns that the manifest names; true where it is a vector.
fn check_output(model: &TypedModel, manifest: &Manifest) -> TractResult<bool> {
    let outputs = model.output_outlets()?;
    let (mut columns, mut pooled) = (0, false);
    for output in outputs {
        let fact = model.outlet_fact(*output)?;
        ensure!(
            fact.datum_type == f32::datum_type(),
            "an output of {fact:?}"
        );
        columns += fact.shape.last().map_or(Ok(0), |d| d.to_usize())?;
        pooled |= match model.node(output.node).op_as::<Layer>() {
            Some(layer) => layer.spec.operator().written() == Written::Vector,
            None => fact.rank() == 1,
        };
    }
    ensure!(
        columns == manifest.outputs.len(),
        "outputs of {columns} columns for {} in the manifest",
        manifest.outputs.len()
    );
    ensure!(
        outputs.len() == 1 || !pooled,
        "several outputs, one of them a vector"
    );
    let fits = manifest.is_raw() || pooled != manifest.is_scan();
    let form = if pooled { "a vector" } else { "rows" };
    ensure!(fits, "task {} with {form}", manifest.task);
    Ok(pooled)
}
