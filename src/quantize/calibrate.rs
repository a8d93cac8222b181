//! How many coordinates the lines should hold: calibrated on pseudo-queries, by what streaming them
//! and looking again at what they leave would cost.

use super::encode::Scratch;
use super::levels::{level_value, nearest_level};
use super::{LINE_DIMS, Quantizer};
use crate::kernel::Kernel;

/// Shares of the dims that are tried, in twenty-fourths.
const SHARES: [usize; 11] = [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24];
/// Bytes of offset and residuals that lines come with.
const FACTOR_BYTES: f64 = 10.0;

/// One pseudo-query: its direction and the cosine of its k-th best row.
#[derive(Debug)]
pub struct Pseudo {
    /// Values of length 1 together.
    pub direction: Vec<f64>,
    /// What a row must reach.
    pub kth: f64,
}

/// A row of the sample along the axes: what the lines would say of it, whatever their width.
struct Seen {
    offset: f64,
    coordinates: Vec<f64>,
    coarse: Vec<f64>,
}

/// The `leading` of least cost, `full_bound_bytes` being what a second look costs in bytes streamed.
pub fn choose(kernel: &Kernel, quantizer: &Quantizer, sample: &[f64], queries: &[Pseudo], full_bound_bytes: f64) -> usize {
    let mut scratch = Scratch::default();
    let rows: Vec<Seen> = sample.chunks_exact(quantizer.dims).map(|row| see(kernel, quantizer, row, &mut scratch)).collect();
    let widths: Vec<usize> = SHARES.iter().map(|share| (quantizer.dims * share / 24 / LINE_DIMS).max(1) * LINE_DIMS).collect();
    let mut passed = vec![0usize; widths.len()];
    for query in queries {
        let centre: f64 = query.direction.iter().zip(quantizer.centre()).map(|(w, &m)| (w - f64::from(m)) * f64::from(m)).sum();
        let (z, _) = scratch.see(kernel, quantizer, query.direction.iter().copied());
        for row in &rows {
            count(z, row, query.kth - centre - row.offset, &widths, &mut passed);
        }
    }
    let pairs = (rows.len() * queries.len()).max(1) as f64;
    let cost = |i: usize| widths[i] as f64 / 2.0 + FACTOR_BYTES + passed[i] as f64 / pairs * full_bound_bytes;
    let best = (0..widths.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
    best.map_or(quantizer.leading, |i| widths[i])
}

fn see(kernel: &Kernel, quantizer: &Quantizer, row: &[f64], scratch: &mut Scratch) -> Seen {
    let (seen, offset) = scratch.see(kernel, quantizer, row.iter().copied());
    let coarse = |(&y, &step): (&f64, &f32)| {
        let step = f64::from(step);
        step * f64::from(level_value(nearest_level((y / step).round_ties_even() as f32).0))
    };
    Seen { offset, coarse: seen.iter().zip(quantizer.steps()).map(coarse).collect(), coordinates: seen.to_vec() }
}

/// Adds one to each width at which the row would pass for a query with coordinates `z`.
fn count(z: &[f64], row: &Seen, least: f64, widths: &[usize], passed: &mut [usize]) {
    let norm = |part: &[f64]| part.iter().map(|x| x * x).sum::<f64>();
    let (mut from, mut sum, mut leading, mut left) = (0, 0.0, 0.0, 0.0);
    let (mut z_trailing, mut y_trailing) = (norm(z), norm(&row.coordinates));
    for (&width, passed) in widths.iter().zip(passed) {
        for j in from..width {
            let (z, y, kept) = (z[j], row.coordinates[j], row.coarse[j]);
            sum += z * kept;
            leading += z * z;
            left += (y - kept) * (y - kept);
            z_trailing -= z * z;
            y_trailing -= y * y;
        }
        from = width;
        let margin = (leading * left).sqrt() + (z_trailing.max(0.0) * y_trailing.max(0.0)).sqrt();
        *passed += usize::from(sum + margin >= least);
    }
}
