//! Bounds for a batch, cell by cell: the codes of a cell are read once for all queries that visit it.

use super::rank;
use crate::code::margin::Look;
use crate::error::Result;
use crate::kernel::Probe;
use crate::pool::{self, Watch};
use crate::scan::listed::Listing;
use crate::store::lists::Lists;
use std::ops::Range;

/// Visits of a cell that are worth writing bounds down for.
const VISITS: usize = 2;
/// Bytes of bounds that are written down at a time.
const BYTES: usize = 32 << 20;
/// Cells in a job.
const CELLS: usize = 16;

/// A query and the cells that it visits.
pub type Ask<'a> = (&'a Look, &'a [u32]);
/// A cell, and who visits it as which of its cells.
type Visits = (usize, Vec<(usize, usize)>);

/// How many of so many queries to take at a time that visit `probes` of the cells each; none where they share too little.
pub fn group(lists: &Lists, probes: usize, queries: usize) -> Option<usize> {
    let places = lists.rows.len() / lists.cells().max(1) * probes;
    let some = (BYTES / (4 * places).max(1)).min(queries);
    (some * probes >= VISITS * lists.cells()).then_some(some)
}

/// Bounds of the rows of cells for some queries.
pub struct Together {
    /// Those of some cells each.
    bounds: Vec<Vec<f32>>,
    /// For each query, where the bounds of each of its cells lie: in which of them, and there.
    places: Vec<Vec<(usize, Range<usize>)>>,
}

impl Together {
    /// Bounds of all rows of the cells that queries visit.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(listing: &Listing, asks: &[Ask], threads: usize, watch: &Watch) -> Result<Self> {
        let lists = listing.lists;
        let mut visits: Vec<Visits> = (0..lists.cells()).map(|cell| (cell, Vec::new())).collect();
        for (query, (_, cells)) in asks.iter().enumerate() {
            cells.iter().enumerate().for_each(|(at, &cell)| visits[cell as usize].1.push((query, at)));
        }
        visits.retain(|(_, visits)| !visits.is_empty());
        let jobs: Vec<&[Visits]> = visits.chunks(CELLS).collect();
        let mut places: Vec<Vec<(usize, Range<usize>)>> = asks.iter().map(|ask| vec![(0, 0..0); ask.1.len()]).collect();
        let mut sizes = vec![0; jobs.len()];
        for (job, (cells, end)) in jobs.iter().zip(&mut sizes).enumerate() {
            for (cell, visits) in *cells {
                let rows = lists.places(*cell).len();
                for &(query, at) in visits {
                    places[query][at] = (job, *end..*end + rows);
                    *end += rows;
                }
            }
        }
        let work = |few: &mut Vec<f32>, job: usize| {
            let (cells, mut bounds) = (jobs[job], Vec::with_capacity(sizes[job]));
            for (i, (cell, visits)) in cells.iter().enumerate() {
                let next = cells.get(i + 1).map(|next| next.0);
                let probes: Vec<Probe> = visits.iter().map(|&(query, _)| asks[query].0.probe()).collect();
                for probes in probes.chunks(rank::TOGETHER) {
                    // Made where it is near, then put where it stays.
                    few.resize(probes.len() * lists.places(*cell).len(), 0.0);
                    listing.bound(probes, *cell, next, few);
                    bounds.extend_from_slice(few);
                }
            }
            Ok(bounds)
        };
        Ok(Together { bounds: pool::map(threads, jobs.len(), watch, || Ok(Vec::new()), work)?, places })
    }

    /// The bounds of a query's cells, one cell after the other.
    pub fn of(&self, query: usize) -> impl Iterator<Item = &[f32]> {
        self.places[query].iter().map(|(job, places)| &self.bounds[*job][places.clone()])
    }
}
