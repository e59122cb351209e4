//! A layer out of the model file, with its tensors, all of it checked.

use super::{Layer, Spec};
use crate::kernels::Isa;
use crate::model::error::ModelError;
use crate::model::file::{HASH_AT_OPEN, ModelFile};
use crate::model::manifest::Precision;
use crate::model::map::Region;
use safetensors::tensor::Dtype;
use tract_core::internal::*;

/// Most zero rows at an end.
const MOST_HALO: usize = 1 << 20;

impl Layer {
    /// A layer with its tensors, all of it checked.
    pub fn load(
        file: &ModelFile,
        spec: Spec,
        precision: Precision,
        halo: usize,
        label: &str,
        inputs: usize,
    ) -> TractResult<Layer> {
        ensure!(halo <= MOST_HALO, "a halo of {halo} is above {MOST_HALO}");
        spec.validate(precision, halo)
            .map_err(|reason| format_err!("layer {label}: {reason}"))?;
        let most_inputs = match &spec {
            Spec::Dense(_) | Spec::Softmax { vector: true, .. } => 1..2,
            Spec::Sum { .. } => 3..4,
            Spec::Join { channels, .. } => channels.len() + 1..channels.len() + 2,
            Spec::Attention { .. } => 4..5,
            _ => 2..4,
        };
        ensure!(
            most_inputs.contains(&inputs),
            "layer {label}: {} inputs",
            inputs
        );
        let mut tensors = vec![];
        for need in spec.tensors(precision) {
            let name = format!("{label}.{}", need.name);
            tensors.push(tensor(file, &name, need.dtype, need.len)?);
        }
        Ok(Layer {
            spec,
            precision,
            halo,
            label: label.to_string(),
            tensors,
            isa: Isa::selected(),
            spread: None,
        })
    }
}

/// A tensor of the file, checked: its length, and that no value can make a sum overflow.
fn tensor(file: &ModelFile, name: &str, dtype: Dtype, count: usize) -> Result<Region, ModelError> {
    let wrong = |expected: String, found: String| ModelError::Tensor {
        file: file.name().to_string(),
        tensor: name.to_string(),
        expected,
        found,
    };
    let region = file.tensor(name, dtype)?;
    let found = region.bytes().len() * 8 / dtype.bitsize();
    if found != count {
        return Err(wrong(format!("{count} values"), found.to_string()));
    }
    // Looking at every weight of a large file would read it whole at every start; a wrong one there
    // gives wrong scores, nothing worse.
    if dtype == Dtype::I8 && file.len() <= HASH_AT_OPEN && region.i8().contains(&-128) {
        return Err(wrong("weights from -127".to_string(), "-128".to_string()));
    }
    let values = match dtype {
        Dtype::F32 => region.f32().unwrap_or_default(),
        _ => &[],
    };
    match values.iter().find(|x| x.is_nan() || x.abs() >= 1e12) {
        Some(bad) => Err(wrong("values below 1e12".to_string(), bad.to_string())),
        None => Ok(region),
    }
}
