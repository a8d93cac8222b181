//! The search of few cells: which a query visits, and the best of their rows.

use super::Ivf;
use super::batch::{self, Ask, BatchBounds};
use super::coarse::{self, CellOrder, CoarseSearch, Nprobe};
use crate::ann::{Found, Request};
use crate::error::Result;
use crate::pool::{self, Watch};
use crate::quantize::query_code::QueryCode;
use crate::scan::lists::{self, Listing};
use crate::scan::{self, Plan, Queries, Run};
use crate::store::lists::{Lists, NO_ROW};
use crate::store::rows::Rows;
use crate::topk::TopK;
use std::ops::Range;

/// With less than this part of the rows that a filter should leave in the cells visited, the filter goes against the
/// query; then as many times more than those are visited.
const AGAINST: f64 = 0.5;
/// Where no bounds are known.
const NONE: Option<std::iter::Empty<&[f32]>> = None;

impl Ivf {
    /// See [`Ann::search`](crate::ann::Few::search).
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, request: &Request, watch: &Watch) -> Result<Vec<Found>> {
        let plan = request.plan;
        let narrow = request.queries.narrow(plan.kernel);
        let ranking = CoarseSearch::new(self, plan, request.queries, watch)?;
        let search = Search { ranking, request, narrow: narrow.as_ref().unwrap_or(request.queries), lists: self.lists(), watch };
        let bytes: u64 = request.segments.iter().map(|rows| (rows.len() * rows.row_bytes()) as u64).sum();
        let share = (request.probes as f64 / self.cells() as f64).min(1.0);
        let work = (bytes as f64 * share) as u64 * request.queries.len() as u64;
        let threads = plan.threads.min((work / scan::BYTES_WORTH_A_THREAD + 1) as usize);
        let count = request.queries.len();
        let group = batch::group(&search.lists, request.probes.min(self.cells()), count).filter(|_| search.ranking.coded());
        let (mut found, mut room) = (Vec::with_capacity(count), Vec::new());
        for first in (0..count).step_by(group.unwrap_or(count).max(1)) {
            let some = first..count.min(first + group.unwrap_or(count));
            let jobs = some.len().div_ceil(coarse::TOGETHER);
            let choose = |scratch: &mut coarse::Scratch, job| {
                let first = first + job * coarse::TOGETHER;
                search.choose(first..some.end.min(first + coarse::TOGETHER), scratch)
            };
            let chosen = pool::map(threads, jobs, watch, || Ok(coarse::Scratch::default()), choose)?;
            let chosen: Vec<Chosen> = chosen.into_iter().flatten().collect();
            let bounds = if group.is_some() { search.together(&chosen, &mut room, threads)? } else { None };
            let one = |scratch: &mut Scratch, i| search.one(first + i, &chosen[i], bounds.as_ref().map(|bounds| bounds.of(i)), scratch);
            found.extend(pool::map(threads, some.len(), watch, || Ok(Scratch::default()), one)?);
        }
        Ok(found)
    }
}

/// A worker's room.
#[derive(Default)]
struct Scratch {
    rank: coarse::Scratch,
    listed: lists::Scratch,
}

/// A search under way.
pub(super) struct Search<'a> {
    pub ranking: CoarseSearch<'a>,
    pub request: &'a Request<'a>,
    /// The queries in float32, as centroids are.
    pub narrow: &'a Queries,
    lists: Lists<'a>,
    watch: &'a Watch<'a>,
}

/// The cells that a query visits first.
pub(super) struct Chosen {
    pub cells: Vec<u32>,
    /// The nearest of the others: the first to look at for who wants to know whether it might matter.
    pub next: Option<u32>,
    /// The query as it is likely to be met; none where all cells are visited, for sure.
    probable: Option<QueryCode>,
}

impl Search<'_> {
    pub fn cells(&self) -> usize {
        self.ranking.ivf.cells()
    }

    /// The cells that some queries visit first.
    fn choose(&self, queries: Range<usize>, scratch: &mut coarse::Scratch) -> Result<Vec<Chosen>> {
        let ranks = self.ranking.nearest_of(queries.clone(), Nprobe { probes: self.request.probes, gap: self.request.gap }, scratch)?;
        queries.zip(ranks).map(|(query, ranks)| self.choose_of(query, ranks, scratch)).collect()
    }

    /// Those of a query whose nearest cells are `ranks`.
    fn choose_of(&self, query: usize, ranks: CellOrder, scratch: &mut coarse::Scratch) -> Result<Chosen> {
        let CellOrder { cells: mut ranks, count } = ranks;
        let least = self.request.least * count as f64 / self.request.probes as f64;
        let mut count = self.near_enough(&ranks, count);
        let met = self.allowed_in(&ranks[..count]);
        // A filter goes against the query, and the order of cells says less of what it leaves.
        if met < least * AGAINST && count < self.cells() {
            let mut left = least / AGAINST - met;
            ranks = self.ranking.nearest(query, self.ranking.all(), scratch)?.cells;
            while left > 0.0 && count < ranks.len() {
                left -= self.allowed_in(&ranks[count..=count]);
                count += 1;
            }
        }
        Ok(self.chosen(query, &ranks, count))
    }

    /// The first `count` of all cells or some.
    fn chosen(&self, query: usize, ranks: &[(f64, u32)], count: usize) -> Chosen {
        let cells: Vec<u32> = ranks[..count].iter().map(|rank| rank.1).collect();
        let probable = if count < self.cells() { self.ranking.probable(query) } else { None };
        Chosen { cells, next: ranks.get(count).map(|rank| rank.1), probable }
    }

    /// The lists, if they come with codes.
    fn listing(&self) -> Option<Listing<'_>> {
        let (kernel, quantizer) = (self.request.plan.kernel, self.request.plan.quantizer?);
        Some(Listing { kernel, quantizer, lists: &self.lists, codes: self.lists.codes.as_ref()? })
    }

    /// Bounds of all rows that some queries visit, if all are seen by codes.
    fn together<'b>(&self, chosen: &[Chosen], room: &'b mut Vec<f32>, threads: usize) -> Result<Option<BatchBounds<'b>>> {
        let asks: Vec<Ask> = chosen.iter().filter_map(|chosen| Some((chosen.probable.as_ref()?, chosen.cells.as_slice()))).collect();
        match self.listing().filter(|_| asks.len() == chosen.len()) {
            Some(listing) => BatchBounds::new(&listing, &asks, room, threads, self.watch).map(Some),
            None => Ok(None),
        }
    }

    /// The best rows for one query.
    fn one<'b>(
        &self,
        query: usize,
        first: &Chosen,
        known: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut Scratch,
    ) -> Result<Found> {
        let request = self.request;
        let wanted = request.allowed().min(request.plan.k as u64);
        let mut top = self.visit(query, &first.cells, first.probable.as_ref(), known, &mut scratch.listed)?;
        let (mut chosen, mut ranks, mut more) = (first, Vec::new(), None);
        loop {
            let all = chosen.cells.len() == self.cells();
            if all || top.held() as u64 >= wanted || request.plan.threshold > f64::NEG_INFINITY {
                let exact = request.reorder.is_none() && self.proven(query, chosen, &top);
                if exact && chosen.probable.is_some() {
                    top = self.visit(query, &chosen.cells, None, NONE, &mut scratch.listed)?;
                }
                return Ok(Found { top, exact });
            }
            if ranks.is_empty() {
                ranks = self.ranking.nearest(query, self.ranking.all(), &mut scratch.rank)?.cells;
            }
            let count = (2 * chosen.cells.len()).max(1).min(ranks.len());
            chosen = more.insert(self.chosen(query, &ranks, count));
            top = self.visit(query, &chosen.cells, chosen.probable.as_ref(), NONE, &mut scratch.listed)?;
        }
    }

    /// Listed rows of some cells that may be found; none are counted where all may be.
    fn allowed_in(&self, ranks: &[(f64, u32)]) -> f64 {
        let Some((mask, _)) = self.request.mask else { return f64::INFINITY };
        let listed = ranks.iter().flat_map(|&(_, cell)| &self.lists.rows[self.lists.places(cell as usize)]);
        listed.filter(|&&row| row != NO_ROW && mask.allows(row as usize)).count() as f64
    }

    /// How many of the `count` nearest cells are near enough for the ratio that was asked for.
    fn near_enough(&self, ranks: &[(f64, u32)], count: usize) -> usize {
        let Some(ratio) = self.request.ratio else { return count };
        let best = ranks.first().map_or(0.0, |rank| rank.0);
        // A share of a negative key lies beyond it: the same distance from the best either way.
        let least = best - (1.0 - ratio) * best.abs();
        let near = ranks[..count].iter().take_while(|rank| rank.0 >= least).count();
        // The nearest is visited even if its key is infinite, as a false norm makes it, and no share of it a number.
        near.max(1).min(count)
    }

    /// The best rows of some cells: nearly all of them, or for sure without a likely look. Bounds may be `known`.
    fn visit<'b>(
        &self,
        query: usize,
        cells: &[u32],
        probable: Option<&QueryCode>,
        known: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut lists::Scratch,
    ) -> Result<TopK> {
        let request = self.request;
        let (Some(listing), Some(query_code)) = (self.listing(), self.ranking.query_code(query)) else {
            return self.plainly(query, cells);
        };
        let mut top = TopK::new(request.plan.k, self.request.allowed())?;
        top.raise(request.plan.threshold);
        let visit = lists::Visit {
            plan: request.plan,
            queries: request.queries,
            query,
            query_code: probable.unwrap_or(query_code),
            certain: probable.is_none(),
            listing,
            segments: request.segments,
            cells,
            mask: request.mask.map(|mask| mask.0),
            reorder: request.reorder,
        };
        visit.run(known, &mut top, scratch);
        Ok(top)
    }

    /// The same where codes cannot help.
    fn plainly(&self, query: usize, cells: &[u32]) -> Result<TopK> {
        let request = self.request;
        let listed = cells.iter().flat_map(|&cell| &self.lists.rows[self.lists.places(cell as usize)]);
        let rows: u64 = request.segments.iter().map(|rows| rows.len() as u64).sum();
        let mut rows: Vec<u32> = listed
            .copied()
            .filter(|&row| row != NO_ROW && u64::from(row) < rows && request.mask.is_none_or(|mask| mask.0.allows(row as usize)))
            .collect();
        rows.sort_unstable();
        rows.dedup();
        let sizes: Vec<usize> = request.segments.iter().map(Rows::len).collect();
        let runs = Run::of(&sizes, rows.iter().map(|&row| row as usize));
        let plan = Plan { threads: 1, ..*request.plan };
        let mut top = scan::search(&plan, request.segments, &runs, &request.queries.only(query), self.watch)?.swap_remove(0);
        // What proves the answer is the key of its last row.
        top.cut();
        Ok(top)
    }
}
