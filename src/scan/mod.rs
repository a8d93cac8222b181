//! Exact search over candidate rows: jobs run in parallel, each worker keeps its best k for every query, and
//! the workers' best are merged.
//!
//! Batches with a large k begin with thresholds that a sample of the rows suggests (`sample.rs`).
//!
//! Six strategies give the same bits; `Strategy::choose` picks one for a search:
//!
//! | strategy | which rows are read in full, and scored in float64 |
//! |---|---|
//! | `few_dims.rs`, `float64.rs` | all, one query at a time; scored: of rows of few dims those that float32 keys do not exclude, else all |
//! | `float32.rs` | all, by a float32 product with up to 32 queries; scored: those within its error band |
//! | `bits.rs` | level b1: all of them; counted instead |
//! | `int8.rs` | level f8: all, by an int8 product; scored: those whose upper bound reaches the threshold |
//! | `single.rs` | those whose upper bound from codes reaches the threshold, one query at a time |
//! | `batch.rs` | the same for up to 16 queries at a time |
//!
//! `lists.rs` is the counterpart of `single.rs` for the inverted lists of some cells.

mod batch;
mod bits;
mod few_dims;
mod float32;
mod float32_error;
mod float64;
mod int8;
pub mod lists;
mod panel;
mod query;
mod refine;
mod sample;
mod single;
pub(crate) mod threshold;

pub use query::Queries;
pub use single::FULL_BOUND_COST;

use crate::error::{Error, Result, collected, filled, push, room};
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::pool::{self, Watch};
use crate::quantize::Quantizer;
use crate::store::rows::{PanelBuffer, Rows, Values};
use crate::topk::TopK;
use panel::Panels;
use query::Query;
use std::ops::Range;
use std::sync::Mutex;

/// Bytes of rows from which a second thread pays: waking one takes as long as reading some hundreds of kilobytes.
pub const BYTES_WORTH_A_THREAD: u64 = 1 << 20;
/// Bytes of a job that reads all rows: long enough for hardware prefetching, short enough to balance and interrupt.
const JOB_BYTES: usize = 2 << 20;
/// Queries from which a float32 tile is faster than one float64 pass a query over the cached panel.
const FLOAT32_MIN_QUERIES: usize = 3;
/// Queries up to which int8 products are faster than a float32 tile over decoded rows of level f8.
const INT8_MAX_QUERIES: usize = 6;
/// Queries from which the batch scan is faster than one pass over the codes a query.
const BATCH_MIN_QUERIES: usize = 8;
/// Rows for each dim from which the batch scan pays: encoding a query takes dims^2 float64 products.
const BATCH_MIN_ROWS: usize = 64;
/// Codes are scanned when a filter allows at least one row in this many.
pub const SPARSE: u64 = 20;
/// Codes are also scanned when runs of allowed rows have this length on average, and there are as many rows for each dim.
pub const LONG_RUN: usize = 64;
/// Codes are scanned when k is at most one in this many of the allowed rows.
const ROWS_PER_HIT: u64 = 16;
/// Batches of float32 rows scan codes when k is at most one in this many of the allowed rows, or at most
/// `SMALL_BATCH_K`: with more hits, the rows that each query reads take longer than float32 tiles over all rows.
const ROWS_PER_BATCH_HIT: u64 = 512;
const SMALL_BATCH_K: u64 = 32;

/// Kept rows from which sorting them on a second thread pays.
const ENTRIES_WORTH_A_THREAD: usize = 10_000;

/// Consecutive rows of one segment, by their numbers in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The segment's position among all segments.
    pub segment: usize,
    /// Row numbers within the segment.
    pub rows: Range<usize>,
}

impl Run {
    /// The runs that hold all rows that have not been deleted: one a segment, if none has.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn all(segments: &[Rows]) -> Result<Vec<Run>> {
        let live = segments.iter().enumerate().flat_map(|(segment, rows)| rows.live_runs().map(move |rows| Run { segment, rows }));
        collected(live, "the rows to search")
    }

    /// The runs of ascending row numbers of the whole index, each in one segment; `sizes` holds the segments' rows.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn of(sizes: &[usize], rows: impl Iterator<Item = usize>) -> Result<Vec<Run>> {
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
                _ => push(&mut runs, Run { segment, rows: row..row + 1 }, "the runs of a filter")?,
            }
        }
        Ok(runs)
    }

    /// The parts within `span` of runs of one segment.
    fn within<'a>(runs: &'a [Run], span: &'a Range<usize>) -> impl Iterator<Item = Run> + 'a {
        let first = runs.partition_point(|run| run.rows.end <= span.start);
        let inside = runs[first..].iter().take_while(|run| run.rows.start < span.end);
        inside.map(|run| Run { segment: run.segment, rows: run.rows.start.max(span.start)..run.rows.end.min(span.end) })
    }
}

/// How rows are scored; every method gives the same bits.
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
    /// The method named `auto`, `simd` or `scalar`; [`Error::Input`] for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Method::Auto),
            "simd" => Ok(Method::Simd),
            "scalar" => Ok(Method::Scalar),
            _ => Err(Error::input("method", "one of auto, simd, scalar", format!("{name:?}"))),
        }
    }
}

/// The parameters of a scan, whatever its rows and queries.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// How vectors are compared.
    pub metric: Metric,
    /// How many rows to keep for each query.
    pub k: usize,
    /// The CPU's functions, or the scalar ones.
    pub kernel: &'static Kernel,
    /// Which strategies are allowed.
    pub method: Method,
    /// Threads at most.
    pub threads: usize,
    /// The quantizer of the segments' codes, if they have codes.
    pub quantizer: Option<&'a Quantizer>,
    /// Whether every row was within 2e-3 of unit length when the index was built.
    pub unit: bool,
    /// Rows with keys below this are not wanted.
    pub threshold: f64,
}

/// A part of a search that one worker does at a time.
#[derive(Clone, Copy)]
struct Job<'a> {
    plan: &'a Plan<'a>,
    segments: &'a [Rows<'a>],
    queries: &'a Queries,
    /// The rows to search: disjoint runs in order.
    runs: &'a [Run],
    watch: &'a Watch<'a>,
}

impl<'a> Job<'a> {
    fn query(&self, index: usize) -> Query<'a> {
        Query { plan: self.plan, queries: self.queries, index }
    }

    fn has_float64_rows(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment.values, Values::F64(_)))
    }
}

/// The best `plan.k` rows of every query among the rows of `runs`, which are disjoint and in order.
///
/// # Errors
/// [`Error::Memory`]; [`Error::Interrupted`].
pub fn search(plan: &Plan, segments: &[Rows], runs: &[Run], queries: &Queries, watch: &Watch) -> Result<Vec<TopK>> {
    let coded = |run: &&Run| segments[run.segment].codes.is_some();
    let count = runs.iter().filter(coded).count();
    if plan.method != Method::Auto || plan.quantizer.is_none() || count == 0 || count == runs.len() {
        return search_alike(&Job { plan, segments, queries, runs, watch });
    }
    // Rows added since the last compaction have no codes, and their runs follow those of the others.
    let parts = [true, false].map(|part| collected(runs.iter().filter(|run| coded(run) == part).cloned(), "the rows to search"));
    let [coded, added] = parts;
    let (coded, added) = (coded?, added?);
    let best = search_alike(&Job { plan, segments, queries, runs: &coded, watch })?;
    let reached = |top: &TopK| if top.held() == plan.k { top.threshold() } else { plan.threshold };
    let thresholds: Vec<f64> = best.iter().map(reached).collect();
    let plain = Plan { quantizer: None, ..*plan };
    let job = Job { plan: &plain, segments, queries, runs: &added, watch };
    let allowed = added.iter().map(|run| run.rows.len() as u64).sum();
    let more = scan(&job, allowed, &Strategy::choose(&job, allowed)?, &thresholds)?;
    let all = runs.iter().map(|run| run.rows.len() as u64).sum();
    best.into_iter().zip(more).map(|(first, second)| TopK::union(plan.k, all, first, second)).collect()
}

/// The best rows of runs of which all have codes, or none is to use them.
fn search_alike(whole: &Job) -> Result<Vec<TopK>> {
    let allowed: u64 = whole.runs.iter().map(|run| run.rows.len() as u64).sum();
    let strategy = Strategy::choose(whole, allowed)?;
    let thresholds = match strategy {
        Strategy::Float32(_) | Strategy::Batch(_) => sample::thresholds(whole, allowed)?,
        _ => filled(whole.queries.len(), whole.plan.threshold, "the thresholds")?,
    };
    from_thresholds(whole, allowed, &strategy, &thresholds)
}

/// The best rows by one strategy, from `thresholds` that may be too high: a query that finds fewer than k rows is
/// searched again without one.
fn from_thresholds(whole: &Job, allowed: u64, strategy: &Strategy, thresholds: &[f64]) -> Result<Vec<TopK>> {
    let mut best = scan(whole, allowed, strategy, thresholds)?;
    let wanted = (whole.plan.k as u64).min(allowed);
    let too_few = |&i: &usize| thresholds[i] > whole.plan.threshold && (best[i].held() as u64) < wanted;
    let again = collected((0..best.len()).filter(too_few), "queries to search again")?;
    if !again.is_empty() {
        let queries = whole.queries.some(&again)?;
        let job = Job { queries: &queries, ..*whole };
        let thresholds = filled(again.len(), whole.plan.threshold, "the thresholds")?;
        let found = scan(&job, allowed, &Strategy::choose(&job, allowed)?, &thresholds)?;
        again.into_iter().zip(found).for_each(|(i, top)| best[i] = top);
    }
    Ok(best)
}

/// The best rows by one strategy, sorted; `thresholds` holds a key for each query, below which no row is wanted.
fn scan(whole: &Job, allowed: u64, strategy: &Strategy, thresholds: &[f64]) -> Result<Vec<TopK>> {
    let Job { plan, segments, queries, runs, watch } = *whole;
    let row_bytes = segments.iter().map(Rows::row_bytes).max().unwrap_or(1);
    let in_place = queries.len() == 1 && segments.iter().all(|segment| segment.in_place(0..0).is_some());
    let panel_rows = panel::rows_for(matches!(strategy, Strategy::Float32(_) | Strategy::Batch(_)), in_place, queries.dims());
    let work = allowed * row_bytes as u64 * queries.len() as u64;
    let threads = plan.threads.min((work / BYTES_WORTH_A_THREAD + 1) as usize);
    let job_rows = match &strategy {
        Strategy::Float64 | Strategy::Bits | Strategy::Int8(_) => (JOB_BYTES / row_bytes).max(panel_rows),
        Strategy::Float32(_) => 4 * panel_rows,
        Strategy::Single(scan) => scan.job_rows(allowed, threads),
        Strategy::Batch(scan) => scan.job_rows(allowed, threads),
    };
    let jobs = share(runs, job_rows)?;
    let every = collected(0..queries.len(), "the queries")?;
    let start = || Worker::new(plan, thresholds, panel_rows, allowed);
    let workers = pool::run(threads, jobs.len(), watch, start, |worker, job| {
        let job = &Job { runs: &jobs[job], ..*whole };
        watch.advance((job.runs.iter().map(|run| run.rows.len()).sum::<usize>() * queries.len()) as u64);
        match &strategy {
            Strategy::Float64 => refine::all(job, &every, None, worker),
            Strategy::Float32(tiles) => refine::all(job, &every, Some(tiles), worker),
            Strategy::Bits => bits::visit(job, worker),
            Strategy::Int8(queries) => int8::visit(job, queries, worker),
            Strategy::Single(scan) => single::visit(job, scan, worker),
            Strategy::Batch(scan) => batch::visit(job, scan, worker),
        }
    })?;
    merge(workers.into_iter().map(|worker| worker.best).collect(), threads, watch)
}

/// How the rows of a search are scored.
enum Strategy<'a> {
    Bits,
    Float64,
    Float32(float32::Tiles),
    Int8(Vec<Option<int8::Int8Query>>),
    Single(single::SingleScan<'a>),
    Batch(batch::BatchScan<'a>),
}

impl<'a> Strategy<'a> {
    /// The fastest strategy that the method and the segments allow; `allowed` counts the rows of all runs.
    fn choose(job: &Job<'a>, allowed: u64) -> Result<Self> {
        let Job { plan, segments, queries, runs, .. } = *job;
        let rows: u64 = segments.iter().map(|segment| segment.len() as u64).sum();
        let auto = plan.method == Method::Auto;
        let coded = auto && runs.iter().all(|run| segments[run.segment].codes.is_some());
        let (dense, small_k) = (allowed >= rows / SPARSE, plan.k as u64 <= allowed / ROWS_PER_HIT);
        let long_runs = allowed >= (LONG_RUN * runs.len()).max(LONG_RUN * queries.dims()) as u64;
        let selective = small_k && (dense || long_runs && queries.len() < BATCH_MIN_QUERIES);
        let float64_rows = job.has_float64_rows();
        let few_hits = float64_rows || plan.k as u64 <= (allowed / ROWS_PER_BATCH_HIT).max(SMALL_BATCH_K);
        let large = allowed >= (BATCH_MIN_ROWS * queries.dims()) as u64;
        if segments.iter().any(|segment| matches!(segment.values, Values::B1(_))) {
            return Ok(Strategy::Bits);
        }
        Ok(match plan.quantizer {
            Some(quantizer) if coded && selective && large && few_hits && queries.len() >= BATCH_MIN_QUERIES => {
                Strategy::Batch(batch::BatchScan::new(job, quantizer)?)
            }
            Some(quantizer) if coded && selective && (float64_rows || queries.len() < BATCH_MIN_QUERIES) => {
                Strategy::Single(single::SingleScan::new(job, quantizer)?)
            }
            None if auto && queries.len() <= INT8_MAX_QUERIES && segments.iter().all(|s| matches!(s.values, Values::F8 { .. })) => {
                Strategy::Int8(int8::quantize(queries))
            }
            _ if plan.method != Method::Scalar && !float64_rows && queries.len() >= FLOAT32_MIN_QUERIES => {
                Strategy::Float32(float32::Tiles::new(queries, &collected(0..queries.len(), "the queries")?)?)
            }
            _ => Strategy::Float64,
        })
    }
}

/// The buffers of one worker, and the best rows that it has found.
struct Worker {
    /// One for each query.
    best: Vec<TopK>,
    panels: Panels,
    buffer: PanelBuffer,
    bits: bits::Scratch,
    float32: float32::Scratch,
    single: single::Scratch,
    batch: batch::Scratch,
    unpacked: batch::UnpackedPanel,
}

impl Worker {
    fn new(plan: &Plan, thresholds: &[f64], panel_rows: usize, allowed: u64) -> Result<Self> {
        let top = |&threshold: &f64| {
            let mut top = TopK::new(plan.k, allowed)?;
            top.raise(threshold);
            Ok(top)
        };
        let mut best = room(thresholds.len(), "the best rows")?;
        for threshold in thresholds {
            best.push(top(threshold)?);
        }
        let (buffer, bits, float32, single, batch, unpacked) = Default::default();
        Ok(Worker { best, panels: Panels::new(panel_rows), buffer, bits, float32, single, batch, unpacked })
    }
}

/// Cuts runs into jobs of about `rows` rows; short runs share a job, long ones fill several.
fn share(runs: &[Run], rows: usize) -> Result<Vec<Vec<Run>>> {
    let mut jobs: Vec<Vec<Run>> = Vec::new();
    let mut left = 0;
    for run in runs {
        let mut at = run.rows.start;
        while at < run.rows.end {
            if left == 0 {
                push(&mut jobs, Vec::new(), "the runs of a filter")?;
                left = rows;
            }
            let end = run.rows.end.min(at + left);
            if let Some(job) = jobs.last_mut() {
                push(job, Run { segment: run.segment, rows: at..end }, "the runs of a filter")?;
            }
            left -= end - at;
            at = end;
        }
    }
    Ok(jobs)
}

/// The best of all workers' best, sorted; queries are shared among `threads` where they have many rows.
fn merge(workers: Vec<Vec<TopK>>, threads: usize, watch: &Watch) -> Result<Vec<TopK>> {
    let held: usize = workers.iter().flatten().map(TopK::held).sum();
    let mut queries: Vec<Vec<TopK>> = collected(workers.first().into_iter().flatten().map(|_| Vec::new()), "the best rows")?;
    workers.into_iter().for_each(|best| best.into_iter().zip(&mut queries).for_each(|(top, parts)| parts.push(top)));
    let queries = collected(queries.into_iter().map(Mutex::new), "the best rows")?;
    let merged = |(): &mut (), query: usize| {
        let parts = std::mem::take(&mut *queries[query].lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let mut merged = parts.into_iter().reduce(|mut merged, top| {
            merged.merge(top);
            merged
        });
        merged.iter_mut().for_each(TopK::sort);
        Ok(merged)
    };
    let merged = pool::map(threads.min(held / ENTRIES_WORTH_A_THREAD + 1), queries.len(), watch, || Ok(()), merged)?;
    collected(merged.into_iter().flatten(), "the best rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_that_are_too_high_change_no_answer() {
        let mut random = crate::random::Random::new(1);
        let values: Vec<f32> = (0..3000).map(|_| random.signed() as f32).collect();
        let mut norms = vec![0.0; 1000];
        let kernel = crate::kernel::selected().unwrap();
        (kernel.squared_norm)(&values, 3, &mut norms);
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        let stored = Values::F32(&values);
        let rows = Rows {
            dims: 3,
            first: 0,
            values: stored,
            scattered: stored,
            norms: &norms,
            in_memory: true,
            codes: None,
            deleted: &crate::store::deleted::NONE,
        };
        let queries = Queries::new(kernel, crate::level::Level::F32, crate::input::Block::F32(&values[..15]), 3, 0).unwrap();
        let plan = Plan {
            metric: Metric::Dot,
            k: 300,
            kernel,
            method: Method::Auto,
            threads: 2,
            quantizer: None,
            unit: false,
            threshold: f64::NEG_INFINITY,
        };
        let (runs, watch) = (Run::all(&[rows]).unwrap(), Watch::new(&|| true));
        let job = Job { plan: &plan, segments: &[rows], queries: &queries, runs: &runs, watch: &watch };
        let found = |thresholds: &[f64; 5]| {
            let best = from_thresholds(&job, 1000, &Strategy::choose(&job, 1000).unwrap(), thresholds).unwrap();
            best.into_iter().map(TopK::into_sorted).collect::<Vec<_>>()
        };
        let whole = found(&[f64::NEG_INFINITY; 5]);
        let kth = [0, 1, 2, 3, 4].map(|i: usize| whole[i][299].key);
        assert_eq!(found(&kth), whole);
        assert_eq!(found(&[kth[0].next_up(), kth[1], 9.0, f64::NEG_INFINITY, whole[4][0].key]), whole);
    }

    #[test]
    fn jobs_hold_every_row_once_in_order() {
        let run = |segment, rows| Run { segment, rows };
        let runs = [run(0, 0..1), run(0, 5..6), run(0, 7..30), run(1, 0..3)];
        let jobs = share(&runs, 10).unwrap();
        assert!(jobs.iter().all(|job| job.iter().map(|run| run.rows.len()).sum::<usize>() <= 10));
        let rows = |runs: &[Run]| runs.iter().flat_map(|run| run.rows.clone().map(|row| (run.segment, row))).collect::<Vec<_>>();
        assert_eq!(rows(&jobs.concat()), rows(&runs));
    }
}
