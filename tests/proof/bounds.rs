//! All bounds of every kernel against the exact cosine and the keys as computed.

use crate::quantizers::{self, Coded, identity, moved, padded_query, quantizer, rotated, skew};
use crate::tables::{Random, extremes, narrow, table};
use nseekfs::kernel::{self, scalar};
use nseekfs::metric::Metric;
use nseekfs::quantize::bound::{cosine_threshold, key_bound};
use nseekfs::quantize::query_code::QueryCode;
use nseekfs::quantize::rotate::Rotation;
use nseekfs::quantize::{LEAST_NORM, Quantizer};
use proptest::prelude::*;

pub const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// `sum a b` in about 106 bits (Ogita, Rump and Oishi, 2005: Dot2), rounded once.
fn exact_dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for (&x, &y) in a.iter().zip(b) {
        let product = x * y;
        let total = sum + product;
        let part = total - sum;
        lost += (sum - (total - part)) + (product - part) + x.mul_add(y, -product);
        sum = total;
    }
    sum + lost
}

/// The cosine, to a few units of 2^-53; 0 for a zero vector.
pub fn exact_cosine(a: &[f64], b: &[f64]) -> f64 {
    // Scaled by powers of two, so that no square leaves float64.
    let scaled = |v: &[f64]| -> Option<Vec<f64>> {
        let largest = v.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let scale = (-largest.log2().floor()).exp2();
        (largest > 0.0).then(|| v.iter().map(|x| x * scale).collect())
    };
    let (Some(a), Some(b)) = (scaled(a), scaled(b)) else { return 0.0 };
    exact_dot(&a, &b) / (exact_dot(&a, &a).sqrt() * exact_dot(&b, &b).sqrt())
}

/// The key as the definition computes it.
pub fn key(metric: Metric, wide: &[f64], row: &[f64], norms: (f64, f64)) -> f64 {
    let mut sum = [0.0];
    let sums = if metric == Metric::Euclidean { scalar::KERNEL.squared_distance_f64 } else { scalar::KERNEL.dot_f64 };
    sums(wide, row, row.len(), &mut sum);
    metric.key(sum[0], norms.0, norms.1)
}

/// Checks every bound of every row for every query, in every kernel. As in scans, a NaN bound keeps its row.
pub fn check(quantizer: &Quantizer, rows: &[f64], queries: &[f64]) {
    let dims = quantizer.dims;
    for kernel in kernel::runnable() {
        let coded = Coded::new(kernel, quantizer, rows);
        let rotation = Rotation::new(kernel, quantizer).unwrap();
        for (i, query) in queries.chunks_exact(dims).enumerate() {
            let (wide, norm) = padded_query(query);
            if norm < LEAST_NORM {
                continue;
            }
            let rotated = QueryCode::rotated(kernel, quantizer, &rotation, &[(&wide, norm)]).swap_remove(0);
            for (how, query_code) in [("float64", &QueryCode::new(kernel, quantizer, &wide, norm)), ("int16", &rotated)] {
                let coarse = coded.coarse_bounds(kernel, query_code);
                let batch = coded.batch_bounds(kernel, quantizer, query_code);
                for (r, row) in rows.chunks_exact(dims).enumerate() {
                    let n = coded.norms[r];
                    let full = coded.full_bound(query_code, kernel, quantizer, r, coarse[r]);
                    let exact = exact_cosine(query, row);
                    let mut bounds = vec![(f64::from(coarse[r]), "coarse"), (full, "full")];
                    if n >= LEAST_NORM {
                        bounds.push((f64::from(batch[r]), "batch"));
                    }
                    for (bound, which) in bounds {
                        let name = || format!("{} {how} {which} bound of row {r}, query {i}: {bound:e}", kernel.name);
                        assert!(!matches!(bound.partial_cmp(&exact), Some(std::cmp::Ordering::Less)), "{}, cosine {exact:e}", name());
                        for metric in METRICS {
                            let key = key(metric, &wide, row, (norm, n));
                            let above = key_bound(metric, bound, norm, n);
                            assert!(above >= key || above.is_nan(), "{}, {metric:?} key {key:e} above {above:e}", name());
                        }
                    }
                    for metric in METRICS {
                        let key = key(metric, &wide, row, (norm, n));
                        for norms in [(n, n), (0.0, n), (n / 2.0, 3.0 * n), (n, n.max(1e18))] {
                            let least = cosine_threshold(metric, key, norm, norms);
                            assert!(coarse[r] >= least || coarse[r].is_nan() || least.is_nan(), "{metric:?} row {r} query {i} {norms:?}");
                        }
                    }
                }
            }
        }
    }
}

/// Steps for rows of equal variance along all axes.
fn even_steps(dims: usize) -> Vec<f32> {
    vec![0.43 / 16.0 / (dims as f32).sqrt(); dims]
}

/// The mean direction of some rows, as a quantizer would learn it.
fn mean(rows: &[f32], dims: usize) -> Vec<f32> {
    let mut sums = vec![0.0; dims];
    for row in rows.chunks_exact(dims) {
        let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / length * dims as f64 / rows.len() as f64);
    }
    narrow(&sums)
}

/// Quantizers with good and bad axes, centres, leading dims, steps.
pub fn hand_made(dims: usize) -> Vec<Quantizer> {
    let plain = identity(dims);
    let rotated = rotated(dims, 5);
    let slanted = moved(&rotated, 0.05, 6);
    let zero = vec![0.0; dims];
    let common = mean(&table("common direction", 100, dims), dims);
    let middle = (dims / 16).max(1) * 8;
    let rotated_skew = skew(&rotated, dims);
    let mut random = Random::seeded(8);
    let uneven = (0..dims).map(|_| (random.normal() * 3.0 - 6.0).exp() as f32).collect();
    vec![
        quantizer(dims / 8 * 8, zero.clone(), plain.clone(), even_steps(dims), 0.0),
        quantizer(8, common.clone(), plain.clone(), even_steps(dims), 0.0),
        quantizer(middle, common.clone(), rotated.clone(), even_steps(dims), rotated_skew),
        quantizer(dims / 8 * 8, common.clone(), rotated.clone(), vec![1e-12; dims], rotated_skew),
        quantizer(middle, zero.clone(), rotated.clone(), vec![1e-30; dims], rotated_skew),
        quantizer(middle, zero.clone(), rotated.clone(), vec![50.0; dims], rotated_skew),
        quantizer(middle, common.clone(), rotated, uneven, rotated_skew),
        quantizer(middle, common, slanted.clone(), even_steps(dims), skew(&slanted, dims)),
        quantizer(8, zero, slanted.clone(), even_steps(dims), skew(&slanted, dims)),
    ]
}

#[test]
fn bounds_hold_for_extreme_rows_and_queries() {
    for dims in [32, 43, 96] {
        let rows = extremes(dims);
        let some = Random::seeded(2).normals(6 * dims);
        let all = [rows, some].concat();
        for quantizer in hand_made(dims) {
            let centre = quantizers::centre(&quantizer);
            let against: Vec<f64> = centre.iter().map(|m| -m).collect();
            check(&quantizer, &all, &[all.clone(), centre, against].concat());
        }
    }
}

#[test]
fn bounds_hold_on_the_edges_of_codes() {
    let dims = 40;
    for quantizer in hand_made(dims) {
        let steps = quantizers::steps(&quantizer);
        let mut random = Random::seeded(11);
        let mut rows = Vec::new();
        // Edges between levels, of the refinements of the outermost level, and of int8; and what rounds to them.
        for edge in [0.0, 0.5, 6.0, 12.0, 18.5, 25.5, 33.5, 43.0, 55.5, 63.0, 70.5, 71.5, 127.0, 127.5, 128.5] {
            let along: Vec<f64> =
                steps.iter().map(|s| s * (edge - 2.0 * edge * random.below(2) as f64 + 0.5 * random.below(3) as f64)).collect();
            rows.extend(quantizers::direction_along(&quantizer, &along));
        }
        check(&quantizer, &rows, &rows);
    }
}

#[test]
fn bounds_hold_at_the_largest_dims_of_codes() {
    let dims = 4096;
    let common = vec![0.7 / 64.0; dims];
    let quantizer = quantizer(dims, common, identity(dims), even_steps(dims), 0.0);
    let mut rows = Random::seeded(4).normals(3 * dims);
    rows.iter_mut().take(dims).for_each(|x| *x += 1.0);
    rows.extend((0..dims).map(|j| if j % 2 == 0 { 1.0 } else { -1.0 }));
    check(&quantizer, &rows, &rows[dims..3 * dims]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn bounds_hold_for_any_quantizer(dims in 8usize..70, leading in 1usize..9, seed: u64, scale in -9.0f64..3.0, slant in 0.0f64..0.2, shift in -1.0f64..1.0) {
        let axes = moved(&rotated(dims, seed), slant * slant, seed);
        let mut random = Random::seeded(seed ^ 1);
        let steps = (0..dims).map(|_| (scale + random.normal()).exp() as f32).collect();
        let mut rows = random.normals(12 * dims);
        let centre = narrow(&rows[..dims].iter().map(|x| x * shift / (2.0 * dims as f64).sqrt()).collect::<Vec<_>>());
        let centre = if quantizers::length(&centre) > 1.0 { vec![0.0; dims] } else { centre };
        let quantizer = quantizer((8 * leading).min(dims / 8 * 8), centre, axes.clone(), steps, skew(&axes, dims));
        for i in 0..6 {
            let factor = (random.normal() * 10.0).exp();
            rows[i * dims..(i + 1) * dims].iter_mut().for_each(|x| *x *= factor);
        }
        check(&quantizer, &rows, &rows);
    }
}
