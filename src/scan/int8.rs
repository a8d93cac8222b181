//! Rows of level f8 bound their own scores: their bytes meet the query in whole numbers, and only rows
//! whose bound reaches the floor are decoded and computed in float64.
//!
//! A row is x_j = fl(s c_j), c its bytes and s its scale: |x_j - s c_j| <= 127 u s, u = 2^-24; subnormal x_j are
//! multiples of 2^-149 as s is, and not rounded. With w = q/|q| held as w_j = t T_j + e_j, T whole numbers of
//! 16 bits, and l the sum of all |w_j|,
//!
//! ```text
//! <w,x> <= s (t sum T c + 127 (sum |e| + u l))
//! ```
//!
//! where sum T c is exact. Float64 costs the rest less than what [`bound::key_bound`] adds, but for a
//! hair that is added here.

use super::panel::Panel;
use super::{Plan, Queries, Run, float64};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::pool::Watch;
use crate::quantize::{LEAST_NORM, UNIT, bound, int16};
use crate::store::rows::{PanelBuffer, Rows, Values};
use crate::topk::TopK;

/// Rows that several queries meet in a cache, 32 KB for 512 dims.
const SPAN: usize = 64;
/// Words of one exact sum, see [`Kernel::remainder`].
const WORDS: usize = 4096;
const HAIR: f64 = 1e-12;

/// The queries of a search in whole numbers; none for a query without a direction, such as zero.
#[derive(Debug)]
pub(super) struct Int8Queries(Vec<Option<Int8Query>>);

#[derive(Debug)]
struct Int8Query {
    words: Vec<i16>,
    step: f32,
    /// What a unit of scale may add.
    lost: f64,
}

impl Int8Queries {
    /// Prepares every query.
    pub fn new(queries: &Queries) -> Self {
        let words = |i: usize| (queries.norm(i) >= LEAST_NORM).then(|| Int8Query::new(&queries.wide(i)[..queries.dims()], queries.norm(i)));
        Int8Queries((0..queries.len()).map(words).collect())
    }
}

impl Int8Query {
    fn new(query: &[f64], norm: f64) -> Self {
        let direction: Vec<f64> = query.iter().map(|q| q / norm).collect();
        let (words, step) = int16::quantize(&direction);
        let lost = int16::error_sum(&direction, &words, step);
        let sum: f64 = direction.iter().map(|w| w.abs()).sum();
        Int8Query { words, step, lost: 127.0 * (lost + UNIT * sum) * (1.0 + HAIR) + HAIR }
    }

    /// An upper bound of `<w,x>`.
    fn bound(&self, kernel: &Kernel, codes: &[i8], scale: f32) -> f64 {
        let parts = self.words.chunks(WORDS).zip(codes.chunks(WORDS));
        let sum: i64 = parts.map(|(words, codes)| (kernel.remainder_dot)(words, 0, bytemuck::cast_slice(codes))).sum();
        // No builder writes a scale below 0, but a file may hold one.
        f64::from(scale) * f64::from(self.step) * sum as f64 + f64::from(scale.abs()) * self.lost
    }
}

/// Offers every row of `runs` that may be among a query's best to that query.
pub(super) fn visit(
    plan: &Plan,
    segments: &[Rows],
    runs: &[Run],
    queries: &Queries,
    asked: &Int8Queries,
    (best, buffer): (&mut [TopK], &mut PanelBuffer),
    watch: &Watch,
) -> Result<()> {
    for run in runs {
        let segment = &segments[run.segment];
        let Values::F8 { codes, scales } = segment.values else { continue };
        for start in run.rows.clone().step_by(SPAN) {
            watch.check()?;
            for (query, words) in asked.0.iter().enumerate() {
                let (top, norm) = (&mut best[query], queries.norm(query));
                for row in start..run.rows.end.min(start + SPAN) {
                    let row_norm = segment.norms[row];
                    let bound = words.as_ref().filter(|_| row_norm >= LEAST_NORM).map_or(f64::INFINITY, |words| {
                        let bound = words.bound(plan.kernel, &codes[row * segment.dims..(row + 1) * segment.dims], scales[row]);
                        bound::key_bound(plan.metric, bound / row_norm, norm, row_norm)
                    });
                    // A zero row without a bound of its own: its cosine is 0 by definition.
                    let bound = if row_norm == 0.0 && plan.metric == Metric::Cosine { 0.0 } else { bound };
                    top.tally.bounded += 1;
                    if bound < top.threshold() {
                        top.tally.best_left = top.tally.best_left.max(bound);
                        continue;
                    }
                    buffer.clear();
                    segment.decode(plan.kernel, row..row + 1, buffer);
                    let panel = Panel { values: buffer.values(), rows: &[segment.first + row as u64], norms: &segment.norms[row..=row] };
                    float64::visit_one(plan, queries, query, panel, top);
                    top.cut();
                }
                top.tally.code_bytes += ((run.rows.end.min(start + SPAN) - start) * segment.row_bytes()) as u64;
            }
        }
    }
    Ok(())
}
