//! What nearly all rows keep within, where bounds need not hold for each of them.
//!
//! Cauchy and Schwarz are met where what codes leave of a row, r, points where the query does. Where it has nothing to do
//! with the query, and is spread over some axes as their steps s say, <z,r> has the deviation |r| |z s| / |s|, z s being
//! the products of the two axis by axis; `EPSILON0` of it are likely to suffice. What is beyond the reach of a code
//! lies along one axis, at worst that of the largest |z_j|, and with both, by Cauchy and Schwarz,
//!
//! ```text
//! <z,r> ~ share |z||r|,      share^2 = (4 |z s| / (|z||s|))^2 + (max |z_j| / |z|)^2, at most 1    (6)
//! ```
//!
//! The low bytes of the query's words times the cells of a row are left out too, unless they are much beside what all
//! codes leave. Cells have a deviation of 1 / `STEP` steps, and are near z / s in rows like the query. Neither has to do
//! with the other, so their squares add up.
//!
//! All that has to do with the query in such a row. Its cosine being F, it lies sqrt(2 (1 - F)) from the query, and of
//! the square of that the lead is likely to have as large a part, p, as of the query's own z. From
//! <z,y> = (|z|^2 + |y|^2 - |z-y|^2) / 2 in the lead alone,
//!
//! ```text
//! bound ~ 1 - (1 - share) |z_tail|^2 - p (1 - F),      p = |z_lead|^2 / |z|^2                  (7)
//! ```
//!
//! with the tail's share, so a row whose bound is lower than F and than that is unlikely to reach F.

use super::Quantizer;
use super::axes::STEP;
use super::encode::sum;
use super::levels::FARTHEST;
use std::ops::Range;

/// Deviations of what has nothing to do with a query that rows are taken to keep within.
const EPSILON0: f64 = 4.0;
/// Low bytes are left out of a likely look if their deviation is not more than so many of those of what all codes leave:
/// on embeddings it is 1 to 3.
const MOST_LOW: f64 = 4.0;

/// What a query is likely to have in common with what codes leave of rows.
#[derive(Debug, Clone, Copy)]
pub struct ProbableBound {
    /// The shares of the lead, of the tail, and of both together.
    pub shares: [f32; 3],
    /// The deviation of low bytes times cells, and that of what all codes leave.
    low: f64,
    fine: f64,
    /// The bound of a row that is the query.
    itself: f64,
    /// The lead's part of squares, p.
    part: f64,
}

impl ProbableBound {
    /// For a query's coordinates, the squares of those of its lead and of its tail added up; `exact` are their products
    /// with the steps, and `low` the low bytes of the lead in words of a `step`.
    pub fn new(quantizer: &Quantizer, (z, squares): (&[f64], [f64; 2]), exact: &[f64], (low, step): (&[i8], f64)) -> Self {
        let (leading, steps) = (quantizer.leading, quantizer.steps());
        let of = |part: Range<usize>, squares: f64| {
            let peak = z[part.clone()].iter().fold(0.0f64, |peak, z| if z.abs() > peak { z.abs() } else { peak });
            let t_squares = sum(&exact[part.clone()], &exact[part.clone()], |t, _| t * t);
            [squares, t_squares, sum(&steps[part.clone()], &steps[part], |s, _| f64::from(s) * f64::from(s)), peak * peak]
        };
        let (of_leading, of_trailing) = (of(0..leading, squares[0]), of(leading..quantizer.dims, squares[1]));
        let [all, t, s] = [0, 1, 2].map(|i| of_leading[i] + of_trailing[i]);
        let shares = [of_leading, of_trailing, [all, t, s, of_leading[3].max(of_trailing[3])]].map(|[z, t, s, peak]| {
            let share = ((EPSILON0 * EPSILON0 * t / s + peak) / z).sqrt() as f32;
            // What is no number is no share.
            if share < 1.0 { share } else { 1.0 }
        });
        let levels = |(&z, &s): (&f64, &f32)| STEP.recip().powi(2) + (z / f64::from(s)).clamp(-FARTHEST, FARTHEST).powi(2);
        let levels: Vec<f64> = z[..leading].iter().zip(steps).map(levels).collect();
        ProbableBound {
            shares,
            low: step * sum(&levels, low, |levels, low| levels * f64::from(low) * f64::from(low)).sqrt(),
            // A rounding to whole steps errs by the root of a twelfth of one.
            fine: (t / 12.0).sqrt(),
            itself: 1.0 - (1.0 - f64::from(shares[1])) * of_trailing[0],
            part: if all > 0.0 { of_leading[0] / all } else { 1.0 },
        }
    }

    /// What leaving out the low bytes adds to bounds, if they are left out.
    pub fn without_low(&self) -> Option<f64> {
        let ProbableBound { low, fine, .. } = *self;
        (low <= MOST_LOW * fine).then(|| EPSILON0 * ((fine * fine + low * low).sqrt() - fine))
    }

    /// What the bound of a row reaches whose cosine reaches `least`.
    pub fn reaches(&self, least: f32) -> f32 {
        least.min((self.itself - self.part * (1.0 - f64::from(least))) as f32)
    }

    /// The highest cosine of a row with this bound.
    pub fn highest(&self, bound: f64) -> f64 {
        let near = 1.0 - (self.itself - bound) / self.part;
        // Where all of the query is in the tail, the lead does not tell.
        if near.is_nan() { f64::INFINITY } else { bound.max(near) }
    }
}
