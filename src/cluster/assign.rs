//! Centroids made ready to be compared with, and the nearest of them to each row.
//!
//! The nearest cell is defined by keys in float64, as in [`crate::metric`]: the largest key, of equal
//! keys the lower cell. It is found in two steps. Centroids are codes of one byte a value around their
//! common centre; a row is sixteen bits a value; their products, in integers, give a number that the
//! row's rank of a cell cannot exceed. Only cells whose bound reaches the rank of the best cell known so
//! far are compared in float64. `frame.rs` holds the arithmetic of bounds.

use super::centroid_codes::{BLOCK, Codes, EncodedRow};
use super::samples::Samples;
use super::tile::{Tile, below};
use crate::error::{Error, Result, filled};
use crate::kernel::{self, BATCH, Kernel, UnpackedCodes, padded, prefetch};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use std::ops::Range;
use std::sync::Mutex;

/// Rows of a job: some tiles.
const JOB_ROWS: usize = 512;
/// Rows ahead of the one that is made ready, for which memory is asked.
const AHEAD: usize = 2;
/// Bytes of codes that tiles pass over in turn: a part of L2.
const PANEL_BYTES: usize = 768 << 10;
/// Rows that share the way through a table of codes larger than that.
const GROUP_ROWS: usize = 128;
/// Sixteens of highest bounds that are kept to tell which cells are near.
const MOST_LANES: usize = 32;

/// Centroids, ready.
#[derive(Debug)]
pub struct Centroids {
    kernel: &'static Kernel,
    metric: Metric,
    /// The centroids themselves, one after the other.
    pub rows: Samples<'static>,
    codes: Codes,
}

/// The nearest cell of each row, and its key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// Cell numbers.
    pub cells: Vec<u32>,
    /// Internal keys, larger is nearer: minus the squared distance, the cosine, or the dot product.
    pub keys: Vec<f64>,
}

impl Centroids {
    /// Makes `values`, rows of `dims` numbers, ready for `metric`. Empty cells are allowed nowhere.
    ///
    /// # Errors
    /// What [`Samples::new`] refuses, named `argument`; no memory.
    pub fn new(argument: &'static str, values: Vec<f32>, dims: usize, metric: Metric, threads: usize, watch: &Watch) -> Result<Self> {
        Centroids::with_kernel(kernel::selected()?, argument, values, dims, metric, threads, watch)
    }

    /// The same for a kernel of one's choice: all give the same cells.
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

    /// The nearest cell of every row. A `guess` a row, a cell such as the one that it had before the
    /// centroids moved a little, saves work and changes nothing.
    ///
    /// # Errors
    /// Rows of other dims; no memory; [`Error::Interrupted`].
    pub fn assign(&self, samples: &Samples, guess: Option<&[u32]>, threads: usize, watch: &Watch) -> Result<Assignment> {
        self.check(samples)?;
        let mut found =
            Assignment { cells: filled(samples.len(), 0, "the cells of rows")?, keys: filled(samples.len(), 0.0, "the keys of rows")? };
        let outs = found.cells.chunks_mut(JOB_ROWS).zip(found.keys.chunks_mut(JOB_ROWS));
        let jobs: Vec<_> = outs.map(Mutex::new).collect();
        let work = |search: &mut Search, job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (cells, keys) = &mut *slot;
            let first = job * JOB_ROWS;
            search.rows(samples, first..first + cells.len(), 1, guess, watch, |row, best| {
                (keys[row - first], cells[row - first]) = best[0];
            })
        };
        pool::run(threads, jobs.len(), watch, || Search::new(self), work)?;
        drop(jobs);
        Ok(found)
    }

    /// The `count` nearest cells of every row, nearest first, `min(count, len)` a row.
    ///
    /// # Errors
    /// Rows of other dims; a count of 0; no memory; [`Error::Interrupted`].
    pub fn nearest(&self, samples: &Samples, count: usize, threads: usize, watch: &Watch) -> Result<Assignment> {
        self.check(samples)?;
        if count == 0 {
            return Err(Error::input("count", "1 or more", count));
        }
        let count = count.min(self.rows.len());
        let total = samples.len().saturating_mul(count);
        let mut found = Assignment { cells: filled(total, 0, "the cells of rows")?, keys: filled(total, 0.0, "the keys of rows")? };
        let outs = found.cells.chunks_mut(JOB_ROWS * count).zip(found.keys.chunks_mut(JOB_ROWS * count));
        let jobs: Vec<_> = outs.map(Mutex::new).collect();
        let work = |search: &mut Search, job: usize| {
            let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (cells, keys) = &mut *slot;
            let first = job * JOB_ROWS;
            search.rows(samples, first..first + cells.len() / count, count, None, watch, |row, best| {
                for (i, &(key, cell)) in best.iter().enumerate() {
                    let at = (row - first) * count + i;
                    (keys[at], cells[at]) = (key, cell);
                }
            })
        };
        pool::run(threads, jobs.len(), watch, || Search::new(self), work)?;
        drop(jobs);
        Ok(found)
    }

    /// What `score` makes of the key of every cell for every row: `samples.len()` times `len()` values.
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
            widen(samples.row(row), wide);
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

    /// Squared distances or products of a wide row and some centroids.
    fn sums(&self, wide: &[f64], cells: Range<usize>, out: &mut [f64]) {
        let centroids = &self.rows.values()[cells.start * self.rows.dims()..cells.end * self.rows.dims()];
        let sums = if self.metric == Metric::Euclidean { self.kernel.squared_distance } else { self.kernel.dot };
        sums(wide, centroids, self.rows.dims(), out);
    }
}

/// A row in float64, padded as kernels want it.
pub(super) fn widen(row: &[f32], wide: &mut Vec<f64>) {
    wide.clear();
    wide.extend(row.iter().map(|&x| f64::from(x)));
    wide.resize(padded(row.len()), 0.0);
}

/// What a worker needs: a tile of sixteen rows, its bounds, and the best cells of a group of rows.
struct Search<'a> {
    cells: &'a Centroids,
    tile: Tile,
    bounds: Vec<f32>,
    keep: Vec<u16>,
    wide: Vec<f64>,
    found: [Vec<(f32, u32)>; BATCH],
}

/// What is known of a row: how bounds see it, and its best cells so far, nearest first.
struct State {
    seen: EncodedRow,
    best: Vec<(f64, u32)>,
    /// All cells have one key: that of a zero row.
    even: bool,
}

impl<'a> Search<'a> {
    fn new(cells: &'a Centroids) -> Result<Self> {
        let panel = cells.codes.panel(PANEL_BYTES).min(cells.codes.len());
        Ok(Search {
            cells,
            tile: Tile::new(cells.rows.dims())?,
            bounds: filled(panel * BATCH, 0.0, "the bounds of cells")?,
            keep: filled(panel, 0, "the bounds of cells")?,
            wide: Vec::new(),
            found: Default::default(),
        })
    }

    /// Calls `each` with every row of `rows` and its `count` nearest cells.
    fn rows(
        &mut self,
        samples: &Samples,
        rows: Range<usize>,
        count: usize,
        guess: Option<&[u32]>,
        watch: &Watch,
        mut each: impl FnMut(usize, &[(f64, u32)]),
    ) -> Result<()> {
        let (all, panel) = (self.cells.codes.len(), self.cells.codes.panel(PANEL_BYTES));
        let group_rows = if panel >= all { BATCH } else { GROUP_ROWS };
        for start in rows.clone().step_by(group_rows) {
            let group = start..rows.end.min(start + group_rows);
            watch.check()?;
            let mut states: Vec<State> = group.clone().map(|row| self.start(samples, row, count)).collect();
            for first in (0..all).step_by(panel) {
                let some = first..all.min(first + panel);
                for (tile, states) in group.clone().step_by(BATCH).zip(states.chunks_mut(BATCH)) {
                    self.fill(samples, tile, states, guess.filter(|_| first == 0));
                    self.sift(samples, tile, states, count, some.clone());
                }
            }
            group.zip(&states).for_each(|(row, state)| each(row, &state.best));
        }
        Ok(())
    }

    fn start(&self, samples: &Samples, row: usize, count: usize) -> State {
        let even = self.cells.metric != Metric::Euclidean && samples.norm(row) == 0.0;
        let mut best = Vec::with_capacity(count);
        best.extend((0..if even { count as u32 } else { 0 }).map(|cell| (0.0, cell)));
        State { seen: EncodedRow::default(), best, even }
    }

    /// Makes the rows from `tile` on the queries of a sieve.
    fn fill(&mut self, samples: &Samples, tile: usize, states: &mut [State], guess: Option<&[u32]>) {
        self.tile.factors.clear();
        for (row, state) in (tile..).zip(states) {
            if row + AHEAD < samples.len() {
                prefetch(samples.row(row + AHEAD));
            }
            state.seen = self.tile.push(&self.cells.codes, self.cells.kernel, samples.row(row), samples.norm(row));
            if let Some(guess) = guess.filter(|_| !state.even) {
                let cell = guess[row];
                widen(samples.row(row), &mut self.wide);
                let mut sum = [0.0];
                self.cells.sums(&self.wide, cell as usize..cell as usize + 1, &mut sum);
                state.best.push((self.cells.metric.key(sum[0], samples.norm(row), self.cells.rows.norm(cell as usize)), cell));
            }
        }
    }

    /// Offers the cells of `some` to the rows of a tile.
    fn sift(&mut self, samples: &Samples, tile: usize, states: &mut [State], count: usize, some: Range<usize>) {
        for (factors, state) in self.tile.factors.iter_mut().zip(states.iter()) {
            factors.threshold = match state.best.get(count - 1) {
                _ if state.even => f32::INFINITY,
                Some(&(key, _)) => state.seen.threshold(key),
                None => f32::NEG_INFINITY,
            };
        }
        let wide: UnpackedCodes = self.cells.codes.wide(some.clone());
        self.tile.int8_batch(self.cells.kernel, &wide, &mut self.bounds[..some.len() * BATCH], &mut self.keep[..some.len()]);
        self.found.iter_mut().for_each(Vec::clear);
        let thresholds: Vec<f32> = states.iter().enumerate().map(|(i, state)| self.threshold(i, state, count, some.len())).collect();
        for (block, keep) in self.keep[..some.len()].as_chunks::<BATCH>().0.iter().enumerate() {
            if *keep == [0; BATCH] {
                continue;
            }
            for (i, (&kept, &threshold)) in keep.iter().zip(&thresholds).enumerate() {
                let bounds = &self.bounds.as_chunks::<BLOCK>().0[BATCH * block + i];
                if kept == 0 || below(bounds, threshold) {
                    continue;
                }
                for (lane, &bound) in bounds.iter().enumerate() {
                    let cell = some.start + BLOCK * block + lane;
                    if kept >> lane & 1 == 1 && cell < self.cells.rows.len() && (bound.is_nan() || bound >= threshold) {
                        // What is no number bounds nothing: such a cell is compared first.
                        self.found[i].push((if bound.is_nan() { f32::INFINITY } else { bound }, cell as u32));
                    }
                }
            }
        }
        for (i, state) in states.iter_mut().enumerate().filter(|(_, state)| !state.even) {
            let mut found = std::mem::take(&mut self.found[i]);
            let known = state.best.first().map(|best| best.1).filter(|_| count == 1);
            found.retain(|&(_, cell)| known != Some(cell));
            self.refine_segment(samples, tile + i, state, count, &mut found);
            self.found[i] = found;
        }
    }

    /// A bound that every cell worth comparing reaches, of those that the sieve kept for row `i` of the tile:
    /// where nothing was known of the row, those of the highest bounds have ranks that tell.
    fn threshold(&self, i: usize, state: &State, count: usize, cells: usize) -> f32 {
        // Lanes enough that the highest of them are mostly those of the nearest cells.
        let lanes = if count == 1 { 1 } else { (4 * count).div_ceil(BLOCK) };
        if lanes > MOST_LANES || !state.best.is_empty() || state.even {
            return f32::NEG_INFINITY;
        }
        let mut most = [[f32::NEG_INFINITY; BLOCK]; MOST_LANES];
        for (block, bounds) in self.bounds.as_chunks::<BLOCK>().0[..cells].iter().skip(i).step_by(BATCH).enumerate() {
            for (most, &bound) in most[block % lanes].iter_mut().zip(bounds) {
                *most = if bound > *most { bound } else { *most };
            }
        }
        let most = &mut most.as_flattened_mut()[..lanes * BLOCK];
        // The highest bounds of the lanes are those of different cells: so many of them are as high as this.
        let (_, least, _) = most.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        state.seen.beside(*least)
    }

    /// Compares the cells found in float64, those of the highest bounds first, as long as bounds reach.
    fn refine_segment(&mut self, samples: &Samples, row: usize, state: &mut State, count: usize, found: &mut Vec<(f32, u32)>) {
        if found.is_empty() {
            return;
        }
        widen(samples.row(row), &mut self.wide);
        let missing = count - state.best.len();
        if missing > 0 && missing < found.len() {
            // The highest bounds make a floor that leaves few others.
            found.select_nth_unstable_by(missing - 1, |a, b| b.0.total_cmp(&a.0));
            found[..missing].iter().for_each(|&(_, cell)| self.offer(samples.norm(row), cell, state, count));
            let threshold = state.seen.threshold(state.best[count - 1].0);
            found.drain(..missing);
            found.retain(|&(bound, _)| bound >= threshold);
        }
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(bound, cell) in found.iter() {
            if state.best.len() == count && bound < state.seen.threshold(state.best[count - 1].0) {
                break;
            }
            self.offer(samples.norm(row), cell, state, count);
        }
    }

    /// Puts `cell` in its place among the best, if it has one. The row is in `wide`.
    fn offer(&self, norm: f64, cell: u32, state: &mut State, count: usize) {
        let mut sum = [0.0];
        self.cells.sums(&self.wide, cell as usize..cell as usize + 1, &mut sum);
        let key = self.cells.metric.key(sum[0], norm, self.cells.rows.norm(cell as usize));
        let at = state.best.partition_point(|&(other, earlier)| other > key || other == key && earlier < cell);
        if at < count {
            state.best.truncate(count - 1);
            state.best.insert(at, (key, cell));
        }
    }
}
