//! The float network as tract runs it from its ONNX file: what a packed model is compared with.

use super::contain::contained;
use super::fuse::{self, Input, Meaning};
use super::lower::one_hot;
use super::reference;
use crate::kernels::NO_BASE;
use crate::model::error::ModelError;
use crate::model::genes;
use crate::model::manifest::Manifest;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tract_nnef::internal::*;
use tract_onnx::prelude::InferenceModelExt;
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
    /// Numbers of a token.
    words: usize,
    /// Inputs that the file's graph has.
    inputs: Vec<Input>,
    rewritten: Option<String>,
    quantised: bool,
    /// Positions at either end without a row of the file's graph.
    cut: [usize; 2],
    /// N before and behind a sequence, as the packed model reads them.
    padding: [usize; 2],
    /// The last length that tract could not run the file's own graph at.
    given_up: Option<usize>,
    /// The rewritten graph and the file's own, for the length of the last sequence: shapes often
    /// need one that is known.
    plans: [Option<(usize, Plan)>; 2],
}

/// What came out of a run.
#[derive(Debug)]
pub struct Rows {
    /// `[positions, outputs]`, or `[outputs]`.
    pub values: Vec<f32>,
    /// Positions at the beginning and at the end without a row.
    pub cut: [usize; 2],
    /// True of the file's own graph.
    pub original: bool,
}

impl Rows {
    /// Keeps the rows of `joined`, where the sequence that was run is `part`, of positions of one
    /// and the same sequence.
    ///
    /// # Errors
    /// Where there are none for all of them.
    pub fn narrow(
        &mut self,
        part: &Range<usize>,
        joined: &Range<usize>,
        columns: usize,
    ) -> Result<(), ModelError> {
        let first = joined.start.checked_sub(part.start + self.cut[0]);
        let rows = first.and_then(|first| {
            let values = self.values.get(first * columns..)?;
            values.get(..joined.len() * columns)
        });
        let rows = rows.ok_or_else(|| {
            let cut = self.cut[0] + self.cut[1];
            ModelError::Pack(format!("the network leaves {cut} positions out"))
        })?;
        self.values = rows.to_vec();
        self.cut = [0, 0];
        Ok(())
    }
}

impl FloatModel {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// Where it cannot be understood.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<FloatModel, ModelError> {
        let imported = contained(path, "reading the ONNX file", || fuse::read(path))?;
        let ids = imported.inputs.iter().any(|i| i.meaning == Meaning::Ids);
        if ids != manifest.tokeniser.reads_ids() {
            let read = if ids { "token ids" } else { "bases" };
            let file = path.display();
            return Err(ModelError::Pack(format!(
                "{file} reads {read}, the model does not"
            )));
        }
        Ok(FloatModel {
            path: path.to_path_buf(),
            columns: manifest.outputs.len(),
            words: manifest.tokeniser.words(),
            quantised: imported.quantised,
            cut: [imported.crop.0, imported.crop.1].map(|n| usize::try_from(n).unwrap_or(0)),
            padding: manifest.padding(),
            inputs: [imported.inputs, imported.dropped].concat(),
            rewritten: None,
            given_up: None,
            plans: [None, None],
        })
    }

    /// Why the rewritten graph was run somewhere, not the file's own.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_deref()
    }

    /// Gives the memory of its graphs back; they are read again when they are needed.
    pub fn forget(&mut self) {
        self.plans = [None, None];
    }

    /// Columns of all outputs together.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// True where the file itself rounds what it computes: it is read as the network before that.
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// Positions at the beginning and at the end of a sequence for which the file's own graph gives
    /// nothing.
    pub fn cut(&self) -> [usize; 2] {
        [0, 1].map(|side| self.cut[side].saturating_sub(self.padding[side]))
    }

    /// Rows of a sequence between the N that the packed model reads around it.
    fn rows_of(
        &mut self,
        sequence: &[u32],
        padding: [usize; 2],
        original: bool,
    ) -> Result<Rows, ModelError> {
        let [before, behind] = padding.map(|n| vec![u32::from(NO_BASE); n]);
        let padded = [&before, sequence, &behind].concat();
        let mut values = self.evaluate(&padded, original)?;
        let cut = if original { self.cut } else { [0, 0] };
        let more = |side: usize| padding[side].saturating_sub(cut[side]) * self.columns;
        values.truncate(values.len().saturating_sub(more(1)));
        values.drain(..more(0).min(values.len()));
        Ok(Rows {
            values,
            cut: [0, 1].map(|side| cut[side].saturating_sub(padding[side])),
            original,
        })
    }

    /// Raw outputs of the file's own graph, or where tract cannot run that, of the rewritten one.
    /// Fastest where sequences of one length follow one another.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run(&mut self, sequence: &[u32]) -> Result<Rows, ModelError> {
        self.run_padded(sequence, self.padding)
    }

    /// The same of a part of a sequence, without N around it.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run_part(&mut self, part: &[u32]) -> Result<Rows, ModelError> {
        self.run_padded(part, [0, 0])
    }

    fn run_padded(&mut self, sequence: &[u32], padding: [usize; 2]) -> Result<Rows, ModelError> {
        let length = sequence.len() / self.words;
        if self.given_up != Some(length) {
            match self.rows_of(sequence, padding, true) {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    self.given_up = Some(length);
                    self.rewritten.get_or_insert(error.to_string());
                }
            }
        }
        self.rows_of(sequence, padding, false)
    }

    /// Raw outputs of the graph as it is read here.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run_rewritten(&mut self, sequence: &[u32]) -> Result<Rows, ModelError> {
        self.rows_of(sequence, self.padding, false)
    }

    fn evaluate(&mut self, sequence: &[u32], original: bool) -> Result<Vec<f32>, ModelError> {
        let path = self.path.clone();
        let failed = |error: TractError| ModelError::Graph {
            file: path.display().to_string(),
            action: "running the float network",
            reason: format!("{error:#}"),
        };
        contained(&path, "running the float network", || {
            let length = sequence.len() / self.words;
            let slot = usize::from(original);
            let plan = match &self.plans[slot] {
                Some((of, plan)) if *of == length => plan.clone(),
                _ => {
                    // The old one goes first: a network may fill the memory.
                    self.plans[slot] = None;
                    let plan = self.plan(length, original).map_err(failed)?;
                    self.plans[slot].insert((length, plan)).1.clone()
                }
            };
            let run = || -> TractResult<Vec<f32>> {
                let outputs = plan.run(self.feed(&plan, sequence, original)?)?;
                let cut = if original { self.cut } else { [0, 0] };
                let length = length - cut.iter().sum::<usize>().min(length);
                self.rows(&outputs, length)
            };
            run().map_err(failed)
        })
    }

    fn plan(&self, length: usize, original: bool) -> TractResult<Plan> {
        let model = if !original {
            fuse::to_tract(&fuse::read(&self.path)?.unpadded(), Some(length))?
        } else {
            let reader = reference::onnx().with_ignore_output_shapes(true);
            let proto = fuse::standardised(&self.path)?;
            let folder = self.path.parent().and_then(Path::to_str);
            let mut model = reader.parse(&proto, folder)?.model;
            drop(proto);
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
    fn feed(&self, plan: &Plan, sequence: &[u32], original: bool) -> TractResult<TVec<TValue>> {
        let model = plan.model();
        let length = sequence.len() / self.words;
        let (ids, numbers, flags) = if self.words == 1 {
            (sequence.to_vec(), vec![], vec![])
        } else {
            genes::split(sequence)
        };
        let integers = |all: &[u32]| all.iter().map(|&id| i64::from(id)).collect();
        let mut values = tvec!();
        for outlet in model.input_outlets()? {
            let input = self.input(&model.node(outlet.node).name)?;
            let row: Vec<i64> = match input.meaning {
                Meaning::OneHot | Meaning::Values => vec![],
                Meaning::Ids => integers(&ids),
                Meaning::Flags => integers(&flags),
                Meaning::Mask => vec![1; length],
                Meaning::Types => vec![0; length],
                Meaning::Positions => (0..length as i64).collect(),
            };
            let mut tensor = match input.meaning {
                Meaning::OneHot => one_hot(sequence)?.into_tensor(),
                Meaning::Values => Tensor::from_shape(&[1, length], &numbers)?,
                _ => Tensor::from_shape(&[1, length], &row)?,
            };
            if input.transposed && original {
                tensor = tensor.permute_axes(&[0, 2, 1])?;
            }
            let kind = model.outlet_fact(*outlet)?.datum_type;
            values.push(tensor.cast_to_dt(kind)?.into_owned().into_tvalue());
        }
        Ok(values)
    }

    /// All outputs side by side, row by row. Channels come first or last.
    fn rows(&self, outputs: &[TValue], length: usize) -> TractResult<Vec<f32>> {
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
            let values = values(0)?;
            let fits = [self.columns, length * self.columns].contains(&values.len());
            ensure!(
                fits,
                "{} numbers for {length} positions of {} columns",
                values.len(),
                self.columns
            );
            return Ok(values.to_vec());
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
