//! The one match from the core's errors to Python's exceptions, and Ctrl-C.

use crate::error::{Error, Result};
use crate::kernel::FloatMode;
use crate::pool::Watch;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use std::sync::Mutex;

/// The exception of an error.
pub fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { path, source } => match source.raw_os_error() {
            // With a number Python picks the subclass: FileNotFoundError, PermissionError, ...
            Some(number) => PyOSError::new_err((number, reason(&source), path)),
            None => PyOSError::new_err(text),
        },
        Error::Memory { .. } => PyMemoryError::new_err(text),
        Error::Format { .. } => ours("FormatError", text),
        Error::Interrupted => PyRuntimeError::new_err(text),
        Error::Input { .. } | Error::NotFinite { .. } | Error::OutOfRange { .. } | Error::TooLong { .. } | Error::NotUnit { .. } => {
            ours("InputError", text)
        }
    }
}

/// An exception of the facade's.
fn ours(name: &str, text: String) -> PyErr {
    Python::attach(|py| {
        let class = py.import("nseekfs._errors").and_then(|module| module.getattr(name));
        class.and_then(|class| class.call1((text,))).map_or_else(|error| error, PyErr::from_value)
    })
}

/// The system's words without the number, which Python adds itself.
fn reason(source: &std::io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Runs `work` with the interpreter released, whatever floating-point mode the caller is in; a signal handler
/// that raises ends it.
pub fn released<T: Send>(py: Python<'_>, work: impl FnOnce(&Watch) -> Result<T> + Send) -> PyResult<T> {
    let raised: Mutex<Option<PyErr>> = Mutex::new(None);
    let go_on = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => true,
        Err(error) => {
            *raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            false
        }
    };
    let result = py.detach(|| {
        let _mode = FloatMode::standard();
        work(&Watch::new(&go_on))
    });
    let raised = raised.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    result.map_err(|error| match (error, raised) {
        (Error::Interrupted, Some(raised)) => raised,
        (error, _) => raise(error),
    })
}
