//! k-means on one batch of rows after the other (Sculley, Web-scale k-means clustering, WWW 2010): a centroid is the
//! mean of all rows ever assigned to it.
//!
//! Only sums and counts are kept, not rows. Now and then the centroids of the smallest cells move into the largest ones.
//! Centroids depend on batches, seed and parameters, not on CPU or threads.

use super::assign::{Assignment, Centroids};
use super::lloyd::{self, Init, Params, Trained, init_centroids};
use super::reseed;
use super::samples::Samples;
use super::sums::{self, Members, centroid, objective};
use crate::error::{Error, Result, filled};
use crate::kernel::FloatMode;
use crate::pool::{self, Watch};
use crate::random::Random;

/// Small cells are reassigned whenever this many rows per cell have been processed.
const REASSIGNMENT_ROWS: usize = 10;
/// The initial centroids are chosen from this many batches, or from three rows per cell if that is more.
const INIT_BATCHES: usize = 3;

/// Batches of most trainings that end early: an estimate that serves for progress only.
const USUAL_BATCHES: usize = 20;

/// How [`train`] draws batches, and when it stops.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Rows per batch.
    pub rows: usize,
    /// Training ends once this many batches in a row have not lowered the smoothed objective; `None`: never.
    pub patience: Option<usize>,
}

/// Centroids that are updated by batches.
#[derive(Debug)]
pub struct MiniBatch {
    params: Params,
    reassignment_ratio: f64,
    threads: usize,
    random: Random,
    dims: usize,
    values: Vec<f32>,
    /// The sum and the number of the rows assigned to each cell so far.
    sums: Vec<f64>,
    weights: Vec<f64>,
    rows_since_reassignment: usize,
}

impl MiniBatch {
    /// Initial centroids, chosen from `first`, whose rows do not count as assigned. A cell that gets less than
    /// `reassignment_ratio` times the rows of the largest cell is moved, see [`MiniBatch::step`].
    ///
    /// # Errors
    /// Parameters out of range; more cells than rows; no memory; [`Error::Interrupted`].
    pub fn new(first: &Samples, params: Params, reassignment_ratio: f64, watch: &Watch) -> Result<Self> {
        if matches!(params.init, Init::Given(_)) {
            params.check_for_dims(first.dims())?;
        } else {
            params.check(first)?;
        }
        if !(0.0..1.0).contains(&reassignment_ratio) {
            return Err(Error::input("reassignment_ratio", "a number from 0 to less than 1", reassignment_ratio));
        }
        let threads = pool::thread_count(params.threads)?;
        let _mode = FloatMode::standard();
        let (mut random, dims) = (Random::new(params.seed), first.dims());
        let values = init_centroids(first, &params, &mut random, threads, watch)?;
        // `Centroids::new` checks values that come from the caller.
        let values = Centroids::new("init", values, dims, params.metric, threads, watch)?.rows.into_values();
        let sums = filled(values.len(), 0.0, "the sums of cells")?;
        let weights = filled(params.cells, 0.0, "the sizes of cells")?;
        Ok(MiniBatch { params, reassignment_ratio, threads, random, dims, values, sums, weights, rows_since_reassignment: 0 })
    }

    /// The centroids, rows of `dims` values.
    pub fn centroids(&self) -> &[f32] {
        &self.values
    }

    /// The number of rows assigned to each cell so far.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Assigns the rows of a batch and updates the centroids; returns the batch's objective before the update.
    ///
    /// # Errors
    /// Rows of other dims; no memory; [`Error::Interrupted`]. The centroids are then as they were.
    pub fn step(&mut self, batch: &Samples, watch: &Watch) -> Result<f64> {
        let _mode = FloatMode::standard();
        Ok(objective(self.params.metric, &self.update(batch, None, watch)?.keys))
    }

    /// [`MiniBatch::step`], returning the assignment before the update; `guess` as in [`Centroids::assign`].
    fn update(&mut self, batch: &Samples, guess: Option<&[u32]>, watch: &Watch) -> Result<Assignment> {
        let (metric, dims) = (self.params.metric, self.dims);
        let cells = Centroids::new("vectors", self.values.clone(), dims, metric, self.threads, watch)?;
        let found = cells.assign(batch, guess, self.threads, watch)?;
        let members = Members::new(&found.cells, cells.rows.len())?;
        let (mut values, mut sums) = (cells.rows.into_values(), self.sums.clone());
        sums::sums(batch, &members, metric, &mut sums, self.threads, watch)?;
        for (cell, weight) in self.weights.iter_mut().enumerate() {
            let rows = members.of(cell).len();
            if rows > 0 {
                *weight += rows as f64;
                let span = cell * dims..(cell + 1) * dims;
                centroid(metric, &sums[span.clone()], *weight, &mut values[span]);
            }
        }
        (self.values, self.sums) = (values, sums);
        self.rows_since_reassignment += batch.len();
        if self.rows_since_reassignment >= REASSIGNMENT_ROWS.saturating_mul(self.params.cells) {
            self.rows_since_reassignment = 0;
            self.reassign_small(batch, &members, &found);
        }
        Ok(found)
    }

    /// Moves the smallest cells to rows of this batch in the largest cells. Their weight becomes the least that is
    /// not reassigned, small enough for the next batches to move them far.
    fn reassign_small(&mut self, batch: &Samples, members: &Members, found: &Assignment) {
        let metric = self.params.metric;
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        order.sort_by(|&a, &b| self.weights[a].total_cmp(&self.weights[b]).then(a.cmp(&b)));
        let least = self.reassignment_ratio * self.weights[order[order.len() - 1]];
        let small = order.iter().take(order.len() / 2).take_while(|&&cell| self.weights[cell] < least);
        let pairs: Vec<(usize, usize)> = small.copied().zip(order.iter().rev().copied()).collect();
        for (small, large) in pairs {
            let Some(row) = reseed::draw_by_cost(batch, members.of(large), &found.keys, metric, &mut self.random) else { continue };
            let span = small * self.dims..(small + 1) * self.dims;
            reseed::write_centroid(batch, row, metric, &mut self.values[span.clone()]);
            for (sum, &y) in self.sums[span.clone()].iter_mut().zip(&self.values[span]) {
                *sum = least * f64::from(y);
            }
            self.weights[small] = least;
        }
    }
}

/// Trains centroids of `samples` by batches drawn from them, `params.iterations` passes at most; then moves every
/// centroid once to the mean of all rows nearest to it, and refills empty cells.
///
/// # Errors
/// As [`MiniBatch::new`]; a batch size or patience of 0.
pub fn train(
    samples: &Samples,
    params: &Params,
    (batches, reassignment_ratio): (&Batches, f64),
    watch: &Watch,
) -> Result<(MiniBatch, Trained)> {
    params.check(samples)?;
    let _mode = FloatMode::standard();
    if batches.rows == 0 || batches.patience == Some(0) {
        let argument = if batches.rows == 0 { "batch_size" } else { "max_no_improvement" };
        return Err(Error::input(argument, "1 or more", 0));
    }
    let mut random = Random::new(!params.seed);
    let rows = batches.rows.min(samples.len());
    let first = INIT_BATCHES.saturating_mul(rows.max(params.cells)).min(samples.len());
    let drawn = reseed::draw(&mut random, samples.len(), if matches!(params.init, Init::Given(_)) { params.cells } else { first });
    let steps = params.iterations.saturating_mul(samples.len().div_ceil(rows));
    let work = |rows: usize| Centroids::work(rows, params.cells, samples.dims());
    let usual = if batches.patience.is_some() { steps.min(USUAL_BATCHES) } else { steps };
    let (first, all, mut left) =
        (lloyd::first_work(drawn.len(), samples.dims(), params), 2.0 * work(samples.len()), usual as f64 * work(rows));
    watch.plan(first + left + all);
    watch.stage(first, params.cells as u64);
    let mut state = MiniBatch::new(&samples.pick(&drawn)?, params.clone(), reassignment_ratio, watch)?;
    let mut history = Vec::new();
    let mut stop = EarlyStopping::new(rows, samples.len(), params.tolerance, batches.patience);
    let mut order = Epochs::new(samples.len())?;
    let mut latest = filled(samples.len(), 0, "the cells of rows")?;
    while history.len() < steps {
        let next_cost = left / usual.saturating_sub(history.len()).max(batches.patience.unwrap_or(1)) as f64;
        watch.stage(next_cost, rows as u64);
        left -= next_cost;
        let (drawn, seen_before) = order.next(rows, &mut random);
        let guess: Option<Vec<u32>> = seen_before.then(|| drawn.iter().map(|&row| latest[row]).collect());
        let found = state.update(&samples.pick(drawn)?, guess.as_deref(), watch)?;
        drawn.iter().zip(&found.cells).for_each(|(&row, &cell)| latest[row] = cell);
        let mean = objective(params.metric, &found.keys) / rows as f64;
        history.push(mean);
        // The first batch's objective belongs to centroids that are not trained yet.
        if history.len() > 1 && stop.should_stop(mean) {
            break;
        }
    }
    let iterations = history.len();
    watch.stage(left, 0);
    watch.stage(all, 2 * samples.len() as u64);
    let assignment = state.finish(samples, order.seen_before.then_some(latest), &mut random, watch)?;
    let centroids = state.values.clone();
    let objective = objective(params.metric, &assignment.keys);
    Ok((state, Trained { centroids, assignment, objective, history, iterations }))
}

impl MiniBatch {
    /// One step of Lloyd's algorithm on all rows, then refills empty cells while that lowers the objective. Returns
    /// the nearest cell of every row.
    fn finish(&mut self, samples: &Samples, mut guess: Option<Vec<u32>>, random: &mut Random, watch: &Watch) -> Result<Assignment> {
        let (metric, threads) = (self.params.metric, self.threads);
        let (mut before, mut moved) = (f64::INFINITY, false);
        loop {
            let cells = Centroids::new("vectors", std::mem::take(&mut self.values), self.dims, metric, threads, watch)?;
            let found = cells.assign(samples, guess.as_deref(), threads, watch)?;
            self.values = cells.rows.into_values();
            let members = Members::new(&found.cells, self.params.cells)?;
            let now = objective(metric, &found.keys);
            let no_gain = now >= before;
            before = now;
            if !moved {
                sums::means(samples, &members, metric, &vec![true; members.len()], &mut self.values, (threads, watch))?;
                reseed::refill_empty(samples, &members, &found.keys, metric, &mut self.values, random);
                moved = true;
            } else if no_gain || !reseed::refill_empty(samples, &members, &found.keys, metric, &mut self.values, random) {
                return Ok(found);
            }
            guess = Some(found.cells);
        }
    }
}

/// Batches without replacement: all rows in random order, then all in another order, and so on.
struct Epochs {
    rows: Vec<usize>,
    /// Rows drawn in this epoch.
    drawn: usize,
    /// Whether the first epoch is over.
    seen_before: bool,
}

impl Epochs {
    fn new(rows: usize) -> Result<Self> {
        let mut order = filled(rows, 0, "the order of rows")?;
        order.iter_mut().enumerate().for_each(|(i, row)| *row = i);
        Ok(Epochs { rows: order, drawn: 0, seen_before: false })
    }

    /// The next `count` rows, and whether the first epoch is over. Where fewer rows are left, a new epoch begins.
    fn next(&mut self, count: usize, random: &mut Random) -> (&[usize], bool) {
        let all = self.rows.len();
        if self.drawn + count > all {
            (self.drawn, self.seen_before) = (0, true);
        }
        let batch = self.drawn..self.drawn + count;
        batch.clone().for_each(|i| self.rows.swap(i, i + random.below(all - i)));
        self.drawn = batch.end;
        (&self.rows[batch], self.seen_before)
    }
}

/// Stops training when the exponential moving average of the batches' objectives no longer falls.
struct EarlyStopping {
    /// Weight of the newest batch.
    alpha: f64,
    tolerance: f64,
    patience: Option<usize>,
    average: Option<f64>,
    best: f64,
    waited: usize,
}

impl EarlyStopping {
    /// The weight of a batch is twice its share of all rows, as in scikit-learn.
    fn new(batch: usize, rows: usize, tolerance: f64, patience: Option<usize>) -> Self {
        let alpha = (2.0 * batch as f64 / (rows as f64 + 1.0)).min(1.0);
        EarlyStopping { alpha, tolerance, patience, average: None, best: f64::INFINITY, waited: 0 }
    }

    fn should_stop(&mut self, mean: f64) -> bool {
        let average = self.average.map_or(mean, |before| before + self.alpha * (mean - before));
        self.average = Some(average);
        // Strictly less: an objective that stays 0 does not improve.
        if average < self.best * (1.0 - self.tolerance) {
            (self.best, self.waited) = (average, 0);
        } else {
            self.waited += 1;
        }
        self.patience.is_some_and(|patience| self.waited >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_draws_no_row_twice() {
        let (mut order, mut random) = (Epochs::new(10).unwrap(), Random::new(3));
        for epoch in 0..4 {
            let mut seen = Vec::new();
            for _ in 0..3 {
                let (rows, seen_before) = order.next(3, &mut random);
                assert_eq!(seen_before, epoch > 0);
                seen.extend_from_slice(rows);
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 9);
        }
    }
}
