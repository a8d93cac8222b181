//! Level f8 without codes: the rows' own bytes give upper bounds by int8 products, and only rows whose bound reaches
//! the threshold are decoded and scored in float64.
//!
//! A row is x_j = fl(s c_j), c its bytes and s its scale: |x_j - s c_j| <= 127 u s, u = 2^-24 (exact where x_j is
//! subnormal, as x_j and s are then multiples of 2^-149). The query's direction w = q/|q| is quantized to int16,
//! w_j = t T_j + e_j with integers T_j. With l = sum |w_j|,
//!
//! ```text
//! <w,x> <= s (t sum T c + 127 (sum |e| + u l))
//! ```
//!
//! where sum T c is exact. The float64 rounding of this expression is covered by [`bound::key_bound`] and
//! [`FLOAT64_SLACK`].

use super::panel::Panel;
use super::query::Query;
use super::{Job, Queries, Worker, float64};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::quantize::{LEAST_NORM, UNIT, bound, int16};
use crate::store::rows::{Rows, Values};

/// Rows that all queries of a search are compared with while cached: 32 KB for 512 dims.
const SPAN: usize = 64;
/// Products in one exact sum, as [`Kernel::remainder_dot`] allows.
const DOT_DIMS: usize = 4096;
/// Above the float64 error of a query's quantization error, relative and absolute.
const FLOAT64_SLACK: f64 = 1e-12;

/// A query's direction in int16.
#[derive(Debug)]
pub(super) struct Int8Query {
    /// T.
    words: Vec<i16>,
    /// t.
    step: f32,
    /// At least 127 (sum |e| + u l): the error of the product for a scale of 1.
    error: f64,
}

/// Quantizes every query; `None` for a query shorter than [`LEAST_NORM`], such as zero.
pub(super) fn quantize(queries: &Queries) -> Vec<Option<Int8Query>> {
    let one = |i: usize| (queries.norm(i) >= LEAST_NORM).then(|| Int8Query::new(&queries.wide(i)[..queries.dims()], queries.norm(i)));
    (0..queries.len()).map(one).collect()
}

impl Int8Query {
    fn new(query: &[f64], norm: f64) -> Self {
        let direction: Vec<f64> = query.iter().map(|q| q / norm).collect();
        let (words, step) = int16::quantize(&direction);
        let lost = int16::error_sum(&direction, &words, step);
        let sum: f64 = direction.iter().map(|w| w.abs()).sum();
        Int8Query { words, step, error: 127.0 * (lost + UNIT * sum) * (1.0 + FLOAT64_SLACK) + FLOAT64_SLACK }
    }

    /// An upper bound of `<w,x>`.
    fn bound(&self, kernel: &Kernel, codes: &[i8], scale: f32) -> f64 {
        let parts = self.words.chunks(DOT_DIMS).zip(codes.chunks(DOT_DIMS));
        let sum: i64 = parts.map(|(words, codes)| (kernel.remainder_dot)(words, 0, bytemuck::cast_slice(codes))).sum();
        // Builders write no negative scale, but a file may hold one.
        f64::from(scale) * f64::from(self.step) * sum as f64 + f64::from(scale.abs()) * self.error
    }
}

/// Offers the rows of the job that may be among a query's best to that query.
pub(super) fn visit(job: &Job, int8: &[Option<Int8Query>], worker: &mut Worker) -> Result<()> {
    for run in job.runs {
        let segment = &job.segments[run.segment];
        for start in run.rows.clone().step_by(SPAN) {
            job.watch.check()?;
            let rows = start..run.rows.end.min(start + SPAN);
            for (i, int8) in int8.iter().enumerate() {
                let (query, top) = (job.query(i), &mut worker.best[i]);
                top.tally.bounded += rows.len() as u64;
                top.tally.code_bytes += (rows.len() * segment.row_bytes()) as u64;
                for row in rows.clone() {
                    let bound = key_bound(query, int8.as_ref(), segment, row);
                    if bound < top.threshold() {
                        top.tally.best_left = top.tally.best_left.max(bound);
                        continue;
                    }
                    let (buffer, number) = (&mut worker.buffer, segment.first + row as u64);
                    buffer.clear();
                    segment.decode(job.plan.kernel, row..row + 1, buffer);
                    let panel = Panel { values: buffer.values(), rows: &[number], norms: &segment.norms[row..=row] };
                    top.tally.refined += 1;
                    top.push(float64::key(query, &panel, 0), number);
                    top.cut();
                }
            }
        }
    }
    Ok(())
}

/// An upper bound of a row's key; infinite where the row or the query has no direction.
fn key_bound(query: Query, int8: Option<&Int8Query>, segment: &Rows, row: usize) -> f64 {
    let (metric, norm) = (query.plan.metric, segment.norms[row]);
    // The cosine of a zero row is 0 by definition.
    if norm == 0.0 && metric == Metric::Cosine {
        return 0.0;
    }
    match (segment.values, int8) {
        (Values::F8 { codes, scales }, Some(int8)) if norm >= LEAST_NORM => {
            let product = int8.bound(query.plan.kernel, &codes[row * segment.dims..(row + 1) * segment.dims], scales[row]);
            bound::key_bound(metric, product / norm, query.norm(), norm)
        }
        _ => f64::INFINITY,
    }
}
