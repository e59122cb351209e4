//! Models and options, for whole reads and for reads that grow.

use crate::batch::Batch;
use crate::calls::Calls;
use crate::errors;
use crate::feed::{Feed, Portion, encode, letters};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use strandline::{AnnotateError, Annotator, Call, ReadState, Request};

/// Models and options.
#[pyclass(name = "Annotator", module = "strandline", frozen)]
pub struct PyAnnotator {
    /// For reads that are whole, and for those that grow.
    annotators: [Annotator; 2],
    models: Arc<[String]>,
    open: Mutex<HashMap<Vec<u8>, Open>>,
    /// Of reads that are over.
    free: Mutex<Vec<ReadState>>,
}

/// A read that grows; nothing where it is over. Calls on one read wait for each other.
type Open = Arc<Mutex<Option<ReadState>>>;

/// The words of a keyword argument: lists are said one by one, or with commas between.
fn words(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.cast::<PyBytes>().is_ok() {
        return Err(PyTypeError::new_err("options are str, not bytes"));
    }
    if value.hasattr("__fspath__")? {
        return Ok(vec![value.extract::<PathBuf>()?.display().to_string()]);
    }
    if value.cast::<PyString>().is_err()
        && let Ok(items) = value.try_iter()
    {
        let words = items.map(|item| words(&item?));
        return Ok(words.collect::<PyResult<Vec<_>>>()?.concat());
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
                if let Ok(rates) = value.cast::<PyMapping>() {
                    for rate in rates.items()? {
                        let (kind, rate): (String, f64) = rate.extract()?;
                        set(own, &format!("{kind}={rate}"))?;
                    }
                } else {
                    for word in words(&value)? {
                        set(own, &word)?;
                    }
                }
            }
            _ => {
                let [word] = &*words(&value)? else {
                    return Err(PyValueError::new_err(format!("{key} is one value")));
                };
                set(&key.replace('_', "-"), word)?;
            }
        }
    }
    Ok(request)
}

impl PyAnnotator {
    fn lock_open(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_states(&self) -> MutexGuard<'_, Vec<ReadState>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read, begun where it is not open.
    fn begun(&self, name: &[u8]) -> Open {
        let mut open = self.lock_open();
        if let Some(open) = open.get(name) {
            return open.clone();
        }
        let free = self.free_states().pop();
        let state = free.unwrap_or_else(|| self.annotators[1].read());
        let begun = Arc::new(Mutex::new(Some(state)));
        open.insert(name.to_vec(), begun.clone());
        begun
    }

    /// Ends a read; none where it is not open.
    fn end(&self, name: &[u8]) -> Option<ReadState> {
        let open = self.lock_open().remove(name)?;
        open.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    #[pyo3(signature = (
        reads, *, threads=None, batch_reads=256, strict=false, max_read_len=16_000_000
    ))]
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
        let portion = Portion {
            most: batch_reads,
            strict,
        };
        let threads = threads.unwrap_or_else(cores);
        let feed = Feed::new(py, reads, max_read_len)?;
        let annotator = self.annotators[0].clone();
        let models = self.models.clone();
        Ok(Calls::new(feed, annotator, models, threads, portion))
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
        let calls = py.detach(|| {
            loop {
                let open = self.begun(&name);
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                // Over meanwhile, by another thread: then this is the next read of that name.
                let Some(state) = &mut *open else { continue };
                let mut calls = vec![];
                let pushed = state.push_codes(&codes, &mut calls);
                if pushed.is_err() {
                    // Nothing is kept of it.
                    *open = None;
                    self.lock_open().remove(&name);
                }
                return pushed.map(|()| calls);
            }
        });
        let calls = calls.map_err(|error| errors::annotate(py, &error))?;
        Ok(self.batch(&name, &calls))
    }

    fn finish(&self, py: Python<'_>, read: &Bound<'_, PyAny>) -> PyResult<Batch> {
        let name = letters(read)?;
        let finished = py.detach(|| {
            let mut state = self.end(&name)?;
            let mut calls = vec![];
            let finished = state.finish(&mut calls).map(|()| calls);
            if finished.is_ok() {
                self.free_states().push(state);
            }
            Some(finished)
        });
        let Some(calls) = finished else {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(PyKeyError::new_err(name));
        };
        let calls = calls.map_err(|error| errors::annotate(py, &error))?;
        Ok(self.batch(&name, &calls))
    }

    fn abort(&self, py: Python<'_>, read: &Bound<'_, PyAny>) -> PyResult<bool> {
        let name = letters(read)?;
        Ok(py.detach(|| match self.end(&name) {
            None => false,
            Some(mut state) => {
                state.abort();
                self.free_states().push(state);
                true
            }
        }))
    }

    #[getter]
    fn open_reads(&self) -> usize {
        self.lock_open().len()
    }

    fn __repr__(&self) -> String {
        format!("<strandline.Annotator: {}>", self.models.join(", "))
    }
}
