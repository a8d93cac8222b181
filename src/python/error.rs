//! The one match from the core's errors to Python's exceptions, and Ctrl-C.
//!
//! Nothing here imports a module or makes an object that can fail to be made: an error is raised where no file can be
//! opened, where `sys.path` is empty, and while the interpreter shuts down.

use super::progress::Progress;
use crate::error::{Error, Result};
use crate::kernel::FloatMode;
use crate::pool::Watch;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use std::sync::Mutex;

pyo3::import_exception!(nseekfs._errors, InputError);
pyo3::import_exception!(nseekfs._errors, FormatError);
pyo3::import_exception!(nseekfs._errors, BusyError);
pyo3::import_exception!(nseekfs._errors, MissingIdError);

/// Looks up the facade's exceptions, which are kept, so that raising one imports nothing.
pub fn keep_classes(py: Python<'_>) -> PyResult<()> {
    // An error where it fails; the lookup would panic.
    py.import("nseekfs._errors")?;
    py.get_type::<InputError>();
    py.get_type::<FormatError>();
    py.get_type::<BusyError>();
    py.get_type::<MissingIdError>();
    Ok(())
}

/// The exception of an error.
pub fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { path, source } => match source.raw_os_error() {
            // With a number Python picks the subclass: FileNotFoundError, PermissionError, ... The path goes over as a
            // string: as a path it would import pathlib.
            Some(number) => PyOSError::new_err((number, reason(&source), path.into_os_string())),
            None => PyOSError::new_err(text),
        },
        Error::Memory { .. } => PyMemoryError::new_err(text),
        Error::Format { .. } => FormatError::new_err(text),
        Error::Busy { .. } => BusyError::new_err(text),
        Error::MissingId { .. } => MissingIdError::new_err(text),
        Error::Interrupted => PyRuntimeError::new_err(text),
        Error::Input { .. } | Error::NotFinite { .. } | Error::OutOfRange { .. } | Error::TooLong { .. } | Error::NotUnit { .. } => {
            InputError::new_err(text)
        }
    }
}

/// The system's words without the number, which Python adds itself.
fn reason(source: &std::io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Runs `work` with the interpreter released, whatever floating-point mode the caller is in; a signal handler
/// that raises ends it.
pub fn released<T: Send>(py: Python<'_>, work: impl FnOnce(&Watch) -> Result<T> + Send) -> PyResult<T> {
    told(py, None, work)
}

/// The same, and `progress` hears of the work.
pub fn told<T: Send>(py: Python<'_>, progress: Option<&Progress>, work: impl FnOnce(&Watch) -> Result<T> + Send) -> PyResult<T> {
    let raised: Mutex<Option<PyErr>> = Mutex::new(None);
    let go_on = || match Python::try_attach(|py| py.check_signals()) {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            *raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            false
        }
        // The interpreter is shutting down, and interrupts nothing any more.
        None => true,
    };
    let result = py.detach(|| {
        let _mode = FloatMode::standard();
        work(&Watch::new(&go_on).telling(progress.map(|progress| &progress.core)))
    });
    let raised = raised.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).or_else(|| progress.and_then(Progress::raised));
    result.map_err(|error| raised.unwrap_or_else(|| raise(error)))
}
