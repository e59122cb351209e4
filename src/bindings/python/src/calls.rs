//! The calls of many reads, batch by batch.

use crate::batch::{Batch, schema};
use crate::errors;
use crate::feed::{Feed, Read, Taken};
use arrow_array::{ArrayRef, StructArray};
use arrow_schema::{ArrowError, Field};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use pyo3_arrow::error::PyArrowResult;
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{iter, thread};
use strandline::{AnnotateError, Annotator, Call, ReadState};

/// Rejected reads that are kept.
const KEPT: usize = 1_000;

/// A batch of calls after the other, as reads are asked for.
#[pyclass(module = "strandline", frozen)]
pub struct Calls {
    state: Mutex<State>,
}

struct State {
    feed: Feed,
    workers: Workers,
    models: Arc<[String]>,
    reads_at_once: usize,
    strict: bool,
    reads_in: u64,
    reads_out: u64,
    rejected: Vec<Py<PyAny>>,
    ended: bool,
    /// An error that is to be raised when everything before it was given.
    error: Option<PyErr>,
}

/// What annotates the reads of a batch.
struct Workers {
    annotator: Annotator,
    threads: usize,
    /// What threads hold of reads, for the next batch.
    states: Mutex<Vec<ReadState>>,
}

/// How to go through reads.
pub struct Pace {
    pub threads: usize,
    pub reads_at_once: usize,
    pub strict: bool,
}

impl Calls {
    pub fn new(feed: Feed, annotator: Annotator, models: Arc<[String]>, pace: &Pace) -> Calls {
        Calls {
            state: Mutex::new(State {
                feed,
                workers: Workers {
                    annotator,
                    threads: pace.threads,
                    states: Mutex::default(),
                },
                models,
                reads_at_once: pace.reads_at_once,
                strict: pace.strict,
                reads_in: 0,
                reads_out: 0,
                rejected: vec![],
                ended: false,
                error: None,
            }),
        }
    }

    /// Another thread may be at it: the interpreter's lock must not be held meanwhile.
    fn state<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, State> {
        if let Ok(state) = self.state.try_lock() {
            return state;
        }
        loop {
            py.detach(|| thread::sleep(std::time::Duration::from_millis(1)));
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(std::sync::TryLockError::Poisoned(state)) => return state.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) => {}
            }
        }
    }

    /// The next batch with calls in it; none at the end.
    fn next_batch(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let mut state = self.state(py);
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.ended {
                return Ok(None);
            }
            py.check_signals()?;
            let batch = state.next(py)?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
    }
}

impl State {
    fn next(&mut self, py: Python<'_>) -> PyResult<Batch> {
        let most = self.reads_at_once;
        let Taken {
            reads,
            rejected,
            end,
        } = self.feed.take(py, most);
        self.ended = end.is_some();
        self.error = end.and_then(Result::err);
        self.reads_in += (reads.len() + rejected.len()) as u64;
        if let (true, Some(first)) = (self.strict, rejected.first()) {
            // The reads of the batch that came before it are not given: nobody asked to go on.
            self.ended = true;
            return Err(PyErr::from_value(first.bind(py).clone()));
        }
        for error in rejected {
            let logger = py
                .import("logging")?
                .call_method1("getLogger", ("strandline",))?;
            logger.call_method1("warning", ("%s", &error))?;
            if self.rejected.len() < KEPT {
                self.rejected.push(error);
            }
        }
        let workers = &self.workers;
        let all = py.detach(|| workers.annotate(&reads));
        let all = all.map_err(|error| {
            self.ended = true;
            match error {
                Some(error) => errors::annotate(py, &error),
                None => PyRuntimeError::new_err("a thread has panicked"),
            }
        })?;
        self.reads_out += reads.len() as u64;
        let mut batch = Batch::new(self.models.clone());
        for (read, calls) in reads.iter().zip(all) {
            batch.add(&read.name, &calls);
        }
        Ok(batch)
    }
}

impl Workers {
    /// The calls of each read; no error is a panic.
    fn annotate(&self, reads: &[Read]) -> Result<Vec<Vec<Call>>, Option<AnnotateError>> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Vec<Call>)>, AnnotateError> {
            let kept = self.lock_states().pop();
            let mut state = kept.unwrap_or_else(|| self.annotator.read());
            let mut own = vec![];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(read) = reads.get(at) else { break };
                let mut calls = vec![];
                state.push_codes(&read.codes, &mut calls)?;
                state.finish(&mut calls)?;
                own.push((at, calls));
            }
            self.lock_states().push(state);
            Ok(own)
        };
        let threads = self.threads.min(reads.len()).max(1);
        let mut all = vec![vec![]; reads.len()];
        let parts = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = iter::once(Ok(work()));
            own.chain(others.into_iter().map(thread::ScopedJoinHandle::join))
                .collect::<Vec<_>>()
        });
        for part in parts {
            let part = part.map_err(|_| None)?;
            for (at, calls) in part.map_err(Some)? {
                all[at] = calls;
            }
        }
        Ok(all)
    }

    fn lock_states(&self) -> MutexGuard<'_, Vec<ReadState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Calls {
    fn __iter__(own: PyRef<'_, Self>) -> PyRef<'_, Self> {
        own
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        self.next_batch(py)
    }

    #[getter]
    fn reads_in(&self, py: Python<'_>) -> u64 {
        self.state(py).reads_in
    }

    #[getter]
    fn reads_out(&self, py: Python<'_>) -> u64 {
        self.state(py).reads_out
    }

    #[getter]
    fn rejected<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let state = self.state(py);
        PyList::new(py, state.rejected.iter().map(|error| error.bind(py)))
    }

    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = PyList::empty(py);
        while let Some(batch) = self.next_batch(py)? {
            batch.dicts(py, &all)?;
        }
        Ok(all)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyArrowResult<Bound<'py, PyCapsule>> {
        to_schema_pycapsule(py, &schema())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        own: Bound<'py, Self>,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyArrowResult<Bound<'py, PyCapsule>> {
        let calls = own.unbind();
        let batches = iter::from_fn(move || {
            let batch = Python::attach(|py| calls.get().next_batch(py));
            match batch {
                Ok(batch) => batch.map(|batch| {
                    let rows: ArrayRef = Arc::new(StructArray::from(batch.arrow()));
                    Ok(rows)
                }),
                Err(error) => Some(Err(ArrowError::ExternalError(Box::new(error)))),
            }
        });
        let field = Field::new_struct("", schema().fields, false);
        let reader = Box::new(ArrayIterator::new(batches, field.into()));
        to_stream_pycapsule(py, reader, requested_schema)
    }
}
