//! Upper bounds of a row's score from its codes, and their proof.
//!
//! | symbol | meaning | in code |
//! |---|---|---|
//! | q, x, n | query, row, their dims, at most 4096 where rows have codes | [`Quantizer::dims`](super::Quantizer) |
//! | w = q/\|q\|, v = x/\|x\| | directions, in float64 | `direction` |
//! | m | centre, a mean of directions, used as stored in float32; \|m\| <= 1 + u | `Quantizer::centre` |
//! | w' = w - m, v' = v - m | centred directions, of length 2 at most | `centred` |
//! | h = <m,v> | offset of a row, stored in float32 | `Codes::offsets` |
//! | V | the axes, one a column, used as stored in float32 | `Quantizer::axes` |
//! | skew | bounds every eigenvalue of V'V - 1 in magnitude; below 1e-3 | `Quantizer::skew` |
//! | z = V'w', y = V'v' | coordinates of query and row | `z`, `coordinates` |
//! | d | bounds the error of z as computed, in norm: 0, or that of [`rotate`](super::rotate) | `RotatedQuery::error` |
//! | index 1, index 2 | the leading dims, L of them; the trailing dims | `Quantizer::leading` |
//! | s | step of the code, one a coordinate | `Quantizer::steps` |
//! | l | reconstruction level of a leading coordinate (4 bits), -63 to 63 | [`levels`](super::levels) |
//! | c | the whole code, -128 to 127; leading dims: l + refinement, -8 to 7 | `Codes::remainder` |
//! | r_1 = y_1 - s l, r = y - s c | residuals of the levels and of the whole code | `Codes::*_residuals` |
//! | t = z s = step T + e | T the nearest int16, \|e\| <= step / 2 | `exact`, `words`, [`int16`](super::int16) |
//! | E_1, E_2 | sums of \|e\| over leading and trailing dims | `leading_error`, `trailing_error` |
//! | u = 2^-24 | unit roundoff of float32 | [`UNIT`](super::UNIT) |
//!
//! **Centring.** As w = w' + m and v = v' + m,
//!
//! ```text
//! <w,v> = <w',v'> + <w',m> + h                                                                (1)
//! ```
//!
//! No rounding: h is that of the m stored, and float32 h errs by u, which the slack of (8) pays.
//!
//! **Axes.** <z,y> = <w', VV'v'>, and the eigenvalues of VV' - 1 are those of V'V - 1, as V is square:
//!
//! ```text
//! |<w',v'> - <z,y>| <= skew |w'||v'| <= 4 skew                                                (2)
//! ```
//!
//! as directions and m have length 1 at most; u more of m costs less than 1e-9. Vectors below
//! [`LEAST_NORM`], whose norm as computed may not be their length, get no bound.
//!
//! **Coarse bound**, from the levels of the leading dims. y_1 = s l + r_1, and by Cauchy-Schwarz
//!
//! ```text
//! <z,y> <= sum_1 t l + |z_1||r_1| + |z_2||y_2|                                                (3)
//! ```
//!
//! **Full bound**, from all codes. y = s c + r, and by Cauchy-Schwarz
//!
//! ```text
//! <z,y> <= sum t c + |z||r|                                                                   (4)
//! ```
//!
//! **Residual norms.** The encoder computes |r_1|, |y_2| and |r| from the decoded code, adds the float32 errors of y and of
//! the norms (`product_error`, `residual_norm`) and 1e-9 for float64, and rounds up to bfloat16
//! ([`bf16_up`](super::bf16_up)). So (3) and (4) hold with the norms stored.
//!
//! **Query quantisation.** As |l| <= 63, |c| <= 128, and |c| <= 63 + 8 in leading dims,
//!
//! ```text
//! sum_1 t l <= step sum_1 T l + 63 E_1
//! sum t c   <= step sum T c + 63 E_1 + 8 E_1 + 128 E_2                                        (5)
//! ```
//!
//! E_1 and E_2 are computed in float64 from T and step as used. T = 256 high + low, two signed bytes. Sums of unsigned
//! codes times bytes are exact in int32, as 255 * 128 * 65,536 < 2^31. Subtracting the sum of bytes times 64 (levels) or
//! 128 (codes), exact too, gives the sums of signed codes.
//!
//! **Error of z.** Bounds take z as computed, off by d in norm. As |y| <= 2 sqrt(1 + skew) < 2.01,
//!
//! ```text
//! <z,y> <= <z computed, y> + 2.01 d                                                           (6)
//! ```
//!
//! **Float32.** Kernels evaluate `(256 S_high + S_low) step + (h + base) + |z| norms` with a dozen roundings, S being the
//! sums of high and low bytes times levels (K = 63, N = L) or codes (K = 128, N = n). Let B = K sum |t|, and P the
//! norms' products. Every partial sum is at most B + K N step / 2 + |base| + |h| + P, the second term from |e|; the two
//! conversions of S err by u of |256 high| <= |T| + 128 and of |low| <= 128 each, which adds 256 K N step. In all
//!
//! ```text
//! error <= 12 u (B + |base| + 1 + P) + (6 + 256) u K N step
//!       <= 16 u (B + 16 K N step + |base| + 2 + P)                                            (7)
//! ```
//!
//! as 6 K N step <= 4 B: the largest |t| is 32,638 step or more, and N <= 4096. (A subnormal step makes all of this less
//! than 1e-30.) The factors |z| are raised by 16 u, which pays P; the slack pays the rest, 16 K being 1024 (rounded up) for
//! levels and 2048 for codes:
//!
//! ```text
//! base = b + slack,      b = <w',m> + 63 E_1
//! slack = 2e-6 + 4 skew + 2.01 d + 16 u (B + 1024 L step + |b| + 2)                           (8)
//! ```
//!
//! Of (7) 20 u + 3 u B are left over, more than the 12 u slack that `base` holds besides b; 2e-6 is far above u for h
//! and 1e-9 for (2) and for each term of float64. `base` is rounded up to float32.
//!
//! **Batches** evaluate (4) at once with 128 (E_1 + E_2) for all of (5), B = 128 sum |t|, and 2048 n step for 1024 L step.
//!
//! **From coarse to full.** [`QueryCode::full_bound`](super::query_code::QueryCode::full_bound) takes the float32 coarse
//! bound, subtracts its two products less the 16 u of them that roundings may have cost, and adds in float64
//! step (sum_1 T (c - l) + sum_2 T c), exact in int64, 8 E_1 + 128 E_2, and |z||r|. The slack of (8) is in it once; float64
//! needs 1e-9 of it.
//!
//! **Keys** as computed err by n 2^-53 of |q||x|, or of |q|^2 + |x|^2, which `KEY_SLACK` pays.

use super::LEAST_NORM;
use crate::kernel::ByNorm;
use crate::metric::Metric;

/// Bounds the float64 error of a key and of its bound, relative to |q||x| or |q|^2 + |x|^2: 65,536 * 2^-53 = 7.3e-12, with
/// the same for norms.
const KEY_SLACK: f64 = 1e-10;

/// An upper bound of the float64 key, from an upper bound of the cosine and both norms.
#[inline(always)]
pub fn key_bound(metric: Metric, cosine: f64, query_norm: f64, row_norm: f64) -> f64 {
    let lengths = query_norm * row_norm;
    match metric {
        Metric::Cosine => cosine + KEY_SLACK,
        Metric::Dot => lengths * (cosine + KEY_SLACK),
        Metric::Euclidean => {
            let squares = query_norm * query_norm + row_norm * row_norm;
            2.0 * lengths * cosine - squares * (1.0 - KEY_SLACK)
        }
        Metric::Hamming => 0.0,
    }
}

/// [`key_bound`] as a function of the cosine and the row's norm, up to roundings that `KEY_SLACK` pays.
pub fn key_terms(metric: Metric, query_norm: f64) -> ByNorm {
    let none = ByNorm::default();
    match metric {
        // Rows of bits have no codes.
        Metric::Hamming => none,
        Metric::Cosine => ByNorm { value: 1.0, constant: KEY_SLACK, ..none },
        Metric::Dot => ByNorm { product: query_norm, norm: query_norm * KEY_SLACK, ..none },
        Metric::Euclidean => {
            let keep = 1.0 - KEY_SLACK;
            ByNorm { product: 2.0 * query_norm, square: -keep, constant: -query_norm * query_norm * keep, ..none }
        }
    }
}

/// An upper bound of the key of every row whose norm is 0 as computed. Such a row need not be zero, but its squares
/// underflow: its length is below `LEAST_NORM`.
pub fn zero_norm_bound(metric: Metric, query_norm: f64) -> f64 {
    // Their cosine is 0 by definition; for the other metrics it may be up to 1.
    let cosine = if metric == Metric::Cosine { 0.0 } else { 1.0 };
    key_bound(metric, cosine, query_norm, LEAST_NORM)
}

/// A threshold of cosines: no row reaches the key `threshold` if its norm is from `norms.0` to `norms.1` and an upper
/// bound of its cosine is below this float32. -inf where nothing is excluded.
pub fn cosine_threshold(metric: Metric, threshold: f64, query_norm: f64, norms: (f64, f64)) -> f32 {
    let (low, high) = norms;
    let exact = match metric {
        Metric::Cosine => threshold - KEY_SLACK,
        // |q| x (cosine + slack) >= threshold needs the least cosine for the longest row; for the shortest if threshold < 0.
        Metric::Dot => threshold / (query_norm * if threshold > 0.0 { high } else { low }) - KEY_SLACK,
        Metric::Euclidean => {
            // 2 |q| x cosine >= threshold + (|q|^2 + x^2) keep needs the least cosine where c / x + x is least: at x = sqrt(c).
            let keep = 1.0 - KEY_SLACK;
            let c = threshold / keep + query_norm * query_norm;
            let x = c.max(0.0).sqrt().clamp(low, high.max(low));
            keep * (c / x + x) / (2.0 * query_norm)
        }
        Metric::Hamming => f64::NEG_INFINITY,
    };
    // 1e-12 pays float64 above, a step down the conversion, another one more than that. NaN excludes nothing.
    if exact.is_nan() { f32::NEG_INFINITY } else { ((exact - exact.abs() * 1e-12) as f32).next_down().next_down() }
}

/// An upper bound of the key of all rows whose cosine is `cosine` at most and whose norm is from `norms.0` to `norms.1`.
pub fn max_key(metric: Metric, cosine: f64, query_norm: f64, norms: (f64, f64)) -> f64 {
    let (low, high) = (norms.0.min(norms.1), norms.1);
    // 2 |q| x cosine - x^2 is largest at x = |q| cosine; the factor 1 - `KEY_SLACK` of x^2 adds 1e-20 |q|^2, within the slack.
    let inside = (query_norm * cosine).clamp(low, high);
    [low, high, inside].map(|x| key_bound(metric, cosine, query_norm, x)).into_iter().fold(f64::NEG_INFINITY, f64::max)
}
