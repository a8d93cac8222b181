//! The input of k-means: finite float32 rows with their norms, or a selection of such rows without a copy.

use crate::error::{Error, Result, filled};
use crate::input::{Block, check_row};
use crate::kernel::Kernel;
use crate::level::Level;
use crate::pool::{self, Watch};
use std::borrow::Cow;
use std::sync::Mutex;

/// Bytes of rows whose norms one job computes.
const JOB_BYTES: usize = 1 << 20;
/// The limit that an index has, too.
const MAX_DIMS: usize = 65_536;

/// Finite rows of `dims` float32 values, and their norms.
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    argument: &'static str,
    values: Cow<'a, [f32]>,
    dims: usize,
    norms: Vec<f64>,
    /// Where each row starts in `values`; `None`: row i at `i * dims`.
    starts: Option<Vec<usize>>,
}

impl<'a> Samples<'a> {
    /// Checks `values`, rows of `dims` numbers, and computes the norms. Errors name `argument`.
    ///
    /// # Errors
    /// No rows, more than `u32::MAX` rows, no dims or more than 65,536; NaN or infinity; norms of 2^63 or more;
    /// [`Error::Interrupted`].
    pub fn new(
        argument: &'static str,
        values: impl Into<Cow<'a, [f32]>>,
        dims: usize,
        kernel: &Kernel,
        threads: usize,
        watch: &Watch,
    ) -> Result<Self> {
        let values = values.into();
        if dims == 0 || dims > MAX_DIMS || values.is_empty() || !values.len().is_multiple_of(dims) {
            let got = format!("{} values in rows of {dims}", values.len());
            return Err(Error::input(argument, format!("one row or more of 1 to {MAX_DIMS} values"), got));
        }
        let rows = values.len() / dims;
        if rows > u32::MAX as usize {
            return Err(Error::input(argument, format!("{} rows at most", u32::MAX), format!("{rows} rows")));
        }
        let per_job = (JOB_BYTES / (4 * dims)).max(1);
        let mut norms = filled(rows, 0.0, "the lengths of rows")?;
        let jobs: Vec<_> = values.chunks(per_job * dims).zip(norms.chunks_mut(per_job)).map(Mutex::new).collect();
        let work = |(): &mut (), job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (values, norms) = &mut *slot;
            (kernel.squared_norm)(values, dims, norms);
            for (i, norm) in norms.iter_mut().enumerate() {
                let row = &values[i * dims..(i + 1) * dims];
                check_row(argument, Level::F32, Block::F32(row), *norm, (job * per_job + i) as u64)?;
                *norm = norm.sqrt();
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        drop(jobs);
        Ok(Samples { argument, values, dims, norms, starts: None })
    }

    /// The rows of these numbers; their values are borrowed.
    ///
    /// # Errors
    /// No memory.
    pub fn pick(&self, rows: &[usize]) -> Result<Samples<'_>> {
        let (mut starts, mut norms) = (filled(rows.len(), 0, "a sample of rows")?, filled(rows.len(), 0.0, "a sample of rows")?);
        for ((start, norm), &row) in starts.iter_mut().zip(&mut norms).zip(rows) {
            (*start, *norm) = (self.start(row), self.norms[row]);
        }
        Ok(Samples { argument: self.argument, values: Cow::Borrowed(&self.values), dims: self.dims, norms, starts: Some(starts) })
    }

    /// The caller's name for the rows, for errors.
    pub fn argument(&self) -> &'static str {
        self.argument
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Always false: [`Samples::new`] refuses input without rows.
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// Values per row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The `dims` values of one row.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = self.start(row);
        &self.values[start..start + self.dims]
    }

    /// All values given to [`Samples::new`], those of rows that were not picked included.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// [`Samples::values`], owned.
    pub fn into_values(self) -> Vec<f32> {
        self.values.into_owned()
    }

    fn start(&self, row: usize) -> usize {
        self.starts.as_ref().map_or(row * self.dims, |starts| starts[row])
    }

    /// The euclidean norm of a row.
    pub fn norm(&self, row: usize) -> f64 {
        self.norms[row]
    }
}
