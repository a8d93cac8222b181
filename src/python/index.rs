//! The classes behind the facade: a builder that takes blocks of rows, and the index.

use super::array::{Allowed, HitArrays, Matrix, hits, matrix};
use super::error::{raise, released, told};
use super::progress::Progress;
use crate::ann::Ann;
use crate::build;
use crate::format::{Mode, Verify};
use crate::index::{self, AnnKind, AnnParams, Method, SearchParams};
use crate::level::Level;
use crate::metric::Metric;
use crate::store::rows::DecodedRows;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// (kind, recall, nlist, spill, tables, bits, queries, given, points); a point is (k, nprobe, recall, its standard error, rows
/// visited).
type Tuning = (&'static str, f64, usize, bool, usize, usize, usize, bool, Vec<(u32, u32, f64, f64, f64)>);
/// The fields of a miss, in their order.
type Missed = (bool, f64, f64, Vec<(u32, usize)>, usize);

/// What the facade hands over as `ann`: True, False, or one of its dataclasses, read by the names of their fields.
enum AnnArgument {
    Ivf { nlist: Option<i64>, spill: bool },
    Lsh { tables: Option<i64>, bits: Option<i64> },
    Chosen(bool),
}

impl<'py> FromPyObject<'_, 'py> for AnnArgument {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(chosen) = given.cast::<PyBool>() {
            Ok(AnnArgument::Chosen(chosen.is_true()))
        } else if given.hasattr("nlist")? {
            Ok(AnnArgument::Ivf { nlist: given.getattr("nlist")?.extract()?, spill: given.getattr("spill")?.extract()? })
        } else {
            Ok(AnnArgument::Lsh { tables: given.getattr("tables")?.extract()?, bits: given.getattr("bits")?.extract()? })
        }
    }
}

impl AnnArgument {
    fn params(self, recall: f64) -> Option<AnnParams> {
        let chosen = AnnParams { recall, ..AnnParams::default() };
        match self {
            AnnArgument::Ivf { nlist, spill } => Some(AnnParams { kind: Some(AnnKind::Ivf), cells: nlist, spill, ..chosen }),
            AnnArgument::Lsh { tables, bits } => Some(AnnParams { kind: Some(AnnKind::Lsh), tables, bits, ..chosen }),
            AnnArgument::Chosen(wanted) => wanted.then_some(chosen),
        }
    }
}

/// The dataclass of the facade that says how many rows a search visits, read by the names of its fields.
#[derive(FromPyObject)]
struct SearchEffort {
    nprobe: Option<i64>,
    ratio_threshold: Option<f64>,
    reorder_k: Option<i64>,
}

/// The parameters of a search for `k` rows.
fn search_params<'a>(k: i64, recall: Option<f64>, effort: Option<SearchEffort>) -> SearchParams<'a> {
    let params = SearchParams { k, recall, ..SearchParams::default() };
    match effort {
        Some(SearchEffort { nprobe, ratio_threshold, reorder_k }) => SearchParams { nprobe, ratio_threshold, reorder_k, ..params },
        None => params,
    }
}

/// Options of a build, checked before any row is read.
#[pyclass(frozen, module = "nseekfs._core")]
pub struct BuildParams(build::BuildParams);

#[pymethods]
impl BuildParams {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn new(
        level: &str,
        metric: &str,
        normalized: Option<bool>,
        seed: u64,
        codes: bool,
        ann: Option<AnnArgument>,
        recall: f64,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let level = Level::parse(level).map_err(raise)?;
        let metric = Metric::parse("metric", metric).map_err(raise)?;
        let ann = ann.and_then(|ann| ann.params(recall));
        let params = build::BuildParams { level, metric, normalized, seed, codes, ann, threads };
        params.check().map_err(raise)?;
        Ok(BuildParams(params))
    }
}

/// Builds an index from blocks of rows.
#[pyclass(module = "nseekfs._core")]
pub struct Builder(Option<build::Builder>);

#[pymethods]
impl Builder {
    #[new]
    fn new(params: &BuildParams, rows: u64, dims: usize, progress: Option<&Progress>, saved: bool) -> PyResult<Self> {
        let builder = build::Builder::new(rows, dims, params.0.clone()).map_err(raise)?;
        progress.inspect(|progress| progress.core.plan(builder.work(saved)));
        Ok(Builder(Some(builder)))
    }

    /// Appends rows.
    fn push(&mut self, py: Python<'_>, block: Matrix<'_>, progress: Option<&Progress>) -> PyResult<()> {
        let (block, [_, dims]) = (block.block()?, block.shape());
        let builder = &mut self.0;
        told(py, progress, |watch| builder.as_mut().map_or_else(|| Err(build::finished()), |builder| builder.push(block, dims, watch)))
    }

    /// The index of the rows pushed; the builder cannot be used again.
    fn finish(&mut self, py: Python<'_>, progress: Option<&Progress>) -> PyResult<Index> {
        let builder = self.0.take().ok_or_else(|| raise(build::finished()))?;
        told(py, progress, |watch| builder.finish(watch)).map(Index)
    }
}

/// Rows that answer nearest-neighbour queries.
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

    /// The approximate index and its tuning; none where search is exact.
    #[getter]
    fn ann(&self) -> Option<Tuning> {
        let (ann, tuning) = self.0.ann()?;
        let points = tuning.points.iter().map(|point| (point.k, point.nprobe, point.recall, point.error, point.visited)).collect();
        let (kind, (nlist, spill), (tables, bits)) = match ann {
            Ann::Ivf(ivf) => ("ivf", (ivf.cells(), ivf.spilled()), (0, 0)),
            Ann::Lsh(lsh) => ("lsh", (0, false), lsh.size()),
        };
        Some((kind, tuning.recall, nlist, spill, tables, bits, tuning.queries, tuning.given, points))
    }

    #[getter]
    fn codes(&self) -> bool {
        self.0.quantizer().is_some()
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

    /// (indices, scores, keys, certificates, hits of a query) of the best rows for every query; `one` if the caller's argument is `query`.
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: Matrix<'py>,
        one: bool,
        k: i64,
        method: &str,
        similarity: Option<&str>,
        filter: Option<Allowed<'py>>,
        bound: Option<f64>,
        recall: Option<f64>,
        effort: Option<SearchEffort>,
        threads: Option<i64>,
    ) -> PyResult<HitArrays<'py>> {
        let method = Method::parse(method).map_err(raise)?;
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let filter = filter.as_ref().map(Allowed::filter).transpose()?;
        let queries_name = if one { "query" } else { "queries" };
        let params = SearchParams { queries_name, method, metric, filter, bound, threads, ..search_params(k, recall, effort) };
        let (block, [_, dims]) = (queries.block()?, queries.shape());
        let found = released(py, |watch| self.0.search(block, dims, &params, watch))?;
        Ok(hits(py, found))
    }

    /// Tunes again for a recall.
    fn tune(
        &self,
        py: Python<'_>,
        recall: Option<f64>,
        queries: Option<Matrix<'_>>,
        threads: Option<i64>,
        progress: Option<&Progress>,
    ) -> PyResult<()> {
        let queries = queries.as_ref().map(|queries| Ok::<_, PyErr>((queries.block()?, queries.shape()[1]))).transpose()?;
        told(py, progress, |watch| self.0.tune(recall, queries, threads, watch)).map(|_| ())
    }

    /// (recall, low and high end of its interval, queries, whether these were given, share of rows visited, share of answers
    /// proven exact).
    fn recall(
        &self,
        py: Python<'_>,
        queries: Option<Matrix<'_>>,
        k: i64,
        recall: Option<f64>,
        effort: Option<SearchEffort>,
        threads: Option<i64>,
    ) -> PyResult<(f64, f64, f64, usize, bool, f64, f64)> {
        let queries = queries.as_ref().map(|queries| Ok::<_, PyErr>((queries.block()?, queries.shape()[1]))).transpose()?;
        let params = SearchParams { threads, ..search_params(k, recall, effort) };
        let found = released(py, |watch| self.0.recall(queries, &params, watch))?;
        Ok((found.recall, found.low, found.high, found.queries, found.given, found.visited, found.exact))
    }

    /// Why a row is found, or not.
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn explain_miss(
        &self,
        py: Python<'_>,
        query: Matrix<'_>,
        row: usize,
        k: i64,
        similarity: Option<&str>,
        recall: Option<f64>,
        effort: Option<SearchEffort>,
    ) -> PyResult<Missed> {
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let params = SearchParams { metric, ..search_params(k, recall, effort) };
        let (block, [_, dims]) = (query.block()?, query.shape());
        let missed = released(py, |watch| self.0.explain((block, dims), row, &params, watch))?;
        Ok((missed.found, missed.key, missed.kth_key, missed.cells, missed.nprobe))
    }

    /// The decoded rows from `start` to `stop`.
    fn values<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Bound<'py, PyAny>> {
        let rows = released(py, |_| self.0.values(start..stop))?;
        decoded(py, rows, [stop.saturating_sub(start), self.0.about().dims])
    }

    /// The decoded rows of these numbers, in their order.
    fn take<'py>(&self, py: Python<'py>, rows: PyReadonlyArray1<'py, i64>) -> PyResult<Bound<'py, PyAny>> {
        let numbers = rows.as_slice()?;
        let rows = released(py, |watch| self.0.take(numbers, watch))?;
        decoded(py, rows, [numbers.len(), self.0.about().dims])
    }

    /// The bytes of the file that `save` would write.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let bytes = released(py, |watch| self.0.to_bytes(watch))?;
        Ok(PyArray1::from_vec(py, bytes))
    }

    /// Another index of the same bytes, which can be tuned apart.
    fn copy(&self) -> Self {
        Index(self.0.copy())
    }

    /// Writes the index whole to `path`.
    fn save(&self, py: Python<'_>, path: PathBuf, progress: Option<&Progress>) -> PyResult<()> {
        told(py, progress, |watch| self.0.save(&path, watch))
    }

    /// Compares every byte of the file with its checksums.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        released(py, |watch| self.0.verify(watch))
    }
}

fn decoded(py: Python<'_>, rows: DecodedRows, shape: [usize; 2]) -> PyResult<Bound<'_, PyAny>> {
    match rows {
        DecodedRows::F32(values) => Ok(matrix(py, values, shape)?.into_any()),
        DecodedRows::F64(values) => Ok(matrix(py, values, shape)?.into_any()),
    }
}

/// Opens a saved index.
#[pyfunction]
pub fn load(py: Python<'_>, path: PathBuf, mode: &str, verify: &str, ann: bool) -> PyResult<Index> {
    let mode = Mode::parse(mode).map_err(raise)?;
    let verify = Verify::parse(verify).map_err(raise)?;
    let index = released(py, |watch| index::Index::open(&path, mode, verify, watch))?;
    Ok(Index(if ann { index } else { index.without_ann() }))
}

/// The index whose `to_bytes` gave `file`.
#[pyfunction]
pub fn from_bytes(py: Python<'_>, file: PyReadonlyArray1<'_, u8>) -> PyResult<Index> {
    let file = file.as_slice()?;
    released(py, |watch| index::Index::from_bytes(file, watch)).map(Index)
}
