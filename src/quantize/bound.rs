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

use super::encode::{self, sum};
use super::probable_bound::ProbableBound;
use super::rotate::{RotatedQuery, Rotation};
use super::{LEAST_NORM, Quantizer, UNIT, from16};
use crate::kernel::{BoundFactors, CoarseQuery, Kernel, LEVEL_ZERO, OFFSET_ZERO, RECONSTRUCTION};
use crate::metric::Metric;
use std::ops::Range;

/// Largest |T| whose high byte fits, 127 * 256 + 127.
const LARGEST: f64 = 32_639.0;
/// The cell farthest from 0; the other end is as far.
pub(super) const FARTHEST: f64 = (RECONSTRUCTION[15] - LEVEL_ZERO) as f64;
/// A larger factor of a residual bounds as well, and CPUs stumble over subnormal ones.
const LEAST_FACTOR: f32 = 1e-20;
/// Above every float64 error of a key, as a share of |q||x| or |q|^2 + |x|^2: 65,536 * 2^-53 and more.
const KEY_SLACK: f64 = 1e-10;

/// High and low byte of a word, both signed: `word = 256 * high + low`.
pub fn bytes(word: i16) -> (i8, i8) {
    let high = (i32::from(word) + 128) >> 8;
    (high as i8, (i32::from(word) - 256 * high) as i8)
}

/// One byte of each word.
fn plane(words: &[i16], part: impl Fn(i16) -> i8) -> Vec<i8> {
    words.iter().map(|&word| part(word)).collect()
}

/// Numbers in whole steps of 16 bits: `exact = step * word + e`, and the step.
pub fn whole_words(exact: &[f64]) -> (Vec<i16>, f32) {
    let (eights, left) = exact.as_chunks::<8>();
    let mut most = [0.0f64; 8];
    for eight in eights {
        most.iter_mut().zip(eight).for_each(|(most, t)| *most = if t.abs() > *most { t.abs() } else { *most });
    }
    let largest = most.iter().chain(left).fold(0.0f64, |most, t| most.max(t.abs()));
    let step = ((largest / LARGEST) as f32).next_up();
    let inverse = 1.0 / f64::from(step);
    (exact.iter().map(|t| word((t * inverse).clamp(-LARGEST, LARGEST))).collect(), step)
}

/// The nearest whole number, ties to even, of one within the range of words.
#[inline(always)]
pub(super) fn word(x: f64) -> i16 {
    // The sum keeps no bits for a fraction and ends in the whole number's own bits; `round_ties_even` would be
    // a call on old CPUs, and a cast would look for numbers beyond all.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT).to_bits() as i16
}

/// The sum of all |e| of [`whole_words`].
pub fn lost(exact: &[f64], words: &[i16], step: f32) -> f64 {
    sum(exact, words, |t, word| (t - f64::from(step) * f64::from(word)).abs())
}

/// A query as codes see it.
#[derive(Debug, Clone)]
pub struct QueryCode {
    high: Vec<i8>,
    low: Vec<i8>,
    high_sum: i32,
    low_sum: i32,
    base: f32,
    leading: f32,
    trailing: f32,
    all_base: f32,
    all: f32,
    all_sums: [i32; 2],
    words: Vec<i16>,
    word_step: f32,
    fine_sum: i64,
    fine_lost: f64,
    whole: f64,
    centre_part: f64,
    probable: ProbableBound,
    /// Whether bounds are only likely to hold.
    probable_only: bool,
}

impl QueryCode {
    /// Prepares the query `wide`, padded as kernels want it, whose norm is `LEAST_NORM` or more.
    pub fn new(kernel: &Kernel, quantizer: &Quantizer, wide: &[f64], norm: f64) -> Self {
        Self::several(kernel, quantizer, &[(wide, norm)]).swap_remove(0)
    }

    /// Prepares several queries, each given as [`QueryCode::new`] wants it.
    pub fn several<'a>(kernel: &Kernel, quantizer: &Quantizer, queries: &[(&'a [f64], f64)]) -> Vec<Self> {
        let direction = |&(wide, norm): &(&'a [f64], f64)| -> Vec<f64> { wide[..quantizer.dims].iter().map(|q| q / norm).collect() };
        let seen = encode::project_all(kernel, quantizer, queries.iter().map(direction));
        queries.iter().zip(seen).map(|(query, z)| Self::of(quantizer, &direction(query), &z, 0.0)).collect()
    }

    /// The same by whole numbers: sooner, and with wider bounds.
    pub fn rotated<'a>(kernel: &Kernel, quantizer: &Quantizer, rotation: &Rotation, queries: &[(&'a [f64], f64)]) -> Vec<Self> {
        let direction = |&(wide, norm): &(&'a [f64], f64)| -> Vec<f64> { wide[..quantizer.dims].iter().map(|q| q / norm).collect() };
        let directions: Vec<Vec<f64>> = queries.iter().map(direction).collect();
        let rotated = rotation.rotate(kernel, quantizer, &directions);
        directions
            .iter()
            .zip(rotated)
            .map(|(direction, RotatedQuery { coordinates, error })| Self::of(quantizer, direction, &coordinates, error))
            .collect()
    }

    /// Of a direction and its coordinates, all of which together are off by `error` at most.
    fn of(quantizer: &Quantizer, direction: &[f64], z: &[f64], error: f64) -> Self {
        let centre_part = sum(direction, quantizer.centre(), |w, m| (w - f64::from(m)) * f64::from(m));
        let exact: Vec<f64> = z.iter().zip(quantizer.steps()).map(|(z, &s)| z * f64::from(s)).collect();
        let (words, word_step) = whole_words(&exact);
        let step = f64::from(word_step);
        let (leading, trailing) = (0..quantizer.leading, quantizer.leading..quantizer.dims);
        let lost = |part: Range<usize>| lost(&exact[part.clone()], &words[part], word_step);
        let (leading_lost, trailing_lost) = (lost(leading.clone()), lost(trailing.clone()));
        let known = centre_part + FARTHEST * leading_lost;
        let magnitude = sum(&exact, &exact, |t, _| t.abs());
        let slack = |reach: f64, converted: f64, known: f64| {
            let reach = reach * magnitude;
            2e-6 + 4.0 * quantizer.skew + 2.01 * error + 16.0 * UNIT * (reach + converted * step + known.abs() + 2.0)
        };
        let base = known + slack(FARTHEST, 1024.0 * quantizer.leading as f64, known);
        let all_known = centre_part + 128.0 * (leading_lost + trailing_lost);
        let all_base = all_known + slack(128.0, 2048.0 * quantizer.dims as f64, all_known);
        let squares = |part: Range<usize>| sum(&z[part.clone()], &z[part], |z, _| z * z);
        let (leading_squares, trailing_squares) = (squares(leading.clone()), squares(trailing));
        let length = |squares: f64| squares.sqrt() * (1.0 + 16.0 * UNIT);
        let factor = |length: f64| (length as f32).next_up().max(LEAST_FACTOR);
        let (mut high, mut low) = (plane(&words, |word| bytes(word).0), plane(&words, |word| bytes(word).1));
        let total = |plane: &[i8]| plane.iter().map(|&byte| i32::from(byte)).sum::<i32>();
        let all_sums = [128 * total(&high), 128 * total(&low)];
        high.truncate(quantizer.leading);
        low.truncate(quantizer.leading);
        let probable = ProbableBound::new(quantizer, (z, [leading_squares, trailing_squares]), &exact, (&low, step));
        QueryCode {
            high_sum: i32::from(LEVEL_ZERO) * total(&high),
            low_sum: i32::from(LEVEL_ZERO) * total(&low),
            high,
            low,
            base: (base as f32).next_up(),
            leading: factor(length(leading_squares)),
            trailing: factor(length(trailing_squares)),
            all_base: (all_base as f32).next_up(),
            all: factor(length(leading_squares + trailing_squares)),
            all_sums,
            fine_sum: i64::from(OFFSET_ZERO) * words[leading].iter().map(|&word| i64::from(word)).sum::<i64>(),
            fine_lost: f64::from(OFFSET_ZERO) * leading_lost + 128.0 * trailing_lost,
            whole: length(leading_squares + trailing_squares),
            centre_part,
            probable,
            probable_only: false,
            words,
            word_step,
        }
    }

    /// The same query with bounds that prove nothing, and yet hold for nearly all rows; most often in eight bits for the
    /// first look.
    pub fn probable(&self) -> Self {
        let [leading, trailing, whole] = self.probable.shares;
        let (leading, trailing) = ((self.leading * leading).max(LEAST_FACTOR), (self.trailing * trailing).max(LEAST_FACTOR));
        let shared = QueryCode { leading, trailing, whole: self.whole * f64::from(whole), probable_only: true, ..self.clone() };
        match self.probable.without_low() {
            Some(more) => QueryCode { low: Vec::new(), low_sum: 0, base: self.base + more as f32, ..shared },
            None => shared,
        }
    }

    /// What the bound of a row reaches whose cosine reaches `least`; where bounds are likely, nearly always.
    pub fn reaches(&self, least: f32) -> f32 {
        if self.probable_only { self.probable.reaches(least) } else { least }
    }

    /// The highest cosine of a row with this bound: the bound, or, where bounds are likely, what it nearly always is.
    pub fn highest(&self, bound: f32) -> f64 {
        if self.probable_only { self.probable.highest(f64::from(bound)) } else { f64::from(bound) }
    }

    /// Its coordinates times steps in whole numbers of 16 bits, as a sieve wants them.
    pub fn words(&self) -> &[i16] {
        &self.words
    }

    /// What a sieve needs besides them, to keep rows whose bound of the cosine, from all of their codes,
    /// reaches `threshold`.
    pub fn factors(&self, threshold: f32) -> BoundFactors {
        let [high_sum, low_sum] = self.all_sums;
        BoundFactors { high_sum, low_sum, step: self.word_step, base: self.all_base, residual: self.all, threshold }
    }

    /// What the kernel needs of it.
    pub fn probe(&self) -> CoarseQuery<'_> {
        CoarseQuery {
            high: &self.high,
            low: &self.low,
            high_sum: self.high_sum,
            low_sum: self.low_sum,
            step: self.word_step,
            base: self.base,
            leading: self.leading,
            trailing: self.trailing,
        }
    }

    /// What makes the kernel estimate cosines, by cells and high bytes alone, in place of bounding them.
    pub fn estimate(&self) -> CoarseQuery<'_> {
        let base = self.centre_part as f32;
        CoarseQuery {
            high: &self.high,
            low: &[],
            high_sum: self.high_sum,
            low_sum: 0,
            step: self.word_step,
            base,
            leading: 0.0,
            trailing: 0.0,
        }
    }

    /// A second look at one row: an upper bound of its cosine from all of its codes, `first` being
    /// the bound that its line gave, and `residuals` those of its lead, its tail and all of it.
    pub fn full_bound(&self, kernel: &Kernel, quantizer: &Quantizer, remainder: &[u8], residuals: [u16; 3], first: f32) -> f64 {
        let sum = (kernel.remainder_dot)(&self.words, quantizer.leading / 2, remainder);
        let [leading, trailing, left] = residuals.map(|residual| f64::from(from16(residual)));
        let (leading, trailing) = (f64::from(self.leading) * leading, f64::from(self.trailing) * trailing);
        let more = self.fine_lost + f64::from(self.word_step) * (sum - self.fine_sum) as f64;
        let known = f64::from(first) - (leading + trailing) * (1.0 - 16.0 * UNIT) + more;
        known + self.whole * left
    }
}

/// An upper bound of the key, as computed, from an upper bound of the cosine.
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

/// An upper bound of the key of every row whose norm is 0 as computed: such rows need not be zero, but
/// all squares of their values vanish, so that they are shorter than `LEAST_NORM`.
pub fn vanishing_bound(metric: Metric, query_norm: f64) -> f64 {
    // Their cosine is 0 by definition; for other metrics it is unknown.
    let cosine = if metric == Metric::Cosine { 0.0 } else { 1.0 };
    key_bound(metric, cosine, query_norm, LEAST_NORM)
}

/// A float32 such that a row whose bound of the cosine is below it cannot reach the key `threshold`,
/// its norm being from `lengths.0` to `lengths.1`.
pub fn cosine_threshold(metric: Metric, threshold: f64, query_norm: f64, lengths: (f64, f64)) -> f32 {
    let (low, high) = lengths;
    let exact = match metric {
        Metric::Cosine => threshold - KEY_SLACK,
        // |q| n (c + slack) >= floor is easiest for the longest row, for a negative floor the shortest.
        Metric::Dot => threshold / (query_norm * if threshold > 0.0 { high } else { low }) - KEY_SLACK,
        Metric::Euclidean => {
            // 2 |q| n c - (|q|^2 + n^2)(1 - slack) >= floor: (rest / n + n) is least at sqrt(rest).
            let keep = 1.0 - KEY_SLACK;
            let remainder = threshold / keep + query_norm * query_norm;
            let n = remainder.max(0.0).sqrt().clamp(low, high.max(low));
            keep * (remainder / n + n) / (2.0 * query_norm)
        }
    };
    // Two steps down: float64 rounding above, and that of the conversion. NaN bounds nothing.
    if exact.is_nan() { f32::NEG_INFINITY } else { ((exact - exact.abs() * 1e-12) as f32).next_down().next_down() }
}

/// An upper bound of the key of rows whose bound of the cosine is `cosine` at most and whose norm is
/// from `lengths.0` to `lengths.1`.
pub fn highest_key(metric: Metric, cosine: f64, query_norm: f64, lengths: (f64, f64)) -> f64 {
    let (low, high) = (lengths.0.min(lengths.1), lengths.1);
    // 2 |q| n c - n^2, less a hair, is highest at n = |q| c or where that leaves the range, on its edge.
    let inside = (query_norm * cosine).clamp(low, high);
    [low, high, inside].map(|n| key_bound(metric, cosine, query_norm, n)).into_iter().fold(f64::NEG_INFINITY, f64::max)
}
