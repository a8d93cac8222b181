//! k-means on one batch of rows after the other (Sculley, WWW 2010): a centroid is the mean of all rows
//! that have ever come to it.
//!
//! Rows are never kept. Centroids that few rows come to move into the largest now and then, so that none is left
//! behind. Centroids depend on batches, seed and parameters, not on CPU or threads.

use super::assign::{Assignment, Centroids};
use super::lloyd::{Init, Params, Progress, Trained, begin};
use super::reseed;
use super::samples::Samples;
use super::sums::{self, Members, centroid, objective};
use crate::error::{Error, Result, filled};
use crate::kernel::FloatMode;
use crate::pool::{self, Watch};
use crate::random::Random;

/// Centroids are compared in size when so many rows a cell have come since the last time.
const CENSUS_ROWS: usize = 10;
/// Rows that the first centroids are chosen from, in batches; at least three a cell.
const FIRST_BATCHES: usize = 3;

/// What is decided before batches are drawn from rows.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Rows of a batch.
    pub rows: usize,
    /// Training ends once so many batches in a row have not lowered the smoothed objective; `None`: never.
    pub patience: Option<usize>,
}

/// Centroids that learn from batches.
#[derive(Debug)]
pub struct MiniBatch {
    params: Params,
    least_share: f64,
    threads: usize,
    random: Random,
    dims: usize,
    values: Vec<f32>,
    /// What rows have come to each cell: their sum and their number.
    sums: Vec<f64>,
    weights: Vec<f64>,
    uncounted: usize,
}

impl MiniBatch {
    /// Centroids of `first`, which count for nothing yet. A cell that gets less than `least_share` of the
    /// rows of the largest moves into it.
    ///
    /// # Errors
    /// Parameters out of range; more cells than rows; no memory; [`Error::Interrupted`].
    pub fn new(first: &Samples, params: Params, least_share: f64, watch: &Watch) -> Result<Self> {
        if matches!(params.init, Init::Given(_)) {
            params.check_all_but_rows(first.dims())?;
        } else {
            params.check(first)?;
        }
        if !(0.0..1.0).contains(&least_share) {
            return Err(Error::input("reassignment_ratio", "a number from 0 to less than 1", least_share));
        }
        let threads = pool::thread_count(params.threads)?;
        let _mode = FloatMode::standard();
        let (mut random, dims) = (Random::new(params.seed), first.dims());
        let values = begin(first, &params, &mut random, threads, watch)?;
        // The first centroids may come from the caller: they are checked here.
        let values = Centroids::new("init", values, dims, params.metric, threads, watch)?.rows.into_values();
        let sums = filled(values.len(), 0.0, "the sums of cells")?;
        let weights = filled(params.cells, 0.0, "the sizes of cells")?;
        Ok(MiniBatch { params, least_share, threads, random, dims, values, sums, weights, uncounted: 0 })
    }

    /// The centroids, one after the other.
    pub fn centroids(&self) -> &[f32] {
        &self.values
    }

    /// How many rows have come to each cell.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Learns from a batch; returns its objective at the centroids before.
    ///
    /// # Errors
    /// Rows of other dims; no memory; [`Error::Interrupted`]. The centroids are then as they were.
    pub fn step(&mut self, batch: &Samples, watch: &Watch) -> Result<f64> {
        let _mode = FloatMode::standard();
        Ok(objective(self.params.metric, &self.learn(batch, None, watch)?.keys))
    }

    /// Learns from a batch; returns its cells at the centroids before, of which there may be a guess.
    fn learn(&mut self, batch: &Samples, guess: Option<&[u32]>, watch: &Watch) -> Result<Assignment> {
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
        self.uncounted += batch.len();
        if self.uncounted >= CENSUS_ROWS.saturating_mul(self.params.cells) {
            self.uncounted = 0;
            self.level(batch, &members, &found);
        }
        Ok(found)
    }

    /// Moves the smallest cells to rows of this batch in the largest cells. They start with the weight that
    /// a cell must have, so that rows to come soon draw them to their place.
    fn level(&mut self, batch: &Samples, members: &Members, found: &Assignment) {
        let metric = self.params.metric;
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        order.sort_by(|&a, &b| self.weights[a].total_cmp(&self.weights[b]).then(a.cmp(&b)));
        let least = self.least_share * self.weights[order[order.len() - 1]];
        let small = order.iter().take(order.len() / 2).take_while(|&&cell| self.weights[cell] < least);
        let pairs: Vec<(usize, usize)> = small.copied().zip(order.iter().rev().copied()).collect();
        for (small, large) in pairs {
            let Some(row) = reseed::draw_costly(batch, members.of(large), &found.keys, metric, &mut self.random) else { continue };
            let span = small * self.dims..(small + 1) * self.dims;
            reseed::place(batch, row, metric, &mut self.values[span.clone()]);
            for (sum, &y) in self.sums[span.clone()].iter_mut().zip(&self.values[span]) {
                *sum = least * f64::from(y);
            }
            self.weights[small] = least;
        }
    }
}

/// Finds centroids of `samples` by batches drawn from them, at most `params.iterations` times as many rows
/// as there are; then every centroid moves once to the mean of all rows nearest to it, and cells without
/// rows split costly ones.
///
/// # Errors
/// As [`MiniBatch::new`]; no rows a batch.
pub fn train(
    samples: &Samples,
    params: &Params,
    (batches, least_share): (&Batches, f64),
    progress: &mut Progress,
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
    let first = FIRST_BATCHES.saturating_mul(rows.max(params.cells)).min(samples.len());
    let drawn = reseed::draw(&mut random, samples.len(), if matches!(params.init, Init::Given(_)) { params.cells } else { first });
    let mut state = MiniBatch::new(&samples.pick(&drawn)?, params.clone(), least_share, watch)?;
    let steps = params.iterations.saturating_mul(samples.len().div_ceil(rows));
    let mut history = Vec::new();
    let mut stop = Stop::new(rows, samples.len(), params.tolerance, batches.patience);
    let mut order = Order::new(samples.len())?;
    let mut latest = filled(samples.len(), 0, "the cells of rows")?;
    while history.len() < steps {
        let (drawn, again) = order.next(rows, &mut random);
        let guess: Option<Vec<u32>> = again.then(|| drawn.iter().map(|&row| latest[row]).collect());
        let found = state.learn(&samples.pick(drawn)?, guess.as_deref(), watch)?;
        drawn.iter().zip(&found.cells).for_each(|(&row, &cell)| latest[row] = cell);
        let mean = objective(params.metric, &found.keys) / rows as f64;
        history.push(mean);
        if !progress(history.len(), steps, mean) {
            return Err(Error::Interrupted);
        }
        // The first centroids say little of what those that have learned will cost.
        if history.len() > 1 && stop.now(mean) {
            break;
        }
    }
    let iterations = history.len();
    let assignment = state.finish(samples, order.again.then_some(latest), &mut random, watch)?;
    let centroids = state.values.clone();
    let objective = objective(params.metric, &assignment.keys);
    Ok((state, Trained { centroids, assignment, objective, history, iterations }))
}

impl MiniBatch {
    /// Moves every centroid to the mean of all rows nearest to it, once; then the nearest cell of every row,
    /// no cell without one as long as rows differ.
    fn finish(&mut self, samples: &Samples, mut guess: Option<Vec<u32>>, random: &mut Random, watch: &Watch) -> Result<Assignment> {
        let (metric, threads) = (self.params.metric, self.threads);
        let (mut before, mut moved) = (f64::INFINITY, false);
        loop {
            let cells = Centroids::new("vectors", std::mem::take(&mut self.values), self.dims, metric, threads, watch)?;
            let found = cells.assign(samples, guess.as_deref(), threads, watch)?;
            self.values = cells.rows.into_values();
            let members = Members::new(&found.cells, self.params.cells)?;
            let now = objective(metric, &found.keys);
            // Not below: a split that gained nothing is the last.
            let vain = now >= before;
            before = now;
            if !moved {
                sums::means(samples, &members, metric, &vec![true; members.len()], &mut self.values, (threads, watch))?;
                reseed::split(samples, &members, &found.keys, metric, &mut self.values, random);
                moved = true;
            } else if vain || !reseed::split(samples, &members, &found.keys, metric, &mut self.values, random) {
                return Ok(found);
            }
            guess = Some(found.cells);
        }
    }
}

/// All rows in random order, over and over: they teach more than as many drawn one by one, of which some
/// come twice and others never.
struct Order {
    rows: Vec<usize>,
    /// How many have been drawn since the last time that all had been.
    drawn: usize,
    /// Whether all have been drawn once.
    again: bool,
}

impl Order {
    fn new(rows: usize) -> Result<Self> {
        let mut order = filled(rows, 0, "the order of rows")?;
        order.iter_mut().enumerate().for_each(|(i, row)| *row = i);
        Ok(Order { rows: order, drawn: 0, again: false })
    }

    /// The next `count` rows, and whether most rows have come before. Where fewer are left, another turn of
    /// all rows begins.
    fn next(&mut self, count: usize, random: &mut Random) -> (&[usize], bool) {
        let all = self.rows.len();
        if self.drawn + count > all {
            (self.drawn, self.again) = (0, true);
        }
        let batch = self.drawn..self.drawn + count;
        batch.clone().for_each(|i| self.rows.swap(i, i + random.below(all - i)));
        self.drawn = batch.end;
        (&self.rows[batch], self.again)
    }
}

/// Watches the smoothed objective of batches.
struct Stop {
    share: f64,
    tolerance: f64,
    patience: Option<usize>,
    smooth: Option<f64>,
    best: f64,
    waited: usize,
}

impl Stop {
    /// A batch counts for twice its share of all rows.
    fn new(batch: usize, rows: usize, tolerance: f64, patience: Option<usize>) -> Self {
        let share = (2.0 * batch as f64 / (rows as f64 + 1.0)).min(1.0);
        Stop { share, tolerance, patience, smooth: None, best: f64::INFINITY, waited: 0 }
    }

    fn now(&mut self, mean: f64) -> bool {
        let smooth = self.smooth.map_or(mean, |before| before + self.share * (mean - before));
        self.smooth = Some(smooth);
        // Not above: zero that stays zero is no improvement.
        if smooth < self.best * (1.0 - self.tolerance) {
            (self.best, self.waited) = (smooth, 0);
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
    fn all_rows_come_before_any_comes_again() {
        let (mut order, mut random) = (Order::new(10).unwrap(), Random::new(3));
        for turn in 0..4 {
            let mut seen = Vec::new();
            for _ in 0..3 {
                let (rows, again) = order.next(3, &mut random);
                assert_eq!(again, turn > 0);
                seen.extend_from_slice(rows);
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 9);
        }
    }
}
