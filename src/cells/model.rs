//! A packed network that reads cells, with its vocabulary.

use super::tokens::Tokens;
use crate::model::genes::{TASKS, fits};
use crate::model::manifest::Manifest;
use crate::model::map::{Aligned, Bytes};
use crate::model::{Model, ModelError};
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
    /// All of them, in the order of [`TASKS`].
    pub const ALL: [Kind; 4] = [
        Kind::Type,
        Kind::Embedding,
        Kind::Perturbation,
        Kind::Expression,
    ];

    /// The task that a manifest names.
    pub fn task(self) -> &'static str {
        TASKS[self as usize]
    }

    /// Those with a built-in model.
    pub const BUILT_IN: [Kind; 3] = [Kind::Type, Kind::Embedding, Kind::Perturbation];

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
    tokens: Tokens,
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
    /// Where it does not read cells, its vocabulary is not what its manifest says, or its outputs
    /// are not those of its task.
    pub fn new(model: Model) -> Result<CellModel, ModelError> {
        let fault = |reason: String| ModelError::Manifest {
            file: model.file().name().to_string(),
            reason,
        };
        let manifest = model.manifest();
        let kind = Kind::of(manifest).map_err(fault)?;
        fits(kind.task(), model.is_pooled(), manifest.outputs.len()).map_err(fault)?;
        let names = model.file().genes()?;
        let tokens = Tokens::new(manifest, &names).map_err(fault)?;
        Ok(CellModel {
            kind,
            tokens,
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

    /// What it reads of a cell.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The network alone.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The flag of a gene that is perturbed in a way.
    ///
    /// # Errors
    /// Where the network was not trained on it.
    pub fn flag(&self, how: &str) -> Result<u32, String> {
        let known = &self.tokens.cells().perturbations;
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
}
