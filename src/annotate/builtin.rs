//! The models that are compiled in: aligned static bytes, opened by the same reader as a file.

use super::task::Task;
use crate::model::file::ModelFile;
use crate::model::manifest::Tier;
use crate::model::map::{Aligned, Bytes};
use crate::model::{Model, ModelError};

macro_rules! embed {
    ($name:ident, $path:literal) => {
        static $name: Aligned<{ include_bytes!($path).len() }> = Aligned(*include_bytes!($path));
    };
}

embed!(SPLICE, "../../models/splice.safetensors");
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

/// The file of a task's built-in model.
///
/// # Errors
/// Where there is none for the task.
pub fn file(task: Task) -> Result<ModelFile, ModelError> {
    let bytes: &'static [u8] = match task {
        Task::Splice => &SPLICE.0,
        Task::Promoter => &PROMOTER.0,
        Task::Tf => &TF.0,
        Task::Promoter300 => &PROMOTER_300.0,
        Task::Expression => &EXPRESSION.0,
        Task::Te => &TE.0,
        Task::Ires => &IRES.0,
        Task::PromoterStrength => &PROMOTER_STRENGTH.0,
        Task::Raw => {
            let reason = format!("there is no built-in model for task {task}: name a file");
            return Err(ModelError::Pack(reason));
        }
    };
    ModelFile::parse(Bytes::from_static(bytes), &format!("built-in {task} model"))
}

/// A task's built-in model, of the tier where it has several.
///
/// # Errors
/// As [`file()`].
pub fn model(task: Task, tier: Tier) -> Result<Model, ModelError> {
    Model::build_tier(file(task)?, tier)
}
