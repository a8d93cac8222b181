//! Dense linear algebra on float32 matrices that lie row by row: products, orthonormal rows and principal axes.
//!
//! Every number comes from lane sums of kernels and from plain operations of IEEE 754 in a fixed order: the same bits
//! from every kernel and for any number of threads, in the standard floating-point mode. Matrices know nothing of
//! rows of an index or of codes.

pub mod orthonormal;
pub mod pca;
pub mod product;

use crate::kernel::Kernel;
use crate::pool::Watch;

/// What does the work, and who may stop it.
#[derive(Clone, Copy)]
pub struct Compute<'a> {
    /// Arithmetic.
    pub kernel: &'a Kernel,
    /// Workers.
    pub threads: usize,
    /// Asked between pieces of work.
    pub watch: &'a Watch<'a>,
}

/// The sum of `a[i] * b[i]` in float64, in eight lanes.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_left), (b, b_left)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_left.iter().zip(b_left).map(|(a, b)| a * b).sum::<f64>()
}
