//! Bounds that hold with high probability, narrower than those of [`bound`](super::bound), whose symbols these are.
//!
//! **Residuals.** Cauchy-Schwarz is an equality where the residual r is parallel to the query. If r is independent of the
//! query, and spread over the axes as their steps s are, <z,r> has standard deviation |r||z s| / |s|, z s being the products
//! axis by axis; rows stay within [`EPSILON0`] deviations, as in RaBitQ (Gao and Long, SIGMOD 2024) and ADSampling (Gao and
//! Long, SIGMOD 2023). A coordinate beyond the range of its code leaves a residual along one axis, max |z_j| at worst.
//! Cauchy-Schwarz over the two parts of r gives
//!
//! ```text
//! <z,r> <= f |z||r|,      f^2 = (EPSILON0 |z s| / (|z||s|))^2 + (max |z_j| / |z|)^2, at most 1          (9)
//! ```
//!
//! for the leading dims, the trailing dims, and all of them.
//!
//! **Low bytes** of T are dropped from the coarse bound where their sum with levels deviates by no more than
//! [`MAX_LOW_RATIO`] times the residual of all codes. Levels deviate by 1 / `STEP` steps, and are near z / s in rows like the
//! query. The two sums are independent, so their variances add.
//!
//! **Rows near the query** have residuals like its own. At cosine F, |z-y|^2 = 2 (1 - F), of which the leading dims hold the
//! fraction p = |z_1|^2 / |z|^2 with high probability. With <z_1,y_1> = (|z_1|^2 + |y_1|^2 - |z_1-y_1|^2) / 2 and the f of the
//! trailing dims,
//!
//! ```text
//! bound ~ 1 - (1 - f) |z_2|^2 - p (1 - F)                                                              (10)
//! ```
//!
//! so a row whose bound is below both F and (10) has a cosine below F with high probability.

use super::Quantizer;
use super::axes::STEP;
use super::encode::sum;
use super::levels::MAX_LEVEL;
use std::ops::Range;

/// Standard deviations that an independent residual stays within, by the name that RaBitQ and ADSampling give it.
const EPSILON0: f64 = 4.0;
/// Largest ratio of deviations at which low bytes are dropped; on embeddings it is 1 to 3.
const MAX_LOW_RATIO: f64 = 4.0;

/// A query as [`ProbableBound::new`] takes it.
#[derive(Debug, Clone, Copy)]
pub struct Coordinates<'a> {
    /// z, all dims.
    pub z: &'a [f64],
    /// t = z s, all dims.
    pub t: &'a [f64],
    /// |z_1|^2 and |z_2|^2.
    pub squares: [f64; 2],
    /// The low bytes of T, leading dims.
    pub low: &'a [i8],
    /// The step of T.
    pub step: f64,
}

/// The terms of (9) and (10) that depend on the query alone.
#[derive(Debug, Clone, Copy)]
pub struct ProbableBound {
    /// f of the leading dims, of the trailing dims, and of all: factors of |z||r|.
    pub factors: [f32; 3],
    /// Standard deviation of low bytes times levels.
    low_deviation: f64,
    /// Standard deviation of <z,r>, r being the residual of all codes.
    full_deviation: f64,
    /// The bound of a row equal to the query, (10) at F = 1.
    self_bound: f64,
    /// p.
    leading_fraction: f64,
}

impl ProbableBound {
    /// Measures a query.
    pub fn new(quantizer: &Quantizer, query: Coordinates) -> Self {
        let Coordinates { z, t, squares, low, step } = query;
        let (leading, steps) = (quantizer.leading, quantizer.steps());
        // |z|^2, |z s|^2, |s|^2 and max |z_j|^2.
        let terms = |part: Range<usize>, squares: f64| {
            let peak = z[part.clone()].iter().fold(0.0f64, |peak, z| if z.abs() > peak { z.abs() } else { peak });
            let t_squares = sum(&t[part.clone()], &t[part.clone()], |t, _| t * t);
            [squares, t_squares, sum(&steps[part.clone()], &steps[part], |s, _| f64::from(s) * f64::from(s)), peak * peak]
        };
        let (of_leading, of_trailing) = (terms(0..leading, squares[0]), terms(leading..quantizer.dims, squares[1]));
        let [zz, tt, ss] = [0, 1, 2].map(|i| of_leading[i] + of_trailing[i]);
        let factors = [of_leading, of_trailing, [zz, tt, ss, of_leading[3].max(of_trailing[3])]].map(|[zz, tt, ss, peak]| {
            let factor = ((EPSILON0 * EPSILON0 * tt / ss + peak) / zz).sqrt() as f32;
            // NaN becomes 1.
            if factor < 1.0 { factor } else { 1.0 }
        });
        let level_squares = |(&z, &s): (&f64, &f32)| STEP.recip().powi(2) + (z / f64::from(s)).clamp(-MAX_LEVEL, MAX_LEVEL).powi(2);
        let level_squares: Vec<f64> = z[..leading].iter().zip(steps).map(level_squares).collect();
        ProbableBound {
            factors,
            low_deviation: step * sum(&level_squares, low, |square, low| square * f64::from(low) * f64::from(low)).sqrt(),
            // Rounding to a multiple of s has variance s^2 / 12.
            full_deviation: (tt / 12.0).sqrt(),
            self_bound: 1.0 - (1.0 - f64::from(factors[1])) * of_trailing[0],
            leading_fraction: if zz > 0.0 { of_leading[0] / zz } else { 1.0 },
        }
    }

    /// What coarse bounds need on top where low bytes are dropped; none where they must be kept.
    pub fn low_byte_slack(&self) -> Option<f64> {
        let ProbableBound { low_deviation: low, full_deviation: full, .. } = *self;
        (low <= MAX_LOW_RATIO * full).then(|| EPSILON0 * ((full * full + low * low).sqrt() - full))
    }

    /// The least bound of a row whose cosine is `cosine` or more: (10).
    pub fn min_bound(&self, cosine: f32) -> f32 {
        cosine.min((self.self_bound - self.leading_fraction * (1.0 - f64::from(cosine))) as f32)
    }

    /// The largest cosine of a row with this bound: the inverse of [`ProbableBound::min_bound`].
    pub fn max_cosine(&self, bound: f64) -> f64 {
        let cosine = 1.0 - (self.self_bound - bound) / self.leading_fraction;
        // NaN is 0 / 0: the query is 0 in all leading dims, and coarse bounds exclude nothing.
        if cosine.is_nan() { f64::INFINITY } else { bound.max(cosine) }
    }
}
