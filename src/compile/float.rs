//! The float network as tract runs it from its ONNX file: what a packed model is compared with.

use super::contain::contained;
use super::lower::{import, one_hot};
use crate::model::error::ModelError;
use crate::model::manifest::Manifest;
use std::path::{Path, PathBuf};
use tract_nnef::internal::*;

type Plan = Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>;

/// A float network that takes base codes.
#[derive(Debug)]
pub struct FloatModel {
    path: PathBuf,
    /// Kept open for rows; a sequence model is imported anew for each length, which its shapes
    /// need.
    open: Option<Plan>,
    by_length: HashMap<usize, Plan>,
}

impl FloatModel {
    /// Reads an ONNX file with an input of `[1, 4, T]`.
    ///
    /// # Errors
    /// Where tract cannot read it.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<FloatModel, ModelError> {
        let mut model = FloatModel {
            path: path.to_path_buf(),
            open: None,
            by_length: HashMap::new(),
        };
        if manifest.sequence.is_none() {
            model.open = Some(model.plan(None)?);
        }
        Ok(model)
    }

    fn failed(&self, error: &TractError) -> ModelError {
        ModelError::Graph {
            file: self.path.display().to_string(),
            action: "running the float network",
            reason: format!("{error:#}"),
        }
    }

    fn plan(&self, length: Option<usize>) -> Result<Plan, ModelError> {
        contained(&self.path, "reading the ONNX file", || {
            let (model, _) = import(&self.path, length)?;
            model
                .into_optimized()
                .and_then(SimplePlan::new)
                .map_err(|error| self.failed(&error))
        })
    }

    /// Raw outputs, `[positions, outputs]` or `[outputs]`.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run(&mut self, codes: &[u8]) -> Result<Vec<f32>, ModelError> {
        let plan = match &self.open {
            Some(plan) => plan.clone(),
            None => match self.by_length.get(&codes.len()) {
                Some(plan) => plan.clone(),
                None => {
                    let plan = self.plan(Some(codes.len()))?;
                    self.by_length.insert(codes.len(), plan.clone());
                    plan
                }
            },
        };
        let run = || -> TractResult<Vec<f32>> {
            let codes: Vec<u32> = codes.iter().map(|&code| u32::from(code)).collect();
            let outputs = plan.run(tvec!(one_hot(&codes)?))?;
            if outputs[0].rank() < 3 {
                return Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec());
            }
            let positions = outputs[0].shape()[2];
            let alike = |output: &TValue| output.rank() == 3 && output.shape()[2] == positions;
            ensure!(
                positions > 0 && outputs.iter().all(alike),
                "outputs of different lengths"
            );
            let columns: usize = outputs.iter().map(|output| output.shape()[1]).sum();
            let mut rows = vec![0.0; positions * columns];
            let mut first = 0;
            for output in &outputs {
                let values = output.try_as_plain_ram()?.as_slice::<f32>()?;
                for (channel, values) in values.chunks_exact(positions).enumerate() {
                    for (position, value) in values.iter().enumerate() {
                        rows[position * columns + first + channel] = *value;
                    }
                }
                first += output.shape()[1];
            }
            Ok(rows)
        };
        contained(&self.path, "running the float network", || {
            run().map_err(|error| self.failed(&error))
        })
    }
}
