//! Which cells are nearest to a query: by the codes of their centroids, in whole numbers.
//!
//! A bound of a score must hold; an order of cells must only be good, and the same on every CPU and in every batch.
//! So a product with a centroid is that of its cells with the query's high bytes, an exact integer.

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

/// Lanes that the best key is looked for in.
const LANES: usize = 64;
/// How many cells count as near at most, as a multiple of those that are visited on average.
const CROWD: usize = 4;

/// How many cells queries visit.
#[derive(Debug, Clone, Copy)]
pub struct Nprobe {
    /// All of them, or on average.
    pub probes: usize,
    /// A query that has more cells than others within this of its nearest, see [`Nprobe::gap_unit`], visits more:
    /// where the nearest are hardly nearer than the next, neighbours may be anywhere.
    pub gap: Option<f64>,
}

/// Cells in order, nearest first, with keys of their centroids; of these a query visits `count`.
#[derive(Debug, Default)]
pub struct CellOrder {
    /// The cells, at least one more than are visited where there are more.
    pub cells: Vec<(f64, u32)>,
    /// How many are visited.
    pub count: usize,
}

impl Nprobe {
    /// What gaps are measured in: products grow with the query.
    pub fn gap_unit(metric: Metric, norm: f64) -> f64 {
        if metric == Metric::Dot { norm } else { 1.0 }
    }

    /// How many cells come into question.
    fn most(&self) -> usize {
        self.gap.map_or(self.probes, |_| self.probes.saturating_mul(CROWD))
    }

    /// How many of `cells` a query visits whose centroids have these keys.
    pub fn of(&self, keys: impl Iterator<Item = f64> + Clone, unit: f64, cells: usize) -> usize {
        let near = |gap: f64| {
            let least = keys.clone().fold(f64::NEG_INFINITY, f64::max) - gap * unit;
            keys.filter(|&key| key >= least).count()
        };
        self.telling(cells).map_or(self.probes.min(cells), |gap| self.among(near(gap), cells))
    }

    /// The gap, if it has a say in how many of `cells` are visited.
    fn telling(&self, cells: usize) -> Option<f64> {
        self.gap.filter(|_| self.probes < cells)
    }

    /// How many of `cells` a query visits that has so many near ones.
    ///
    /// It is the geometric mean of `probes` and the cells that are near: the number of near ones by itself is too wild a
    /// guess of those that are worth a visit.
    fn among(&self, near: usize, cells: usize) -> usize {
        let near = near.clamp(1, self.most());
        ((self.probes as f64 * near as f64).sqrt().round() as usize).clamp(1, cells)
    }
}

/// What a worker needs besides centroids.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    near: Vec<u32>,
    /// Residuals of cells, which are no matter.
    none: Vec<u16>,
}

/// Queries whose bounds are made together: they share what a kernel makes of a line.
pub const TOGETHER: usize = 4;

/// Queries that rank cells.
pub struct CoarseSearch<'a> {
    pub ivf: &'a Ivf,
    plan: &'a Plan<'a>,
    queries: &'a Queries,
    /// The queries along the axes of codes, as cells and their rows meet them; none where there are no codes.
    query_codes: &'a [Option<QueryCode>],
    watch: &'a Watch<'a>,
}

impl<'a> CoarseSearch<'a> {
    /// Sees the queries along the axes of codes.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(ivf: &'a Ivf, plan: &'a Plan<'a>, queries: &'a Queries, watch: &'a Watch<'a>) -> Result<Self> {
        let query_codes: &[Option<QueryCode>] = match plan.quantizer.filter(|_| ivf.centroids.codes.is_some()) {
            Some(quantizer) => {
                let rotation = ivf.rotation.get_or_init(|| Rotation::new(plan.kernel, quantizer));
                queries.rotated(plan.kernel, quantizer, rotation, plan.threads, watch)?
            }
            None => &[],
        };
        Ok(CoarseSearch { ivf, plan, queries, query_codes, watch })
    }

    /// Whether there are codes.
    pub fn coded(&self) -> bool {
        !self.query_codes.is_empty()
    }

    /// A query as codes see it, if they do.
    pub fn query_code(&self, query: usize) -> Option<&'a QueryCode> {
        self.query_codes.get(query).and_then(Option::as_ref)
    }

    /// The same as rows are likely to meet it.
    pub fn probable(&self, query: usize) -> Option<QueryCode> {
        self.query_code(query).map(QueryCode::probable)
    }

    /// All cells.
    pub fn all(&self) -> Nprobe {
        Nprobe { probes: self.ivf.cells(), gap: None }
    }

    /// The nearest cells of a query.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn nearest(&self, query: usize, count: Nprobe, scratch: &mut Scratch) -> Result<CellOrder> {
        Ok(self.nearest_of(query..query + 1, count, scratch)?.swap_remove(0))
    }

    /// The nearest cells of some queries.
    ///
    /// # Errors
    /// As [`CoarseSearch::nearest`].
    pub fn nearest_of(&self, queries: Range<usize>, count: Nprobe, scratch: &mut Scratch) -> Result<Vec<CellOrder>> {
        let ask = |query| Some((self.query_code(query)?, self.queries.norm(query)));
        match queries.clone().map(ask).collect::<Option<Vec<_>>>().zip(self.ivf.centroids().codes) {
            Some((asks, codes)) => Ok(self.by_codes(&asks, &codes, count, scratch)),
            // One without a direction among them: the order of any other must not depend on it.
            None if queries.len() > 1 => queries.map(|query| self.nearest(query, count, scratch)).collect(),
            None => queries.map(|query| self.by_rows(query, count)).collect(),
        }
    }

    /// By the rows that centroids are.
    fn by_rows(&self, query: usize, count: Nprobe) -> Result<CellOrder> {
        let (metric, all) = (self.ivf.rank_metric(self.plan.metric), self.ivf.cells());
        let only = self.queries.only(query);
        let narrow = only.narrow(self.plan.kernel).unwrap_or(only);
        let k = count.most().saturating_add(1).min(all);
        let plan = Plan { metric, k, threshold: f64::NEG_INFINITY, threads: 1, quantizer: None, ..*self.plan };
        let best = scan::search(&plan, &[self.ivf.centroids()], &[Run { segment: 0, rows: 0..all }], &narrow, self.watch)?;
        let mut cells: Vec<(f64, u32)> = best.into_iter().flat_map(TopK::into_sorted).map(|cell| (cell.key, cell.row as u32)).collect();
        // A centroid whose key is no number comes last.
        if k == all && cells.len() < all {
            let mut ranked = vec![false; all];
            cells.iter().for_each(|rank| ranked[rank.1 as usize] = true);
            cells.extend((0..).zip(ranked).filter(|cell| !cell.1).map(|(cell, _)| (f64::NEG_INFINITY, cell)));
        }
        let count = count.of(cells.iter().map(|cell| cell.0), Nprobe::gap_unit(metric, narrow.norm(0)), all).min(cells.len());
        Ok(CellOrder { cells, count })
    }

    /// By codes, each query as they see it with its norm.
    fn by_codes(&self, asks: &[(&QueryCode, f64)], codes: &Codes, count: Nprobe, scratch: &mut Scratch) -> Vec<CellOrder> {
        let (kernel, metric, norms) = (self.plan.kernel, self.ivf.rank_metric(self.plan.metric), self.ivf.centroids().norms);
        let (cells, padded) = (norms.len(), codes.offsets.len());
        let Scratch { keys, near, none } = scratch;
        keys.resize(padded * asks.len(), 0.0);
        none.resize(padded, 0);
        near.resize(cells, 0);
        let probes: Vec<CoarseQuery> = asks.iter().map(|(query_code, _)| query_code.estimate_query()).collect();
        (kernel.bounds)(&probes, &Lines { codes: codes.lines, offsets: codes.offsets, leading: none, trailing: none, next: &[] }, keys);
        let rank = |(&(_, norm), keys): (&(&QueryCode, f64), &mut [f32])| {
            let keys = &mut keys[..cells];
            if metric != Metric::Cosine {
                let squares = if metric == Metric::Euclidean { 1.0 } else { 0.0 };
                for (key, &length) in keys.iter_mut().zip(norms) {
                    *key = (f64::from(*key) * (1.0 + squares) * (norm * length) - squares * (norm * norm + length * length)) as f32;
                }
            }
            let (count, mut reached) = match count.telling(cells) {
                Some(gap) => {
                    let mut most = [f32::NEG_INFINITY; LANES];
                    (kernel.lane_max)(keys, &mut most);
                    let best = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
                    let reached = (kernel.at_least)(keys, up(f64::from(best) - gap * Nprobe::gap_unit(metric, norm)), near);
                    (count.among(reached, cells), reached)
                }
                None => (count.probes.min(cells), 0),
            };
            // The near ones are all that are needed, if they are as many.
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
        asks.iter().zip(keys.chunks_exact_mut(padded)).map(rank).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_visits_more_cells_where_more_are_near() {
        let count = |probes, gap, unit, keys: &[f64]| Nprobe { probes, gap }.of(keys.iter().copied(), unit, keys.len());
        let crowd = [0.9, 0.88, 0.87, 0.86, 0.86, 0.85, 0.85, 0.84, 0.84, 0.1, 0.1, 0.1];
        let alone = [0.9, 0.5, 0.4, 0.4, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1];
        assert_eq!([count(4, None, 1.0, &crowd), count(4, None, 1.0, &alone)], [4, 4]);
        // Nine cells are near, and one is: the roots of 36 and of 4.
        assert_eq!([count(4, Some(0.1), 1.0, &crowd), count(4, Some(0.1), 1.0, &alone)], [6, 2]);
        assert_eq!([count(4, Some(0.05), 2.0, &crowd), count(4, Some(0.0), 1.0, &crowd)], [6, 2]);
        // Of all twelve no more than eight count for two.
        assert_eq!(count(2, Some(1.0), 1.0, &crowd), 4);
        assert_eq!([count(12, Some(0.0), 1.0, &crowd), count(99, Some(0.0), 1.0, &crowd)], [12, 12]);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        assert_eq!([count(1, Some(0.0), 1.0, &[f64::NAN; 3]), count(3, Some(f64::MAX), f64::MAX, &odd)], [1, 2]);
    }
}
