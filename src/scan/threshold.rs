//! Bounds of many rows: what they must reach, and which of them are the highest.

use super::Plan;
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::quantize::{BLOCK, bound};

/// Shortest and longest row where all are of unit length: within 2e-3 as they came, of which rounding them to
/// float16 moves the length by a quarter at most.
pub(super) const UNIT_LENGTHS: (f64, f64) = (1.0 - 3e-3, 1.0 + 3e-3);
/// Sixteens of highest bounds that are kept to tell which those are.
const MOST_LANES: usize = 32;

/// Whether a bound of the cosine says too little without the row's length.
pub(super) fn by_key(plan: &Plan) -> bool {
    plan.metric != Metric::Cosine && !plan.unit
}

/// What a bound must reach that is of the cosine, or, with [`by_key`], of the key.
pub(super) fn least(plan: &Plan, threshold: f64, query_norm: f64) -> f32 {
    if by_key(plan) { -up(-threshold) } else { bound::cosine_threshold(plan.metric, threshold, query_norm, UNIT_LENGTHS) }
}

/// A bound that `few` finite ones or more reach, most often not many more; where they are few beside all, else one that
/// all reach.
pub(crate) fn reached_by(kernel: &Kernel, bounds: &[f32], few: usize) -> f32 {
    // Of so many lanes each has a highest, and the highest of these are mostly those of all.
    let lanes = (4 * few).div_ceil(BLOCK);
    if lanes > MOST_LANES || bounds.len() < 4 * lanes * BLOCK {
        return f32::NEG_INFINITY;
    }
    let most = &mut [f32::NEG_INFINITY; MOST_LANES * BLOCK][..lanes * BLOCK];
    (kernel.lane_max)(bounds, most);
    *most.select_nth_unstable_by(few - 1, |a, b| b.total_cmp(a)).1
}

/// The least float32 that is not below `value`; what is no number stays none.
pub(crate) fn up(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

/// The highest bound below `least`.
pub(super) fn max_below(bounds: &[f32], least: f32) -> f64 {
    let mut lanes = [f32::NEG_INFINITY; BLOCK];
    for block in bounds.as_chunks::<BLOCK>().0 {
        for (lane, &bound) in lanes.iter_mut().zip(block) {
            *lane = if bound < least && bound > *lane { bound } else { *lane };
        }
    }
    f64::from(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max))
}
