//! Queries at which Cauchy-Schwarz is an equality: there a bound has nothing to spare but its
//! rounding, so a residual or a margin that is a little too small fails here.

use crate::bounds::{check, exact_cosine, hand_made};
use crate::quantizers::{self, Coded, asked, coordinates, direction_along};
use crate::tables::{Random, narrow, table};
use nseekfs::kernel::scalar;
use nseekfs::quantize::Quantizer;
use nseekfs::quantize::levels::{level_value, nearest_level};
use nseekfs::quantize::query_code::QueryCode;

const DIMS: usize = 48;

/// What codes leave of a row.
struct Left {
    /// Of the lead, after its cells; zeros for the tail.
    leading: Vec<f64>,
    /// The tail, of which the lines know nothing; zeros for the lead.
    trailing: Vec<f64>,
    /// After all codes.
    whole: Vec<f64>,
}

fn left(quantizer: &Quantizer, row: &[f64]) -> Left {
    let length = asked(row).1;
    let direction: Vec<f64> = row.iter().map(|x| x / length).collect();
    let y = coordinates(quantizer, &direction);
    let code = |j: usize| (y[j] / quantizers::steps(quantizer)[j]).round_ties_even().clamp(-128.0, 127.0) as f32;
    let centre = |j: usize| f64::from(level_value(nearest_level(code(j)).0));
    let all = |j: usize| if j < quantizer.leading { centre(j) + f64::from(nearest_level(code(j)).1) - 8.0 } else { f64::from(code(j)) };
    let after = |j: usize, decoded: f64| y[j] - quantizers::steps(quantizer)[j] * decoded;
    let keep = |inside: &dyn Fn(usize) -> bool, of: &dyn Fn(usize) -> f64| (0..DIMS).map(|j| if inside(j) { of(j) } else { 0.0 }).collect();
    Left {
        leading: keep(&|j| j < quantizer.leading, &|j| after(j, centre(j))),
        trailing: keep(&|j| j >= quantizer.leading, &|j| y[j]),
        whole: keep(&|_| true, &|j| after(j, all(j))),
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

/// What each look says of `row`.
struct Bounds {
    first: f64,
    second: f64,
    wide: f64,
}

/// The bounds of `row` for the query whose coordinates point along `along`, and the cosine.
fn bounds(quantizer: &Quantizer, row: &[f64], along: &[f64]) -> (Bounds, f64) {
    let query = direction_along(quantizer, along);
    let (wide, length) = asked(&query);
    let kernel = &scalar::KERNEL;
    let (coded, query_code) = (Coded::new(kernel, quantizer, row), QueryCode::new(kernel, quantizer, &wide, length));
    let first = coded.bounds(kernel, &query_code)[0];
    let wide = coded.wide_bounds(kernel, quantizer, &query_code)[0];
    let bounds = Bounds { first: f64::from(first), second: coded.second(&query_code, kernel, quantizer, 0, first), wide: f64::from(wide) };
    (bounds, exact_cosine(&query, row))
}

/// Coders with true axes, whose bounds are then as sharp as they can be.
fn sharp() -> Vec<Quantizer> {
    hand_made(DIMS).into_iter().take(3).collect()
}

/// Checks the queries that `along` makes of every row, and that the bounds are near the cosine, by
/// no more than a hundredth of `margin` beyond rounding, so that nothing smaller could hold.
fn attain(along: impl Fn(&Left) -> Vec<f64>, which: impl Fn(&Bounds) -> f64, margin: impl Fn(&Left) -> f64) {
    for quantizer in &sharp() {
        let mut seen = 0;
        for row in rows().chunks_exact(DIMS) {
            let left = left(quantizer, row);
            let along = along(&left);
            if norm(&along) < 1e-6 {
                continue;
            }
            seen += 1;
            check(quantizer, row, &direction_along(quantizer, &along));
            let (bounds, exact) = bounds(quantizer, row, &along);
            // The length of w' turns the margin of a unit vector into that of the query.
            let query = direction_along(quantizer, &along);
            let bare: Vec<f64> = query.iter().zip(quantizers::centre(quantizer)).map(|(w, m)| w - m).collect();
            let limit_refined = which(&bounds) - exact;
            assert!(limit_refined <= 0.01 * margin(&left) * norm(&bare) + 2e-4, "lead {}: {limit_refined}", quantizer.leading);
        }
        assert!(seen > 0 || quantizer.leading == DIMS, "nothing was tried with lead {}", quantizer.leading);
    }
}

#[test]
fn the_leading_margin_is_attained_and_held() {
    attain(|left| left.leading.clone(), |bounds| bounds.first, |left| norm(&left.leading));
}

#[test]
fn the_trailing_margin_is_attained_and_held() {
    attain(|left| left.trailing.clone(), |bounds| bounds.first, |left| norm(&left.trailing));
}

#[test]
fn both_margins_are_attained_and_held_together() {
    attain(|left| sum(&left.leading, &left.trailing, 1.0), |bounds| bounds.first, |left| norm(&left.leading) + norm(&left.trailing));
}

#[test]
fn the_margin_of_all_bits_is_attained_and_held() {
    attain(|left| left.whole.clone(), |bounds| bounds.second, |left| norm(&left.whole));
}

#[test]
fn the_margin_of_a_int8_batch_is_attained_and_held() {
    attain(|left| left.whole.clone(), |bounds| bounds.wide, |left| norm(&left.whole));
}

#[test]
fn bounds_hold_in_the_span_of_a_code_and_its_residual() {
    for quantizer in hand_made(DIMS) {
        for row in rows().chunks_exact(DIMS).take(6) {
            let left = left(&quantizer, row);
            let length = asked(row).1;
            let y = coordinates(&quantizer, &row.iter().map(|x| x / length).collect::<Vec<_>>());
            let mut queries = Vec::new();
            for residual in [&left.leading, &left.trailing, &left.whole] {
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
fn bounds_hold_for_float32_queries_beside_their_rows() {
    let rows = rows();
    let near: Vec<f64> = narrow(&rows).iter().map(|x| f64::from(x.next_up())).collect();
    let mut random = Random::seeded(3);
    let moved: Vec<f64> = rows.iter().map(|x| x * (1.0 + 1e-4 * random.normal())).collect();
    for quantizer in hand_made(DIMS) {
        check(&quantizer, &rows[..6 * DIMS], &[&near[..6 * DIMS], &moved[..6 * DIMS]].concat());
    }
}
