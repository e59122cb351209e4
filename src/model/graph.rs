//! A model that runs: the file's graph, read into tract, fixed to a tile and optimised once; then one [`Runner`] a worker.

use super::error::ModelError;
use super::file::ModelFile;
use super::manifest::Manifest;
use super::map::Bytes;
use super::ops::{Layer, Spec};
use super::registry::{FILE, FileResource, framework};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_nnef::ProtoModel;
use tract_nnef::internal::*;

/// The symbol that a graph's text uses for the tile's length.
pub const TILE: &str = "T";

/// The name under which a graph's text expects the second source.
pub const LENGTH: &str = "length";

type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;

/// An immutable model: share it in an `Arc`, and spawn a [`Runner`] for each worker.
#[derive(Debug)]
pub struct Model {
    file: Arc<ModelFile>,
    plan: Arc<Plan>,
    /// True where an operator of tract's own needs tensors of the very length of the input.
    exact_length: bool,
    operators: Vec<OperatorRecord>,
}

/// One node of a graph, for `inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let file = Arc::new(file);
        let failed = |reason: String| ModelError::Graph {
            file: file.name().to_string(),
            action: "building the graph",
            reason,
        };
        // A graph's text is foreign input to tract's parser, which has places that panic.
        let built = catch_unwind(AssertUnwindSafe(|| build_plan(&file)));
        let (plan, exact_length, operators) = match built {
            Ok(Ok(built)) => built,
            Ok(Err(error)) => return Err(failed(format!("{error:#}"))),
            Err(_) => return Err(failed("tract could not read it".to_string())),
        };
        Ok(Model {
            file,
            plan,
            exact_length,
            operators,
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

    /// A mutable state to run it with, for one worker.
    pub fn spawn(&self) -> Result<Runner, ModelError> {
        let failed = |error: TractError| self.error("spawning a worker", &error);
        let tile = self.manifest().tile;
        let codes = match self.exact_length {
            true => Tensor::zero::<u8>(&[0]),
            false => Tensor::zero::<u8>(&[tile]),
        };
        Ok(Runner {
            state: self.plan.spawn().map_err(failed)?,
            codes: Arc::new(codes.map_err(failed)?),
            length: Arc::new(tensor0(0i64)),
            output: None,
            tile,
            columns: self.manifest().outputs.len(),
            scan: self.manifest().task.is_scan(),
            exact_length: self.exact_length,
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

fn build_plan(file: &Arc<ModelFile>) -> TractResult<(Arc<Plan>, bool, Vec<OperatorRecord>)> {
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
    let model = nnef
        .translate(&proto, TypedModel::default())
        .map_err(|(_, error)| error)?;
    let sources = model.input_outlets()?;
    ensure!(
        sources.len() == 2,
        "a graph of {} sources, not 2",
        sources.len()
    );
    let manifest = file.manifest();
    let exact_length = !model.nodes().iter().all(is_ours);
    let model = if exact_length {
        model
    } else {
        let tile = manifest.tile.to_dim();
        let symbol = model.symbols.sym(TILE);
        model.set_symbols(&HashMap::from([(symbol, tile)]))?
    };
    let operators = list_operators(&model, manifest.tile)?;
    check_output(&model, manifest)?;
    let plan = SimplePlan::new(model.into_optimized()?)?;
    Ok((plan, exact_length, operators))
}

fn is_ours(node: &TypedNode) -> bool {
    node.op_is::<Layer>() || node.op_is::<tract_nnef::tract_core::ops::source::TypedSource>()
}

fn list_operators(model: &TypedModel, tile: usize) -> TractResult<Vec<OperatorRecord>> {
    let symbol = model.symbols.sym(TILE);
    let values = SymbolValues::default().with(&symbol, tile as i64);
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
        records.push(OperatorRecord {
            name: node.name.clone(),
            operator: node.op.name().to_string(),
            lowered: layer.is_some(),
            macs: layer.map_or(0, Layer::macs),
            activation_bytes: (elements * fact.datum_type.size_of()) as u64,
        });
    }
    Ok(records)
}

/// The graph's output must have the columns that the manifest names.
fn check_output(model: &TypedModel, manifest: &Manifest) -> TractResult<()> {
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
    let pooled = match node.op_as::<Layer>().map(|layer| &layer.spec) {
        Some(Spec::Dense { .. }) => true,
        Some(_) => false,
        None => fact.rank() == 1,
    };
    ensure!(
        pooled != manifest.task.is_scan(),
        "task {} with an output of {fact:?}",
        manifest.task
    );
    Ok(())
}

/// One worker's state: activations, reused from run to run.
#[derive(Debug)]
pub struct Runner {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    codes: Arc<Tensor>,
    length: Arc<Tensor>,
    output: Option<TValue>,
    tile: usize,
    columns: usize,
    scan: bool,
    exact_length: bool,
    file: Arc<ModelFile>,
}

impl Runner {
    /// Runs the model on up to `tile` codes (see [`nucleotide`](crate::nucleotide)) and gives its raw output: `[codes.len(),
    /// columns]` for a scan, `[columns]` for a sequence scored as a whole. The ends of `codes` are ends of the read.
    ///
    /// # Errors
    /// Where tract fails, or `codes` are longer than the tile.
    pub fn run(&mut self, codes: &[u8]) -> Result<&[f32], ModelError> {
        self.output = None;
        let count = if self.scan { codes.len() } else { 1 } * self.columns;
        match self.evaluate(codes) {
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

    fn evaluate(&mut self, codes: &[u8]) -> TractResult<TValue> {
        ensure!(
            codes.len() <= self.tile,
            "{} codes in a tile of {}",
            codes.len(),
            self.tile
        );
        if self.exact_length {
            self.codes = Arc::new(tensor1(codes));
        } else {
            let tensor = Arc::get_mut(&mut self.codes).context("the input is still in use")?;
            let mut view = tensor.try_as_plain_ram_mut()?;
            view.as_slice_mut::<u8>()?[..codes.len()].copy_from_slice(codes);
        }
        let length = Arc::get_mut(&mut self.length).context("the length is still in use")?;
        length.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?[0] = codes.len() as i64;
        let inputs = tvec!(
            TValue::from_const(self.codes.clone()),
            TValue::from_const(self.length.clone())
        );
        let mut outputs = self.state.run(inputs)?;
        outputs.pop().context("no output")
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
