//! When a float32 product proves that a row's key is below the threshold: the derivation of the slopes and
//! thresholds of [`Kernel::tile`].
//!
//! Let q and x be a query and a row in float32, S = <q, x> as a real number, d the dims, u = 2^-24. Summed in any
//! order, fused or not, the float32 value s satisfies (Higham, Accuracy and Stability of Numerical Algorithms, 3.1,
//! with an absolute term for products that underflow)
//!
//! ```text
//! |s - S| <= d u / (1 - d u) * |q||x| + d * 2^-149
//! ```
//!
//! The kernel keeps a row when `(s + slope * n) - h >= threshold`, where n is |x| in float32 and h is 0, for
//! euclidean (1 - 16 u) |x|^2 / 2. Let g = 1.01 (d + 16) u. The error of s, the three roundings of that expression,
//! the rounding of n and the error of the float64 key (d * 2^-53) are together at most g |q||x|, those of h at most
//! 16 u |x|^2 / 2; underflow adds at most `tiny` = (d + |q| + 1) * 2^-148. Slopes are rounded up, thresholds down.
//! d <= 65,536, so g < 0.004.
//!
//! A row may be dropped when its key is below `key`, the k-th best so far:
//!
//! ```text
//! dot         S < key                       kept: s + g|q| n          >= key - tiny
//! cosine      S < key |q||x|                kept: s + (g - key)|q| n  >= -tiny
//! euclidean   |q|^2 + |x|^2 - 2 S > -key    kept: s + g|q| n - h      >= (|q|^2 (1 - 16 u) + key (1 + 16 u)) / 2 - tiny
//! ```
//!
//! [`Kernel::dot_above`] has no need of the norm: the error of its products and sums is at most g sum |q_j x_j|, which it
//! adds, so that its value `a` is at least the float64 sum less `tiny`. The value m of [`Kernel::minus_distance`] is at least
//! -(1 + g) D - `tiny` and, where D is beyond float32, minus infinity; D is the float64 key without its sign. Rows are kept:
//!
//! ```text
//! dot         a               >= key - tiny
//! cosine      a - key |q||x|  >= -tiny            key less 2^-50 |key|, for the four roundings in float64
//! euclidean   m               >= key (1 + g) - tiny
//! ```
//!
//! [`Kernel::tile`]: crate::kernel::Kernel
//! [`Kernel::dot_above`]: crate::kernel::Kernel
//! [`Kernel::minus_distance`]: crate::kernel::Kernel

use super::threshold::up;
use crate::kernel::ByNorm;
use crate::metric::Metric;
use crate::quantize::UNIT;

/// A magnitude that all float32 sums beyond float32 exceed.
const BEYOND: f64 = 1e38;

/// Slope and threshold of one query for [`Kernel::tile`](crate::kernel::Kernel); `key` is the threshold of its keys.
pub(super) fn threshold(metric: Metric, dims: usize, query_norm: f64, key: f64) -> (f32, f32) {
    let band = band(dims);
    let tiny = (dims as f64 + query_norm + 1.0) * 2f64.powi(-148);
    if key == f64::NEG_INFINITY {
        return (0.0, f32::NEG_INFINITY);
    }
    let (slope, threshold) = match metric {
        Metric::Dot => (band * query_norm, key - key.abs() * UNIT - tiny),
        Metric::Cosine => ((band - key) * query_norm, -tiny),
        Metric::Euclidean => {
            let least = query_norm * query_norm * (1.0 - 16.0 * UNIT) + key * (1.0 + 16.0 * UNIT);
            (band * query_norm, 0.5 * least - tiny)
        }
        Metric::Hamming => (0.0, f64::NEG_INFINITY),
    };
    (up(slope), down(threshold))
}

/// A part of `sum |q_j x_j|`, or of `|q||x|`, that a float32 sum is in error at most.
fn band(dims: usize) -> f64 {
    1.01 * (dims as f64 + 16.0) * UNIT
}

/// The slack of [`Kernel::dot_above`](crate::kernel::Kernel).
pub(super) fn slack(dims: usize) -> f32 {
    up(band(dims))
}

/// The least value of a row whose key is not below `key`: of [`Kernel::dot_above`](crate::kernel::Kernel), for cosine less
/// what [`cosine_terms`] say, or of [`Kernel::minus_distance`](crate::kernel::Kernel).
pub(super) fn least(metric: Metric, dims: usize, key: f64) -> f32 {
    let tiny = (dims as f64 + 1.0) * 2f64.powi(-148);
    let least = match metric {
        Metric::Dot => key - tiny,
        Metric::Cosine => -tiny,
        Metric::Euclidean => key * (1.0 + band(dims)) - tiny,
        // Bits are counted.
        Metric::Hamming => f64::NEG_INFINITY,
    };
    // Beyond float32, sums tell no rows apart.
    if least < -BEYOND { f32::NEG_INFINITY } else { down(least) }
}

/// What makes `a - key |q||x|` of `a`.
pub(super) fn cosine_terms(key: f64, query_norm: f64) -> ByNorm {
    ByNorm { value: 1.0, norm: -(key - key.abs() * 2f64.powi(-50)) * query_norm, ..ByNorm::default() }
}

/// At most the key of a row, from the float32 sum `sum` of its products with a query and the norms of query and row; up
/// to roundings of this function.
pub(super) fn key_at_least(metric: Metric, dims: usize, sum: f32, norms: [f64; 2]) -> f64 {
    let [query, row] = norms;
    let least = f64::from(sum) - band(dims) * query * row;
    let raw = if metric == Metric::Euclidean { query * query + row * row - 2.0 * least } else { least };
    metric.key(raw, query, row)
}

/// The terms n and h of a row.
pub(super) fn row_terms(metric: Metric, norm: f64) -> (f32, f32) {
    let half = match metric {
        Metric::Euclidean => 0.5 * norm * norm * (1.0 - 16.0 * UNIT),
        _ => 0.0,
    };
    (norm as f32, half as f32)
}

/// The largest float32 that is not above `value`.
fn down(value: f64) -> f32 {
    -up(-value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{self, Tile, padded};
    use proptest::prelude::*;

    /// Values over a wide range of magnitudes, subnormal products included.
    fn value() -> impl Strategy<Value = f32> {
        (-1.0f32..1.0, prop_oneof![Just(0i32), -80..40i32]).prop_map(|(x, e)| x * 2f32.powi(e))
    }

    fn keys(metric: Metric, query: &[f32], rows: &[f32]) -> (Vec<f64>, f64, Vec<f64>) {
        let dims = query.len();
        let mut wide: Vec<f64> = query.iter().map(|&q| f64::from(q)).collect();
        wide.resize(padded(dims), 0.0);
        let count = rows.len() / dims;
        let (mut sums, mut norms, mut norm) = (vec![0.0; count], vec![0.0; count], [0.0]);
        let table = &kernel::scalar::KERNEL;
        let sum = if metric == Metric::Euclidean { table.squared_distance } else { table.dot };
        sum(&wide, rows, dims, &mut sums);
        (table.squared_norm)(rows, dims, &mut norms);
        (table.squared_norm)(query, dims, &mut norm);
        norms.iter_mut().for_each(|n| *n = n.sqrt());
        let norm = norm[0].sqrt();
        (sums.iter().zip(&norms).map(|(&s, &n)| metric.key(s, norm, n)).collect(), norm, norms)
    }

    proptest! {
        #[test]
        fn a_key_is_not_below_its_lower_bound(dims in 1usize..40, seed in prop::collection::vec(-1.0f32..1.0, 40 * 9)) {
            let (query, rows) = (&seed[..dims], &seed[40..40 + 8 * dims]);
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let (keys, norm, norms) = keys(metric, query, rows);
                for ((row, key), row_norm) in rows.chunks_exact(dims).zip(keys).zip(norms) {
                    let sum = query.iter().zip(row).map(|(q, x)| q * x).sum();
                    prop_assert!(key_at_least(metric, dims, sum, [norm, row_norm]) <= key, "{metric:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_row_that_reaches_the_key_is_never_dropped(
            dims in 1usize..40,
            seed in prop::collection::vec(value(), 40 * 9),
            scale in -60i32..15,
            near in any::<bool>(),
            which in 0usize..8,
        ) {
            let query: Vec<f32> = seed[..dims].iter().map(|q| q * 2f32.powi(scale)).collect();
            let mut rows: Vec<f32> = seed[40..40 + 8 * dims].to_vec();
            if near {
                // Rows within a few units in the last place of the query: the worst cancellation.
                for (i, x) in rows.iter_mut().enumerate() {
                    *x = f32::from_bits(query[i % dims].to_bits() ^ (x.to_bits() & 1));
                }
            }
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let (keys, norm, norms) = keys(metric, &query, &rows);
                let (slope, threshold) = threshold(metric, dims, norm, keys[which]);
                let terms: Vec<(f32, f32)> = norms.iter().map(|&n| row_terms(metric, n)).collect();
                let (lengths, halves): (Vec<f32>, Vec<f32>) = terms.into_iter().unzip();
                let mut columns = vec![0.0; 16 * dims];
                (0..dims).for_each(|j| columns[16 * j] = query[j]);
                let mut thresholds = [f32::INFINITY; 16];
                thresholds[0] = threshold;
                for table in kernel::available() {
                    let tile = Tile { width: 16, columns: &columns, slope: &[slope; 16], threshold: &thresholds };
                    let mut keep = [0; 8];
                    (table.tile)(&tile, &rows, dims, &lengths, &halves, &mut keep);
                    for row in 0..8 {
                        prop_assert!(keys[row] < keys[which] || keep[row] == 1, "{} {metric:?} row {row}", table.name);
                    }
                }
            }
        }

        #[test]
        fn a_row_that_reaches_the_key_has_the_least_float32_key(
            dims in 1usize..40,
            seed in prop::collection::vec(value(), 40 * 9),
            scale in -60i32..15,
            near in any::<bool>(),
            which in 0usize..8,
        ) {
            let mut query: Vec<f32> = seed[..dims].iter().map(|q| q * 2f32.powi(scale)).collect();
            let mut rows: Vec<f32> = seed[40..40 + 8 * dims].to_vec();
            if near {
                rows.iter_mut().enumerate().for_each(|(i, x)| *x = f32::from_bits(query[i % dims].to_bits() ^ (x.to_bits() & 1)));
            }
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let (exact, norm, norms) = keys(metric, &query[..dims], &rows);
                query.resize(padded(dims), 0.0);
                for table in kernel::available() {
                    let mut got = [0.0; 8];
                    match metric {
                        Metric::Euclidean => (table.minus_distance)(&query, &rows, dims, &mut got),
                        _ => (table.dot_above)(&query, &rows, dims, slack(dims), &mut got),
                    }
                    if metric == Metric::Cosine {
                        (table.by_norm)(&cosine_terms(exact[which], norm), &norms, &mut got);
                    }
                    for row in 0..8 {
                        let kept = got[row] >= least(metric, dims, exact[which]);
                        prop_assert!(exact[row] < exact[which] || kept, "{} {metric:?} row {row}", table.name);
                    }
                }
                query.truncate(dims);
            }
        }

        #[test]
        fn a_row_far_below_the_key_is_dropped(angle in 0.1f64..1.5) {
            let query = [1.0f32, 0.0];
            let rows = [1.0f32, 0.0, angle.cos() as f32, angle.sin() as f32];
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let (keys, norm, norms) = keys(metric, &query, &rows);
                let (slope, threshold) = threshold(metric, 2, norm, keys[0]);
                let (length, half) = row_terms(metric, norms[1]);
                let sum = query[0] * rows[2] + query[1] * rows[3];
                prop_assert!((sum + slope * length) - half < threshold, "{metric:?}");
                let distance = (query[0] - rows[2]).powi(2) + (query[1] - rows[3]).powi(2);
                let value = match metric {
                    Metric::Cosine => f64::from(sum) + cosine_terms(keys[0], norm).norm * norms[1],
                    Metric::Dot => f64::from(sum * (1.0 + slack(2))),
                    Metric::Euclidean => f64::from(-distance),
                    Metric::Hamming => f64::NEG_INFINITY,
                };
                prop_assert!(value < f64::from(least(metric, 2, keys[0])), "{metric:?}");
            }
        }
    }
}
