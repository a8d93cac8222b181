//! Whether the best rows of the cells visited are the best of all.
//!
//! Of every cell the least key of its rows to their centroid is known; with the query's key to the centroid it bounds
//! those of all its rows by the triangle inequality, which angles obey as distances do.

use super::search::{Chosen, Search};
use crate::metric::Metric;
use crate::store::rows::PanelValues;
use crate::topk::TopK;
use std::ops::Range;

/// What cosines of centroids and rows may be off by in float64, with room to spare.
const HAIR: f64 = 1e-9;
/// Cells whose keys are computed at a time to prove an answer.
const PROVED: usize = 64;

impl Search<'_> {
    /// Whether no row outside of the cells visited can be among the best.
    pub fn proven(&self, query: usize, visited: &Chosen, top: &TopK) -> bool {
        let cells = self.cells();
        if visited.cells.len() == cells || top.held() as u64 == self.request.allowed() {
            return true;
        }
        // Angles to centroids say nothing of other keys, nor distances of cosines, nor products of anything.
        let telling = match self.ranking.ivf.record.metric {
            Metric::Cosine => self.request.plan.metric == Metric::Cosine,
            Metric::Euclidean => self.request.plan.metric != Metric::Cosine,
            Metric::Dot => false,
        };
        if !telling || !visited.next.is_none_or(|cell| self.below(query, cell as usize..cell as usize + 1, &[], top)) {
            return false;
        }
        let mut seen = vec![false; cells];
        visited.cells.iter().for_each(|&cell| seen[cell as usize] = true);
        (0..cells).step_by(PROVED).all(|first| self.below(query, first..cells.min(first + PROVED), &seen, top))
    }

    /// Whether every row of these cells, but those seen, has a key below the floor.
    fn below(&self, query: usize, cells: Range<usize>, seen: &[bool], top: &TopK) -> bool {
        let metric = self.request.plan.metric;
        let (centroids, asks) = (self.ranking.ivf.centroids(), self.asks(query));
        let reaches: &[f64] = self.ranking.ivf.reaches.view();
        let mut keys = [0.0; PROVED];
        let keys = &mut keys[..cells.len()];
        if let Some(PanelValues::F32(values)) = centroids.in_place(cells.clone()) {
            let kernel = self.request.plan.kernel;
            let sums = if metric == Metric::Euclidean { kernel.squared_distance } else { kernel.dot };
            sums(self.narrow.wide(query), values, centroids.dims, keys);
        }
        cells.zip(keys).all(|(cell, sum)| {
            let seen = seen.get(cell).is_some_and(|&seen| seen);
            seen || farthest(metric, *sum, asks, centroids.norms[cell], reaches[cell]) < top.threshold()
        })
    }

    /// How long a query is as centroids meet it, and how far that is from the query itself.
    fn asks(&self, query: usize) -> Asks {
        let pairs = self.narrow.wide(query).iter().zip(self.request.queries.wide(query));
        Asks { norm: self.narrow.norm(query), loss: pairs.map(|(near, x)| (x - near).powi(2)).sum::<f64>().sqrt() }
    }
}

/// A query in float32.
#[derive(Debug, Clone, Copy)]
struct Asks {
    norm: f64,
    loss: f64,
}

/// An upper bound of the key of a row whose key to a centroid is `reach` or more, for a query whose product
/// with it, or squared distance from it, is `sum` in float32.
fn farthest(metric: Metric, sum: f64, asks: Asks, centroid_norm: f64, reach: f64) -> f64 {
    let Asks { norm: query_norm, loss } = asks;
    if reach == f64::INFINITY {
        // It has no rows of its own.
        return f64::NEG_INFINITY;
    }
    match metric {
        Metric::Cosine => {
            // Angles: that of query and row is at least the difference of those to the centroid.
            let near = metric.key(sum, query_norm, centroid_norm) + rotated(loss, query_norm) + HAIR;
            let far = (reach - HAIR).max(-1.0);
            if near >= far {
                return 1.0 + HAIR;
            }
            let near = near.max(-1.0);
            near * far + ((1.0 - near * near).max(0.0) * (1.0 - far * far).max(0.0)).sqrt() + HAIR
        }
        // <q,x> = <q,c> + <q,x-c>.
        Metric::Dot => {
            let reach = (-reach).max(0.0).sqrt();
            sum + query_norm * reach + (HAIR * query_norm + 1.01 * loss) * (centroid_norm + reach)
        }
        Metric::Euclidean => {
            let left = sum.sqrt() - (-reach).max(0.0).sqrt() - loss;
            let slack = HAIR * (query_norm + centroid_norm).powi(2);
            slack - left.max(0.0).powi(2)
        }
    }
}

/// How much a cosine may change at most when a vector that is `norm` long, or was, moves by `loss`.
pub(super) fn rotated(loss: f64, norm: f64) -> f64 {
    if loss == 0.0 {
        0.0
    } else if 4.0 * loss < norm {
        2.0 * loss / norm
    } else {
        2.0
    }
}
