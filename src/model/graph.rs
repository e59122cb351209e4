//! A model that runs: the file's graph, read into tract, fixed to a tile and optimised once; then
//! one [`Runner`](super::runner::Runner) a worker.

use super::error::ModelError;
use super::file::ModelFile;
use super::layers::Stages;
use super::manifest::{LayerRecord, Manifest, Tier};
use super::map::Bytes;
use super::ops::spec::Written;
use super::ops::{Layer, arena};
use super::runner::Second;
use crate::kernels::Isa;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_core::internal::*;

/// The symbol that a graph's text uses for the tile's length.
pub const TILE: &str = "T";

/// The name of the first source: base codes or token ids.
pub const INPUT: &str = "codes";

/// The name of the second source.
pub const LENGTH: &str = "length";

pub(super) type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;

/// An immutable model: share it in an `Arc`, and spawn a [`Runner`](super::runner::Runner) for each
/// worker.
#[derive(Debug)]
pub struct Model {
    pub(super) file: Arc<ModelFile>,
    /// What the tier shows of the file's.
    pub(super) manifest: Manifest,
    pub(super) plan: Arc<Plan>,
    /// The rest of the network, where there are tiers, and not for the fast one.
    pub(super) second: Option<Arc<Second>>,
    /// True where an operator of tract's own needs tensors of the very length of the input.
    pub(super) exact_length: bool,
    /// True where the output is a vector, not rows.
    pub(super) pooled: bool,
    pub(super) operators: Vec<OperatorRecord>,
    /// What the symbols of the shapes stand for in a whole tile.
    pub(super) symbols: SymbolValues,
}

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

impl Model {
    /// Maps a model file, checks it and builds its graph.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        Model::build(ModelFile::open(path)?)
    }

    /// The same for what a tier of the file takes; see [`Model::build_tier`].
    pub fn open_tier(path: &Path, tier: Tier) -> Result<Model, ModelError> {
        Model::build_tier(ModelFile::open(path)?, tier)
    }

    /// Builds the model that `bytes` hold; `name` is what errors call it.
    pub fn from_bytes(bytes: Arc<Bytes>, name: &str) -> Result<Model, ModelError> {
        Model::build(ModelFile::parse(bytes, name)?)
    }

    /// Builds the graph of an opened file.
    pub fn build(file: ModelFile) -> Result<Model, ModelError> {
        Model::build_on(file, Isa::selected())
    }

    /// Builds the graph of an opened file for one of [`Isa::available`].
    pub fn build_on(file: ModelFile, isa: Isa) -> Result<Model, ModelError> {
        Model::build_as(file, isa, None)
    }

    /// Builds what a tier of an opened file takes, or all of it where it has none. The manifest is
    /// the tier's own then.
    pub fn build_tier(file: ModelFile, tier: Tier) -> Result<Model, ModelError> {
        Model::build_as(file, Isa::selected(), Some(tier))
    }

    fn build_as(file: ModelFile, isa: Isa, tier: Option<Tier>) -> Result<Model, ModelError> {
        let file = Arc::new(file);
        let failed = |reason: String| ModelError::Graph {
            file: file.name().to_string(),
            action: "building the graph",
            reason,
        };
        // A graph's text is foreign input to tract's parser, which has places that panic.
        let built = catch_unwind(AssertUnwindSafe(|| build_plan(&file, isa, tier)));
        let built = match built {
            Ok(Ok(built)) => built,
            Ok(Err(error)) => return Err(failed(format!("{error:#}"))),
            Err(_) => return Err(failed("tract could not read it".to_string())),
        };
        Ok(Model {
            file,
            manifest: built.manifest,
            plan: built.plan,
            second: built.second.map(Arc::new),
            exact_length: built.exact_length,
            pooled: built.pooled,
            operators: built.operators,
            symbols: built.symbols,
        })
    }

    /// The file it was built from.
    pub fn file(&self) -> &ModelFile {
        &self.file
    }

    /// Its manifest: the file's, or what the tier shows of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The nodes of its graph, in order of evaluation.
    pub fn operators(&self) -> &[OperatorRecord] {
        &self.operators
    }

    /// The graphs that a worker runs, in their order.
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        let second = self.second.iter().map(|second| &*second.plan);
        std::iter::once(&*self.plan).chain(second)
    }

    /// Bytes of the buffers that a worker's layers write to, for a whole tile: as many as live at
    /// the same time, by type and shape; of a network of two parts at most that many. Operators of
    /// tract's own come on top, and allocate theirs in each run.
    ///
    /// # Errors
    /// Where a shape depends on more than the length.
    pub fn activation_bytes(&self) -> Result<usize, ModelError> {
        let graphs = self.plans();
        let graphs = graphs.map(|plan| (plan.model(), plan.order_without_consts()));
        let bytes = arena::predicted(graphs, &self.symbols);
        bytes.map_err(|error| self.error("measuring", &error))
    }

    /// Bytes of working memory that a worker's int8 layers keep beside their outputs, for a whole
    /// tile: bases as rows, and what attention needs.
    pub fn scratch_bytes(&self) -> usize {
        let nodes = self.plans().flat_map(|plan| plan.model().nodes());
        let layers = nodes.filter_map(|node| node.op_as::<Layer>());
        let tile = self.manifest().tile;
        // Each kind is kept once a thread, as large as the largest layer needs it.
        let sizes = layers.map(|layer| layer.scratch_bytes(tile));
        let (bases, attention) = sizes.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        bases + attention
    }

    pub(super) fn error(&self, action: &'static str, error: &TractError) -> ModelError {
        ModelError::Graph {
            file: self.file.name().to_string(),
            action,
            reason: format!("{error:#}"),
        }
    }
}

struct Built {
    manifest: Manifest,
    plan: Arc<Plan>,
    second: Option<Second>,
    exact_length: bool,
    pooled: bool,
    operators: Vec<OperatorRecord>,
    symbols: SymbolValues,
}

fn build_plan(file: &Arc<ModelFile>, isa: Isa, tier: Option<Tier>) -> TractResult<Built> {
    let own = file.manifest();
    if let (Some(tier), Some(cascade)) = (tier, &own.cascade) {
        let Stages {
            mut first,
            second,
            in_second,
        } = super::layers::read_stages(file)?;
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
        let mut built = plan(first, own, isa)?;
        built.manifest = manifest;
        if tier != Tier::Fast {
            let second = plan(second, own, isa)?;
            built.operators.extend(second.operators);
            built.second = Some(Second {
                plan: second.plan,
                tier,
                cascade: cascade.clone(),
                around: own.outputs.iter().map(|o| o.separation).max().unwrap_or(0),
            });
        }
        return Ok(built);
    }
    let model = match super::layers::read(file)? {
        Some(model) => model,
        None => read_foreign(file)?,
    };
    let pooled = check_output(&model, own)?;
    let mut built = plan(model, own, isa)?;
    built.pooled = pooled;
    Ok(built)
}

/// Fixes a graph to the tile, for one instruction set.
fn plan(mut model: TypedModel, manifest: &Manifest, isa: Isa) -> TractResult<Built> {
    for node in model.nodes_mut() {
        if let Some(layer) = node.op_as_mut::<Layer>() {
            layer.isa = isa;
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
    let wanted = match manifest.tokeniser == "ids" {
        true => u32::datum_type(),
        false => u8::datum_type(),
    };
    ensure!(source == wanted, "a source of {source:?}, not {wanted:?}");
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

/// What the symbol of the length stands for in a tile: a graph with strides has a source of several
/// of it.
fn symbol_value(model: &TypedModel, tile: usize) -> TractResult<usize> {
    let source = model.outlet_fact(model.input_outlets()?[0])?;
    let one = SymbolValues::default().with(&model.symbols.sym(TILE), 1);
    let stride = source.shape.volume().eval(&one).to_usize()?;
    ensure!(
        stride > 0 && tile.is_multiple_of(stride),
        "a tile of {tile} for strides of {stride}"
    );
    Ok(tile / stride)
}

fn is_ours(node: &TypedNode) -> bool {
    node.op_is::<Layer>() || node.op_is::<tract_core::ops::source::TypedSource>()
}

fn list_operators(model: &TypedModel, manifest: &Manifest) -> TractResult<Vec<OperatorRecord>> {
    let symbol = model.symbols.sym(TILE);
    let value = symbol_value(model, manifest.tile).unwrap_or(manifest.tile);
    let values = SymbolValues::default().with(&symbol, value as i64);
    let mut records = vec![];
    for id in model.eval_order()? {
        let node = model.node(id);
        let constant = node.op_is::<tract_core::ops::konst::Const>();
        if constant || node.op_is::<tract_core::ops::source::TypedSource>() {
            continue;
        }
        let fact = &node.outputs[0].fact;
        let elements = fact.shape.volume().eval(&values).to_usize().unwrap_or(0);
        let layer = node.op_as::<Layer>();
        let record = layer.and_then(|layer| {
            let mut records = manifest.layers.iter();
            records.find(|record| record.name == layer.label)
        });
        records.push(OperatorRecord {
            name: node.name.clone(),
            operator: node.op.name().to_string(),
            lowered: layer.is_some(),
            macs: record.map_or(0, |record| record.macs),
            output_scale: record.and_then(|record| record.output_scale),
            signal_to_noise: record.and_then(|record| record.signal_to_noise),
            activation_bytes: (elements * fact.datum_type.size_of()) as u64,
        });
    }
    Ok(records)
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
            Some(layer) => layer.spec.written() == Written::Vector,
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
    ensure!(
        fits,
        "task {} with {}",
        manifest.task,
        if pooled { "a vector" } else { "rows" }
    );
    Ok(pooled)
}
