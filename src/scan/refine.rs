//! Refinement: candidates are read in full in the order of their upper bounds, until a bound is below the threshold.
//! No method that relies on the same bounds reads fewer rows (Seidl and Kriegel, SIGMOD 1998). Queries for which
//! codes exclude too few rows read all of them.

use super::float32::Tiles;
use super::panel::Panel;
use super::query::Query;
use super::{FLOAT32_MIN_QUERIES, Job, Worker, few_dims, float64};
use crate::error::Result;
use crate::kernel::prefetch;
use crate::metric::Metric;
use crate::quantize::Quantizer;
use crate::quantize::bound;
use crate::quantize::query_code::QueryCode;
use crate::store::ReadAhead;
use crate::store::rows::{PanelBuffer, Rows};
use crate::topk::TopK;

/// Rows requested from disk at a time: the threshold rises meanwhile, and rows requested but never read are wasted.
const DISK_AHEAD: usize = 4;

/// How many rows ahead of the current one are prefetched: as many cache misses as a CPU can have open.
const AHEAD: usize = 2;

/// Computes full bounds from codes for one query.
#[derive(Clone, Copy)]
pub(super) struct FullBound<'a> {
    pub query: Query<'a>,
    pub query_code: &'a QueryCode,
    pub quantizer: &'a Quantizer,
}

impl FullBound<'_> {
    /// The full bound of a row's key, infinite where it would be NaN.
    ///
    /// `coarse` is the coarse bound of its cosine, `remainder` its codes that the coarse bound leaves out, `residuals` the
    /// residual norms of its leading dims, its trailing dims and all of its codes, and `norms[row]` its norm.
    #[inline(always)]
    pub fn key(&self, coarse: f32, remainder: &[u8], residuals: [u16; 3], (norms, row): (&[f64], usize)) -> f64 {
        let metric = self.query.plan.metric;
        let cosine = self.query_code.full_bound(self.query.plan.kernel, self.quantizer, remainder, residuals, coarse);
        // A cosine needs no norm, and loading it is a cache miss. A reference to it would be loaded by the caller: compilers
        // pass its value.
        let norm = if metric == Metric::Cosine { 1.0 } else { norms[row] };
        let key = bound::key_bound(metric, cosine, self.query.norm(), norm);
        if key.is_nan() { f64::INFINITY } else { key }
    }

    /// Counts `rows`, given with their full bounds, and drops those whose bound is below the threshold.
    pub fn keep(&self, rows: &mut Vec<(f64, usize)>, top: &mut TopK) {
        top.tally.bounded += rows.len() as u64;
        top.tally.code_bytes += (rows.len() * self.quantizer.remainder_bytes()) as u64;
        let (threshold, left) = (top.threshold(), &mut top.tally.best_left);
        rows.retain(|&(bound, _)| {
            let kept = bound >= threshold;
            if !kept {
                *left = left.max(bound);
            }
            kept
        });
    }
}

/// Sorts `rows` of a segment, given with upper bounds of their keys, and offers them, highest bound first, until a
/// bound is below the threshold. Returns how many were read.
pub(super) fn in_order(query: Query, segment: &Rows, rows: &mut [(f64, usize)], top: &mut TopK, buffer: &mut PanelBuffer) -> usize {
    let segment = segment.scattered();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut disk = ReadAhead::new(DISK_AHEAD, rows.len(), segment.in_memory);
    let mut read = 0;
    let fetch = |row: usize| {
        prefetch(segment.stored(row));
        prefetch(&segment.norms[row..=row]);
    };
    rows.iter().take(AHEAD).for_each(|&(_, row)| fetch(row));
    for &(bound, row) in rows.iter() {
        if bound < top.threshold() {
            top.tally.best_left = top.tally.best_left.max(bound);
            break;
        }
        let next = rows[read..].iter().take_while(|next| next.0 >= top.threshold());
        disk.before(read, next.map(|&(_, row)| segment.stored(row)));
        if let Some(&(_, next)) = rows.get(read + AHEAD) {
            fetch(next);
        }
        buffer.clear();
        let in_place = segment.in_place(row..row + 1);
        if in_place.is_none() {
            segment.decode(query.plan.kernel, row..row + 1, buffer);
        }
        let panel = Panel {
            values: in_place.unwrap_or_else(|| buffer.values()),
            rows: &[segment.first + row as u64],
            norms: &segment.norms[row..row + 1],
        };
        top.tally.refined += 1;
        top.push(float64::key(query, &panel, 0), panel.rows[0]);
        // A cut costs O(k): done after every row only while that is cheap beside reading one.
        if read % (query.plan.k / 64 + 1) == 0 {
            top.cut();
        }
        read += 1;
    }
    top.cut();
    read
}

/// Offers every row of the job to the `undecided` queries, for which codes exclude too few rows.
pub(super) fn undecided(job: &Job, undecided: &[usize], worker: &mut Worker) -> Result<()> {
    if undecided.is_empty() {
        return Ok(());
    }
    let tiles =
        (undecided.len() >= FLOAT32_MIN_QUERIES && !job.has_float64_rows()).then(|| Tiles::new(job.queries, undecided)).transpose()?;
    all(job, undecided, tiles.as_ref(), worker)
}

/// Offers every row of the job to the queries numbered `which`, by `tiles` of the same queries if given.
pub(super) fn all(job: &Job, which: &[usize], tiles: Option<&Tiles>, worker: &mut Worker) -> Result<()> {
    let Worker { panels, best, float32, .. } = worker;
    panels.visit(job, &mut |panel| {
        job.watch.check()?;
        match tiles {
            Some(tiles) => float32.visit(job, tiles, panel, best)?,
            None => which.iter().for_each(|&i| few_dims::visit(job.query(i), panel, &mut best[i])),
        }
        Ok(())
    })
}
