//! Rows by cell, and what the rows of a cell add up to.
//!
//! A cell's rows are added in float64 in the order of their numbers, by one worker, so that sums are
//! the same bits for any number of threads. For cosine every row counts with length 1.

use super::samples::Samples;
use crate::error::{Result, filled};
use crate::kernel::prefetch;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use std::sync::Mutex;

/// Centroids of a job.
const JOB_CELLS: usize = 8;
/// Rows ahead of the one that is added, for which memory is asked.
const AHEAD: usize = 2;

/// The rows of every cell, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Members {
    starts: Vec<usize>,
    rows: Vec<u32>,
}

impl Members {
    /// Sorts rows by the cells they are in, of which there are `count`.
    pub fn new(cells: &[u32], count: usize) -> Result<Self> {
        let mut starts = filled(count + 1, 0, "the sizes of cells")?;
        cells.iter().for_each(|&cell| starts[cell as usize + 1] += 1);
        (0..count).for_each(|cell| starts[cell + 1] += starts[cell]);
        let (mut rows, mut next) = (filled(cells.len(), 0, "the rows of cells")?, starts.clone());
        for (row, &cell) in cells.iter().enumerate() {
            let at = &mut next[cell as usize];
            rows[*at] = row as u32;
            *at += 1;
        }
        Ok(Members { starts, rows })
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a cell.
    pub fn of(&self, cell: usize) -> &[u32] {
        &self.rows[self.starts[cell]..self.starts[cell + 1]]
    }
}

/// Adds the rows of every cell to its sum, of which there are `dims` numbers a cell.
pub(super) fn sums(samples: &Samples, members: &Members, metric: Metric, sums: &mut [f64], threads: usize, watch: &Watch) -> Result<()> {
    each(samples, sums, threads, watch, |cell, sum| {
        add(samples, members.of(cell), metric, sum);
    })
}

/// Moves every cell for which `stale` says so to the mean of its rows, if it has any.
pub(super) fn means(
    samples: &Samples,
    members: &Members,
    metric: Metric,
    stale: &[bool],
    values: &mut [f32],
    (threads, watch): (usize, &Watch),
) -> Result<()> {
    each(samples, values, threads, watch, |cell, out| {
        let rows = members.of(cell);
        if stale[cell] && !rows.is_empty() {
            let mut sum = vec![0.0; out.len()];
            add(samples, rows, metric, &mut sum);
            centroid(metric, &sum, rows.len() as f64, out);
        }
    })
}

/// Calls `visit` with every cell and its part of `values`.
fn each<T: Send>(samples: &Samples, values: &mut [T], threads: usize, watch: &Watch, visit: impl Fn(usize, &mut [T]) + Sync) -> Result<()> {
    let dims = samples.dims();
    let jobs: Vec<_> = values.chunks_mut(JOB_CELLS * dims).map(Mutex::new).collect();
    let work = |(): &mut (), job: usize| {
        let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (i, part) in slot.chunks_exact_mut(dims).enumerate() {
            watch.check()?;
            visit(job * JOB_CELLS + i, part);
        }
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
    Ok(())
}

fn add(samples: &Samples, rows: &[u32], metric: Metric, sum: &mut [f64]) {
    for (at, &row) in rows.iter().enumerate() {
        if let Some(&next) = rows.get(at + AHEAD) {
            prefetch(samples.row(next as usize));
        }
        let (values, norm) = (samples.row(row as usize), samples.norm(row as usize));
        match metric {
            Metric::Cosine if norm == 0.0 => {}
            Metric::Cosine => sum.iter_mut().zip(values).for_each(|(sum, &x)| *sum += f64::from(x) / norm),
            _ => sum.iter_mut().zip(values).for_each(|(sum, &x)| *sum += f64::from(x)),
        }
    }
}

/// Makes a centroid of the sum of `weight` rows: their mean, for cosine of length 1.
pub(super) fn centroid(metric: Metric, sum: &[f64], weight: f64, out: &mut [f32]) {
    let divisor = match metric {
        Metric::Cosine => sum.iter().map(|s| s * s).sum::<f64>().sqrt(),
        _ => weight,
    };
    // Rows of length 1 that cancel each other out leave no direction.
    let factor = if divisor > 0.0 { divisor } else { 1.0 };
    out.iter_mut().zip(sum).for_each(|(out, s)| *out = (s / factor) as f32);
}

/// How much a row adds to the objective: its squared distance, or 1 - cosine.
pub(super) fn cost(metric: Metric, key: f64) -> f64 {
    match metric {
        Metric::Euclidean => 0.0 - key,
        _ => (1.0 - key).max(0.0),
    }
}

/// The sum of all costs, in the order of rows.
pub(super) fn objective(metric: Metric, keys: &[f64]) -> f64 {
    keys.iter().map(|&key| cost(metric, key)).sum()
}
