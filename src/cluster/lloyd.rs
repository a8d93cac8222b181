//! k-means on all rows at once (Lloyd, Least squares quantization in PCM, 1982): assign every row to its nearest
//! centroid, move every centroid to the mean of its rows, repeat until the objective hardly falls.
//!
//! The objective, the sum of squared distances or of 1 - cosine, never grows. The centroid of an empty cell moves into
//! a cell of high cost. Centroids depend on rows, seed and parameters, not on CPU or threads.

use super::assign::{Assignment, Centroids};
use super::plusplus;
use super::reseed;
use super::samples::Samples;
use super::sums::{self, Members, objective};
use crate::error::{Error, Result, filled};
use crate::kernel::FloatMode;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::random::Random;

/// k-means++ chooses from a sample of this many rows per centroid.
const PLUSPLUS_SAMPLE: usize = 4;
/// Estimates that serve for progress only: few trainings take more iterations, or more of them for the root of the rows of
/// a cell.
const USUAL_ITERATIONS: f64 = 25.0;
const ITERATIONS_PER_ROOT: f64 = 3.0;

/// Where the first centroids come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// Rows drawn evenly.
    Random,
    /// Rows drawn by k-means++ from a sample.
    PlusPlus,
    /// These values, `cells` rows of `dims`.
    Given(Vec<f32>),
}

impl Init {
    /// `random` or `k-means++`, as users write it.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "random" => Ok(Init::Random),
            "k-means++" => Ok(Init::PlusPlus),
            _ => Err(Error::input("init", "random, k-means++ or centroids", format!("{word:?}"))),
        }
    }
}

/// Parameters of k-means.
#[derive(Debug, Clone)]
pub struct Params {
    /// The number of cells.
    pub cells: usize,
    /// Euclidean or cosine.
    pub metric: Metric,
    /// Updates of the centroids, at most; for mini-batches, passes over the rows.
    pub iterations: usize,
    /// Training ends once an iteration lowers the objective by no more than this share of it.
    pub tolerance: f64,
    /// The first centroids.
    pub init: Init,
    /// Rows per cell to train on, at most, drawn at random; `None`: all rows.
    pub sample: Option<usize>,
    /// Seed of all random choices.
    pub seed: u64,
    /// Worker threads; `None`: the default of [`pool::thread_count`].
    pub threads: Option<i64>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            cells: 8,
            metric: Metric::Euclidean,
            iterations: 300,
            tolerance: 1e-4,
            init: Init::Random,
            sample: None,
            seed: 0,
            threads: None,
        }
    }
}

impl Params {
    /// Checks the parameters for training on `samples`.
    pub(super) fn check(&self, samples: &Samples) -> Result<()> {
        let rows = samples.len();
        if self.cells == 0 || self.cells > rows {
            let expected = format!("a whole number from 1 to {rows}, the number of rows");
            return Err(Error::input("n_clusters", expected, self.cells));
        }
        self.check_for_dims(samples.dims())
    }

    /// Checks everything but the number of rows.
    pub(super) fn check_for_dims(&self, dims: usize) -> Result<()> {
        if self.metric == Metric::Dot {
            return Err(Error::input("metric", "l2 or cosine", self.metric.name()));
        }
        if self.iterations == 0 {
            return Err(Error::input("max_iter", "1 or more", 0));
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(Error::input("tol", "a finite number from 0", self.tolerance));
        }
        if self.sample == Some(0) {
            return Err(Error::input("max_points_per_centroid", "1 or more", 0));
        }
        match &self.init {
            Init::Given(values) if values.len() != self.cells * dims => {
                let expected = format!("{} centroids of {dims} values", self.cells);
                Err(Error::input("init", expected, format!("{} values", values.len())))
            }
            _ => Ok(()),
        }
    }
}

/// The result of training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The centroids, `cells` rows of `dims` values.
    pub centroids: Vec<f32>,
    /// The nearest centroid of every row trained on.
    pub assignment: Assignment,
    /// The sum of the rows' costs: squared distances, or 1 - cosine.
    pub objective: f64,
    /// The objective at the initial centroids, then after each iteration; in [`crate::cluster::minibatch`], the mean
    /// cost of each batch at the centroids before its update.
    pub history: Vec<f64>,
    /// Updates of the centroids that were made.
    pub iterations: usize,
}

/// Trains centroids of `samples`.
///
/// # Errors
/// Parameters out of range; more cells than rows; no memory; [`Error::Interrupted`].
pub fn train(samples: &Samples, params: &Params, watch: &Watch) -> Result<Trained> {
    params.check(samples)?;
    let threads = pool::thread_count(params.threads)?;
    let _mode = FloatMode::standard();
    let mut random = Random::new(params.seed);
    if let Some(limit) = params.sample.and_then(|rows| rows.checked_mul(params.cells)).filter(|&limit| limit < samples.len()) {
        let mut rows = reseed::draw(&mut random, samples.len(), limit);
        rows.sort_unstable();
        let sample = samples.pick(&rows)?;
        return lloyd(&sample, params, random, threads, watch);
    }
    lloyd(samples, params, random, threads, watch)
}

/// The objective of `samples` at the given centroids.
///
/// # Errors
/// Rows of other dims; no memory; [`Error::Interrupted`].
pub fn cost(cells: &Centroids, metric: Metric, samples: &Samples, threads: usize, watch: &Watch) -> Result<f64> {
    Ok(objective(metric, &cells.assign(samples, None, threads, watch)?.keys))
}

/// The centroids that training starts from.
pub fn init_centroids(samples: &Samples, params: &Params, random: &mut Random, threads: usize, watch: &Watch) -> Result<Vec<f32>> {
    let (count, metric) = (params.cells, params.metric);
    let mut values = filled(count * samples.dims(), 0.0, "the centroids")?;
    let mut put = |samples: &Samples, rows: &[usize]| {
        values.chunks_exact_mut(samples.dims()).zip(rows).for_each(|(out, &row)| reseed::write_centroid(samples, row, metric, out));
    };
    match &params.init {
        Init::Given(given) => values.copy_from_slice(given),
        Init::Random => put(samples, &reseed::draw(random, samples.len(), count)),
        Init::PlusPlus => {
            let sample = samples.pick(&reseed::draw(random, samples.len(), PLUSPLUS_SAMPLE.saturating_mul(count)))?;
            put(&sample, &plusplus::choose(&sample, count, metric, random, threads, watch)?);
        }
    }
    Ok(values)
}

/// The cost of [`train`] on `rows`.
pub fn work(rows: usize, dims: usize, params: &Params) -> f64 {
    first_work(rows, dims, params) + (1.0 + usual_iterations(rows, params)) * Centroids::work(rows, params.cells, dims)
}

fn usual_iterations(rows: usize, params: &Params) -> f64 {
    (ITERATIONS_PER_ROOT * (rows as f64 / params.cells as f64).sqrt()).min(USUAL_ITERATIONS).min(params.iterations as f64)
}

/// The cost of [`init_centroids`].
pub(super) fn first_work(rows: usize, dims: usize, params: &Params) -> f64 {
    let drawn = if params.init == Init::PlusPlus { PLUSPLUS_SAMPLE.saturating_mul(params.cells).min(rows) } else { 0 };
    Centroids::work(drawn, params.cells, dims)
}

/// Iterations to come, 1 at least: the share by which the objective falls is about proportional to the inverse square of
/// the number of iterations, until it is the tolerance.
fn iterations_left(rows: usize, history: &[f64], params: &Params) -> f64 {
    let (done, usual) = ((history.len() - 1) as f64, usual_iterations(rows, params));
    let all = match history {
        [_] => usual,
        [.., before, after] if params.tolerance > 0.0 && *before > 0.0 => {
            // The first gains are larger than the rule has it.
            (done * ((before - after) / before / params.tolerance).max(0.0).sqrt()).min(2.0 * usual.max(done))
        }
        _ => f64::INFINITY,
    };
    (all.min(params.iterations as f64) - done).max(1.0)
}

fn lloyd(samples: &Samples, params: &Params, mut random: Random, threads: usize, watch: &Watch) -> Result<Trained> {
    let (metric, dims) = (params.metric, samples.dims());
    let (all, first) = (work(samples.len(), dims, params), first_work(samples.len(), dims, params));
    let (each, mut left) = (Centroids::work(samples.len(), params.cells, dims), all - first);
    watch.plan(all);
    watch.stage(first, params.cells as u64);
    let mut cells = Centroids::new("init", init_centroids(samples, params, &mut random, threads, watch)?, dims, metric, threads, watch)?;
    watch.stage(each, samples.len() as u64);
    left -= each;
    let mut assignment = cells.assign(samples, None, threads, watch)?;
    let mut history = vec![objective(metric, &assignment.keys)];
    let mut stale = vec![true; params.cells];
    let (mut iterations, mut no_gain) = (0, false);
    loop {
        let members = Members::new(&assignment.cells, params.cells)?;
        let mut values = cells.rows.into_values();
        let trained = iterations == params.iterations || converged(&history, params.tolerance) || !stale.contains(&true);
        if !trained {
            sums::means(samples, &members, metric, &stale, &mut values, (threads, watch))?;
            iterations += 1;
        }
        let refilled = !no_gain && reseed::refill_empty(samples, &members, &assignment.keys, metric, &mut values, &mut random);
        if trained && !refilled {
            let objective = objective(metric, &assignment.keys);
            watch.stage(left, 0);
            return Ok(Trained { centroids: values, assignment, objective, history, iterations });
        }
        let next_cost = left / iterations_left(samples.len(), &history, params);
        watch.stage(next_cost, samples.len() as u64);
        left -= next_cost;
        cells = Centroids::new("vectors", values, dims, metric, threads, watch)?;
        let next = cells.assign(samples, Some(&assignment.cells), threads, watch)?;
        stale.fill(false);
        for (&before, &after) in assignment.cells.iter().zip(&next.cells).filter(|(before, after)| before != after) {
            (stale[before as usize], stale[after as usize]) = (true, true);
        }
        assignment = next;
        history.push(objective(metric, &assignment.keys));
        // After convergence, refilling goes on only while it lowers the objective.
        no_gain = trained && history[history.len() - 1] >= history[history.len() - 2];
    }
}

/// Whether the last iteration lowered the objective by no more than `tolerance`, relative.
fn converged(history: &[f64], tolerance: f64) -> bool {
    matches!(history, [.., before, after] if before - after <= tolerance * before)
}
