//! The classes and functions behind `nseekfs.cluster`: rows in float32, centroids and cells out.

use super::array::{Matrix, matrix};
use super::error::{raise, released, told};
use super::progress::Progress;
use crate::cluster::assign::{self, Assignment};
use crate::cluster::lloyd::{self, Init, Params, Trained};
use crate::cluster::minibatch::{self, Batches};
use crate::cluster::samples::Samples;
use crate::error::Result;
use crate::input;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// Rows in float32, contiguous.
type Rows<'py> = PyReadonlyArray2<'py, f32>;

/// The first centroids: a word, or the centroids themselves.
pub enum First<'py> {
    Word(String),
    Given(Rows<'py>),
}

impl<'py> FromPyObject<'_, 'py> for First<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match given.cast::<PyArray2<f32>>() {
            Ok(values) => Ok(First::Given(values.try_readonly()?)),
            Err(_) => Ok(First::Word(given.extract()?)),
        }
    }
}

impl First<'_> {
    fn init(self) -> PyResult<Init> {
        match self {
            First::Word(word) => Init::parse(&word).map_err(raise),
            First::Given(values) => Ok(Init::Given(values.as_slice()?.to_vec())),
        }
    }
}

/// Centroids, the cell of each row, the objective at the end and as it fell, iterations.
type TrainedArrays<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>, f64, Vec<f64>, usize);

/// Rounds rows to float32 in `out`; the first is row `first` of the whole argument.
#[pyfunction]
pub fn round_rows(block: Matrix<'_>, mut out: PyReadwriteArray2<'_, f32>, first: u64) -> PyResult<()> {
    let [_, dims] = block.shape();
    input::round_rows("X", block.block()?, dims, first, out.as_slice_mut()?).map_err(raise)
}

/// Parameters that all trainings share, read by name from the facade's record of them.
#[derive(FromPyObject)]
pub struct Training<'py> {
    n_clusters: usize,
    metric: String,
    max_iter: usize,
    tol: f64,
    init: First<'py>,
    seed: u64,
    threads: Option<i64>,
}

impl Training<'_> {
    fn params(self, sample: Option<usize>) -> PyResult<Params> {
        Ok(Params {
            cells: self.n_clusters,
            metric: metric(&self.metric)?,
            iterations: self.max_iter,
            tolerance: self.tol,
            init: self.init.init()?,
            sample,
            seed: self.seed,
            threads: self.threads,
        })
    }
}

fn metric(name: &str) -> PyResult<Metric> {
    Metric::parse_among("metric", name, &[Metric::Cosine, Metric::Euclidean]).map_err(raise)
}

/// k-means on all rows.
#[pyfunction]
pub fn train<'py>(
    py: Python<'py>,
    rows: Rows<'py>,
    training: Training<'py>,
    sample: Option<usize>,
    progress: Option<&Progress>,
) -> PyResult<TrainedArrays<'py>> {
    let params = training.params(sample)?;
    let trained = watched(py, &rows, params.threads, progress, |samples, watch| lloyd::train(samples, &params, watch))?;
    arrays(py, trained, rows.shape()[1])
}

/// k-means on batches of the rows: the centroids as they learn, and what [`train`] gives.
#[pyfunction]
pub fn train_batches<'py>(
    py: Python<'py>,
    rows: Rows<'py>,
    training: Training<'py>,
    batches: (usize, Option<usize>, f64),
    progress: Option<&Progress>,
) -> PyResult<(MiniBatch, TrainedArrays<'py>)> {
    let params = training.params(None)?;
    let (rows_of_batch, patience, least_share) = batches;
    let batches = Batches { rows: rows_of_batch, patience };
    let (state, trained) =
        watched(py, &rows, params.threads, progress, |samples, watch| minibatch::train(samples, &params, (&batches, least_share), watch))?;
    Ok((MiniBatch(state), arrays(py, trained, rows.shape()[1])?))
}

/// k-means that is trained batch by batch.
#[pyclass(module = "nseekfs._core")]
pub struct MiniBatch(minibatch::MiniBatch);

#[pymethods]
impl MiniBatch {
    #[new]
    fn new(py: Python<'_>, rows: Rows<'_>, training: Training<'_>, least_share: f64) -> PyResult<Self> {
        let params = training.params(None)?;
        let made = with_samples(py, &rows, params.threads, |samples, watch| minibatch::MiniBatch::new(samples, params, least_share, watch));
        made.map(MiniBatch)
    }

    /// Learns from a batch; its mean cost at the centroids before.
    fn step(&mut self, py: Python<'_>, rows: Rows<'_>, threads: Option<i64>) -> PyResult<f64> {
        let state = &mut self.0;
        with_samples(py, &rows, threads, |samples, watch| Ok(state.step(samples, watch)? / samples.len() as f64))
    }

    #[getter]
    fn centroids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (values, count) = (self.0.centroids().to_vec(), self.0.weights().len());
        let dims = values.len() / count;
        matrix(py, values, [count, dims])
    }

    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, self.0.weights())
    }
}

/// Centroids prepared for assignment.
#[pyclass(module = "nseekfs._core", frozen)]
pub struct Centroids {
    cells: assign::Centroids,
    metric: Metric,
}

#[pymethods]
impl Centroids {
    #[new]
    fn new(py: Python<'_>, centroids: Rows<'_>, metric: &str, threads: Option<i64>) -> PyResult<Self> {
        let metric = self::metric(metric)?;
        let (values, dims) = (centroids.as_slice()?.to_vec(), centroids.shape()[1]);
        let made = |watch: &Watch| assign::Centroids::new("centroids", values, dims, metric, pool::thread_count(threads)?, watch);
        Ok(Centroids { cells: released(py, made)?, metric })
    }

    /// The nearest cell of each row.
    fn assign<'py>(&self, py: Python<'py>, rows: Rows<'py>, threads: Option<i64>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let found =
            with_samples(py, &rows, threads, |samples, watch| self.cells.assign(samples, None, pool::thread_count(threads)?, watch))?;
        Ok(labels(py, &found))
    }

    /// The objective of rows at these centroids.
    fn cost(&self, py: Python<'_>, rows: Rows<'_>, threads: Option<i64>) -> PyResult<f64> {
        with_samples(py, &rows, threads, |samples, watch| {
            lloyd::cost(&self.cells, self.metric, samples, pool::thread_count(threads)?, watch)
        })
    }

    /// The score of every cell for each row.
    fn scores<'py>(&self, py: Python<'py>, rows: Rows<'py>, threads: Option<i64>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.of_keys(py, &rows, threads, |key| self.metric.score(key))
    }

    /// The distance of every cell to each row.
    fn distances<'py>(&self, py: Python<'py>, rows: Rows<'py>, threads: Option<i64>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.of_keys(py, &rows, threads, |key| self.metric.distance(key))
    }
}

impl Centroids {
    fn of_keys<'py>(
        &self,
        py: Python<'py>,
        rows: &Rows<'py>,
        threads: Option<i64>,
        score: impl Fn(f64) -> f32 + Sync + Send,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let work = |samples: &Samples, watch: &Watch| self.cells.scores(samples, score, pool::thread_count(threads)?, watch);
        matrix(py, with_samples(py, rows, threads, work)?, [rows.shape()[0], self.cells.rows.len()])
    }
}

fn labels<'py>(py: Python<'py>, found: &Assignment) -> Bound<'py, PyArray1<i64>> {
    PyArray1::from_vec(py, found.cells.iter().map(|&cell| i64::from(cell)).collect())
}

fn arrays<'py>(py: Python<'py>, trained: Trained, dims: usize) -> PyResult<TrainedArrays<'py>> {
    let labels = labels(py, &trained.assignment);
    let shape = [trained.centroids.len() / dims, dims];
    Ok((matrix(py, trained.centroids, shape)?, labels, trained.objective, trained.history, trained.iterations))
}

/// Runs `work` on measured rows with the interpreter released.
fn with_samples<T: Send>(
    py: Python<'_>,
    rows: &Rows<'_>,
    threads: Option<i64>,
    work: impl FnOnce(&Samples, &Watch) -> Result<T> + Send,
) -> PyResult<T> {
    watched(py, rows, threads, None, work)
}

/// The same, and `progress` hears of the work.
fn watched<T: Send>(
    py: Python<'_>,
    rows: &Rows<'_>,
    threads: Option<i64>,
    progress: Option<&Progress>,
    work: impl FnOnce(&Samples, &Watch) -> Result<T> + Send,
) -> PyResult<T> {
    let (values, dims) = (rows.as_slice()?, rows.shape()[1]);
    told(py, progress, |watch| {
        let samples = Samples::new("X", values, dims, crate::kernel::selected()?, pool::thread_count(threads)?, watch)?;
        work(&samples, watch)
    })
}
