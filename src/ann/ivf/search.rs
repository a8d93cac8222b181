//! The search of an inverted file: which cells a query visits, and the best of their rows.

use super::Ivf;
use super::batch::{self, BatchBounds, BatchQuery};
use super::coarse::{self, CellOrder, CoarseSearch, Nprobe};
use crate::ann::{Found, Request};
use crate::error::Result;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::scan::lists::{self, CodedLists};
use crate::scan::{self, Queries};
use crate::store::lists::{Lists, NO_ROW};
use crate::topk::TopK;
use std::ops::Range;

/// More cells are visited if the first ones hold less than this share of [`Request::expected_entries`], until they hold
/// the expected number divided by this share.
const MIN_EXPECTED_SHARE: f64 = 0.5;
/// No bounds have been computed for a batch.
const NO_BOUNDS: Option<std::iter::Empty<&[f32]>> = None;

impl Ivf {
    /// See [`Ann::search`](crate::ann::Ann::search).
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        let plan = request.plan;
        let narrow = request.queries.narrow(plan.kernel)?;
        let coarse = CoarseSearch::new(self, plan, request.queries, watch)?;
        let search = Search { coarse, request, narrow: narrow.as_ref().unwrap_or(request.queries), lists: self.lists(), watch };
        let bytes: u64 = request.segments.iter().map(|rows| (rows.len() * rows.row_bytes()) as u64).sum();
        let share = (request.nprobe as f64 / self.cells() as f64).min(1.0);
        let work = (bytes as f64 * share) as u64 * request.queries.len() as u64;
        let threads = plan.threads.min((work / scan::BYTES_WORTH_A_THREAD + 1) as usize);
        let count = request.queries.len();
        let group = batch::group_size(&search.lists, request.nprobe.min(self.cells()), count).filter(|_| search.coarse.has_codes());
        let (mut found, mut buffer) = (Vec::with_capacity(count), Vec::new());
        for first in (0..count).step_by(group.unwrap_or(count).max(1)) {
            let queries = first..count.min(first + group.unwrap_or(count));
            let jobs = queries.len().div_ceil(coarse::BATCH);
            let probe = |scratch: &mut coarse::Scratch, job| {
                let first = first + job * coarse::BATCH;
                search.probe_cells(first..queries.end.min(first + coarse::BATCH), scratch)
            };
            let probed = pool::map(threads, jobs, watch, || Ok(coarse::Scratch::default()), probe)?;
            let probed: Vec<ProbedCells> = probed.into_iter().flatten().collect();
            let bounds = if group.is_some() { search.batch_bounds(&probed, &mut buffer, threads)? } else { None };
            let one =
                |scratch: &mut Scratch, i| search.search_one(first + i, &probed[i], bounds.as_ref().map(|bounds| bounds.of(i)), scratch);
            found.extend(pool::map(threads, queries.len(), watch, || Ok(Scratch::default()), one)?);
        }
        Ok(found)
    }
}

/// The scratch memory of one thread.
#[derive(Default)]
struct Scratch {
    coarse: coarse::Scratch,
    lists: lists::Scratch,
}

/// What all queries of a search share.
pub(super) struct Search<'a> {
    pub coarse: CoarseSearch<'a>,
    pub request: &'a Request<'a>,
    /// The queries in float32, as centroids are.
    pub narrow: &'a Queries,
    lists: Lists<'a>,
    watch: &'a Watch<'a>,
}

/// The cells that a query visits.
pub(super) struct ProbedCells {
    pub cells: Vec<u32>,
    /// The nearest of the other cells, checked first in a proof of exactness.
    pub nearest_other: Option<u32>,
    /// The query with bounds that hold with high probability; `None` where all cells are visited, as the answer must
    /// then be exact.
    probable: Option<QueryCode>,
}

impl Search<'_> {
    pub fn cells(&self) -> usize {
        self.coarse.ivf.cells()
    }

    /// The cells that each of some queries visits first.
    fn probe_cells(&self, queries: Range<usize>, scratch: &mut coarse::Scratch) -> Result<Vec<ProbedCells>> {
        let orders = self.coarse.nearest_of(queries.clone(), Nprobe { nprobe: self.request.nprobe, adapt: self.request.adapt }, scratch)?;
        queries.zip(orders).map(|(query, order)| self.select(query, order, scratch)).collect()
    }

    /// The cells that a query visits first, given its nearest ones: adjusted to the ratio and the filter of the request.
    fn select(&self, query: usize, order: CellOrder, scratch: &mut coarse::Scratch) -> Result<ProbedCells> {
        let CellOrder { mut cells, count } = order;
        let expected = self.request.expected_entries * count as f64 / self.request.nprobe as f64;
        let mut count = self.within_ratio(&cells, count);
        let allowed = self.allowed_entries(&cells[..count]);
        // The filter excludes rows near the query, so the nearest cells hold a smaller share of the allowed rows.
        if allowed < expected * MIN_EXPECTED_SHARE && count < self.cells() {
            let mut missing = expected / MIN_EXPECTED_SHARE - allowed;
            cells = self.coarse.nearest(query, self.coarse.all(), scratch)?.cells;
            while missing > 0.0 && count < cells.len() {
                missing -= self.allowed_entries(&cells[count..=count]);
                count += 1;
            }
        }
        Ok(self.probed(query, &cells, count))
    }

    /// The first `count` cells of an order.
    fn probed(&self, query: usize, order: &[(f64, u32)], count: usize) -> ProbedCells {
        let cells: Vec<u32> = order[..count].iter().map(|cell| cell.1).collect();
        let probable = if count < self.cells() { self.coarse.probable(query) } else { None };
        ProbedCells { cells, nearest_other: order.get(count).map(|cell| cell.1), probable }
    }

    /// The lists, if they have codes.
    fn listing(&self) -> Option<CodedLists<'_>> {
        let (kernel, quantizer) = (self.request.plan.kernel, self.request.plan.quantizer?);
        Some(CodedLists { kernel, quantizer, lists: &self.lists, codes: self.lists.codes.as_ref()? })
    }

    /// The bounds of all rows that some queries visit, if all of the queries are encoded.
    fn batch_bounds<'b>(&self, probed: &[ProbedCells], buffer: &'b mut Vec<f32>, threads: usize) -> Result<Option<BatchBounds<'b>>> {
        let batch: Vec<BatchQuery> =
            probed.iter().filter_map(|probed| Some((probed.probable.as_ref()?, probed.cells.as_slice()))).collect();
        match self.listing().filter(|_| batch.len() == probed.len()) {
            Some(listing) => BatchBounds::new(&listing, &batch, buffer, threads, self.watch).map(Some),
            None => Ok(None),
        }
    }

    /// Searches the cells `first`, then twice as many, until there are k rows or no more cells. `bounds` are those of
    /// the first cells, if computed.
    fn search_one<'b>(
        &self,
        query: usize,
        first: &ProbedCells,
        bounds: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut Scratch,
    ) -> Result<Found> {
        let request = self.request;
        let wanted = request.allowed().min(request.plan.k as u64);
        let mut top = self.scan_cells(query, &first.cells, first.probable.as_ref(), bounds, &mut scratch.lists)?;
        let (mut probed, mut order, mut more) = (first, Vec::new(), None);
        loop {
            let all = probed.cells.len() == self.cells();
            if all || top.held() as u64 >= wanted || request.plan.threshold > f64::NEG_INFINITY {
                let exact = request.reorder.is_none() && self.is_exact(query, probed, &top);
                // The proof leaves out rows that a probable bound may have missed: scan again with bounds that hold.
                if exact && probed.probable.is_some() {
                    top = self.scan_cells(query, &probed.cells, None, NO_BOUNDS, &mut scratch.lists)?;
                }
                return Ok(Found { top, exact });
            }
            if order.is_empty() {
                order = self.coarse.nearest(query, self.coarse.all(), &mut scratch.coarse)?.cells;
            }
            let count = (2 * probed.cells.len()).max(1).min(order.len());
            probed = more.insert(self.probed(query, &order, count));
            top = self.scan_cells(query, &probed.cells, probed.probable.as_ref(), NO_BOUNDS, &mut scratch.lists)?;
        }
    }

    /// List entries of allowed rows in some cells; infinitely many without a filter.
    fn allowed_entries(&self, cells: &[(f64, u32)]) -> f64 {
        let Some((mask, _)) = self.request.mask else { return f64::INFINITY };
        let entries = cells.iter().flat_map(|&(_, cell)| &self.lists.rows[self.lists.entries(cell as usize)]);
        entries.filter(|&&row| row != NO_ROW && mask.allows(row as usize)).count() as f64
    }

    /// How many of the first `count` cells reach [`Request::ratio`] times the best key.
    fn within_ratio(&self, order: &[(f64, u32)], count: usize) -> usize {
        let Some(ratio) = self.request.ratio else { return count };
        let best = order.first().map_or(0.0, |cell| cell.0);
        // best * ratio; for a negative key as far below it, as best * ratio would be above.
        let least = best - (1.0 - ratio) * best.abs();
        let near = order[..count].iter().take_while(|cell| cell.0 >= least).count();
        // At least one cell: a damaged norm may make the best key infinite and `least` NaN.
        near.max(1).min(count)
    }

    /// The best rows of some cells: nearly all of them with a `probable` query, exactly without one.
    fn scan_cells<'b>(
        &self,
        query: usize,
        cells: &[u32],
        probable: Option<&QueryCode>,
        bounds: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut lists::Scratch,
    ) -> Result<TopK> {
        let request = self.request;
        let (Some(listing), Some(query_code)) = (self.listing(), self.coarse.query_code(query)) else {
            return self.scan_cells_in_full(query, cells);
        };
        let mut top = TopK::new(request.plan.k, self.request.allowed())?;
        top.raise(request.plan.threshold);
        let visit = lists::ListScan {
            plan: request.plan,
            queries: request.queries,
            query,
            query_code: probable.unwrap_or(query_code),
            certain: probable.is_none(),
            lists: listing,
            segments: request.segments,
            cells,
            mask: request.mask.map(|mask| mask.0),
            reorder: request.reorder,
        };
        visit.run(bounds, &mut top, scratch);
        Ok(top)
    }

    /// The best rows of some cells, all read in full: for an index or a query without codes.
    fn scan_cells_in_full(&self, query: usize, cells: &[u32]) -> Result<TopK> {
        let request = self.request;
        let entries = cells.iter().flat_map(|&cell| &self.lists.rows[self.lists.entries(cell as usize)]);
        let rows: u64 = request.segments.iter().map(|rows| rows.len() as u64).sum();
        let mut rows: Vec<u32> = entries
            .copied()
            .filter(|&row| row != NO_ROW && u64::from(row) < rows && request.mask.is_none_or(|mask| mask.0.allows(row as usize)))
            .collect();
        rows.sort_unstable();
        rows.dedup();
        let mut top = request.score(query, &rows, self.watch)?;
        // `is_exact` reads the threshold, which must be the key of the k-th row.
        top.cut();
        Ok(top)
    }
}
