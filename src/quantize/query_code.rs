//! A query prepared for codes: what kernels need for coarse bounds, full bounds and batches. [`bound`](super::bound) has
//! the proof that these are upper bounds.

use super::encode::{self, sum};
use super::int16::{bytes, lost, plane, whole_words};
use super::levels::FARTHEST;
use super::probable_bound::ProbableBound;
use super::rotate::{RotatedQuery, Rotation};
use super::{Quantizer, UNIT, from16};
use crate::kernel::{BoundFactors, CoarseQuery, Kernel, LEVEL_ZERO, OFFSET_ZERO};
use std::ops::Range;

/// A larger factor of a residual bounds as well, and CPUs stumble over subnormal ones.
const LEAST_FACTOR: f32 = 1e-20;

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
