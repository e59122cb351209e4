//! From an opened file to plans that run: the graph or, where there are tiers, its two stages, each
//! fixed to the tile once.

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
    /// True where every layer keeps sequences side by side apart.
    pub keeps_apart: bool,
    pub operators: Vec<OperatorRecord>,
    /// What the symbols of the shapes stand for in a whole tile.
    pub symbols: SymbolValues,
}

/// What is computed only where the first stage of the network asks for it.
#[derive(Debug, Clone)]
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
    for model in [&first, &second] {
        let (input, output) = (model.input_outlets()?[0], model.output_outlets()?[0]);
        let (positions, rows) = (some_rows(model, input)?, some_rows(model, output)?);
        ensure!(
            positions == rows,
            "tiers, and an output of {rows} rows for {positions} positions"
        );
    }
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

/// Rows of a value for a tile of some length, which is a multiple of what strides divide it by.
fn some_rows(model: &TypedModel, outlet: OutletId) -> TractResult<i64> {
    let rows = model.outlet_fact(outlet)?.shape.first();
    let rows = rows.context("a value of rank 0")?;
    let mut values = SymbolValues::default();
    for symbol in rows.symbols() {
        values.set(&symbol, 1 << 12);
    }
    Ok(rows.eval(&values).to_i64()?)
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
    ensure!(
        !(exact_length && manifest.cells.is_some()),
        "a network that reads cells has operators of tract's own"
    );
    let keeps_apart = !exact_length && model.nodes().iter().all(keeps_apart);
    let model = if exact_length {
        model
    } else {
        model.set_symbols(&HashMap::from([(symbol, value.to_dim())]))?
    };
    let expected = match manifest.tokeniser {
        Tokeniser::OneHot => u8::datum_type(),
        _ => u32::datum_type(),
    };
    ensure!(
        source == expected,
        "a source of {source:?}, not {expected:?}"
    );
    let operators = list_operators(&model, manifest)?;
    // In a graph of our layers there is nothing to improve.
    let model = match crate::FOREIGN_GRAPHS.filter(|_| exact_length) {
        Some(compiler) => compiler.optimise(model)?,
        None => model,
    };
    Ok(Built {
        manifest: manifest.clone(),
        plan: SimplePlan::new(model)?,
        second: None,
        exact_length,
        pooled: false,
        keeps_apart,
        operators,
        symbols,
    })
}

/// The graph of a file with operators of tract's own.
fn read_foreign(file: &Arc<ModelFile>) -> TractResult<TypedModel> {
    if let Some(reader) = crate::FOREIGN_GRAPHS {
        return reader.read(file);
    }
    match first_foreign(file) {
        Some(LayerRecord { name, operator, .. }) => bail!(
            "{operator} ({name}) is an operator of tract's own: it needs a build with the \
             feature `pack`"
        ),
        None => bail!("operators of tract's own: it needs a build with the feature `pack`"),
    }
}

/// The first operator on record that is no layer of ours. Fused ones that were not lowered bear
/// names like those of our layers; only layers have a label in the graph's text.
fn first_foreign(file: &ModelFile) -> Option<&LayerRecord> {
    let text = file.graph().ok()?;
    let is_layer = |name: &str| text.contains(&format!("label = \"{name}\""));
    let mut layers = file.manifest().layers.iter();
    layers.find(|layer| !is_layer(&layer.name))
}

fn is_ours(node: &TypedNode) -> bool {
    node.op_is::<Layer>() || node.op_is::<TypedSource>()
}

fn keeps_apart(node: &TypedNode) -> bool {
    let layer = node.op_as::<Layer>();
    layer.is_none_or(|layer| layer.spec.operator().keeps_apart())
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
    let cells = manifest.cells.is_some();
    let fits = manifest.is_raw() || cells || pooled != manifest.is_scan();
    let form = if pooled { "a vector" } else { "rows" };
    ensure!(fits, "task {} with {form}", manifest.task);
    Ok(pooled)
}

#[cfg(all(test, feature = "pack"))]
mod tests {
    use super::*;
    use crate::annotate::{Task, builtin};
    use crate::compile::check::Check;
    use crate::compile::pack::pack;
    use crate::model::file::{GRAPH, TensorData, serialize};
    use crate::model::manifest::{Context, Precision};
    use crate::model::map::Bytes;
    use safetensors::tensor::Dtype;
    use std::path::Path;

    fn manifest() -> Manifest {
        let manifest = builtin::file(Task::Splice).unwrap().manifest().clone();
        Manifest {
            context: Context { left: 8, right: 8 },
            tile: 256,
            precision: Precision::F32,
            layers: vec![],
            ..manifest.of_tier(Tier::Fast)
        }
    }

    #[test]
    fn the_first_operator_that_is_not_ours_is_found() {
        for name in ["softsign_end", "softsign_between"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = path.join(format!("tests/data/{name}.onnx"));
            let samples = [(0..32).map(|t| t % 4).collect()];
            let packed = pack(&path, &manifest(), &samples, Check::Precision).unwrap();
            assert!(packed.model.manifest().layers.len() > packed.plain.len());
            let found = first_foreign(packed.model.file()).unwrap();
            assert!(packed.plain[0].contains(&found.operator), "{found:?}");
        }
    }

    #[test]
    fn fused_operators_that_were_not_lowered_are_not_ours() {
        let record = |name: &str, operator: &str| LayerRecord {
            name: name.to_string(),
            operator: operator.to_string(),
            precision: Precision::F32.to_string(),
            output_scale: None,
            signal_to_noise: None,
            macs: 0,
        };
        let own = record("n_a", "strandline_linear");
        let fused = record("n_b", "strandline_linear");
        let manifest = Manifest {
            layers: vec![own, fused.clone()],
            ..manifest()
        };
        let text = "n_a = strandline_layer(inputs = [codes, length], label = \"n_a\");\n\
            n_b = strandline_reference(inputs = [n_a], operator = \"linear\");";
        let graph = TensorData {
            name: GRAPH.to_string(),
            dtype: Dtype::U8,
            shape: vec![text.len()],
            data: text.into(),
        };
        let bytes = serialize(&manifest, vec![graph]).unwrap();
        let file = ModelFile::parse(Bytes::copy_of(&bytes).unwrap(), "fused").unwrap();
        assert_eq!(first_foreign(&file), Some(&fused));
    }
}
