//! A packed network that reads cells, with its vocabulary.

use super::genes::{GenesError, Matching, Vocabulary};
use super::input::Gene;
use super::prepare::{Input, Preparation};
use crate::model::manifest::{Cells, Manifest};
use crate::model::map::{Aligned, Bytes};
use crate::model::{Model, ModelError, Runner};
use std::fmt;
use std::path::Path;

macro_rules! embed {
    ($name:ident, $path:literal) => {
        static $name: Aligned<{ include_bytes!($path).len() }> = Aligned(*include_bytes!($path));
    };
}

embed!(TYPES, "../../models/cell-types.safetensors");
embed!(EMBEDDING, "../../models/cell-embedding.safetensors");
embed!(RESPONSE, "../../models/cell-response.safetensors");

/// What a network says of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A logit a type.
    Type,
    /// A vector, whose direction counts.
    Embedding,
    /// Coefficient and bias a gene: its value once some gene is perturbed is the sum of the bias
    /// and of the product of the coefficient with its own value.
    Perturbation,
    /// A value a gene.
    Expression,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [
        Kind::Type,
        Kind::Embedding,
        Kind::Perturbation,
        Kind::Expression,
    ];

    /// The task that a manifest names.
    pub fn task(self) -> &'static str {
        match self {
            Kind::Type => "cell-type",
            Kind::Embedding => "cell-embedding",
            Kind::Perturbation => "perturbation",
            Kind::Expression => "cell-expression",
        }
    }

    /// What a manifest's network says of a cell.
    ///
    /// # Errors
    /// Where it names no such task, or reads something else.
    pub fn of(manifest: &Manifest) -> Result<Kind, String> {
        let found = Kind::ALL
            .into_iter()
            .find(|kind| kind.task() == manifest.task);
        match (found, &manifest.cells) {
            (Some(kind), Some(_)) => Ok(kind),
            (Some(kind), None) => Err(format!("task {kind} needs the tokeniser \"genes\"")),
            (None, _) => {
                let names = Kind::ALL.map(Kind::task).join(", ");
                Err(format!("no task of cells {:?}: {names}", manifest.task))
            }
        }
    }

    /// The built-in model.
    ///
    /// # Errors
    /// Where there is none.
    pub fn builtin(self) -> Result<CellModel, ModelError> {
        let bytes: &'static [u8] = match self {
            Kind::Type => &TYPES.0,
            Kind::Embedding => &EMBEDDING.0,
            Kind::Perturbation => &RESPONSE.0,
            Kind::Expression => {
                let reason = format!("there is no built-in model for task {self}: name a file");
                return Err(ModelError::Pack(reason));
            }
        };
        let name = format!("built-in {self} model");
        CellModel::new(Model::from_bytes(Bytes::from_static(bytes), &name)?)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.task())
    }
}

/// A network that reads cells.
#[derive(Debug)]
pub struct CellModel {
    model: Model,
    kind: Kind,
    vocabulary: Vocabulary,
    cells: Cells,
    cls: Option<u32>,
    other: Option<u32>,
}

impl CellModel {
    /// Opens a file.
    ///
    /// # Errors
    /// Where it is none that [`CellModel::new`] accepts.
    pub fn open(path: &Path) -> Result<CellModel, ModelError> {
        CellModel::new(Model::open(path)?)
    }

    /// Of an opened model.
    ///
    /// # Errors
    /// Where it does not read cells, or its vocabulary is not what its manifest says.
    pub fn new(model: Model) -> Result<CellModel, ModelError> {
        let fault = |reason: String| ModelError::Manifest {
            file: model.file().name().to_string(),
            reason,
        };
        let manifest = model.manifest();
        let kind = Kind::of(manifest).map_err(fault)?;
        let Some(cells) = manifest.cells.clone() else {
            return Err(fault("it reads no cells".to_string()));
        };
        let names = model.file().genes()?.join("\n");
        let vocabulary = Vocabulary::read(names.as_bytes()).map_err(|e| fault(e.to_string()))?;
        let special = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match vocabulary.id(name) {
                Some(id) => Ok(Some(id)),
                None => Err(fault(format!("{name:?} is not in the vocabulary"))),
            },
        };
        let (cls, other) = (special(&cells.cls)?, special(&cells.other)?);
        Ok(CellModel {
            kind,
            vocabulary,
            cells,
            cls,
            other,
            model,
        })
    }

    /// What it says of a cell.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its genes.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How many genes it has, special tokens not among them.
    pub fn known(&self) -> usize {
        let ids = 0..self.vocabulary.len() as u32;
        let names = ids.filter_map(|id| self.vocabulary.name(id));
        names.filter(|name| !name.starts_with('<')).count()
    }

    /// How cells become tokens.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The id of a gene, or of the token that stands for those which it does not know.
    pub fn gene(&self, name: &str) -> Option<u32> {
        self.vocabulary.id(name).or(self.other)
    }

    /// The flag of a gene that is perturbed in a way.
    ///
    /// # Errors
    /// Where the network was not trained on it.
    pub fn flag(&self, how: &str) -> Result<u32, String> {
        let known = &self.cells.perturbations;
        match (1..).zip(known).find(|(_, own)| *own == how) {
            Some((flag, _)) => Ok(flag),
            None => Err(format!(
                "{} knows {} only, not {how}",
                self.name(),
                known.join(", ")
            )),
        }
    }

    /// Name and version.
    pub fn name(&self) -> String {
        let manifest = self.model.manifest();
        format!("{}/{}", manifest.name, manifest.version)
    }

    /// Names of its outputs: of types, for example.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let outputs = self.model.manifest().outputs.iter();
        outputs.map(|output| output.name.as_str())
    }

    /// How it wants its cells prepared, if they are `input`.
    pub fn preparation(&self, input: Input, seed: Option<u64>) -> Preparation {
        Preparation {
            input,
            normalise: self.cells.normalise,
            log1p: self.cells.log1p,
            bins: self.cells.bins,
            most_tokens: self.model.manifest().tile,
            cls: self.cls.map(|id| (id, self.cells.cls_value)),
            keep_zeros: self.cells.zeros,
            seed,
        }
    }

    /// Which columns of a file it knows.
    ///
    /// # Errors
    /// Where these are too few.
    pub fn matching(&self, genes: &[Gene]) -> Result<Matching, GenesError> {
        let genes = genes.iter();
        let names = genes.map(|gene| (gene.symbol.as_str(), gene.id.as_deref()));
        Matching::new(&self.vocabulary, names, self.cells.least_share)
    }

    /// A worker.
    ///
    /// # Errors
    /// As [`Model::spawn`].
    pub fn spawn(&self) -> Result<Runner, ModelError> {
        self.model.spawn()
    }
}
