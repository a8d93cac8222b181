//! What codes prove about a score, and why.
//!
//! Let v = x/|x| and w = q/|q| in float64, m the centre, v' = v - m, w' = w - m, and V the axes as
//! stored, in float32. Then
//!
//! ```text
//! <w,v> = <w',v'> + <w',m> + h,      h = <m,v>                                                (1)
//! ```
//!
//! With y = V'v' and z = V'w', exact, <z,y> = <w', VV' v'> and VV' - 1 has no eigenvalue beyond
//! `skew` (its eigenvalues are those of V'V - 1), so
//!
//! ```text
//! |<w',v'> - <z,y>| <= skew |w'||v'| <= 4 skew                                                (2)
//! ```
//!
//! because directions and their mean have length 1 at most (vectors below
//! [`LEAST_NORM`](super::LEAST_NORM), whose norm may not be their length, are never bounded). The lines hold, for j < lead, cells m
//! (numbers from -63 to 63, see [`RECONSTRUCTION`](crate::kernel::CELLS)) with y = s m + r, the rest of the coordinates is
//! nothing to them. By Cauchy-Schwarz
//!
//! ```text
//! <z,y> <= sum_{j<lead} z s m + |z_lead||r_lead| + |z_tail||y_tail|                           (3)
//! ```
//!
//! and with the rest of the codes, y = s c + r over all j, <z,y> <= sum z s c + |z||r|. The norms of
//! r are measured from the decoded code, in float64, and rounded up ([`up16`](super::up16)), with
//! 1e-9 for what float64 lost in y and in them.
//!
//! Query quantisation: t = z s is held as step * T + e, T a whole number of 16 bits; what e does to (3)
//! is at most E = 63 sum |e| over the lead, added on. T = 256 high + low, two signed bytes, the two sums
//! being exact in int32 (dims <= 65,536: 127 * 128 * 65,536 < 2^31); what makes cells unsigned is taken
//! off in int32.
//!
//! Rounding, u = 2^-24: the kernel computes in float32, with a dozen roundings of partial sums that are
//! at most B + |base| + |offset| + the two products, B = 63 sum |t|; the products' factors are raised by
//! 16 u, the others are paid by 16 u (B + |base| + 2). The sum of a plane may need more than the 24 bits
//! of float32: the conversion of either errs by u of itself, and as |256 high| <= |T| + 128, the two add
//! up to at most B + 2 * 63 * 128 lead step, whose second part is paid by 16 u * 1024 lead step. h in
//! float32 errs by u, the float64 key by d * 2^-53 <= 7.3e-12 of |q||x|, all terms from float64 by less
//! than 1e-9. So
//!
//! ```text
//! slack = 2e-6 + 4 skew + 16 u (B + 1024 lead step + |base| + 2)
//! ```
//!
//! covers everything that is not in a residual or in E, 2e-6 being far above 1e-9 + 1e-11 + 2 u.
//!
//! A second look starts from the first one's float32 value, takes back its two products, but for the 16 u of
//! them that their own roundings may have cost, and adds its own terms in float64; the slack in it
//! is paid once, and suffices. Its products of T with codes, c = m + low in the lead, -8 <= low <= 7, are
//! summed exactly; what e does to those, beside codes of -128 to 127 in the tail, is at most 8 sum |e| and
//! 128 sum |e|.
//!
//! Coordinates of the query by whole numbers are off by some d, |d| <= `error`, see [`rotate`](super::turn): <z,y> is at most
//! 2.01 |d| above what the computed ones say, as |y| <= 2 (1 + skew). That is added to the slack.
//!
//! Batches join all codes and bound with y = s c + r over all j,
//!
//! ```text
//! <z,y> <= sum z s c + |z||r|                                                                 (4)
//! ```
//!
//! the query held as before, so that what e does is at most 128 sum |e|, and with B' = 128 sum |z s| and
//! codes of magnitude 128 at most in place of cells, slack' = 2e-6 + 4 skew + 16 u (B' + 2048 dims step +
//! |base| + 2).

use super::LEAST_NORM;
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
        // |q| x (cosine + slack) >= threshold asks least of the longest row, of the shortest if the threshold is negative.
        Metric::Dot => threshold / (query_norm * if threshold > 0.0 { high } else { low }) - KEY_SLACK,
        Metric::Euclidean => {
            // 2 |q| x cosine >= threshold + (|q|^2 + x^2) keep asks least where c / x + x is least: at x = sqrt(c).
            let keep = 1.0 - KEY_SLACK;
            let c = threshold / keep + query_norm * query_norm;
            let x = c.max(0.0).sqrt().clamp(low, high.max(low));
            keep * (c / x + x) / (2.0 * query_norm)
        }
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
