//! Batches by codes: the codes of a panel are joined to bytes once, each tile of queries goes over them
//! in integers, and only the rows whose bound reaches a query's floor are read for it, in order of bound.
//!
//! Where a panel leaves a query too much, as the first one does that it meets, float32 tiles visit the
//! panel for it; where panels leave most queries too much, most panels are not sieved at all.

use super::float32;
use super::panel::Panels;
use super::{Plan, Queries, Run, refine};
use crate::error::Result;
use crate::kernel::{BATCH, BoundFactors, Int8Batch, Line, UnpackedCodes, unpacked_stride};
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::query_code::QueryCode;
use crate::quantize::{BLOCK, Codes, LEAST_NORM, Quantizer, from_bf16};
use crate::quantize::{bound, int16};
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a panel's codes: a part of L2, with room for the queries.
const PANEL_BYTES: usize = 512 << 10;
/// Rows of a panel, at most.
const PANEL_ROWS: usize = 2048;
/// Panels of a job.
const JOB_PANELS: usize = 4;
/// A panel is visited by tiles for a query that would read more than one row in so many, if they are
/// more than a few.
const READS: usize = 100;
const LEAST_READS: usize = 3;
/// Twice the panels that are not sieved after one that was sieved in vain, at most.
const LONGEST_PAUSE: usize = 31;
const LINE: usize = size_of::<Line>();

/// The queries of a search as sieves see them.
#[derive(Debug)]
pub(super) struct BatchScan<'a> {
    quantizer: &'a Quantizer,
    tiles: Vec<BatchTile<'a>>,
    /// Queries without a direction, such as zero.
    others: Vec<usize>,
    /// Bits of the highest floor that any worker has reached, a query each.
    thresholds: Vec<AtomicU64>,
}

/// Some queries, side by side.
#[derive(Debug)]
struct BatchTile<'a> {
    queries: Vec<usize>,
    query_codes: Vec<&'a QueryCode>,
    /// Of int16, then of int8 twice, as [`Int8Batch`] wants them.
    words: Vec<Line>,
    high: Vec<Line>,
    low: Vec<Line>,
}

impl<'a> BatchScan<'a> {
    /// Prepares every query.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(plan: &Plan, quantizer: &'a Quantizer, queries: &'a Queries, watch: &Watch) -> Result<Self> {
        let query_codes = queries.query_codes(plan.kernel, quantizer, plan.threads, watch)?;
        let (some, others): (Vec<usize>, Vec<usize>) = (0..queries.len()).partition(|&i| query_codes[i].is_some());
        let tiles = some.chunks(BATCH).map(|some| BatchTile::new(quantizer, query_codes, some)).collect();
        let thresholds = (0..queries.len()).map(|_| AtomicU64::new(f64::NEG_INFINITY.to_bits())).collect();
        Ok(BatchScan { quantizer, tiles, others, thresholds })
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
    fn new(quantizer: &Quantizer, query_codes: &'a [Option<QueryCode>], some: &[usize]) -> Self {
        let stride = unpacked_stride(quantizer.dims);
        let lines = |bytes: usize| vec![Line::zeroed(); BATCH * stride * bytes / LINE];
        let (mut words, mut high, mut low) = (lines(2), lines(1), lines(1));
        let query_codes: Vec<&QueryCode> = some.iter().filter_map(|&i| query_codes[i].as_ref()).collect();
        let parts = (cast_slice_mut::<Line, i16>(&mut words), cast_slice_mut::<Line, i8>(&mut high), cast_slice_mut::<Line, i8>(&mut low));
        for (i, query_code) in query_codes.iter().enumerate() {
            for (at, &word) in (i * stride..).zip(query_code.words()) {
                parts.0[at] = word;
                (parts.1[at], parts.2[at]) = int16::bytes(word);
            }
        }
        BatchTile { queries: some.to_vec(), query_codes, words, high, low }
    }
}

/// What a worker needs besides rows.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bounds: Vec<f32>,
    keep: Vec<u16>,
    buffer: PanelBuffer,
    rows: Vec<(f64, usize)>,
    /// Panels yet to be left to tiles, and how many after the next that is sieved in vain.
    remainder: usize,
    longer: usize,
}

/// The codes of some rows, joined.
#[derive(Debug, Default)]
pub(super) struct UnpackedPanel {
    rows: Range<usize>,
    codes: Vec<Line>,
    offsets: Vec<f32>,
    residuals: Vec<f32>,
    /// Bit r of a block: its row r may be found.
    allowed: Vec<u16>,
    /// Shortest and longest row that has a direction.
    lengths: (f64, f64),
}

impl UnpackedPanel {
    fn fill(&mut self, plan: &Plan, quantizer: &Quantizer, segment: &Rows, codes: &Codes, rows: Range<usize>, runs: &[Run]) {
        let (stride, bytes, block_bytes) = (unpacked_stride(quantizer.dims), quantizer.remainder_bytes(), quantizer.block_bytes());
        self.codes.resize(rows.len() * stride / LINE, Line::zeroed());
        for (block, out) in (rows.start / BLOCK..rows.end / BLOCK).zip(cast_slice_mut(&mut self.codes).chunks_exact_mut(BLOCK * stride)) {
            let own = block * BLOCK..segment.len().min((block + 1) * BLOCK);
            let lines = &codes.lines[block * block_bytes..(block + 1) * block_bytes];
            (plan.kernel.unpack_codes)(lines, &codes.remainder[own.start * bytes..own.end * bytes], bytes, quantizer.leading, out);
        }
        self.offsets.clear();
        self.offsets.extend_from_slice(&codes.offsets[rows.clone()]);
        // A row without a direction has an infinite lead residual, and no other.
        let residuals = codes.remainder_residuals[rows.clone()].iter().zip(&codes.leading_residuals[rows.clone()]);
        self.residuals.clear();
        self.residuals.extend(
            residuals.map(|(&remainder, &leading)| if from_bf16(leading) == f32::INFINITY { f32::INFINITY } else { from_bf16(remainder) }),
        );
        self.allowed.clear();
        self.allowed.resize(rows.len() / BLOCK, 0);
        self.lengths = (f64::INFINITY, 0.0);
        for run in runs {
            for block in run.rows.start / BLOCK..run.rows.end.div_ceil(BLOCK) {
                let (from, to) = (run.rows.start.max(block * BLOCK) % BLOCK, run.rows.end.min((block + 1) * BLOCK) - block * BLOCK);
                self.allowed[block - rows.start / BLOCK] |= u16::MAX << from & u16::MAX >> (BLOCK - to);
            }
            // A cosine knows no lengths.
            if plan.metric != Metric::Cosine {
                let norms = segment.norms[run.rows.clone()].iter().filter(|&&norm| norm >= LEAST_NORM);
                self.lengths = norms.fold(self.lengths, |(low, high), &norm| (low.min(norm), high.max(norm)));
            }
        }
        self.rows = rows;
    }
}

/// Offers every row of `runs` that may be among a query's best to that query.
pub(super) fn visit(
    plan: &Plan,
    segments: &[Rows],
    runs: &[Run],
    queries: &Queries,
    batch: &BatchScan,
    worker: (&mut Panels, &mut [TopK], &mut float32::Scratch, &mut (UnpackedPanel, Scratch)),
    watch: &Watch,
) -> Result<()> {
    let (panels, best, tile, (panel, scratch)) = worker;
    for runs in runs.chunk_by(|a, b| a.segment == b.segment) {
        let segment = &segments[runs[0].segment];
        let Some(codes) = segment.codes else { continue };
        let (first, end) = (runs[0].rows.start / BLOCK * BLOCK, runs[runs.len() - 1].rows.end.next_multiple_of(BLOCK));
        for start in (first..end).step_by(batch.panel_rows()) {
            let span = start..end.min(start + batch.panel_rows());
            let within: Vec<Run> = Run::within(runs, &span).collect();
            if within.is_empty() {
                continue;
            }
            for (top, threshold) in best.iter_mut().zip(&batch.thresholds) {
                top.raise(f64::from_bits(threshold.load(Ordering::Relaxed)));
            }
            let undecided = if scratch.remainder > 0 {
                scratch.remainder -= 1;
                (0..queries.len()).collect()
            } else {
                panel.fill(plan, batch.quantizer, segment, &codes, span, &within);
                let left = PanelSearch { plan, queries, batch, segment, panel }.refine_segment(best, scratch, watch)?;
                let vain = 4 * left.len() > 3 * queries.len();
                scratch.longer = if vain { (2 * scratch.longer + 1).min(LONGEST_PAUSE) } else { 0 };
                scratch.remainder = scratch.longer / 2;
                left
            };
            refine::all(plan, segments, &within, queries, &undecided, (panels, best, tile), watch)?;
            for (top, threshold) in best.iter().zip(&batch.thresholds) {
                let raised = |bits| (top.threshold() > f64::from_bits(bits)).then(|| top.threshold().to_bits());
                let _ = threshold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
            }
        }
    }
    Ok(())
}

/// One panel, and the queries that meet it.
struct PanelSearch<'a> {
    plan: &'a Plan<'a>,
    queries: &'a Queries,
    batch: &'a BatchScan<'a>,
    segment: &'a Rows<'a>,
    panel: &'a UnpackedPanel,
}

impl PanelSearch<'_> {
    /// Settles the panel for the queries for which codes decide enough; returns the others.
    fn refine_segment(&self, best: &mut [TopK], scratch: &mut Scratch, watch: &Watch) -> Result<Vec<usize>> {
        let (plan, quantizer, panel) = (self.plan, self.batch.quantizer, self.panel);
        let (count, most) = (panel.rows.len(), self.most());
        scratch.bounds.resize(count * BATCH, 0.0);
        scratch.keep.resize(count, 0);
        let wide = UnpackedCodes { codes: cast_slice(&panel.codes), offsets: &panel.offsets, residuals: &panel.residuals };
        let mut undecided = self.batch.others.clone();
        for tile in &self.batch.tiles {
            watch.check()?;
            let factors = tile.query_codes.iter().zip(&tile.queries).map(|(query_code, &query)| {
                query_code.factors(bound::cosine_threshold(plan.metric, best[query].threshold(), self.queries.norm(query), panel.lengths))
            });
            let factors: Vec<BoundFactors> = factors.collect();
            let [high, low] = [&tile.high, &tile.low].map(|plane| cast_slice(plane));
            let int8_batch =
                Int8Batch { dims: quantizer.dims.next_multiple_of(8), words: cast_slice(&tile.words), high, low, factors: &factors };
            (plan.kernel.int8_batch)(&int8_batch, &wide, &mut scratch.bounds, &mut scratch.keep);
            for (i, &query) in tile.queries.iter().enumerate() {
                let top = &mut best[query];
                top.tally.code_bytes += (count * (quantizer.dims + 6)) as u64;
                self.kept(i, query, top.threshold(), scratch);
                if scratch.rows.len() > most {
                    undecided.push(query);
                    continue;
                }
                // What the sieve did not keep is below the floor.
                top.tally.best_left = top.tally.best_left.max(top.threshold());
                if !scratch.rows.is_empty() {
                    refine::in_order(plan, self.queries, query, self.segment, &mut scratch.rows, top, &mut scratch.buffer);
                }
            }
        }
        Ok(undecided)
    }

    /// The rows that the sieve kept for query `i` of its tile, with bounds of their keys; of too many, some.
    fn kept(&self, i: usize, query: usize, threshold: f64, scratch: &mut Scratch) {
        let Scratch { keep, bounds, rows, .. } = scratch;
        let (metric, norm, norms) = (self.plan.metric, self.queries.norm(query), self.segment.norms);
        let most = self.most();
        // Zero rows have no bound of their own, but one for all.
        let zeros_out = bound::zero_norm_bound(metric, norm) < threshold;
        rows.clear();
        for (block, allowed) in self.panel.allowed.iter().enumerate() {
            let at = BATCH * block + i;
            let mut bits = keep[at] & allowed;
            while bits != 0 && rows.len() <= most {
                let lane = bits.trailing_zeros() as usize;
                let row = self.panel.rows.start + BLOCK * block + lane;
                let key = bound::key_bound(metric, f64::from(bounds[BLOCK * at + lane]), norm, norms[row]);
                // What is no number bounds nothing: such a row is the first to be read.
                if !(zeros_out && norms[row] == 0.0 || key < threshold) {
                    rows.push((if key.is_nan() { f64::INFINITY } else { key }, row));
                }
                bits &= bits - 1;
            }
        }
    }

    /// Rows that a query may read of the panel; of more, tiles make shorter work.
    fn most(&self) -> usize {
        (self.panel.rows.len() / READS).max(LEAST_READS)
    }
}
