//! k-means on all rows at once (Lloyd, 1982): every row goes to its nearest centroid, every centroid
//! to the mean of its rows, until little changes.
//!
//! The objective, the sum of squared distances or of 1 - cosine, never grows. A cell that has lost its
//! rows splits a costly one. Centroids depend on rows, seed and parameters, not on CPU or threads.

use super::assign::{Assignment, Centroids};
use super::plusplus::spread;
use super::reseed;
use super::samples::Samples;
use super::sums::{self, Members, objective};
use crate::error::{Error, Result, filled};
use crate::kernel::FloatMode;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::random::Random;

/// Rows of the sample that k-means++ chooses from, for each centroid.
const SPREAD_ROWS: usize = 4;

/// Where the first centroids come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// Rows, all as likely.
    Random,
    /// Rows far from each other: k-means++ on a sample.
    Spread,
    /// These, one after the other.
    Given(Vec<f32>),
}

impl Init {
    /// The way that a user's word names.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "random" => Ok(Init::Random),
            "k-means++" => Ok(Init::Spread),
            _ => Err(Error::input("init", "random, k-means++ or centroids", format!("{word:?}"))),
        }
    }
}

/// What is decided before training.
#[derive(Debug, Clone)]
pub struct Params {
    /// How many cells.
    pub cells: usize,
    /// Euclidean or cosine.
    pub metric: Metric,
    /// Updates of the centroids, at most.
    pub iterations: usize,
    /// Training ends once an iteration lowers the objective by no more than this part of it.
    pub tolerance: f64,
    /// The first centroids.
    pub init: Init,
    /// Trains on so many rows a cell at most, drawn at random; `None`: on all.
    pub sample: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Workers; `None`: as [`pool::thread_count`] says.
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
    /// Whether they can be used on `samples`.
    pub(super) fn check(&self, samples: &Samples) -> Result<()> {
        let rows = samples.len();
        if self.cells == 0 || self.cells > rows {
            let expected = format!("a whole number from 1 to {rows}, the number of rows");
            return Err(Error::input("n_clusters", expected, self.cells));
        }
        self.check_all_but_rows(samples.dims())
    }

    /// Whether they can be used on rows of `dims` values, should there be enough of them.
    pub(super) fn check_all_but_rows(&self, dims: usize) -> Result<()> {
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

/// What training has come to.
#[derive(Debug, Clone)]
pub struct Trained {
    /// `cells` centroids, one after the other.
    pub centroids: Vec<f32>,
    /// The nearest of them to every row trained on.
    pub assignment: Assignment,
    /// The sum of the rows' costs: squared distances, or 1 - cosine.
    pub objective: f64,
    /// How it fell: at the first centroids, then after each iteration; of [`crate::cluster::minibatch`], the mean
    /// cost of each batch at the centroids before it.
    pub history: Vec<f64>,
    /// Updates of the centroids.
    pub iterations: usize,
}

/// Called after each iteration with (iterations done, at most, objective); false ends the work.
pub type Progress<'a> = dyn FnMut(usize, usize, f64) -> bool + 'a;

/// Finds centroids of `samples`.
///
/// # Errors
/// Parameters out of range; more cells than rows; no memory; [`Error::Interrupted`].
pub fn train(samples: &Samples, params: &Params, progress: &mut Progress, watch: &Watch) -> Result<Trained> {
    params.check(samples)?;
    let threads = pool::thread_count(params.threads)?;
    let _mode = FloatMode::standard();
    let mut random = Random::new(params.seed);
    if let Some(most) = params.sample.and_then(|rows| rows.checked_mul(params.cells)).filter(|&most| most < samples.len()) {
        let mut rows = reseed::draw(&mut random, samples.len(), most);
        rows.sort_unstable();
        let sample = samples.pick(&rows)?;
        return lloyd(&sample, params, random, threads, progress, watch);
    }
    lloyd(samples, params, random, threads, progress, watch)
}

/// The objective of `samples` at centroids that stay where they are.
///
/// # Errors
/// Rows of other dims; no memory; [`Error::Interrupted`].
pub fn cost(cells: &Centroids, metric: Metric, samples: &Samples, threads: usize, watch: &Watch) -> Result<f64> {
    Ok(objective(metric, &cells.assign(samples, None, threads, watch)?.keys))
}

/// The first centroids.
pub(super) fn begin(samples: &Samples, params: &Params, random: &mut Random, threads: usize, watch: &Watch) -> Result<Vec<f32>> {
    let (count, metric) = (params.cells, params.metric);
    let mut values = filled(count * samples.dims(), 0.0, "the centroids")?;
    let mut put = |samples: &Samples, rows: &[usize]| {
        values.chunks_exact_mut(samples.dims()).zip(rows).for_each(|(out, &row)| reseed::place(samples, row, metric, out));
    };
    match &params.init {
        Init::Given(given) => values.copy_from_slice(given),
        Init::Random => put(samples, &reseed::draw(random, samples.len(), count)),
        Init::Spread => {
            let sample = samples.pick(&reseed::draw(random, samples.len(), SPREAD_ROWS.saturating_mul(count)))?;
            put(&sample, &spread(&sample, count, metric, random, threads, watch)?);
        }
    }
    Ok(values)
}

fn lloyd(
    samples: &Samples,
    params: &Params,
    mut random: Random,
    threads: usize,
    progress: &mut Progress,
    watch: &Watch,
) -> Result<Trained> {
    let (metric, dims) = (params.metric, samples.dims());
    let mut cells = Centroids::new("init", begin(samples, params, &mut random, threads, watch)?, dims, metric, threads, watch)?;
    let mut now = cells.assign(samples, None, threads, watch)?;
    let mut history = vec![objective(metric, &now.keys)];
    let mut stale = vec![true; params.cells];
    let (mut iterations, mut vain) = (0, false);
    loop {
        let members = Members::new(&now.cells, params.cells)?;
        let mut values = cells.rows.into_values();
        let trained = iterations == params.iterations || settled(&history, params.tolerance) || !stale.contains(&true);
        if !trained {
            sums::means(samples, &members, metric, &stale, &mut values, (threads, watch))?;
            iterations += 1;
        }
        let split = !vain && reseed::split(samples, &members, &now.keys, metric, &mut values, &mut random);
        if trained && !split {
            let objective = objective(metric, &now.keys);
            return Ok(Trained { centroids: values, assignment: now, objective, history, iterations });
        }
        cells = Centroids::new("vectors", values, dims, metric, threads, watch)?;
        let next = cells.assign(samples, Some(&now.cells), threads, watch)?;
        stale.fill(false);
        for (&before, &after) in now.cells.iter().zip(&next.cells).filter(|(before, after)| before != after) {
            (stale[before as usize], stale[after as usize]) = (true, true);
        }
        now = next;
        history.push(objective(metric, &now.keys));
        // A split that gained nothing is the last.
        vain = trained && history[history.len() - 1] >= history[history.len() - 2];
        if !progress(iterations, params.iterations, history[history.len() - 1]) {
            return Err(Error::Interrupted);
        }
    }
}

/// Whether the last iteration has gained too little to go on.
fn settled(history: &[f64], tolerance: f64) -> bool {
    matches!(history, [.., before, after] if before - after <= tolerance * before)
}
