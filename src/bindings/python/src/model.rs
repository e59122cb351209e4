//! One model, built in or of a file.

use crate::errors;
use crate::feed::{encode, letters};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString};
use std::path::PathBuf;
use std::sync::Mutex;
use strandline::annotate::builtin::BuiltIn;
use strandline::annotate::{Scorer, WholeScorer};
use strandline::model::manifest::Manifest;
use strandline::{AnnotateError, Model, Runner, Strand, Tier};

/// One model.
#[pyclass(name = "Model", module = "strandline", frozen)]
pub struct PyModel {
    manifest: Manifest,
    file: String,
    hash: String,
    kind: Mutex<Kind>,
}

/// How it is run.
enum Kind {
    /// A row for each base, calibrated.
    Bases(Box<Scorer>),
    /// One row for a sequence, calibrated.
    Whole(Box<WholeScorer>),
    /// Codes or ids, as they are, to what the network gives.
    Raw(Box<Runner>, bool),
}

fn tier_of(name: &str) -> PyResult<Tier> {
    let tiers = [Tier::Fast, Tier::Accurate, Tier::Auto];
    let found = tiers.into_iter().find(|tier| tier.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("tier {name:?}: fast, accurate or auto")))
}

fn strand_of(name: &str) -> PyResult<Strand> {
    match name {
        "forward" | "+" => Ok(Strand::Forward),
        "reverse" | "-" => Ok(Strand::Reverse),
        _ => Err(PyValueError::new_err(format!(
            "strand {name:?}: forward or reverse"
        ))),
    }
}

impl PyModel {
    fn open(path: PathBuf, tier: Tier) -> Result<PyModel, AnnotateError> {
        let built_in = path.to_str().and_then(|name| name.parse::<BuiltIn>().ok());
        let model = match built_in {
            Some(built_in) if !path.exists() => built_in.model(tier)?,
            _ => Model::open_tier(&path, tier)?,
        };
        let manifest = model.manifest().clone();
        let (file, hash) = (model.file().name(), model.file().content_hash());
        let (file, hash) = (file.to_string(), hash.to_string());
        let kind = if manifest.is_raw() {
            Kind::Raw(Box::new(model.spawn()?), model.is_pooled())
        } else if manifest.is_scan() {
            Kind::Bases(Box::new(Scorer::new(model)?))
        } else {
            Kind::Whole(Box::new(WholeScorer::new(model)?))
        };
        Ok(PyModel {
            manifest,
            file,
            hash,
            kind: Mutex::new(kind),
        })
    }
}

/// What is scored.
enum Sequence {
    Codes(Vec<u8>),
    Ids(Vec<u32>),
}

fn sequence_of(py: Python<'_>, sequence: &Bound<'_, PyAny>) -> PyResult<Sequence> {
    let is_text = sequence.cast::<PyString>().is_ok()
        || sequence.cast::<PyBytes>().is_ok()
        || sequence.cast::<PyByteArray>().is_ok();
    if !is_text {
        let ids = sequence.extract();
        let ids = ids.map_err(|_| {
            let message = "a sequence is str, bytes or bytearray; token ids are whole numbers";
            PyTypeError::new_err(message)
        });
        return Ok(Sequence::Ids(ids?));
    }
    let letters = letters(sequence)?;
    let codes = encode(&letters).map_err(|at| {
        let byte = letters[at].escape_ascii();
        let message = format!("'{byte}' at byte {at} is no nucleotide");
        match errors::input_object(py, message, None, None, Some(at as u64)) {
            Ok(object) => PyErr::from_value(object),
            Err(error) => error,
        }
    })?;
    Ok(Sequence::Codes(codes))
}

impl Kind {
    /// Numbers, and whether they are rows; none where the sequence is too short.
    fn score(
        &mut self,
        sequence: &Sequence,
        strand: Strand,
    ) -> Result<Option<(Vec<f32>, bool)>, AnnotateError> {
        let wrong = |message: &str| Err(AnnotateError::Options(message.to_string()));
        match (self, sequence) {
            (Kind::Raw(..), _) if strand == Strand::Reverse => {
                wrong("a raw model takes the sequence as it is: give its reverse complement")
            }
            (Kind::Raw(runner, pooled), Sequence::Codes(codes)) => {
                Ok(Some((runner.run(codes)?.to_vec(), !*pooled)))
            }
            (Kind::Raw(runner, pooled), Sequence::Ids(ids)) => {
                Ok(Some((runner.run_ids(ids)?.to_vec(), !*pooled)))
            }
            (_, Sequence::Ids(_)) => wrong("this model reads bases, not token ids"),
            (Kind::Bases(scorer), Sequence::Codes(codes)) => {
                let mut all = Vec::with_capacity(codes.len() * scorer.manifest().outputs.len());
                scorer.score(codes, strand, |rows| {
                    all.extend_from_slice(rows);
                    Ok::<(), AnnotateError>(())
                })?;
                Ok(Some((all, true)))
            }
            (Kind::Whole(scorer), Sequence::Codes(codes)) => {
                let scores = scorer.score(codes, strand)?;
                Ok(scores.map(|scores| (scores, false)))
            }
        }
    }
}

#[pymethods]
impl PyModel {
    #[new]
    #[pyo3(signature = (model, *, tier="auto"))]
    fn new(py: Python<'_>, model: PathBuf, tier: &str) -> PyResult<PyModel> {
        let tier = tier_of(tier)?;
        let opened = py.detach(|| PyModel::open(model, tier));
        opened.map_err(|error| errors::annotate(py, &error))
    }

    #[pyo3(signature = (sequence, *, strand="forward"))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        sequence: &Bound<'py, PyAny>,
        strand: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let strand = strand_of(strand)?;
        let sequence = sequence_of(py, sequence)?;
        // Waited for without the interpreter's lock, which another thread at it may need.
        let scored = py.detach(|| {
            let kind = self.kind.lock();
            let mut kind = kind.unwrap_or_else(std::sync::PoisonError::into_inner);
            kind.score(&sequence, strand)
        });
        let scored = scored.map_err(|error| errors::annotate(py, &error))?;
        let Some((scores, rows)) = scored else {
            let message = "the sequence is too short for this model";
            return Err(PyValueError::new_err(message));
        };
        let columns = self.manifest.outputs.len();
        let count = scores.len() / columns.max(1);
        let array = PyArray1::from_vec(py, scores);
        if rows {
            Ok(array.reshape([count, columns])?.into_any())
        } else {
            Ok(array.into_any())
        }
    }

    #[getter]
    fn name(&self) -> &str {
        &self.manifest.name
    }

    #[getter]
    fn version(&self) -> &str {
        &self.manifest.version
    }

    #[getter]
    fn task(&self) -> &str {
        &self.manifest.task
    }

    #[getter]
    fn outputs(&self) -> Vec<&str> {
        let outputs = self.manifest.outputs.iter();
        outputs.map(|output| output.name.as_str()).collect()
    }

    #[getter]
    fn context(&self) -> (usize, usize) {
        let context = self.manifest.context;
        (context.left, context.right)
    }

    #[getter]
    fn file(&self) -> &str {
        &self.file
    }

    #[getter]
    fn hash(&self) -> &str {
        &self.hash
    }

    fn __repr__(&self) -> String {
        let (name, version) = (&self.manifest.name, &self.manifest.version);
        format!("<strandline.Model: {name}/{version}>")
    }
}
