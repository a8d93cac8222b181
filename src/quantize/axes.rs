//! The axes of a quantizer: principal ones of a sample, completed to a basis and sorted by variance, with a step for each.
//!
//! How many of them are principal decides what learning costs, see [`pca`](crate::linalg::pca). Of rows with many dims the
//! lines mostly hold fewer coordinates than that, and of the others they know the length alone, which is the same in
//! any basis. To complete m axes of d dims takes (2 d - m) m d multiply-adds, to measure the variances
//! `VARIANCE_VALUES` d, and `skew` d^3 / 2 in float64.
//!
//! Whatever comes out here is only a choice: bounds hold for any axes, because [`Quantizer::skew`] measures how far they
//! are from orthonormal.

use super::{LINE_DIMS, Quantizer};
use crate::error::{Result, collected};
use crate::kernel::padded;
use crate::linalg::Compute;
use crate::linalg::orthonormal::{self, orthonormal};
use crate::linalg::pca::{self, principal};
use crate::linalg::product::{Columns, product};
use crate::pool;
use crate::progress::cost;

/// A step of the code in standard deviations: [`RECONSTRUCTION`](crate::kernel::RECONSTRUCTION) and what stands beside them then
/// reach 3.1 deviations on either side.
pub(super) const STEP: f64 = 0.044;
/// All axes are principal ones up to so many dims: finding them costs no more there than finding [`RANK`].
const ALL_DIMS: usize = 1536;
/// Principal axes of more dims. Half as many leave twice as many rows of 2048 dims undecided by their lines.
const RANK: usize = 1024;
/// Values of the rows that variances are measured on.
const VARIANCE_VALUES: usize = 4 << 20;
/// Axes that meet each other in a cache when their products are measured.
const GRAM_AXES: usize = 32;

/// Learns centre, axes and steps from the directions of a sample, `dims` values each; zero rows are left out. `leading` is
/// set to all of `dims` that lines can hold.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted); no memory.
pub fn learn(compute: Compute, sample: &[f64], dims: usize, seed: u64) -> Result<Quantizer> {
    of_rank(compute, sample, dims, rank(dims), seed)
}

/// The cost of [`learn`] from a sample of `rows`.
pub fn work(rows: usize, dims: usize) -> f64 {
    let (rank, square) = (rank(dims), (dims * dims) as f64);
    let completed = if rank < dims { orthonormal::work(rank, dims, dims) } else { 0.0 };
    let measured = (rows * dims).min(VARIANCE_VALUES) as f64 * dims as f64;
    pca::work(rows, dims, rank) + completed + measured + cost::FLOAT64 * square * dims as f64 / 2.0
}

/// The number of principal axes.
fn rank(dims: usize) -> usize {
    if dims > ALL_DIMS { RANK } else { dims }
}

/// Learns a quantizer whose first `rank` axes are principal ones.
fn of_rank(compute: Compute, sample: &[f64], dims: usize, rank: usize, seed: u64) -> Result<Quantizer> {
    let narrow = collected(sample.iter().map(|&x| x as f32), "a sample of rows")?;
    let found = principal(compute, narrow, dims, rank, seed)?;
    let axes = if rank < dims { orthonormal(compute, found.axes, dims, dims)? } else { found.axes };
    let variances = variances(compute, sample, &found.mean, &axes)?;
    let mut order: Vec<(f64, &[f32])> = variances.into_iter().zip(axes.chunks_exact(dims)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    // A dead axis still needs a step: the finest that float32 scores could notice.
    let least = order[0].0.max(1e-12) * 1e-8;
    let steps: Vec<f32> = order.iter().map(|&(v, _)| (v.max(least).sqrt() * STEP) as f32).collect();
    let sorted = collected(order.iter().flat_map(|(_, axis)| axis.iter().copied()), "the axes")?;
    let skew = skew(compute, &sorted, dims)?;
    let values = Quantizer::pack(&found.mean, &steps, &sorted)?;
    Ok(Quantizer { dims, leading: dims / LINE_DIMS * LINE_DIMS, skew, values })
}

/// The variance of some rows of the sample along each axis.
fn variances(compute: Compute, sample: &[f64], centre: &[f32], axes: &[f32]) -> Result<Vec<f64>> {
    let dims = centre.len();
    let every = sample.len().div_ceil(VARIANCE_VALUES).max(1);
    let rows = sample.chunks_exact(dims).step_by(every);
    let centred = rows.flat_map(|row| row.iter().zip(centre).map(|(x, &m)| (x - f64::from(m)) as f32));
    let centred = collected(centred, "a sample of rows")?;
    let mut sums = vec![0.0; dims];
    if !centred.is_empty() {
        for row in product(compute, &centred, &Columns::transposed(axes, dims)?)?.chunks_exact(dims) {
            sums.iter_mut().zip(row).for_each(|(sum, &y)| *sum += f64::from(y) * f64::from(y));
        }
    }
    let count = (centred.len() / dims).max(1) as f64;
    Ok(sums.into_iter().map(|sum| sum / count).collect())
}

/// An upper bound of the largest |eigenvalue| of V'V - 1: the largest sum of magnitudes in a row of it (Gershgorin).
///
/// It is symmetric, so each product of two axes is computed once and counted in both rows. The float64 products of float32
/// values err by less than dims * 2^-53 |a||b| < 1e-12 each, and so does adding up the magnitudes, relative.
fn skew(compute: Compute, axes: &[f32], dims: usize) -> Result<f64> {
    let groups: Vec<&[f32]> = axes.chunks(GRAM_AXES * dims).collect();
    let work = |(wide, products): &mut (Vec<f64>, Vec<f64>), group: usize| {
        let first = group * GRAM_AXES;
        let mut sums = vec![0.0; dims];
        for (other, others) in groups.iter().enumerate().skip(group) {
            compute.watch.check()?;
            compute.watch.advance((cost::FLOAT64 * (groups[group].len() / dims * others.len()) as f64) as u64);
            products.resize(others.len() / dims, 0.0);
            for (i, axis) in (first..).zip(groups[group].chunks_exact(dims)) {
                wide.clear();
                wide.extend(axis.iter().map(|&x| f64::from(x)));
                wide.resize(padded(dims), 0.0);
                (compute.kernel.dot)(wide, others, dims, products);
                for (j, product) in (other * GRAM_AXES..).zip(products.iter()) {
                    sums[i] += (product - f64::from(u8::from(i == j))).abs();
                    // Within its own group an axis meets all others itself.
                    sums[j] += if other > group { product.abs() } else { 0.0 };
                }
            }
        }
        Ok(sums)
    };
    let parts = pool::map(compute.threads, groups.len(), compute.watch, || Ok(Default::default()), work)?;
    compute.watch.check()?;
    let row = |i: usize| -> f64 { parts.iter().map(|sums| sums[i]).sum() };
    Ok((0..dims).map(row).fold(0.0, f64::max) * (1.0 + 1e-12) + dims as f64 * 1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::pool::Watch;
    use crate::random::Random;

    #[test]
    fn axes_are_orthonormal_and_sorted_even_when_dims_are_dead() {
        let dims = 40;
        let mut random = Random::new(3);
        // The last ten dims never vary.
        let sample: Vec<f64> =
            (0..500 * dims).map(|i| if i % dims < 30 { random.signed() / (1.0 + (i % dims) as f64) } else { 0.25 }).collect();
        let watch = Watch::new(&|| true);
        for rank in [7, dims] {
            let mut same = None;
            for kernel in kernel::available() {
                for threads in [1, 2] {
                    let quantizer = of_rank(Compute { kernel, threads, watch: &watch }, &sample, dims, rank, 0).unwrap();
                    assert!(quantizer.skew < 1e-5, "{}", quantizer.skew);
                    assert!(quantizer.steps().windows(2).all(|pair| pair[0] >= pair[1]));
                    assert!(quantizer.steps()[0] > 2.0 * quantizer.steps()[10]);
                    let made = (quantizer.values.view::<f32>().to_vec(), quantizer.skew);
                    assert!(same.get_or_insert_with(|| made.clone()) == &made, "{} {threads}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn skew_is_not_below_the_largest_eigenvalue() {
        let dims = 70;
        let watch = Watch::new(&|| true);
        let compute = Compute { kernel: kernel::selected().unwrap(), threads: 2, watch: &watch };
        // V'V - 1 of c times the identity is c^2 - 1.
        for stretch in [0.98f32, 1.0, 1.01] {
            let mut axes: Vec<f32> = (0..dims * dims).map(|i| if i % (dims + 1) == 0 { stretch } else { 0.0 }).collect();
            let off = f64::from(stretch).powi(2) - 1.0;
            let found = skew(compute, &axes, dims).unwrap();
            assert!(off.abs() <= found && found <= off.abs() + 1e-9);
            // Axes 3 and 66, of different groups, lean towards each other.
            (axes[3 * dims + 66], axes[66 * dims + 3]) = (0.01, 0.01);
            let off = [-1.0, 1.0].map(|sign| ((f64::from(stretch) + sign * f64::from(0.01f32)).powi(2) - 1.0).abs());
            assert!(off[0].max(off[1]) <= skew(compute, &axes, dims).unwrap());
        }
    }
}
