//! A query quantised to int16: what kernels need for coarse bounds, full bounds and batches. [`bound`](super::bound)
//! defines the symbols and proves the bounds.

use super::encode::{self, sum};
use super::int16::{self, bytes, plane};
use super::levels::MAX_LEVEL;
use super::probable_bound::{Coordinates, ProbableBound};
use super::rotate::{RotatedQuery, Rotation};
use super::{Quantizer, UNIT, from_bf16};
use crate::kernel::{BoundFactors, CoarseQuery, Kernel, LEVEL_ZERO, OFFSET_ZERO};
use std::ops::Range;

/// Factors of residual norms are raised to this: larger ones bound as well, and subnormal ones are slow.
const MIN_FACTOR: f32 = 1e-20;

/// A query as int16 coordinates, and the terms of its bounds.
#[derive(Debug, Clone)]
pub struct QueryCode {
    /// High and low bytes of T, leading dims; no low bytes where a probable bound drops them.
    high: Vec<i8>,
    low: Vec<i8>,
    /// [`LEVEL_ZERO`] times the sums of `high` and `low`.
    high_sum: i32,
    low_sum: i32,
    /// `base` of (8), and the factors of leading and trailing residual norms.
    coarse_base: f32,
    leading_factor: f32,
    trailing_factor: f32,
    /// The same for batches, which bound with all codes: sums of the bytes of all dims times 128.
    batch_base: f32,
    batch_factor: f32,
    batch_sums: [i32; 2],
    /// T of all dims, and its step.
    words: Vec<i16>,
    word_step: f32,
    /// Full bounds: [`OFFSET_ZERO`] times the sum of T over the leading dims, 8 E_1 + 128 E_2, and the factor of the
    /// residual norm of all codes.
    refinement_sum: i64,
    refinement_error: f64,
    full_factor: f64,
    /// <w',m>.
    centre_dot: f64,
    probable: ProbableBound,
    /// Whether bounds hold only with high probability.
    is_probable: bool,
}

impl QueryCode {
    /// Quantises one query: float64 values padded to `kernel::padded(dims)`, and its norm, `LEAST_NORM` or more.
    pub fn new(kernel: &Kernel, quantizer: &Quantizer, wide: &[f64], norm: f64) -> Self {
        Self::several(kernel, quantizer, &[(wide, norm)]).swap_remove(0)
    }

    /// Quantises several queries, each with its norm as for [`QueryCode::new`].
    pub fn several(kernel: &Kernel, quantizer: &Quantizer, queries: &[(&[f64], f64)]) -> Vec<Self> {
        let directions = directions(quantizer, queries);
        let coordinates = encode::project_all(kernel, quantizer, &directions);
        directions.iter().zip(coordinates).map(|(w, z)| Self::from_coordinates(quantizer, w, &z, 0.0)).collect()
    }

    /// Quantises several queries whose coordinates come from an int16 [`Rotation`]: faster, with wider bounds.
    pub fn rotated(kernel: &Kernel, quantizer: &Quantizer, rotation: &Rotation, queries: &[(&[f64], f64)]) -> Vec<Self> {
        let directions = directions(quantizer, queries);
        let rotated = rotation.rotate(kernel, quantizer, &directions);
        let code = |(w, rotated): (&Vec<f64>, RotatedQuery)| Self::from_coordinates(quantizer, w, &rotated.coordinates, rotated.error);
        directions.iter().zip(rotated).map(code).collect()
    }

    /// Of a direction w and its coordinates z, whose error is of norm `error` at most.
    fn from_coordinates(quantizer: &Quantizer, w: &[f64], z: &[f64], error: f64) -> Self {
        let centre_dot = sum(w, quantizer.centre(), |w, m| (w - f64::from(m)) * f64::from(m));
        let exact: Vec<f64> = z.iter().zip(quantizer.steps()).map(|(z, &s)| z * f64::from(s)).collect();
        let (words, word_step) = int16::quantize(&exact);
        let step = f64::from(word_step);
        let (leading, trailing) = (0..quantizer.leading, quantizer.leading..quantizer.dims);
        let error_sum = |part: Range<usize>| int16::error_sum(&exact[part.clone()], &words[part], word_step);
        let (leading_error, trailing_error) = (error_sum(leading.clone()), error_sum(trailing.clone()));
        let magnitude = sum(&exact, &exact, |t, _| t.abs());
        // (8): `max_code` is K, `conversions` 16 K N, `errors` what (5) adds.
        let base = |max_code: f64, conversions: f64, errors: f64| {
            let b = centre_dot + errors;
            let roundings = max_code * magnitude + conversions * step + b.abs() + 2.0;
            b + (2e-6 + 4.0 * quantizer.skew + 2.01 * error + 16.0 * UNIT * roundings)
        };
        let coarse_base = base(MAX_LEVEL, 1024.0 * quantizer.leading as f64, MAX_LEVEL * leading_error);
        let batch_base = base(128.0, 2048.0 * quantizer.dims as f64, 128.0 * (leading_error + trailing_error));
        let squares = |part: Range<usize>| sum(&z[part.clone()], &z[part], |z, _| z * z);
        let (leading_squares, trailing_squares) = (squares(leading.clone()), squares(trailing));
        // Factors are raised by the 16 u of (7).
        let norm = |squares: f64| squares.sqrt() * (1.0 + 16.0 * UNIT);
        let factor = |norm: f64| (norm as f32).next_up().max(MIN_FACTOR);
        let (mut high, mut low) = (plane(&words, |word| bytes(word).0), plane(&words, |word| bytes(word).1));
        let total = |plane: &[i8]| plane.iter().map(|&byte| i32::from(byte)).sum::<i32>();
        let batch_sums = [128 * total(&high), 128 * total(&low)];
        high.truncate(quantizer.leading);
        low.truncate(quantizer.leading);
        let squares = [leading_squares, trailing_squares];
        let probable = ProbableBound::new(quantizer, Coordinates { z, t: &exact, squares, low: &low, step });
        QueryCode {
            high_sum: i32::from(LEVEL_ZERO) * total(&high),
            low_sum: i32::from(LEVEL_ZERO) * total(&low),
            high,
            low,
            coarse_base: (coarse_base as f32).next_up(),
            leading_factor: factor(norm(leading_squares)),
            trailing_factor: factor(norm(trailing_squares)),
            batch_base: (batch_base as f32).next_up(),
            batch_factor: factor(norm(leading_squares + trailing_squares)),
            batch_sums,
            refinement_sum: i64::from(OFFSET_ZERO) * words[leading].iter().map(|&word| i64::from(word)).sum::<i64>(),
            refinement_error: f64::from(OFFSET_ZERO) * leading_error + 128.0 * trailing_error,
            full_factor: norm(leading_squares + trailing_squares),
            centre_dot,
            probable,
            is_probable: false,
            words,
            word_step,
        }
    }

    /// The same query with bounds that hold with high probability, most often without low bytes.
    pub fn probable(&self) -> Self {
        let [leading, trailing, all] = self.probable.factors;
        let leading_factor = (self.leading_factor * leading).max(MIN_FACTOR);
        let trailing_factor = (self.trailing_factor * trailing).max(MIN_FACTOR);
        let full_factor = self.full_factor * f64::from(all);
        let scaled = QueryCode { leading_factor, trailing_factor, full_factor, is_probable: true, ..self.clone() };
        match self.probable.low_byte_slack() {
            Some(slack) => QueryCode { low: Vec::new(), low_sum: 0, coarse_base: self.coarse_base + slack as f32, ..scaled },
            None => scaled,
        }
    }

    /// The least bound of a row whose cosine is `cosine` or more, with high probability where bounds are probable.
    pub fn min_bound(&self, cosine: f32) -> f32 {
        if self.is_probable { self.probable.min_bound(cosine) } else { cosine }
    }

    /// The largest cosine of a row with this bound, with high probability where bounds are probable.
    pub fn max_cosine(&self, bound: f32) -> f64 {
        if self.is_probable { self.probable.max_cosine(f64::from(bound)) } else { f64::from(bound) }
    }

    /// T, `dims` int16 coordinates, for [`Kernel::int8_batch`].
    pub fn words(&self) -> &[i16] {
        &self.words
    }

    /// The other terms of [`Kernel::int8_batch`], which keeps rows whose full bound of the cosine is not below `threshold`.
    pub fn factors(&self, threshold: f32) -> BoundFactors {
        let [high_sum, low_sum] = self.batch_sums;
        BoundFactors { high_sum, low_sum, step: self.word_step, base: self.batch_base, residual: self.batch_factor, threshold }
    }

    /// The query of coarse bounds, for [`Kernel::bounds`].
    pub fn coarse_query(&self) -> CoarseQuery<'_> {
        CoarseQuery {
            high: &self.high,
            low: &self.low,
            high_sum: self.high_sum,
            low_sum: self.low_sum,
            step: self.word_step,
            base: self.coarse_base,
            leading: self.leading_factor,
            trailing: self.trailing_factor,
        }
    }

    /// A query for [`Kernel::bounds`] that estimates cosines, from levels and high bytes, in place of bounding them.
    pub fn estimate_query(&self) -> CoarseQuery<'_> {
        CoarseQuery { low: &[], low_sum: 0, base: self.centre_dot as f32, leading: 0.0, trailing: 0.0, ..self.coarse_query() }
    }

    /// The full bound of a row's cosine: `remainder` holds its codes beside the lines, `residuals` its leading, trailing and
    /// full residual norms in bfloat16, `coarse` its coarse bound.
    pub fn full_bound(&self, kernel: &Kernel, quantizer: &Quantizer, remainder: &[u8], residuals: [u16; 3], coarse: f32) -> f64 {
        let sum = (kernel.remainder_dot)(&self.words, quantizer.leading / 2, remainder);
        let [leading, trailing, full] = residuals.map(|residual| f64::from(from_bf16(residual)));
        let (leading, trailing) = (f64::from(self.leading_factor) * leading, f64::from(self.trailing_factor) * trailing);
        let refinements = self.refinement_error + f64::from(self.word_step) * (sum - self.refinement_sum) as f64;
        f64::from(coarse) - (leading + trailing) * (1.0 - 16.0 * UNIT) + refinements + self.full_factor * full
    }
}

/// The queries without padding, divided by their norms.
fn directions(quantizer: &Quantizer, queries: &[(&[f64], f64)]) -> Vec<Vec<f64>> {
    queries.iter().map(|&(wide, norm)| wide[..quantizer.dims].iter().map(|q| q / norm).collect()).collect()
}
