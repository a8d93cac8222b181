//! Bounds for a batch, cell by cell: the codes of a cell are read once for all queries that visit it.

use crate::code::Coder;
use crate::code::margin::Look;
use crate::error::Result;
use crate::kernel::{Kernel, Probe};
use crate::pool::{self, Watch};
use crate::scan::listed;
use crate::store::lists::{ListCodes, Lists};
use std::ops::Range;
use std::sync::Mutex;

/// Visits of a cell that are worth writing bounds down for.
const VISITS: usize = 2;
/// Bytes of bounds that are written down at a time.
const BYTES: usize = 32 << 20;
/// Cells in a job.
const CELLS: usize = 16;

/// A query and the cells that it visits.
pub type Ask<'a> = (&'a Look, &'a [u32]);

/// How many of so many queries to take at a time that visit `probes` of the cells each; none where they share too little.
pub fn group(lists: &Lists, probes: usize, queries: usize) -> Option<usize> {
    let places = lists.rows.len() / lists.cells().max(1) * probes;
    let some = (BYTES / (4 * places).max(1)).min(queries);
    (some * probes >= VISITS * lists.cells()).then_some(some)
}

/// Bounds of the rows of cells for some queries.
pub struct Together {
    bounds: Vec<f32>,
    /// For each query, where the bounds of each of its cells lie.
    places: Vec<Vec<Range<usize>>>,
}

impl Together {
    /// Bounds of all rows of the cells that queries visit.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(
        kernel: &Kernel,
        coder: &Coder,
        (lists, codes): (&Lists, &ListCodes),
        asks: &[Ask],
        threads: usize,
        watch: &Watch,
    ) -> Result<Self> {
        // Who visits each cell, and as which of its cells.
        let mut visits: Vec<Vec<(usize, usize)>> = vec![Vec::new(); lists.cells()];
        for (query, (_, cells)) in asks.iter().enumerate() {
            cells.iter().enumerate().for_each(|(at, &cell)| visits[cell as usize].push((query, at)));
        }
        let visited: Vec<(usize, Vec<(usize, usize)>)> = visits.into_iter().enumerate().filter(|visit| !visit.1.is_empty()).collect();
        let mut places: Vec<Vec<Range<usize>>> = asks.iter().map(|ask| vec![0..0; ask.1.len()]).collect();
        let mut end = 0;
        for (cell, visits) in &visited {
            let rows = lists.places(*cell).len();
            for &(query, at) in visits {
                places[query][at] = end..end + rows;
                end += rows;
            }
        }
        let mut bounds = vec![0.0; end];
        let mut left = bounds.as_mut_slice();
        let mut jobs = Vec::new();
        for some in visited.chunks(CELLS) {
            let size: usize = some.iter().map(|(cell, visits)| lists.places(*cell).len() * visits.len()).sum();
            let (own, after) = std::mem::take(&mut left).split_at_mut(size);
            jobs.push((some, Mutex::new(own)));
            left = after;
        }
        let work = |(): &mut (), job: usize| {
            let (cells, own) = &jobs[job];
            let mut own = own.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let mut left = &mut **own;
            for (i, (cell, visits)) in cells.iter().enumerate() {
                let probes: Vec<Probe> = visits.iter().map(|&(query, _)| asks[query].0.probe()).collect();
                let (own, after) = left.split_at_mut(lists.places(*cell).len() * probes.len());
                listed::bound(kernel, coder, &probes, lists, codes, (*cell, cells.get(i + 1).map(|next| next.0)), own);
                left = after;
            }
            Ok(())
        };
        pool::run(threads, jobs.len(), watch, || Ok(()), work)?;
        Ok(Together { bounds, places })
    }

    /// The bounds of a query's cells, one cell after the other.
    pub fn of(&self, query: usize) -> impl Iterator<Item = &[f32]> {
        self.places[query].iter().map(|places| &self.bounds[places.clone()])
    }
}
