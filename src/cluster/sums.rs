//! The rows of each cell, their sums and means, and the k-means objective.
//!
//! One worker adds all rows of a cell, in float64 and in ascending order, so that sums are the same bits for any number
//! of threads. For cosine every row is scaled to length 1 first.

use super::samples::Samples;
use crate::error::{Result, filled};
use crate::kernel::prefetch;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use std::sync::Mutex;

/// Cells per job.
const JOB_CELLS: usize = 8;
/// How many rows ahead of the one being added to prefetch.
const AHEAD: usize = 2;

/// The rows of every cell, ascending, as in a compressed sparse row matrix.
#[derive(Debug)]
pub(crate) struct Members {
    starts: Vec<usize>,
    rows: Vec<u32>,
}

impl Members {
    /// Sorts rows by cell; `cells[row]` is a number below `count`.
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

    /// The number of cells.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a cell, ascending.
    pub fn of(&self, cell: usize) -> &[u32] {
        &self.rows[self.starts[cell]..self.starts[cell + 1]]
    }
}

/// Adds the rows of every cell to `sums`, `dims` numbers per cell.
pub(super) fn sums(samples: &Samples, members: &Members, metric: Metric, sums: &mut [f64], threads: usize, watch: &Watch) -> Result<()> {
    each(samples, sums, threads, watch, |cell, sum| {
        add_rows(samples, members.of(cell), metric, sum);
    })
}

/// Moves the centroid of every `stale` cell to the mean of its rows, if it has any.
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
            add_rows(samples, rows, metric, &mut sum);
            centroid(metric, &sum, rows.len() as f64, out);
        }
    })
}

/// Calls `visit` with every cell and its `dims` values, in parallel.
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

fn add_rows(samples: &Samples, rows: &[u32], metric: Metric, sum: &mut [f64]) {
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

/// The centroid of `weight` rows with this sum: their mean, for cosine scaled to length 1.
pub(super) fn centroid(metric: Metric, sum: &[f64], weight: f64, out: &mut [f32]) {
    let divisor = match metric {
        Metric::Cosine => sum.iter().map(|s| s * s).sum::<f64>().sqrt(),
        _ => weight,
    };
    // Unit rows may cancel out to a zero sum.
    let factor = if divisor > 0.0 { divisor } else { 1.0 };
    out.iter_mut().zip(sum).for_each(|(out, s)| *out = (s / factor) as f32);
}

/// A row's part of the objective: its squared distance from the centroid, or 1 - cosine.
pub(super) fn cost(metric: Metric, key: f64) -> f64 {
    match metric {
        Metric::Euclidean => 0.0 - key,
        _ => (1.0 - key).max(0.0),
    }
}

/// The k-means objective: the sum of all costs, in the order of rows.
pub(super) fn objective(metric: Metric, keys: &[f64]) -> f64 {
    keys.iter().map(|&key| cost(metric, key)).sum()
}
