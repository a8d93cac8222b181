//! Coarse bounds for a batch of queries, cell by cell: a cell's codes are read once for all queries that visit it.

use super::coarse;
use crate::error::{Result, filled};
use crate::kernel::CoarseQuery;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::scan::lists::CodedLists;
use crate::store::lists::Lists;
use std::ops::Range;
use std::sync::Mutex;

/// Storing bounds pays where each cell is visited this often on average.
const MIN_VISITS_PER_CELL: usize = 2;
/// Bytes of stored bounds: what stays in cache until they are read, and the most where that is too few visits per cell.
const BYTES: usize = 8 << 20;
const MAX_BYTES: usize = 64 << 20;
/// Cells per job.
const JOB_CELLS: usize = 16;

/// A query and the cells that it visits.
pub type BatchQuery<'a> = (&'a QueryCode, &'a [u32]);
/// A cell, and for each visit the query and the cell's index among the query's cells.
type CellVisits = (usize, Vec<(usize, usize)>);

/// How many of `queries` to bound at a time, each visiting `nprobe` cells; `None` where they share too few cells.
pub fn group_size(lists: &Lists, nprobe: usize, queries: usize) -> Option<usize> {
    let bytes = 4 * (lists.rows.len() / lists.cells().max(1) * nprobe).max(1);
    let enough = (MIN_VISITS_PER_CELL * lists.cells()).div_ceil(nprobe.max(1));
    let some = (BYTES / bytes).max(enough).min(queries);
    (some >= enough && some * bytes <= MAX_BYTES).then_some(some)
}

/// The bounds of the rows that each query of a batch visits.
pub struct BatchBounds<'a> {
    bounds: &'a [f32],
    /// For each query, the range in `bounds` of each of its cells.
    ranges: Vec<Vec<Range<usize>>>,
}

impl<'a> BatchBounds<'a> {
    /// Computes the bounds of all rows of the cells that queries visit. `buffer` grows as needed and is meant to be
    /// reused, as allocating takes longer than computing bounds; its content is overwritten.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(listing: &CodedLists, queries: &[BatchQuery], buffer: &'a mut Vec<f32>, threads: usize, watch: &Watch) -> Result<Self> {
        let lists = listing.lists;
        let mut visits: Vec<CellVisits> = (0..lists.cells()).map(|cell| (cell, Vec::new())).collect();
        for (query, (_, cells)) in queries.iter().enumerate() {
            cells.iter().enumerate().for_each(|(at, &cell)| visits[cell as usize].1.push((query, at)));
        }
        visits.retain(|(_, visits)| !visits.is_empty());
        let mut ranges: Vec<Vec<Range<usize>>> = queries.iter().map(|query| vec![0..0; query.1.len()]).collect();
        let mut end = 0;
        for (cell, visits) in &visits {
            let rows = lists.entries(*cell).len();
            for &(query, at) in visits {
                ranges[query][at] = end..end + rows;
                end += rows;
            }
        }
        if buffer.len() < end {
            drop(std::mem::take(buffer));
            *buffer = filled(end, 0.0, "the bounds of a batch")?;
        }
        let mut left = &mut buffer[..end];
        let jobs: Vec<_> = visits.chunks(JOB_CELLS).collect();
        let outs: Vec<_> = jobs
            .iter()
            .map(|cells| {
                let size = cells.iter().map(|(cell, visits)| lists.entries(*cell).len() * visits.len()).sum();
                let (own, remainder) = std::mem::take(&mut left).split_at_mut(size);
                left = remainder;
                Mutex::new(own)
            })
            .collect();
        let work = |(): &mut (), job: usize| {
            let (cells, mut out) = (jobs[job], outs[job].lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            let mut left = &mut out[..];
            for (i, (cell, visits)) in cells.iter().enumerate() {
                let next = cells.get(i + 1).map(|next| next.0);
                let probes: Vec<CoarseQuery> = visits.iter().map(|&(query, _)| queries[query].0.coarse_query()).collect();
                for probes in probes.chunks(coarse::BATCH) {
                    let (own, remainder) = left.split_at_mut(probes.len() * lists.entries(*cell).len());
                    listing.bound(probes, *cell, next, own);
                    left = remainder;
                }
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        drop(outs);
        Ok(BatchBounds { bounds: buffer, ranges })
    }

    /// The bounds of a query's rows, one slice per cell.
    pub fn of(&self, query: usize) -> impl Iterator<Item = &[f32]> {
        self.ranges[query].iter().map(|range| &self.bounds[range.clone()])
    }
}
