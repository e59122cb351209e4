//! Models and options, for whole reads and for reads that grow.

use crate::batch::Batch;
use crate::calls::{Calls, Pace};
use crate::errors;
use crate::feed::{Feed, encode, letters};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use strandline::{AnnotateError, Annotator, Call, ReadState, Request};

/// Models and options.
#[pyclass(name = "Annotator", module = "strandline", frozen)]
pub struct PyAnnotator {
    /// For reads that are whole, and for those that grow.
    annotators: [Annotator; 2],
    models: Arc<[String]>,
    open: Mutex<HashMap<Vec<u8>, ReadState>>,
    /// Of reads that are over.
    free: Mutex<Vec<ReadState>>,
}

/// The words of a keyword argument: lists are said one by one, or with commas between.
fn words(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.cast::<PyString>().is_err()
        && let Ok(items) = value.try_iter()
    {
        return items.map(|item| Ok(item?.str()?.to_string())).collect();
    }
    if let Ok(truth) = value.extract::<bool>() {
        return Ok(vec![truth.to_string()]);
    }
    Ok(vec![value.str()?.to_string()])
}

fn request(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Request> {
    let mut request = Request::default();
    let mut set = |key: &str, value: &str| {
        let set = request.set(key, value);
        set.map_err(|error| errors::annotate(py, &error))
    };
    for (key, value) in options.into_iter().flatten() {
        if value.is_none() {
            continue;
        }
        let key: String = key.extract()?;
        match &*key {
            "tasks" => set("tasks", &words(&value)?.join(","))?,
            "models" | "priors" => {
                let own = &key[..key.len() - 1];
                if let Ok(rates) = value.cast::<PyDict>() {
                    for (kind, rate) in rates {
                        set(own, &format!("{kind}={rate}"))?;
                    }
                } else {
                    for word in words(&value)? {
                        set(own, &word)?;
                    }
                }
            }
            _ => {
                for word in words(&value)? {
                    set(&key.replace('_', "-"), &word)?;
                }
            }
        }
    }
    Ok(request)
}

impl PyAnnotator {
    fn lock_open(&self) -> MutexGuard<'_, HashMap<Vec<u8>, ReadState>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_states(&self) -> MutexGuard<'_, Vec<ReadState>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, name: &[u8], calls: &[Call]) -> Batch {
        let mut batch = Batch::new(self.models.clone());
        batch.add(name, calls);
        batch
    }
}

#[pymethods]
impl PyAnnotator {
    #[new]
    #[pyo3(signature = (**options))]
    fn new(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<PyAnnotator> {
        let request = request(py, options)?;
        let opened = py.detach(|| -> Result<_, AnnotateError> {
            Ok([request.clone().open(false)?, request.open(true)?])
        });
        let annotators = opened.map_err(|error| errors::annotate(py, &error))?;
        let models = annotators[0].models().iter();
        let models = models.map(|model| format!("{}/{}", model.name, model.version));
        Ok(PyAnnotator {
            models: models.collect(),
            annotators,
            open: Mutex::default(),
            free: Mutex::default(),
        })
    }

    #[getter]
    fn models<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.models.iter())
    }

    #[getter]
    fn context(&self) -> usize {
        self.annotators[0].context()
    }

    #[pyo3(signature = (reads, *, threads=None, batch_reads=256, strict=false, max_read_len=16_000_000))]
    fn annotate(
        &self,
        py: Python<'_>,
        reads: &Bound<'_, PyAny>,
        threads: Option<usize>,
        batch_reads: usize,
        strict: bool,
        max_read_len: usize,
    ) -> PyResult<Calls> {
        if threads == Some(0) || batch_reads == 0 {
            return Err(PyValueError::new_err(
                "threads and batch_reads are at least 1",
            ));
        }
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let pace = Pace {
            threads: threads.unwrap_or_else(cores),
            reads_at_once: batch_reads,
            strict,
        };
        let feed = Feed::new(py, reads, max_read_len)?;
        let annotator = self.annotators[0].clone();
        Ok(Calls::new(feed, annotator, self.models.clone(), &pace))
    }

    fn push(
        &self,
        py: Python<'_>,
        read: &Bound<'_, PyAny>,
        bases: &Bound<'_, PyAny>,
    ) -> PyResult<Batch> {
        let (name, bases) = (letters(read)?, letters(bases)?);
        let codes = encode(&bases).map_err(|at| {
            let shown = String::from_utf8_lossy(&name);
            let byte = bases[at].escape_ascii();
            let message =
                format!("read {shown}: '{byte}' at byte {at} of these bases is no nucleotide");
            match errors::input_object(py, message, None, None, Some(at as u64)) {
                Ok(object) => PyErr::from_value(object),
                Err(error) => error,
            }
        })?;
        let begun = self.lock_open().remove(&name);
        let begun = begun.or_else(|| self.free_states().pop());
        let (state, calls) = py.detach(|| {
            let mut state = begun.unwrap_or_else(|| self.annotators[1].read());
            let mut calls = vec![];
            let pushed = state.push_codes(&codes, &mut calls);
            (state, pushed.map(|()| calls))
        });
        // Of a read that failed nothing is kept.
        let calls = calls.map_err(|error| errors::annotate(py, &error))?;
        let batch = self.batch(&name, &calls);
        self.lock_open().insert(name, state);
        Ok(batch)
    }

    fn finish(&self, py: Python<'_>, read: &Bound<'_, PyAny>) -> PyResult<Batch> {
        let name = letters(read)?;
        let Some(mut state) = self.lock_open().remove(&name) else {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(PyKeyError::new_err(name));
        };
        let (state, calls) = py.detach(|| {
            let mut calls = vec![];
            let finished = state.finish(&mut calls);
            (state, finished.map(|()| calls))
        });
        let calls = calls.map_err(|error| errors::annotate(py, &error))?;
        self.free_states().push(state);
        Ok(self.batch(&name, &calls))
    }

    fn abort(&self, read: &Bound<'_, PyAny>) -> PyResult<bool> {
        let found = self.lock_open().remove(&letters(read)?);
        let is_open = found.is_some();
        if let Some(mut state) = found {
            state.abort();
            self.free_states().push(state);
        }
        Ok(is_open)
    }

    #[getter]
    fn open_reads(&self) -> usize {
        self.lock_open().len()
    }

    fn __repr__(&self) -> String {
        format!("<strandline.Annotator: {}>", self.models.join(", "))
    }
}
