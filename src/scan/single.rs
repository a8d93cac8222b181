//! Exact search by codes, one query at a time: codes give every row an upper bound of its key, and only rows whose
//! bound reaches the k-th best key are read. The answer is that of reading every row: `quantize/bound.rs` proves the
//! bounds, and the order of reading is that of Seidl and Kriegel (SIGMOD 1998).
//!
//! A job streams the codes of its rows' leading dims once and keeps a coarse bound of every row. The rows of the
//! highest coarse bounds are read first to seed the threshold. Of the others, those whose coarse bound reaches it
//! get a full bound from all of their codes, and those whose full bound reaches it are read, highest first. Where
//! codes exclude too few rows (isotropic rows, thousands of near copies), a sample shows it before much is spent,
//! and the job reads all of its rows.

use super::query::Query;
use super::refine::{self, FullBound};
use super::threshold::{self, CoarseBounds, SeedRows, by_key, reached_by, zero_rows};
use super::{Job, Queries, Run, Worker};
use crate::error::Result;
use crate::kernel::{Lines, prefetch};
use crate::quantize::bound;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Codes, Quantizer};
use crate::store::ReadAhead;
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use std::ops::Range;

/// Coarse bounds that a job keeps, over all its queries: 4 MB. Smaller jobs read more rows, as each seeds its own
/// threshold.
const JOB_BOUNDS: usize = 1 << 20;
/// Rows whose coarse bounds are computed at a time: their codes fit L2, where all queries read them.
const SPAN: usize = 4096;
/// The cost of a full bound, in bytes streamed in the same time: a few cache misses and the decoding.
pub const FULL_BOUND_COST: usize = 1000;
/// The cost of reading a row beyond its own bytes, in bytes streamed in the same time: its address is random.
const READ_COST: usize = 2000;
/// The threshold is seeded by reading this many rows for each hit wanted, and at least `MIN_SEED_ROWS`.
const SEED_FACTOR: usize = 3;
const MIN_SEED_ROWS: usize = 48;
/// Runs count as short when there is more than one for this many rows.
const SHORT_RUN: usize = 256;
/// One span in this many is bounded before the others, as a sample of whether codes pay.
const SAMPLE_SPANS: usize = 16;
/// One candidate in this many gets a full bound first, as a sample of how many full bounds exclude.
const SAMPLE_ROWS: usize = 32;
/// How many rows ahead of a full bound its codes are prefetched.
const AHEAD: usize = 8;
/// How many rows ahead codes are requested from disk: some megabytes of pages.
const DISK_AHEAD: usize = 1024;

/// The queries of a search, encoded; `None` for a query without a direction, such as zero.
#[derive(Debug)]
pub(super) struct SingleScan<'a> {
    quantizer: &'a Quantizer,
    query_codes: &'a [Option<QueryCode>],
}

impl<'a> SingleScan<'a> {
    /// Encodes every query.
    pub fn new(job: &Job<'a>, quantizer: &'a Quantizer) -> Result<Self> {
        let queries: &'a Queries = job.queries;
        Ok(SingleScan { quantizer, query_codes: queries.query_codes(job.plan.kernel, quantizer, job.plan.threads, job.watch)? })
    }

    /// Rows of a job, so that each of `threads` workers gets one.
    pub fn job_rows(&self, rows: u64, threads: usize) -> usize {
        let share = (rows as usize).div_ceil(threads).next_multiple_of(SPAN);
        (JOB_BOUNDS / self.query_codes.len().max(1)).next_multiple_of(SPAN).min(share)
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Coarse bounds of cosines, query after query.
    cosines: Vec<f32>,
    /// Coarse bounds of keys in the same order, where [`by_key`] holds.
    keys: Vec<f32>,
    candidates: Candidates,
}

/// The rows of one query that are not excluded yet.
#[derive(Debug, Default)]
struct Candidates {
    /// Bound and row number within the segment.
    rows: Vec<(f64, usize)>,
    /// Rows that were read to seed the threshold, ascending.
    refined: Vec<usize>,
    positions: Vec<u32>,
    buffer: PanelBuffer,
}

/// The part of a job that lies in one segment.
struct Part<'a> {
    segment: &'a Rows<'a>,
    codes: Codes<'a>,
    quantizer: &'a Quantizer,
    /// Whole blocks around the runs, in order.
    spans: &'a [Span],
    runs: &'a [Run],
    /// Rows of the runs.
    allowed: usize,
}

/// Consecutive blocks.
struct Span {
    rows: Range<usize>,
    /// Position of the first row's bound among the bounds of a query.
    start: usize,
}

impl Span {
    /// The spans that hold some runs of one segment, each block once and in order.
    fn around(runs: &[Run]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut position = 0;
        for run in runs {
            let covered = spans.last().map_or(0, |last| last.rows.end);
            let rows = covered.max(run.rows.start / BLOCK * BLOCK)..run.rows.end.next_multiple_of(BLOCK);
            let mut start = rows.start;
            while start < rows.end {
                // Short runs share spans.
                let joined = spans.last_mut().filter(|last| last.rows.end == start && last.rows.len() < SPAN);
                let length = (rows.end - start).min(SPAN - joined.as_ref().map_or(0, |last| last.rows.len()));
                match joined {
                    Some(last) => last.rows.end += length,
                    None => spans.push(Span { rows: start..start + length, start: position }),
                }
                position += length;
                start += length;
            }
        }
        spans
    }
}

impl Part<'_> {
    /// Bounds of one query.
    fn len(&self) -> usize {
        self.spans.last().map_or(0, |last| last.start + last.rows.len())
    }

    /// Whether the runs hold all rows of the spans, up to padding and the ends of a first and a last block.
    fn whole(&self) -> bool {
        self.allowed + 2 * BLOCK > self.len()
    }

    /// Whether a row is in a run.
    fn contains(&self, row: usize) -> bool {
        let run = self.runs.partition_point(|run| run.rows.end <= row);
        self.runs.get(run).is_some_and(|run| run.rows.start <= row)
    }

    /// Position of the bound of a row, which is in a span.
    fn position(&self, row: usize) -> usize {
        let span = &self.spans[self.spans.partition_point(|span| span.rows.end <= row)];
        span.start + row - span.rows.start
    }
}

/// Offers the rows of the job that may be among a query's best to that query.
pub(super) fn visit(job: &Job, scan: &SingleScan, worker: &mut Worker) -> Result<()> {
    for runs in job.runs.chunk_by(|a, b| a.segment == b.segment) {
        let job = &Job { runs, ..*job };
        // Lines are streamed, but rows and remainders are read at random.
        let segment = &job.segments[runs[0].segment].scattered();
        let Some(codes) = segment.codes else { continue };
        let spans = Span::around(runs);
        let part = &Part { segment, codes, quantizer: scan.quantizer, spans: &spans, runs, allowed: count(runs) };
        let mut query_codes: Vec<Option<&QueryCode>> = scan.query_codes.iter().map(Option::as_ref).collect();
        let sampled = |&(i, _): &(usize, &Span)| i % SAMPLE_SPANS == SAMPLE_SPANS / 2;
        let (sample, others) = spans.iter().enumerate().partition::<Vec<_>, _>(sampled);
        coarse_bounds(job, part, &query_codes, &sample, &mut worker.single)?;
        if !sample.is_empty() {
            let runs: Vec<Run> = sample.iter().flat_map(|(_, span)| Run::within(runs, &span.rows)).collect();
            let trial = &Part { runs: &runs, allowed: count(&runs), ..*part };
            let sample_rows: usize = sample.iter().map(|(_, span)| span.rows.len()).sum();
            for (i, query_code) in query_codes.iter_mut().enumerate() {
                let (top, scratch) = (&mut worker.best[i], &mut worker.single);
                let codes_pay = query_code.is_none_or(|code| {
                    Search::new(job.query(i), code, trial, [&scratch.cosines, &scratch.keys]).codes_pay(top, &mut scratch.candidates)
                });
                if !codes_pay {
                    *query_code = None;
                    top.tally.code_bytes += (sample_rows * scan.quantizer.line_bytes()) as u64;
                }
            }
        }
        coarse_bounds(job, part, &query_codes, &others, &mut worker.single)?;
        let mut undecided = Vec::new();
        for (i, query_code) in query_codes.into_iter().enumerate() {
            job.watch.check()?;
            let (top, scratch) = (&mut worker.best[i], &mut worker.single);
            let before = top.snapshot();
            let decided = query_code.is_some_and(|code| {
                Search::new(job.query(i), code, part, [&scratch.cosines, &scratch.keys]).refine_segment(top, &mut scratch.candidates)
            });
            if !decided {
                top.restore(before);
                undecided.push(i);
            }
        }
        refine::undecided(job, &undecided, worker)?;
    }
    Ok(())
}

/// Rows of some runs.
fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.rows.len()).sum()
}

/// Computes the coarse bounds of the rows of some spans for all queries that have a code.
fn coarse_bounds(job: &Job, part: &Part, query_codes: &[Option<&QueryCode>], spans: &[(usize, &Span)], out: &mut Scratch) -> Result<()> {
    let (count, plan) = (part.len(), job.plan);
    out.cosines.resize(count * query_codes.len(), 0.0);
    if by_key(plan) {
        out.keys.resize(count * query_codes.len(), 0.0);
    }
    let block_bytes = part.quantizer.block_bytes();
    for (_, Span { rows, start }) in spans {
        job.watch.check()?;
        let lines = Lines {
            codes: &part.codes.lines[rows.start / BLOCK * block_bytes..rows.end / BLOCK * block_bytes],
            offsets: &part.codes.offsets[rows.clone()],
            leading: &part.codes.leading_residuals[rows.clone()],
            trailing: &part.codes.trailing_residuals[rows.clone()],
            next: &[],
        };
        for (query, query_code) in query_codes.iter().enumerate() {
            let Some(query_code) = query_code else { continue };
            let own = query * count + start..query * count + start + rows.len();
            let cosines = &mut out.cosines[own.clone()];
            (plan.kernel.bounds)(&[query_code.coarse_query()], &lines, cosines);
            if by_key(plan) {
                let norms = &part.segment.norms[rows.start..rows.end.min(part.segment.len())];
                let keys = &mut out.keys[own][..norms.len()];
                keys.copy_from_slice(&cosines[..norms.len()]);
                (plan.kernel.by_norm)(&bound::key_terms(plan.metric, job.queries.norm(query)), norms, keys);
            }
        }
    }
    Ok(())
}

/// One query in one part.
struct Search<'a> {
    full: FullBound<'a>,
    part: &'a Part<'a>,
    bounds: CoarseBounds<'a>,
}

impl<'a> Search<'a> {
    /// `cosines` and `keys` hold the coarse bounds of all queries of the job.
    fn new(query: Query<'a>, query_code: &'a QueryCode, part: &'a Part, [cosines, keys]: [&'a [f32]; 2]) -> Self {
        let own = query.index * part.len()..(query.index + 1) * part.len();
        let cosines = &cosines[own.clone()];
        let bounds = CoarseBounds { cosines, compared: if by_key(query.plan) { &keys[own] } else { cosines } };
        Search { full: FullBound { query, query_code, quantizer: part.quantizer }, part, bounds }
    }

    /// Whether codes pay for this query, from its part as a sample: how many rows reach the threshold that the sample's
    /// best rows suggest, and how many of them full bounds would leave to read.
    fn codes_pay(&self, top: &mut TopK, candidates: &mut Candidates) -> bool {
        let (allowed, k) = (self.part.allowed, self.full.query.plan.k.div_ceil(SAMPLE_SPANS));
        let Ok(mut best) = TopK::new(k, allowed as u64) else { return true };
        best.raise(top.threshold());
        self.seed_threshold(k, &mut best, candidates);
        top.tally.refined += best.tally.refined;
        candidates.refined.clear();
        self.rows_at_least(allowed, &mut best, candidates);
        let reads = self.expected_reads(&candidates.rows, &mut best);
        let row_bytes = self.part.segment.row_bytes();
        candidates.rows.len() * FULL_BOUND_COST + reads * (row_bytes + READ_COST) <= allowed * row_bytes / 10 * 9
    }

    /// Reads the rows that may be among the best. Returns false where codes do not pay; the rows then must all be read.
    fn refine_segment(&self, top: &mut TopK, candidates: &mut Candidates) -> bool {
        let (query, segment, count) = (self.full.query, self.part.segment, self.part.len());
        top.tally.code_bytes += (count * self.part.quantizer.line_bytes()) as u64;
        let read = self.seed_threshold(query.plan.k, top, candidates);
        candidates.refined.clear();
        candidates.refined.extend(candidates.rows[..read].iter().map(|row| row.1));
        candidates.refined.sort_unstable();
        // Bytes of nine tenths of all rows: costs beyond this are higher than those of reading all rows.
        let row_bytes = segment.row_bytes();
        let limit = count * row_bytes / 10 * 9;
        let least = threshold::least(query, top.threshold());
        self.rows_at_least(limit / FULL_BOUND_COST + 1, top, candidates);
        let rows = &mut candidates.rows;
        if rows.len() * (FULL_BOUND_COST + row_bytes + READ_COST) > limit {
            let reads = self.expected_reads(rows, top);
            if rows.len() * FULL_BOUND_COST + reads * (row_bytes + READ_COST) > limit {
                return false;
            }
        }
        self.full_bounds(rows, top);
        if rows.len() * (row_bytes + READ_COST) > limit {
            return false;
        }
        refine::in_order(query, segment, rows, top, &mut candidates.buffer);
        top.tally.best_left = top.tally.best_left.max(threshold::max_key_below(query, self.bounds.compared, least));
        true
    }

    /// Reads the rows of the highest coarse bounds for `k` hits; returns how many were read, which come first in
    /// `candidates.rows`.
    fn seed_threshold(&self, k: usize, top: &mut TopK, candidates: &mut Candidates) -> usize {
        let Candidates { rows, positions, buffer, .. } = candidates;
        let (query, count) = (self.full.query, (SEED_FACTOR * k).max(MIN_SEED_ROWS));
        let mut least = threshold::least(query, top.threshold());
        // Where spans hold other rows too, those may have the highest bounds.
        if self.part.whole() {
            least = least.max(reached_by(query.plan.kernel, self.bounds.compared, count));
        }
        rows.clear();
        let mut seeds = SeedRows { rows, count, bound_of: |row: &(f64, usize)| row.0 as f32, least };
        self.scan(least, positions, |bound, row| seeds.offer(bound, (f64::from(bound), row)));
        seeds.cut();
        self.full_bounds(rows, top);
        refine::in_order(query, self.part.segment, rows, top, buffer)
    }

    /// Collects up to `most` rows whose coarse bound reaches the threshold and that have not been read.
    fn rows_at_least(&self, most: usize, top: &mut TopK, candidates: &mut Candidates) {
        let Candidates { rows, refined, positions, .. } = candidates;
        let exclude_zero = zero_rows(self.full.query, self.part.segment.norms, top.threshold());
        let least = threshold::least(self.full.query, top.threshold());
        let mut refined = refined.iter().peekable();
        rows.clear();
        self.scan(least, positions, |bound, row| {
            while refined.next_if(|&&read| read < row).is_some() {}
            if !exclude_zero(row, bound, top) && refined.peek() != Some(&&row) && rows.len() < most {
                rows.push((f64::from(bound), row));
            }
            least
        });
    }

    /// Calls `each` with the bound and number of every allowed row whose coarse bound is not below what `each` last
    /// returned, `least` at first.
    fn scan(&self, mut least: f32, positions: &mut Vec<u32>, mut each: impl FnMut(f32, usize) -> f32) {
        positions.resize(SPAN, 0);
        let mut scan = |bounds: &[f32], first: usize, sparse: bool| {
            let count = (self.full.query.plan.kernel.at_least)(bounds, least, &mut positions[..bounds.len()]);
            for &at in &positions[..count] {
                let bound = bounds[at as usize];
                if !(bound < least || sparse && !self.part.contains(first + at as usize)) {
                    least = each(bound, first + at as usize);
                }
            }
        };
        let (part, bounds) = (self.part, self.bounds.compared);
        // Finding the runs of the few rows that reach `least` costs less than scanning many short runs.
        if part.runs.len() > part.len() / SHORT_RUN {
            for span in part.spans {
                scan(&bounds[span.start..span.start + span.rows.len()], span.rows.start, true);
            }
            return;
        }
        for run in part.runs {
            let own = &bounds[part.position(run.rows.start)..][..run.rows.len()];
            own.chunks(SPAN).zip((run.rows.start..).step_by(SPAN)).for_each(|(bounds, first)| scan(bounds, first, false));
        }
    }

    /// How many of `rows` full bounds would leave to read, from a sample of them.
    fn expected_reads(&self, rows: &[(f64, usize)], top: &mut TopK) -> usize {
        let mut sample: Vec<(f64, usize)> = rows.iter().copied().step_by(SAMPLE_ROWS).collect();
        self.full_bounds(&mut sample, top);
        sample.len() * SAMPLE_ROWS
    }

    /// Replaces the bounds of `rows` by full bounds of their keys and drops the rows below the threshold.
    fn full_bounds(&self, rows: &mut Vec<(f64, usize)>, top: &mut TopK) {
        let (codes, segment, bytes) = (&self.part.codes, self.part.segment, self.part.quantizer.remainder_bytes());
        let remainder = |row: usize| &codes.remainder[row * bytes..(row + 1) * bytes];
        let mut disk = ReadAhead::new(DISK_AHEAD, rows.len(), segment.in_memory);
        for i in 0..rows.len() {
            disk.before(i, rows[i..].iter().map(|&(_, row)| remainder(row)));
            if let Some(&(_, next)) = rows.get(i + AHEAD) {
                prefetch(remainder(next));
                prefetch(&codes.remainder_residuals[next..=next]);
            }
            let (bound, row) = &mut rows[i];
            let residuals = [codes.leading_residuals[*row], codes.trailing_residuals[*row], codes.remainder_residuals[*row]];
            let coarse = self.bounds.cosines[self.part.position(*row)];
            *bound = self.full.key(coarse, remainder(*row), residuals, (segment.norms, *row));
        }
        self.full.keep(rows, top);
    }
}
