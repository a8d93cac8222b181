//! How many coordinates the lines should hold: calibrated on pseudo-queries, by what streaming them
//! and looking again at what they leave would cost.

use super::levels::{level_value, nearest_level};
use super::{LINE_DIMS, Quantizer};
use crate::error::Result;
use crate::linalg::Compute;
use crate::linalg::product::{Columns, product};
use crate::pool;

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
struct Seen<'a> {
    offset: f64,
    coordinates: &'a [f32],
    coarse: Vec<f64>,
}

/// The `leading` of least cost, `full_bound_bytes` being what a second look costs in bytes streamed.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn choose(compute: Compute, quantizer: &Quantizer, sample: &[f64], queries: &[Pseudo], full_bound_bytes: f64) -> Result<usize> {
    let dims = quantizer.dims;
    let axes = Columns::transposed(quantizer.axes(), dims);
    let rows: Vec<&[f64]> = sample.chunks_exact(dims).collect();
    let asked: Vec<&[f64]> = queries.iter().map(|query| &query.direction[..]).collect();
    let (row_coordinates, query_coordinates) = (along(compute, quantizer, &axes, &rows)?, along(compute, quantizer, &axes, &asked)?);
    // What a row's offset and its products along the axes must reach together.
    let least: Vec<f64> = queries.iter().map(|query| query.kth - with_centre(quantizer, &query.direction, 1.0)).collect();
    let widths: Vec<usize> = SHARES.iter().map(|share| (dims * share / 24 / LINE_DIMS).max(1) * LINE_DIMS).collect();
    let work = |passed: &mut Vec<usize>, i: usize| {
        let row = see(quantizer, rows[i], &row_coordinates[i * dims..(i + 1) * dims]);
        for (z, least) in query_coordinates.chunks_exact(dims).zip(&least) {
            count(z, &row, least - row.offset, &widths, passed);
        }
        Ok(())
    };
    let parts = pool::run(compute.threads, rows.len(), compute.watch, || Ok(vec![0; widths.len()]), work)?;
    compute.watch.check()?;
    let pairs = (rows.len() * queries.len()).max(1) as f64;
    let passed = |i: usize| parts.iter().map(|passed| passed[i]).sum::<usize>() as f64;
    let cost = |i: usize| widths[i] as f64 / 2.0 + FACTOR_BYTES + passed(i) / pairs * full_bound_bytes;
    let best = (0..widths.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
    Ok(best.map_or(quantizer.leading, |i| widths[i]))
}

/// Coordinates of directions along the axes, centre taken off.
fn along(compute: Compute, quantizer: &Quantizer, axes: &Columns, directions: &[&[f64]]) -> Result<Vec<f32>> {
    let centred = directions.iter().flat_map(|row| row.iter().zip(quantizer.centre()).map(|(v, &m)| (v - f64::from(m)) as f32));
    product(compute, &centred.collect::<Vec<f32>>(), axes)
}

/// The product with the centre of a direction, of which `part` of the centre is taken off before.
fn with_centre(quantizer: &Quantizer, direction: &[f64], part: f64) -> f64 {
    direction.iter().zip(quantizer.centre()).map(|(v, &m)| (v - part * f64::from(m)) * f64::from(m)).sum()
}

fn see<'a>(quantizer: &Quantizer, row: &[f64], coordinates: &'a [f32]) -> Seen<'a> {
    let coarse = |(&y, &step): (&f32, &f32)| {
        f64::from(step) * f64::from(level_value(nearest_level((f64::from(y) / f64::from(step)).round_ties_even() as f32).0))
    };
    Seen { offset: with_centre(quantizer, row, 0.0), coarse: coordinates.iter().zip(quantizer.steps()).map(coarse).collect(), coordinates }
}

/// Adds one to each width at which the row would pass for a query with coordinates `z`.
fn count(z: &[f32], row: &Seen, least: f64, widths: &[usize], passed: &mut [usize]) {
    let norm = |part: &[f32]| part.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let (mut from, mut sum, mut leading, mut left) = (0, 0.0, 0.0, 0.0);
    let (mut z_trailing, mut y_trailing) = (norm(z), norm(row.coordinates));
    for (&width, passed) in widths.iter().zip(passed) {
        for j in from..width {
            let (z, y, kept) = (f64::from(z[j]), f64::from(row.coordinates[j]), row.coarse[j]);
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
