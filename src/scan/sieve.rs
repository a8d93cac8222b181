//! Batches by codes: the codes of a panel are joined to bytes once, each tile of queries goes over them
//! in integers, and only the rows whose bound reaches a query's floor are read for it, in order of bound.
//!
//! Where a panel leaves a query too much, as the first one does that it meets, float32 tiles visit the
//! panel for it; where panels leave most queries too much, most panels are not sieved at all.

use super::panel::Panels;
use super::tile;
use super::{Plan, Queries, Run, refine};
use crate::code::margin::{self, Look};
use crate::code::{BLOCK, Coder, Codes, LEAST_NORM, from16};
use crate::error::Result;
use crate::kernel::{Line, SIEVE, Sieve, SieveFactors, Wide, wide_stride};
use crate::metric::Metric;
use crate::pool::Watch;
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
const LONGEST_REST: usize = 31;
const LINE: usize = size_of::<Line>();

/// The queries of a search as sieves see them.
#[derive(Debug)]
pub(super) struct Sieved<'a> {
    coder: &'a Coder,
    tiles: Vec<SievedTile<'a>>,
    /// Queries without a direction, such as zero.
    others: Vec<usize>,
    /// Bits of the highest floor that any worker has reached, a query each.
    floors: Vec<AtomicU64>,
}

/// Some queries, side by side.
#[derive(Debug)]
struct SievedTile<'a> {
    queries: Vec<usize>,
    looks: Vec<&'a Look>,
    /// Of int16, then of int8 twice, as [`Sieve`] wants them.
    words: Vec<Line>,
    high: Vec<Line>,
    low: Vec<Line>,
}

impl<'a> Sieved<'a> {
    /// Prepares every query.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn new(plan: &Plan, coder: &'a Coder, queries: &'a Queries, watch: &Watch) -> Result<Self> {
        let looks = queries.looks(plan.kernel, coder, plan.threads, watch)?;
        let (some, others): (Vec<usize>, Vec<usize>) = (0..queries.len()).partition(|&i| looks[i].is_some());
        let tiles = some.chunks(SIEVE).map(|some| SievedTile::new(coder, looks, some)).collect();
        let floors = (0..queries.len()).map(|_| AtomicU64::new(f64::NEG_INFINITY.to_bits())).collect();
        Ok(Sieved { coder, tiles, others, floors })
    }

    /// Rows of a panel, whole blocks.
    fn panel_rows(&self) -> usize {
        (PANEL_BYTES / wide_stride(self.coder.dims) / BLOCK * BLOCK).clamp(BLOCK, PANEL_ROWS)
    }

    /// Rows of a job, so that each of `threads` workers gets several.
    pub fn job_rows(&self, rows: u64, threads: usize) -> usize {
        let share = (rows as usize).div_ceil(4 * threads).next_multiple_of(self.panel_rows());
        (JOB_PANELS * self.panel_rows()).min(share)
    }
}

impl<'a> SievedTile<'a> {
    fn new(coder: &Coder, looks: &'a [Option<Look>], some: &[usize]) -> Self {
        let stride = wide_stride(coder.dims);
        let lines = |bytes: usize| vec![Line::zeroed(); SIEVE * stride * bytes / LINE];
        let (mut words, mut high, mut low) = (lines(2), lines(1), lines(1));
        let looks: Vec<&Look> = some.iter().filter_map(|&i| looks[i].as_ref()).collect();
        let parts = (cast_slice_mut::<Line, i16>(&mut words), cast_slice_mut::<Line, i8>(&mut high), cast_slice_mut::<Line, i8>(&mut low));
        for (i, look) in looks.iter().enumerate() {
            for (at, &word) in (i * stride..).zip(look.words()) {
                parts.0[at] = word;
                (parts.1[at], parts.2[at]) = margin::bytes(word);
            }
        }
        SievedTile { queries: some.to_vec(), looks, words, high, low }
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
    rest: usize,
    longer: usize,
}

/// The codes of some rows, joined.
#[derive(Debug, Default)]
pub(super) struct WidePanel {
    rows: Range<usize>,
    codes: Vec<Line>,
    offsets: Vec<f32>,
    residuals: Vec<f32>,
    /// Bit r of a block: its row r may be found.
    allowed: Vec<u16>,
    /// Shortest and longest row that has a direction.
    lengths: (f64, f64),
}

impl WidePanel {
    fn fill(&mut self, plan: &Plan, coder: &Coder, segment: &Rows, codes: &Codes, rows: Range<usize>, runs: &[Run]) {
        let (stride, bytes, block_bytes) = (wide_stride(coder.dims), coder.rest_bytes(), coder.block_bytes());
        self.codes.resize(rows.len() * stride / LINE, Line::zeroed());
        for (block, out) in (rows.start / BLOCK..rows.end / BLOCK).zip(cast_slice_mut(&mut self.codes).chunks_exact_mut(BLOCK * stride)) {
            let own = block * BLOCK..segment.len().min((block + 1) * BLOCK);
            let lines = &codes.lines[block * block_bytes..(block + 1) * block_bytes];
            (plan.kernel.widen)(lines, &codes.rest[own.start * bytes..own.end * bytes], bytes, coder.lead, out);
        }
        self.offsets.clear();
        self.offsets.extend_from_slice(&codes.offsets[rows.clone()]);
        // A row without a direction has an infinite lead residual, and no other.
        let residuals = codes.rest_residuals[rows.clone()].iter().zip(&codes.lead_residuals[rows.clone()]);
        self.residuals.clear();
        self.residuals.extend(residuals.map(|(&rest, &lead)| if from16(lead) == f32::INFINITY { f32::INFINITY } else { from16(rest) }));
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
    sieved: &Sieved,
    worker: (&mut Panels, &mut [TopK], &mut tile::Scratch, &mut (WidePanel, Scratch)),
    watch: &Watch,
) -> Result<()> {
    let (panels, best, tile, (panel, scratch)) = worker;
    for runs in runs.chunk_by(|a, b| a.segment == b.segment) {
        let segment = &segments[runs[0].segment];
        let Some(codes) = segment.codes else { continue };
        let (first, end) = (runs[0].rows.start / BLOCK * BLOCK, runs[runs.len() - 1].rows.end.next_multiple_of(BLOCK));
        for start in (first..end).step_by(sieved.panel_rows()) {
            let span = start..end.min(start + sieved.panel_rows());
            let within: Vec<Run> = Run::within(runs, &span).collect();
            if within.is_empty() {
                continue;
            }
            for (top, floor) in best.iter_mut().zip(&sieved.floors) {
                top.raise(f64::from_bits(floor.load(Ordering::Relaxed)));
            }
            let unsettled = if scratch.rest > 0 {
                scratch.rest -= 1;
                (0..queries.len()).collect()
            } else {
                panel.fill(plan, sieved.coder, segment, &codes, span, &within);
                let left = Sift { plan, queries, sieved, segment, panel }.settle(best, scratch, watch)?;
                let vain = 4 * left.len() > 3 * queries.len();
                scratch.longer = if vain { (2 * scratch.longer + 1).min(LONGEST_REST) } else { 0 };
                scratch.rest = scratch.longer / 2;
                left
            };
            refine::all(plan, segments, &within, queries, &unsettled, (panels, best, tile), watch)?;
            for (top, floor) in best.iter().zip(&sieved.floors) {
                let raised = |bits| (top.floor() > f64::from_bits(bits)).then(|| top.floor().to_bits());
                let _ = floor.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
            }
        }
    }
    Ok(())
}

/// One panel, and the queries that meet it.
struct Sift<'a> {
    plan: &'a Plan<'a>,
    queries: &'a Queries,
    sieved: &'a Sieved<'a>,
    segment: &'a Rows<'a>,
    panel: &'a WidePanel,
}

impl Sift<'_> {
    /// Settles the panel for the queries for which codes decide enough; returns the others.
    fn settle(&self, best: &mut [TopK], scratch: &mut Scratch, watch: &Watch) -> Result<Vec<usize>> {
        let (plan, coder, panel) = (self.plan, self.sieved.coder, self.panel);
        let (count, most) = (panel.rows.len(), self.most());
        scratch.bounds.resize(count * SIEVE, 0.0);
        scratch.keep.resize(count, 0);
        let wide = Wide { codes: cast_slice(&panel.codes), offsets: &panel.offsets, residuals: &panel.residuals };
        let mut unsettled = self.sieved.others.clone();
        for tile in &self.sieved.tiles {
            watch.check()?;
            let factors = tile.looks.iter().zip(&tile.queries).map(|(look, &query)| {
                look.factors(margin::least_cosine(plan.metric, best[query].floor(), self.queries.norm(query), panel.lengths))
            });
            let factors: Vec<SieveFactors> = factors.collect();
            let [high, low] = [&tile.high, &tile.low].map(|plane| cast_slice(plane));
            let sieve = Sieve { dims: coder.dims.next_multiple_of(8), words: cast_slice(&tile.words), high, low, factors: &factors };
            (plan.kernel.sieve)(&sieve, &wide, &mut scratch.bounds, &mut scratch.keep);
            for (i, &query) in tile.queries.iter().enumerate() {
                let top = &mut best[query];
                top.tally.code_bytes += (count * (coder.dims + 6)) as u64;
                self.kept(i, query, top.floor(), scratch);
                if scratch.rows.len() > most {
                    unsettled.push(query);
                    continue;
                }
                // What the sieve did not keep is below the floor.
                top.tally.left = top.tally.left.max(top.floor());
                if !scratch.rows.is_empty() {
                    refine::in_order(plan, self.queries, query, self.segment, &mut scratch.rows, top, &mut scratch.buffer);
                }
            }
        }
        Ok(unsettled)
    }

    /// The rows that the sieve kept for query `i` of its tile, with bounds of their keys; of too many, some.
    fn kept(&self, i: usize, query: usize, floor: f64, scratch: &mut Scratch) {
        let Scratch { keep, bounds, rows, .. } = scratch;
        let (metric, norm, norms) = (self.plan.metric, self.queries.norm(query), self.segment.norms);
        let most = self.most();
        // Zero rows have no bound of their own, but one for all.
        let zeros_out = margin::vanishing_bound(metric, norm) < floor;
        rows.clear();
        for (block, allowed) in self.panel.allowed.iter().enumerate() {
            let at = SIEVE * block + i;
            let mut bits = keep[at] & allowed;
            while bits != 0 && rows.len() <= most {
                let lane = bits.trailing_zeros() as usize;
                let row = self.panel.rows.start + BLOCK * block + lane;
                let key = margin::key_bound(metric, f64::from(bounds[BLOCK * at + lane]), norm, norms[row]);
                // What is no number bounds nothing: such a row is the first to be read.
                if !(zeros_out && norms[row] == 0.0 || key < floor) {
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
