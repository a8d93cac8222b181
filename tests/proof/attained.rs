//! Queries parallel to a residual, where Cauchy-Schwarz is an equality: a bound then exceeds the cosine by its slack alone,
//! so a residual norm or a factor that is a little too small fails here.

use crate::bounds::{check, exact_cosine, hand_made};
use crate::quantizers::{self, Coded, coordinates, direction_along, padded_query};
use crate::tables::{Random, narrow, table};
use nseekfs::kernel::scalar;
use nseekfs::quantize::Quantizer;
use nseekfs::quantize::levels::{level_value, nearest_level};
use nseekfs::quantize::query_code::QueryCode;

const DIMS: usize = 48;

/// The residuals of a row, `DIMS` coordinates each.
struct Residuals {
    /// Of levels: 0 in trailing dims.
    leading: Vec<f64>,
    /// The trailing coordinates: 0 in leading dims.
    trailing: Vec<f64>,
    /// Of all codes.
    full: Vec<f64>,
}

fn residuals(quantizer: &Quantizer, row: &[f64]) -> Residuals {
    let length = padded_query(row).1;
    let direction: Vec<f64> = row.iter().map(|x| x / length).collect();
    let y = coordinates(quantizer, &direction);
    let code = |j: usize| (y[j] / quantizers::steps(quantizer)[j]).round_ties_even().clamp(-128.0, 127.0) as f32;
    let level = |j: usize| f64::from(level_value(nearest_level(code(j)).0));
    let whole = |j: usize| if j < quantizer.leading { level(j) + f64::from(nearest_level(code(j)).1) - 8.0 } else { f64::from(code(j)) };
    let residual = |j: usize, decoded: f64| y[j] - quantizers::steps(quantizer)[j] * decoded;
    Residuals {
        leading: (0..DIMS).map(|j| if j < quantizer.leading { residual(j, level(j)) } else { 0.0 }).collect(),
        trailing: (0..DIMS).map(|j| if j < quantizer.leading { 0.0 } else { y[j] }).collect(),
        full: (0..DIMS).map(|j| residual(j, whole(j))).collect(),
    }
}

fn rows() -> Vec<f64> {
    let rows = table("common direction", 24, DIMS);
    rows.iter().map(|&x| f64::from(x)).collect()
}

fn sum(a: &[f64], b: &[f64], factor: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The bounds of one row.
struct Bounds {
    coarse: f64,
    full: f64,
    batch: f64,
}

/// The bounds of `row` for the query whose coordinates are parallel to `along`, and the exact cosine.
fn bounds(quantizer: &Quantizer, row: &[f64], along: &[f64]) -> (Bounds, f64) {
    let query = direction_along(quantizer, along);
    let (wide, length) = padded_query(&query);
    let kernel = &scalar::KERNEL;
    let (coded, query_code) = (Coded::new(kernel, quantizer, row), QueryCode::new(kernel, quantizer, &wide, length));
    let coarse = coded.coarse_bounds(kernel, &query_code)[0];
    let batch = f64::from(coded.batch_bounds(kernel, quantizer, &query_code)[0]);
    let full = coded.full_bound(&query_code, kernel, quantizer, 0, coarse);
    (Bounds { coarse: f64::from(coarse), full, batch }, exact_cosine(&query, row))
}

/// Quantizers with orthonormal axes, whose bounds are attained.
fn sharp() -> Vec<Quantizer> {
    hand_made(DIMS).into_iter().take(3).collect()
}

/// Checks, for every row, the query parallel to `along`, and that its bound exceeds the cosine by at most a hundredth of
/// `residual_norm` beyond the slack: no smaller factor could hold.
fn attain(along: impl Fn(&Residuals) -> Vec<f64>, which: impl Fn(&Bounds) -> f64, residual_norm: impl Fn(&Residuals) -> f64) {
    for quantizer in &sharp() {
        let mut checked = 0;
        for row in rows().chunks_exact(DIMS) {
            let residuals = residuals(quantizer, row);
            let along = along(&residuals);
            if norm(&along) < 1e-6 {
                continue;
            }
            checked += 1;
            check(quantizer, row, &direction_along(quantizer, &along));
            let (bounds, exact) = bounds(quantizer, row, &along);
            // The bound has |w'| for |z|, the axes being orthonormal.
            let query = direction_along(quantizer, &along);
            let centred: Vec<f64> = query.iter().zip(quantizers::centre(quantizer)).map(|(w, m)| w - m).collect();
            let excess = which(&bounds) - exact;
            assert!(excess <= 0.01 * residual_norm(&residuals) * norm(&centred) + 2e-4, "leading {}: {excess}", quantizer.leading);
        }
        assert!(checked > 0 || quantizer.leading == DIMS, "nothing was checked with leading {}", quantizer.leading);
    }
}

#[test]
fn the_leading_residual_is_attained_and_bounded() {
    attain(|r| r.leading.clone(), |bounds| bounds.coarse, |r| norm(&r.leading));
}

#[test]
fn the_trailing_residual_is_attained_and_bounded() {
    attain(|r| r.trailing.clone(), |bounds| bounds.coarse, |r| norm(&r.trailing));
}

#[test]
fn both_residuals_of_coarse_bounds_are_attained_and_bounded() {
    attain(|r| sum(&r.leading, &r.trailing, 1.0), |bounds| bounds.coarse, |r| norm(&r.leading) + norm(&r.trailing));
}

#[test]
fn the_residual_of_full_bounds_is_attained_and_bounded() {
    attain(|r| r.full.clone(), |bounds| bounds.full, |r| norm(&r.full));
}

#[test]
fn the_residual_of_batch_bounds_is_attained_and_bounded() {
    attain(|r| r.full.clone(), |bounds| bounds.batch, |r| norm(&r.full));
}

#[test]
fn bounds_hold_in_the_span_of_a_code_and_its_residual() {
    for quantizer in hand_made(DIMS) {
        for row in rows().chunks_exact(DIMS).take(6) {
            let r = residuals(&quantizer, row);
            let length = padded_query(row).1;
            let y = coordinates(&quantizer, &row.iter().map(|x| x / length).collect::<Vec<_>>());
            let mut queries = Vec::new();
            for residual in [&r.leading, &r.trailing, &r.full] {
                let code = sum(&y, residual, -1.0);
                for factor in [-20.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 20.0] {
                    queries.extend(direction_along(&quantizer, &sum(&code, residual, factor)));
                }
                queries.extend(direction_along(&quantizer, &sum(residual, &code, 0.0)));
                queries.extend(direction_along(&quantizer, &sum(&vec![0.0; DIMS], residual, -1.0)));
            }
            queries.retain(|x| x.is_finite());
            queries.truncate(queries.len() / DIMS * DIMS);
            check(&quantizer, row, &queries);
        }
    }
}

#[test]
fn bounds_hold_for_queries_near_their_rows() {
    let rows = rows();
    let near: Vec<f64> = narrow(&rows).iter().map(|x| f64::from(x.next_up())).collect();
    let mut random = Random::seeded(3);
    let moved: Vec<f64> = rows.iter().map(|x| x * (1.0 + 1e-4 * random.normal())).collect();
    for quantizer in hand_made(DIMS) {
        check(&quantizer, &rows[..6 * DIMS], &[&near[..6 * DIMS], &moved[..6 * DIMS]].concat());
    }
}
