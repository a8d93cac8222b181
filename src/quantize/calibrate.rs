//! Chooses how many leading dims the lines hold: the number of least cost on a sample of rows and pseudo-queries, counting
//! the bytes that coarse bounds stream and the full bounds of the rows that they leave.

use super::levels::{level_value, nearest_level};
use super::{LINE_DIMS, Quantizer};
use crate::error::{Result, collected};
use crate::linalg::Compute;
use crate::linalg::product::{Columns, product};
use crate::pool;
use crate::progress::cost;

/// Candidates, in twenty-fourths of the dims.
const FRACTIONS: [usize; 11] = [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24];
/// Bytes of a row's offset and residual norms.
const FACTOR_BYTES: f64 = 10.0;

/// A pseudo-query, made of rows of the sample.
#[derive(Debug)]
pub struct PseudoQuery {
    /// `dims` values, of norm 1.
    pub direction: Vec<f64>,
    /// The cosine of its k-th best row: the threshold that a search ends with.
    pub kth: f64,
}

/// A row of the sample: its offset, its coordinates, and their levels, as if all dims were leading.
struct SampleRow<'a> {
    offset: f64,
    coordinates: &'a [f32],
    levels: Vec<f64>,
}

/// The number of leading dims of least cost. `sample` holds directions of `dims` values; a full bound costs as much as
/// streaming `full_bound_bytes`.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn leading_dims(
    compute: Compute,
    quantizer: &Quantizer,
    sample: &[f64],
    queries: &[PseudoQuery],
    full_bound_bytes: f64,
) -> Result<usize> {
    let dims = quantizer.dims;
    let axes = Columns::transposed(quantizer.axes(), dims)?;
    let rows: Vec<&[f64]> = sample.chunks_exact(dims).collect();
    let directions: Vec<&[f64]> = queries.iter().map(|query| &query.direction[..]).collect();
    let (y, z) = (coordinates(compute, quantizer, &axes, &rows)?, coordinates(compute, quantizer, &axes, &directions)?);
    // The threshold of a row's offset and its product along the axes together, by (1) of the proof in `bound`.
    let thresholds: Vec<f64> = queries.iter().map(|query| query.kth - centre_product(quantizer, &query.direction, 1.0)).collect();
    let widths: Vec<usize> = FRACTIONS.iter().map(|part| (dims * part / 24 / LINE_DIMS).max(1) * LINE_DIMS).collect();
    let work = |passed: &mut Vec<usize>, i: usize| {
        let row = sample_row(quantizer, rows[i], &y[i * dims..(i + 1) * dims]);
        for (z, threshold) in z.chunks_exact(dims).zip(&thresholds) {
            count_passed(z, &row, threshold - row.offset, &widths, passed);
        }
        compute.watch.advance((cost::COUNT * (dims * queries.len()) as f64) as u64);
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

/// The cost of [`leading_dims`] for a sample of `rows`.
pub fn work(rows: usize, dims: usize, queries: usize) -> f64 {
    ((rows + queries) * dims * dims) as f64 + cost::COUNT * (rows * dims * queries) as f64
}

/// Coordinates of centred directions along the axes.
fn coordinates(compute: Compute, quantizer: &Quantizer, axes: &Columns, directions: &[&[f64]]) -> Result<Vec<f32>> {
    let centred = directions.iter().flat_map(|row| row.iter().zip(quantizer.centre()).map(|(v, &m)| (v - f64::from(m)) as f32));
    product(compute, &collected(centred, "a sample of rows")?, axes)
}

/// `<v - part m, m>` of a direction v and the centre m.
fn centre_product(quantizer: &Quantizer, direction: &[f64], part: f64) -> f64 {
    direction.iter().zip(quantizer.centre()).map(|(v, &m)| (v - part * f64::from(m)) * f64::from(m)).sum()
}

fn sample_row<'a>(quantizer: &Quantizer, row: &[f64], coordinates: &'a [f32]) -> SampleRow<'a> {
    let level = |(&y, &step): (&f32, &f32)| {
        let step = f64::from(step);
        step * f64::from(level_value(nearest_level((f64::from(y) / step).round_ties_even() as f32).0))
    };
    let levels = coordinates.iter().zip(quantizer.steps()).map(level).collect();
    SampleRow { offset: centre_product(quantizer, row, 0.0), coordinates, levels }
}

/// Counts, for each of `widths` leading dims, whether the bound (3) of `<z,y>` is `threshold` or more.
fn count_passed(z: &[f32], row: &SampleRow, threshold: f64, widths: &[usize], passed: &mut [usize]) {
    let squares = |part: &[f32]| part.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let (mut from, mut sum, mut z_leading, mut residual) = (0, 0.0, 0.0, 0.0);
    let (mut z_trailing, mut y_trailing) = (squares(z), squares(row.coordinates));
    for (&width, passed) in widths.iter().zip(passed) {
        for j in from..width {
            let (z, y, level) = (f64::from(z[j]), f64::from(row.coordinates[j]), row.levels[j]);
            sum += z * level;
            z_leading += z * z;
            residual += (y - level) * (y - level);
            z_trailing -= z * z;
            y_trailing -= y * y;
        }
        from = width;
        let residuals = (z_leading * residual).sqrt() + (z_trailing.max(0.0) * y_trailing.max(0.0)).sqrt();
        *passed += usize::from(sum + residuals >= threshold);
    }
}
