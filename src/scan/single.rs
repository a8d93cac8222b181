//! The certified scan: codes bound every row's key from above, and only rows whose bound reaches
//! the k-th best key are looked at again, and then read in full. The answer is that of reading
//! every row; `code/margin.rs` has the proof, Seidl and Kriegel (SIGMOD 1998) the order.
//!
//! A job streams the lines of its rows once and keeps every bound. The rows of the highest bounds
//! are read first and set the floor; of the others, those that reach it get a second look, and in
//! order of what that leaves, a full read. Where codes decide too little (isotropic rows, thousands
//! of near copies) this is known before it costs much, and the job reads its rows in full.

use super::float32;
use super::panel::Panels;
use super::threshold::{UNIT_LENGTHS, by_key, least, max_below, reached_by, up};
use super::{Plan, Queries, Run, refine};
use crate::error::Result;
use crate::kernel::{Lines, prefetch};
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::bound;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Codes, Quantizer};
use crate::store::ReadAhead;
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use std::ops::Range;

/// Bounds that a job keeps, over all its queries: 4 MB, written once and gone through a few times. In twice as
/// many jobs twice as many rows are read, as each begins anew.
const JOB_BOUNDS: usize = 1 << 20;
/// Rows that are bounded at a time: their codes fit L2 and meet every query there.
const SPAN: usize = 4096;
/// What a second look costs, in bytes streamed in the same time: a few lines from memory, decoded.
pub const FULL_BOUND_COST: usize = 1000;
/// What reading a row costs beyond its bytes: they come from anywhere, not in a stream.
const READ_COST: usize = 2000;
/// Rows of the highest bounds that are looked at first: this many for each row wanted, and at least
/// so many.
const SEED_FACTOR: usize = 3;
const MIN_SEED_ROWS: usize = 48;
/// Runs are short where there is one in so many rows.
const SHORT_RUN: usize = 256;
/// One span in this many is bounded before the others, to see whether codes look like paying.
const SPANS: usize = 16;
/// One in this many rows is looked at before it is decided whether to look at all.
const SAMPLE: usize = 32;
/// How many rows ahead of a second look its codes are asked for.
const AHEAD: usize = 8;
/// The same where they come from disk: some megabytes of pages.
const DISK_AHEAD: usize = 1024;

/// The queries of a search as codes see them; none for a query without a direction, such as zero.
#[derive(Debug)]
pub(super) struct SingleScan<'a> {
    quantizer: &'a Quantizer,
    query_codes: &'a [Option<QueryCode>],
}

impl<'a> SingleScan<'a> {
    /// Prepares every query.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(plan: &Plan, quantizer: &'a Quantizer, queries: &'a Queries, watch: &Watch) -> Result<Self> {
        Ok(SingleScan { quantizer, query_codes: queries.query_codes(plan.kernel, quantizer, plan.threads, watch)? })
    }

    /// Rows of a job, so that each of `threads` workers gets some.
    pub fn job_rows(&self, rows: u64, threads: usize) -> usize {
        let share = (rows as usize).div_ceil(threads).next_multiple_of(SPAN);
        (JOB_BOUNDS / self.query_codes.len().max(1)).next_multiple_of(SPAN).min(share)
    }
}

/// What a worker needs besides rows.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Of cosines.
    bounds: Vec<f32>,
    /// Of keys, where rows differ in length.
    keys: Vec<f32>,
    buffer: PanelBuffer,
    rows: Vec<(f64, usize)>,
    refined: Vec<usize>,
    places: Vec<u32>,
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

/// Some blocks, and where their bounds stand among those of a query.
struct Span {
    rows: Range<usize>,
    at: usize,
}

impl Span {
    /// Those that hold runs of one segment, each once; blocks that follow each other do so among bounds too.
    fn around(runs: &[Run]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut at = 0;
        for run in runs {
            let held = spans.last().map_or(0, |last| last.rows.end);
            let rows = held.max(run.rows.start / BLOCK * BLOCK)..run.rows.end.next_multiple_of(BLOCK);
            let mut start = rows.start;
            while start < rows.end {
                // Short runs share spans.
                let joined = spans.last_mut().filter(|last| last.rows.end == start && last.rows.len() < SPAN);
                let length = match joined {
                    Some(last) => {
                        let length = (rows.end - start).min(SPAN - last.rows.len());
                        last.rows.end += length;
                        length
                    }
                    None => {
                        let length = (rows.end - start).min(SPAN);
                        spans.push(Span { rows: start..start + length, at });
                        length
                    }
                };
                at += length;
                start += length;
            }
        }
        spans
    }
}

impl Part<'_> {
    /// How many bounds a query has.
    fn len(&self) -> usize {
        self.spans.last().map_or(0, |last| last.at + last.rows.len())
    }

    /// Whether its runs hold all rows of its spans, but for padding and the rest of a first and a last block.
    fn whole(&self) -> bool {
        self.allowed + 2 * BLOCK > self.len()
    }

    /// Whether a row is in a run.
    fn holds(&self, row: usize) -> bool {
        let run = self.runs.partition_point(|run| run.rows.end <= row);
        self.runs.get(run).is_some_and(|run| run.rows.start <= row)
    }

    /// Where the bound of a row stands, if it is in a span.
    fn place(&self, row: usize) -> usize {
        let span = &self.spans[self.spans.partition_point(|span| span.rows.end <= row)];
        span.at + row - span.rows.start
    }
}

/// Offers every row of `runs` that may be among a query's best to that query.
pub(super) fn visit(
    plan: &Plan,
    segments: &[Rows],
    runs: &[Run],
    queries: &Queries,
    certified: &SingleScan,
    worker: (&mut Panels, &mut [TopK], &mut float32::Scratch, &mut Scratch),
    watch: &Watch,
) -> Result<()> {
    let (panels, best, tile, scratch) = worker;
    for runs in runs.chunk_by(|a, b| a.segment == b.segment) {
        // Lines are streamed; of all else, a few rows here and there are looked at.
        let segment = &segments[runs[0].segment].scattered();
        let Some(codes) = segment.codes else { continue };
        let spans = Span::around(runs);
        let part = Part { segment, codes, quantizer: certified.quantizer, spans: &spans, runs, allowed: count(runs) };
        let mut query_codes: Vec<Option<&QueryCode>> = certified.query_codes.iter().map(Option::as_ref).collect();
        let chosen = |&(i, _): &(usize, &Span)| i % SPANS == SPANS / 2;
        let (sample, others) = spans.iter().enumerate().partition::<Vec<_>, _>(chosen);
        bound(plan, queries, &query_codes, &part, &sample, (&mut scratch.bounds, &mut scratch.keys), watch)?;
        if !sample.is_empty() {
            let some: Vec<Run> = sample.iter().flat_map(|(_, span)| Run::within(runs, &span.rows)).collect();
            let trial = Part { runs: &some, allowed: count(&some), ..part };
            for (i, query_code) in query_codes.iter_mut().enumerate() {
                let search = Search { plan, queries, query: i, part: &trial };
                if query_code.is_some_and(|query_code| !search.codes_pay(query_code, &mut best[i], scratch)) {
                    *query_code = None;
                    let rows: usize = sample.iter().map(|(_, span)| span.rows.len()).sum();
                    best[i].tally.code_bytes += (rows * certified.quantizer.line_bytes()) as u64;
                }
            }
        }
        bound(plan, queries, &query_codes, &part, &others, (&mut scratch.bounds, &mut scratch.keys), watch)?;
        let mut undecided = Vec::new();
        for (i, top) in best.iter_mut().enumerate() {
            watch.check()?;
            let before = top.kept();
            let search = Search { plan, queries, query: i, part: &part };
            if !query_codes[i].is_some_and(|query_code| search.refine_segment(query_code, top, scratch)) {
                top.go_back(before);
                undecided.push(i);
            }
        }
        refine::all(plan, segments, runs, queries, &undecided, (panels, best, tile), watch)?;
    }
    Ok(())
}

/// Rows of some runs.
fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.rows.len()).sum()
}

/// Bounds of the rows of some spans of the part, query after query, for queries that have a look.
fn bound(
    plan: &Plan,
    queries: &Queries,
    query_codes: &[Option<&QueryCode>],
    part: &Part,
    spans: &[(usize, &Span)],
    (bounds, keys): (&mut Vec<f32>, &mut Vec<f32>),
    watch: &Watch,
) -> Result<()> {
    let count = part.len();
    bounds.resize(count * query_codes.len(), 0.0);
    if by_key(plan) {
        keys.resize(count * query_codes.len(), 0.0);
    }
    let block_bytes = part.quantizer.block_bytes();
    for (_, Span { rows: span, at }) in spans {
        watch.check()?;
        let lines = Lines {
            codes: &part.codes.lines[span.start / BLOCK * block_bytes..span.end / BLOCK * block_bytes],
            offsets: &part.codes.offsets[span.clone()],
            leading: &part.codes.leading_residuals[span.clone()],
            trailing: &part.codes.trailing_residuals[span.clone()],
            next: &[],
        };
        for (query, (query_code, bounds)) in query_codes.iter().zip(bounds.chunks_exact_mut(count)).enumerate() {
            let Some(query_code) = query_code else { continue };
            let place = *at..at + span.len();
            (plan.kernel.bounds)(&[query_code.coarse_query()], &lines, &mut bounds[place.clone()]);
            if by_key(plan) {
                let norms = &part.segment.norms[span.start..span.end.min(part.segment.len())];
                let keys = &mut keys[query * count + place.start..query * count + place.end];
                for ((key, &cosine), &norm) in keys.iter_mut().zip(&bounds[place]).zip(norms) {
                    *key = up(bound::key_bound(plan.metric, f64::from(cosine), queries.norm(query), norm));
                }
            }
        }
    }
    Ok(())
}

/// One query in one part.
struct Search<'a> {
    plan: &'a Plan<'a>,
    queries: &'a Queries,
    query: usize,
    part: &'a Part<'a>,
}

impl Search<'_> {
    /// Whether codes look like paying, from the part as a sample of one span in [`SPANS`]: from the floor
    /// that its best rows suggest, how many rows reach it, and how many a second look would leave.
    fn codes_pay(&self, query_code: &QueryCode, top: &mut TopK, scratch: &mut Scratch) -> bool {
        let Scratch { bounds, keys, buffer, rows, places, .. } = scratch;
        let [bounds, ranks] = self.own(bounds, keys);
        let allowed = self.part.allowed;
        let k = self.plan.k.div_ceil(SPANS);
        let Ok(mut best) = TopK::new(k, allowed as u64) else { return true };
        best.raise(top.threshold());
        self.seed_threshold(ranks, k, self.least(&best), (rows, places));
        self.full_bounds(query_code, bounds, &mut best, rows);
        refine::in_order(self.plan, self.queries, self.query, self.part.segment, rows, &mut best, buffer);
        top.tally.refined += best.tally.refined;
        self.at_least(ranks, self.least(&best), &mut best, &[], (rows, places), allowed);
        let reach = rows.len();
        let mut sample: Vec<(f64, usize)> = rows.iter().copied().step_by(SAMPLE).collect();
        self.full_bounds(query_code, bounds, &mut best, &mut sample);
        let row_bytes = self.part.segment.row_bytes();
        reach * FULL_BOUND_COST + sample.len() * SAMPLE * (row_bytes + READ_COST) <= allowed * row_bytes / 10 * 9
    }

    /// Reads the rows that may be among the best, or gives up where codes do not pay: false then.
    fn refine_segment(&self, query_code: &QueryCode, top: &mut TopK, scratch: &mut Scratch) -> bool {
        let Scratch { bounds, keys, buffer, rows, refined, places } = scratch;
        let ([bounds, ranks], count) = (self.own(bounds, keys), self.part.len());
        refined.clear();
        top.tally.code_bytes += (count * self.part.quantizer.line_bytes()) as u64;
        self.seed_threshold(ranks, self.plan.k, self.least(top), (rows, places));
        self.full_bounds(query_code, bounds, top, rows);
        let read = refine::in_order(self.plan, self.queries, self.query, self.part.segment, rows, top, buffer);
        refined.extend(rows[..read].iter().map(|row| row.1));
        refined.sort_unstable();
        let row_bytes = self.part.segment.row_bytes();
        // In the bytes of reading every row, of which codes must leave a tenth to be worth it.
        let plain = count * row_bytes / 10 * 9;
        let reached = self.least(top);
        self.at_least(ranks, reached, top, refined, (rows, places), plain / FULL_BOUND_COST + 1);
        // A sample of them tells what the second look will leave.
        if rows.len() * (FULL_BOUND_COST + row_bytes + READ_COST) > plain {
            let mut sample: Vec<(f64, usize)> = rows.iter().copied().step_by(SAMPLE).collect();
            self.full_bounds(query_code, bounds, top, &mut sample);
            let reads = sample.len() * SAMPLE;
            if rows.len() * FULL_BOUND_COST + reads * (row_bytes + READ_COST) > plain {
                return false;
            }
        }
        self.full_bounds(query_code, bounds, top, rows);
        if rows.len() * (row_bytes + READ_COST) > plain {
            return false;
        }
        refine::in_order(self.plan, self.queries, self.query, self.part.segment, rows, top, buffer);
        let below = max_below(ranks, reached);
        let below =
            if by_key(self.plan) { below } else { bound::max_key(self.plan.metric, below, self.queries.norm(self.query), UNIT_LENGTHS) };
        top.tally.best_left = top.tally.best_left.max(below);
        true
    }

    /// Of this query: bounds of cosines, and what orders rows, which may be bounds of keys.
    fn own<'a>(&self, bounds: &'a [f32], keys: &'a [f32]) -> [&'a [f32]; 2] {
        let count = self.part.len();
        let own = self.query * count..(self.query + 1) * count;
        [&bounds[own.clone()], if by_key(self.plan) { &keys[own] } else { &bounds[own] }]
    }

    /// What a row must reach in the order of [`Search::own`].
    fn least(&self, top: &TopK) -> f32 {
        least(self.plan, top.threshold(), self.queries.norm(self.query))
    }

    /// Calls `each` with allowed rows whose bound is not below what `each` last returned.
    fn scan(&self, bounds: &[f32], mut least: f32, places: &mut Vec<u32>, mut each: impl FnMut(f32, usize) -> f32) {
        places.resize(SPAN, 0);
        let mut some = |bounds: &[f32], first: usize, sparse: bool| {
            let count = (self.plan.kernel.at_least)(bounds, least, &mut places[..bounds.len()]);
            for &at in &places[..count] {
                let bound = bounds[at as usize];
                if !(bound < least || sparse && !self.part.holds(first + at as usize)) {
                    least = each(bound, first + at as usize);
                }
            }
        };
        // Looking for the runs of few rows that reach costs less than going through many short runs.
        if self.part.runs.len() > self.part.len() / SHORT_RUN {
            for span in self.part.spans {
                some(&bounds[span.at..span.at + span.rows.len()], span.rows.start, true);
            }
            return;
        }
        for run in self.part.runs {
            let own = &bounds[self.part.place(run.rows.start)..][..run.rows.len()];
            own.chunks(SPAN).zip((run.rows.start..).step_by(SPAN)).for_each(|(bounds, first)| some(bounds, first, false));
        }
    }

    /// The rows of the highest bounds, for `k` wanted, those that have none aside.
    fn seed_threshold(&self, bounds: &[f32], k: usize, mut least: f32, (rows, places): (&mut Vec<(f64, usize)>, &mut Vec<u32>)) {
        let few = (SEED_FACTOR * k).max(MIN_SEED_ROWS);
        rows.clear();
        let cut = |rows: &mut Vec<(f64, usize)>| {
            if rows.len() > few {
                rows.select_nth_unstable_by(few - 1, |a, b| b.0.total_cmp(&a.0));
                rows.truncate(few);
            }
        };
        // Rows that may not be found, or have no bounds yet, say nothing of those that may.
        if self.part.whole() {
            least = least.max(reached_by(self.plan.kernel, bounds, few));
        }
        self.scan(bounds, least, places, |bound, row| {
            if bound.is_finite() {
                rows.push((f64::from(bound), row));
            }
            if rows.len() == 4 * few {
                cut(rows);
                least = rows.iter().fold(f32::INFINITY, |low, row| low.min(row.0 as f32)).max(least);
            }
            least
        });
        cut(rows);
    }

    /// The rows that reach `least`, a cosine, and have not been read, `most` at most.
    fn at_least(
        &self,
        bounds: &[f32],
        least: f32,
        top: &mut TopK,
        refined: &[usize],
        (rows, places): (&mut Vec<(f64, usize)>, &mut Vec<u32>),
        most: usize,
    ) {
        rows.clear();
        // Zero rows have no bound of their own, but one for all.
        let zero = bound::zero_norm_bound(self.plan.metric, self.queries.norm(self.query));
        let (zeros_out, mut zeros) = (zero < top.threshold(), false);
        let norms = self.part.segment.norms;
        let mut refined = refined.iter().peekable();
        self.scan(bounds, least, places, |bound, row| {
            while refined.next_if(|&&read| read < row).is_some() {}
            // Zero rows have infinite bounds, and no others of the norm need be looked up.
            let zero = zeros_out && !bound.is_finite() && norms[row] == 0.0;
            zeros |= zero;
            if !zero && refined.peek() != Some(&&row) && rows.len() < most {
                rows.push((f64::from(bound), row));
            }
            least
        });
        if zeros {
            top.tally.best_left = top.tally.best_left.max(zero);
        }
    }

    /// Replaces bounds of the cosine by bounds of the key from all of a row's codes, and drops rows
    /// below the floor.
    fn full_bounds(&self, query_code: &QueryCode, bounds: &[f32], top: &mut TopK, rows: &mut Vec<(f64, usize)>) {
        let codes = &self.part.codes;
        let (norm, norms) = (self.queries.norm(self.query), self.part.segment.norms);
        let bytes = self.part.quantizer.remainder_bytes();
        let remainder = |row: usize| &codes.remainder[row * bytes..(row + 1) * bytes];
        let mut disk = ReadAhead::new(DISK_AHEAD, rows.len(), self.part.segment.own);
        for i in 0..rows.len() {
            disk.before(i, rows[i..].iter().map(|&(_, row)| remainder(row)));
            if let Some(&(_, next)) = rows.get(i + AHEAD) {
                prefetch(remainder(next));
                prefetch(&codes.remainder_residuals[next..=next]);
            }
            let (bound, row) = &mut rows[i];
            let first = bounds[self.part.place(*row)];
            let residuals = [codes.leading_residuals[*row], codes.trailing_residuals[*row], codes.remainder_residuals[*row]];
            let cosine = query_code.full_bound(self.plan.kernel, self.part.quantizer, remainder(*row), residuals, first);
            let row_norm = if self.plan.metric == Metric::Cosine { 1.0 } else { norms[*row] };
            let key = bound::key_bound(self.plan.metric, cosine, norm, row_norm);
            // What is no number bounds nothing: such a row is the first to be read.
            *bound = if key.is_nan() { f64::INFINITY } else { key };
        }
        top.tally.bounded += rows.len() as u64;
        top.tally.code_bytes += (rows.len() * bytes) as u64;
        refine::keep(rows, top);
    }
}
