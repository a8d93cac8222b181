//! Measures the recall of every number of probed cells or buckets, and chooses the number for a wanted recall.
//!
//! Sampled queries are answered exactly. The rank, in the query's order of cells or buckets, of the first one that holds
//! a neighbour is the number of probes that finds it, so one pass gives the whole recall curve. Of cells, the numbers
//! are averages: [`Nprobe`] adapts them to each query.

use super::Ann;
use super::ivf::{Ivf, Nprobe};
use super::sample::{Neighbourhood, Sample, neighbourhoods};
use crate::ann::lsh::probe::QueryHash;
use crate::ann::lsh::search::Lsh;
use crate::ann::lsh::tables::Scratch;
use crate::error::{Error, Result, filled};
use crate::format::{TuningPoint, TuningRecord};
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::scan::{Plan, Queries};
use crate::store::lists::NO_ROW;
use crate::store::rows::Rows;
use std::f64::consts::SQRT_2;

/// The values of k to measure recall for, each with the most queries: of cells, and of buckets, where more queries would
/// take longer than building the index.
const K_LADDER: [(usize, [usize; 2]); 4] = [(1, [usize::MAX, 200]), (10, [usize::MAX, 200]), (100, [256, 24]), (1000, [64, 8])];
/// The most queries that gaps (see [`Nprobe`]) are averaged over; recall at these gaps is measured on all.
const GAP_QUERIES: usize = 256;
/// The ratio of consecutive numbers of probes that are measured.
const GRID_RATIO: f64 = 1.15;
/// The most queries for which the rows visited in buckets are counted: that number varies less than recall, and counting
/// takes longer than finding the neighbours.
const COUNTED_QUERIES: usize = 24;
/// Standard errors of a one-sided 95 % interval of a normal variable.
const ONE_SIDED: f64 = 1.645;
/// Probing more than one in this many buckets costs more than exact search, so it is not measured.
pub(super) const PROBE_LIMIT_DIVISOR: u64 = 32;

/// Measures recall by number of probes, for several k; `recall` is stored as the index's default.
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
    let grid = grid(ann.max_probes());
    let mut measurement = Measurement { ann, gaps: vec![0.0; grid.len()], grid, row_cells: RowCells::new(ann, rows)?, plan, segments };
    let max_k = (rows - usize::from(sample.own.is_some())).max(1);
    let ladder = ladder(kind, count, max_k);
    let size = [rows, sample.queries.dims(), ann.max_probes()];
    watch.plan(work(kind, size, count));
    let (mut points, mut visited, mut measured) = (Vec::new(), Vec::new(), 0);
    for group in ladder.chunk_by(|a, b| a.1 == b.1) {
        let (max_k, queries) = group[group.len() - 1];
        // Spread evenly over the sample, as adjacent rows of a table are often alike.
        let which: Vec<usize> = (0..queries).map(|i| i * sample.queries.len() / queries).collect();
        let own: Option<Vec<usize>> = sample.own.map(|own| which.iter().map(|&i| own[i]).collect());
        let some = sample.queries.some(&which)?;
        // The rows visited do not depend on k: count them once, for the first and largest group.
        let counted = if visited.is_empty() { COUNTED_QUERIES } else { 0 };
        let [searching, tracing] = group_work(kind, size, queries);
        watch.stage(searching, (queries * rows) as u64);
        let hoods = neighbourhoods(Sample { queries: &some, own: own.as_deref() }, max_k, plan, segments, watch)?;
        if let Ann::Ivf(ivf) = ann
            && visited.is_empty()
        {
            measurement.gaps = gaps(ivf, &measurement.grid, (&some, &hoods), plan, watch)?;
        }
        watch.stage(tracing, hoods.len() as u64);
        let traces = measurement.traces(&some, &hoods, counted, watch)?;
        if visited.is_empty() {
            visited = mean_visited(&measurement.grid, &traces);
            measured = traces.len();
        }
        group.iter().for_each(|&(k, _)| points.extend(curve(&measurement, k, &traces, &visited)));
    }
    Ok(TuningRecord { recall, queries: measured, given: sample.own.is_none(), points })
}

/// The values of k that are measured, each with its number of queries, `count` at most.
fn ladder(kind: usize, count: usize, max_k: usize) -> Vec<(usize, usize)> {
    K_LADDER.iter().map(|&(k, queries)| (k, queries[kind].min(count))).filter(|&(k, _)| k <= max_k).collect()
}

/// The cost of [`measure`] with `queries`, for a number of rows, of dims, and of cells or buckets; `kind` is 1 for buckets.
pub fn work(kind: usize, size: [usize; 3], queries: usize) -> f64 {
    let ladder = ladder(kind, queries, size[0]);
    ladder.chunk_by(|a, b| a.1 == b.1).flat_map(|group| group_work(kind, size, group[0].1)).sum()
}

/// The cost of finding the neighbours of `queries`, and of tracing them to these.
fn group_work(kind: usize, [rows, dims, places]: [usize; 3], queries: usize) -> [f64; 2] {
    let probes = if kind == 1 { places / PROBE_LIMIT_DIVISOR as usize } else { places };
    [cost::CODED * (rows * dims) as f64 * queries as f64, cost::PROBE * (probes * queries) as f64]
}

/// What every query of a measurement shares.
struct Measurement<'a> {
    ann: &'a Ann,
    /// The numbers of probes to measure.
    grid: Vec<usize>,
    /// The gap for each of them, see [`Nprobe`]; 0 for buckets.
    gaps: Vec<f64>,
    row_cells: RowCells,
    plan: &'a Plan<'a>,
    segments: &'a [Rows<'a>],
}

/// The measurement of one query.
struct QueryTrace {
    /// For each neighbour, the rank from 0 of the first cell or bucket that holds it; `u64::MAX` beyond the limit.
    ranks: Vec<u64>,
    /// For each number of probes of the grid, how many cells or buckets this query visits.
    probed: Vec<u64>,
    /// The rows in them; empty where they were not counted.
    visited: Vec<u64>,
}

/// The one or two cells of every row, `u32::MAX` where there is none; empty for buckets.
#[derive(Default)]
struct RowCells {
    first: Vec<u32>,
    second: Vec<u32>,
}

impl RowCells {
    fn new(ann: &Ann, rows: usize) -> Result<Self> {
        let Ann::Ivf(ivf) = ann else { return Ok(RowCells::default()) };
        let none = || filled(rows, u32::MAX, "the cells of rows");
        let mut row_cells = RowCells { first: none()?, second: none()? };
        let lists = ivf.lists();
        for cell in 0..lists.cells() {
            for &row in lists.rows[lists.entries(cell)].iter().filter(|&&row| row != NO_ROW && (row as usize) < rows) {
                let row = row as usize;
                if row_cells.first[row] == u32::MAX {
                    row_cells.first[row] = cell as u32;
                } else {
                    row_cells.second[row] = cell as u32;
                }
            }
        }
        Ok(row_cells)
    }
}

/// The numbers of probes to measure: 1 to `max` in steps of [`GRID_RATIO`].
fn grid(max: usize) -> Vec<usize> {
    let mut grid = vec![1];
    while grid[grid.len() - 1] < max {
        let last = grid[grid.len() - 1];
        grid.push(((last as f64 * GRID_RATIO) as usize).max(last + 1).min(max));
    }
    grid
}

/// For each number of cells in `grid`, the gap between the keys of the first and the last of them, in units of
/// [`Nprobe::gap_unit`], averaged over queries. Copies of a row have drawn a centroid near to it, so that the gaps of such
/// rows are larger than those of unseen queries, which visit more cells at them: no recall is promised too early.
fn gaps(ivf: &Ivf, grid: &[usize], (queries, hoods): (&Queries, &[Neighbourhood]), plan: &Plan, watch: &Watch) -> Result<Vec<f64>> {
    let count = hoods.len().min(GAP_QUERIES);
    let gaps = |(): &mut (), i: usize| {
        let hood = &hoods[i * hoods.len() / count];
        let unit = Nprobe::gap_unit(ivf.rank_metric(plan.metric), queries.norm(hood.query));
        let order = ivf.order(plan, queries, hood.query, &watch.silent())?;
        let gap = |&nprobe: &usize| (order[0].0 - order[nprobe - 1].0) / unit;
        // Zero queries divide by zero, and a centroid's key may be NaN or infinite.
        Ok(grid.iter().map(gap).map(|gap| if gap.is_finite() { gap } else { 0.0 }).collect::<Vec<f64>>())
    };
    let all = pool::map(plan.threads, count, watch, || Ok(()), gaps)?;
    Ok((0..grid.len()).map(|at| all.iter().map(|gaps| gaps[at]).sum::<f64>() / count as f64).collect())
}

impl Measurement<'_> {
    /// Traces every query to its neighbours; counts rows visited in buckets for `counted` of them.
    fn traces(&self, queries: &Queries, hoods: &[Neighbourhood], counted: usize, watch: &Watch) -> Result<Vec<QueryTrace>> {
        let is_counted = |at: usize| counted > 0 && at.is_multiple_of(hoods.len().div_ceil(counted));
        let trace = |scratch: &mut Scratch, at: usize| {
            watch.advance(1);
            match self.ann {
                Ann::Ivf(ivf) => self.trace_cells(ivf, queries, &hoods[at], watch),
                Ann::Lsh(lsh) => self.trace_buckets(lsh, queries, &hoods[at], is_counted(at), scratch),
            }
        };
        pool::map(self.plan.threads, hoods.len(), watch, || Ok(Scratch::default()), trace)
    }

    fn trace_cells(&self, ivf: &Ivf, queries: &Queries, hood: &Neighbourhood, watch: &Watch) -> Result<QueryTrace> {
        let order = ivf.order(self.plan, queries, hood.query, &watch.silent())?;
        // One more entry, for a cell of `u32::MAX`.
        let mut rank_of = vec![u64::MAX; ivf.cells() + 1];
        order.iter().enumerate().for_each(|(rank, cell)| rank_of[cell.1 as usize] = rank as u64);
        let rank = |cell: u32| rank_of[(cell as usize).min(ivf.cells())];
        let ranks =
            hood.near.iter().map(|&row| rank(self.row_cells.first[row as usize]).min(rank(self.row_cells.second[row as usize]))).collect();
        let (lists, mut sums) = (ivf.lists(), vec![0]);
        order.iter().for_each(|cell| sums.push(sums[sums.len() - 1] + lists.entries(cell.1 as usize).len() as u64));
        let norm = queries.norm(hood.query);
        let count = |(&nprobe, &gap): (&usize, &f64)| ivf.count(Nprobe { nprobe, gap: Some(gap) }, self.plan.metric, norm, &order);
        let probed: Vec<usize> = self.grid.iter().zip(&self.gaps).map(count).collect();
        let visited = probed.iter().map(|&count| sums[count]).collect();
        Ok(QueryTrace { ranks, probed: probed.into_iter().map(|count| count as u64).collect(), visited })
    }

    /// `counted`: whether to count the rows visited.
    fn trace_buckets(
        &self,
        lsh: &Lsh,
        queries: &Queries,
        hood: &Neighbourhood,
        counted: bool,
        scratch: &mut Scratch,
    ) -> Result<QueryTrace> {
        let query_hash = QueryHash::new(lsh.hasher(), &queries.wide(hood.query)[..queries.dims()], queries.norm(hood.query));
        let limit = (lsh.buckets() as u64 / PROBE_LIMIT_DIVISOR + 1).min(lsh.exhaustive_probes() as u64);
        let within_limit = self.grid.partition_point(|&nprobe| nprobe as u64 <= limit);
        let grid = if counted { &self.grid[..within_limit] } else { &[] };
        let trace = lsh.tables().trace(&query_hash, &hood.near, grid, limit, scratch)?;
        let ranks = trace.found_at.into_iter().map(|probe| probe.map_or(u64::MAX, |probe| probe - 1)).collect();
        let mut visited = trace.candidates;
        if counted {
            // Beyond the limit, a search counts as visiting all rows.
            visited.resize(self.grid.len(), self.segments.iter().map(|rows| rows.len() as u64).sum());
        }
        Ok(QueryTrace { ranks, probed: self.grid.iter().map(|&nprobe| nprobe as u64).collect(), visited })
    }
}

/// The mean of one or more shares, and its standard error.
pub fn mean(shares: &[f64]) -> (f64, f64) {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let spread = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (spread / count).sqrt())
}

/// The rows visited by number of probes, averaged over the queries that counted them.
fn mean_visited(grid: &[usize], traces: &[QueryTrace]) -> Vec<f64> {
    let counted: Vec<&Vec<u64>> = traces.iter().map(|trace| &trace.visited).filter(|visited| !visited.is_empty()).collect();
    let mean =
        |at: usize| counted.iter().map(|visited| visited.get(at).copied().unwrap_or(0) as f64).sum::<f64>() / counted.len().max(1) as f64;
    (0..grid.len()).map(mean).collect()
}

/// The recall of `k` neighbours by number of probes.
fn curve(measurement: &Measurement, k: usize, traces: &[QueryTrace], visited: &[f64]) -> Vec<TuningPoint> {
    let point = |(at, &nprobe): (usize, &usize)| {
        let share = |trace: &QueryTrace| {
            let ranks = &trace.ranks[..k.min(trace.ranks.len())];
            if ranks.is_empty() { 1.0 } else { ranks.iter().filter(|&&rank| rank < trace.probed[at]).count() as f64 / ranks.len() as f64 }
        };
        let (recall, error) = mean(&traces.iter().map(share).collect::<Vec<f64>>());
        TuningPoint {
            k: k as u32,
            nprobe: nprobe as u32,
            recall: recall.clamp(0.0, 1.0),
            error: error.min(1.0),
            visited: visited[at],
            gap: measurement.gaps[at],
            reserved: [0; 3],
        }
    };
    measurement.grid.iter().enumerate().map(point).collect()
}

/// How many cells or buckets to visit, and how many rows that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchEffort {
    /// Cells or buckets to visit; of cells, on average where there is a `gap`.
    pub nprobe: usize,
    /// List entries visited per query on average: a row in several cells counts in each.
    pub visited: f64,
    /// See [`Nprobe`]; `None` to visit exactly `nprobe` cells.
    pub gap: Option<f64>,
}

/// The least effort that keeps the promise of `recall`, see `promised`; interpolated between the measured values of k
/// as a power of k.
pub fn effort(tuning: &TuningRecord, recall: f64, k: f64) -> SearchEffort {
    let curves: Vec<(f64, SearchEffort)> =
        tuning.points.chunk_by(|a, b| a.k == b.k).map(|curve| (f64::from(curve[0].k), least_effort(curve, recall))).collect();
    let after = curves.iter().position(|curve| curve.0 >= k).unwrap_or(curves.len() - 1);
    // Beyond the largest measured k, extrapolate from the last two.
    let (low, high) = (&curves[after.saturating_sub(1)], &curves[after]);
    if low.0 == high.0 || k <= low.0 {
        return if k <= low.0 { low.1 } else { high.1 };
    }
    let part = (k / low.0).ln() / (high.0 / low.0).ln();
    let between = |low: f64, high: f64| low * (high / low).powf(part);
    let max_probes = tuning.points.iter().map(|point| point.nprobe).max().unwrap_or(1) as usize;
    SearchEffort {
        nprobe: (between(low.1.nprobe as f64, high.1.nprobe as f64).ceil() as usize).min(max_probes),
        visited: between(low.1.visited.max(1.0), high.1.visited.max(1.0)),
        gap: low.1.gap.zip(high.1.gap).map(|(low, high)| low + part.min(1.0) * (high - low)),
    }
}

/// The recall that 19 of 20 fresh samples of such queries reach, each as large as the sample that was measured. The
/// difference of two means varies by the root of the sum of their squared standard errors:
/// recall - z sqrt(se_measured^2 + se_fresh^2), where both errors are that of the point.
fn promised(point: &TuningPoint) -> f64 {
    point.recall - ONE_SIDED * SQRT_2 * point.error
}

/// The least effort on the curve of one k, interpolated between its points.
fn least_effort(curve: &[TuningPoint], recall: f64) -> SearchEffort {
    let at = curve.iter().position(|point| promised(point) >= recall).unwrap_or(curve.len() - 1);
    let (high, low) = (&curve[at], &curve[at.saturating_sub(1)]);
    let (from, to) = (promised(low), promised(high));
    let part = if to > from && from < recall { ((recall - from) / (to - from)).min(1.0) } else { 1.0 };
    let between = |low: f64, high: f64| low + part * (high - low);
    SearchEffort {
        nprobe: between(f64::from(low.nprobe), f64::from(high.nprobe)).ceil() as usize,
        visited: between(low.visited, high.visited),
        gap: Some(between(low.gap, high.gap)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_is_promised_to_nineteen_of_twenty_fresh_samples() {
        let (mut random, mut reached) = (crate::random::Random::new(3), 0);
        let mut sample = |share: f64| {
            let tenths = |random: &mut crate::random::Random| (0..10).filter(|_| (random.below(1000) as f64) < 1000.0 * share).count();
            let shares: Vec<f64> = (0..1000).map(|_| tenths(&mut random) as f64 / 10.0).collect();
            mean(&shares)
        };
        for _ in 0..1000 {
            let (recall, error) = sample(0.9);
            let point = TuningPoint { k: 10, nprobe: 1, recall, error, visited: 1.0, gap: 0.0, reserved: [0; 3] };
            reached += usize::from(sample(0.9).0 >= promised(&point));
        }
        assert!((930..=970).contains(&reached), "{reached} of 1000");
    }
}
