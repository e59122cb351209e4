//! A model that runs: the file's graph, read into tract and fixed to a tile once (optimised, too,
//! where it holds operators of tract's own); then
//! one [`Runner`](crate::model::Runner) a worker.

use super::build::{self, Plan, SecondStage};
use super::carried::{Carried, LookCost};
use super::error::ModelError;
use super::file::ModelFile;
use super::inspect::{self, OperatorRecord};
use super::manifest::{Cascade, Manifest, Tier};
use super::map::Bytes;
use crate::kernels::Isa;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_core::internal::*;

/// An immutable model: share it in an `Arc`, and spawn a [`Runner`](crate::model::Runner) for each
/// worker.
#[derive(Debug)]
pub struct Model {
    pub(super) file: Arc<ModelFile>,
    manifest: Manifest,
    pub(super) plan: Arc<Plan>,
    /// The rest of the network, where there are tiers, and not for the fast one.
    pub(super) second: Option<Arc<SecondStage>>,
    /// True where an operator of tract's own needs tensors of the very length of the input.
    pub(super) exact_length: bool,
    /// True where the output is a vector, not rows.
    pub(super) pooled: bool,
    /// True where every layer keeps sequences side by side apart.
    pub(super) keeps_apart: bool,
    operators: Vec<OperatorRecord>,
    symbols: SymbolValues,
    carried: Option<Carried>,
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

    pub(crate) fn build_as(
        file: ModelFile,
        isa: Isa,
        tier: Option<Tier>,
    ) -> Result<Model, ModelError> {
        let file = Arc::new(file);
        let failed = |reason: String| ModelError::Graph {
            file: file.name().to_string(),
            action: "building the graph",
            reason,
        };
        // A graph's text is foreign input to tract's parser, which has places that panic.
        let built = catch_unwind(AssertUnwindSafe(|| -> TractResult<_> {
            let built = build::build(&file, isa, tier)?;
            // Rows beyond a read's ends are computed with the others, or not at all.
            let carried = match built.manifest.padding() {
                [0, 0] => Carried::new(&file, isa, tier)?,
                _ => None,
            };
            Ok((built, carried))
        }));
        let (built, carried) = match built {
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
            keeps_apart: built.keeps_apart,
            operators: built.operators,
            symbols: built.symbols,
            carried,
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

    /// True where a run computes every layer at every position, as [`Manifest::macs`] counts them.
    pub fn computes_all(&self) -> bool {
        let second = self.second.as_ref();
        second.is_none_or(|second| second.tier == Tier::Accurate)
    }

    /// What decides where the better tier is taken; `None` where it is taken everywhere, or never.
    pub(crate) fn second_look(&self) -> Option<&Cascade> {
        let second = self.second.as_ref()?;
        (second.tier == Tier::Auto).then_some(&second.cascade)
    }

    /// The same model with the better tier wherever a column of the fast one reaches `survive`.
    pub(crate) fn with_second_look(mut self, survive: &[f32]) -> Model {
        self.second = self.second.map(|second| {
            let mut second = SecondStage::clone(&second);
            second.cascade.survive = survive.to_vec();
            Arc::new(second)
        });
        if let Some(carried) = &mut self.carried {
            carried.look_from(survive);
        }
        self
    }

    /// True where a sequence has one row of outputs, not one for each position.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// True where rows are kept between the pushes of a growing read, not computed anew.
    pub fn keeps_rows(&self) -> bool {
        self.carried.is_some()
    }

    /// What the better tier costs on a whole sequence of base codes, forward; `None` where no
    /// cheaper one rules positions out, or rows cannot be kept.
    pub fn look_cost(&self, codes: &[u8]) -> Option<LookCost> {
        self.carried.as_ref()?.look_cost(codes)
    }

    /// The network with rows that can be kept, where it is of that kind.
    pub(crate) fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// The graphs that a worker runs, in their order.
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        let second = self.second.iter().map(|second| &*second.plan);
        std::iter::once(&*self.plan).chain(second)
    }

    /// Bytes of the buffers that a worker's layers write to, for a whole tile: as many as live at
    /// the same time, by type and shape; of a network of two stages at most that many. Operators of
    /// tract's own come on top, and allocate theirs in each run.
    ///
    /// # Errors
    /// Where a shape depends on more than the length.
    pub fn activation_bytes(&self) -> Result<usize, ModelError> {
        let graphs = self.plans();
        let graphs = graphs.map(|plan| (plan.model(), plan.order_without_consts()));
        let bytes = inspect::activation_bytes(graphs, &self.symbols);
        bytes.map_err(|error| self.error("measuring", &error))
    }

    /// Bytes of working memory that a worker's layers keep beside their outputs, for a whole tile:
    /// codes as rows, and what attention needs.
    pub fn scratch_bytes(&self) -> usize {
        let graphs = self.plans().map(|plan| plan.model());
        inspect::scratch_bytes(graphs, self.manifest.tile)
    }

    pub(super) fn error(&self, action: &'static str, error: &TractError) -> ModelError {
        ModelError::Graph {
            file: self.file.name().to_string(),
            action,
            reason: format!("{error:#}"),
        }
    }
}
