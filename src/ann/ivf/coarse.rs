//! Ranks the cells of an inverted file for a query, by the codes of their centroids, and selects those to visit.
//!
//! Unlike a bound, a rank need not be exact, only the same on every CPU and in every batch. So a dot product with a
//! centroid is estimated from its 4-bit codes and the query's high bytes, an exact integer.

use super::Ivf;
use crate::error::Result;
use crate::kernel::{CoarseQuery, Lines};
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::Codes;
use crate::quantize::query_code::QueryCode;
use crate::quantize::rotate::Rotation;
use crate::scan::threshold::{reached_by, up};
use crate::scan::{self, Plan, Queries, Run};
use crate::topk::TopK;
use std::ops::Range;

/// Lanes of the search for the best key.
const LANES: usize = 64;
/// At most this many times `nprobe` cells count as near, see [`Nprobe`].
const MAX_NEAR_FACTOR: usize = 4;

/// How many cells a query visits.
#[derive(Debug, Clone, Copy)]
pub struct Nprobe {
    /// The number of cells; the average over queries where it is adapted to them.
    pub nprobe: usize,
    /// How it is adapted to each query; `None`: not at all.
    pub adapt: Option<Adapt>,
}

/// Adapts the number of cells to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapt {
    /// A cell is *near* if its centroid's key is at most this far below the best one's, in units of
    /// [`Nprobe::gap_unit`]. A query with n near cells visits sqrt(nprobe * n): more where many are about equally near.
    pub gap: f64,
    /// A query whose nearest centroid is at a distance d above `far` visits (d / far)^power times as many: the neighbours
    /// of a query far from all centroids are spread over more cells, be it a row or a question of another source.
    pub far: f64,
    /// At most [`MAX_POWER`](crate::format::MAX_POWER).
    pub power: u32,
}

impl Adapt {
    /// How many times as many cells a query visits at this distance from its nearest centroid.
    pub fn factor(&self, distance: f64) -> f64 {
        // Multiplied one by one, which gives the same bits on every CPU. A distance that is NaN or infinite is not far.
        let ratio = if distance > self.far && distance.is_finite() && self.far > 0.0 { distance / self.far } else { 1.0 };
        (0..self.power).fold(1.0, |product, _| product * ratio)
    }
}

/// The nearest cells of a query, and how many of them it visits.
#[derive(Debug, Default)]
pub struct CellOrder {
    /// (Key of the centroid, cell), nearest first: those to visit, and at least one more if there are more.
    pub cells: Vec<(f64, u32)>,
    /// How many are visited.
    pub count: usize,
}

impl Nprobe {
    /// The unit of gaps: the query's norm for dot products, which are proportional to it, and 1 otherwise.
    pub fn gap_unit(metric: Metric, norm: f64) -> f64 {
        if metric == Metric::Dot { norm } else { 1.0 }
    }

    /// The distance of a query from a centroid with this key; NaN for metrics that tell none.
    pub fn distance(metric: Metric, key: f64) -> f64 {
        match metric {
            Metric::Cosine => (2.0 - 2.0 * key).max(0.0).sqrt(),
            Metric::Euclidean => (-key).max(0.0).sqrt(),
            Metric::Dot | Metric::Hamming => f64::NAN,
        }
    }

    /// The most cells that count as near.
    fn max_near(&self) -> usize {
        self.adapt.map_or(self.nprobe, |_| self.nprobe.saturating_mul(MAX_NEAR_FACTOR))
    }

    /// How many of `cells` a query visits whose centroids have these keys, in any order; `metric` is that of the keys.
    pub fn resolve(&self, keys: impl Iterator<Item = f64> + Clone, metric: Metric, norm: f64, cells: usize) -> usize {
        let Some(adapt) = self.adapting(cells) else { return self.nprobe.min(cells) };
        let best = keys.clone().fold(f64::NEG_INFINITY, f64::max);
        let least = best - adapt.gap * Nprobe::gap_unit(metric, norm);
        self.count(&adapt, keys.filter(|&key| key >= least).count(), Nprobe::distance(metric, best), cells)
    }

    /// How it is adapted, unless `nprobe` is all of `cells`.
    fn adapting(&self, cells: usize) -> Option<Adapt> {
        self.adapt.filter(|_| self.nprobe < cells)
    }

    /// How many of `cells` a query visits that has `near` near ones, the nearest at this distance: the geometric mean of
    /// `nprobe` and `near`, which by itself varies too much between queries, times the factor of the distance.
    fn count(&self, adapt: &Adapt, near: usize, distance: f64, cells: usize) -> usize {
        let near = near.clamp(1, self.max_near());
        ((self.nprobe as f64 * near as f64).sqrt() * adapt.factor(distance)).round().clamp(1.0, cells as f64) as usize
    }
}

/// The scratch memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    near: Vec<u32>,
    /// Residual norms: estimates multiply them by 0.
    zeros: Vec<u16>,
}

/// Queries per kernel call: they share the unpacking of a line of codes.
pub const BATCH: usize = 4;

/// Ranks the cells of an inverted file for some queries.
pub struct CoarseSearch<'a> {
    pub ivf: &'a Ivf,
    plan: &'a Plan<'a>,
    queries: &'a Queries,
    /// The queries encoded for the codes of centroids and rows; empty where these have none.
    query_codes: &'a [Option<QueryCode>],
    watch: &'a Watch<'a>,
}

impl<'a> CoarseSearch<'a> {
    /// Encodes the queries, if centroids have codes.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(ivf: &'a Ivf, plan: &'a Plan<'a>, queries: &'a Queries, watch: &'a Watch<'a>) -> Result<Self> {
        let query_codes: &[Option<QueryCode>] = match plan.quantizer.filter(|_| ivf.centroids.codes.is_some()) {
            Some(quantizer) => {
                let made = || Rotation::new(plan.kernel, quantizer).map(|made| ivf.rotation.get_or_init(|| made));
                let rotation = ivf.rotation.get().map_or_else(made, Ok)?;
                queries.rotated(plan.kernel, quantizer, rotation, plan.threads, watch)?
            }
            None => &[],
        };
        Ok(CoarseSearch { ivf, plan, queries, query_codes, watch })
    }

    /// Whether centroids and rows have codes.
    pub fn has_codes(&self) -> bool {
        !self.query_codes.is_empty()
    }

    /// An encoded query; `None` for one without a direction, or without codes.
    pub fn query_code(&self, query: usize) -> Option<&'a QueryCode> {
        self.query_codes.get(query).and_then(Option::as_ref)
    }

    /// An encoded query whose bounds hold with high probability.
    pub fn probable(&self, query: usize) -> Option<QueryCode> {
        self.query_code(query).map(QueryCode::probable)
    }

    /// The [`Nprobe`] of all cells.
    pub fn all(&self) -> Nprobe {
        Nprobe { nprobe: self.ivf.cells(), adapt: None }
    }

    /// The nearest cells of a query.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn nearest(&self, query: usize, nprobe: Nprobe, scratch: &mut Scratch) -> Result<CellOrder> {
        Ok(self.nearest_of(query..query + 1, nprobe, scratch)?.swap_remove(0))
    }

    /// The nearest cells of some queries.
    ///
    /// # Errors
    /// As [`CoarseSearch::nearest`].
    pub fn nearest_of(&self, queries: Range<usize>, nprobe: Nprobe, scratch: &mut Scratch) -> Result<Vec<CellOrder>> {
        let with_norm = |query| Some((self.query_code(query)?, self.queries.norm(query)));
        match queries.clone().map(with_norm).collect::<Option<Vec<_>>>().zip(self.ivf.centroids().codes) {
            Some((encoded, codes)) => Ok(self.by_codes(&encoded, &codes, nprobe, scratch)),
            // A query without codes must not change the order of the others in its batch.
            None if queries.len() > 1 => queries.map(|query| self.nearest(query, nprobe, scratch)).collect(),
            None => queries.map(|query| self.by_rows(query, nprobe)).collect(),
        }
    }

    /// Ranks cells by exact keys of their centroids.
    fn by_rows(&self, query: usize, nprobe: Nprobe) -> Result<CellOrder> {
        let (metric, all) = (self.ivf.rank_metric(self.plan.metric), self.ivf.cells());
        let only = self.queries.only(query)?;
        let rounded = only.narrow(self.plan.kernel)?.unwrap_or(only);
        let cells = self.best_rows(&rounded, nprobe.max_near().saturating_add(1).min(all))?;
        let count = nprobe.resolve(cells.iter().map(|cell| cell.0), metric, rounded.norm(0), all);
        let cells = if count < cells.len() || cells.len() == all { cells } else { self.best_rows(&rounded, (count + 1).min(all))? };
        Ok(CellOrder { count: count.min(cells.len()), cells })
    }

    /// The `k` nearest cells of one query, by exact keys.
    fn best_rows(&self, query: &Queries, k: usize) -> Result<Vec<(f64, u32)>> {
        let (metric, all) = (self.ivf.rank_metric(self.plan.metric), self.ivf.cells());
        let plan = Plan { metric, k, threshold: f64::NEG_INFINITY, threads: 1, quantizer: None, ..*self.plan };
        let best = scan::search(&plan, &[self.ivf.centroids()], &[Run { segment: 0, rows: 0..all }], query, self.watch)?;
        let mut cells: Vec<(f64, u32)> = best.into_iter().flat_map(TopK::into_sorted).map(|cell| (cell.key, cell.row as u32)).collect();
        // Centroids whose key is NaN are not found: they come last.
        if k == all && cells.len() < all {
            let mut ranked = vec![false; all];
            cells.iter().for_each(|cell| ranked[cell.1 as usize] = true);
            cells.extend((0..).zip(ranked).filter(|cell| !cell.1).map(|(cell, _)| (f64::NEG_INFINITY, cell)));
        }
        Ok(cells)
    }

    /// Ranks cells by estimated keys, for encoded queries with their norms.
    fn by_codes(&self, encoded: &[(&QueryCode, f64)], codes: &Codes, nprobe: Nprobe, scratch: &mut Scratch) -> Vec<CellOrder> {
        let (kernel, metric, norms) = (self.plan.kernel, self.ivf.rank_metric(self.plan.metric), self.ivf.centroids().norms);
        let (cells, padded) = (norms.len(), codes.offsets.len());
        let Scratch { keys, near, zeros } = scratch;
        keys.resize(padded * encoded.len(), 0.0);
        zeros.resize(padded, 0);
        near.resize(cells, 0);
        let coarse_queries: Vec<CoarseQuery> = encoded.iter().map(|(query_code, _)| query_code.estimate_query()).collect();
        (kernel.bounds)(
            &coarse_queries,
            &Lines { codes: codes.lines, offsets: codes.offsets, leading: zeros, trailing: zeros, next: &[] },
            keys,
        );
        let rank = |(&(_, norm), keys): (&(&QueryCode, f64), &mut [f32])| {
            let keys = &mut keys[..cells];
            if metric != Metric::Cosine {
                let squares = if metric == Metric::Euclidean { 1.0 } else { 0.0 };
                for (key, &length) in keys.iter_mut().zip(norms) {
                    *key = (f64::from(*key) * (1.0 + squares) * (norm * length) - squares * (norm * norm + length * length)) as f32;
                }
            }
            let (count, mut reached) = match nprobe.adapting(cells) {
                Some(adapt) => {
                    let mut lanes = [f32::NEG_INFINITY; LANES];
                    (kernel.lane_max)(keys, &mut lanes);
                    let best = f64::from(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max));
                    let reached = (kernel.at_least)(keys, up(best - adapt.gap * Nprobe::gap_unit(metric, norm)), near);
                    (nprobe.count(&adapt, reached, Nprobe::distance(metric, best), cells), reached)
                }
                None => (nprobe.nprobe.min(cells), 0),
            };
            // Too few cells are near: collect more.
            if reached <= count {
                reached = (kernel.at_least)(keys, reached_by(kernel, keys, count + 1), near);
            }
            let mut ranks: Vec<(f64, u32)> = near[..reached].iter().map(|&cell| (f64::from(keys[cell as usize]), cell)).collect();
            let nearer = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if ranks.len() > count + 1 {
                ranks.select_nth_unstable_by(count, nearer);
                ranks.truncate(count + 1);
            }
            ranks.sort_unstable_by(nearer);
            CellOrder { cells: ranks, count }
        };
        encoded.iter().zip(keys.chunks_exact_mut(padded)).map(rank).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_visits_more_cells_where_more_are_near() {
        let count = |nprobe, gap: Option<f64>, norm, keys: &[f64]| {
            let adapt = gap.map(|gap| Adapt { gap, far: 0.0, power: 0 });
            Nprobe { nprobe, adapt }.resolve(keys.iter().copied(), Metric::Dot, norm, keys.len())
        };
        let crowd = [0.9, 0.88, 0.87, 0.86, 0.86, 0.85, 0.85, 0.84, 0.84, 0.1, 0.1, 0.1];
        let alone = [0.9, 0.5, 0.4, 0.4, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1];
        assert_eq!([count(4, None, 1.0, &crowd), count(4, None, 1.0, &alone)], [4, 4]);
        // Nine near cells and one: sqrt(4 * 9) and sqrt(4 * 1).
        assert_eq!([count(4, Some(0.1), 1.0, &crowd), count(4, Some(0.1), 1.0, &alone)], [6, 2]);
        assert_eq!([count(4, Some(0.05), 2.0, &crowd), count(4, Some(0.0), 1.0, &crowd)], [6, 2]);
        // At most 4 * 2 of the twelve count as near: sqrt(2 * 8).
        assert_eq!(count(2, Some(1.0), 1.0, &crowd), 4);
        assert_eq!([count(12, Some(0.0), 1.0, &crowd), count(99, Some(0.0), 1.0, &crowd)], [12, 12]);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        assert_eq!([count(1, Some(0.0), 1.0, &[f64::NAN; 3]), count(3, Some(f64::MAX), f64::MAX, &odd)], [1, 2]);
    }

    #[test]
    fn a_query_visits_more_cells_where_all_are_far() {
        let count = |metric, power, best: f64| {
            let adapt = Some(Adapt { gap: 0.0, far: 0.5, power });
            Nprobe { nprobe: 4, adapt }.resolve([best, best - 9.0].into_iter(), metric, 1.0, 100)
        };
        // Distances 0.5 and 1: sqrt(4 * 1), and 2^3 times as many.
        assert_eq!([0.875, 0.5].map(|best| count(Metric::Cosine, 3, best)), [2, 16]);
        assert_eq!([-0.2, -1.0, -1e300, f64::NEG_INFINITY].map(|best| count(Metric::Euclidean, 3, best)), [2, 16, 100, 3]);
        assert_eq!([count(Metric::Cosine, 0, 0.5), count(Metric::Dot, 3, 0.5)], [2, 2]);
    }
}
