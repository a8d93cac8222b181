//! Every key in float64: the whole of methods "simd" and "scalar" for single queries, and the
//! refinement of what tiles leave.

use super::panel::Panel;
use super::{Plan, Queries};
use crate::kernel::Kernel;
use crate::metric::Metric;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// Sums of one query that a panel needs at a time.
const SUMS: usize = 1024;

/// Offers every row of the panel to every query.
pub(super) fn visit(plan: &Plan, queries: &Queries, panel: Panel, best: &mut [TopK]) {
    for start in (0..panel.rows.len()).step_by(SUMS) {
        let part = panel.part(start..panel.rows.len().min(start + SUMS), queries.dims());
        best.iter_mut().enumerate().for_each(|(query, top)| visit_one(plan, queries, query, part, top));
    }
}

/// Offers every row of the panel to one query.
pub(super) fn visit_one(plan: &Plan, queries: &Queries, query: usize, panel: Panel, top: &mut TopK) {
    let mut sums = [0.0; SUMS];
    let norm = queries.norm(query);
    top.tally.refined += panel.rows.len() as u64;
    for start in (0..panel.rows.len()).step_by(SUMS) {
        let end = panel.rows.len().min(start + SUMS);
        let sums = &mut sums[..end - start];
        raw(plan.kernel, plan.metric, queries.wide(query), queries.dims(), panel.values, start, sums);
        for ((&sum, &row_norm), &row) in sums.iter().zip(&panel.norms[start..end]).zip(&panel.rows[start..end]) {
            top.push(plan.metric.key(sum, norm, row_norm), row);
        }
    }
}

/// The exact key of one row of the panel for one query.
#[inline]
pub(super) fn key(plan: &Plan, queries: &Queries, query: usize, panel: &Panel, row: usize) -> f64 {
    let mut sum = [0.0];
    raw(plan.kernel, plan.metric, queries.wide(query), queries.dims(), panel.values, row, &mut sum);
    plan.metric.key(sum[0], queries.norm(query), panel.norms[row])
}

/// What [`Metric::key`] wants of the rows from `start` on, one for each of `sums`.
#[inline]
fn raw(kernel: &Kernel, metric: Metric, query: &[f64], dims: usize, values: PanelValues, start: usize, sums: &mut [f64]) {
    let span = start * dims..(start + sums.len()) * dims;
    match (values, metric) {
        (PanelValues::F32(rows), Metric::Euclidean) => (kernel.squared_distance)(query, &rows[span], dims, sums),
        (PanelValues::F32(rows), _) => (kernel.dot)(query, &rows[span], dims, sums),
        (PanelValues::F64(rows), Metric::Euclidean) => (kernel.squared_distance_f64)(query, &rows[span], dims, sums),
        (PanelValues::F64(rows), _) => (kernel.dot_f64)(query, &rows[span], dims, sums),
    }
}
