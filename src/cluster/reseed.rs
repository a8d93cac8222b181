//! Random rows, drawn evenly or in proportion to their cost, and new centroids for empty cells.

use super::samples::Samples;
use super::sums::{Members, cost};
use crate::metric::Metric;
use crate::random::Random;

/// The largest cost that counts as 0: rounding a centroid to float32 changes a cosine by less than 1e-12.
pub fn negligible_cost(metric: Metric) -> f64 {
    if metric == Metric::Euclidean { 0.0 } else { 1e-12 }
}

/// The cost of a row that a centroid placed on it would save: none for a row without a direction.
pub fn reducible_cost(samples: &Samples, row: usize, key: f64, metric: Metric) -> f64 {
    if metric != Metric::Euclidean && samples.norm(row) == 0.0 { 0.0 } else { cost(metric, key) }
}

/// `count` different row numbers below `rows`, or all if fewer, in random order. A Fisher-Yates shuffle that stores
/// only the moved entries: O(count) memory.
pub fn draw(random: &mut Random, rows: usize, count: usize) -> Vec<usize> {
    let mut moved = std::collections::HashMap::new();
    let drawn = (0..count.min(rows)).map(|i| {
        let j = i + random.below(rows - i);
        let at_j = moved.get(&j).copied().unwrap_or(j);
        let at_i = moved.get(&i).copied().unwrap_or(i);
        moved.insert(j, at_i);
        at_j
    });
    drawn.collect()
}

/// Writes a row as a centroid: scaled to length 1 for cosine.
pub fn write_centroid(samples: &Samples, row: usize, metric: Metric, out: &mut [f32]) {
    let (values, norm) = (samples.row(row), samples.norm(row));
    if metric == Metric::Cosine && norm > 0.0 {
        out.iter_mut().zip(values).for_each(|(out, &x)| *out = (f64::from(x) / norm) as f32);
    } else {
        out.copy_from_slice(values);
    }
}

/// One of `rows`, drawn with a probability proportional to its cost; `None` where no cost exceeds
/// [`negligible_cost`].
pub fn draw_by_cost(samples: &Samples, rows: &[u32], keys: &[f64], metric: Metric, random: &mut Random) -> Option<usize> {
    let costs = rows.iter().map(|&row| reducible_cost(samples, row as usize, keys[row as usize], metric));
    draw_weighted(costs, negligible_cost(metric), random).map(|i| rows[i] as usize)
}

/// An index of `costs`, drawn with a probability proportional to the cost, those up to `negligible` never.
fn draw_weighted(costs: impl Iterator<Item = f64> + Clone, negligible: f64, random: &mut Random) -> Option<usize> {
    let total: f64 = costs.clone().filter(|&cost| cost > negligible).sum();
    if total <= 0.0 {
        return None;
    }
    let mut left = random.unit() * total;
    let mut last = None;
    for (i, cost) in costs.enumerate().filter(|&(_, cost)| cost > negligible) {
        last = Some(i);
        left -= cost;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Moves the centroid of every empty cell to a row of one of the costliest cells, drawn by cost as in k-means++, so
/// never a row equal to its centroid. Returns whether any centroid has moved.
pub fn refill_empty(samples: &Samples, members: &Members, keys: &[f64], metric: Metric, values: &mut [f32], random: &mut Random) -> bool {
    let empty: Vec<usize> = (0..members.len()).filter(|&cell| members.of(cell).is_empty()).collect();
    if empty.is_empty() {
        return false;
    }
    let costs = |cell: usize| members.of(cell).iter().map(|&row| reducible_cost(samples, row as usize, keys[row as usize], metric));
    let mut donors: Vec<(f64, usize)> = (0..members.len()).map(|cell| (costs(cell).sum(), cell)).filter(|donor| donor.0 > 0.0).collect();
    donors.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let dims = samples.dims();
    let mut changed = false;
    for (cell, (_, donor)) in empty.into_iter().zip(donors) {
        if let Some(row) = draw_by_cost(samples, members.of(donor), keys, metric, random) {
            write_centroid(samples, row, metric, &mut values[cell * dims..(cell + 1) * dims]);
            changed = true;
        }
    }
    changed
}
