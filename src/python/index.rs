//! The classes behind the facade: a builder that takes blocks of rows, and the index.

use super::array::{self, Allowed, GivenIds, HitArrays, Matrix, hits, matrix};
use super::error::{raise, released, told};
use super::progress::Progress;
use crate::ann::Ann;
use crate::build;
use crate::format::{IndexRecord, Mode, Verify};
use crate::index::{self, AnnKind, AnnParams, Method, SearchParams};
use crate::level::Level;
use crate::live::{self, LiveIndex, NewRows};
use crate::metric::Metric;
use crate::store::rows::DecodedRows;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList};
use std::ffi::OsString;
use std::path::PathBuf;

/// (kind, recall, nlist, spill, tables, bits, queries, given, points); a point is (k, nprobe, recall, its standard error, rows
/// visited).
type Tuning = (&'static str, f64, usize, bool, usize, usize, usize, bool, Vec<(u32, u32, f64, f64, f64)>, usize, usize);
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
        metric: Option<&str>,
        normalized: Option<bool>,
        seed: u64,
        codes: bool,
        ann: Option<AnnArgument>,
        recall: f64,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let level = Level::parse(level).map_err(raise)?;
        let metric = metric_of(level, metric)?;
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

    /// The index of the rows pushed, which have these ids or 0, 1, 2, ...; the builder cannot be used again.
    fn finish(&mut self, py: Python<'_>, ids: Option<GivenIds<'_>>, progress: Option<&Progress>) -> PyResult<Index> {
        let builder = self.0.take().ok_or_else(|| raise(build::finished()))?;
        let texts = ids.as_ref().map(GivenIds::texts).unwrap_or_default();
        let ids = ids.as_ref().map(|ids| ids.slice(&texts)).transpose()?;
        told(py, progress, |watch| {
            let ids = live::first_ids(ids, builder.rows())?;
            builder.finish_with(ids, watch)
        })
        .map(|index| Index(LiveIndex::new(index)))
    }
}

/// Rows that answer nearest-neighbour queries.
#[pyclass(frozen, module = "nseekfs._core")]
pub struct Index(LiveIndex);

#[pymethods]
impl Index {
    #[getter]
    fn dims(&self) -> usize {
        self.0.current().about().dims
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.current().live_rows()
    }

    #[getter]
    fn level(&self) -> &'static str {
        self.0.current().about().level.name()
    }

    #[getter]
    fn metric(&self) -> &'static str {
        self.0.current().about().metric.name()
    }

    #[getter]
    fn normalized(&self) -> bool {
        self.0.current().about().unit
    }

    /// The approximate index and its tuning; none where search is exact.
    #[getter]
    fn ann(&self) -> Option<Tuning> {
        let index = self.0.current();
        let (ann, tuning) = index.ann()?;
        let points = tuning.points.iter().map(|point| (point.k, point.nprobe, point.recall, point.error, point.visited)).collect();
        let (kind, (nlist, spill), (tables, bits)) = match ann {
            Ann::Ivf(ivf) => ("ivf", (ivf.cells(), ivf.spilled()), (0, 0)),
            Ann::Lsh(lsh) => ("lsh", (0, false), lsh.size()),
        };
        let (added, deleted) = index.changed_rows();
        Some((kind, tuning.recall, nlist, spill, tables, bits, tuning.queries, tuning.given, points, added, deleted))
    }

    #[getter]
    fn codes(&self) -> bool {
        self.0.current().quantizer().is_some()
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.0.current().about().seed
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.current().bytes()
    }

    #[getter]
    fn path(&self) -> Option<OsString> {
        self.0.current().path().map(|path| path.as_os_str().to_owned())
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
        let texts = filter.as_ref().map(Allowed::texts).unwrap_or_default();
        let filter = filter.as_ref().map(|filter| filter.filter(&texts)).transpose()?;
        let queries_name = if one { "query" } else { "queries" };
        let params = SearchParams { queries_name, method, metric, filter, bound, threads, ..search_params(k, recall, effort) };
        let (block, [_, dims]) = (queries.block()?, queries.shape());
        let index = self.0.current();
        let found = released(py, |watch| index.search(block, dims, &params, watch))?;
        hits(py, &index, found)
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
        told(py, progress, |watch| self.0.current().tune(recall, queries, threads, watch)).map(|_| ())
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
        let found = released(py, |watch| self.0.current().recall(queries, &params, watch))?;
        Ok((found.recall, found.low, found.high, found.queries, found.given, found.visited, found.exact))
    }

    /// Why the row of an id is found, or not.
    #[expect(clippy::too_many_arguments, reason = "the facade passes them all, by position")]
    fn explain_miss(
        &self,
        py: Python<'_>,
        query: Matrix<'_>,
        id: GivenIds<'_>,
        k: i64,
        similarity: Option<&str>,
        recall: Option<f64>,
        effort: Option<SearchEffort>,
    ) -> PyResult<Missed> {
        let metric = similarity.map(|name| Metric::parse("similarity", name)).transpose().map_err(raise)?;
        let params = SearchParams { metric, ..search_params(k, recall, effort) };
        let (block, [_, dims]) = (query.block()?, query.shape());
        let (index, texts) = (self.0.current(), id.texts());
        let row = index.numbers_of(id.slice(&texts)?).map_err(raise)?.first().copied().unwrap_or(-1);
        let missed = released(py, |watch| index.explain((block, dims), row as usize, &params, watch))?;
        Ok((missed.found, missed.key, missed.kth_key, missed.cells, missed.nprobe))
    }

    /// The decoded rows at these positions among those that have not been deleted, in their order.
    fn take<'py>(&self, py: Python<'py>, positions: PyReadonlyArray1<'py, i64>) -> PyResult<Bound<'py, PyAny>> {
        let (index, positions) = (self.0.current(), positions.as_slice()?);
        let rows = released(py, |watch| index.take(&index.numbers_at(positions)?, watch))?;
        decoded(py, rows, [positions.len(), index.about().dims])
    }

    /// The decoded rows of these ids, in their order.
    fn get<'py>(&self, py: Python<'py>, ids: GivenIds<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (index, texts) = (self.0.current(), ids.texts());
        let ids = ids.slice(&texts)?;
        let rows = released(py, |watch| index.take(&index.numbers_of(ids)?, watch))?;
        decoded(py, rows, [ids.len(), index.about().dims])
    }

    /// Of each id, whether there is a row that has it.
    fn contains<'py>(&self, py: Python<'py>, ids: GivenIds<'py>) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let (index, texts) = (self.0.current(), ids.texts());
        let ids = ids.slice(&texts)?;
        let held = released(py, |_| Ok(ids.iter().map(|id| index.row_of(id).is_some()).collect::<Vec<bool>>()))?;
        Ok(PyArray1::from_vec(py, held))
    }

    /// The ids of all rows, in the order of their insertion.
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let index = self.0.current();
        let all = index.live_ids().map_err(raise)?;
        if all.is_empty() && index.ids().texts == Some(true) { Ok(PyList::empty(py).into_any()) } else { array::ids(py, &all) }
    }

    /// Whether the index can be changed.
    #[getter]
    fn writable(&self) -> bool {
        self.0.writable()
    }

    /// Which commit of its file this is.
    #[getter]
    fn generation(&self) -> Option<u64> {
        self.0.current().generation()
    }

    /// Adds rows; the first of their ids, where these are the next numbers.
    fn add(&self, py: Python<'_>, rows: Matrix<'_>, ids: Option<GivenIds<'_>>, threads: Option<i64>) -> PyResult<Option<i64>> {
        let (values, [_, dims]) = (rows.block()?, rows.shape());
        let texts = ids.as_ref().map(GivenIds::texts).unwrap_or_default();
        let ids = ids.as_ref().map(|ids| ids.slice(&texts)).transpose()?;
        released(py, |watch| self.0.add(NewRows { values, dims }, ids, threads, watch))
    }

    /// Adds rows in place of those that have these ids.
    fn upsert(&self, py: Python<'_>, rows: Matrix<'_>, ids: GivenIds<'_>, threads: Option<i64>) -> PyResult<()> {
        let (values, [_, dims], texts) = (rows.block()?, rows.shape(), ids.texts());
        let ids = ids.slice(&texts)?;
        released(py, |watch| self.0.upsert(NewRows { values, dims }, ids, threads, watch))
    }

    /// Deletes the rows of these ids; how many there were.
    fn delete(&self, py: Python<'_>, ids: GivenIds<'_>) -> PyResult<usize> {
        let texts = ids.texts();
        let ids = ids.slice(&texts)?;
        released(py, |watch| self.0.delete(ids, watch))
    }

    /// Begins a batch of changes.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        released(py, |watch| self.0.begin(watch))
    }

    /// Ends a batch: all of its changes are made, or none.
    fn end(&self, py: Python<'_>, commit: bool) -> PyResult<()> {
        if commit {
            return released(py, |watch| self.0.commit(watch));
        }
        py.detach(|| self.0.roll_back());
        Ok(())
    }

    /// Makes one segment of all rows.
    fn compact(&self, py: Python<'_>, threads: Option<i64>) -> PyResult<()> {
        released(py, |watch| self.0.compact(threads, watch))
    }

    /// Whether changes compact the index when that is due.
    fn compact_automatically(&self, py: Python<'_>, ratio: Option<f64>) -> PyResult<()> {
        released(py, |watch| self.0.set_automatic(ratio, watch))
    }

    /// Moves to the newest generation of the file; whether there was a newer one.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        released(py, |watch| self.0.refresh(watch))
    }

    /// The bytes of the file that `save` would write.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let bytes = released(py, |watch| self.0.to_bytes(watch))?;
        Ok(PyArray1::from_vec(py, bytes))
    }

    /// Another index of the same bytes, which can be tuned apart.
    fn copy(&self) -> Self {
        Index(LiveIndex::new(self.0.current().copy()))
    }

    /// Writes the index whole to `path`.
    fn save(&self, py: Python<'_>, path: PathBuf, progress: Option<&Progress>) -> PyResult<()> {
        told(py, progress, |watch| self.0.save(&path, watch))
    }

    /// Compares every byte of the file with its checksums.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        released(py, |watch| self.0.current().verify(watch))
    }
}

fn decoded(py: Python<'_>, rows: DecodedRows, shape: [usize; 2]) -> PyResult<Bound<'_, PyAny>> {
    match rows {
        DecodedRows::F32(values) => Ok(matrix(py, values, shape)?.into_any()),
        DecodedRows::F64(values) => Ok(matrix(py, values, shape)?.into_any()),
        DecodedRows::B1(bits) => Ok(matrix(py, bits, [shape[0], shape[1] / 8])?.into_any()),
    }
}

/// The metric of a new index.
fn metric_of(level: Level, given: Option<&str>) -> PyResult<Metric> {
    let given = given.map(|name| Metric::parse("metric", name)).transpose().map_err(raise)?;
    Metric::of_level(level, "metric", given).map_err(raise)
}

/// Opens a saved index, to be read or to be changed.
#[pyfunction]
pub fn load(py: Python<'_>, path: PathBuf, mode: &str, verify: &str, ann: bool, writable: bool) -> PyResult<Index> {
    let mode = Mode::parse(mode).map_err(raise)?;
    let verify = Verify::parse(verify).map_err(raise)?;
    released(
        py,
        |watch| if writable { LiveIndex::open_writable(&path, verify, watch) } else { LiveIndex::open(&path, mode, verify, ann, watch) },
    )
    .map(Index)
}

/// An index without rows, in memory or in a new file; `dims` 0: the first rows tell.
#[pyfunction]
pub fn empty(py: Python<'_>, dims: usize, level: &str, metric: Option<&str>, seed: u64, path: Option<PathBuf>) -> PyResult<Index> {
    let level = Level::parse(level).map_err(raise)?;
    let metric = metric_of(level, metric)?;
    released(py, |watch| LiveIndex::empty(IndexRecord { dims, level, metric, unit: true, seed }, path.as_deref(), watch)).map(Index)
}

/// The index whose `to_bytes` gave `file`.
#[pyfunction]
pub fn from_bytes(py: Python<'_>, file: PyReadonlyArray1<'_, u8>) -> PyResult<Index> {
    let file = file.as_slice()?;
    released(py, |watch| index::Index::from_bytes(file, watch)).map(|index| Index(LiveIndex::new(index)))
}
