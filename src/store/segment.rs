//! A segment: consecutive rows that were written together, as sections of bytes.

use super::codes::CodeSections;
use super::rows::{Rows, Values};
use super::section::Section;
use crate::level::Level;

/// Consecutive rows that were written together.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Number of rows.
    pub rows: usize,
    /// The rows' values, as the level stores them.
    pub values: Section,
    /// The euclidean norm of every decoded row: float64.
    pub norms: Section,
    /// The scale of every row, for level f8: float32; empty for other levels.
    pub scales: Section,
    /// The rows' codes, if the index has a quantizer.
    pub codes: Option<CodeSections>,
}

/// A typed view of a segment, whose first row is row `first` of the index.
pub fn rows(dims: usize, level: Level, segment: &Segment, first: u64) -> Rows<'_> {
    Rows {
        dims,
        first,
        values: values(level, segment.values.view(), segment.scales.view()),
        scattered: values(level, segment.values.view_scattered(), segment.scales.view()),
        norms: segment.norms.view(),
        in_memory: !segment.values.bytes.mapped(),
        codes: segment.codes.as_ref().map(|codes| codes.view(segment.rows)),
    }
}

fn values<'a>(level: Level, stored: &'a [u8], scales: &'a [f32]) -> Values<'a> {
    match level {
        Level::F64 => Values::F64(bytemuck::cast_slice(stored)),
        Level::F32 => Values::F32(bytemuck::cast_slice(stored)),
        Level::F16 => Values::F16(bytemuck::cast_slice(stored)),
        Level::F8 => Values::F8 { codes: bytemuck::cast_slice(stored), scales },
    }
}
