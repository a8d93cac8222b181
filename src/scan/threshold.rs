//! Coarse bounds of many rows compared with a query's threshold: which bounds reach it, which are the highest, which
//! is the highest below.

use super::Plan;
use super::query::Query;
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::quantize::{BLOCK, bound};
use crate::topk::TopK;

/// Shortest and longest row of a table of unit rows: within 2e-3 of 1 when built, and rounding to float16 moves a
/// length by a quarter of 1e-3 at most.
const UNIT_LENGTHS: (f64, f64) = (1.0 - 3e-3, 1.0 + 3e-3);
/// Lanes of [`reached_by`], in blocks of 16, at most.
const MAX_LANE_BLOCKS: usize = 32;

/// Coarse bounds of rows for one query.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoarseBounds<'a> {
    /// Upper bounds of cosines, from which full bounds are computed.
    pub cosines: &'a [f32],
    /// The bounds that are compared with [`least`]: of keys where [`by_key`] holds, else `cosines`.
    pub compared: &'a [f32],
}

/// Whether the threshold is compared with bounds of keys: where row lengths differ, a bound of the cosine alone
/// excludes too few rows.
pub(super) fn by_key(plan: &Plan) -> bool {
    plan.metric != Metric::Cosine && !plan.unit
}

/// A value that a row's bound must reach for its key to reach `threshold`; the bound is of the key where [`by_key`]
/// holds, else of the cosine.
pub(super) fn least(query: Query, threshold: f64) -> f32 {
    let plan = query.plan;
    if by_key(plan) { -up(-threshold) } else { bound::cosine_threshold(plan.metric, threshold, query.norm(), UNIT_LENGTHS) }
}

/// An upper bound of the keys of all rows whose `compared` bound is below `least`.
pub(super) fn max_key_below(query: Query, compared: &[f32], least: f32) -> f64 {
    let below = max_below(compared, least);
    if by_key(query.plan) { below } else { bound::max_key(query.plan.metric, below, query.norm(), UNIT_LENGTHS) }
}

/// The highest bound below `least`.
fn max_below(bounds: &[f32], least: f32) -> f64 {
    let mut lanes = [f32::NEG_INFINITY; BLOCK];
    for block in bounds.as_chunks::<BLOCK>().0 {
        for (lane, &bound) in lanes.iter_mut().zip(block) {
            *lane = if bound < least && bound > *lane { bound } else { *lane };
        }
    }
    f64::from(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// A value that at least `count` finite bounds reach, most often not many more; negative infinity where `count` is
/// large or a large part of all bounds.
pub(crate) fn reached_by(kernel: &Kernel, bounds: &[f32], count: usize) -> f32 {
    // The `count` highest of the lanes' maxima: with four times as many lanes, few of the highest bounds share one.
    let blocks = (4 * count).div_ceil(BLOCK);
    if blocks > MAX_LANE_BLOCKS || bounds.len() < 4 * blocks * BLOCK {
        return f32::NEG_INFINITY;
    }
    let maxima = &mut [f32::NEG_INFINITY; MAX_LANE_BLOCKS * BLOCK][..blocks * BLOCK];
    (kernel.lane_max)(bounds, maxima);
    *maxima.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
}

/// The least float32 that is not below `value`; NaN stays NaN.
pub(crate) fn up(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

/// Collects the rows of the `count` highest finite bounds, which are refined first to raise the threshold.
pub(super) struct SeedRows<'a, T, F> {
    pub rows: &'a mut Vec<T>,
    pub count: usize,
    /// The bound of a row in `rows`.
    pub bound_of: F,
    /// The bound that rows must reach to be offered.
    pub least: f32,
}

impl<T, F: Fn(&T) -> f32> SeedRows<'_, T, F> {
    /// Offers a row with its bound; returns the bound that later rows must reach.
    pub fn offer(&mut self, bound: f32, row: T) -> f32 {
        if bound.is_finite() {
            self.rows.push(row);
        }
        if self.rows.len() == 4 * self.count {
            self.cut();
            self.least = self.rows.iter().fold(f32::INFINITY, |low, row| low.min((self.bound_of)(row))).max(self.least);
        }
        self.least
    }

    /// Keeps the rows of the `count` highest bounds, in no particular order.
    pub fn cut(&mut self) {
        if self.rows.len() > self.count {
            self.rows.select_nth_unstable_by(self.count - 1, |a, b| (self.bound_of)(b).total_cmp(&(self.bound_of)(a)));
            self.rows.truncate(self.count);
        }
    }
}

/// A test for zero rows below the current threshold: their coarse bounds are infinite, but one bound of the key holds
/// for all of them. It takes a row, its coarse bound and the query's collector, whose tally it updates.
pub(super) fn zero_rows(query: Query, norms: &[f64], threshold: f64) -> impl Fn(usize, f32, &mut TopK) -> bool {
    let bound = bound::zero_norm_bound(query.plan.metric, query.norm());
    let below = bound < threshold;
    move |row, coarse, top| {
        // Loads the norm only of rows with infinite bounds.
        let excluded = below && !coarse.is_finite() && norms[row] == 0.0;
        if excluded {
            top.tally.best_left = top.tally.best_left.max(bound);
        }
        excluded
    }
}
