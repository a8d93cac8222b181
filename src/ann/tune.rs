//! How many cells a query must visit for a recall that is asked for: measured, never assumed.
//!
//! Sampled queries are answered exactly; where in a query's order of cells the first cell comes that holds a
//! neighbour says how many must be visited to find it. One pass so gives the recall of every number of
//! cells. Where the sample is rows of the index, no row trained a centroid and none counts as its own
//! neighbour, so that they stand for queries that are like rows and yet unseen.

use super::ivf::Ivf;
use crate::error::{Error, Result};
use crate::format::{TuningPoint, TuningRecord};
use crate::pool::{self, Watch};
use crate::random::Random;
use crate::scan::{self, Plan, Queries, Run};
use crate::store::lists::NO_ROW;
use crate::store::rows::Rows;
use std::sync::Mutex;

/// Neighbours for which recall is measured, and how many queries at most ask for so many.
const LADDER: [(usize, usize); 4] = [(1, usize::MAX), (10, usize::MAX), (100, 256), (1000, 64)];
/// Queries of a sample of rows.
const SAMPLE: usize = 1000;
/// Of a table with fewer rows than this many times [`SAMPLE`], a part is taken.
const SHARE: usize = 8;
/// From one number of cells measured to the next.
const RATIO: f64 = 1.15;

/// Rows to tune on, and others to measure recall on; each in order.
pub fn samples(rows: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut random = Random::new(seed ^ 0x7475_6e65);
    let count = SAMPLE.min(rows.div_ceil(SHARE));
    let drawn = super::seeding::draw(&mut random, rows, 2 * count);
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
    let plan = Plan { k: k + usize::from(sample.own.is_some()), floor: f64::NEG_INFINITY, ..*plan };
    let runs: Vec<Run> = segments.iter().enumerate().map(|(segment, rows)| Run { segment, rows: 0..rows.len() }).collect();
    let found = scan::search(&plan, segments, &runs, sample.queries, watch)?;
    let without = |(i, top): (usize, crate::topk::TopK)| {
        let own = sample.own.map(|own| own[i] as u64);
        let mut rows: Vec<u64> = top.into_sorted().iter().map(|entry| entry.row).filter(|&row| Some(row) != own).collect();
        rows.truncate(k);
        rows
    };
    Ok(found.into_iter().enumerate().map(without).collect())
}

/// Measures how recall grows with the number of cells visited, for several numbers of neighbours.
///
/// # Errors
/// No queries; no memory; [`Error::Interrupted`].
pub fn measure(ivf: &Ivf, sample: Sample, recall: f64, plan: &Plan, segments: &[Rows], watch: &Watch) -> Result<TuningRecord> {
    let rows: usize = segments.iter().map(Rows::len).sum();
    let count = sample.queries.len();
    if count == 0 {
        return Err(Error::input("queries", "one query or more", "none"));
    }
    let home = Home::new(ivf, rows);
    let mut points = Vec::new();
    let most = rows - usize::from(sample.own.is_some());
    let asked: Vec<(usize, usize)> =
        LADDER.iter().map(|&(k, queries)| (k, queries.min(count))).filter(|&(k, _)| k <= most.max(1)).collect();
    for same in asked.chunk_by(|a, b| a.1 == b.1) {
        let (widest, queries) = same[same.len() - 1];
        let ranks = reached(ivf, &home, sample, 0..queries, widest, plan, segments, watch)?;
        same.iter().for_each(|&(k, _)| points.extend(curve(ivf.cells(), k, &ranks)));
    }
    Ok(TuningRecord { recall, queries: count, given: sample.own.is_none(), points })
}

/// For one query: at which place of its order of cells each neighbour is reached, and how many rows are listed up
/// to each place that is measured.
struct Reached {
    places: Vec<u32>,
    visited: Vec<u64>,
}

/// The cells of every row.
struct Home {
    first: Vec<u32>,
    second: Vec<u32>,
}

impl Home {
    fn new(ivf: &Ivf, rows: usize) -> Self {
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

/// Numbers of cells that are measured.
fn grid(cells: usize) -> Vec<usize> {
    let mut grid = vec![1];
    while grid[grid.len() - 1] < cells {
        let last = grid[grid.len() - 1];
        grid.push(((last as f64 * RATIO) as usize).max(last + 1).min(cells));
    }
    grid
}

#[expect(clippy::too_many_arguments, reason = "all of what is measured")]
fn reached(
    ivf: &Ivf,
    home: &Home,
    sample: Sample,
    range: std::ops::Range<usize>,
    k: usize,
    plan: &Plan,
    segments: &[Rows],
    watch: &Watch,
) -> Result<Vec<Reached>> {
    let queries = sample.queries.some(range.clone());
    let own = sample.own.map(|own| &own[range]);
    let near = neighbours(Sample { queries: &queries, own }, k, plan, segments, watch)?;

    let narrow = queries.narrow(plan.kernel);
    let ranking = narrow.as_ref().unwrap_or(&queries);
    let (grid, lists) = (grid(ivf.cells()), ivf.lists());
    let out: Vec<Mutex<Option<Reached>>> = near.iter().map(|_| Mutex::new(None)).collect();
    let work = |place: &mut Vec<u32>, query: usize| {
        let order = ivf.ranks(&Plan { threads: 1, ..*plan }, &ranking.only(query), ivf.cells(), watch)?.swap_remove(0);
        place.clear();
        place.resize(ivf.cells() + 1, u32::MAX);
        order.iter().enumerate().for_each(|(at, &(_, cell))| place[cell as usize] = at as u32);
        let at = |cell: u32| place[(cell as usize).min(ivf.cells())];
        let places = near[query].iter().map(|&row| at(home.first[row as usize]).min(at(home.second[row as usize]))).collect();
        let mut visited = Vec::with_capacity(grid.len());
        let (mut sum, mut next) = (0u64, 0);
        for (i, &(_, cell)) in order.iter().enumerate() {
            sum += lists.places(cell as usize).len() as u64;
            if grid.get(next) == Some(&(i + 1)) {
                visited.push(sum);
                next += 1;
            }
        }
        *out[query].lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Reached { places, visited });
        Ok(())
    };
    pool::run(plan.threads, near.len(), watch, || Ok(Vec::new()), work)?;

    Ok(out.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).collect())
}

/// Recall by number of cells, for `k` neighbours.
fn curve(cells: usize, k: usize, reached: &[Reached]) -> Vec<TuningPoint> {
    let count = reached.len() as f64;
    let point = |(at, &probes): (usize, &usize)| {
        let share = |one: &Reached| {
            let places = &one.places[..k.min(one.places.len())];
            if places.is_empty() {
                1.0
            } else {
                places.iter().filter(|&&place| (place as usize) < probes).count() as f64 / places.len() as f64
            }
        };
        let recall = reached.iter().map(share).sum::<f64>() / count;
        let spread = reached.iter().map(|one| (share(one) - recall).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let visited = reached.iter().map(|one| one.visited.get(at).copied().unwrap_or(0) as f64).sum::<f64>() / count;
        TuningPoint {
            k: k as u32,
            probes: probes as u32,
            recall: recall.clamp(0.0, 1.0),
            error: (spread / count).sqrt().min(1.0),
            visited,
            reserved: [0; 4],
        }
    };
    grid(cells).iter().enumerate().map(point).collect()
}

/// How many cells to visit, and the rows listed in them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Cells.
    pub probes: usize,
    /// Rows, on average, with repetitions.
    pub visited: f64,
}

/// The least effort whose recall was at least `recall` by a standard error, for `k` neighbours: between those
/// measured, as a power of k.
pub fn effort(tuning: &TuningRecord, recall: f64, k: f64) -> Effort {
    let curves: Vec<(f64, Effort)> =
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
    Effort {
        probes: (between(low.1.probes as f64, high.1.probes as f64).ceil() as usize).min(most),
        visited: between(low.1.visited.max(1.0), high.1.visited.max(1.0)),
    }
}

/// The least effort of one curve.
fn least(curve: &[TuningPoint], recall: f64) -> Effort {
    let sure = |point: &TuningPoint| point.recall - point.error >= recall;
    let at = curve.iter().position(sure).unwrap_or(curve.len() - 1);
    let (high, low) = (&curve[at], &curve[at.saturating_sub(1)]);
    let (from, to) = (low.recall - low.error, high.recall - high.error);
    let part = if to > from && from < recall { ((recall - from) / (to - from)).min(1.0) } else { 1.0 };
    let between = |low: f64, high: f64| low + part * (high - low);
    Effort { probes: between(f64::from(low.probes), f64::from(high.probes)).ceil() as usize, visited: between(low.visited, high.visited) }
}
