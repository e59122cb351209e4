//! Calls of some reads, as Arrow or as dicts.

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Float32Array, RecordBatch, StructArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};
use pyo3_arrow::error::PyArrowResult;
use pyo3_arrow::ffi::{to_array_pycapsules, to_schema_pycapsule};
use std::sync::Arc;
use strandline::Call;
use strandline::sink::clean;

/// The calls of some reads.
#[pyclass(module = "strandline", frozen)]
pub struct Batch {
    /// Names of the reads that have calls, and how many.
    reads: Vec<(String, usize)>,
    calls: Vec<Call>,
    /// `name/version` of each model.
    models: Arc<[String]>,
}

/// What the columns are.
pub fn schema() -> Schema {
    let column = |name, kind| Field::new(name, kind, false);
    Schema::new(vec![
        column("read", DataType::Utf8),
        column("start", DataType::UInt64),
        column("end", DataType::UInt64),
        column("strand", DataType::Utf8),
        column("kind", DataType::Utf8),
        column("score", DataType::Float32),
        column("model", DataType::Utf8),
        column("flags", DataType::Utf8),
    ])
}

impl Batch {
    pub fn new(models: Arc<[String]>) -> Batch {
        Batch {
            reads: vec![],
            calls: vec![],
            models,
        }
    }

    /// Adds the calls of a read.
    pub fn add(&mut self, name: &[u8], calls: &[Call]) {
        if !calls.is_empty() {
            self.reads.push((clean(name), calls.len()));
            self.calls.extend_from_slice(calls);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn model(&self, call: &Call) -> &str {
        self.models.get(usize::from(call.model)).map_or("", |m| m)
    }

    /// Each call with the name of its read.
    fn each(&self) -> impl Iterator<Item = (&str, &Call)> {
        let names = self.reads.iter();
        let names = names.flat_map(|(name, count)| std::iter::repeat_n(name.as_str(), *count));
        names.zip(&self.calls)
    }

    /// As Arrow has it.
    pub fn arrow(&self) -> RecordBatch {
        let text = |of: &mut dyn FnMut(&str, &Call) -> String| -> ArrayRef {
            let mut column = StringBuilder::new();
            for (name, call) in self.each() {
                column.append_value(of(name, call));
            }
            Arc::new(column.finish())
        };
        let calls = self.calls.iter();
        let columns: Vec<ArrayRef> = vec![
            text(&mut |name, _| name.to_string()),
            Arc::new(UInt64Array::from_iter_values(
                calls.clone().map(|c| c.start),
            )),
            Arc::new(UInt64Array::from_iter_values(calls.clone().map(|c| c.end))),
            text(&mut |_, call| call.strand.to_string()),
            text(&mut |_, call| call.kind.to_string()),
            Arc::new(Float32Array::from_iter_values(calls.map(|c| c.score))),
            text(&mut |_, call| self.model(call).to_string()),
            text(&mut |_, call| call.flags.to_string()),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema()), columns);
        batch.expect("columns of the schema's types, of one length")
    }

    /// A dict for each call.
    pub fn dicts<'py>(&self, py: Python<'py>, all: &Bound<'py, PyList>) -> PyResult<()> {
        for (name, call) in self.each() {
            let dict = PyDict::new(py);
            dict.set_item("read", name)?;
            dict.set_item("start", call.start)?;
            dict.set_item("end", call.end)?;
            dict.set_item("strand", call.strand.symbol())?;
            dict.set_item("kind", call.kind.name())?;
            dict.set_item("score", call.score)?;
            dict.set_item("model", self.model(call))?;
            dict.set_item("flags", call.flags.names().collect::<Vec<_>>())?;
            all.append(dict)?;
        }
        Ok(())
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.calls.len()
    }

    fn __repr__(&self) -> String {
        let (calls, reads) = (self.calls.len(), self.reads.len());
        format!("<strandline.Batch: {calls} calls of {reads} reads>")
    }

    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = PyList::empty(py);
        self.dicts(py, &all)?;
        Ok(all)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyArrowResult<Bound<'py, PyCapsule>> {
        to_schema_pycapsule(py, schema())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyArrowResult<Bound<'py, PyTuple>> {
        let field = Field::new_struct("", schema().fields, false);
        let rows = StructArray::from(self.arrow());
        to_array_pycapsules(py, field.into(), &rows, requested_schema)
    }
}
