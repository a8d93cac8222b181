//! The directions along which a sample varies most, and how much along each.
//!
//! Block power iteration on the sample itself, never on its covariance, so that the cost is linear in dims
//! (Halko, Martinsson and Tropp, 2011, algorithm 4.4), then a small eigenproblem by rotations (Jacobi, 1846).
//! Only plain operations of IEEE 754 and lane sums of kernels: the same bits from every kernel and for any
//! number of threads, in the standard floating-point mode.

use crate::cluster::samples::room;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::pool::Watch;
use crate::quantize::basis::{by_row, orthonormalise};
use crate::random::Random;

/// Rounds of power iteration: after two, hashes part neighbours as seldom as with exact axes.
const ROUNDS: usize = 2;
/// Rotations of all pairs of axes, at most. Convergence is quadratic: 64 axes need 5 or 6.
const SWEEPS: usize = 12;
/// Entries this small beside their diagonals are left: axes are rounded to float32.
const CLEARED: f64 = 1e-8;

/// Axes through the centre of a sample.
#[derive(Debug)]
pub(super) struct Principal {
    /// `dims` numbers each, orthonormal, those of the largest spread first.
    pub axes: Vec<f32>,
    /// The mean of the sample, along each axis.
    pub centre: Vec<f32>,
    /// The sample's standard deviation along each axis.
    pub spreads: Vec<f32>,
}

/// The first `count` principal axes of `sample`, rows of `dims` numbers of length 1 or less; `count` is `dims` at
/// most. Where the sample varies along fewer axes, the others are random.
pub(super) fn learn(
    kernel: &Kernel,
    mut sample: Vec<f32>,
    dims: usize,
    count: usize,
    seed: u64,
    threads: usize,
    watch: &Watch,
) -> Result<Principal> {
    let mut random = Random::new(seed);
    let rows = sample.len() / dims;
    let mut axes = room(count * dims, 0.0, "the axes of hashes")?;
    axes.iter_mut().for_each(|x| *x = random.signed());
    orthonormalise(&mut axes, dims, seed, watch)?;
    let mean = mean(&sample, dims);
    let mut variances = vec![0.0; count];
    if rows > 0 {
        sample.chunks_exact_mut(dims).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
        let columns = transposed(&sample, dims)?;
        // Kernels want float32 values on both sides; what that rounds off is of no consequence.
        let row = |values: &[f64], i: usize, width: usize| -> Vec<f64> {
            values[i * width..(i + 1) * width].iter().map(|&x| f64::from(x as f32)).collect()
        };
        for _ in 0..ROUNDS {
            let along = by_row(kernel, count, &|i| row(&axes, i, dims), &sample, dims, threads, watch)?;
            axes = by_row(kernel, count, &|i| row(&along, i, rows), &columns, rows, threads, watch)?;
            orthonormalise(&mut axes, dims, seed, watch)?;
        }
        let along = by_row(kernel, count, &|i| row(&axes, i, dims), &sample, dims, threads, watch)?;
        let narrow: Vec<f32> = along.iter().map(|&x| x as f32).collect();
        let moments = by_row(kernel, count, &|i| row(&along, i, rows), &narrow, rows, threads, watch)?;
        let (values, vectors) = eigen(moments, count);
        axes = rotated(&axes, &vectors, dims);
        variances = values.iter().map(|&value| (value / rows as f64).max(0.0)).collect();
    }
    let centre = axes.chunks_exact(dims).map(|axis| axis.iter().zip(&mean).map(|(a, &m)| a * f64::from(m)).sum::<f64>() as f32);
    let centre = centre.collect();
    let spreads = variances.iter().map(|&variance| variance.sqrt() as f32).collect();
    Ok(Principal { axes: axes.iter().map(|&x| x as f32).collect(), centre, spreads })
}

fn mean(sample: &[f32], dims: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dims];
    for row in sample.chunks_exact(dims) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let count = (sample.len() / dims).max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// The columns of a matrix whose rows have `width` values, one after the other.
fn transposed(rows: &[f32], width: usize) -> Result<Vec<f32>> {
    let count = rows.len() / width;
    let mut columns = room(rows.len(), 0.0f32, "a sample of rows")?;
    for (i, row) in rows.chunks_exact(width).enumerate() {
        row.iter().enumerate().for_each(|(j, &x)| columns[j * count + i] = x);
    }
    Ok(columns)
}

/// Row k of the result is the sum of `vectors[k][i]` times row i.
fn rotated(rows: &[f64], vectors: &[f64], width: usize) -> Vec<f64> {
    let count = rows.len() / width;
    let mut made = vec![0.0; rows.len()];
    for (out, vector) in made.chunks_exact_mut(width).zip(vectors.chunks_exact(count)) {
        for (row, &factor) in rows.chunks_exact(width).zip(vector) {
            out.iter_mut().zip(row).for_each(|(out, &x)| *out += factor * x);
        }
    }
    made
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors, one after the other.
///
/// Golub and Van Loan, Matrix Computations, 8.5: rotations that clear one pair after the other.
fn eigen(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; size * size];
    (0..size).for_each(|i| vectors[i * size + i] = 1.0);
    for _ in 0..SWEEPS {
        for p in 0..size {
            for q in p + 1..size {
                let Some((c, s)) = rotation(matrix[p * size + p], matrix[q * size + q], matrix[p * size + q]) else { continue };
                for i in 0..size {
                    let (x, y) = (matrix[i * size + p], matrix[i * size + q]);
                    (matrix[i * size + p], matrix[i * size + q]) = (c * x - s * y, s * x + c * y);
                }
                for rows in [&mut matrix, &mut vectors] {
                    let (above, below) = rows.split_at_mut(q * size);
                    for (x, y) in above[p * size..(p + 1) * size].iter_mut().zip(&mut below[..size]) {
                        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                    }
                }
            }
        }
    }
    let mut order: Vec<(f64, usize)> = (0..size).map(|i| (matrix[i * size + i], i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let sorted = order.iter().flat_map(|&(_, i)| vectors[i * size..(i + 1) * size].iter().copied()).collect();
    (order.iter().map(|entry| entry.0).collect(), sorted)
}

/// Cosine and sine of the rotation that clears `off` between the diagonal entries `p` and `q`.
fn rotation(p: f64, q: f64, off: f64) -> Option<(f64, f64)> {
    if off.abs() <= CLEARED * (p.abs() + q.abs()) {
        return None;
    }
    let slope = (q - p) / (2.0 * off);
    let tangent = slope.signum() / (slope.abs() + (1.0 + slope * slope).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    Some((cosine, tangent * cosine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scalar;

    #[test]
    fn axes_are_found_largest_spread_first() {
        let (dims, count) = (20, 4);
        let mut random = Random::new(9);
        // Coordinate j has the spread 1 / (j + 1), around 0.1.
        let sample: Vec<f32> = (0..3000 * dims).map(|i| 0.1 + (random.signed() * 0.2 / (i % dims + 1) as f64) as f32).collect();
        let watch = Watch::new(&|| true);
        let found = learn(&scalar::KERNEL, sample, dims, count, 1, 2, &watch).unwrap();
        for (k, axis) in found.axes.chunks_exact(dims).enumerate() {
            let want = 0.2 / 3f32.sqrt() / (k + 1) as f32;
            assert!((found.spreads[k] / want - 1.0).abs() < 0.05, "axis {k}: spread {}", found.spreads[k]);
            assert!((axis.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(axis[k].abs() > 0.9, "axis {k}: {axis:?}");
            let mean: f32 = axis.iter().sum::<f32>() * 0.1;
            assert!((found.centre[k] - mean).abs() < 0.01);
        }
    }

    #[test]
    fn a_sample_without_rows_or_spread_has_random_axes() {
        let watch = Watch::new(&|| true);
        for sample in [vec![], vec![0.5; 3], vec![0.5; 12]] {
            let found = learn(&scalar::KERNEL, sample, 3, 3, 1, 1, &watch).unwrap();
            assert_eq!(found.spreads.iter().filter(|&&spread| spread > 1e-6).count(), 0);
            assert!(found.axes.iter().all(|x| x.is_finite()));
        }
    }
}
