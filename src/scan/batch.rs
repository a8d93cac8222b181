//! Exact search by codes for a batch: the codes of a panel of rows are unpacked to int8 once, every tile of 16
//! queries bounds them by integer products, and only rows whose full bound reaches a query's threshold are read for
//! it, highest bound first.
//!
//! Where a panel leaves a query too many candidates, as the first panels do while thresholds are low, all its rows
//! are scored for that query by float32 tiles. Where panels leave most queries too many, most panels skip the bounds.

use super::refine;
use super::{Job, Queries, Run, Worker};
use crate::error::{Result, collected, filled, room};
use crate::kernel::{BATCH, BoundFactors, Int8Batch, Line, UnpackedCodes, unpacked_stride};
use crate::metric::Metric;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Codes, LEAST_NORM, Quantizer, bound, from_bf16, int16};
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a panel's unpacked codes: a part of L2 that leaves space for the queries.
const PANEL_BYTES: usize = 512 << 10;
/// Rows of a panel, at most.
const PANEL_ROWS: usize = 2048;
/// Panels of a job.
const JOB_PANELS: usize = 4;
/// A query may read one row in this many of a panel, and `MIN_READS` in any case; with more candidates, float32
/// tiles over the whole panel are faster.
const ROWS_PER_READ: usize = 100;
const MIN_READS: usize = 3;
/// Twice the number of panels without bounds, at most, after a panel whose bounds left most queries undecided.
const MAX_PAUSE: usize = 31;
const LINE: usize = size_of::<Line>();

/// The queries of a search in tiles, and the thresholds that the workers share.
#[derive(Debug)]
pub(super) struct BatchScan<'a> {
    quantizer: &'a Quantizer,
    tiles: Vec<BatchTile<'a>>,
    /// Queries without a direction, such as zero, which have no codes.
    uncoded: Vec<usize>,
    /// For each query, the bits of the highest threshold that any worker has reached.
    thresholds: Vec<AtomicU64>,
}

/// Up to 16 queries in the layout of [`Int8Batch`].
#[derive(Debug)]
struct BatchTile<'a> {
    queries: Vec<usize>,
    query_codes: Vec<&'a QueryCode>,
    /// int16.
    words: Vec<Line>,
    /// int8, the high bytes of the words.
    high: Vec<Line>,
    /// int8, the low bytes of the words.
    low: Vec<Line>,
}

impl<'a> BatchScan<'a> {
    /// Encodes every query.
    pub fn new(job: &Job<'a>, quantizer: &'a Quantizer) -> Result<Self> {
        let queries: &'a Queries = job.queries;
        let query_codes = queries.query_codes(job.plan.kernel, quantizer, job.plan.threads, job.watch)?;
        let numbered = |coded: bool| collected((0..queries.len()).filter(|&i| query_codes[i].is_some() == coded), "the queries");
        let (coded, uncoded) = (numbered(true)?, numbered(false)?);
        let mut tiles = room(coded.len().div_ceil(BATCH), "the codes of queries")?;
        for which in coded.chunks(BATCH) {
            tiles.push(BatchTile::new(quantizer, query_codes, which)?);
        }
        let lowest = |_| AtomicU64::new(f64::NEG_INFINITY.to_bits());
        let thresholds = collected((0..queries.len()).map(lowest), "the thresholds")?;
        Ok(BatchScan { quantizer, tiles, uncoded, thresholds })
    }

    /// Rows of a panel, whole blocks.
    fn panel_rows(&self) -> usize {
        (PANEL_BYTES / unpacked_stride(self.quantizer.dims) / BLOCK * BLOCK).clamp(BLOCK, PANEL_ROWS)
    }

    /// Rows of a job, so that each of `threads` workers gets several.
    pub fn job_rows(&self, rows: u64, threads: usize) -> usize {
        let share = (rows as usize).div_ceil(4 * threads).next_multiple_of(self.panel_rows());
        (JOB_PANELS * self.panel_rows()).min(share)
    }
}

impl<'a> BatchTile<'a> {
    fn new(quantizer: &Quantizer, query_codes: &'a [Option<QueryCode>], which: &[usize]) -> Result<Self> {
        let stride = unpacked_stride(quantizer.dims);
        let lines = |bytes: usize| filled(BATCH * stride * bytes / LINE, Line::zeroed(), "the codes of queries");
        let (mut words, mut high, mut low) = (lines(2)?, lines(1)?, lines(1)?);
        let query_codes: Vec<&QueryCode> = which.iter().filter_map(|&i| query_codes[i].as_ref()).collect();
        let parts = (cast_slice_mut::<Line, i16>(&mut words), cast_slice_mut::<Line, i8>(&mut high), cast_slice_mut::<Line, i8>(&mut low));
        for (i, query_code) in query_codes.iter().enumerate() {
            for (at, &word) in (i * stride..).zip(query_code.words()) {
                parts.0[at] = word;
                (parts.1[at], parts.2[at]) = int16::bytes(word);
            }
        }
        Ok(BatchTile { queries: which.to_vec(), query_codes, words, high, low })
    }
}

/// A worker's buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Bounds of the panel's rows for a tile, and which of them reach the thresholds.
    bounds: Vec<f32>,
    keep: Vec<u16>,
    /// Candidates of one query: upper bound of the key and row number within the segment.
    rows: Vec<(f64, usize)>,
    buffer: PanelBuffer,
    /// Panels yet to be scored by float32 tiles without bounds.
    skip: usize,
    /// Twice `skip` as it was set last; grows with each panel that leaves most queries undecided.
    pause: usize,
}

/// The unpacked codes of consecutive blocks.
#[derive(Debug, Default)]
pub(super) struct UnpackedPanel {
    rows: Range<usize>,
    codes: Vec<Line>,
    offsets: Vec<f32>,
    residuals: Vec<f32>,
    /// One value a block; bit r is set if its row r is in a run.
    allowed: Vec<u16>,
    /// Norms of the shortest and the longest row of the runs that is at least [`LEAST_NORM`] long; not for cosine.
    lengths: (f64, f64),
}

impl UnpackedPanel {
    fn fill(&mut self, job: &Job, quantizer: &Quantizer, codes: &Codes, rows: Range<usize>) {
        let segment = &job.segments[job.runs[0].segment];
        let (stride, bytes, block_bytes) = (unpacked_stride(quantizer.dims), quantizer.remainder_bytes(), quantizer.block_bytes());
        self.codes.resize(rows.len() * stride / LINE, Line::zeroed());
        for (block, out) in (rows.start / BLOCK..rows.end / BLOCK).zip(cast_slice_mut(&mut self.codes).chunks_exact_mut(BLOCK * stride)) {
            let own = block * BLOCK..segment.len().min((block + 1) * BLOCK);
            let lines = &codes.lines[block * block_bytes..(block + 1) * block_bytes];
            (job.plan.kernel.unpack_codes)(lines, &codes.remainder[own.start * bytes..own.end * bytes], bytes, quantizer.leading, out);
        }
        self.offsets.clear();
        self.offsets.extend_from_slice(&codes.offsets[rows.clone()]);
        // A row without a direction has an infinite leading residual, and no other.
        let residuals = codes.remainder_residuals[rows.clone()].iter().zip(&codes.leading_residuals[rows.clone()]);
        self.residuals.clear();
        self.residuals.extend(
            residuals.map(|(&remainder, &leading)| if from_bf16(leading) == f32::INFINITY { f32::INFINITY } else { from_bf16(remainder) }),
        );
        self.allowed.clear();
        self.allowed.resize(rows.len() / BLOCK, 0);
        self.lengths = (f64::INFINITY, 0.0);
        for run in job.runs {
            for block in run.rows.start / BLOCK..run.rows.end.div_ceil(BLOCK) {
                let (from, to) = (run.rows.start.max(block * BLOCK) % BLOCK, run.rows.end.min((block + 1) * BLOCK) - block * BLOCK);
                self.allowed[block - rows.start / BLOCK] |= u16::MAX << from & u16::MAX >> (BLOCK - to);
            }
            if job.plan.metric != Metric::Cosine {
                let norms = segment.norms[run.rows.clone()].iter().filter(|&&norm| norm >= LEAST_NORM);
                self.lengths = norms.fold(self.lengths, |(low, high), &norm| (low.min(norm), high.max(norm)));
            }
        }
        self.rows = rows;
    }
}

/// Offers the rows of the job that may be among a query's best to that query.
pub(super) fn visit(job: &Job, scan: &BatchScan, worker: &mut Worker) -> Result<()> {
    for runs in job.runs.chunk_by(|a, b| a.segment == b.segment) {
        let segment = &job.segments[runs[0].segment];
        let Some(codes) = segment.codes else { continue };
        let (first, end) = (runs[0].rows.start / BLOCK * BLOCK, runs[runs.len() - 1].rows.end.next_multiple_of(BLOCK));
        for start in (first..end).step_by(scan.panel_rows()) {
            let span = start..end.min(start + scan.panel_rows());
            let within: Vec<Run> = Run::within(runs, &span).collect();
            if within.is_empty() {
                continue;
            }
            let job = &Job { runs: &within, ..*job };
            for (top, threshold) in worker.best.iter_mut().zip(&scan.thresholds) {
                top.raise(f64::from_bits(threshold.load(Ordering::Relaxed)));
            }
            let (panel, scratch) = (&mut worker.unpacked, &mut worker.batch);
            let undecided = if scratch.skip > 0 {
                scratch.skip -= 1;
                (0..job.queries.len()).collect()
            } else {
                panel.fill(job, scan.quantizer, &codes, span);
                let undecided = PanelSearch { job, scan, segment, panel }.refine(&mut worker.best, scratch)?;
                let wasted = 4 * undecided.len() > 3 * job.queries.len();
                scratch.pause = if wasted { (2 * scratch.pause + 1).min(MAX_PAUSE) } else { 0 };
                scratch.skip = scratch.pause / 2;
                undecided
            };
            refine::undecided(job, &undecided, worker)?;
            for (top, threshold) in worker.best.iter().zip(&scan.thresholds) {
                let raised = |bits| (top.threshold() > f64::from_bits(bits)).then(|| top.threshold().to_bits());
                let _ = threshold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
            }
        }
    }
    Ok(())
}

/// All queries in one panel.
struct PanelSearch<'a> {
    job: &'a Job<'a>,
    scan: &'a BatchScan<'a>,
    segment: &'a Rows<'a>,
    panel: &'a UnpackedPanel,
}

impl PanelSearch<'_> {
    /// Reads the rows that may be among a query's best; returns the queries that have too many of them.
    fn refine(&self, best: &mut [TopK], scratch: &mut Scratch) -> Result<Vec<usize>> {
        let (job, dims, count) = (self.job, self.scan.quantizer.dims, self.panel.rows.len());
        let mut undecided = self.scan.uncoded.clone();
        for tile in &self.scan.tiles {
            job.watch.check()?;
            self.full_bounds(tile, best, scratch);
            for (i, &query) in tile.queries.iter().enumerate() {
                let top = &mut best[query];
                top.tally.code_bytes += (count * (dims + 6)) as u64;
                self.collect(i, query, top.threshold(), scratch);
                if scratch.rows.len() > self.max_reads() {
                    undecided.push(query);
                    continue;
                }
                // Rows that are no candidates have keys below the threshold.
                top.tally.best_left = top.tally.best_left.max(top.threshold());
                if !scratch.rows.is_empty() {
                    refine::in_order(job.query(query), self.segment, &mut scratch.rows, top, &mut scratch.buffer);
                }
            }
        }
        Ok(undecided)
    }

    /// Full bounds of the cosines of the panel's rows for a tile, and which of them reach their query's threshold.
    fn full_bounds(&self, tile: &BatchTile, best: &[TopK], scratch: &mut Scratch) {
        let (panel, plan, queries) = (self.panel, self.job.plan, self.job.queries);
        scratch.bounds.resize(panel.rows.len() * BATCH, 0.0);
        scratch.keep.resize(panel.rows.len(), 0);
        let factors = tile.query_codes.iter().zip(&tile.queries).map(|(query_code, &query)| {
            query_code.factors(bound::cosine_threshold(plan.metric, best[query].threshold(), queries.norm(query), panel.lengths))
        });
        let factors: Vec<BoundFactors> = factors.collect();
        let [high, low] = [&tile.high, &tile.low].map(|plane| cast_slice(plane));
        let dims = self.scan.quantizer.dims.next_multiple_of(8);
        let tile = Int8Batch { dims, words: cast_slice(&tile.words), high, low, factors: &factors };
        let rows = UnpackedCodes { codes: cast_slice(&panel.codes), offsets: &panel.offsets, residuals: &panel.residuals };
        (plan.kernel.int8_batch)(&tile, &rows, &mut scratch.bounds, &mut scratch.keep);
    }

    /// Collects the rows whose full bound reaches the threshold of query `i` of its tile, with bounds of their keys;
    /// of more than [`PanelSearch::max_reads`], some.
    fn collect(&self, i: usize, query: usize, threshold: f64, scratch: &mut Scratch) {
        let Scratch { keep, bounds, rows, .. } = scratch;
        let (metric, norm, norms) = (self.job.plan.metric, self.job.queries.norm(query), self.segment.norms);
        let most = self.max_reads();
        // The bounds of zero rows are infinite, but one bound of the key holds for all of them.
        let zeros_excluded = bound::zero_norm_bound(metric, norm) < threshold;
        rows.clear();
        for (block, allowed) in self.panel.allowed.iter().enumerate() {
            let at = BATCH * block + i;
            let mut bits = keep[at] & allowed;
            while bits != 0 && rows.len() <= most {
                let lane = bits.trailing_zeros() as usize;
                let row = self.panel.rows.start + BLOCK * block + lane;
                let key = bound::key_bound(metric, f64::from(bounds[BLOCK * at + lane]), norm, norms[row]);
                if !(zeros_excluded && norms[row] == 0.0 || key < threshold) {
                    // NaN bounds nothing: such a row is read first.
                    rows.push((if key.is_nan() { f64::INFINITY } else { key }, row));
                }
                bits &= bits - 1;
            }
        }
    }

    /// Rows that a query may read of the panel.
    fn max_reads(&self) -> usize {
        (self.panel.rows.len() / ROWS_PER_READ).max(MIN_READS)
    }
}
