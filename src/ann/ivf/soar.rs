//! SOAR (Sun, Simcha, Dopson, Guo and Kumar, NeurIPS 2023): a second cell for every row, whose residual is not parallel
//! to the first.
//!
//! A query tends to miss a row x when the residual r = x - c from its centroid is parallel to the query. The second cell
//! is the one with the least |x - c'|^2 + lambda <r/|r|, x - c'>^2.

use crate::cluster::assign::{Assignment, Centroids};
use crate::cluster::samples::Samples;
use crate::error::{Result, filled};
use crate::kernel::{self, padded};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use std::sync::Mutex;

/// The second cell is chosen from this many nearest ones.
pub const CANDIDATES: usize = 10;
/// The lambda of the paper, the weight of the parallel part; on embeddings, 1 to 2 perform alike.
const LAMBDA: f64 = 1.5;
/// Rows per job.
const JOB_ROWS: usize = 512;

/// The second cell of every row, from its nearest ones as [`Centroids::nearest`] gives them; the first where there is one
/// cell only.
pub fn second_cells(
    samples: &Samples,
    cells: &Centroids,
    nearest: &Assignment,
    metric: Metric,
    threads: usize,
    watch: &Watch,
) -> Result<Vec<u32>> {
    let (kernel, dims, candidates) = (kernel::selected()?, samples.dims(), nearest.cells.len() / samples.len());
    let mut second = filled(samples.len(), 0u32, "the second cells of rows")?;
    let jobs: Vec<_> = second.chunks_mut(JOB_ROWS).map(Mutex::new).collect();
    let work = |wide: &mut Vec<f64>, job: usize| {
        let mut slot = jobs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (i, out) in slot.iter_mut().enumerate() {
            let row = job * JOB_ROWS + i;
            let own = row * candidates..(row + 1) * candidates;
            let (near, keys) = (&nearest.cells[own.clone()], &nearest.keys[own]);
            let centroid = |cell: u32| &cells.rows.values()[cell as usize * dims..(cell as usize + 1) * dims];
            let scale = if metric == Metric::Cosine && samples.norm(row) > 0.0 { 1.0 / samples.norm(row) } else { 1.0 };
            // Rounded to float32 values, as the kernels require for equal bits on every CPU.
            wide.clear();
            wide.extend(samples.row(row).iter().zip(centroid(near[0])).map(|(&x, &c)| f64::from((f64::from(x) * scale) as f32 - c)));
            wide.resize(padded(dims), 0.0);
            let mut products = [0.0; CANDIDATES];
            let mut sum = [0.0];
            for (product, &cell) in products.iter_mut().zip(near) {
                (kernel.dot)(wide, centroid(cell), dims, &mut sum);
                *product = sum[0];
            }
            (kernel.dot)(wide, samples.row(row), dims, &mut sum);
            let squared: f64 = wide.iter().map(|r| r * r).sum();
            let parallel = |product: f64| if squared > 0.0 { (sum[0] * scale - product).powi(2) / squared } else { 0.0 };
            let cost = |i: usize| {
                let distance = if metric == Metric::Cosine { 2.0 - 2.0 * keys[i] } else { -keys[i] };
                distance + LAMBDA * parallel(products[i])
            };
            let best = (1..near.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
            *out = best.map_or(near[0], |i| near[i]);
        }
        watch.advance(slot.len() as u64);
        Ok(())
    };
    pool::run(threads, jobs.len(), watch, || Ok(Vec::new()), work)?;
    drop(jobs);
    Ok(second)
}
