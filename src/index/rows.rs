//! The rows of an index: those that have not been deleted, their numbers and their ids.

use super::Index;
use crate::candidates::{self, Filter, candidates};
use crate::error::{Error, Result};
use crate::format::IdRecord;
use crate::kernel::{self, FloatMode};
use crate::pool::Watch;
use crate::scan::Run;
use crate::scan::lists::Mask;
use crate::store::ids::{Id, IdSlice};
use crate::store::rows::{DecodedRows, PanelBuffer, Rows};
use crate::store::segment::{self, Segment};
use std::borrow::Cow;

/// The rows that have not been deleted.
#[derive(Debug)]
pub(super) struct Live {
    pub runs: Vec<Run>,
    /// The same as flags, where rows have been deleted.
    pub mask: Option<Mask>,
}

impl Index {
    /// Number of rows, deleted ones included.
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows).sum()
    }

    /// Number of rows that have not been deleted.
    pub fn live_rows(&self) -> usize {
        self.segments.iter().map(Segment::live).sum()
    }

    pub(super) fn live(&self) -> Result<&Live> {
        if let Some(live) = self.live.get() {
            return Ok(live);
        }
        let runs = candidates::all(&self.segments)?;
        let mask = (self.live_rows() < self.rows()).then(|| self.mask(&runs)).transpose()?;
        Ok(self.live.get_or_init(|| Live { runs, mask }))
    }

    /// The numbers of the rows that have not been deleted.
    pub fn live_numbers(&self) -> impl Iterator<Item = usize> {
        let mut first = 0;
        self.segments.iter().flat_map(move |segment| {
            let start = first;
            first += segment.rows;
            segment.live_runs().flatten().map(move |row| start + row)
        })
    }

    /// The rows of some runs as flags.
    pub(super) fn mask(&self, runs: &[Run]) -> Result<Mask> {
        let mut mask = Mask::none(self.rows())?;
        let mut firsts = Vec::with_capacity(self.segments.len());
        self.segments.iter().fold(0, |first, segment| {
            firsts.push(first);
            first + segment.rows
        });
        runs.iter().for_each(|run| mask.allow(firsts[run.segment] + run.rows.start..firsts[run.segment] + run.rows.end));
        Ok(mask)
    }

    /// The runs of the rows that a filter allows.
    pub(super) fn allowed(&self, filter: Option<Filter>) -> Result<Cow<'_, [Run]>> {
        match filter {
            Some(filter) => candidates(filter, &self.segments).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&self.live()?.runs)),
        }
    }

    /// The next id by default, and which type ids have.
    pub fn ids(&self) -> IdRecord {
        self.ids
    }

    /// Whether the ids of rows are their numbers: 0, 1, 2, ...
    pub fn numbered(&self) -> bool {
        candidates::numbered(&self.segments)
    }

    /// The ids of rows, by their numbers in the whole index.
    ///
    /// # Errors
    /// [`Error::Format`] where a damaged file holds no id.
    pub fn ids_of(&self, rows: impl Iterator<Item = usize>) -> Result<Vec<Id<'_>>> {
        let mut ends = Vec::with_capacity(self.segments.len());
        self.segments.iter().fold(0, |first, segment| {
            ends.push(first + segment.rows);
            first + segment.rows
        });
        let id = |row: usize| {
            let at = ends.partition_point(|&end| end <= row);
            let segment = self.segments.get(at)?;
            segment.id(row + segment.rows - ends[at])
        };
        rows.map(|row| id(row).ok_or_else(|| self.damaged("F27: an id is no text; verify the file"))).collect()
    }

    /// The ids of all rows that have not been deleted, in their order.
    ///
    /// # Errors
    /// As [`Index::ids_of`].
    pub fn live_ids(&self) -> Result<Vec<Id<'_>>> {
        self.check_file()?;
        let live = self.segments.iter().flat_map(|segment| segment.live_runs().flatten().map(move |row| segment.id(row)));
        live.map(|id| id.ok_or_else(|| self.damaged("F27: an id is no text; verify the file"))).collect()
    }

    /// The numbers, in the whole index, of the rows with these ids.
    ///
    /// # Errors
    /// [`Error::MissingId`].
    pub fn numbers_of(&self, ids: IdSlice) -> Result<Vec<i64>> {
        let number = |id: Id| self.row_of(id).map(|row| row as i64).ok_or_else(|| Error::missing("id", id));
        ids.iter().map(number).collect()
    }

    /// The numbers, in the whole index, of the rows at these positions among those that have not been deleted.
    ///
    /// # Errors
    /// [`Error::Input`] for a position beyond the last.
    pub fn numbers_at(&self, positions: &[i64]) -> Result<Vec<i64>> {
        if self.live()?.mask.is_none() {
            return Ok(positions.to_vec());
        }
        let numbers: Vec<usize> = self.live_numbers().collect();
        let number = |&at: &i64| usize::try_from(at).ok().and_then(|at| numbers.get(at)).map(|&row| row as i64);
        positions.iter().map(|at| number(at).ok_or_else(|| Error::input("row", format!("one of {} rows", numbers.len()), at))).collect()
    }

    /// The number, in the whole index, of the row with this id.
    pub fn row_of(&self, id: Id) -> Option<usize> {
        let (segment, row) = segment::find(&self.segments, id)?;
        Some(self.segments[..segment].iter().map(|segment| segment.rows).sum::<usize>() + row)
    }

    /// Decodes the rows of these numbers, in their order: float64 for level f64, packed bits for level b1, else float32.
    ///
    /// # Errors
    /// Rows that the index does not have; a file that was cut short meanwhile; no memory; [`Error::Interrupted`].
    pub fn take(&self, rows: &[i64], watch: &Watch) -> Result<DecodedRows> {
        let _mode = FloatMode::standard();
        self.check_file()?;
        let kernel = kernel::selected()?;
        let views: Vec<Rows> = self.views().into_iter().map(Rows::scattered).collect();
        let mut buffer = PanelBuffer::with_capacity(self.about.level, rows.len(), self.about.dims)?;
        for &row in rows {
            let found = u64::try_from(row).ok().and_then(|number| views.iter().find_map(|view| Some((view, view.local_row(number)?))));
            let (view, own) = found.ok_or_else(|| Error::input("row", format!("one of {} rows", self.rows()), row))?;
            watch.check()?;
            view.decode(kernel, own..own + 1, &mut buffer);
        }
        Ok(buffer.into_rows(self.about.level))
    }

    /// The rows of every segment, as scans read them.
    pub fn views(&self) -> Vec<Rows<'_>> {
        let mut first = 0;
        let mut view = |segment| {
            let rows = segment::rows(self.about.dims, self.about.level, segment, first);
            first += rows.len() as u64;
            rows
        };
        self.segments.iter().map(&mut view).collect()
    }

    /// How many of the first segments are in cells or buckets.
    pub(crate) fn listed_segments(&self) -> usize {
        let mut left = self.ann.as_ref().map_or(0, |ann| ann.rows);
        let listed = self.segments.iter().take_while(|segment| {
            let all = segment.rows <= left && left > 0;
            left = left.saturating_sub(segment.rows);
            all
        });
        listed.count()
    }

    /// How many rows are in cells or buckets, deleted ones included.
    pub(crate) fn listed_rows(&self) -> usize {
        self.ann.as_ref().map_or(0, |ann| ann.rows)
    }

    /// Rows that are in no cell or bucket and have not been deleted.
    pub(crate) fn unlisted_rows(&self) -> usize {
        self.segments[self.listed_segments()..].iter().map(Segment::live).sum()
    }

    /// Rows that have been added since cells or buckets were made and tuned, and rows of theirs that have been deleted.
    pub fn changed_rows(&self) -> (usize, usize) {
        let listed = &self.segments[..self.listed_segments()];
        (self.unlisted_rows(), listed.iter().map(|segment| segment.deleted.count()).sum())
    }
}
