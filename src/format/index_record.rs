//! What holds for the whole index, checked: F11.

use super::check::{Checked, ensure};
use super::layout;
use crate::level::Level;
use crate::metric::Metric;

/// What holds for the whole index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRecord {
    /// Values per row, 1 to 65,536.
    pub dims: usize,
    /// How a value is stored.
    pub level: Level,
    /// The metric of a query that names none.
    pub metric: Metric,
    /// Every row is of unit length, within 0.002.
    pub unit: bool,
    /// The seed that the index was built with.
    pub seed: u64,
}

impl IndexRecord {
    pub(super) fn check(stored: &layout::Index) -> Checked<Self> {
        ensure((1..=layout::MAX_DIMS).contains(&stored.dims), || {
            format!("F11: dims: expected 1 to {}, got {}", layout::MAX_DIMS, stored.dims)
        })?;
        let level = Level::from_code(stored.level).ok_or_else(|| format!("F11: level: expected 0 to 3, got {}", stored.level))?;
        let metric = Metric::from_code(stored.metric).ok_or_else(|| format!("F11: metric: expected 0 to 2, got {}", stored.metric))?;
        ensure(stored.unit <= 1, || format!("F11: unit: expected 0 or 1, got {}", stored.unit))?;
        Ok(IndexRecord { dims: stored.dims as usize, level, metric, unit: stored.unit == 1, seed: stored.seed })
    }
}
