//! The small terms of the proof, one at a time: in each test all other terms vanish, so that the bound fails without the
//! term in the test's name.

use crate::bounds::{METRICS, check, exact_cosine, key};
use crate::quantizers::{Coded, direction_along, identity, padded_query, quantizer, rotated, skew};
use crate::tables::{Random, narrow};
use nseekfs::kernel::{self, scalar};
use nseekfs::metric::Metric;
use nseekfs::quantize::LEAST_NORM;
use nseekfs::quantize::bound::{cosine_threshold, key_bound};
use nseekfs::quantize::query_code::QueryCode;
use proptest::prelude::*;

#[test]
fn the_int16_error_of_a_query_is_in_the_bound() {
    // The levels of the row are exact, and the outermost of the sign of the query's error.
    let dims = 96;
    for seed in 0..20 {
        let query = Random::seeded(seed).normals(dims);
        let (wide, norm) = padded_query(&query);
        let trial = quantizer(dims, vec![0.0; dims], identity(dims), vec![1e-3; dims], 0.0);
        let query_code = QueryCode::new(&scalar::KERNEL, &trial, &wide, norm);
        let coarse = query_code.coarse_query();
        let error = |j: usize| {
            let word = 256.0 * f64::from(coarse.high[j]) + f64::from(coarse.low[j]);
            query[j] / norm * 1e-3f32 as f64 - f64::from(coarse.step) * word
        };
        let code: Vec<f64> = (0..dims).map(|j| if error(j) > 0.0 { 63.0 } else { -63.0 }).collect();
        let step = (1.0 / padded_query(&code).1) as f32;
        let quantizer = quantizer(dims, vec![0.0; dims], identity(dims), vec![step; dims], 0.0);
        check(&quantizer, &code, &query);
    }
}

#[test]
fn int16_errors_of_one_sign_are_in_every_bound() {
    // All but one coordinate of the query are just below half a step. The codes of the row are exact and the largest: an
    // outermost level, with or without its outermost refinement, and in trailing dims 127 or -128.
    let dims = 1024;
    for (sign, inside, outside) in [(1.0, 63.0, 127.0), (-1.0, -63.0, -128.0), (1.0, 70.0, 127.0), (-1.0, -71.0, -128.0)] {
        let mut query = vec![sign * 0.49 / 32_639.0; dims];
        query[0] = 1.0;
        for leading in [8, dims] {
            let code: Vec<f64> = (0..dims).map(|j| if j < leading { inside } else { outside }).collect();
            let step = 1.0 / padded_query(&code).1;
            let quantizer = quantizer(leading, vec![0.0; dims], identity(dims), vec![step as f32; dims], 0.0);
            check(&quantizer, &code, &query);
        }
    }
}

#[test]
fn float32_rounding_is_in_the_bound() {
    // Rows at the centre have no residual, and products vanish by the step.
    let dims = 64;
    let centre = narrow(&Random::seeded(1).normals(dims).iter().map(|x| x / 8.2).collect::<Vec<_>>());
    let wide: Vec<f64> = centre.iter().map(|&x| f64::from(x)).collect();
    let length = padded_query(&wide).1;
    let centre: Vec<f32> = wide.iter().map(|x| (x / length) as f32).collect();
    let rows: Vec<f64> = centre.iter().map(|&x| f64::from(x)).collect();
    let quantizer = quantizer(dims, centre, identity(dims), vec![1e-12; dims], 0.0);
    let mut random = Random::seeded(2);
    let mut queries = random.normals(20 * dims);
    for _ in 0..60 {
        queries.extend(rows.iter().map(|x| x + 0.1 * random.normal()));
    }
    check(&quantizer, &rows, &queries);
}

#[test]
fn the_skew_of_axes_is_in_the_bound() {
    let dims = 32;
    for (by, seed) in [(0.9f32, 1), (0.99, 2), (0.9999, 3), (1.01, 4)] {
        let axes: Vec<f32> = rotated(dims, seed).iter().map(|x| x * by).collect();
        let skew = skew(&axes, dims);
        let quantizer = quantizer(dims, vec![0.0; dims], axes, vec![0.003; dims], skew);
        let rows = Random::seeded(seed).normals(8 * dims);
        check(&quantizer, &rows, &rows);
        check(&quantizer, &rows, &rows.iter().map(|x| -x).collect::<Vec<_>>());
    }
}

#[test]
fn full_bounds_hold_after_coarse_bounds_of_huge_residuals() {
    // Products with the leading residual are thousands; the full bound must not inherit their float32 rounding.
    let dims = 64;
    let mut random = Random::seeded(9);
    for huge in [3.0f32, 70.0, 1234.5, 3e7] {
        let steps: Vec<f32> = (0..dims).map(|j| if j % 8 == 0 { 1e-3 } else { huge }).collect();
        let quantizer = quantizer(dims, vec![0.0; dims], identity(dims), steps, 0.0);
        // Rows and queries lie along the axes of fine steps.
        let along = |random: &mut Random| -> Vec<f64> {
            let fine: Vec<f64> = (0..dims).map(|j| if j % 8 == 0 { (40.0 * random.normal()).round() } else { 0.0 }).collect();
            direction_along(&quantizer, &fine)
        };
        let rows: Vec<f64> = (0..10).flat_map(|_| along(&mut random)).collect();
        check(&quantizer, &rows, &rows);
    }
}

#[test]
fn vectors_whose_squares_underflow_get_no_bound() {
    // One of 64 nearly equal values has a square that does not underflow: the norm as computed is a fifth of the length, and
    // the cosine as computed far above 1.
    let dims = 64;
    let mut row = vec![1.57e-162; dims];
    row[0] = 1.6e-162;
    let norm = padded_query(&row).1;
    assert!(norm > 0.0 && norm < LEAST_NORM && norm < 0.2 * 8.0 * 1.57e-162);
    let axes: Vec<f32> = identity(dims).iter().map(|x| x * 0.98).collect();
    let skew = skew(&axes, dims);
    // The row is nearly a whole number of steps.
    let quantizer = quantizer(dims, vec![0.0; dims], axes, vec![0.98 * 0.7063 / 39.5; dims], skew);
    check(&quantizer, &row, &vec![1.0; dims]);
}

#[test]
fn keys_of_rows_far_shorter_or_longer_than_the_query_are_bounded() {
    // The key is then one square, whose rounding the bound must cover.
    let dims = 40;
    let quantizer = quantizer(dims, vec![0.0; dims], identity(dims), vec![0.004; dims], 0.0);
    let mut random = Random::seeded(6);
    for factor in [1e-18, 1e-12, 1e-9, 1e9, 1e18] {
        let queries = random.normals(40 * dims);
        let rows: Vec<f64> = random.normals(4 * dims).iter().map(|x| x * factor).collect();
        check(&quantizer, &rows, &queries);
        check(&quantizer, &rows.iter().map(|x| x * 1e15).collect::<Vec<_>>(), &queries.iter().map(|x| x * 1e15).collect::<Vec<_>>());
    }
}

#[test]
fn a_row_whose_bound_is_the_threshold_is_kept() {
    // Duplicates of the query: threshold, key and exact bound are one number.
    let dims = 32;
    for kernel in kernel::runnable() {
        for steps in [1e-12, 0.003, 0.5] {
            let quantizer = quantizer(dims, vec![0.0; dims], identity(dims), vec![steps; dims], 0.0);
            let rows = Random::seeded(5).normals(30 * dims);
            let coded = Coded::new(kernel, &quantizer, &rows);
            for (r, row) in rows.chunks_exact(dims).enumerate() {
                let (wide, norm) = padded_query(row);
                let coarse = coded.coarse_bounds(kernel, &QueryCode::new(kernel, &quantizer, &wide, norm))[r];
                assert!(f64::from(coarse) >= exact_cosine(row, row));
                for metric in METRICS {
                    let threshold = key(metric, &wide, row, (norm, coded.norms[r]));
                    // Strictly, so that scans may compare with > or >=.
                    assert!(coarse > cosine_threshold(metric, threshold, norm, (coded.norms[r], coded.norms[r])));
                    assert!(key_bound(metric, f64::from(coarse), norm, coded.norms[r]) > threshold);
                }
            }
        }
    }
}

#[test]
fn without_a_threshold_or_without_norms_nothing_is_dropped() {
    let kept = |least: f32| f32::NEG_INFINITY >= least || least.is_nan();
    for metric in METRICS {
        for norms in [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1e-160, 1e18)] {
            assert!(kept(cosine_threshold(metric, f64::NEG_INFINITY, 1.0, norms)), "{metric:?} {norms:?}");
            assert!(kept(cosine_threshold(metric, f64::NAN, 1.0, norms)), "{metric:?} {norms:?}");
        }
    }
    // A zero row has key 0 and no finite bound, a row orthogonal to the query has key 0 too.
    for (metric, norms) in [(Metric::Dot, (0.0, 0.0)), (Metric::Dot, (1.0, 2.0)), (Metric::Cosine, (0.0, 0.0))] {
        let least = cosine_threshold(metric, 0.0, 1.0, norms);
        assert!(least < 0.0 || least.is_nan());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]
    #[test]
    fn rows_below_the_cosine_threshold_are_below_the_threshold_of_keys(
        metric in 0usize..3,
        query in -60.0f64..60.0,
        row in -60.0f64..60.0,
        near in any::<bool>(),
        span in (0.0f64..8.0, 0.0f64..8.0),
        threshold in prop_oneof![-1.0f64..1.0, Just(0.0), Just(-0.0), Just(1.0), -1e-9f64..1e-9, Just(-1e300)],
        cosine in -1.1f32..1.1,
        steps in 0u32..6,
    ) {
        let (metric, query_norm) = (METRICS[metric], query.exp2());
        let norm = if near { query_norm * (1.0 + row * 1e-6) } else { row.exp2() };
        let norms = (if span.0 < 1.0 { 0.0 } else { norm / span.0 }, norm * span.1.max(1.0));
        // A threshold of the magnitude of keys.
        let threshold = match metric {
            Metric::Cosine | Metric::Hamming => threshold,
            Metric::Dot => threshold * query_norm * norm,
            Metric::Euclidean => -(threshold.abs()) * (query_norm - norm).powi(2).max(1e-12 * query_norm * norm),
        };
        let least = cosine_threshold(metric, threshold, query_norm, norms);
        // The largest bounds below the threshold, and any other.
        let mut below = least;
        (0..=steps).for_each(|_| below = below.next_down());
        for bound in [below, cosine] {
            if bound < least {
                let key = key_bound(metric, f64::from(bound), query_norm, norm);
                // Float64 rounding of the key bound, far below its slack.
                let rounding = 1e-15 * (query_norm * query_norm + norm * norm) * f64::from(bound.abs().max(1.0));
                prop_assert!(key < threshold + rounding, "{metric:?} {bound:e} < {least:e}, key {key:e}, threshold {threshold:e}");
            }
        }
    }
}
