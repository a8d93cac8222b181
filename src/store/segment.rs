//! Rows that were written together.

use super::codes::CodeSections;
use super::rows::{Rows, Values};
use super::section::Section;
use crate::level::Level;

/// Consecutive rows that were written together.
#[derive(Debug, Clone)]
pub struct Segment {
    /// How many.
    pub rows: usize,
    /// Their values, as the level stores them.
    pub values: Section,
    /// float64 norm of every decoded row.
    pub norms: Section,
    /// float32 scale of every row; empty but for level f8.
    pub scales: Section,
    /// Their codes, if the index has a coder.
    pub codes: Option<CodeSections>,
}

/// The rows of a segment, the first of which is row `first` of the index.
pub fn rows(dims: usize, level: Level, segment: &Segment, first: u64) -> Rows<'_> {
    Rows {
        dims,
        first,
        values: values(level, segment.values.view(), segment.scales.view()),
        scattered: values(level, segment.values.view_scattered(), segment.scales.view()),
        norms: segment.norms.view(),
        own: !segment.values.bytes.mapped(),
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
