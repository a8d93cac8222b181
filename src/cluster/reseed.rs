//! Rows drawn at random, and new centroids for cells that have none.

use super::samples::Samples;
use super::sums::{Members, cost};
use crate::metric::Metric;
use crate::random::Random;

/// Up to this cost a row is where its centroid is: float32 centroids round cosines by less.
pub(crate) fn nothing(metric: Metric) -> f64 {
    if metric == Metric::Euclidean { 0.0 } else { 1e-12 }
}

/// What a centroid at `row` would save: its cost, or nothing for a row without a direction.
pub(crate) fn gain(samples: &Samples, row: usize, key: f64, metric: Metric) -> f64 {
    if metric != Metric::Euclidean && samples.norm(row) == 0.0 { 0.0 } else { cost(metric, key) }
}

/// `count` different row numbers below `rows`, in random order (Fisher and Yates; memory for the few
/// places that changed hands).
pub(crate) fn draw(random: &mut Random, rows: usize, count: usize) -> Vec<usize> {
    let mut moved = std::collections::HashMap::new();
    let drawn = (0..count.min(rows)).map(|i| {
        let j = i + random.below(rows - i);
        let taken = moved.get(&j).copied().unwrap_or(j);
        let here = moved.get(&i).copied().unwrap_or(i);
        moved.insert(j, here);
        taken
    });
    drawn.collect()
}

/// Row `row` as a centroid: for cosine of length 1.
pub(crate) fn place(samples: &Samples, row: usize, metric: Metric, out: &mut [f32]) {
    let (values, norm) = (samples.row(row), samples.norm(row));
    if metric == Metric::Cosine && norm > 0.0 {
        out.iter_mut().zip(values).for_each(|(out, &x)| *out = (f64::from(x) / norm) as f32);
    } else {
        out.copy_from_slice(values);
    }
}

/// One of `rows`, each as likely as it is costly; none where none costs anything.
pub(crate) fn draw_costly(samples: &Samples, rows: &[u32], keys: &[f64], metric: Metric, random: &mut Random) -> Option<usize> {
    let costs = rows.iter().map(|&row| gain(samples, row as usize, keys[row as usize], metric));
    weighted(costs, nothing(metric), random).map(|i| rows[i] as usize)
}

/// A number of a list of costs, each as likely as it is large; none where all are `nothing` at most.
fn weighted(costs: impl Iterator<Item = f64> + Clone, nothing: f64, random: &mut Random) -> Option<usize> {
    let total: f64 = costs.clone().filter(|&cost| cost > nothing).sum();
    if total <= 0.0 {
        return None;
    }
    let mut left = random.unit() * total;
    let mut last = None;
    for (i, cost) in costs.enumerate().filter(|&(_, cost)| cost > nothing) {
        last = Some(i);
        left -= cost;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Gives every cell without rows a row of one of the costliest cells, which it so splits: drawn like
/// those of k-means++, so never the centroid itself. Returns whether any cell has changed.
pub(crate) fn split(samples: &Samples, members: &Members, keys: &[f64], metric: Metric, values: &mut [f32], random: &mut Random) -> bool {
    let empty: Vec<usize> = (0..members.len()).filter(|&cell| members.of(cell).is_empty()).collect();
    if empty.is_empty() {
        return false;
    }
    let costs = |cell: usize| members.of(cell).iter().map(|&row| gain(samples, row as usize, keys[row as usize], metric));
    let mut donors: Vec<(f64, usize)> = (0..members.len()).map(|cell| (costs(cell).sum(), cell)).filter(|donor| donor.0 > 0.0).collect();
    donors.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let dims = samples.dims();
    let mut changed = false;
    for (cell, (_, donor)) in empty.into_iter().zip(donors) {
        if let Some(row) = draw_costly(samples, members.of(donor), keys, metric, random) {
            place(samples, row, metric, &mut values[cell * dims..(cell + 1) * dims]);
            changed = true;
        }
    }
    changed
}
