//! Proves that the best rows of the visited cells are the best of all rows.
//!
//! The index stores the least key of each cell's rows to its centroid. With the query's key to the centroid it gives an
//! upper bound of the query's keys to all rows of the cell, by the triangle inequality of distances or angles.

use super::search::{ProbedCells, Search};
use crate::metric::Metric;
use crate::store::rows::PanelValues;
use crate::topk::TopK;
use std::ops::Range;

/// More than the rounding error of a cosine in float64.
const SLACK: f64 = 1e-9;
/// Cells per call of the kernel.
const BATCH_CELLS: usize = 64;

impl Search<'_> {
    /// Whether no row outside of the visited cells can be among the best.
    pub fn is_exact(&self, query: usize, probed: &ProbedCells, top: &TopK) -> bool {
        let cells = self.cells();
        if probed.cells.len() == cells || top.held() as u64 == self.request.allowed() {
            return true;
        }
        // Cosines to centroids bound cosines; distances bound distances and dot products; dot products bound nothing.
        let comparable = match self.coarse.ivf.record.metric {
            Metric::Cosine => self.request.plan.metric == Metric::Cosine,
            Metric::Euclidean => self.request.plan.metric != Metric::Cosine,
            Metric::Dot | Metric::Hamming => false,
        };
        if !comparable || !probed.nearest_other.is_none_or(|cell| self.all_below(query, cell as usize..cell as usize + 1, &[], top)) {
            return false;
        }
        let mut visited = vec![false; cells];
        probed.cells.iter().for_each(|&cell| visited[cell as usize] = true);
        (0..cells).step_by(BATCH_CELLS).all(|first| self.all_below(query, first..cells.min(first + BATCH_CELLS), &visited, top))
    }

    /// Whether every row of these cells, the `visited` ones excepted, has a key below the threshold.
    fn all_below(&self, query: usize, cells: Range<usize>, visited: &[bool], top: &TopK) -> bool {
        let metric = self.request.plan.metric;
        let (centroids, rounded) = (self.coarse.ivf.centroids(), self.rounded_query(query));
        let min_keys: &[f64] = self.coarse.ivf.min_keys.view();
        let mut keys = [0.0; BATCH_CELLS];
        let keys = &mut keys[..cells.len()];
        if let Some(PanelValues::F32(values)) = centroids.in_place(cells.clone()) {
            let kernel = self.request.plan.kernel;
            let sums = if metric == Metric::Euclidean { kernel.squared_distance } else { kernel.dot };
            sums(self.narrow.wide(query), values, centroids.dims, keys);
        }
        cells.zip(keys).all(|(cell, sum)| {
            visited.get(cell).is_some_and(|&visited| visited)
                || max_key(metric, *sum, rounded, centroids.norms[cell], min_keys[cell]) < top.threshold()
        })
    }

    /// The query in float32, as centroids are compared with it.
    fn rounded_query(&self, query: usize) -> RoundedQuery {
        let pairs = self.narrow.wide(query).iter().zip(self.request.queries.wide(query));
        RoundedQuery { norm: self.narrow.norm(query), error: pairs.map(|(rounded, x)| (x - rounded).powi(2)).sum::<f64>().sqrt() }
    }
}

/// A query rounded to float32: its norm, and its distance from the query.
#[derive(Debug, Clone, Copy)]
struct RoundedQuery {
    norm: f64,
    error: f64,
}

/// An upper bound of a query's key to any row whose key to a centroid is at least `min_key`. `sum` is the squared distance
/// or dot product of centroid and rounded query.
fn max_key(metric: Metric, sum: f64, rounded: RoundedQuery, centroid_norm: f64, min_key: f64) -> f64 {
    let RoundedQuery { norm: query_norm, error } = rounded;
    if min_key == f64::INFINITY {
        // The cell has no rows.
        return f64::NEG_INFINITY;
    }
    match metric {
        Metric::Cosine => {
            // The angle between query and row is at least the difference of their angles to the centroid.
            let query_cosine = metric.key(sum, query_norm, centroid_norm) + cosine_error(error, query_norm) + SLACK;
            let row_cosine = (min_key - SLACK).max(-1.0);
            if query_cosine >= row_cosine {
                return 1.0 + SLACK;
            }
            let query_cosine = query_cosine.max(-1.0);
            let sines = (1.0 - query_cosine * query_cosine).max(0.0) * (1.0 - row_cosine * row_cosine).max(0.0);
            query_cosine * row_cosine + sines.sqrt() + SLACK
        }
        // <q,x> = <q,c> + <q,x-c> <= <q,c> + |q| |x-c|.
        Metric::Dot => {
            let radius = (-min_key).max(0.0).sqrt();
            sum + query_norm * radius + (SLACK * query_norm + 1.01 * error) * (centroid_norm + radius)
        }
        Metric::Euclidean => {
            let distance = sum.sqrt() - (-min_key).max(0.0).sqrt() - error;
            let slack = SLACK * (query_norm + centroid_norm).powi(2);
            slack - distance.max(0.0).powi(2)
        }
        Metric::Hamming => 0.0,
    }
}

/// An upper bound of the change of any cosine with a vector of this norm, before or after, that moves by `error`.
pub(super) fn cosine_error(error: f64, norm: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else if 4.0 * error < norm {
        2.0 * error / norm
    } else {
        2.0
    }
}
