//! The models that are compiled in: aligned static bytes, opened by the same reader as a file.

use super::clade::Clade;
use super::task::Task;
use crate::model::file::ModelFile;
use crate::model::manifest::Tier;
use crate::model::map::{Aligned, Bytes};
use crate::model::{Model, ModelError};
use std::fmt;
use std::str::FromStr;

macro_rules! embed {
    ($name:ident, $path:literal) => {
        static $name: Aligned<{ include_bytes!($path).len() }> = Aligned(*include_bytes!($path));
    };
}

embed!(SPLICE, "../../models/splice.safetensors");
embed!(INSECT, "../../models/splice-insect.safetensors");
embed!(NEMATODE, "../../models/splice-nematode.safetensors");
embed!(PLANT, "../../models/splice-plant.safetensors");
embed!(PROMOTER, "../../models/promoter.safetensors");
embed!(PROMOTER_300, "../../models/promoter-300.safetensors");
embed!(TF, "../../models/tf.safetensors");
embed!(EXPRESSION, "../../models/expression.safetensors");
embed!(TE, "../../models/te.safetensors");
embed!(IRES, "../../models/ires.safetensors");
embed!(
    PROMOTER_STRENGTH,
    "../../models/promoter-strength.safetensors"
);

/// A built-in model: a task's, and of splice sites a clade's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// What it predicts.
    pub task: Task,
    /// In which branch of life; the models of other tasks are not made for several.
    pub clade: Clade,
}

impl BuiltIn {
    /// All of them.
    pub fn all() -> impl Iterator<Item = BuiltIn> {
        Task::ALL.into_iter().flat_map(|task| {
            let several = task == Task::Splice;
            let clades = Clade::ALL.into_iter().take(if several { 4 } else { 1 });
            clades.map(move |clade| BuiltIn { task, clade })
        })
    }

    /// Its file.
    ///
    /// # Errors
    /// Where there is none for the task.
    pub fn file(self) -> Result<ModelFile, ModelError> {
        let bytes: &'static [u8] = match (self.task, self.clade) {
            (Task::Splice, Clade::Vertebrate) => &SPLICE.0,
            (Task::Splice, Clade::Insect) => &INSECT.0,
            (Task::Splice, Clade::Nematode) => &NEMATODE.0,
            (Task::Splice, Clade::Plant) => &PLANT.0,
            (Task::Promoter, _) => &PROMOTER.0,
            (Task::Tf, _) => &TF.0,
            (Task::Promoter300, _) => &PROMOTER_300.0,
            (Task::Expression, _) => &EXPRESSION.0,
            (Task::Te, _) => &TE.0,
            (Task::Ires, _) => &IRES.0,
            (Task::PromoterStrength, _) => &PROMOTER_STRENGTH.0,
            (Task::Raw, _) => {
                let reason = format!(
                    "there is no built-in model for task {}: name a file",
                    self.task
                );
                return Err(ModelError::Pack(reason));
            }
        };
        ModelFile::parse(Bytes::from_static(bytes), &format!("built-in {self} model"))
    }

    /// The model, of the tier where it has several.
    ///
    /// # Errors
    /// As [`BuiltIn::file`].
    pub fn model(self, tier: Tier) -> Result<Model, ModelError> {
        Model::build_tier(self.file()?, tier)
    }
}

impl From<Task> for BuiltIn {
    fn from(task: Task) -> BuiltIn {
        BuiltIn {
            task,
            clade: Clade::default(),
        }
    }
}

/// The task; behind a hyphen the clade, where it is not the vertebrates.
impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clade {
            Clade::Vertebrate => self.task.fmt(f),
            clade => write!(f, "{}-{clade}", self.task),
        }
    }
}

impl FromStr for BuiltIn {
    type Err = String;
    fn from_str(name: &str) -> Result<BuiltIn, String> {
        let mut all = BuiltIn::all();
        all.find(|model| model.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = BuiltIn::all().map(|model| model.to_string()).collect();
            format!("no built-in model {name:?}: {}", names.join(", "))
        })
    }
}

/// The file of a task's built-in model, that of vertebrates where there are several.
///
/// # Errors
/// Where there is none for the task.
pub fn file(task: Task) -> Result<ModelFile, ModelError> {
    BuiltIn::from(task).file()
}

/// A task's built-in model, of the tier where it has several.
///
/// # Errors
/// As [`file()`].
pub fn model(task: Task, tier: Tier) -> Result<Model, ModelError> {
    BuiltIn::from(task).model(tier)
}
