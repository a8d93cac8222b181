//! The axes: centred directions of a sample, their principal axes by orthogonal iteration.
//!
//! Whatever comes out here is only a choice: bounds hold for any axes, because [`Quantizer::skew`]
//! measures how far they are from orthonormal. Golub and Van Loan, Matrix Computations, 8.2.4.

use super::{LINE_DIMS, Quantizer};
use crate::error::Result;
use crate::kernel::{Kernel, padded};
use crate::pool::{self, Watch};
use crate::random::Random;

/// A step of the code in standard deviations: [`RECONSTRUCTION`](crate::kernel::CELLS) and what stands beside them then
/// reach 3.1 deviations on either side.
pub(super) const STEP: f64 = 0.044;
/// Rounds of orthogonal iteration; axes need not be exact, only sorted by variance roughly.
const ROUNDS: usize = 6;
/// Above this many dims fewer rounds: their cost grows with the cube.
const MANY_DIMS: usize = 512;
/// What is left of a vector that depends on those before it is noise: it is replaced.
const DEPENDENT: f64 = 1e-9;

/// Learns centre, axes and steps from the directions of a sample, `dims` values each; zero rows
/// are left out. `leading` is set to all of `dims` that lines can hold.
pub fn learn(kernel: &Kernel, sample: &[f64], dims: usize, seed: u64, threads: usize, watch: &Watch) -> Result<Quantizer> {
    let centre = mean(sample, dims);
    let covariance = covariance(kernel, sample, &centre, dims, threads, watch)?;
    let mut axes = random_rows(dims, seed);
    orthonormalise(&mut axes, dims, seed, watch)?;
    let rounds = if dims > MANY_DIMS { ROUNDS / 3 } else { ROUNDS };
    for _ in 0..rounds {
        watch.check()?;
        axes = products(kernel, &axes, &covariance, dims, threads, watch)?;
        orthonormalise(&mut axes, dims, seed, watch)?;
    }
    let along = products(kernel, &axes, &covariance, dims, threads, watch)?;
    let variance = |i: usize| -> f64 { (0..dims).map(|j| axes[i * dims + j] * along[i * dims + j]).sum::<f64>().max(0.0) };
    let mut order: Vec<(f64, usize)> = (0..dims).map(|i| (variance(i), i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    // A dead axis still needs a step: the finest that float32 scores could notice.
    let least = order[0].0.max(1e-12) * 1e-8;
    let steps: Vec<f32> = order.iter().map(|&(v, _)| (v.max(least).sqrt() * STEP) as f32).collect();
    let sorted: Vec<f32> = order.iter().flat_map(|&(_, i)| axes[i * dims..(i + 1) * dims].iter().map(|&x| x as f32)).collect();
    let skew = skew(kernel, &sorted, dims, threads, watch)?;
    let values = Quantizer::pack(&centre, &steps, &sorted)?;
    Ok(Quantizer { dims, leading: dims / LINE_DIMS * LINE_DIMS, skew, values })
}

/// The mean of the rows, as float32: used as stored, so its rounding is no error.
fn mean(sample: &[f64], dims: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dims];
    for row in sample.chunks_exact(dims) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let count = (sample.len() / dims).max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// `dims` x `dims` second moments about the centre, as float32.
fn covariance(kernel: &Kernel, sample: &[f64], centre: &[f32], dims: usize, threads: usize, watch: &Watch) -> Result<Vec<f32>> {
    let count = (sample.len() / dims).max(1);
    let mut columns = vec![0.0f32; count * dims];
    for (i, row) in sample.chunks_exact(dims).enumerate() {
        for (j, (x, m)) in row.iter().zip(centre).enumerate() {
            columns[j * count + i] = (x - f64::from(*m)) as f32;
        }
    }
    let scaled = |j: usize| -> Vec<f64> { columns[j * count..(j + 1) * count].iter().map(|&x| f64::from(x) / count as f64).collect() };
    let rows = by_row(kernel, dims, &scaled, &columns, count, threads, watch)?;
    Ok(rows.iter().map(|&x| x as f32).collect())
}

/// Row i of the result holds the products of row i of `left` with every row of `right`.
fn products(kernel: &Kernel, left: &[f64], right: &[f32], dims: usize, threads: usize, watch: &Watch) -> Result<Vec<f64>> {
    by_row(kernel, dims, &|i| left[i * dims..(i + 1) * dims].to_vec(), right, dims, threads, watch)
}

/// Row i of the result holds the products of `left(i)`, all of float32 values, with every row of `right`: `count`
/// rows, the same bits from every kernel.
pub(crate) fn by_row(
    kernel: &Kernel,
    count: usize,
    left: &(dyn Fn(usize) -> Vec<f64> + Sync),
    right: &[f32],
    dims: usize,
    threads: usize,
    watch: &Watch,
) -> Result<Vec<f64>> {
    let width = right.len() / dims;
    let work = |(): &mut (), i: usize| {
        let mut query = left(i);
        query.resize(padded(dims), 0.0);
        let mut out = vec![0.0; width];
        (kernel.dot)(&query, right, dims, &mut out);
        Ok(out)
    };
    Ok(pool::map(threads, count, watch, || Ok(()), work)?.concat())
}

/// Makes the rows, `dims` of them at most, orthonormal, in order, each projected twice (Giraud and others, 2005: twice is
/// enough); a row that depends on those before it becomes a random one.
pub(crate) fn orthonormalise(rows: &mut [f64], dims: usize, seed: u64, watch: &Watch) -> Result<()> {
    let mut limit_refined = Random::new(!seed);
    for i in 0..rows.len() / dims {
        watch.check()?;
        loop {
            let (before, remainder) = rows.split_at_mut(i * dims);
            let row = &mut remainder[..dims];
            let length = norm(row);
            if length > 0.0 && length.is_finite() {
                row.iter_mut().for_each(|x| *x /= length);
                for _ in 0..2 {
                    for other in before.chunks_exact(dims) {
                        let along: f64 = dot(row, other);
                        row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
                    }
                }
                let left = norm(row);
                if left > DEPENDENT {
                    row.iter_mut().for_each(|x| *x /= left);
                    break;
                }
            }
            row.iter_mut().for_each(|x| *x = limit_refined.signed());
        }
    }
    Ok(())
}

/// Four sums side by side: the order of the terms does not matter here.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let trailing: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a4.zip(b4) {
        (0..4).for_each(|l| sums[l] += x[l] * y[l]);
    }
    sums.iter().sum::<f64>() + trailing
}

fn norm(row: &[f64]) -> f64 {
    dot(row, row).sqrt()
}

/// An upper bound of the largest |eigenvalue| of V'V - 1: its largest sum of magnitudes in a row.
fn skew(kernel: &Kernel, axes: &[f32], dims: usize, threads: usize, watch: &Watch) -> Result<f64> {
    let wide: Vec<f64> = axes.iter().map(|&x| f64::from(x)).collect();
    let gram = products(kernel, &wide, axes, dims, threads, watch)?;
    let row = |i: usize| -> f64 { (0..dims).map(|j| (gram[i * dims + j] - f64::from(u8::from(i == j))).abs()).sum() };
    // The float64 products err by less than 1e-12 each.
    Ok((0..dims).map(row).fold(0.0, f64::max) + dims as f64 * 1e-12)
}

fn random_rows(dims: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..dims * dims).map(|_| random.signed()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;

    #[test]
    fn axes_are_orthonormal_and_sorted_even_when_dims_are_dead() {
        let dims = 40;
        let mut random = Random::new(3);
        // The last ten dims never vary.
        let sample: Vec<f64> =
            (0..500 * dims).map(|i| if i % dims < 30 { random.signed() / (1.0 + (i % dims) as f64) } else { 0.25 }).collect();
        let watch = Watch::new(&|| true);
        let quantizer = learn(kernel::selected().unwrap(), &sample, dims, 0, 2, &watch).unwrap();
        assert!(quantizer.skew < 1e-5, "{}", quantizer.skew);
        assert!(quantizer.steps().windows(2).all(|pair| pair[0] >= pair[1]));
        assert!(quantizer.steps()[0] > 2.0 * quantizer.steps()[10]);
    }
}
