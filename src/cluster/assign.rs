//! The nearest centroids of each row: exact float64 keys, found by integer upper bounds.
//!
//! The nearest cell has the largest float64 key, as [`crate::metric`] defines it; of equal keys, the lower cell wins.
//! Centroids are stored as 8-bit codes around their mean, a row is quantised to 16 bits, and their integer product
//! bounds the row's rank of every cell from above (`centroid_codes.rs` has the mathematics). Only cells whose bound
//! reaches the rank of the best cell so far are compared in float64.

use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use super::samples::Samples;
use super::tile::{Tile, all_below};
use crate::error::{Error, Result, filled};
use crate::kernel::{self, BATCH, Kernel, UnpackedCodes, padded, prefetch};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::progress::cost;
use std::ops::Range;
use std::sync::Mutex;

/// Rows per job: some tiles.
const JOB_ROWS: usize = 512;
/// How many rows ahead of the one being encoded to prefetch.
const AHEAD: usize = 2;
/// Bytes of codes that every tile of a group is compared with before the next ones are read: a part of L2.
const PANEL_BYTES: usize = 768 << 10;
/// Rows of a group, where the codes of all centroids exceed [`PANEL_BYTES`].
const GROUP_ROWS: usize = 128;
/// The most sixteen-lane vectors of maxima that a first threshold is taken from.
const MAX_LANES: usize = 32;

/// Centroids and their codes, for one metric.
#[derive(Debug)]
pub struct Centroids {
    kernel: &'static Kernel,
    metric: Metric,
    /// The centroids in float32.
    pub rows: Samples<'static>,
    codes: Codes,
}

/// The nearest cells of rows, and their keys: as many per row as were asked for, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// Cell numbers.
    pub cells: Vec<u32>,
    /// Internal keys, larger is nearer: minus the squared distance, the cosine, or the dot product.
    pub keys: Vec<f64>,
}

impl Centroids {
    /// Encodes `values`, rows of `dims` numbers, for searches by `metric`. Errors name `argument`.
    ///
    /// # Errors
    /// As [`Samples::new`]; no memory.
    pub fn new(argument: &'static str, values: Vec<f32>, dims: usize, metric: Metric, threads: usize, watch: &Watch) -> Result<Self> {
        Centroids::with_kernel(kernel::selected()?, argument, values, dims, metric, threads, watch)
    }

    /// [`Centroids::new`] with a given kernel; all kernels find the same cells.
    ///
    /// # Errors
    /// As [`Centroids::new`].
    pub fn with_kernel(
        kernel: &'static Kernel,
        argument: &'static str,
        values: Vec<f32>,
        dims: usize,
        metric: Metric,
        threads: usize,
        watch: &Watch,
    ) -> Result<Self> {
        let _mode = kernel::FloatMode::standard();
        let rows = Samples::new(argument, values, dims, kernel, threads, watch)?;
        let codes = Codes::new(&rows, metric, threads, watch)?;
        Ok(Centroids { kernel, metric, rows, codes })
    }

    /// The cost of finding the nearest cells of `rows`.
    pub fn work(rows: usize, cells: usize, dims: usize) -> f64 {
        (rows * dims) as f64 * (cost::ASSIGN * cells as f64 + cost::ROUND)
    }

    /// The nearest cell of every row. `guess` holds a probable one per row, such as the cell before the centroids
    /// moved: a good guess saves work, a bad one changes no answer.
    ///
    /// # Errors
    /// Rows of other dims; no memory; [`Error::Interrupted`].
    pub fn assign(&self, samples: &Samples, guess: Option<&[u32]>, threads: usize, watch: &Watch) -> Result<Assignment> {
        self.search(samples, 1, guess, threads, watch)
    }

    /// The `min(count, cells)` nearest cells of every row, nearest first.
    ///
    /// # Errors
    /// Rows of other dims; a count of 0; no memory; [`Error::Interrupted`].
    pub fn nearest(&self, samples: &Samples, count: usize, threads: usize, watch: &Watch) -> Result<Assignment> {
        self.search(samples, count, None, threads, watch)
    }

    fn search(&self, samples: &Samples, count: usize, guess: Option<&[u32]>, threads: usize, watch: &Watch) -> Result<Assignment> {
        self.check(samples)?;
        if count == 0 {
            return Err(Error::input("count", "1 or more", count));
        }
        let count = count.min(self.rows.len());
        let total = samples.len().saturating_mul(count);
        let mut found = Assignment { cells: filled(total, 0, "the cells of rows")?, keys: filled(total, 0.0, "the keys of rows")? };
        let outs = found.cells.chunks_mut(JOB_ROWS * count).zip(found.keys.chunks_mut(JOB_ROWS * count));
        let jobs: Vec<_> = outs.map(Mutex::new).collect();
        let work = |worker: &mut Worker, job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (cells, keys) = &mut *slot;
            let first = job * JOB_ROWS;
            worker.search(samples, first..first + cells.len() / count, count, guess, watch, |row, best| {
                for (i, &(key, cell)) in best.iter().enumerate() {
                    let at = (row - first) * count + i;
                    (keys[at], cells[at]) = (key, cell);
                }
            })
        };
        pool::run(threads, jobs.len(), watch, || Worker::new(self), work)?;
        drop(jobs);
        Ok(found)
    }

    /// `score(key)` of every row and cell: `samples.len()` rows of as many values as there are cells.
    ///
    /// # Errors
    /// Rows of other dims; no memory; [`Error::Interrupted`].
    pub fn scores(&self, samples: &Samples, score: impl Fn(f64) -> f32 + Sync, threads: usize, watch: &Watch) -> Result<Vec<f32>> {
        self.check(samples)?;
        let mut scores = filled(samples.len().saturating_mul(self.rows.len()), 0.0, "the scores of all cells")?;
        let jobs: Vec<_> = scores.chunks_mut(self.rows.len()).map(Mutex::new).collect();
        let scratch = || Ok((Vec::new(), filled(self.rows.len(), 0.0, "the keys of all cells")?));
        let work = |(wide, keys): &mut (Vec<f64>, Vec<f64>), row: usize| {
            let mut out = jobs[row].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            to_padded_f64(samples.row(row), wide);
            self.sums(wide, 0..self.rows.len(), keys);
            for (cell, (out, &sum)) in out.iter_mut().zip(keys.iter()).enumerate() {
                *out = score(self.metric.key(sum, samples.norm(row), self.rows.norm(cell)));
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, scratch, work)?;
        drop(jobs);
        Ok(scores)
    }

    fn check(&self, samples: &Samples) -> Result<()> {
        if samples.dims() == self.rows.dims() {
            return Ok(());
        }
        let expected = format!("rows of {} values, as the centroids have", self.rows.dims());
        Err(Error::input(samples.argument(), expected, format!("{} values", samples.dims())))
    }

    /// Squared distances or dot products of a row, padded float64, and some centroids.
    fn sums(&self, wide: &[f64], cells: Range<usize>, out: &mut [f64]) {
        let centroids = &self.rows.values()[cells.start * self.rows.dims()..cells.end * self.rows.dims()];
        let sums = if self.metric == Metric::Euclidean { self.kernel.squared_distance } else { self.kernel.dot };
        sums(wide, centroids, self.rows.dims(), out);
    }

    /// The key of a row, padded float64 and of this norm, and one centroid.
    fn key(&self, wide: &[f64], norm: f64, cell: u32) -> f64 {
        let mut sum = [0.0];
        self.sums(wide, cell as usize..cell as usize + 1, &mut sum);
        self.metric.key(sum[0], norm, self.rows.norm(cell as usize))
    }
}

/// A row in float64, padded with zeros as kernels require.
pub(super) fn to_padded_f64(row: &[f32], wide: &mut Vec<f64>) {
    wide.clear();
    wide.extend(row.iter().map(|&x| f64::from(x)));
    wide.resize(padded(row.len()), 0.0);
}

/// The scratch memory of one thread: a tile of rows, its bounds, and the candidate cells of each row.
struct Worker<'a> {
    centroids: &'a Centroids,
    tile: Tile,
    bounds: Vec<f32>,
    keep: Vec<u16>,
    wide: Vec<f64>,
    /// Cells with their upper bounds.
    candidates: [Vec<(f32, u32)>; BATCH],
}

/// A row's factors of bounds and thresholds, and its best cells so far, nearest first.
struct RowState {
    encoded: EncodedRow,
    best: Vec<(f64, u32)>,
    /// A zero row under cosine or dot product: the key of every cell is 0.
    zero: bool,
}

impl RowState {
    fn new(samples: &Samples, row: usize, metric: Metric, count: usize) -> Self {
        let zero = metric != Metric::Euclidean && samples.norm(row) == 0.0;
        let mut best = Vec::with_capacity(count);
        best.extend((0..if zero { count as u32 } else { 0 }).map(|cell| (0.0, cell)));
        RowState { encoded: EncodedRow::default(), best, zero }
    }
}

impl<'a> Worker<'a> {
    fn new(centroids: &'a Centroids) -> Result<Self> {
        let panel = centroids.codes.panel(PANEL_BYTES).min(centroids.codes.len());
        Ok(Worker {
            centroids,
            tile: Tile::new(centroids.rows.dims())?,
            bounds: filled(panel * BATCH, 0.0, "the bounds of cells")?,
            keep: filled(panel, 0, "the bounds of cells")?,
            wide: Vec::new(),
            candidates: Default::default(),
        })
    }

    /// Calls `each` with every row of `rows` and its `count` nearest cells.
    fn search(
        &mut self,
        samples: &Samples,
        rows: Range<usize>,
        count: usize,
        guess: Option<&[u32]>,
        watch: &Watch,
        mut each: impl FnMut(usize, &[(f64, u32)]),
    ) -> Result<()> {
        let (all, panel) = (self.centroids.codes.len(), self.centroids.codes.panel(PANEL_BYTES));
        let group_rows = if panel >= all { BATCH } else { GROUP_ROWS };
        for start in rows.clone().step_by(group_rows) {
            let group = start..rows.end.min(start + group_rows);
            watch.check()?;
            let mut states: Vec<RowState> = group.clone().map(|row| RowState::new(samples, row, self.centroids.metric, count)).collect();
            for first in (0..all).step_by(panel) {
                let cells = first..all.min(first + panel);
                for (tile, states) in group.clone().step_by(BATCH).zip(states.chunks_mut(BATCH)) {
                    self.encode_tile(samples, tile, states, guess.filter(|_| first == 0));
                    self.search_panel(samples, tile, states, count, cells.clone());
                }
            }
            watch.advance(group.len() as u64);
            group.zip(&states).for_each(|(row, state)| each(row, &state.best));
        }
        Ok(())
    }

    /// Encodes the rows from `tile` on, and compares each with its guessed cell.
    fn encode_tile(&mut self, samples: &Samples, tile: usize, states: &mut [RowState], guess: Option<&[u32]>) {
        self.tile.factors.clear();
        for (row, state) in (tile..).zip(states) {
            if row + AHEAD < samples.len() {
                prefetch(samples.row(row + AHEAD));
            }
            state.encoded = self.tile.push(&self.centroids.codes, self.centroids.kernel, samples.row(row), samples.norm(row));
            if let Some(guess) = guess.filter(|_| !state.zero) {
                to_padded_f64(samples.row(row), &mut self.wide);
                state.best.push((self.centroids.key(&self.wide, samples.norm(row), guess[row]), guess[row]));
            }
        }
    }

    /// Updates the best cells of a tile's rows by the centroids of `cells`.
    fn search_panel(&mut self, samples: &Samples, tile: usize, states: &mut [RowState], count: usize, cells: Range<usize>) {
        for (factors, state) in self.tile.factors.iter_mut().zip(states.iter()) {
            factors.threshold = match state.best.get(count - 1) {
                _ if state.zero => f32::INFINITY,
                Some(&(key, _)) => state.encoded.threshold(key),
                None => f32::NEG_INFINITY,
            };
        }
        let codes: UnpackedCodes = self.centroids.codes.unpacked(cells.clone());
        self.tile.bound(self.centroids.kernel, &codes, &mut self.bounds[..cells.len() * BATCH], &mut self.keep[..cells.len()]);
        self.collect_candidates(states, count, cells);
        for (i, state) in states.iter_mut().enumerate().filter(|(_, state)| !state.zero) {
            let mut candidates = std::mem::take(&mut self.candidates[i]);
            let guessed = state.best.first().map(|best| best.1).filter(|_| count == 1);
            candidates.retain(|&(_, cell)| guessed != Some(cell));
            self.refine(samples, tile + i, state, count, &mut candidates);
            self.candidates[i] = candidates;
        }
    }

    /// Lists for each row the `cells` whose bounds reach its threshold.
    fn collect_candidates(&mut self, states: &[RowState], count: usize, cells: Range<usize>) {
        self.candidates.iter_mut().for_each(Vec::clear);
        let thresholds: Vec<f32> = states.iter().enumerate().map(|(i, state)| self.seed_threshold(i, state, count, cells.len())).collect();
        for (block, keep) in self.keep[..cells.len()].as_chunks::<BATCH>().0.iter().enumerate() {
            if *keep == [0; BATCH] {
                continue;
            }
            for (i, (&kept, &threshold)) in keep.iter().zip(&thresholds).enumerate() {
                let bounds = &self.bounds.as_chunks::<BLOCK>().0[BATCH * block + i];
                if kept == 0 || all_below(bounds, threshold) {
                    continue;
                }
                for (lane, &bound) in bounds.iter().enumerate() {
                    let cell = cells.start + BLOCK * block + lane;
                    if kept >> lane & 1 == 1 && cell < self.centroids.rows.len() && (bound.is_nan() || bound >= threshold) {
                        // NaN bounds nothing: such a cell is compared first.
                        self.candidates[i].push((if bound.is_nan() { f32::INFINITY } else { bound }, cell as u32));
                    }
                }
            }
        }
    }

    /// A bound that each of the `count` nearest cells of the panel reaches, for row `i` of the tile if it has no best
    /// cells yet: the cells of the highest bounds have ranks not far below these.
    fn seed_threshold(&self, i: usize, state: &RowState, count: usize, cells: usize) -> f32 {
        // Four times as many lanes as cells wanted: most of the highest bounds then fall into lanes of their own.
        let lanes = if count == 1 { 1 } else { (4 * count).div_ceil(BLOCK) };
        if lanes > MAX_LANES || !state.best.is_empty() || state.zero {
            return f32::NEG_INFINITY;
        }
        let mut highest = [[f32::NEG_INFINITY; BLOCK]; MAX_LANES];
        for (block, bounds) in self.bounds.as_chunks::<BLOCK>().0[..cells].iter().skip(i).step_by(BATCH).enumerate() {
            for (highest, &bound) in highest[block % lanes].iter_mut().zip(bounds) {
                *highest = if bound > *highest { bound } else { *highest };
            }
        }
        let highest = &mut highest.as_flattened_mut()[..lanes * BLOCK];
        // The maxima of different lanes belong to different cells, so `count` cells have bounds of at least this.
        let (_, least, _) = highest.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        state.encoded.threshold_below(*least)
    }

    /// Compares candidate cells in float64, highest bound first, until bounds fall below the threshold.
    fn refine(&mut self, samples: &Samples, row: usize, state: &mut RowState, count: usize, candidates: &mut Vec<(f32, u32)>) {
        if candidates.is_empty() {
            return;
        }
        to_padded_f64(samples.row(row), &mut self.wide);
        let missing = count - state.best.len();
        if missing > 0 && missing < candidates.len() {
            // The threshold of the cells with the highest bounds excludes most others without sorting them.
            candidates.select_nth_unstable_by(missing - 1, |a, b| b.0.total_cmp(&a.0));
            candidates[..missing].iter().for_each(|&(_, cell)| self.insert(samples.norm(row), cell, state, count));
            let threshold = state.encoded.threshold(state.best[count - 1].0);
            candidates.drain(..missing);
            candidates.retain(|&(bound, _)| bound >= threshold);
        }
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(bound, cell) in candidates.iter() {
            if state.best.len() == count && bound < state.encoded.threshold(state.best[count - 1].0) {
                break;
            }
            self.insert(samples.norm(row), cell, state, count);
        }
    }

    /// Computes the key of `cell` for the row in `wide` and inserts it if it is among the `count` best.
    fn insert(&self, norm: f64, cell: u32, state: &mut RowState, count: usize) {
        let key = self.centroids.key(&self.wide, norm, cell);
        let at = state.best.partition_point(|&(other, earlier)| other > key || other == key && earlier < cell);
        if at < count {
            state.best.truncate(count - 1);
            state.best.insert(at, (key, cell));
        }
    }
}
