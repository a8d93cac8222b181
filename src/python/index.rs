//! The classes behind the facade: a builder that takes blocks of rows, and the index.

use super::array::{Allowed, HitArrays, Matrix, hits, matrix};
use super::error::{raise, released};
use crate::build::{self, BuildParams};
use crate::format::{Mode, Verify};
use crate::index::{self, Method, SearchParams};
use crate::level::Level;
use crate::metric::Metric;
use crate::store::rows::DecodedRows;
use pyo3::prelude::*;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Takes in rows block by block.
#[pyclass(module = "nseekfs._core")]
pub struct Builder(Option<build::Builder>);

#[pymethods]
impl Builder {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn new(
        level: &str,
        metric: &str,
        rows: u64,
        dims: usize,
        normalized: Option<bool>,
        seed: u64,
        codes: bool,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let level = Level::parse(level).map_err(raise)?;
        let metric = Metric::parse("metric", metric).map_err(raise)?;
        let params = BuildParams { level, metric, normalized, seed, codes, threads };
        build::Builder::new(rows, dims, params).map(|builder| Builder(Some(builder))).map_err(raise)
    }

    /// Takes in the next rows.
    fn push(&mut self, py: Python<'_>, block: Matrix<'_>) -> PyResult<()> {
        let (block, [_, dims]) = (block.block()?, block.shape());
        let builder = &mut self.0;
        released(py, |watch| builder.as_mut().map_or_else(|| Err(build::finished()), |builder| builder.push(block, dims, watch)))
    }

    /// The index of the rows taken in; the builder is spent.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Index> {
        let builder = self.0.take().ok_or_else(|| raise(build::finished()))?;
        released(py, |watch| builder.finish(watch)).map(Index)
    }
}

/// Rows that can be asked for the nearest to a query.
#[pyclass(frozen, module = "nseekfs._core")]
pub struct Index(index::Index);

#[pymethods]
impl Index {
    #[getter]
    fn dims(&self) -> usize {
        self.0.about().dims
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.rows()
    }

    #[getter]
    fn level(&self) -> &'static str {
        self.0.about().level.name()
    }

    #[getter]
    fn metric(&self) -> &'static str {
        self.0.about().metric.name()
    }

    #[getter]
    fn normalized(&self) -> bool {
        self.0.about().unit
    }

    #[getter]
    fn ann(&self) -> &'static str {
        "exact"
    }

    #[getter]
    fn codes(&self) -> bool {
        self.0.coder().is_some()
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.0.about().seed
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.bytes()
    }

    #[getter]
    fn path(&self) -> Option<&OsStr> {
        self.0.path().map(Path::as_os_str)
    }

    /// (indices, scores, keys, certificates) of the best rows for every query.
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Matrix<'py>,
        k: i64,
        method: &str,
        similarity: Option<&str>,
        filter: Option<Allowed<'py>>,
        bound: Option<f64>,
        threads: Option<i64>,
    ) -> PyResult<HitArrays<'py>> {
        let method = Method::parse(method).map_err(raise)?;
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let filter = filter.as_ref().map(Allowed::filter).transpose()?;
        let params = SearchParams { k, method, metric, filter, bound, threads };
        let (block, [count, dims]) = (queries.block()?, queries.shape());
        let found = released(py, |watch| self.0.search(block, dims, &params, watch))?;
        hits(py, found, count)
    }

    /// The decoded rows from `start` to `stop`.
    fn values<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Bound<'py, PyAny>> {
        let shape = [stop.saturating_sub(start), self.0.about().dims];
        match released(py, |_| self.0.values(start..stop))? {
            DecodedRows::F32(values) => Ok(matrix(py, values, shape)?.into_any()),
            DecodedRows::F64(values) => Ok(matrix(py, values, shape)?.into_any()),
        }
    }

    /// Writes the index whole to `path`.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        released(py, |watch| self.0.save(&path, watch))
    }

    /// Compares every byte of the file with its checksums.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        released(py, |watch| self.0.verify(watch))
    }
}

/// Opens a saved index.
#[pyfunction]
pub fn load(py: Python<'_>, path: PathBuf, mode: &str, verify: &str) -> PyResult<Index> {
    let mode = Mode::parse(mode).map_err(raise)?;
    let verify = Verify::parse(verify).map_err(raise)?;
    released(py, |watch| index::Index::open(&path, mode, verify, watch)).map(Index)
}
