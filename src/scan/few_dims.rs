//! Rows of few dims, one query at a time: float32 keys prove of most rows that they are below the threshold
//! (`float32_error.rs`), and the others are scored in float64.

use super::panel::Panel;
use super::query::Query;
use super::{Method, float32_error, float64};
use crate::kernel::{padded, prefetch};
use crate::metric::Metric;
use crate::store::rows::PanelValues;
use crate::topk::TopK;

/// With more dims, reading rows takes longer than summing them in float64.
const MOST_DIMS: usize = 64;
/// Rows whose keys are computed in one call of a kernel; they are kept on the stack.
const KEYS: usize = 1024;
/// A part that keeps more than one row in this many is scored in float64 as a whole.
const ROWS_PER_KEPT: usize = 8;

/// Offers the rows of the panel that may be among a query's best, whatever its dims.
pub(super) fn visit(query: Query, panel: &Panel, top: &mut TopK) {
    let dims = query.queries.dims();
    for start in (0..panel.rows.len()).step_by(KEYS) {
        let part = &panel.part(start..panel.rows.len().min(start + KEYS), dims);
        let count = part.rows.len();
        let least = top.least_key(part.rows[0]);
        if query.plan.method == Method::Scalar || dims > MOST_DIMS || least == f64::NEG_INFINITY {
            float64::visit(query, part, top);
            continue;
        }
        let (mut keys, mut places) = ([0.0; KEYS], [0; KEYS]);
        let threshold = above(query, part, least, &mut keys[..count]);
        let kept = (query.plan.kernel.at_least)(&keys[..count], threshold, &mut places[..count]);
        if kept * ROWS_PER_KEPT > count {
            float64::visit(query, part, top);
        } else {
            top.tally.refined += count as u64;
            let offer = |row: usize, top: &mut TopK| top.push(float64::key(query, part, row), part.rows[row]);
            places[..kept].iter().for_each(|&row| offer(row as usize, top));
        }
        if kept > 0 {
            top.cut_if_due();
        }
    }
}

/// Writes a float32 value for every row and returns the least that a row needs if its key is not below `least`.
fn above(query: Query, panel: &Panel, least: f64, keys: &mut [f32]) -> f32 {
    let (kernel, metric, dims) = (query.plan.kernel, query.plan.metric, query.queries.dims());
    let (wide, slack) = (query.values(), float32_error::slack(dims));
    let mut narrow = [0.0; MOST_DIMS];
    // Exact with float32 rows: `Queries::new` rounded the query to float32.
    narrow.iter_mut().zip(wide).for_each(|(narrow, &value)| *narrow = value as f32);
    let narrow = &narrow[..padded(dims)];
    if metric == Metric::Cosine {
        // They arrive while rows are summed.
        prefetch(panel.norms);
    }
    match (panel.values, metric) {
        (PanelValues::F32(rows), Metric::Euclidean) => (kernel.minus_distance)(narrow, rows, dims, keys),
        (PanelValues::F32(rows), _) => (kernel.dot_above)(narrow, rows, dims, slack, keys),
        (PanelValues::F64(rows), Metric::Euclidean) => (kernel.minus_distance_f64)(wide, rows, dims, keys),
        (PanelValues::F64(rows), _) => (kernel.dot_above_f64)(wide, rows, dims, slack, keys),
    }
    if metric == Metric::Cosine {
        (kernel.by_norm)(&float32_error::cosine_terms(least, query.norm()), panel.norms, keys);
    }
    float32_error::least(metric, dims, least)
}
