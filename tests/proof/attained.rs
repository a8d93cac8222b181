//! Queries at which Cauchy-Schwarz is an equality: there a bound has nothing to spare but its
//! rounding, so a residual or a margin that is a little too small fails here.

use crate::bounds::{check, exact_cosine, hand_made};
use crate::coders::{self, Coded, asked, coordinates, direction_along};
use crate::tables::{Random, narrow, table};
use nseekfs::code::Coder;
use nseekfs::code::cells::{cell, cell_centre};
use nseekfs::code::margin::Look;
use nseekfs::kernel::scalar;

const DIMS: usize = 48;

/// What codes leave of a row.
struct Left {
    /// Of the lead, after its cells; zeros for the tail.
    lead: Vec<f64>,
    /// The tail, of which the lines know nothing; zeros for the lead.
    tail: Vec<f64>,
    /// After all codes.
    whole: Vec<f64>,
}

fn left(coder: &Coder, row: &[f64]) -> Left {
    let length = asked(row).1;
    let direction: Vec<f64> = row.iter().map(|x| x / length).collect();
    let y = coordinates(coder, &direction);
    let code = |j: usize| (y[j] / coders::steps(coder)[j]).round_ties_even().clamp(-128.0, 127.0) as f32;
    let centre = |j: usize| f64::from(cell_centre(cell(code(j)).0));
    let all = |j: usize| if j < coder.lead { centre(j) + f64::from(cell(code(j)).1) - 8.0 } else { f64::from(code(j)) };
    let after = |j: usize, decoded: f64| y[j] - coders::steps(coder)[j] * decoded;
    let keep = |inside: &dyn Fn(usize) -> bool, of: &dyn Fn(usize) -> f64| (0..DIMS).map(|j| if inside(j) { of(j) } else { 0.0 }).collect();
    Left {
        lead: keep(&|j| j < coder.lead, &|j| after(j, centre(j))),
        tail: keep(&|j| j >= coder.lead, &|j| y[j]),
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
fn bounds(coder: &Coder, row: &[f64], along: &[f64]) -> (Bounds, f64) {
    let query = direction_along(coder, along);
    let (wide, length) = asked(&query);
    let kernel = &scalar::KERNEL;
    let (coded, look) = (Coded::new(kernel, coder, row), Look::new(kernel, coder, &wide, length));
    let first = coded.bounds(kernel, &look)[0];
    let wide = coded.wide_bounds(kernel, coder, &look)[0];
    let bounds = Bounds { first: f64::from(first), second: coded.second(&look, kernel, coder, 0, first), wide: f64::from(wide) };
    (bounds, exact_cosine(&query, row))
}

/// Coders with true axes, whose bounds are then as sharp as they can be.
fn sharp() -> Vec<Coder> {
    hand_made(DIMS).into_iter().take(3).collect()
}

/// Checks the queries that `along` makes of every row, and that the bounds are near the cosine, by
/// no more than a hundredth of `margin` beyond rounding, so that nothing smaller could hold.
fn attain(along: impl Fn(&Left) -> Vec<f64>, which: impl Fn(&Bounds) -> f64, margin: impl Fn(&Left) -> f64) {
    for coder in &sharp() {
        let mut seen = 0;
        for row in rows().chunks_exact(DIMS) {
            let left = left(coder, row);
            let along = along(&left);
            if norm(&along) < 1e-6 {
                continue;
            }
            seen += 1;
            check(coder, row, &direction_along(coder, &along));
            let (bounds, exact) = bounds(coder, row, &along);
            // The length of w' turns the margin of a unit vector into that of the query.
            let query = direction_along(coder, &along);
            let bare: Vec<f64> = query.iter().zip(coders::centre(coder)).map(|(w, m)| w - m).collect();
            let spare = which(&bounds) - exact;
            assert!(spare <= 0.01 * margin(&left) * norm(&bare) + 2e-4, "lead {}: {spare}", coder.lead);
        }
        assert!(seen > 0 || coder.lead == DIMS, "nothing was tried with lead {}", coder.lead);
    }
}

#[test]
fn the_lead_margin_is_attained_and_held() {
    attain(|left| left.lead.clone(), |bounds| bounds.first, |left| norm(&left.lead));
}

#[test]
fn the_tail_margin_is_attained_and_held() {
    attain(|left| left.tail.clone(), |bounds| bounds.first, |left| norm(&left.tail));
}

#[test]
fn both_margins_are_attained_and_held_together() {
    attain(|left| sum(&left.lead, &left.tail, 1.0), |bounds| bounds.first, |left| norm(&left.lead) + norm(&left.tail));
}

#[test]
fn the_margin_of_all_bits_is_attained_and_held() {
    attain(|left| left.whole.clone(), |bounds| bounds.second, |left| norm(&left.whole));
}

#[test]
fn the_margin_of_a_sieve_is_attained_and_held() {
    attain(|left| left.whole.clone(), |bounds| bounds.wide, |left| norm(&left.whole));
}

#[test]
fn bounds_hold_in_the_span_of_a_code_and_its_residual() {
    for coder in hand_made(DIMS) {
        for row in rows().chunks_exact(DIMS).take(6) {
            let left = left(&coder, row);
            let length = asked(row).1;
            let y = coordinates(&coder, &row.iter().map(|x| x / length).collect::<Vec<_>>());
            let mut queries = Vec::new();
            for residual in [&left.lead, &left.tail, &left.whole] {
                let code = sum(&y, residual, -1.0);
                for factor in [-20.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 20.0] {
                    queries.extend(direction_along(&coder, &sum(&code, residual, factor)));
                }
                queries.extend(direction_along(&coder, &sum(residual, &code, 0.0)));
                queries.extend(direction_along(&coder, &sum(&vec![0.0; DIMS], residual, -1.0)));
            }
            queries.retain(|x| x.is_finite());
            queries.truncate(queries.len() / DIMS * DIMS);
            check(&coder, row, &queries);
        }
    }
}

#[test]
fn bounds_hold_for_float32_queries_beside_their_rows() {
    let rows = rows();
    let near: Vec<f64> = narrow(&rows).iter().map(|x| f64::from(x.next_up())).collect();
    let mut random = Random::seeded(3);
    let moved: Vec<f64> = rows.iter().map(|x| x * (1.0 + 1e-4 * random.normal())).collect();
    for coder in hand_made(DIMS) {
        check(&coder, &rows[..6 * DIMS], &[&near[..6 * DIMS], &moved[..6 * DIMS]].concat());
    }
}
