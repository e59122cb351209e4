//! The float network as tract runs it from its ONNX file: what a packed model is compared with.

use super::contain::contained;
use super::fuse::{self, Input, Meaning};
use super::lower::one_hot;
use super::reference;
use crate::model::error::ModelError;
use crate::model::manifest::Manifest;
use std::path::{Path, PathBuf};
use tract_nnef::internal::*;
use tract_onnx::prelude::{Framework, InferenceModelExt};
use tract_onnx::tract_hir::internal::Factoid;

type Plan = Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>;

/// A float network that takes base codes or token ids: the graph as its file has it, without
/// anything that this compiler has understood of it. Where tract cannot run that one, the rewritten
/// graph.
#[derive(Debug)]
pub struct FloatModel {
    path: PathBuf,
    /// Columns of all outputs.
    columns: usize,
    /// Inputs that the file's graph has.
    inputs: Vec<Input>,
    rewritten: Option<String>,
    quantised: bool,
    /// Positions at either end without a row of the file's graph.
    cut: [usize; 2],
    /// For the length of the last sequence: shapes often need one that is known.
    plan: Option<(usize, Plan)>,
}

impl FloatModel {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// Where it cannot be understood.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<FloatModel, ModelError> {
        let imported = contained(path, "reading the ONNX file", || fuse::read(path))?;
        Ok(FloatModel {
            path: path.to_path_buf(),
            columns: manifest.outputs.len(),
            quantised: !imported.ranges.is_empty(),
            cut: [imported.crop.0, imported.crop.1].map(|n| usize::try_from(n).unwrap_or(0)),
            inputs: [imported.inputs, imported.dropped].concat(),
            rewritten: None,
            plan: None,
        })
    }

    /// Why the rewritten graph was run, not the file's own.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_deref()
    }

    /// Columns of all outputs together.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// True where the file itself rounds what it computes: it is read as the network before that.
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// Positions at the beginning and at the end of a sequence of which nothing comes out.
    pub fn cut(&self) -> [usize; 2] {
        match self.rewritten {
            Some(_) => [0, 0],
            None => self.cut,
        }
    }

    /// Raw outputs, `[positions, outputs]` without those of [`FloatModel::cut`], or `[outputs]`.
    /// Fastest where sequences of one length
    /// follow one another.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run(&mut self, sequence: &[u32]) -> Result<Vec<f32>, ModelError> {
        if self.rewritten.is_none() {
            match self.evaluate(sequence) {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    self.rewritten = Some(error.to_string());
                    self.plan = None;
                }
            }
        }
        self.evaluate(sequence)
    }

    fn evaluate(&mut self, sequence: &[u32]) -> Result<Vec<f32>, ModelError> {
        let path = self.path.clone();
        let failed = |error: TractError| ModelError::Graph {
            file: path.display().to_string(),
            action: "running the float network",
            reason: format!("{error:#}"),
        };
        contained(&path, "running the float network", || {
            let length = sequence.len();
            let plan = match &self.plan {
                Some((of, plan)) if *of == length => plan.clone(),
                _ => {
                    // The old one goes first: a network may fill the memory.
                    self.plan = None;
                    let plan = self.plan(length).map_err(failed)?;
                    self.plan.insert((length, plan)).1.clone()
                }
            };
            let run = || -> TractResult<Vec<f32>> {
                let outputs = plan.run(self.feed(&plan, sequence)?)?;
                self.rows(&outputs, length)
            };
            run().map_err(failed)
        })
    }

    fn plan(&self, length: usize) -> TractResult<Plan> {
        let model = if self.rewritten.is_some() {
            fuse::to_tract(&fuse::read(&self.path)?.unpadded(), Some(length))?
        } else {
            let mut model = reference::onnx()
                .with_ignore_output_shapes(true)
                .model_for_path(&self.path)?;
            for at in 0..model.input_outlets()?.len() {
                let outlet = model.input_outlets()?[at];
                let input = self.input(&model.node(outlet.node).name)?;
                let kind = model.input_fact(at)?.datum_type.concretize();
                let mut shape = input.meaning.shape_of(length);
                if input.transposed {
                    shape.swap(1, 2);
                }
                let kind = kind.with_context(|| format!("input {} has no type", input.name))?;
                model.set_input_fact(at, kind.fact(shape).into())?;
            }
            model.into_typed()?
        };
        SimplePlan::new(model.into_optimized()?)
    }

    fn input(&self, name: &str) -> TractResult<&Input> {
        let found = self.inputs.iter().find(|input| input.name == name);
        found.with_context(|| format!("input {name} is not understood"))
    }

    /// The sequence, every token of it real, for each input.
    fn feed(&self, plan: &Plan, sequence: &[u32]) -> TractResult<TVec<TValue>> {
        let model = plan.model();
        let length = sequence.len();
        let mut values = tvec!();
        for outlet in model.input_outlets()? {
            let input = self.input(&model.node(outlet.node).name)?;
            let ids: Vec<i64> = match input.meaning {
                Meaning::OneHot => vec![],
                Meaning::Ids => sequence.iter().map(|&id| i64::from(id)).collect(),
                Meaning::Mask => vec![1; length],
                Meaning::Types => vec![0; length],
                Meaning::Positions => (0..length as i64).collect(),
            };
            let mut tensor = match input.meaning {
                Meaning::OneHot => one_hot(sequence)?.into_tensor(),
                _ => Tensor::from_shape(&[1, length], &ids)?,
            };
            if input.transposed && self.rewritten.is_none() {
                tensor = tensor.permute_axes(&[0, 2, 1])?;
            }
            let kind = model.outlet_fact(*outlet)?.datum_type;
            values.push(tensor.cast_to_dt(kind)?.into_owned().into_tvalue());
        }
        Ok(values)
    }

    /// All outputs side by side, row by row. Channels come first or last.
    fn rows(&self, outputs: &[TValue], length: usize) -> TractResult<Vec<f32>> {
        let length = length - self.cut().iter().sum::<usize>().min(length);
        let mut all = vec![];
        for output in outputs {
            let output = output.cast_to::<f32>()?.into_owned();
            all.push(match *output.shape() {
                [1, channels, positions] if positions == length && channels != length => {
                    output.permute_axes(&[0, 2, 1])?
                }
                _ => output,
            });
        }
        let values = |at: usize| all[at].try_as_plain_ram()?.as_slice::<f32>();
        if all.len() == 1 {
            return Ok(values(0)?.to_vec());
        }
        let mut rows = vec![0.0; length * self.columns];
        let mut first = 0;
        for (at, output) in all.iter().enumerate() {
            let &[1, positions, channels] = output.shape() else {
                bail!("an output of {:?}", output.shape());
            };
            ensure!(
                positions == length && first + channels <= self.columns,
                "outputs of different lengths"
            );
            for (row, values) in rows
                .chunks_exact_mut(self.columns)
                .zip(values(at)?.chunks_exact(channels))
            {
                row[first..first + channels].copy_from_slice(values);
            }
            first += channels;
        }
        Ok(rows)
    }
}
