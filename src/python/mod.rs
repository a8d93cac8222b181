//! The Python binding: views in, arrays out, the interpreter released while Rust works.
//! No wording, no defaults, no logic: those are the core's and the facade's.

mod array;
mod cluster;
mod error;
mod index;
mod progress;

use crate::format::{MAX_BITS, MAX_TABLES};
use crate::kernel;
use crate::progress::WHOLE;
use crate::reserve::Allocator;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Which kernels this CPU can run, and which one is in use.
#[pyfunction]
fn simd_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    let names: Vec<&str> = kernel::available().iter().map(|table| table.name).collect();
    info.set_item("available", names)?;
    info.set_item("used", kernel::selected().map_err(error::raise)?.name)?;
    Ok(info)
}

/// The compiled part of nseekfs.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    error::keep_classes(module.py())?;
    array::connect(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("MAX_TABLES", MAX_TABLES)?;
    module.add("MAX_BITS", MAX_BITS)?;
    module.add("PROGRESS_TOTAL", WHOLE)?;
    module.add_class::<cluster::Centroids>()?;
    module.add_class::<cluster::MiniBatch>()?;
    module.add_class::<index::BuildParams>()?;
    module.add_class::<index::Builder>()?;
    module.add_class::<index::Index>()?;
    module.add_class::<progress::Progress>()?;
    module.add_function(wrap_pyfunction!(cluster::train, module)?)?;
    module.add_function(wrap_pyfunction!(cluster::train_batches, module)?)?;
    module.add_function(wrap_pyfunction!(cluster::round_rows, module)?)?;
    module.add_function(wrap_pyfunction!(index::empty, module)?)?;
    module.add_function(wrap_pyfunction!(index::from_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(index::load, module)?)?;
    module.add_function(wrap_pyfunction!(simd_info, module)?)
}
