//! What holds for the whole index, checked: F11.

use super::check::{Checked, ensure};
use super::layout;
use crate::level::Level;
use crate::metric::Metric;
use crate::store::segment::Segment;

/// What holds for the whole index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRecord {
    /// Values per row, 1 to 65,536; 0 in an index that has never had a row and was not told.
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
    pub(super) fn check(stored: &layout::Index, sealed: bool) -> Checked<Self> {
        // An index without rows may not know its dims yet.
        let least = u32::from(sealed || stored.segments > 0);
        ensure((least..=layout::MAX_DIMS).contains(&stored.dims), || {
            format!("F11: dims: expected 1 to {}, got {}", layout::MAX_DIMS, stored.dims)
        })?;
        let level = Level::from_code(stored.level).ok_or_else(|| format!("F11: level: expected 0 to 4, got {}", stored.level))?;
        let metric = Metric::from_code(stored.metric).ok_or_else(|| format!("F11: metric: expected 0 to 3, got {}", stored.metric))?;
        Metric::of_level(level, "metric", Some(metric)).map_err(|error| format!("F11: {error}"))?;
        level.check_dims("dims", stored.dims as usize).map_err(|error| format!("F11: {error}"))?;
        ensure(stored.unit <= 1, || format!("F11: unit: expected 0 or 1, got {}", stored.unit))?;
        Ok(IndexRecord { dims: stored.dims as usize, level, metric, unit: stored.unit == 1, seed: stored.seed })
    }
}

/// What the ids of an index's rows are, and which comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdRecord {
    /// The id of the next row that is added without one: above all numbers that rows have ever had as ids, at least 0.
    /// `None` once that would be above int64.
    pub next: Option<i64>,
    /// Whether ids are texts; `None` as long as there has been no row.
    pub texts: Option<bool>,
}

impl IdRecord {
    /// That of the rows of some segments, none of which has been deleted before.
    pub fn of(segments: &[Segment]) -> Self {
        let texts = segments.first().map(|segment| segment.ids.are_texts());
        let numbers = segments.iter().filter_map(|segment| segment.ids.largest(segment.rows));
        IdRecord { next: numbers.max().map_or(Some(0), |largest| largest.checked_add(1)).map(|next| next.max(0)), texts }
    }
}

/// What stands for a next id that would be above int64.
const NO_NEXT: u64 = u64::MAX;

impl IdRecord {
    /// F26.
    pub(super) fn check(stored: &layout::Index) -> Checked<Self> {
        ensure(stored.ids <= 2, || format!("F26: ids: expected 0 to 2, got {}", stored.ids))?;
        let next = if stored.ids == 0 && stored.next_id == 0 { stored.rows } else { stored.next_id };
        let number = i64::try_from(next).ok();
        ensure(number.is_some() || next == NO_NEXT, || format!("F26: next_id: expected below 2^63, got {next}"))?;
        let texts = if stored.ids == 0 && stored.rows == 0 { None } else { Some(stored.ids == 2) };
        Ok(IdRecord { next: number, texts })
    }

    /// `next_id` and `ids` of the index record; `rows` counts those of all segments.
    pub(super) fn stored(&self, rows: u64) -> (u64, u32) {
        let next = self.next.map_or(NO_NEXT, i64::cast_unsigned);
        match self.texts {
            Some(true) => (next, 2),
            None => (0, 0),
            Some(false) if next == rows && rows > 0 => (0, 0),
            Some(false) => (next, 1),
        }
    }
}
