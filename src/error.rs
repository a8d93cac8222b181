//! Every error of the crate, one variant each.
//!
//! A variant carries data; `Display` makes the sentence, which names the argument, what was expected and what was
//! given. The Python binding only maps variants to exception types.

use std::path::PathBuf;

/// An unusable argument, a refusal of the operating system, or an invalid file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has the right type and an unusable value.
    #[error("{argument}: expected {expected}, got {got}")]
    Input {
        /// The argument's name.
        argument: &'static str,
        /// The values that are accepted.
        expected: String,
        /// The value given.
        got: String,
    },
    /// One value of a matrix is NaN or infinite.
    #[error("{argument}: expected finite values, got {value} at row {row}, column {column}")]
    NotFinite {
        /// The argument's name.
        argument: &'static str,
        /// Row of the value in the whole argument.
        row: u64,
        /// Column of the value.
        column: usize,
        /// The value, NaN or an infinity.
        value: f64,
    },
    /// One value of a matrix is finite, but infinite when rounded to the type that stores it.
    #[error("{argument}: expected values within the range of {level}, got {value:e} at row {row}, column {column}")]
    OutOfRange {
        /// The argument's name.
        argument: &'static str,
        /// The type that stores it, such as `float16`.
        level: &'static str,
        /// Row of the value in the whole argument.
        row: u64,
        /// Column of the value.
        column: usize,
        /// The value before rounding.
        value: f64,
    },
    /// A row's euclidean length is 2^63 or more, so that scores could overflow float32.
    #[error("{argument}: expected rows of length below 2^63, got {norm:e} at row {row}")]
    TooLong {
        /// The argument's name.
        argument: &'static str,
        /// The row.
        row: u64,
        /// Its length.
        norm: f64,
    },
    /// `normalized=True` was passed with rows that are not of unit length.
    #[error(
        "normalized: expected rows of unit length (within 0.002) because normalized=True, got length {norm} at row {row}; \
         leave normalized out: it never changes the answer"
    )]
    NotUnit {
        /// The first such row.
        row: u64,
        /// Its length.
        norm: f64,
    },
    /// The bytes are not a whole nseekfs file.
    #[error("{}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Which rule of FORMAT.md is broken, and how.
        reason: String,
    },
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The index has no row with this id.
    #[error("{argument}: expected ids that the index has, got {id}")]
    MissingId {
        /// The argument's name.
        argument: &'static str,
        /// The id.
        id: String,
    },
    /// Another writer holds the file.
    #[error("{}: expected a file that no other writer holds, got one held by {}", .path.display(), held_by(*.holder))]
    Busy {
        /// The file.
        path: PathBuf,
        /// The process that holds it, where the system tells.
        holder: Option<u32>,
    },
    /// Memory for a large buffer could not be allocated.
    #[error("out of memory: {bytes} bytes for {purpose}")]
    Memory {
        /// Bytes that were requested.
        bytes: u64,
        /// What they are for.
        purpose: &'static str,
    },
    /// The caller interrupted the work.
    #[error("interrupted")]
    Interrupted,
}

fn held_by(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

impl Error {
    /// An [`Error::Input`] from anything that prints.
    pub fn input(argument: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Error::Input { argument, expected: expected.into(), got: got.to_string() }
    }

    /// An [`Error::MissingId`].
    pub fn missing(argument: &'static str, id: impl std::fmt::Display) -> Self {
        Error::MissingId { argument, id: id.to_string() }
    }

    /// The same error about an argument that the caller knows as `name`; what is about no argument stays as it is.
    pub fn of_argument(mut self, name: &'static str) -> Self {
        use Error::{Input, NotFinite, OutOfRange, TooLong};
        if let Input { argument, .. } | NotFinite { argument, .. } | OutOfRange { argument, .. } | TooLong { argument, .. } = &mut self {
            *argument = name;
        }
        self
    }

    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }
}

/// No values, and room for `count`.
///
/// # Errors
/// [`Error::Memory`] where the allocation fails, its message ending in `purpose`.
pub fn room<T>(count: usize, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Error::Memory { bytes: count.saturating_mul(size_of::<T>()) as u64, purpose })?;
    Ok(values)
}

/// `count` copies of `value`.
///
/// # Errors
/// As [`room`].
pub fn filled<T: Clone>(count: usize, value: T, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = room(count, purpose)?;
    values.resize(count, value);
    Ok(values)
}

/// All of `values`.
///
/// # Errors
/// As [`room`].
pub fn collected<T>(values: impl IntoIterator<Item = T>, purpose: &'static str) -> Result<Vec<T>> {
    let mut values = values.into_iter();
    let (least, most) = values.size_hint();
    let mut all = room(least, purpose)?;
    if most == Some(least) {
        all.extend(values);
        return Ok(all);
    }
    values.try_for_each(|value| push(&mut all, value, purpose))?;
    Ok(all)
}

/// Appends `value`.
///
/// # Errors
/// As [`room`].
pub fn push<T>(values: &mut Vec<T>, value: T, purpose: &'static str) -> Result<()> {
    if values.len() == values.capacity() {
        let bytes = (2 * values.len().max(1) * size_of::<T>()) as u64;
        values.try_reserve(1).map_err(|_| Error::Memory { bytes, purpose })?;
    }
    values.push(value);
    Ok(())
}

/// `std::result::Result` with our [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_does_not_fit_in_memory_is_an_error() {
        let refused = |made: Result<Vec<u64>>| matches!(made, Err(Error::Memory { purpose: "a test", .. }));
        assert!(refused(room(1 << 60, "a test")));
        assert!(refused(filled(1 << 60, 7, "a test")));
        assert!(refused(collected(0..1 << 60, "a test")));
    }

    #[test]
    fn values_are_collected_whether_or_not_their_number_is_known() {
        assert_eq!(collected(0..1000, "a test").unwrap(), (0..1000).collect::<Vec<u64>>());
        let some = || (0..1000u64).filter(|i| i % 3 == 0);
        assert_eq!(collected(some(), "a test").unwrap(), some().collect::<Vec<u64>>());
    }
}
