//! What an output says of an annotator's models.

use crate::annotate::ModelInfo;
use crate::sink::ModelTag;

/// The tags of `models`, for a [`CallWriter`](crate::sink::CallWriter).
pub fn model_tags(models: &[ModelInfo]) -> Vec<ModelTag> {
    let tag = |model: &ModelInfo| ModelTag {
        name: model.name.clone(),
        version: model.version.clone(),
        base_rates: model.base_rates.clone(),
    };
    models.iter().map(tag).collect()
}
