//! An inverted file: rows by the cell of the nearest centroid, of which a query visits those whose centroids
//! are nearest to it (Sivic and Zisserman, ICCV 2003).
//!
//! Cells only name candidates. Their centroids are a small table of rows, ranked by their codes; the rows of
//! the cells visited are bounded by copies of their codes, with margins that nearly all rows keep within, and
//! refined in float64. The answer is the same on every CPU, in any batch and for any number of threads. It is the
//! best of all rows, and said to be, where the least key of each cell's rows to its centroid proves that no other
//! cell has a better one, and whole margins that no other row of the cells visited is.

mod build;
mod rank;
mod spill;
mod together;

pub use build::{Cluster, build};

use super::{Asked, Found};
use crate::code::margin::{self, Look};
use crate::code::turn::Turner;
use crate::error::Result;
use crate::format::CellRecord;
use crate::level::Level;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::scan::listed;
use crate::scan::{self, Plan, Queries, Run};
use crate::store::Bytes;
use crate::store::codes::CodeSections;
use crate::store::lists::{ListSections, ListedCodes, Lists, NO_ROW};
use crate::store::rows::{PanelValues, Rows};
use crate::store::segment::{self, Section, Segment};
use crate::topk::TopK;
pub use rank::Count;
use rank::Ranks;
use std::ops::Range;
use std::sync::OnceLock;
use together::{Ask, Together};

/// What cosines of centroids and rows may be off by in float64, with room to spare.
const HAIR: f64 = 1e-9;
/// With less than this part of the rows that a filter should leave in the cells visited, the filter goes against the
/// query; then as many times more than those are visited.
const AGAINST: f64 = 0.5;
/// Cells whose keys are computed at a time to prove an answer.
const PROVED: usize = 64;

/// Where no bounds are known.
const NONE: Option<std::iter::Empty<&[f32]>> = None;

/// Rows by cell.
#[derive(Debug, Clone)]
pub struct Ivf {
    record: CellRecord,
    payload: Section,
    centroids: Segment,
    reaches: Section,
    lists: ListSections,
    /// The axes of codes in whole numbers, and the share of margins that is likely to do; made when first needed.
    turner: OnceLock<(Turner, f32)>,
}

impl Ivf {
    /// Cells that lie in `bytes` as their record says.
    pub fn new(record: CellRecord, bytes: &Bytes) -> Self {
        let section = |range: &Range<usize>| Section { bytes: bytes.clone(), range: range.clone() };
        let parts = &record.parts;
        let codes = parts.codes.as_ref().map(|codes| CodeSections {
            lines: section(&codes.lines),
            factors: section(&codes.factors),
            rest: section(&codes.rest),
        });
        let centroids = Segment {
            rows: record.shape.cells,
            values: section(&parts.centroids),
            norms: section(&parts.norms),
            scales: section(&(0..0)),
            codes,
        };
        let codes = parts.listed.as_ref().map(|[lines, factors]| ListedCodes { lines: section(lines), factors: section(factors) });
        let lists = ListSections { starts: section(&parts.starts), rows: section(&parts.rows), codes };
        Ivf { payload: section(&record.payload), reaches: section(&parts.reaches), centroids, lists, turner: OnceLock::new(), record }
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.record.shape.cells
    }

    /// Whether rows stand in two cells each.
    pub fn spilled(&self) -> bool {
        self.record.spilled
    }

    /// What rows are nearest to centroids by.
    pub fn metric(&self) -> Metric {
        self.record.metric
    }

    /// All of it, as it lies in a file.
    pub fn payload(&self) -> &[u8] {
        self.payload.view()
    }

    /// The centroids as rows.
    pub fn centroids(&self) -> Rows<'_> {
        segment::rows(self.record.shape.dims, Level::F32, &self.centroids, 0)
    }

    /// The rows of every cell.
    pub fn lists(&self) -> Lists<'_> {
        self.lists.view()
    }

    /// Queries along the axes of codes, as cells and their rows meet them; none where there are no codes.
    fn looks<'a>(&self, plan: &Plan, queries: &'a Queries, watch: &Watch) -> Result<&'a [Option<Look>]> {
        let Some(coder) = plan.coder.filter(|_| self.centroids.codes.is_some()) else { return Ok(&[]) };
        let (turner, _) = self.turner.get_or_init(|| (Turner::new(plan.kernel, coder), margin::likely_share(coder)));
        queries.turned(plan.kernel, coder, turner, plan.threads, watch)
    }

    /// All cells for one query, nearest first, with the keys of their centroids.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn order(&self, plan: &Plan, queries: &Queries, query: usize, watch: &Watch) -> Result<Vec<(f64, u32)>> {
        let plan = Plan { threads: 1, ..*plan };
        let look = look_of(self.looks(&plan, queries, watch)?, query);
        Ok(self.ranks(&plan, (queries, query), look, self.all(), &mut rank::Scratch::default(), watch)?.cells)
    }

    /// How many cells a query visits whose [`Ivf::order`] has these keys.
    pub fn count(&self, count: Count, metric: Metric, norm: f64, order: &[(f64, u32)]) -> usize {
        count.of(order.iter().map(|rank| rank.0), Count::gap_unit(self.rank_metric(metric), norm), self.cells())
    }

    fn all(&self) -> Count {
        Count { probes: self.cells(), gap: None }
    }

    /// What cells are ranked by for queries of a metric.
    pub fn rank_metric(&self, metric: Metric) -> Metric {
        if self.record.metric == Metric::Cosine { Metric::Cosine } else { metric }
    }

    /// The nearest cells of a query.
    fn ranks(
        &self,
        plan: &Plan,
        (queries, query): (&Queries, usize),
        look: Option<&Look>,
        count: Count,
        scratch: &mut rank::Scratch,
        watch: &Watch,
    ) -> Result<Ranks> {
        let (metric, all) = (self.rank_metric(plan.metric), self.cells());
        if let Some(look) = look {
            return Ok(self.by_codes(plan.kernel, metric, &[(look, queries.norm(query))], count, scratch).swap_remove(0));
        }
        let only = queries.only(query);
        let narrow = only.narrow(plan.kernel).unwrap_or(only);
        let k = count.most().saturating_add(1).min(all);
        let plan = Plan { metric, k, floor: f64::NEG_INFINITY, threads: 1, coder: None, ..*plan };
        let best = scan::search(&plan, &[self.centroids()], &[Run { segment: 0, rows: 0..all }], &narrow, watch)?;
        let mut cells: Vec<(f64, u32)> = best.into_iter().flat_map(TopK::into_sorted).map(|cell| (cell.key, cell.row as u32)).collect();
        // A centroid whose key is no number comes last.
        if k == all && cells.len() < all {
            let mut ranked = vec![false; all];
            cells.iter().for_each(|rank| ranked[rank.1 as usize] = true);
            cells.extend((0..).zip(ranked).filter(|cell| !cell.1).map(|(cell, _)| (f64::NEG_INFINITY, cell)));
        }
        let count = count.of(cells.iter().map(|cell| cell.0), Count::gap_unit(metric, narrow.norm(0)), all).min(cells.len());
        Ok(Ranks { cells, count })
    }

    /// See [`Few::search`](super::Few::search).
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, asked: &Asked, watch: &Watch) -> Result<Vec<Found>> {
        let plan = asked.plan;
        let narrow = asked.queries.narrow(plan.kernel);
        let looks = self.looks(plan, asked.queries, watch)?;
        let search = Search { ivf: self, asked, narrow: narrow.as_ref().unwrap_or(asked.queries), looks, lists: self.lists(), watch };
        let bytes: u64 = asked.segments.iter().map(|rows| (rows.len() * rows.row_bytes()) as u64).sum();
        let share = (asked.probes as f64 / self.cells() as f64).min(1.0);
        let work = (bytes as f64 * share) as u64 * asked.queries.len() as u64;
        let threads = plan.threads.min((work / scan::BYTES_WORTH_A_THREAD + 1) as usize);
        let count = asked.queries.len();
        let group = together::group(&search.lists, asked.probes.min(self.cells()), count).filter(|_| !looks.is_empty());
        let mut found = Vec::with_capacity(count);
        for first in (0..count).step_by(group.unwrap_or(count).max(1)) {
            let some = first..count.min(first + group.unwrap_or(count));
            let jobs = some.len().div_ceil(rank::TOGETHER);
            let choose = |scratch: &mut rank::Scratch, job| {
                let first = first + job * rank::TOGETHER;
                search.choose(first..some.end.min(first + rank::TOGETHER), scratch)
            };
            let chosen = pool::map(threads, jobs, watch, || Ok(rank::Scratch::default()), choose)?;
            let chosen: Vec<Chosen> = chosen.into_iter().flatten().collect();
            let bounds = if group.is_some() { search.together(&chosen, threads)? } else { None };
            let one = |scratch: &mut Scratch, i| search.one(first + i, &chosen[i], bounds.as_ref().map(|bounds| bounds.of(i)), scratch);
            found.extend(pool::map(threads, some.len(), watch, || Ok(Scratch::default()), one)?);
        }
        Ok(found)
    }
}

/// A query as codes see it, if they do.
fn look_of(looks: &[Option<Look>], query: usize) -> Option<&Look> {
    looks.get(query).and_then(Option::as_ref)
}

/// A worker's room.
#[derive(Default)]
struct Scratch {
    rank: rank::Scratch,
    listed: listed::Scratch,
}

/// A search under way.
struct Search<'a> {
    ivf: &'a Ivf,
    asked: &'a Asked<'a>,
    /// The queries in float32, as centroids are.
    narrow: &'a Queries,
    looks: &'a [Option<Look>],
    lists: Lists<'a>,
    watch: &'a Watch<'a>,
}

/// The cells that a query visits first.
struct Chosen {
    cells: Vec<u32>,
    /// The nearest of the others: the first to look at for who wants to know whether it might matter.
    next: Option<u32>,
    /// The query as it is likely to be met; none where all cells are visited, for sure.
    likely: Option<Look>,
}

impl Search<'_> {
    /// The nearest cells of a query.
    fn nearest(&self, query: usize, count: Count, scratch: &mut rank::Scratch) -> Result<Ranks> {
        self.ivf.ranks(self.asked.plan, (self.asked.queries, query), look_of(self.looks, query), count, scratch, self.watch)
    }

    /// The cells that some queries visit first.
    fn choose(&self, queries: Range<usize>, scratch: &mut rank::Scratch) -> Result<Vec<Chosen>> {
        let (plan, count) = (self.asked.plan, Count { probes: self.asked.probes, gap: self.asked.gap });
        let ask = |query| Some((look_of(self.looks, query)?, self.asked.queries.norm(query)));
        let ranks = match queries.clone().map(ask).collect::<Option<Vec<_>>>() {
            Some(asks) => self.ivf.by_codes(plan.kernel, self.ivf.rank_metric(plan.metric), &asks, count, scratch),
            None => queries.clone().map(|query| self.nearest(query, count, scratch)).collect::<Result<_>>()?,
        };
        queries.zip(ranks).map(|(query, ranks)| self.choose_of(query, ranks, scratch)).collect()
    }

    /// Those of a query whose nearest cells are `ranks`.
    fn choose_of(&self, query: usize, ranks: Ranks, scratch: &mut rank::Scratch) -> Result<Chosen> {
        let Ranks { cells: mut ranks, count } = ranks;
        let least = self.asked.least * count as f64 / self.asked.probes as f64;
        let mut count = self.near_enough(&ranks, count);
        let met = self.allowed_in(&ranks[..count]);
        // A filter goes against the query, and the order of cells says less of what it leaves.
        if met < least * AGAINST && count < self.ivf.cells() {
            let mut left = least / AGAINST - met;
            ranks = self.nearest(query, self.ivf.all(), scratch)?.cells;
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
        let turner = self.ivf.turner.get().filter(|_| count < self.ivf.cells());
        let likely = look_of(self.looks, query).zip(turner).map(|(look, turner)| look.likely(turner.1));
        Chosen { cells, next: ranks.get(count).map(|rank| rank.1), likely }
    }

    /// Bounds of all rows that some queries visit, if all are seen by codes.
    fn together(&self, chosen: &[Chosen], threads: usize) -> Result<Option<Together>> {
        let asks: Vec<Ask> = chosen.iter().filter_map(|chosen| Some((chosen.likely.as_ref()?, chosen.cells.as_slice()))).collect();
        let (Some(coder), Some(codes)) = (self.asked.plan.coder.filter(|_| asks.len() == chosen.len()), &self.lists.codes) else {
            return Ok(None);
        };
        Together::new(self.asked.plan.kernel, coder, (&self.lists, codes), &asks, threads, self.watch).map(Some)
    }

    /// The best rows for one query.
    fn one<'b>(
        &self,
        query: usize,
        first: &Chosen,
        known: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut Scratch,
    ) -> Result<Found> {
        let asked = self.asked;
        let wanted = asked.allowed().min(asked.plan.k as u64);
        let mut top = self.visit(query, &first.cells, first.likely.as_ref(), known, &mut scratch.listed)?;
        let (mut chosen, mut ranks, mut more) = (first, Vec::new(), None);
        loop {
            let all = chosen.cells.len() == self.ivf.cells();
            if all || top.held() as u64 >= wanted || asked.plan.floor > f64::NEG_INFINITY {
                let exact = self.proven(query, chosen, &top);
                if exact && chosen.likely.is_some() {
                    top = self.visit(query, &chosen.cells, None, NONE, &mut scratch.listed)?;
                }
                return Ok(Found { top, exact });
            }
            if ranks.is_empty() {
                ranks = self.nearest(query, self.ivf.all(), &mut scratch.rank)?.cells;
            }
            let count = (2 * chosen.cells.len()).max(1).min(ranks.len());
            chosen = more.insert(self.chosen(query, &ranks, count));
            top = self.visit(query, &chosen.cells, chosen.likely.as_ref(), NONE, &mut scratch.listed)?;
        }
    }

    /// Listed rows of some cells that may be found; none are counted where all may be.
    fn allowed_in(&self, ranks: &[(f64, u32)]) -> f64 {
        let Some((mask, _)) = self.asked.mask else { return f64::INFINITY };
        let listed = ranks.iter().flat_map(|&(_, cell)| &self.lists.rows[self.lists.places(cell as usize)]);
        listed.filter(|&&row| row != NO_ROW && mask.allows(row as usize)).count() as f64
    }

    /// How many of the `count` nearest cells are near enough for the ratio that was asked for.
    fn near_enough(&self, ranks: &[(f64, u32)], count: usize) -> usize {
        let Some(ratio) = self.asked.ratio else { return count };
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
        likely: Option<&Look>,
        known: Option<impl Iterator<Item = &'b [f32]>>,
        scratch: &mut listed::Scratch,
    ) -> Result<TopK> {
        let asked = self.asked;
        let (Some(coder), Some(look), Some(codes)) = (asked.plan.coder, look_of(self.looks, query), self.lists.codes) else {
            return self.plainly(query, cells);
        };
        let mut top = TopK::new(asked.plan.k, self.asked.allowed())?;
        top.raise(asked.plan.floor);
        let visit = listed::Visit {
            plan: asked.plan,
            queries: asked.queries,
            query,
            look: likely.unwrap_or(look),
            coder,
            segments: asked.segments,
            lists: &self.lists,
            codes,
            cells,
            mask: asked.mask.map(|mask| mask.0),
        };
        visit.run(known, &mut top, scratch);
        Ok(top)
    }

    /// The same where codes cannot help.
    fn plainly(&self, query: usize, cells: &[u32]) -> Result<TopK> {
        let asked = self.asked;
        let listed = cells.iter().flat_map(|&cell| &self.lists.rows[self.lists.places(cell as usize)]);
        let rows: u64 = asked.segments.iter().map(|rows| rows.len() as u64).sum();
        let mut rows: Vec<u32> = listed
            .copied()
            .filter(|&row| row != NO_ROW && u64::from(row) < rows && asked.mask.is_none_or(|mask| mask.0.allows(row as usize)))
            .collect();
        rows.sort_unstable();
        rows.dedup();
        let sizes: Vec<usize> = asked.segments.iter().map(Rows::len).collect();
        let runs = Run::of(&sizes, rows.iter().map(|&row| row as usize));
        let plan = Plan { threads: 1, ..*asked.plan };
        let mut top = scan::search(&plan, asked.segments, &runs, &asked.queries.only(query), self.watch)?.swap_remove(0);
        // What proves the answer is the key of its last row.
        top.cut();
        Ok(top)
    }

    /// Whether no row outside of the cells visited can be among the best.
    fn proven(&self, query: usize, visited: &Chosen, top: &TopK) -> bool {
        let cells = self.ivf.cells();
        if visited.cells.len() == cells || top.held() as u64 == self.asked.allowed() {
            return true;
        }
        // Angles to centroids say nothing of other keys, nor distances of cosines, nor products of anything.
        let telling = match self.ivf.record.metric {
            Metric::Cosine => self.asked.plan.metric == Metric::Cosine,
            Metric::Euclidean => self.asked.plan.metric != Metric::Cosine,
            Metric::Dot => false,
        };
        if !telling || !visited.next.is_none_or(|cell| self.below(query, cell as usize..cell as usize + 1, &[], top)) {
            return false;
        }
        let mut seen = vec![false; cells];
        visited.cells.iter().for_each(|&cell| seen[cell as usize] = true);
        (0..cells).step_by(PROVED).all(|first| self.below(query, first..cells.min(first + PROVED), &seen, top))
    }

    /// Whether every row of these cells, but those seen, has a key below the floor.
    fn below(&self, query: usize, cells: Range<usize>, seen: &[bool], top: &TopK) -> bool {
        let metric = self.asked.plan.metric;
        let (centroids, asks) = (self.ivf.centroids(), self.asks(query));
        let reaches: &[f64] = self.ivf.reaches.view();
        let mut keys = [0.0; PROVED];
        let keys = &mut keys[..cells.len()];
        if let Some(PanelValues::F32(values)) = centroids.in_place(cells.clone()) {
            let kernel = self.asked.plan.kernel;
            let sums = if metric == Metric::Euclidean { kernel.squared_distance } else { kernel.dot };
            sums(self.narrow.wide(query), values, centroids.dims, keys);
        }
        cells.zip(keys).all(|(cell, sum)| {
            let seen = seen.get(cell).is_some_and(|&seen| seen);
            seen || farthest(metric, *sum, asks, centroids.norms[cell], reaches[cell]) < top.floor()
        })
    }

    /// How long a query is as centroids meet it, and how far that is from the query itself.
    fn asks(&self, query: usize) -> Asks {
        let pairs = self.narrow.wide(query).iter().zip(self.asked.queries.wide(query));
        Asks { norm: self.narrow.norm(query), loss: pairs.map(|(near, x)| (x - near).powi(2)).sum::<f64>().sqrt() }
    }
}

/// A query in float32.
#[derive(Debug, Clone, Copy)]
struct Asks {
    norm: f64,
    loss: f64,
}

/// An upper bound of the key of a row whose key to a centroid is `reach` or more, for a query whose product
/// with it, or squared distance from it, is `sum` in float32.
fn farthest(metric: Metric, sum: f64, asks: Asks, centroid_norm: f64, reach: f64) -> f64 {
    let Asks { norm: query_norm, loss } = asks;
    if reach == f64::INFINITY {
        // It has no rows of its own.
        return f64::NEG_INFINITY;
    }
    match metric {
        Metric::Cosine => {
            // Angles: that of query and row is at least the difference of those to the centroid.
            let near = metric.key(sum, query_norm, centroid_norm) + turned(loss, query_norm) + HAIR;
            let far = (reach - HAIR).max(-1.0);
            if near >= far {
                return 1.0 + HAIR;
            }
            let near = near.max(-1.0);
            near * far + ((1.0 - near * near).max(0.0) * (1.0 - far * far).max(0.0)).sqrt() + HAIR
        }
        // <q,x> = <q,c> + <q,x-c>.
        Metric::Dot => {
            let reach = (-reach).max(0.0).sqrt();
            sum + query_norm * reach + (HAIR * query_norm + 1.01 * loss) * (centroid_norm + reach)
        }
        Metric::Euclidean => {
            let left = sum.sqrt() - (-reach).max(0.0).sqrt() - loss;
            let slack = HAIR * (query_norm + centroid_norm).powi(2);
            slack - left.max(0.0).powi(2)
        }
    }
}

/// How much a cosine may change at most when a vector that is `norm` long, or was, moves by `loss`.
fn turned(loss: f64, norm: f64) -> f64 {
    if loss == 0.0 {
        0.0
    } else if 4.0 * loss < norm {
        2.0 * loss / norm
    } else {
        2.0
    }
}
