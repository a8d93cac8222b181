//! How many cells or buckets a query must visit for a recall that is asked for: measured, never assumed.
//!
//! Sampled queries are answered exactly; where in a query's order of cells or buckets the first comes that holds a
//! neighbour says how many must be visited to find it. One pass so gives the recall of every number of
//! them, which of cells is that of queries with an average crowd of cells around them, see [`Nprobe`]. Where the
//! sample is rows of the index, none of them trained a centroid and none counts as its own neighbour, so that they
//! stand for queries that are like rows and yet unseen.

use super::Ann;
use super::ivf::{Ivf, Nprobe};
use crate::ann::lsh::probe::QueryHash;
use crate::ann::lsh::search::Lsh;
use crate::ann::lsh::tables::Scratch;
use crate::error::{Error, Result};
use crate::format::{TuningPoint, TuningRecord};
use crate::pool::{self, Watch};
use crate::random::Random;
use crate::scan::{self, Plan, Queries, Run};
use crate::store::lists::NO_ROW;
use crate::store::rows::Rows;
use crate::topk::TopK;

/// Neighbours for which recall is measured, and how many queries at most ask for so many: of cells, and of buckets,
/// which are built in less time than more queries would take.
const LADDER: [(usize, [usize; 2]); 4] = [(1, [usize::MAX, 200]), (10, [usize::MAX, 200]), (100, [256, 24]), (1000, [64, 8])];
/// Queries of a sample of rows.
const SAMPLE: usize = 1000;
/// Queries that are answered together, at least.
const BATCH: usize = 8;
/// Of a table with fewer rows than this many times [`SAMPLE`], a part is taken.
const SHARE: usize = 8;
/// Queries at most that gaps between cells are averaged over: what these give is measured on all.
const GAPPED: usize = 256;
/// From one number of cells measured to the next.
const RATIO: f64 = 1.15;
/// Queries of an index of buckets, at most, for which rows visited are counted: these differ less from query to query
/// than what is found, and a query that only finds its neighbours is soon done.
const GROWN: usize = 24;
/// One in so many buckets is as far as a query is followed: exact search costs less from there on.
pub(super) const LIMIT_SHARE: u64 = 32;

/// Rows to tune on, and others to measure recall on; each in order.
pub fn samples(rows: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut random = Random::new(seed ^ 0x7475_6e65);
    let count = SAMPLE.min(rows.div_ceil(SHARE));
    let drawn = crate::cluster::reseed::draw(&mut random, rows, 2 * count);
    // A single row serves as both.
    let (tuned, tested) = drawn.split_at(count);
    [tuned, if tested.is_empty() { tuned } else { tested }].map(|rows| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows
    })
}

/// Some queries, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// They.
    pub queries: &'a Queries,
    /// The rows that they are; `None`: they are none.
    pub own: Option<&'a [usize]>,
}

/// The exact neighbours of every query, best first, at most as many as `k` and without the query itself.
///
/// # Errors
/// No memory; [`Error::Interrupted`].
pub fn neighbours(sample: Sample, k: usize, plan: &Plan, segments: &[Rows], watch: &Watch) -> Result<Vec<Vec<u64>>> {
    // One thread merges the best of all: where they are many, that takes longer than finding them. So every thread has
    // queries of its own, enough for a batch.
    let threads = plan.threads;
    let plan = Plan { k: k + usize::from(sample.own.is_some()), threshold: f64::NEG_INFINITY, threads: 1, ..*plan };
    let count = sample.queries.len();
    let each = count.div_ceil(threads).max(BATCH);
    let work = |(): &mut (), part: usize| {
        let which: Vec<usize> = (part * each..count.min((part + 1) * each)).collect();
        scan::search(&plan, segments, &Run::all(segments), &sample.queries.some(&which), watch)
    };
    let parts = pool::map(threads, count.div_ceil(each), watch, || Ok(()), work)?;
    let without = |(i, top): (usize, TopK)| {
        let own = sample.own.map(|own| own[i] as u64);
        let mut rows: Vec<u64> = top.into_sorted().iter().map(|entry| entry.row).filter(|&row| Some(row) != own).collect();
        rows.truncate(k);
        rows
    };
    Ok(parts.into_iter().flatten().enumerate().map(without).collect())
}

/// Measures how recall grows with the number of cells or buckets visited, for several numbers of neighbours.
///
/// # Errors
/// No queries; no memory; [`Error::Interrupted`].
pub fn measure(ann: &Ann, sample: Sample, recall: f64, plan: &Plan, segments: &[Rows], watch: &Watch) -> Result<TuningRecord> {
    let rows: usize = segments.iter().map(Rows::len).sum();
    let count = sample.queries.len();
    if count == 0 {
        return Err(Error::input("queries", "one query or more", "none"));
    }
    let kind = usize::from(matches!(ann, Ann::Lsh(_)));
    let grid = grid(ann.most());
    let gaps = match ann {
        Ann::Ivf(ivf) => gaps(ivf, &grid, sample.queries, plan, watch)?,
        Ann::Lsh(_) => vec![0.0; grid.len()],
    };
    let measured = Measured { ann, grid, gaps, home: Home::new(ann, rows), plan, segments };
    let most = (rows - usize::from(sample.own.is_some())).max(1);
    let request: Vec<(usize, usize)> =
        LADDER.iter().map(|&(k, queries)| (k, queries[kind].min(count))).filter(|&(k, _)| k <= most).collect();
    let (mut points, mut visited) = (Vec::new(), Vec::new());
    for same in request.chunk_by(|a, b| a.1 == b.1) {
        let (widest, queries) = same[same.len() - 1];
        // Spread over all of them: rows come in order, and neighbours in a table are often alike.
        let which: Vec<usize> = (0..queries).map(|i| i * sample.queries.len() / queries).collect();
        let own: Option<Vec<usize>> = sample.own.map(|own| which.iter().map(|&i| own[i]).collect());
        let some = sample.queries.some(&which);
        // The rows visited are no matter of k: the first queries, which are the most, tell for all.
        let counted = if visited.is_empty() { GROWN } else { 0 };
        let reached = measured.reached(Sample { queries: &some, own: own.as_deref() }, widest, counted, watch)?;
        if visited.is_empty() {
            visited = mean_visited(&measured.grid, &reached);
        }
        same.iter().for_each(|&(k, _)| points.extend(curve(&measured, k, &reached, &visited)));
    }
    Ok(TuningRecord { recall, queries: request[0].1, given: sample.own.is_none(), points })
}

/// What is measured.
struct Measured<'a> {
    ann: &'a Ann,
    /// Numbers of cells or buckets.
    grid: Vec<usize>,
    /// See [`Nprobe`]; one for each of them.
    gaps: Vec<f64>,
    home: Home,
    plan: &'a Plan<'a>,
    segments: &'a [Rows<'a>],
}

/// For one query: at which place of its order of cells or buckets each neighbour is reached, and for each number of
/// them that is measured, how many it takes of them and rows it visits there; none where these were not counted.
struct Reached {
    places: Vec<u64>,
    taken: Vec<u64>,
    visited: Vec<u64>,
}

/// The cells of every row; none of an index of buckets.
#[derive(Default)]
struct Home {
    first: Vec<u32>,
    second: Vec<u32>,
}

impl Home {
    fn new(ann: &Ann, rows: usize) -> Self {
        let Ann::Ivf(ivf) = ann else { return Home::default() };
        let mut home = Home { first: vec![u32::MAX; rows], second: vec![u32::MAX; rows] };
        let lists = ivf.lists();
        for cell in 0..lists.cells() {
            for &row in lists.rows[lists.places(cell)].iter().filter(|&&row| row != NO_ROW && (row as usize) < rows) {
                let row = row as usize;
                if home.first[row] == u32::MAX {
                    home.first[row] = cell as u32;
                } else {
                    home.second[row] = cell as u32;
                }
            }
        }
        home
    }
}

/// Numbers of cells or buckets that are measured, of `most`.
fn grid(most: usize) -> Vec<usize> {
    let mut grid = vec![1];
    while grid[grid.len() - 1] < most {
        let last = grid[grid.len() - 1];
        grid.push(((last as f64 * RATIO) as usize).max(last + 1).min(most));
    }
    grid
}

/// How far below the key of the nearest cell that of the last of so many is, on average over some queries.
fn gaps(ivf: &Ivf, grid: &[usize], queries: &Queries, plan: &Plan, watch: &Watch) -> Result<Vec<f64>> {
    let count = queries.len().min(GAPPED);
    let gaps = |(): &mut (), i: usize| {
        let query = i * queries.len() / count;
        let unit = Nprobe::gap_unit(ivf.rank_metric(plan.metric), queries.norm(query));
        let order = ivf.order(plan, queries, query, watch)?;
        let gap = |&probes: &usize| (order[0].0 - order[probes - 1].0) / unit;
        // Zero queries and centroids without a key say nothing.
        Ok(grid.iter().map(gap).map(|gap| if gap.is_finite() { gap } else { 0.0 }).collect::<Vec<f64>>())
    };
    let all = pool::map(plan.threads, count, watch, || Ok(()), gaps)?;
    Ok((0..grid.len()).map(|at| all.iter().map(|gaps| gaps[at]).sum::<f64>() / count as f64).collect())
}

impl Measured<'_> {
    /// Where every query of the sample reaches its `k` neighbours, and how many rows some of them visit: of buckets, so many.
    fn reached(&self, sample: Sample, k: usize, counted: usize, watch: &Watch) -> Result<Vec<Reached>> {
        let near = neighbours(sample, k, self.plan, self.segments, watch)?;
        let is_counted = |query: usize| counted > 0 && query.is_multiple_of(near.len().div_ceil(counted));
        let work = |scratch: &mut Scratch, query: usize| match self.ann {
            Ann::Ivf(ivf) => self.by_cells(ivf, (sample.queries, query), &near[query], watch),
            Ann::Lsh(buckets) => self.by_buckets(buckets, (sample.queries, query), &near[query], is_counted(query), scratch),
        };
        pool::map(self.plan.threads, near.len(), watch, || Ok(Scratch::default()), work)
    }

    fn by_cells(&self, ivf: &Ivf, (queries, query): (&Queries, usize), near: &[u64], watch: &Watch) -> Result<Reached> {
        let order = ivf.order(self.plan, queries, query, watch)?;
        // One more, for rows that have no cell, or no second one.
        let mut place = vec![u64::MAX; ivf.cells() + 1];
        order.iter().enumerate().for_each(|(at, rank)| place[rank.1 as usize] = at as u64);
        let at = |cell: u32| place[(cell as usize).min(ivf.cells())];
        let places = near.iter().map(|&row| at(self.home.first[row as usize]).min(at(self.home.second[row as usize]))).collect();
        let (lists, mut sums) = (ivf.lists(), vec![0]);
        order.iter().for_each(|rank| sums.push(sums[sums.len() - 1] + lists.places(rank.1 as usize).len() as u64));
        let norm = queries.norm(query);
        let count = |(&probes, &gap): (&usize, &f64)| ivf.count(Nprobe { probes, gap: Some(gap) }, self.plan.metric, norm, &order);
        let taken: Vec<usize> = self.grid.iter().zip(&self.gaps).map(count).collect();
        let visited = taken.iter().map(|&count| sums[count]).collect();
        Ok(Reached { places, taken: taken.into_iter().map(|count| count as u64).collect(), visited })
    }

    /// `grows`: whether the rows visited are counted too.
    fn by_buckets(
        &self,
        buckets: &Lsh,
        (queries, query): (&Queries, usize),
        near: &[u64],
        grows: bool,
        scratch: &mut Scratch,
    ) -> Result<Reached> {
        let query_hash = QueryHash::new(buckets.hasher(), &queries.wide(query)[..queries.dims()], queries.norm(query));
        let limit = (buckets.most() as u64 / LIMIT_SHARE + 1).min(buckets.enough() as u64);
        let measured = self.grid.partition_point(|&probes| probes as u64 <= limit);
        let grid = if grows { &self.grid[..measured] } else { &[] };
        let met = buckets.tables().meet(&query_hash, near, grid, limit, scratch)?;
        let places = met.probes.into_iter().map(|probe| probe.map_or(u64::MAX, |probe| probe - 1)).collect();
        let mut visited = met.grown;
        if grows {
            // Beyond, all rows: nobody should go there.
            visited.resize(self.grid.len(), self.segments.iter().map(|rows| rows.len() as u64).sum());
        }
        Ok(Reached { places, taken: self.grid.iter().map(|&probes| probes as u64).collect(), visited })
    }
}

/// The mean of some shares, one or more, and its standard error.
pub fn mean(shares: &[f64]) -> (f64, f64) {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let spread = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (spread / count).sqrt())
}

/// Rows visited by number of cells or buckets, on average over the queries for which they were counted.
fn mean_visited(grid: &[usize], reached: &[Reached]) -> Vec<f64> {
    let counted: Vec<&Vec<u64>> = reached.iter().map(|one| &one.visited).filter(|visited| !visited.is_empty()).collect();
    let mean =
        |at: usize| counted.iter().map(|visited| visited.get(at).copied().unwrap_or(0) as f64).sum::<f64>() / counted.len().max(1) as f64;
    (0..grid.len()).map(mean).collect()
}

/// Recall by number of cells or buckets, for `k` neighbours.
fn curve(measured: &Measured, k: usize, reached: &[Reached], visited: &[f64]) -> Vec<TuningPoint> {
    let point = |(at, &probes): (usize, &usize)| {
        let share = |one: &Reached| {
            let places = &one.places[..k.min(one.places.len())];
            if places.is_empty() { 1.0 } else { places.iter().filter(|&&place| place < one.taken[at]).count() as f64 / places.len() as f64 }
        };
        let (recall, error) = mean(&reached.iter().map(share).collect::<Vec<f64>>());
        TuningPoint {
            k: k as u32,
            probes: probes as u32,
            recall: recall.clamp(0.0, 1.0),
            error: error.min(1.0),
            visited: visited[at],
            gap: measured.gaps[at],
            reserved: [0; 3],
        }
    };
    measured.grid.iter().enumerate().map(point).collect()
}

/// How many cells or buckets to visit, and the rows in them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchEffort {
    /// Cells or buckets.
    pub probes: usize,
    /// Rows, on average, those of several cells counted in each.
    pub visited: f64,
    /// See [`Nprobe`]; none where just so many cells are asked for.
    pub gap: Option<f64>,
}

/// The least effort whose recall was at least `recall` by a standard error, for `k` neighbours: between those
/// measured, as a power of k.
pub fn effort(tuning: &TuningRecord, recall: f64, k: f64) -> SearchEffort {
    let curves: Vec<(f64, SearchEffort)> =
        tuning.points.chunk_by(|a, b| a.k == b.k).map(|curve| (f64::from(curve[0].k), least(curve, recall))).collect();
    let after = curves.iter().position(|curve| curve.0 >= k).unwrap_or(curves.len() - 1);
    // Beyond the last number of neighbours measured, as from the one before it to the last.
    let (low, high) = (&curves[after.saturating_sub(1)], &curves[after]);
    if low.0 == high.0 || k <= low.0 {
        return if k <= low.0 { low.1 } else { high.1 };
    }
    let part = (k / low.0).ln() / (high.0 / low.0).ln();
    let between = |low: f64, high: f64| low * (high / low).powf(part);
    let most = tuning.points.iter().map(|point| point.probes).max().unwrap_or(1) as usize;
    SearchEffort {
        probes: (between(low.1.probes as f64, high.1.probes as f64).ceil() as usize).min(most),
        visited: between(low.1.visited.max(1.0), high.1.visited.max(1.0)),
        gap: low.1.gap.zip(high.1.gap).map(|(low, high)| low + part.min(1.0) * (high - low)),
    }
}

/// The least effort of one curve.
fn least(curve: &[TuningPoint], recall: f64) -> SearchEffort {
    let certain = |point: &TuningPoint| point.recall - point.error >= recall;
    let at = curve.iter().position(certain).unwrap_or(curve.len() - 1);
    let (high, low) = (&curve[at], &curve[at.saturating_sub(1)]);
    let (from, to) = (low.recall - low.error, high.recall - high.error);
    let part = if to > from && from < recall { ((recall - from) / (to - from)).min(1.0) } else { 1.0 };
    let between = |low: f64, high: f64| low + part * (high - low);
    SearchEffort {
        probes: between(f64::from(low.probes), f64::from(high.probes)).ceil() as usize,
        visited: between(low.visited, high.visited),
        gap: Some(between(low.gap, high.gap)),
    }
}
