//! 8-bit codes of centroids around their mean, and upper bounds of the ranks that rows give them.
//!
//! Let x be a row and y a centroid; x' = s x - m and y' = s y - m, where m is the mean of all s y and s a power of two,
//! or for cosine 1 / |x| and 1 / |y|. D is the squared distance. A cell's *rank* for a row orders cells as their keys
//! do:
//!
//! ```text
//! euclidean   <x', y'> - |y'|^2 / 2     = (|x'|^2 - s^2 D) / 2
//! otherwise   <x', y'> + <m, s y>       = <s x, s y> + (|x'|^2 - |s x|^2 + |m|^2) / 2
//! ```
//!
//! y' = t c + e: t is a step per coordinate, c an integer code from -127 to 127, and e the residual, whose norm r is
//! stored. With t x' = u (w + d), coordinate by coordinate, w 16-bit integers and |d| <= 0.508 each,
//!
//! ```text
//! <x', y'> = u <w, c> + u <d, c> + <x', e> <= u <w, c> + 0.508 u sqrt(dims) |c| + |x'| r
//! ```
//!
//! by Cauchy-Schwarz. Rounding in float32 is paid for by lowering thresholds by `EncodedRow::slack`, which covers
//! three errors: the bound's 12 roundings, each at most 2^-24 of the sum of its terms' magnitudes (32 are allowed);
//! (dims + 16) 2^-24 of |x'|^2 in its sum of squares; and 2^-23 of x' itself, for cosine also of |s x|. A row so large
//! that this is NaN or infinite gets a threshold of minus infinity: it is compared with every cell in float64.

use super::samples::Samples;
use crate::error::{Result, filled};
use crate::kernel::{Affine, BoundFactors, Kernel, Line, Planes, UnpackedCodes, unpacked_stride};
use crate::metric::Metric;
use crate::pool::{self, Watch};
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::Mutex;

/// Centroids per block of codes.
pub(super) const BLOCK: usize = 16;
/// Consecutive coordinates whose codes of one centroid are adjacent.
const GROUP: usize = 4;
/// The relative rounding error of float32.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// 1.5 * 2^52: adding and subtracting it rounds a float64 below 2^51 to an integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// The largest error of a word, 0.508, and an allowance for the roundings of the product.
const WORD_ERROR: f64 = 0.52;
/// Scales are powers of two from 2^-100 to 2^100.
const MAX_EXPONENT: i32 = 100;

/// The codes of all centroids, padded to whole blocks; symbols as in the module's documentation.
#[derive(Debug)]
pub(super) struct Codes {
    metric: Metric,
    dims: usize,
    /// s; 1 for cosine.
    scale: f64,
    /// m and |m|^2.
    centre: Vec<f32>,
    centre_squared: f64,
    /// t.
    steps: Vec<f32>,
    /// 1 / t, or 0 where t is 0.
    inverse: Vec<f64>,
    /// c + 128, as in [`UnpackedCodes`].
    codes: Vec<Line>,
    /// -|y'|^2 / 2 or <m, s y>; minus infinity in padding.
    offsets: Vec<f32>,
    /// r.
    residuals: Vec<f32>,
    /// The largest |c|; the largest t |c| + r + |y'| + |m|; the largest magnitude of an offset; the largest r.
    max_code_norm: f64,
    max_span: f64,
    max_offset: f64,
    max_residual: f64,
}

/// The numbers that come with a centroid's code: offset, r, |c| and |y'|.
struct EncodedCentroid {
    offset: f64,
    residual: f64,
    code_norm: f64,
    norm: f64,
}

/// Maxima over some centroids, of the four numbers in [`Codes`].
#[derive(Default)]
struct Maxima {
    code_norm: f64,
    span: f64,
    offset: f64,
    residual: f64,
}

impl Maxima {
    fn include(&mut self, encoded: &EncodedCentroid, max_step: f64, centre: f64) {
        self.code_norm = self.code_norm.max(encoded.code_norm);
        self.span = self.span.max(max_step * encoded.code_norm + encoded.residual + encoded.norm + centre);
        self.offset = self.offset.max(encoded.offset.abs());
        self.residual = self.residual.max(encoded.residual);
    }
}

/// A row quantised to 16 bits: the factors of its bounds and thresholds.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedRow {
    /// Factors for the kernel, without a threshold.
    pub factors: BoundFactors,
    /// rank = key * factor + base.
    factor: f64,
    base: f64,
    /// Rounding errors of bounds, absolute.
    slack: f64,
    /// The largest difference between a bound and the rank, without rounding errors.
    gap: f64,
}

impl Default for EncodedRow {
    fn default() -> Self {
        let factors = BoundFactors { high_sum: 0, low_sum: 0, step: 0.0, base: 0.0, residual: 0.0, threshold: f32::NEG_INFINITY };
        EncodedRow { factors, factor: 0.0, base: f64::NAN, slack: 0.0, gap: f64::NAN }
    }
}

impl EncodedRow {
    /// The threshold for `key`: the bound of any cell whose key is at least `key` is not below it.
    pub fn threshold(&self, key: f64) -> f32 {
        let rank = key * self.factor + self.base;
        let threshold = (rank - self.slack - 32.0 * U * rank.abs()) as f32;
        if threshold.is_finite() { threshold } else { f32::NEG_INFINITY }
    }

    /// The threshold for the rank of a cell of which only the bound is known: the rank is lower than the bound by
    /// `gap` and rounding errors at most.
    pub fn threshold_below(&self, bound: f32) -> f32 {
        let rank = f64::from(bound) - self.gap;
        let threshold = (rank - 2.0 * self.slack - 64.0 * U * (f64::from(bound).abs() + self.gap)) as f32;
        if threshold.is_finite() { threshold } else { f32::NEG_INFINITY }
    }
}

impl Codes {
    /// Encodes the centroids `samples` for `metric`.
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
        let mut widest = vec![0.0f64; dims];
        for cell in 0..count {
            let scale = scale_of(cell);
            for ((widest, mean), &y) in widest.iter_mut().zip(&mean).zip(samples.row(cell)) {
                *widest = widest.max((scale * f64::from(y) - mean).abs());
            }
        }
        let scale = if metric == Metric::Cosine { 1.0 } else { power_above(widest.iter().fold(0.0, |a: f64, &b| a.max(b))) };
        let mut centre = vec![0.0f32; stride];
        centre.iter_mut().zip(&mean).for_each(|(centre, mean)| *centre = (mean * scale) as f32);
        // Rounding the centre to float32 may increase the largest deviation.
        let mut steps = vec![0.0f32; stride];
        for (step, (widest, centre)) in steps.iter_mut().zip(widest.iter().zip(&centre)) {
            *step = ((widest * scale + 2.0 * U * f64::from(centre.abs())) / 127.0) as f32;
        }
        let blocks = count.next_multiple_of(BLOCK);
        let mut encoded = Codes {
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
            max_code_norm: 0.0,
            max_span: 0.0,
            max_offset: 0.0,
            max_residual: 0.0,
        };
        encoded.encode(samples, &|cell| scale * scale_of(cell), threads, watch)?;
        Ok(encoded)
    }

    /// Encodes all blocks, in parallel.
    fn encode(&mut self, samples: &Samples, scale_of: &(dyn Fn(usize) -> f64 + Sync), threads: usize, watch: &Watch) -> Result<()> {
        let (mut codes, mut offsets, mut residuals) =
            (std::mem::take(&mut self.codes), std::mem::take(&mut self.offsets), std::mem::take(&mut self.residuals));
        let lines = BLOCK * unpacked_stride(self.dims) / size_of::<Line>();
        let max_step = self.steps.iter().fold(0.0, |max, &step| f64::from(step).max(max));
        let slots = codes.chunks_mut(lines).zip(offsets.chunks_mut(BLOCK).zip(residuals.chunks_mut(BLOCK)));
        let jobs: Vec<_> = slots.map(Mutex::new).collect();
        let work = |maxima: &mut Maxima, block: usize| {
            let mut slot = jobs[block].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (codes, (offsets, residuals)) = &mut *slot;
            for lane in 0..BLOCK.min(samples.len() - block * BLOCK) {
                let cell = block * BLOCK + lane;
                let encoded = self.encode_row(samples.row(cell), scale_of(cell), lane, cast_slice_mut(codes));
                (offsets[lane], residuals[lane]) = (encoded.offset as f32, encoded.residual as f32);
                maxima.include(&encoded, max_step, self.centre_squared.sqrt());
            }
            Ok(())
        };
        let parts = pool::run(threads, jobs.len(), watch, || Ok(Maxima::default()), work)?;
        drop(jobs);
        (self.codes, self.offsets, self.residuals) = (codes, offsets, residuals);
        for maxima in parts {
            self.max_code_norm = self.max_code_norm.max(maxima.code_norm);
            self.max_span = self.max_span.max(maxima.span);
            self.max_offset = self.max_offset.max(maxima.offset);
            self.max_residual = self.max_residual.max(maxima.residual);
        }
        Ok(())
    }

    /// Writes the code of a centroid into its lane of a block.
    fn encode_row(&self, row: &[f32], scale: f64, lane: usize, codes: &mut [u8]) -> EncodedCentroid {
        let mut sums = Sums::default();
        let (whole, rest) = row.as_chunks::<GROUP>();
        let mut last = [0.0; GROUP];
        last[..rest.len()].copy_from_slice(rest);
        let affine =
            self.centre.as_chunks::<GROUP>().0.iter().zip(self.steps.as_chunks::<GROUP>().0).zip(self.inverse.as_chunks::<GROUP>().0);
        let groups = codes.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut();
        for ((values, ((centre, steps), inverse)), out) in whole.iter().chain([&last]).zip(affine).zip(groups) {
            out[GROUP * lane..][..GROUP].copy_from_slice(&sums.encode(values, scale, (centre, steps, inverse)));
        }
        let [squared, residual, code, offset] = sums.0.map(|lanes| lanes.iter().sum::<f64>());
        let offset = if self.metric == Metric::Euclidean { -squared / 2.0 } else { offset };
        EncodedCentroid { offset, residual: residual.sqrt() * (1.0 + 4.0 * U), code_norm: code.sqrt(), norm: squared.sqrt() }
    }

    /// The number of centroids, padding of the last block included.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// How many centroids' codes fit in `bytes`, in whole blocks.
    pub fn panel(&self, bytes: usize) -> usize {
        (bytes / (BLOCK * unpacked_stride(self.dims))).max(1) * BLOCK
    }

    /// Whole blocks, as [`Kernel::int8_batch`] takes them.
    pub fn unpacked(&self, cells: Range<usize>) -> UnpackedCodes<'_> {
        let stride = unpacked_stride(self.dims);
        let codes = &cast_slice(&self.codes)[cells.start * stride..cells.end * stride];
        UnpackedCodes { codes, offsets: &self.offsets[cells.clone()], residuals: &self.residuals[cells] }
    }

    /// Quantises a row of this norm to 16-bit words in `planes`.
    pub fn encode_query(&self, kernel: &Kernel, row: &[f32], norm: f64, mut planes: Planes) -> EncodedRow {
        let scale = match self.metric {
            Metric::Cosine if norm > 0.0 => (1.0 / norm) as f32,
            Metric::Cosine => 0.0,
            _ => self.scale as f32,
        };
        let affine = Affine { scale, centre: &self.centre, steps: &self.steps };
        let rounded = (kernel.int16)(row, &affine, &mut planes);
        let (scale, root, squared) = (f64::from(scale), (self.dims as f64).sqrt(), f64::from(rounded.squared));
        let length = squared.sqrt() * (1.0 + (self.dims + 16) as f64 * U);
        let scaled = scale * norm;
        let (factor, base) = match self.metric {
            Metric::Euclidean => (scale * scale / 2.0, squared / 2.0),
            Metric::Cosine => (scaled, (squared - scaled * scaled + self.centre_squared) / 2.0),
            Metric::Dot | Metric::Hamming => (scale * scale, (squared - scaled * scaled + self.centre_squared) / 2.0),
        };
        // u sqrt(dims) |c|: how much the product changes at most where every word changes by 1.
        let per_word = f64::from(rounded.step) * root * self.max_code_norm;
        // Scaling by a power of two is exact, so that the error of x' is relative to x' alone.
        let magnitude = if self.metric == Metric::Cosine { length + scaled } else { length };
        let slack = 32.0 * U * (magnitude * self.max_span + self.max_offset + 256.0 * per_word)
            + (self.dims + 16) as f64 * U * squared
            + 8.0 * U * magnitude * length
            + f64::from(f32::MIN_POSITIVE);
        let factors = BoundFactors {
            high_sum: 128 * rounded.high_sum,
            low_sum: 128 * rounded.low_sum,
            step: rounded.step,
            base: (WORD_ERROR * per_word) as f32,
            residual: length as f32,
            threshold: f32::NEG_INFINITY,
        };
        let gap = 2.0 * (f64::from(factors.base) + length * self.max_residual);
        EncodedRow { factors, factor, base, slack, gap }
    }
}

/// Running sums over a centroid's coordinates, in [`GROUP`] lanes: of y'^2, of e^2, of c^2, and of m s y.
#[derive(Default)]
struct Sums([[f64; GROUP]; 4]);

impl Sums {
    /// Encodes a group of coordinates; returns c + 128.
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
            // The lowest bits of this sum are those of the integer.
            codes[l] = ((code + ROUNDER).to_bits() as u8).wrapping_add(128);
            let residual = value - f64::from(steps[l]) * code;
            self.0[0][l] += value * value;
            self.0[1][l] += residual * residual;
            self.0[2][l] += code * code;
            self.0[3][l] += f64::from(centre[l]) * scaled;
        }
        codes
    }
}

/// The power of two that scales `largest` to between 1/2 and 1, its exponent clamped to [`MAX_EXPONENT`].
fn power_above(largest: f64) -> f64 {
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = (largest.to_bits() >> 52) as i32 - 1022;
    2f64.powi((-exponent).clamp(-MAX_EXPONENT, MAX_EXPONENT))
}
