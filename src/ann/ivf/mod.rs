//! An inverted file: rows by the cell of the nearest centroid, of which a query visits those whose centroids
//! are nearest to it (Sivic and Zisserman, ICCV 2003).
//!
//! Cells only name candidates. Centroids are a small table of rows, ranked by the same exact scan; the rows of
//! the cells visited are bounded by copies of their codes and refined in float64, so that the answer is the
//! best of all rows visited, on every CPU and for any number of threads. It is the best of all rows, and said
//! to be, where the least key of each cell's rows to its centroid proves that no other cell has a better one.

mod build;
mod spill;

pub use build::{Cluster, build};

use super::{Asked, Found};
use crate::ann::cells::Cells;
use crate::ann::points::Points;
use crate::code::encode::Columns;
use crate::code::margin::Look;
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
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Queries that are worth making centroids ready for many at a time, and the part of all cells that is small enough.
const TOGETHER: usize = 8;
const SMALL_PART: usize = 8;
/// What cosines of centroids and rows may be off by in float64, with room to spare.
const HAIR: f64 = 1e-9;
/// With less than this part of the rows that a filter should leave in the cells visited, the filter goes against the
/// query; then as many times more than those are visited.
const AGAINST: f64 = 0.5;
/// Cells whose keys are computed at a time to prove an answer.
const PROVED: usize = 64;

/// Rows by cell.
#[derive(Debug, Clone)]
pub struct Ivf {
    record: CellRecord,
    payload: Section,
    centroids: Segment,
    reaches: Section,
    lists: ListSections,
    /// The axes of codes for queries that ask for few rows, made when first needed.
    columns: OnceLock<Columns>,
    /// The centroids for many queries at a time, made when first needed.
    ready: OnceLock<Arc<Cells>>,
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
        Ivf {
            payload: section(&record.payload),
            reaches: section(&parts.reaches),
            centroids,
            lists,
            columns: OnceLock::new(),
            ready: OnceLock::new(),
            record,
        }
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

    /// What cells are ranked by for queries of `metric`.
    fn rank_metric(&self, metric: Metric) -> Metric {
        if self.record.metric == Metric::Cosine { Metric::Cosine } else { metric }
    }

    /// The `count` nearest cells of every query, nearest first, with their keys.
    ///
    /// # Errors
    /// No memory; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn ranks(&self, plan: &Plan, queries: &Queries, count: usize, watch: &Watch) -> Result<Vec<Vec<(f64, u32)>>> {
        let metric = self.rank_metric(plan.metric);
        if queries.len() >= TOGETHER && metric == self.record.metric && count <= self.cells() / SMALL_PART {
            return self.ranks_together(plan, queries, count, watch);
        }
        let plan = Plan { metric, k: count, floor: f64::NEG_INFINITY, ..*plan };
        let best = scan::search(&plan, &[self.centroids()], &[Run { segment: 0, rows: 0..self.cells() }], queries, watch)?;
        let sorted = best.into_iter().map(|top| top.into_sorted().iter().map(|cell| (cell.key, cell.row as u32)).collect());
        Ok(sorted.collect())
    }

    /// The same, sixteen queries at a time.
    fn ranks_together(&self, plan: &Plan, queries: &Queries, count: usize, watch: &Watch) -> Result<Vec<Vec<(f64, u32)>>> {
        let (dims, kernel) = (queries.dims(), plan.kernel);
        let cells = match self.ready.get() {
            Some(cells) => cells,
            None => {
                let values: Vec<f32> = self.centroids.values.view().to_vec();
                let made = Cells::with_kernel(kernel, "cells", values, dims, self.record.metric, plan.threads, watch)?;
                self.ready.get_or_init(|| Arc::new(made))
            }
        };
        let mut values: Vec<f32> = Vec::with_capacity(queries.len() * dims);
        (0..queries.len()).for_each(|i| values.extend(queries.wide(i)[..dims].iter().map(|&x| x as f32)));
        let points = Points::new("query", &values, dims, kernel, plan.threads, watch)?;
        let nearest = cells.nearest(&points, count, plan.threads, watch)?;
        let ranks = nearest.cells.chunks(count).zip(nearest.keys.chunks(count));
        Ok(ranks.map(|(cells, keys)| keys.iter().copied().zip(cells.iter().copied()).collect()).collect())
    }

    /// See [`Few::search`](super::Few::search).
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, asked: &Asked, watch: &Watch) -> Result<Vec<Found>> {
        let narrow = asked.queries.narrow(asked.plan.kernel);
        let ranking = narrow.as_ref().unwrap_or(asked.queries);
        let (plan, lead) = (asked.plan, self.record.shape.lead);
        let looks = match plan.coder.filter(|_| lead > 0) {
            Some(coder) => {
                let columns = self.columns.get_or_init(|| Columns::new(coder));
                // Rows and centroids are coded alike.
                narrow.iter().try_for_each(|queries| queries.looks(plan.kernel, coder, Some(columns), plan.threads, watch).map(|_| ()))?;
                asked.queries.looks(plan.kernel, coder, Some(columns), plan.threads, watch)?
            }
            None => &[],
        };
        // One more than are visited: the first to look at for who wants to know whether it might matter.
        let ranks = self.ranks(plan, ranking, asked.probes.saturating_add(1), watch)?;
        let search = Search { ivf: self, asked, ranking, looks, lists: self.lists() };
        let bytes: u64 = asked.segments.iter().map(|rows| (rows.len() * rows.row_bytes()) as u64).sum();
        let share = (asked.probes as f64 / self.cells() as f64).min(1.0);
        let work = (bytes as f64 * share) as u64 * asked.queries.len() as u64;
        let threads = asked.plan.threads.min((work / scan::BYTES_WORTH_A_THREAD + 1) as usize);
        let work = |(scratch, found): &mut (listed::Scratch, Vec<(usize, Found)>), query: usize| {
            found.push((query, search.one(query, &ranks[query], scratch, watch)?));
            Ok(())
        };
        let states = pool::run(threads, ranks.len(), watch, || Ok(<(listed::Scratch, Vec<(usize, Found)>)>::default()), work)?;
        let mut found: Vec<(usize, Found)> = states.into_iter().flat_map(|state| state.1).collect();
        found.sort_unstable_by_key(|found| found.0);
        Ok(found.into_iter().map(|found| found.1).collect())
    }
}

/// A search under way.
struct Search<'a> {
    ivf: &'a Ivf,
    asked: &'a Asked<'a>,
    ranking: &'a Queries,
    looks: &'a [Option<Look>],
    lists: Lists<'a>,
}

impl Search<'_> {
    /// The best rows for one query, whose nearest cells are `ranks`.
    fn one(&self, query: usize, ranks: &[(f64, u32)], scratch: &mut listed::Scratch, watch: &Watch) -> Result<Found> {
        let asked = self.asked;
        let wanted = self.asked.allowed().min(asked.plan.k as u64);
        let mut cells: Vec<u32> = self.chosen(ranks).iter().map(|rank| rank.1).collect();
        let met = self.allowed_in(&cells);
        // A filter goes against the query, and the order of cells says less of what it leaves.
        if met < asked.least * AGAINST && cells.len() < self.ivf.cells() {
            let mut left = asked.least / AGAINST - met;
            let all = self.ivf.ranks(asked.plan, &self.ranking.only(query), self.ivf.cells(), watch)?.swap_remove(0);
            for &(_, cell) in &all[cells.len()..] {
                cells.push(cell);
                left -= self.allowed_in(&[cell]);
                if left <= 0.0 {
                    break;
                }
            }
        }
        let top = self.visit(query, &cells, scratch, watch)?;
        if top.held() as u64 >= wanted || asked.plan.floor > f64::NEG_INFINITY || cells.len() == self.ivf.cells() {
            let rest = ranks.get(cells.len()).map(|rank| rank.1);
            let exact = self.proven(query, &cells, rest, &top);
            return Ok(Found { top, exact });
        }
        let only = self.ranking.only(query);
        let all = self.ivf.ranks(asked.plan, &only, self.ivf.cells(), watch)?.swap_remove(0);
        let mut count = cells.len();
        loop {
            count = (2 * count).max(1).min(all.len());
            let cells: Vec<u32> = all[..count].iter().map(|rank| rank.1).collect();
            let top = self.visit(query, &cells, scratch, watch)?;
            if top.held() as u64 >= wanted || count == all.len() {
                let exact = self.proven(query, &cells, all.get(count).map(|rank| rank.1), &top);
                return Ok(Found { top, exact });
            }
        }
    }

    /// Listed rows of some cells that may be found; none are counted where all may be.
    fn allowed_in(&self, cells: &[u32]) -> f64 {
        let Some((mask, _)) = self.asked.mask else { return f64::INFINITY };
        let listed = cells.iter().flat_map(|&cell| &self.lists.rows[self.lists.places(cell as usize)]);
        listed.filter(|&&row| row != NO_ROW && mask.allows(row as usize)).count() as f64
    }

    /// The cells to visit, nearest first.
    fn chosen<'b>(&self, ranks: &'b [(f64, u32)]) -> &'b [(f64, u32)] {
        let count = self.asked.probes.min(ranks.len());
        let Some(ratio) = self.asked.ratio else { return &ranks[..count] };
        let best = ranks.first().map_or(0.0, |rank| rank.0);
        // A share of a negative key lies beyond it: the same distance from the best either way.
        let least = best - (1.0 - ratio) * best.abs();
        let near = ranks[..count].iter().take_while(|rank| rank.0 >= least).count();
        // The nearest is visited even if its key is infinite, as a false norm makes it, and no share of it a number.
        &ranks[..near.max(1).min(count)]
    }

    /// The best rows of some cells.
    fn visit(&self, query: usize, cells: &[u32], scratch: &mut listed::Scratch, watch: &Watch) -> Result<TopK> {
        let asked = self.asked;
        let look = self.looks.get(query).and_then(Option::as_ref);
        let (Some(coder), Some(look), Some(codes)) = (asked.plan.coder, look, self.lists.codes) else {
            return self.plainly(query, cells, watch);
        };
        let mut top = TopK::new(asked.plan.k, self.asked.allowed())?;
        top.raise(asked.plan.floor);
        let visit = listed::Visit {
            plan: asked.plan,
            queries: asked.queries,
            query,
            look,
            coder,
            segments: asked.segments,
            lists: &self.lists,
            codes,
            cells,
            mask: asked.mask.map(|mask| mask.0),
        };
        visit.run(&mut top, scratch);
        Ok(top)
    }

    /// The same where codes cannot help.
    fn plainly(&self, query: usize, cells: &[u32], watch: &Watch) -> Result<TopK> {
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
        let mut top = scan::search(&plan, asked.segments, &runs, &asked.queries.only(query), watch)?.swap_remove(0);
        // What proves the answer is the key of its last row.
        top.cut();
        Ok(top)
    }

    /// Whether no row outside of `visited` cells can be among the best; `next` is the nearest of the others.
    fn proven(&self, query: usize, visited: &[u32], next: Option<u32>, top: &TopK) -> bool {
        let cells = self.ivf.cells();
        if visited.len() == cells || top.held() as u64 == self.asked.allowed() {
            return true;
        }
        // Angles to centroids say nothing of other keys, nor distances of cosines, nor products of anything.
        let telling = match self.ivf.record.metric {
            Metric::Cosine => self.asked.plan.metric == Metric::Cosine,
            Metric::Euclidean => self.asked.plan.metric != Metric::Cosine,
            Metric::Dot => false,
        };
        if !telling || !next.is_none_or(|cell| self.below(query, cell as usize..cell as usize + 1, &[], top)) {
            return false;
        }
        let mut seen = vec![false; cells];
        visited.iter().for_each(|&cell| seen[cell as usize] = true);
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
            sums(self.ranking.wide(query), values, centroids.dims, keys);
        }
        cells.zip(keys).all(|(cell, sum)| {
            let seen = seen.get(cell).is_some_and(|&seen| seen);
            seen || farthest(metric, *sum, asks, centroids.norms[cell], reaches[cell]) < top.floor()
        })
    }

    /// How long a query is as centroids meet it, and how far that is from the query itself.
    fn asks(&self, query: usize) -> Asks {
        let pairs = self.ranking.wide(query).iter().zip(self.asked.queries.wide(query));
        Asks { norm: self.ranking.norm(query), loss: pairs.map(|(near, x)| (x - near).powi(2)).sum::<f64>().sqrt() }
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
