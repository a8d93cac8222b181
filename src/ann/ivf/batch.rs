//! Bounds for a batch, cell by cell: the codes of a cell are read once for all queries that visit it.

use super::coarse;
use crate::error::{Result, filled};
use crate::kernel::CoarseQuery;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::scan::lists::Listing;
use crate::store::lists::Lists;
use std::ops::Range;
use std::sync::Mutex;

/// Visits of a cell that are worth writing bounds down for.
const VISITS: usize = 2;
/// Bytes of bounds that are written down at a time: what a cache holds until they are read again; and where these are
/// those of too few visits, at most.
const BYTES: usize = 8 << 20;
const MOST_BYTES: usize = 64 << 20;
/// Cells in a job.
const CELLS: usize = 16;

/// A query and the cells that it visits.
pub type Ask<'a> = (&'a QueryCode, &'a [u32]);
/// A cell, and who visits it as which of its cells.
type Visits = (usize, Vec<(usize, usize)>);

/// How many of so many queries to take at a time that visit `probes` of the cells each; none where they share too little.
pub fn group(lists: &Lists, probes: usize, queries: usize) -> Option<usize> {
    let bytes = 4 * (lists.rows.len() / lists.cells().max(1) * probes).max(1);
    let enough = (VISITS * lists.cells()).div_ceil(probes.max(1));
    let some = (BYTES / bytes).max(enough).min(queries);
    (some >= enough && some * bytes <= MOST_BYTES).then_some(some)
}

/// Bounds of the rows of cells for some queries.
pub struct BatchBounds<'a> {
    bounds: &'a [f32],
    /// For each query, where the bounds of each of its cells lie.
    places: Vec<Vec<Range<usize>>>,
}

impl<'a> BatchBounds<'a> {
    /// Bounds of all rows of the cells that queries visit, in `room`, which may hold anything and grows as needed: it
    /// is for one group of queries after the other, as new room costs more than bounds do.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(listing: &Listing, asks: &[Ask], room: &'a mut Vec<f32>, threads: usize, watch: &Watch) -> Result<Self> {
        let lists = listing.lists;
        let mut visits: Vec<Visits> = (0..lists.cells()).map(|cell| (cell, Vec::new())).collect();
        for (query, (_, cells)) in asks.iter().enumerate() {
            cells.iter().enumerate().for_each(|(at, &cell)| visits[cell as usize].1.push((query, at)));
        }
        visits.retain(|(_, visits)| !visits.is_empty());
        let mut places: Vec<Vec<Range<usize>>> = asks.iter().map(|ask| vec![0..0; ask.1.len()]).collect();
        let mut end = 0;
        for (cell, visits) in &visits {
            let rows = lists.places(*cell).len();
            for &(query, at) in visits {
                places[query][at] = end..end + rows;
                end += rows;
            }
        }
        if room.len() < end {
            drop(std::mem::take(room));
            *room = filled(end, 0.0, "the bounds of a batch")?;
        }
        let mut left = &mut room[..end];
        let jobs: Vec<_> = visits.chunks(CELLS).collect();
        let outs: Vec<_> = jobs
            .iter()
            .map(|cells| {
                let size = cells.iter().map(|(cell, visits)| lists.places(*cell).len() * visits.len()).sum();
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
                let probes: Vec<CoarseQuery> = visits.iter().map(|&(query, _)| asks[query].0.coarse_query()).collect();
                for probes in probes.chunks(coarse::TOGETHER) {
                    let (own, remainder) = left.split_at_mut(probes.len() * lists.places(*cell).len());
                    listing.bound(probes, *cell, next, own);
                    left = remainder;
                }
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        drop(outs);
        Ok(BatchBounds { bounds: room, places })
    }

    /// The bounds of a query's cells, one cell after the other.
    pub fn of(&self, query: usize) -> impl Iterator<Item = &[f32]> {
        self.places[query].iter().map(|places| &self.bounds[places.clone()])
    }
}
