//! The progress of a work, as a callable of the facade hears of it.

use crate::progress::{self, WHOLE};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};

/// Calls a callable with (done, total); what it raises ends the work.
#[pyclass(frozen, module = "nseekfs._core")]
pub struct Progress {
    pub(super) core: progress::Progress<'static>,
    raised: Arc<Mutex<Option<PyErr>>>,
}

#[pymethods]
impl Progress {
    /// Of `times` works of one cost.
    #[new]
    fn new(callable: Py<PyAny>, times: usize) -> Self {
        let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
        let kept = Arc::clone(&raised);
        let tell = move |done: u64| match Python::try_attach(|py| callable.call1(py, (done, WHOLE))) {
            Some(Err(error)) => {
                *kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                false
            }
            // Where the interpreter is shutting down, nobody hears any more.
            _ => true,
        };
        Progress { core: progress::Progress::new(times, tell), raised }
    }

    /// Tells that all is done.
    fn finish(&self) -> PyResult<()> {
        self.core.finish();
        self.raised().map_or(Ok(()), Err)
    }
}

impl Progress {
    /// What the callable has raised.
    pub(super) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
