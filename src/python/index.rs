//! The classes behind the facade: a builder that takes blocks of rows, and the index.

use super::array::{Allowed, HitArrays, Matrix, hits, matrix};
use super::error::{raise, released};
use crate::ann::Ann;
use crate::build::{self, BuildParams};
use crate::format::{Mode, Verify};
use crate::index::{self, AnnKind, AnnParams, Method, SearchParams};
use crate::level::Level;
use crate::metric::Metric;
use crate::store::rows::DecodedRows;
use pyo3::prelude::*;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The way, if it is not to be chosen; the recall wanted, cells, whether rows get a second cell, tables, bits.
type AnnWords = (Option<String>, f64, Option<i64>, bool, Option<i64>, Option<i64>);
/// The way, cells or tables, whether rows stand in two cells or bits of a bucket, the recall, queries, whether they
/// were given, and what was measured: k, cells or buckets visited, recall, its standard error, rows visited.
type Tuning = (&'static str, usize, usize, f64, usize, bool, Vec<(u32, u32, f64, f64, f64)>);
/// The key, that of the last row found, cells or tables with places, cells or buckets visited, whether it was found.
type Missed = (f64, f64, Vec<(u32, usize)>, usize, bool);
/// The recall wanted, cells to visit, buckets to visit, the least part of the nearest cell's key, and rows to read.
type SearchEffort = (Option<f64>, Option<i64>, Option<i64>, Option<f64>, Option<i64>);

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
        ann: Option<AnnWords>,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let level = Level::parse(level).map_err(raise)?;
        let metric = Metric::parse("metric", metric).map_err(raise)?;
        let ann = ann.map(|(kind, recall, cells, spill, tables, bits)| {
            let kind = kind.map(|kind| AnnKind::parse(&kind)).transpose()?;
            Ok(AnnParams { kind, recall, cells, spill, tables, bits })
        });
        let ann = ann.transpose().map_err(raise)?;
        let params = BuildParams { level, metric, normalized, seed, codes, ann, threads };
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

    /// How few rows are visited; none where all are.
    #[getter]
    fn ann(&self) -> Option<Tuning> {
        let (few, tuning) = self.0.ann()?;
        let points = tuning.points.iter().map(|point| (point.k, point.probes, point.recall, point.error, point.visited)).collect();
        let (kind, count, more) = match few {
            Ann::Ivf(ivf) => ("ivf", ivf.cells(), usize::from(ivf.spilled())),
            Ann::Lsh(buckets) => ("lsh", buckets.size().0, buckets.size().1),
        };
        Some((kind, count, more, tuning.recall, tuning.queries, tuning.given, points))
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
        effort: SearchEffort,
        threads: Option<i64>,
    ) -> PyResult<HitArrays<'py>> {
        let method = Method::parse(method).map_err(raise)?;
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let filter = filter.as_ref().map(Allowed::filter).transpose()?;
        let (recall, nprobe, probes, ratio_threshold, reorder_k) = effort;
        let params = SearchParams { k, method, metric, filter, bound, threads, recall, nprobe, probes, ratio_threshold, reorder_k };
        let (block, [_, dims]) = (queries.block()?, queries.shape());
        let found = released(py, |watch| self.0.search(block, dims, &params, watch))?;
        Ok(hits(py, found))
    }

    /// Measures again how many cells or buckets a recall takes.
    fn tune(&self, py: Python<'_>, recall: Option<f64>, queries: Option<Matrix<'_>>, threads: Option<i64>) -> PyResult<()> {
        let queries = queries.as_ref().map(|queries| Ok::<_, PyErr>((queries.block()?, queries.shape()[1]))).transpose()?;
        released(py, |watch| self.0.tune(recall, queries, threads, watch)).map(|_| ())
    }

    /// (recall, ends of its interval, queries, share of rows visited, share known to be exact).
    fn recall(
        &self,
        py: Python<'_>,
        queries: Option<Matrix<'_>>,
        k: i64,
        effort: SearchEffort,
        threads: Option<i64>,
    ) -> PyResult<(f64, f64, f64, usize, f64, f64)> {
        let queries = queries.as_ref().map(|queries| Ok::<_, PyErr>((queries.block()?, queries.shape()[1]))).transpose()?;
        let (recall, nprobe, probes, ratio_threshold, reorder_k) = effort;
        let params = SearchParams { k, recall, nprobe, probes, ratio_threshold, reorder_k, threads, ..SearchParams::default() };
        let found = released(py, |watch| self.0.recall(queries, &params, watch))?;
        Ok((found.recall, found.low, found.high, found.queries, found.visited, found.exact))
    }

    /// Why a row is found, or not.
    fn explain_miss(
        &self,
        py: Python<'_>,
        query: Matrix<'_>,
        row: usize,
        k: i64,
        similarity: Option<&str>,
        effort: SearchEffort,
    ) -> PyResult<Missed> {
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let (recall, nprobe, probes, ratio_threshold, reorder_k) = effort;
        let params = SearchParams { k, metric, recall, nprobe, probes, ratio_threshold, reorder_k, ..SearchParams::default() };
        let (block, [_, dims]) = (query.block()?, query.shape());
        let missed = released(py, |watch| self.0.explain((block, dims), row, &params, watch))?;
        Ok((missed.key, missed.kth, missed.cells, missed.probes, missed.found))
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
pub fn load(py: Python<'_>, path: PathBuf, mode: &str, verify: &str, ann: bool) -> PyResult<Index> {
    let mode = Mode::parse(mode).map_err(raise)?;
    let verify = Verify::parse(verify).map_err(raise)?;
    let index = released(py, |watch| index::Index::open(&path, mode, verify, watch))?;
    Ok(Index(if ann { index } else { index.without_ann() }))
}
