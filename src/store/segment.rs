//! A segment: consecutive rows that were written together, as sections of bytes.

use super::codes::CodeSections;
use super::deleted::Deleted;
use super::ids::{Id, Ids};
use super::rows::{Rows, Values};
use super::section::Section;
use crate::error::{Result, filled};
use crate::level::Level;
use std::ops::Range;

/// Consecutive rows that were written together.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Number of rows, those that have been deleted since included.
    pub rows: usize,
    /// The rows' values, as the level stores them.
    pub values: Section,
    /// The euclidean norm of every decoded row: float64; empty at level b1.
    pub norms: Section,
    /// The scale of every row, for level f8: float32; empty for other levels.
    pub scales: Section,
    /// The rows' codes, if the index has a quantizer and the segment is large.
    pub codes: Option<CodeSections>,
    /// The rows' ids.
    pub ids: Ids,
    /// Which rows have been deleted since they were written.
    pub deleted: Deleted,
}

impl Segment {
    /// Number of rows that have not been deleted.
    pub fn live(&self) -> usize {
        self.rows - self.deleted.count()
    }

    /// Runs of these rows, in order.
    pub fn live_runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.deleted.live_runs(self.rows)
    }

    /// The id of a row; `None` where a damaged file holds none.
    pub fn id(&self, row: usize) -> Option<Id<'_>> {
        self.ids.get(row, self.rows)
    }

    /// Ids that follow one another, as numbers, unless they are the numbers of the rows, the first of which is row `first`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory).
    pub fn numbers(&self, first: u64) -> Result<Option<Vec<i64>>> {
        match self.ids {
            Ids::Consecutive(id) if id != first as i64 => {
                let mut numbers = filled(self.rows, id, "the ids")?;
                (0..).zip(&mut numbers).for_each(|(at, number)| *number += at);
                Ok(Some(numbers))
            }
            _ => Ok(None),
        }
    }

    /// Its values, norms, scales, codes and ids, those that it has.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        let codes = self.codes.iter().flat_map(|codes| [&codes.lines, &codes.factors, &codes.remainder]);
        [&self.values, &self.norms, &self.scales].into_iter().chain(codes).chain(self.ids.section())
    }
}

/// The segment and the row in it that has this id and is not deleted.
pub fn find(segments: &[Segment], id: Id) -> Option<(usize, usize)> {
    let found = |(at, segment): (usize, &Segment)| {
        let row = segment.ids.find(id, segment.rows)?;
        (!segment.deleted.contains(row)).then_some((at, row))
    };
    segments.iter().enumerate().rev().find_map(found)
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
        deleted: &segment.deleted,
    }
}

fn values<'a>(level: Level, stored: &'a [u8], scales: &'a [f32]) -> Values<'a> {
    match level {
        Level::F64 => Values::F64(bytemuck::cast_slice(stored)),
        Level::F32 => Values::F32(bytemuck::cast_slice(stored)),
        Level::F16 => Values::F16(bytemuck::cast_slice(stored)),
        Level::F8 => Values::F8 { codes: bytemuck::cast_slice(stored), scales },
        Level::B1 => Values::B1(stored),
    }
}
