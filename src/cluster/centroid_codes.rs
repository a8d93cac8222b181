//! Centroids as codes around their common centre, and the bound that codes give.
//!
//! Centroids y and a row x are scaled, x' = s x - m and y' = s y - m, m being the mean of all s y; for
//! cosine s is 1 / length, of each its own. A cell's *rank* for a row is a number that orders cells as
//! their keys do:
//!
//! ```text
//! euclidean   <x', y'> - |y'|^2 / 2     = (|x'|^2 - s^2 D) / 2
//! the others  <x', y'> + <m, s y>       = <s x, s y> + (|x'|^2 - |s x|^2 + |m|^2) / 2
//! ```
//!
//! y' is stored as t c + e: t a step a coordinate, c a code of -127 to 127, e the rest, whose length r is
//! stored. With x' t = u (w + d), w whole numbers of 16 bits and |d| <= 0.508 each,
//!
//! ```text
//! <x', y'> = u <w, c> + u <d, c> + <x', e> <= u <w, c> + 0.508 u sqrt(dims) |c| + |x'| r
//! ```
//!
//! by Cauchy-Schwarz. Everything else is rounding in float32, for which floors are lowered by
//! [`EncodedRow::slack`]: at most 12 roundings of terms that `reach` sums up, 2^-19 of it being 32 of them;
//! (dims + 16) 2^-24 of |x'|^2 for its sum of squares; and x' itself, off by 2^-23 of its own or, for
//! cosine, of 1 as well. A row for which that is no number, because it is too far away, has a floor of
//! minus infinity and so is compared with every cell in float64.

use super::samples::Samples;
use crate::error::{Result, filled};
use crate::kernel::{Affine, BoundFactors, Kernel, Line, Planes, UnpackedCodes, unpacked_stride};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::Mutex;

/// Centroids of a block of codes.
pub(super) const BLOCK: usize = 16;
/// Coordinates of a row whose codes lie side by side.
const GROUP: usize = 4;
/// Half of a unit in the last place of float32, relative.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// Added and taken off, it rounds a float64 below 2^51 to a whole number.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// What a word may be off: 0.508, and a little for the roundings of the product.
const WORD_ERROR: f64 = 0.52;
/// Scales are powers of two within this exponent.
const MOST_SCALE: i32 = 100;

/// The codes of all centroids, whole blocks of sixteen.
#[derive(Debug)]
pub(super) struct Codes {
    metric: Metric,
    dims: usize,
    /// s, for all but cosine.
    scale: f64,
    /// m and its squared length.
    centre: Vec<f32>,
    centre_squared: f64,
    /// t.
    steps: Vec<f32>,
    /// 1 / t, or 0 where t is.
    inverse: Vec<f64>,
    codes: Vec<Line>,
    offsets: Vec<f32>,
    residuals: Vec<f32>,
    /// The largest |c|; the largest t |c| + r + |y'| + |m|; the largest magnitude of an offset.
    longest_code: f64,
    span: f64,
    most_offset: f64,
    /// The largest r.
    most_residual: f64,
}

/// What is known of one encoded centroid.
struct Coded {
    offset: f64,
    residual: f64,
    code: f64,
    norm: f64,
}

/// The largest of some centroids.
#[derive(Default)]
struct Reach {
    code: f64,
    span: f64,
    offset: f64,
    residual: f64,
}

impl Reach {
    fn include(&mut self, coded: &Coded, most_step: f64, centre: f64) {
        self.code = self.code.max(coded.code);
        self.span = self.span.max(most_step * coded.code + coded.residual + coded.norm + centre);
        self.offset = self.offset.max(coded.offset.abs());
        self.residual = self.residual.max(coded.residual);
    }
}

/// A row as bounds see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedRow {
    /// All but the floor.
    pub factors: BoundFactors,
    /// Rank from key: factor, then what is added.
    factor: f64,
    base: f64,
    /// Lowers a floor, beside a part of the rank itself.
    slack: f64,
    /// How far a rank may be below its bound, but for slack.
    gap: f64,
}

impl Default for EncodedRow {
    fn default() -> Self {
        let factors = BoundFactors { high_sum: 0, low_sum: 0, step: 0.0, base: 0.0, residual: 0.0, threshold: f32::NEG_INFINITY };
        EncodedRow { factors, factor: 0.0, base: f64::NAN, slack: 0.0, gap: f64::NAN }
    }
}

impl EncodedRow {
    /// What the bound of a cell must reach for its key to reach `key`.
    pub fn threshold(&self, key: f64) -> f32 {
        let rank = key * self.factor + self.base;
        let threshold = (rank - self.slack - 32.0 * U * rank.abs()) as f32;
        if threshold.is_finite() { threshold } else { f32::NEG_INFINITY }
    }

    /// What bounds must reach to be of the best cell, `most` being the highest: its cell has a rank that is
    /// less by [`EncodedRow::gap`] at most, and roundings.
    pub fn beside(&self, most: f32) -> f32 {
        let rank = f64::from(most) - self.gap;
        let threshold = (rank - 2.0 * self.slack - 64.0 * U * (f64::from(most).abs() + self.gap)) as f32;
        if threshold.is_finite() { threshold } else { f32::NEG_INFINITY }
    }
}

impl Codes {
    /// Codes of `samples` for `metric`.
    pub fn new(samples: &Samples, metric: Metric, threads: usize, watch: &Watch) -> Result<Self> {
        let (count, dims) = (samples.len(), samples.dims());
        let stride = unpacked_stride(dims);
        let scale_of = |cell: usize| match (metric, samples.norm(cell)) {
            (Metric::Cosine, norm) if norm > 0.0 => 1.0 / norm,
            (Metric::Cosine, _) => 0.0,
            _ => 1.0,
        };
        let mut mean = vec![0.0f64; dims];
        for cell in 0..count {
            let scale = scale_of(cell);
            mean.iter_mut().zip(samples.row(cell)).for_each(|(sum, &y)| *sum += scale * f64::from(y));
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        let mut most = vec![0.0f64; dims];
        for cell in 0..count {
            let scale = scale_of(cell);
            for ((most, mean), &y) in most.iter_mut().zip(&mean).zip(samples.row(cell)) {
                *most = most.max((scale * f64::from(y) - mean).abs());
            }
        }
        let scale = if metric == Metric::Cosine { 1.0 } else { power_above(most.iter().fold(0.0, |a: f64, &b| a.max(b))) };
        let mut centre = vec![0.0f32; stride];
        centre.iter_mut().zip(&mean).for_each(|(centre, mean)| *centre = (mean * scale) as f32);
        // A little more than the largest, which the centre's rounding may have moved.
        let mut steps = vec![0.0f32; stride];
        for (step, (most, centre)) in steps.iter_mut().zip(most.iter().zip(&centre)) {
            *step = ((most * scale + 2.0 * U * f64::from(centre.abs())) / 127.0) as f32;
        }
        let blocks = count.next_multiple_of(BLOCK);
        let mut made = Codes {
            metric,
            dims,
            scale,
            centre_squared: centre.iter().map(|&m| f64::from(m) * f64::from(m)).sum(),
            centre,
            inverse: steps.iter().map(|&step| if step > 0.0 { 1.0 / f64::from(step) } else { 0.0 }).collect(),
            steps,
            codes: filled(blocks * stride / size_of::<Line>(), Line::zeroed(), "the codes of centroids")?,
            offsets: vec![f32::NEG_INFINITY; blocks],
            residuals: vec![0.0; blocks],
            longest_code: 0.0,
            span: 0.0,
            most_offset: 0.0,
            most_residual: 0.0,
        };
        made.encode(samples, &|cell| scale * scale_of(cell), threads, watch)?;
        Ok(made)
    }

    /// Encodes every block, some at a time.
    fn encode(&mut self, samples: &Samples, scale_of: &(dyn Fn(usize) -> f64 + Sync), threads: usize, watch: &Watch) -> Result<()> {
        let (mut codes, mut offsets, mut residuals) =
            (std::mem::take(&mut self.codes), std::mem::take(&mut self.offsets), std::mem::take(&mut self.residuals));
        let lines = BLOCK * unpacked_stride(self.dims) / size_of::<Line>();
        let most_step = self.steps.iter().fold(0.0, |most, &step| f64::from(step).max(most));
        let slots = codes.chunks_mut(lines).zip(offsets.chunks_mut(BLOCK).zip(residuals.chunks_mut(BLOCK)));
        let jobs: Vec<_> = slots.map(Mutex::new).collect();
        let work = |reach: &mut Reach, block: usize| {
            let mut slot = jobs[block].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (codes, (offsets, residuals)) = &mut *slot;
            for lane in 0..BLOCK.min(samples.len() - block * BLOCK) {
                let cell = block * BLOCK + lane;
                let coded = self.encode_row(samples.row(cell), scale_of(cell), lane, cast_slice_mut(codes));
                (offsets[lane], residuals[lane]) = (coded.offset as f32, coded.residual as f32);
                reach.include(&coded, most_step, self.centre_squared.sqrt());
            }
            Ok(())
        };
        let reaches = pool::run(threads, jobs.len(), watch, || Ok(Reach::default()), work)?;
        drop(jobs);
        (self.codes, self.offsets, self.residuals) = (codes, offsets, residuals);
        for reach in reaches {
            self.longest_code = self.longest_code.max(reach.code);
            self.span = self.span.max(reach.span);
            self.most_offset = self.most_offset.max(reach.offset);
            self.most_residual = self.most_residual.max(reach.residual);
        }
        Ok(())
    }

    fn encode_row(&self, row: &[f32], scale: f64, lane: usize, codes: &mut [u8]) -> Coded {
        let mut sums = Sums::default();
        let (whole, tail) = row.as_chunks::<GROUP>();
        let mut last = [0.0; GROUP];
        last[..tail.len()].copy_from_slice(tail);
        let frame =
            self.centre.as_chunks::<GROUP>().0.iter().zip(self.steps.as_chunks::<GROUP>().0).zip(self.inverse.as_chunks::<GROUP>().0);
        let groups = codes.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut();
        for ((values, ((centre, steps), inverse)), out) in whole.iter().chain([&last]).zip(frame).zip(groups) {
            out[GROUP * lane..][..GROUP].copy_from_slice(&sums.encode(values, scale, (centre, steps, inverse)));
        }
        let [squared, rest, length, along] = sums.0.map(|lanes| lanes.iter().sum::<f64>());
        let offset = if self.metric == Metric::Euclidean { -squared / 2.0 } else { along };
        Coded { offset, residual: rest.sqrt() * (1.0 + 4.0 * U), code: length.sqrt(), norm: squared.sqrt() }
    }

    /// Centroids, those that fill up the last block included.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whole blocks that fit `bytes`.
    pub fn panel(&self, bytes: usize) -> usize {
        (bytes / (BLOCK * unpacked_stride(self.dims))).max(1) * BLOCK
    }

    /// Some blocks for a sieve.
    pub fn wide(&self, cells: Range<usize>) -> UnpackedCodes<'_> {
        let stride = unpacked_stride(self.dims);
        let codes = &cast_slice(&self.codes)[cells.start * stride..cells.end * stride];
        UnpackedCodes { codes, offsets: &self.offsets[cells.clone()], residuals: &self.residuals[cells] }
    }

    /// Rounds a row to words in `planes`.
    pub fn see(&self, kernel: &Kernel, row: &[f32], norm: f64, mut planes: Planes) -> EncodedRow {
        let scale = match self.metric {
            Metric::Cosine if norm > 0.0 => (1.0 / norm) as f32,
            Metric::Cosine => 0.0,
            _ => self.scale as f32,
        };
        let frame = Affine { scale, centre: &self.centre, steps: &self.steps };
        let rounded = (kernel.int16)(row, &frame, &mut planes);
        let (scale, root, squared) = (f64::from(scale), (self.dims as f64).sqrt(), f64::from(rounded.squared));
        let length = squared.sqrt() * (1.0 + (self.dims + 16) as f64 * U);
        let scaled = scale * norm;
        let (factor, base) = match self.metric {
            Metric::Euclidean => (scale * scale / 2.0, squared / 2.0),
            Metric::Cosine => (scaled, (squared - scaled * scaled + self.centre_squared) / 2.0),
            Metric::Dot => (scale * scale, (squared - scaled * scaled + self.centre_squared) / 2.0),
        };
        let along = f64::from(rounded.step) * root * self.longest_code;
        // A power of two scales without rounding, so that x' is off by a part of itself alone.
        let reach = if self.metric == Metric::Cosine { length + scaled } else { length };
        let slack = 32.0 * U * (reach * self.span + self.most_offset + 256.0 * along)
            + (self.dims + 16) as f64 * U * squared
            + 8.0 * U * reach * length
            + f64::from(f32::MIN_POSITIVE);
        let factors = BoundFactors {
            high_sum: 128 * rounded.high_sum,
            low_sum: 128 * rounded.low_sum,
            step: rounded.step,
            base: (WORD_ERROR * along) as f32,
            residual: length as f32,
            threshold: f32::NEG_INFINITY,
        };
        let gap = 2.0 * (f64::from(factors.base) + length * self.most_residual);
        EncodedRow { factors, factor, base, slack, gap }
    }
}

/// Of the coordinates of a row, side by side: the sums of squares, of what codes leave over squared, of
/// codes squared, and of products with the centre.
#[derive(Default)]
struct Sums([[f64; GROUP]; 4]);

impl Sums {
    /// Codes of a group of coordinates, more by 128.
    fn encode(
        &mut self,
        values: &[f32; GROUP],
        scale: f64,
        (centre, steps, inverse): (&[f32; GROUP], &[f32; GROUP], &[f64; GROUP]),
    ) -> [u8; GROUP] {
        let mut codes = [0; GROUP];
        for l in 0..GROUP {
            let scaled = scale * f64::from(values[l]);
            let value = scaled - f64::from(centre[l]);
            let code = (value * inverse[l] + ROUNDER - ROUNDER).clamp(-127.0, 127.0);
            // The lowest bits of the sum are those of the whole number.
            codes[l] = ((code + ROUNDER).to_bits() as u8).wrapping_add(128);
            let left = value - f64::from(steps[l]) * code;
            self.0[0][l] += value * value;
            self.0[1][l] += left * left;
            self.0[2][l] += code * code;
            self.0[3][l] += f64::from(centre[l]) * scaled;
        }
        codes
    }
}

/// The power of two that takes `most` to between 1/2 and 1, or near it.
fn power_above(most: f64) -> f64 {
    if most == 0.0 {
        return 1.0;
    }
    let exponent = (most.to_bits() >> 52) as i32 - 1022;
    2f64.powi((-exponent).clamp(-MOST_SCALE, MOST_SCALE))
}
