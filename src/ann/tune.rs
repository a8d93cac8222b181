//! Measures the recall of every number of probed cells or buckets.
//!
//! Sampled queries are answered exactly. The rank, in the query's order of cells or buckets, of the first one that holds
//! a neighbour is the number of probes that finds it, so one pass gives the whole recall curve. Of cells, the numbers
//! are averages: [`Nprobe`] adapts them to each query.

use super::Ann;
use super::effort::mean;
use super::ivf::{Adapt, Ivf, Nprobe};
use super::sample::{Neighbourhood, Sample, neighbourhoods};
use crate::ann::lsh::probe::QueryHash;
use crate::ann::lsh::search::Lsh;
use crate::ann::lsh::tables::Scratch;
use crate::error::{Error, Result, filled};
use crate::format::{MAX_POWER, TuningPoint, TuningRecord};
use crate::pool::{self, Watch};
use crate::progress::cost;
use crate::scan::{Plan, Queries};
use crate::store::lists::NO_ROW;
use crate::store::rows::Rows;

/// The values of k to measure recall for, each with the most queries: of cells, and of buckets, where more queries would
/// take longer than building the index.
const K_LADDER: [(usize, [usize; 2]); 4] = [(1, [usize::MAX, 200]), (10, [usize::MAX, 200]), (100, [256, 24]), (1000, [64, 8])];
/// The most queries that [`Adapt`] is learnt from; recall with it is measured on all.
const ADAPT_QUERIES: usize = 256;
/// The ratio of consecutive numbers of probes that are measured.
const GRID_RATIO: f64 = 1.15;
/// The most queries for which the rows visited in buckets are counted: that number varies less than recall, and counting
/// takes longer than finding the neighbours.
const COUNTED_QUERIES: usize = 24;
/// One in this many of the queries are those farthest from all centroids, whose recall limits the power of distances.
const FARTHEST: usize = 8;
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
    let mut measurement = Measurement {
        ann,
        adapts: vec![Adapt { gap: 0.0, far: 0.0, power: 0 }; grid.len()],
        grid,
        row_cells: RowCells::new(ann, rows)?,
        plan,
        segments,
    };
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
            measurement.adapts = measurement.learn(ivf, (&some, &hoods), watch)?;
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
    /// How each of them is adapted to a query; all 0 for buckets.
    adapts: Vec<Adapt>,
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

/// What a query tells of [`Adapt`].
struct Seen {
    /// The keys of all centroids, best first.
    keys: Vec<f64>,
    norm: f64,
    /// The distance from the nearest centroid.
    distance: f64,
    /// As [`QueryTrace::ranks`], ascending.
    ranks: Vec<u64>,
}

impl Seen {
    /// The share of the neighbours in the first cells.
    fn share(&self, cells: f64) -> f64 {
        self.ranks.partition_point(|&rank| (rank as f64) < cells) as f64 / self.ranks.len().max(1) as f64
    }
}

/// The power of distances for queries that visit `counts` cells without one, farthest query first.
///
/// The power is the slope, by least squares, of the logarithm of how many times as many cells a query needs as it visits,
/// to find the mean share of its neighbours. There is no more of it than makes the recall of the farthest queries the mean,
/// as neighbours in the last cells of the order are not found for less.
fn power(seen: &[Seen], counts: &[f64], far: f64) -> u32 {
    let factor = |seen: &Seen, power| Adapt { gap: 0.0, far, power }.factor(seen.distance);
    let shares =
        |power| seen.iter().zip(counts).map(|(seen, count)| seen.share((count * factor(seen, power)).round())).collect::<Vec<f64>>();
    let recall = mean(&shares(0)).0;
    let needed = |seen: &Seen| {
        let at = (recall * seen.ranks.len() as f64).ceil() as usize;
        Some((seen.ranks.get(at.max(1) - 1)?.saturating_add(1)).min(seen.keys.len() as u64) as f64)
    };
    let points = seen.iter().zip(counts).filter_map(|(seen, count)| Some((factor(seen, 1).ln(), (needed(seen)? / count).ln())));
    let points: Vec<(f64, f64)> = points.collect();
    let centre = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (centre(|point| point.0), centre(|point| point.1));
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>()
        / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
    // A slope that is NaN, as all queries are equally far, becomes 0.
    let most = slope.round().clamp(0.0, f64::from(MAX_POWER)) as u32;
    let balanced = |&power: &u32| {
        let shares = shares(power);
        mean(&shares[..shares.len().div_ceil(FARTHEST)]).0 >= mean(&shares).0
    };
    (0..most).find(balanced).unwrap_or(most)
}

impl Measurement<'_> {
    /// How to adapt each number of cells of the grid: the gap between the keys of the first and the last of them, in units of
    /// [`Nprobe::gap_unit`], averaged over queries, and the power of their distances.
    fn learn(&self, ivf: &Ivf, (queries, hoods): (&Queries, &[Neighbourhood]), watch: &Watch) -> Result<Vec<Adapt>> {
        let count = hoods.len().min(ADAPT_QUERIES);
        let metric = ivf.rank_metric(self.plan.metric);
        let see = |(): &mut (), i: usize| {
            let hood = &hoods[i * hoods.len() / count];
            let order = ivf.order(self.plan, queries, hood.query, &watch.silent())?;
            let mut ranks = self.ranks(ivf, &order, hood);
            ranks.sort_unstable();
            let keys: Vec<f64> = order.iter().map(|cell| cell.0).collect();
            Ok(Seen { norm: queries.norm(hood.query), distance: Nprobe::distance(metric, keys[0]), ranks, keys })
        };
        let mut seen = pool::map(self.plan.threads, count, watch, || Ok(()), see)?;
        seen.sort_by(|a, b| b.distance.total_cmp(&a.distance));
        let far = Some(seen[count / 2].distance).filter(|far| far.is_finite()).unwrap_or(0.0);
        let learn = |(): &mut (), at: usize| {
            let nprobe = self.grid[at];
            let gap = |seen: &Seen| (seen.keys[0] - seen.keys[nprobe - 1]) / Nprobe::gap_unit(metric, seen.norm);
            // Zero queries divide by zero, and a centroid's key may be NaN or infinite.
            let gap = seen.iter().map(gap).map(|gap| if gap.is_finite() { gap } else { 0.0 }).sum::<f64>() / count as f64;
            let adapt = Adapt { gap, far, power: 0 };
            let nprobe = Nprobe { nprobe, adapt: Some(adapt) };
            let visited = |seen: &Seen| nprobe.resolve(seen.keys.iter().copied(), metric, seen.norm, ivf.cells()) as f64;
            let counts: Vec<f64> = seen.iter().map(visited).collect();
            Ok(Adapt { power: power(&seen, &counts, far), ..adapt })
        };
        pool::map(self.plan.threads, self.grid.len(), watch, || Ok(()), learn)
    }

    /// For each neighbour of a query, the rank from 0 of the first cell that holds it; `u64::MAX` where none does.
    fn ranks(&self, ivf: &Ivf, order: &[(f64, u32)], hood: &Neighbourhood) -> Vec<u64> {
        // One more entry, for a cell of `u32::MAX`.
        let mut rank_of = vec![u64::MAX; ivf.cells() + 1];
        order.iter().enumerate().for_each(|(rank, cell)| rank_of[cell.1 as usize] = rank as u64);
        let rank = |cell: u32| rank_of[(cell as usize).min(ivf.cells())];
        let RowCells { first, second } = &self.row_cells;
        hood.near.iter().map(|&row| rank(first[row as usize]).min(rank(second[row as usize]))).collect()
    }

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
        let ranks = self.ranks(ivf, &order, hood);
        let (lists, mut sums) = (ivf.lists(), vec![0]);
        order.iter().for_each(|cell| sums.push(sums[sums.len() - 1] + lists.entries(cell.1 as usize).len() as u64));
        let norm = queries.norm(hood.query);
        let count = |(&nprobe, &adapt): (&usize, &Adapt)| ivf.count(Nprobe { nprobe, adapt: Some(adapt) }, self.plan.metric, norm, &order);
        let probed: Vec<usize> = self.grid.iter().zip(&self.adapts).map(count).collect();
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
            gap: measurement.adapts[at].gap,
            far: measurement.adapts[at].far,
            power: u64::from(measurement.adapts[at].power),
            reserved: 0,
        }
    };
    measurement.grid.iter().enumerate().map(point).collect()
}
