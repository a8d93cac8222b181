//! The directions along which a sample varies most, and how much along each.
//!
//! Where fewer axes are wanted than there are dims, block power iteration on the sample itself, never on its
//! covariance, finds a subspace (Halko, Martinsson and Tropp, 2011, algorithm 4.4). Within it, or within all dims,
//! orthogonal iteration on the moments sorts the axes by their variance (Golub and Van Loan, Matrix Computations, 8.2.4).
//!
//! For n rows, d dims and a subspace of r that is about 3 n d r + n r^2 multiply-adds, and 3 r^3 for each round of
//! iteration; n d^2 in place of the first where all axes are wanted.

use super::orthonormal::{self, orthonormal};
use super::product::{Columns, product, transpose};
use super::{Compute, dot};
use crate::error::{Result, collected};
use crate::random::Random;

/// Rounds of power iteration on the sample.
const POWERS: usize = 1;
/// Axes of the subspace beyond those wanted: the last ones of a subspace are far from principal.
const BEYOND: usize = 32;
/// Rounds of orthogonal iteration on the moments.
const ROUNDS: usize = 4;

/// Principal axes through the mean of a sample.
#[derive(Debug)]
pub struct Principal {
    /// The mean of the sample.
    pub mean: Vec<f32>,
    /// Axis after axis, orthonormal but for rounding, those of the largest variance first.
    pub axes: Vec<f32>,
    /// The sample's variance along each axis.
    pub variances: Vec<f64>,
}

/// The first `count` principal axes of `sample`, rows of `dims` numbers of length 1 or so; `count` is `dims` at most.
/// Where the sample varies along fewer axes, the others are any.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn principal(compute: Compute, mut sample: Vec<f32>, dims: usize, count: usize, seed: u64) -> Result<Principal> {
    let rows = sample.len() / dims;
    let mean = mean(&sample, dims);
    if rows == 0 {
        let axes = orthonormal(compute, random_rows(count * dims, seed)?, dims, count)?;
        return Ok(Principal { mean, axes, variances: vec![0.0; count] });
    }
    sample.chunks_exact_mut(dims).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
    let size = dims.min(count + BEYOND);
    let (subspace, along) = if size == dims {
        (None, transpose(&sample, dims)?)
    } else {
        let (subspace, along) = powers(compute, &sample, dims, random_rows(size * dims, seed)?)?;
        (Some(subspace), along)
    };
    drop(sample);
    let mut moments = product(compute, &along, &Columns::transposed(&along, rows)?)?;
    moments.iter_mut().for_each(|x| *x /= rows as f32);
    let (mut rotated, mut variances) = sorted(compute, moments, size)?;
    rotated.truncate(count * size);
    variances.truncate(count);
    let axes = match subspace {
        Some(subspace) => product(compute, &rotated, &Columns::of(&subspace, dims)?)?,
        None => rotated,
    };
    Ok(Principal { mean, axes, variances })
}

/// The mean of the rows.
/// The multiply-adds of [`principal`] for a sample of `rows`.
pub fn work(rows: usize, dims: usize, count: usize) -> f64 {
    let size = dims.min(count + BEYOND);
    let [n, d, r] = [rows, dims, size].map(|count| count as f64);
    let subspace = if size < dims { 3.0 * n * d * r + orthonormal::work(size, dims, size) + count as f64 * r * d } else { 0.0 };
    subspace + n * r * r + ROUNDS as f64 * (orthonormal::work(size, size, size) + r * r * r)
}

fn mean(sample: &[f32], dims: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dims];
    for row in sample.chunks_exact(dims) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let count = (sample.len() / dims).max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

fn random_rows(values: usize, seed: u64) -> Result<Vec<f32>> {
    let mut random = Random::new(seed);
    collected((0..values).map(|_| random.signed() as f32), "random rows")
}

/// Orthonormal rows near the subspace of largest variance, and the coordinates of the sample along each.
fn powers(compute: Compute, sample: &[f32], dims: usize, start: Vec<f32>) -> Result<(Vec<f32>, Vec<f32>)> {
    let (across, down) = (Columns::transposed(sample, dims)?, Columns::of(sample, dims)?);
    let count = start.len() / dims;
    let mut axes = start;
    for _ in 0..POWERS {
        let along = product(compute, &axes, &across)?;
        axes = orthonormal(compute, product(compute, &along, &down)?, dims, count)?;
    }
    let along = product(compute, &axes, &across)?;
    Ok((axes, along))
}

/// The eigenvectors of a symmetric matrix, roughly, by falling eigenvalue, and the quadratic form of each.
fn sorted(compute: Compute, matrix: Vec<f32>, size: usize) -> Result<(Vec<f32>, Vec<f64>)> {
    let columns = Columns::of(&matrix, size)?;
    let (mut vectors, mut images) = (Vec::new(), matrix);
    for _ in 0..ROUNDS {
        vectors = orthonormal(compute, images, size, size)?;
        images = product(compute, &vectors, &columns)?;
    }
    let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let pairs = vectors.chunks_exact(size).zip(images.chunks_exact(size));
    let mut order: Vec<(f64, &[f32])> = pairs.map(|(vector, image)| (dot(&wide(vector), &wide(image)).max(0.0), vector)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let vectors = collected(order.iter().flat_map(|(_, vector)| vector.iter().copied()), "the axes")?;
    Ok((vectors, order.iter().map(|entry| entry.0).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::pool::Watch;

    #[test]
    fn axes_are_found_largest_spread_first() {
        for (dims, counts) in [(20, vec![4, 20]), (200, vec![4])] {
            axes_are_found(dims, &counts);
        }
    }

    fn axes_are_found(dims: usize, counts: &[usize]) {
        let mut random = Random::new(9);
        // Coordinate j has the spread 1 / (j + 1), around 0.1.
        let sample: Vec<f32> = (0..3000 * dims).map(|i| 0.1 + (random.signed() * 0.2 / (i % dims + 1) as f64) as f32).collect();
        let watch = Watch::new(&|| true);
        for &count in counts {
            let mut same = None;
            for kernel in kernel::available() {
                for threads in [1, 2] {
                    let compute = Compute { kernel, threads, watch: &watch };
                    let found = principal(compute, sample.clone(), dims, count, 1).unwrap();
                    assert!(found.mean.iter().all(|mean| (mean - 0.1).abs() < 0.01));
                    for (k, axis) in found.axes.chunks_exact(dims).enumerate().take(4) {
                        let want = 0.2 / 3f64.sqrt() / (k + 1) as f64;
                        let spread = found.variances[k].sqrt();
                        assert!((spread / want - 1.0).abs() < 0.05, "axis {k}: spread {spread}");
                        assert!((axis.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
                        assert!(axis[k].abs() > 0.9, "axis {k}: {axis:?}");
                    }
                    let values = (found.axes, found.variances);
                    assert!(same.get_or_insert_with(|| values.clone()) == &values, "{} {threads}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn a_sample_without_rows_or_spread_has_any_orthonormal_axes() {
        let watch = Watch::new(&|| true);
        let compute = Compute { kernel: kernel::selected().unwrap(), threads: 1, watch: &watch };
        for sample in [vec![], vec![0.5; 3], vec![0.5; 12]] {
            for count in [2, 3] {
                let found = principal(compute, sample.clone(), 3, count, 1).unwrap();
                assert!(found.variances.iter().all(|&variance| variance < 1e-12));
                for axis in found.axes.chunks_exact(3) {
                    assert!((axis.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5, "{:?}", found.axes);
                }
            }
        }
    }
}
