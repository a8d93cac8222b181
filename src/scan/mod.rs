//! Searching candidates: rows are visited in panels that fit a cache, jobs run in parallel, each
//! worker keeps the best k of what it saw, and the workers' best are merged.
//!
//! Five ways give the same bits: [`plain`] computes every key in float64, [`tile`] lets a float32
//! product with a proven error band say which keys are worth computing, [`certified`] (a query at a time)
//! and [`int8_batch`] (batches) let codes say it, so that few rows are read at all, and [`bytes`] lets the rows
//! themselves, where they are bytes.

mod batch;
mod float32;
mod float32_error;
mod float64;
mod int8;
pub mod lists;
mod panel;
mod query;
mod refine;
mod single;
pub(crate) mod threshold;

pub use query::Queries;
pub use single::FULL_BOUND_COST;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::quantize::Quantizer;
use crate::store::rows::{PanelBuffer, Rows, Values};
use crate::topk::TopK;
use panel::Panels;
use std::ops::Range;

/// Below this a second thread costs more than it brings: waking one takes as long as reading
/// some hundreds of kilobytes.
pub const BYTES_WORTH_A_THREAD: u64 = 1 << 20;
/// Bytes of stored rows in one job of the plain scan: long enough for the prefetcher, short
/// enough to share out and to interrupt.
const JOB_BYTES: usize = 2 << 20;
/// From this many queries on, a tile beats one float64 pass a query over the cached panel.
const TILE_FROM: usize = 3;

/// Up to this many queries, whole numbers beat a tile over decoded bytes.
const BYTES_UP_TO: usize = 6;

/// From this many queries on, a sieve over joined codes, or of few rows tiles, beat one pass over the
/// lines a query.
const BATCH_FROM: usize = 8;
/// Batches are sieved when there are at least this many rows for each dim: turning a query to the axes
/// of codes takes dims products of float64 a dim.
const BATCH_ROWS: usize = 64;
/// Codes are streamed when a filter allows at least one row in this many.
pub const SPARSE: u64 = 20;
/// Or when runs of allowed rows are so long, and there are so many rows for each dim.
pub const LONG_RUN: usize = 64;
/// Codes are streamed when at most one allowed row in this many is kept.
const KEPT: u64 = 16;

/// Some rows of one segment, by their numbers in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which of the segments.
    pub segment: usize,
    /// Which of its rows.
    pub rows: Range<usize>,
}

impl Run {
    /// All rows.
    pub fn all(segments: &[Rows]) -> Vec<Run> {
        segments.iter().enumerate().map(|(segment, rows)| Run { segment, rows: 0..rows.len() }).collect()
    }

    /// Runs of ascending row numbers; no run crosses a segment. `sizes` holds the rows of each.
    pub fn of(sizes: &[usize], rows: impl Iterator<Item = usize>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut segment, mut first) = (0, 0);
        for row in rows {
            while row - first >= sizes[segment] {
                first += sizes[segment];
                segment += 1;
            }
            let row = row - first;
            match runs.last_mut() {
                Some(run) if run.segment == segment && run.rows.end == row => run.rows.end += 1,
                _ => runs.push(Run { segment, rows: row..row + 1 }),
            }
        }
        runs
    }

    /// What of runs of one segment lies in `span`.
    fn within<'a>(runs: &'a [Run], span: &'a Range<usize>) -> impl Iterator<Item = Run> + 'a {
        let first = runs.partition_point(|run| run.rows.end <= span.start);
        let inside = runs[first..].iter().take_while(|run| run.rows.start < span.end);
        inside.map(|run| Run { segment: run.segment, rows: run.rows.start.max(span.start)..run.rows.end.min(span.end) })
    }
}

/// How rows are scored: three ways to the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The fastest.
    Auto,
    /// Every row in full, with the vector kernels.
    Simd,
    /// Every row in full, with plain loops.
    Scalar,
}

impl Method {
    /// The method of a user's word.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Method::Auto),
            "simd" => Ok(Method::Simd),
            "scalar" => Ok(Method::Scalar),
            _ => Err(Error::input("method", "one of auto, simd, scalar", format!("{name:?}"))),
        }
    }
}

/// What a scan is told besides where to look.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// How vectors are compared.
    pub metric: Metric,
    /// How many rows to keep for each query.
    pub k: usize,
    /// The functions that compute.
    pub kernel: &'static Kernel,
    /// What may save it from computing every row.
    pub method: Method,
    /// Workers at most.
    pub threads: usize,
    /// What made the segments' codes, if they have any.
    pub quantizer: Option<&'a Quantizer>,
    /// Whether all rows are known to have been within 2e-3 of unit length when they came.
    pub unit: bool,
    /// Keys below this are not wanted.
    pub threshold: f64,
}

/// How the rows of a search are gone through.
enum Strategy<'a> {
    Plain,
    Tiles(float32::Tiles),
    SingleScan(single::SingleScan<'a>),
    BatchScan(batch::BatchScan<'a>),
    Bytes(int8::Int8Queries),
}

/// The best rows of every query among the rows of `runs`, which are disjoint and in order.
pub fn search(plan: &Plan, segments: &[Rows], runs: &[Run], queries: &Queries, watch: &Watch) -> Result<Vec<TopK>> {
    let allowed: u64 = runs.iter().map(|run| run.rows.len() as u64).sum();
    let row_bytes = segments.iter().map(Rows::row_bytes).max().unwrap_or(1);
    let way = choose(plan, segments, runs.len(), allowed, queries, watch)?;
    let in_place = queries.len() == 1 && segments.iter().all(|segment| segment.in_place(0..0).is_some());
    let panel_rows = panel::rows_for(matches!(way, Strategy::Tiles(_) | Strategy::BatchScan(_)), in_place, queries.dims());
    let work = allowed * row_bytes as u64 * queries.len() as u64;
    let threads = plan.threads.min((work / BYTES_WORTH_A_THREAD + 1) as usize);
    let job_rows = match &way {
        Strategy::Plain | Strategy::Bytes(_) => (JOB_BYTES / row_bytes).max(panel_rows),
        Strategy::Tiles(_) => 4 * panel_rows,
        Strategy::SingleScan(query_codes) => query_codes.job_rows(allowed, threads),
        Strategy::BatchScan(batch) => batch.job_rows(allowed, threads),
    };
    let jobs = share(runs, job_rows);
    let start = || Worker::new(plan, queries, panel_rows, allowed);
    let workers = pool::run(threads, jobs.len(), watch, start, |worker, job| {
        let Worker { panels, best, tile, doubt, sifted, buffer } = worker;
        match &way {
            Strategy::SingleScan(query_codes) => {
                return single::visit(plan, segments, &jobs[job], queries, query_codes, (panels, best, tile, doubt), watch);
            }
            Strategy::Bytes(asked) => return int8::visit(plan, segments, &jobs[job], queries, asked, (best, buffer), watch),
            Strategy::BatchScan(batch) => {
                return batch::visit(plan, segments, &jobs[job], queries, batch, (panels, best, tile, sifted), watch);
            }
            _ => {}
        }
        panels.visit(plan.kernel, segments, &jobs[job], &mut |panel| {
            watch.check()?;
            match &way {
                Strategy::Tiles(tiles) => tile.visit(plan, queries, tiles, panel, best, watch)?,
                _ => float64::visit(plan, queries, panel, best),
            }
            Ok(())
        })
    })?;
    merge(workers.into_iter().map(|worker| worker.best))
}

fn choose<'a>(plan: &Plan<'a>, segments: &[Rows], runs: usize, allowed: u64, queries: &'a Queries, watch: &Watch) -> Result<Strategy<'a>> {
    let rows: u64 = segments.iter().map(|segment| segment.len() as u64).sum();
    let auto = plan.method == Method::Auto;
    let coded = auto && segments.iter().all(|segment| segment.codes.is_some());
    // A sparse filter reads its rows in full; so does a search that keeps a good part of them.
    let (dense, few) = (allowed >= rows / SPARSE, plan.k as u64 <= allowed / KEPT);
    // But of long runs codes are streamed too, if they are worth turning a query to the axes.
    let long_runs = allowed >= (LONG_RUN * runs).max(LONG_RUN * queries.dims()) as u64;
    let selective = few && (dense || long_runs && queries.len() < BATCH_FROM);
    let wide = segments.iter().any(|segment| matches!(segment.values, Values::F64(_)));
    let long = allowed >= (BATCH_ROWS * queries.dims()) as u64;
    Ok(match plan.quantizer {
        Some(quantizer) if coded && selective && long && queries.len() >= BATCH_FROM => {
            Strategy::BatchScan(batch::BatchScan::new(plan, quantizer, queries, watch)?)
        }
        Some(quantizer) if coded && selective && (wide || queries.len() < BATCH_FROM) => {
            Strategy::SingleScan(single::SingleScan::new(plan, quantizer, queries, watch)?)
        }
        None if auto && queries.len() <= BYTES_UP_TO && segments.iter().all(|s| matches!(s.values, Values::F8 { .. })) => {
            Strategy::Bytes(int8::Int8Queries::new(queries))
        }
        _ if plan.method != Method::Scalar && !wide && queries.len() >= TILE_FROM => {
            Strategy::Tiles(float32::Tiles::new(queries, &(0..queries.len()).collect::<Vec<_>>()))
        }
        _ => Strategy::Plain,
    })
}

/// What one worker owns.
struct Worker {
    panels: Panels,
    best: Vec<TopK>,
    tile: float32::Scratch,
    doubt: single::Scratch,
    sifted: (batch::UnpackedPanel, batch::Scratch),
    buffer: PanelBuffer,
}

impl Worker {
    fn new(plan: &Plan, queries: &Queries, panel_rows: usize, allowed: u64) -> Result<Self> {
        let top = |_| {
            let mut top = TopK::new(plan.k, allowed)?;
            top.raise(plan.threshold);
            Ok(top)
        };
        let best = (0..queries.len()).map(top).collect::<Result<_>>()?;
        Ok(Worker {
            panels: Panels::new(panel_rows),
            best,
            tile: float32::Scratch::default(),
            doubt: single::Scratch::default(),
            sifted: <(batch::UnpackedPanel, batch::Scratch)>::default(),
            buffer: PanelBuffer::default(),
        })
    }
}

/// Cuts runs into jobs of about `rows` rows; short runs share a job, long ones fill several.
fn share(runs: &[Run], rows: usize) -> Vec<Vec<Run>> {
    let mut jobs: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut at = run.rows.start;
        while at < run.rows.end {
            if room == 0 {
                jobs.push(Vec::new());
                room = rows;
            }
            let end = run.rows.end.min(at + room);
            if let Some(job) = jobs.last_mut() {
                job.push(Run { segment: run.segment, rows: at..end });
            }
            room -= end - at;
            at = end;
        }
    }
    jobs
}

/// The best of what all workers kept, query by query.
fn merge(workers: impl Iterator<Item = Vec<TopK>>) -> Result<Vec<TopK>> {
    let mut merged: Vec<TopK> = Vec::new();
    for best in workers {
        if merged.is_empty() {
            merged = best;
        } else {
            merged.iter_mut().zip(best).for_each(|(all, some)| all.merge(some));
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_hold_every_row_once_in_order() {
        let run = |segment, rows| Run { segment, rows };
        let runs = [run(0, 0..1), run(0, 5..6), run(0, 7..30), run(1, 0..3)];
        let jobs = share(&runs, 10);
        assert!(jobs.iter().all(|job| job.iter().map(|run| run.rows.len()).sum::<usize>() <= 10));
        let rows = |runs: &[Run]| runs.iter().flat_map(|run| run.rows.clone().map(|row| (run.segment, row))).collect::<Vec<_>>();
        assert_eq!(rows(&jobs.concat()), rows(&runs));
    }
}
