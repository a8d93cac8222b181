//! Keys in float64: of every row of a panel, or of the candidates that other strategies leave.

use super::panel::Panel;
use super::query::Query;
use crate::metric::Metric;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// Rows whose sums are computed in one call of a kernel; they are kept on the stack.
const SUMS: usize = 1024;
/// Rows whose keys are compared with the threshold at a time.
const GROUP: usize = 32;

/// Offers every row of the panel to a query.
pub(super) fn visit(query: Query, panel: &Panel, top: &mut TopK) {
    let mut sums = [0.0; SUMS];
    let (dims, norm, metric) = (query.queries.dims(), query.norm(), query.plan.metric);
    top.tally.refined += panel.rows.len() as u64;
    for start in (0..panel.rows.len()).step_by(SUMS) {
        let part = panel.part(start..panel.rows.len().min(start + SUMS), dims);
        let keys = &mut sums[..part.rows.len()];
        products(query, part.values, keys);
        for (key, &row_norm) in keys.iter_mut().zip(part.norms) {
            *key = metric.key(*key, norm, row_norm);
        }
        offer(keys, part.rows, top);
    }
}

/// Offers rows with their keys; most keys are below the threshold, and `GROUP` of them are compared at a time.
fn offer(keys: &[f64], rows: &[u64], top: &mut TopK) {
    for (keys, rows) in keys.chunks(GROUP).zip(rows.chunks(GROUP)) {
        let least = top.least_key(rows[0]);
        let reached: u64 = keys.iter().map(|&key| u64::from(key >= least)).sum();
        if reached > 0 {
            keys.iter().zip(rows).for_each(|(&key, &row)| top.push(key, row));
        }
    }
}

/// The exact key of row `row` of the panel for a query.
#[inline]
pub(super) fn key(query: Query, panel: &Panel, row: usize) -> f64 {
    let mut sum = [0.0];
    products(query, panel.values.part(row..row + 1, query.queries.dims()), &mut sum);
    query.plan.metric.key(sum[0], query.norm(), panel.norms[row])
}

/// Offers the rows at some places of the panel to a query; `keys` is a buffer.
pub(super) fn offer_at(query: Query, panel: &Panel, places: &[u32], keys: &mut Vec<f64>, top: &mut TopK) {
    let (kernel, metric, norm, dims) = (query.plan.kernel, query.plan.metric, query.norm(), query.queries.dims());
    let PanelValues::F32(rows) = panel.values else {
        places.iter().for_each(|&place| top.push(key(query, panel, place as usize), panel.rows[place as usize]));
        return;
    };
    keys.clear();
    keys.resize(places.len(), 0.0);
    match metric {
        Metric::Euclidean => (kernel.squared_distance_at)(query.values(), rows, dims, places, keys),
        _ => (kernel.dot_at)(query.values(), rows, dims, places, keys),
    }
    for (&sum, &place) in keys.iter().zip(places) {
        top.push(metric.key(sum, norm, panel.norms[place as usize]), panel.rows[place as usize]);
    }
}

/// The squared distance (euclidean) or the dot product of the query with every row, as [`Metric::key`] takes it.
#[inline]
fn products(query: Query, rows: PanelValues, sums: &mut [f64]) {
    let (kernel, values, dims) = (query.plan.kernel, query.values(), query.queries.dims());
    match (rows, query.plan.metric) {
        (PanelValues::F32(rows), Metric::Euclidean) => (kernel.squared_distance)(values, rows, dims, sums),
        (PanelValues::F32(rows), _) => (kernel.dot)(values, rows, dims, sums),
        (PanelValues::F64(rows), Metric::Euclidean) => (kernel.squared_distance_f64)(values, rows, dims, sums),
        (PanelValues::F64(rows), _) => (kernel.dot_f64)(values, rows, dims, sums),
    }
}
