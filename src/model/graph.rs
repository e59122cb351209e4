//! A model that runs: the file's graph, read into tract, fixed to a tile and optimised once; then one [`Runner`] a worker.

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::{Manifest, Task};
use super::map::Bytes;
use super::ops::spec::Written;
use super::ops::{Layer, arena};
use super::registry::{FILE, FileResource, framework};
use crate::kernels::Isa;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_nnef::ProtoModel;
use tract_nnef::internal::*;

/// The symbol that a graph's text uses for the tile's length.
pub const TILE: &str = "T";

/// The name of the first source: base codes or token ids.
pub const INPUT: &str = "codes";

/// The name of the second source.
pub const LENGTH: &str = "length";

type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;

/// An immutable model: share it in an `Arc`, and spawn a [`Runner`] for each worker.
#[derive(Debug)]
pub struct Model {
    file: Arc<ModelFile>,
    plan: Arc<Plan>,
    /// True where an operator of tract's own needs tensors of the very length of the input.
    exact_length: bool,
    /// True where the output is a vector, not rows.
    pooled: bool,
    operators: Vec<OperatorRecord>,
    /// What the symbols of the shapes stand for in a whole tile.
    symbols: SymbolValues,
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
    /// Scale of its output, where that is integer rows of one scale; without it and with a signal-to-noise ratio, each row has its own.
    pub output_scale: Option<f32>,
    /// Of the integer rows on the calibration data, in decibels.
    pub signal_to_noise: Option<f32>,
}

impl Model {
    /// Maps a model file, checks it and builds its graph.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        Model::build(ModelFile::open(path)?)
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
        let file = Arc::new(file);
        let failed = |reason: String| ModelError::Graph {
            file: file.name().to_string(),
            action: "building the graph",
            reason,
        };
        // A graph's text is foreign input to tract's parser, which has places that panic.
        let built = catch_unwind(AssertUnwindSafe(|| build_plan(&file, isa)));
        let built = match built {
            Ok(Ok(built)) => built,
            Ok(Err(error)) => return Err(failed(format!("{error:#}"))),
            Err(_) => return Err(failed("tract could not read it".to_string())),
        };
        Ok(Model {
            file,
            plan: built.plan,
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

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        self.file.manifest()
    }

    /// The nodes of its graph, in order of evaluation.
    pub fn operators(&self) -> &[OperatorRecord] {
        &self.operators
    }

    /// Bytes of the buffers that a worker's layers write to, for a whole tile: as many as live at the same time, by type and shape. Operators of
    /// tract's own come on top, and allocate theirs in each run.
    ///
    /// # Errors
    /// Where a shape depends on more than the length.
    pub fn activation_bytes(&self) -> Result<usize, ModelError> {
        let order = self.plan.order_without_consts();
        arena::predicted(self.plan.model(), order, &self.symbols)
            .map_err(|error| self.error("measuring", &error))
    }

    /// Bytes of working memory that a worker's int8 layers keep beside their outputs, for a whole tile: bases as rows, and what attention needs.
    pub fn scratch_bytes(&self) -> usize {
        let layers = self
            .plan
            .model()
            .nodes()
            .iter()
            .filter_map(|node| node.op_as::<Layer>());
        let tile = self.manifest().tile;
        // Each kind is kept once a thread, as large as the largest layer needs it.
        let sizes = layers.map(|layer| layer.scratch_bytes(tile));
        let (bases, attention) = sizes.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        bases + attention
    }

    /// A mutable state to run it with, for one worker.
    pub fn spawn(&self) -> Result<Runner, ModelError> {
        let failed = |error: TractError| self.error("spawning a worker", &error);
        let tile = self.manifest().tile;
        let (context, multiple) = (self.manifest().context, self.manifest().multiple);
        let room = if self.exact_length { 0 } else { tile };
        let ids = self.manifest().tokeniser == "ids";
        let input = match ids {
            true => Tensor::zero::<u32>(&[room]),
            false => Tensor::zero::<u8>(&[room]),
        };
        Ok(Runner {
            state: self.plan.spawn().map_err(failed)?,
            input: Arc::new(input.map_err(failed)?),
            ids,
            multiple,
            length: Arc::new(tensor0(0i64)),
            output: None,
            tile,
            columns: self.manifest().outputs.len(),
            rows: !self.pooled,
            exact_length: self.exact_length,
            margins: (
                context.left.next_multiple_of(multiple),
                context.right.next_multiple_of(multiple),
            ),
            whole: Vec::new(),
            file: self.file.clone(),
        })
    }

    fn error(&self, action: &'static str, error: &TractError) -> ModelError {
        ModelError::Graph {
            file: self.file.name().to_string(),
            action,
            reason: format!("{error:#}"),
        }
    }
}

struct Built {
    plan: Arc<Plan>,
    exact_length: bool,
    pooled: bool,
    operators: Vec<OperatorRecord>,
    symbols: SymbolValues,
}

fn build_plan(file: &Arc<ModelFile>, isa: Isa) -> TractResult<Built> {
    let mut model = match super::layers::read(file)? {
        Some(model) => model,
        None => read_nnef(file)?,
    };
    for node in model.nodes_mut() {
        if let Some(layer) = node.op_as_mut::<Layer>() {
            layer.isa = isa;
        }
    }
    let sources = model.input_outlets()?;
    ensure!(
        sources.len() == 2,
        "a graph of {} sources, not 2",
        sources.len()
    );
    let source = model.outlet_fact(sources[0])?.datum_type;
    let manifest = file.manifest();
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
    let pooled = check_output(&model, manifest)?;
    let plan = SimplePlan::new(model.into_optimized()?)?;
    Ok(Built {
        plan,
        exact_length,
        pooled,
        operators,
        symbols,
    })
}

/// The graph of a file with operators of tract's own.
fn read_nnef(file: &Arc<ModelFile>) -> TractResult<TypedModel> {
    let nnef = framework();
    let text = file.graph().map_err(|e| format_err!("{e}"))?;
    let doc = tract_nnef::ast::parse::parse_document(text)?;
    let mut proto = ProtoModel {
        doc,
        tensors: super::lower::plain_tensors(file)?,
        quantization: None,
        resources: Default::default(),
    };
    let resource = Arc::new(FileResource(file.clone()));
    proto.resources.insert(FILE.to_string(), resource);
    proto.validate()?;
    nnef.translate(&proto, TypedModel::default())
        .map_err(|(_, error)| error)
}

/// What the symbol of the length stands for in a tile: a graph with strides has a source of several of it.
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
    node.op_is::<Layer>() || node.op_is::<tract_nnef::tract_core::ops::source::TypedSource>()
}

fn list_operators(model: &TypedModel, manifest: &Manifest) -> TractResult<Vec<OperatorRecord>> {
    let symbol = model.symbols.sym(TILE);
    let value = symbol_value(model, manifest.tile).unwrap_or(manifest.tile);
    let values = SymbolValues::default().with(&symbol, value as i64);
    let mut records = vec![];
    for id in model.eval_order()? {
        let node = model.node(id);
        let constant = node.op_is::<tract_nnef::tract_core::ops::konst::Const>();
        if constant || node.op_is::<tract_nnef::tract_core::ops::source::TypedSource>() {
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

/// The graph's output must have the columns that the manifest names; true where it is a vector.
fn check_output(model: &TypedModel, manifest: &Manifest) -> TractResult<bool> {
    let outputs = model.output_outlets()?;
    ensure!(
        outputs.len() == 1,
        "a graph of {} outputs, not 1",
        outputs.len()
    );
    let node = model.node(outputs[0].node);
    let fact = model.outlet_fact(outputs[0])?;
    ensure!(
        fact.datum_type == f32::datum_type(),
        "an output of {fact:?}"
    );
    let columns = fact.shape.last().map(|d| d.to_usize()).transpose()?;
    ensure!(
        columns == Some(manifest.outputs.len()),
        "an output of {fact:?} for {} columns in the manifest",
        manifest.outputs.len()
    );
    let pooled = match node.op_as::<Layer>() {
        Some(layer) => layer.spec.written() == Written::Vector,
        None => fact.rank() == 1,
    };
    let fits = match manifest.task {
        Task::Splice | Task::Promoter => !pooled,
        Task::Expression => pooled,
        Task::Raw => true,
    };
    ensure!(fits, "task {} with an output of {fact:?}", manifest.task);
    Ok(pooled)
}

/// One worker's state: activations, reused from run to run.
#[derive(Debug)]
pub struct Runner {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    input: Arc<Tensor>,
    ids: bool,
    multiple: usize,
    length: Arc<Tensor>,
    output: Option<TValue>,
    tile: usize,
    columns: usize,
    rows: bool,
    exact_length: bool,
    /// Context to the left and right, in whole multiples.
    margins: (usize, usize),
    /// The output of more than one tile.
    whole: Vec<f32>,
    file: Arc<ModelFile>,
}

impl Runner {
    /// Runs the model on `codes` (see [`nucleotide`](crate::nucleotide)) and gives its raw output: `[codes.len(), columns]`, or
    /// `[columns]` for a sequence scored as a whole. The ends of `codes` are ends of the read. More codes than the tile holds are
    /// run in tiles that overlap by the context, which changes nothing.
    ///
    /// # Errors
    /// Where tract fails, the model reads ids, there are no multiple of the codes that the manifest asks for, or more than the tile where the output is
    /// no rows.
    pub fn run(&mut self, codes: &[u8]) -> Result<&[f32], ModelError> {
        if codes.len() <= self.tile || !self.rows {
            return self.evaluate(codes);
        }
        let mut whole = std::mem::take(&mut self.whole);
        whole.resize(codes.len() * self.columns, 0.0);
        let result = self.run_range(codes, 0..codes.len(), &mut whole);
        self.whole = whole;
        result?;
        Ok(&self.whole)
    }

    /// Runs the model on those tiles of `codes` that make up `range`, into `out` of `[range.len(), columns]`: what a thread does of a read that
    /// several share. The range begins at a multiple of what the manifest asks for.
    ///
    /// # Errors
    /// As [`Runner::run`], and where the tile does not hold the context.
    pub fn run_range(
        &mut self,
        codes: &[u8],
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let (left, right) = self.margins;
        let step = self.tile.saturating_sub(left + right) / self.multiple * self.multiple;
        if step == 0 || !self.rows || !range.start.is_multiple_of(self.multiple) {
            let reason = format!("a tile of {} for a context of {left} + {right}", self.tile);
            return Err(graph_error(&self.file, reason));
        }
        let columns = self.columns;
        let mut from = range.start;
        while from < range.end {
            let to = (from + step).min(range.end);
            let first = from.saturating_sub(left);
            let last = (to + right).min(codes.len());
            let rows = self.evaluate(&codes[first..last])?;
            let rows = &rows[(from - first) * columns..(to - first) * columns];
            out[(from - range.start) * columns..(to - range.start) * columns].copy_from_slice(rows);
            from = to;
        }
        Ok(())
    }

    /// The same for a model whose tokeniser is `ids`, on at most a tile of them.
    ///
    /// # Errors
    /// As [`Runner::run`], and for an id outside the vocabulary.
    pub fn run_ids(&mut self, ids: &[u32]) -> Result<&[f32], ModelError> {
        self.evaluate(ids)
    }

    fn evaluate<T: Datum + Copy>(&mut self, input: &[T]) -> Result<&[f32], ModelError> {
        self.output = None;
        let count = if self.rows { input.len() } else { 1 } * self.columns;
        match self.turn(input) {
            Ok(output) => {
                let output = &*self.output.insert(output);
                let floats = output.try_as_plain_ram().and_then(|o| o.as_slice::<f32>());
                match floats {
                    Ok(floats) if floats.len() >= count => Ok(&floats[..count]),
                    _ => Err(graph_error(
                        &self.file,
                        "an output that is too short".into(),
                    )),
                }
            }
            Err(error) => Err(graph_error(&self.file, format!("{error:#}"))),
        }
    }

    fn turn<T: Datum + Copy>(&mut self, values: &[T]) -> TractResult<TValue> {
        let (count, tile) = (values.len(), self.tile);
        ensure!(count <= tile, "{count} positions in a tile of {tile}");
        ensure!(
            count.is_multiple_of(self.multiple),
            "{count} positions are no multiple of {}",
            self.multiple
        );
        let ids = T::datum_type() == u32::datum_type();
        ensure!(
            ids == self.ids,
            "a model that reads {}",
            if self.ids { "ids" } else { "codes" }
        );
        if self.exact_length {
            self.input = Arc::new(tensor1(values));
        } else {
            let tensor = Arc::get_mut(&mut self.input).context("the input is still in use")?;
            let mut view = tensor.try_as_plain_ram_mut()?;
            view.as_slice_mut::<T>()?[..count].copy_from_slice(values);
        }
        let length = Arc::get_mut(&mut self.length).context("the length is still in use")?;
        length.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?[0] = count as i64;
        let inputs = tvec!(
            TValue::from_const(self.input.clone()),
            TValue::from_const(self.length.clone())
        );
        let mut outputs = self.state.run(inputs)?;
        outputs.pop().context("no output")
    }

    /// True where it reads token ids, not base codes.
    pub fn reads_ids(&self) -> bool {
        self.ids
    }

    /// Positions it takes at once.
    pub fn tile(&self) -> usize {
        self.tile
    }
}

fn graph_error(file: &ModelFile, reason: String) -> ModelError {
    ModelError::Graph {
        file: file.name().to_string(),
        action: "running the graph",
        reason,
    }
}
