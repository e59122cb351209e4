//! Errors as Python has them: those of `strandline._errors`, with file, record and byte.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use strandline::reads::fastx::{Reject, RejectReason};
use strandline::reads::source::InputError;
use strandline::{AnnotateError, ModelError};

/// A class of `strandline._errors`.
fn class<'py>(
    py: Python<'py>,
    kept: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let find =
        || -> PyResult<Py<PyAny>> { Ok(py.import("strandline._errors")?.getattr(name)?.unbind()) };
    Ok(kept.get_or_try_init(py, find)?.bind(py).clone())
}

/// An `InputError`, as an object.
pub fn input_object<'py>(
    py: Python<'py>,
    message: String,
    file: Option<&str>,
    record: Option<u64>,
    byte: Option<u64>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    class(py, &CLASS, "InputError")?.call1((message, file, record, byte))
}

/// What ended an input early.
pub fn input(py: Python<'_>, error: &InputError) -> PyErr {
    let (file, record, byte) = (error.file(), error.record(), error.byte());
    match input_object(py, error.to_string(), Some(file), record, byte) {
        Ok(object) => PyErr::from_value(object),
        Err(error) => error,
    }
}

/// A record that was not accepted.
pub fn rejected<'py>(py: Python<'py>, reject: &Reject) -> PyResult<Bound<'py, PyAny>> {
    let byte = match reject.reason {
        RejectReason::NotABase { at, .. }
        | RejectReason::BadQuality { at, .. }
        | RejectReason::ControlByte { at, .. } => at,
        _ => reject.offset,
    };
    let message = reject.to_string();
    let (file, record) = (Some(&*reject.file), Some(reject.number));
    input_object(py, message, file, record, Some(byte))
}

/// Wrong options are a `ValueError`, models a `ModelError`.
pub fn annotate(py: Python<'_>, error: &AnnotateError) -> PyErr {
    match error {
        AnnotateError::Options(message) => PyValueError::new_err(message.clone()),
        AnnotateError::Model(error) => model(py, error),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// What is wrong with a model.
pub fn model(py: Python<'_>, error: &ModelError) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let object = class(py, &CLASS, "ModelError");
    match object.and_then(|class| class.call1((error.to_string(),))) {
        Ok(object) => PyErr::from_value(object),
        Err(error) => error,
    }
}
