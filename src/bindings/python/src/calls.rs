//! The calls of many reads, batch by batch.

use crate::batch::{Batch, schema};
use crate::errors;
use crate::feed::{Feed, Got, Portion, Read};
use arrow_array::{ArrayRef, StructArray};
use arrow_schema::{ArrowError, Field};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use pyo3_arrow::error::PyArrowResult;
use pyo3_arrow::ffi::{ArrayIterator, to_schema_pycapsule, to_stream_pycapsule};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::ThreadId;
use std::time::Duration;
use std::{iter, thread};
use strandline::{AnnotateError, Annotator, Call, ReadState};

/// Rejected reads that are kept.
const KEPT: usize = 1_000;

/// A batch of calls after the other, as reads are asked for.
#[pyclass(module = "strandline", frozen)]
pub struct Calls {
    state: Mutex<State>,
    /// The thread that has the state.
    owner: Mutex<Option<ThreadId>>,
    reads_in: AtomicU64,
    reads_out: AtomicU64,
    rejected: Mutex<Vec<Py<PyAny>>>,
}

struct State {
    feed: Feed,
    workers: Workers,
    models: Arc<[String]>,
    portion: Portion,
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

impl Calls {
    pub fn new(
        feed: Feed,
        annotator: Annotator,
        models: Arc<[String]>,
        threads: usize,
        portion: Portion,
    ) -> Calls {
        Calls {
            state: Mutex::new(State {
                feed,
                workers: Workers {
                    annotator,
                    threads,
                    states: Mutex::default(),
                },
                models,
                portion,
                ended: false,
                error: None,
            }),
            owner: Mutex::default(),
            reads_in: AtomicU64::new(0),
            reads_out: AtomicU64::new(0),
            rejected: Mutex::default(),
        }
    }

    /// Waits for another thread that is at it, without the interpreter's lock; a signal ends the
    /// wait. The iterable, or a handler of signals or of logged lines, may ask from inside a batch.
    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        loop {
            match self.state.try_lock() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(state)) => return Ok(state.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            if *self.lock_owner() == Some(thread::current().id()) {
                let message = "calls are asked for while they are being made";
                return Err(PyValueError::new_err(message));
            }
            py.check_signals()?;
            py.detach(|| thread::sleep(Duration::from_millis(1)));
        }
    }

    fn lock_owner(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch with calls in it; none at the end.
    fn next_batch(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let mut state = self.lock(py)?;
        *self.lock_owner() = Some(thread::current().id());
        let next = self.next_of(py, &mut state);
        *self.lock_owner() = None;
        next
    }

    fn next_of(&self, py: Python<'_>, state: &mut State) -> PyResult<Option<Batch>> {
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.ended {
                return Ok(None);
            }
            py.check_signals()?;
            let batch = self.take(py, state)?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    /// Takes some reads and annotates them.
    fn take(&self, py: Python<'_>, state: &mut State) -> PyResult<Batch> {
        let Got {
            reads,
            rejected,
            end,
        } = state.feed.take(py, state.portion);
        state.ended = end.is_some();
        state.error = end.and_then(Result::err);
        let count = (reads.len() + rejected.len()) as u64;
        self.reads_in.fetch_add(count, Ordering::Relaxed);
        let workers = &state.workers;
        let all = py.detach(|| workers.annotate(&reads));
        let all = all.map_err(|error| {
            state.ended = true;
            match error {
                Some(error) => errors::annotate(py, &error),
                None => PyRuntimeError::new_err("a thread has panicked"),
            }
        })?;
        self.reads_out
            .fetch_add(reads.len() as u64, Ordering::Relaxed);
        let mut batch = Batch::new(state.models.clone());
        for (read, calls) in reads.iter().zip(all) {
            batch.add(&read.name, &calls);
        }
        if let Err(error) = self.warn(py, rejected) {
            // Of a handler; the calls come first.
            state.error.get_or_insert(error);
        }
        Ok(batch)
    }

    /// Keeps and logs why reads were not accepted.
    fn warn(&self, py: Python<'_>, rejected: Vec<Py<PyAny>>) -> PyResult<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        {
            let mut kept = self.rejected_reads();
            let room = KEPT.saturating_sub(kept.len());
            kept.extend(rejected.iter().take(room).map(|error| error.clone_ref(py)));
        }
        let logger = py
            .import("logging")?
            .call_method1("getLogger", ("strandline",))?;
        for error in rejected {
            logger.call_method1("warning", ("%s", error))?;
        }
        Ok(())
    }

    fn rejected_reads(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
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
        let all_own = thread::scope(|scope| {
            // Where the system has no more threads, fewer do.
            let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(spawn).collect();
            let own = iter::once(Ok(work()));
            own.chain(others.into_iter().map(thread::ScopedJoinHandle::join))
                .collect::<Vec<_>>()
        });
        for own in all_own {
            let own = own.map_err(|_| None)?;
            for (at, calls) in own.map_err(Some)? {
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
    fn reads_in(&self) -> u64 {
        self.reads_in.load(Ordering::Relaxed)
    }

    #[getter]
    fn reads_out(&self) -> u64 {
        self.reads_out.load(Ordering::Relaxed)
    }

    #[getter]
    fn rejected<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let kept: Vec<_> = {
            let rejected = self.rejected_reads();
            rejected.iter().map(|error| error.clone_ref(py)).collect()
        };
        PyList::new(py, kept)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock()
            && let Feed::Iterable { reads, .. } = &state.feed
        {
            visit.call(reads)?;
        }
        if let Ok(rejected) = self.rejected.try_lock() {
            for error in rejected.iter() {
                visit.call(error)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.feed = Feed::Cut;
        }
        if let Ok(mut rejected) = self.rejected.try_lock() {
            rejected.clear();
        }
    }

    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = PyList::empty(py);
        while let Some(batch) = self.next_batch(py)? {
            batch.dicts(py, &all)?;
        }
        Ok(all)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyArrowResult<Bound<'py, PyCapsule>> {
        to_schema_pycapsule(py, schema())
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
