//! strandline from Python: reads in, calls out, as Arrow record batches or dicts; scores as NumPy
//! arrays. What everything does and gives stands in `python/strandline/__init__.pyi`.
//!
//! An iterable is read with the interpreter's lock held, some reads at a time; files are read, and
//! everything is scored, without it. Nothing runs between two calls from Python: there is no thread
//! to end, and an iterator that is dropped leaves nothing behind.

mod annotator;
mod batch;
mod calls;
mod errors;
mod feed;
mod model;

use pyo3::prelude::*;

#[pymodule]
fn _strandline(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<annotator::PyAnnotator>()?;
    module.add_class::<batch::Batch>()?;
    module.add_class::<calls::Calls>()?;
    module.add_class::<model::PyModel>()
}
