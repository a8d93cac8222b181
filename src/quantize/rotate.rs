//! Queries along the axes by whole numbers: some times sooner than by float64, and the same on every CPU.
//!
//! A direction without the centre, w', and each axis a are held in words of 16 bits, w' = s T + e and a = S A + E.
//! Sums of T A are exact in int32 by Cauchy-Schwarz, in whatever order they are added up. Over all axes
//!
//! ```text
//! |V'w' - s S A'T| = |V'e + E'(s T)| <= (1 + skew)|e| + |E||s T|                               (5)
//! ```
//!
//! |E|, the norm of all E as a matrix, being at most the root of the sum over parts of the axes of the Frobenius
//! norm of E_p'E_p, as the fourth powers of singular values add up to its square.

use super::Quantizer;
use super::encode::sum;
use super::int16::word;
use crate::kernel::{COLUMNS, Kernel, padded};

/// The length of directions in words.
const LENGTH: f64 = 32_000.0;
/// The length of axes in words at most, and their largest value: 32,000 * 65,000, and what rounding adds to
/// either, is less than 2^31.
const AXIS_LENGTH: f64 = 65_000.0;
const LARGEST: f64 = 32_767.0;
/// Axes whose rounding errors are multiplied with each other: more would bound them closer, at their square's cost.
const PART: usize = 128;
/// Above what float64 loses here, relative.
const UP: f64 = 1.0 + 1e-9;

/// Axes in words.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Of each [`COLUMNS`] axes, pairs of values of each: the first pairs, then the second ones.
    words: Vec<i16>,
    /// What one unit of a word is worth, S.
    unit: f64,
    /// At least |E|.
    loss: f64,
}

/// A direction along the axes.
#[derive(Debug, Clone)]
pub struct RotatedQuery {
    /// Its coordinates, less those of the centre.
    pub coordinates: Vec<f64>,
    /// At least how far all of them together may be off.
    pub error: f64,
}

impl Rotation {
    /// Rounds the axes.
    pub fn new(kernel: &Kernel, quantizer: &Quantizer) -> Self {
        let (dims, axes) = (quantizer.dims, quantizer.axes());
        let most = axes.iter().fold(0.0f64, |most, &a| most.max(f64::from(a).abs()));
        let longest = axes.chunks_exact(dims).fold(0.0f64, |most, axis| most.max(sum(axis, axis, |a, _| f64::from(a) * f64::from(a))));
        let scale = (AXIS_LENGTH / longest.sqrt().max(1.0)).min(LARGEST / most.max(0.1));
        let mut words = vec![0; dims.next_multiple_of(COLUMNS) * dims.next_multiple_of(2)];
        let mut errors = vec![0.0f32; axes.len()];
        for (i, (axis, errors)) in axes.chunks_exact(dims).zip(errors.chunks_exact_mut(dims)).enumerate() {
            let group = &mut words[i / COLUMNS * COLUMNS * dims.next_multiple_of(2)..];
            for (j, (&a, error)) in axis.iter().zip(errors).enumerate() {
                let word = word(f64::from(a) * scale);
                group[(j / 2 * COLUMNS + i % COLUMNS) * 2 + j % 2] = word;
                *error = (f64::from(a) - f64::from(word) / scale) as f32;
            }
        }
        let squared: f64 = errors.chunks(PART * dims).map(|part| frobenius(kernel, part, dims)).sum();
        Rotation { words, unit: 1.0 / scale, loss: squared.sqrt() * 1.001 }
    }

    /// Some directions along the axes.
    pub fn rotate(&self, kernel: &Kernel, quantizer: &Quantizer, directions: &[Vec<f64>]) -> Vec<RotatedQuery> {
        let (dims, count) = (quantizer.dims, directions.len());
        let stride = dims.next_multiple_of(2);
        let mut words = vec![0i16; stride * count];
        let mut known = Vec::with_capacity(count);
        for (direction, words) in directions.iter().zip(words.chunks_exact_mut(stride)) {
            let centred: Vec<f64> = direction.iter().zip(quantizer.centre()).map(|(w, &m)| w - f64::from(m)).collect();
            let length = sum(&centred, &centred, |w, _| w * w).sqrt();
            let (scale, unit) = if length > 0.0 { (LENGTH / length, length / LENGTH) } else { (0.0, 0.0) };
            words.iter_mut().zip(&centred).for_each(|(out, w)| *out = word(w * scale));
            let lost = sum(&centred, &words[..dims], |w, word| (w - unit * f64::from(word)).powi(2)).sqrt();
            let error = ((1.0 + quantizer.skew) * lost + self.loss * (length + lost)) * UP;
            known.push((unit * self.unit, error));
        }
        let mut sums = vec![0i32; dims.next_multiple_of(COLUMNS) * count];
        for (axes, out) in self.words.chunks_exact(stride * COLUMNS).zip(sums.chunks_exact_mut(count * COLUMNS)) {
            (kernel.rotate)(axes, &words, out);
        }
        let rotated = |(i, (unit, error)): (usize, (f64, f64))| {
            let mut coordinates = Vec::with_capacity(dims.next_multiple_of(COLUMNS));
            for group in sums.chunks_exact(count * COLUMNS) {
                coordinates.extend(group[i * COLUMNS..(i + 1) * COLUMNS].iter().map(|&sum| f64::from(sum) * unit));
            }
            coordinates.truncate(dims);
            RotatedQuery { coordinates, error }
        };
        known.into_iter().enumerate().map(rotated).collect()
    }
}

/// The Frobenius norm of a part's products with itself.
fn frobenius(kernel: &Kernel, part: &[f32], dims: usize) -> f64 {
    let mut products = vec![0.0; part.len() / dims];
    let mut wide = vec![0.0; padded(dims)];
    let mut squares = 0.0;
    for row in part.chunks_exact(dims) {
        wide.iter_mut().zip(row).for_each(|(wide, &x)| *wide = f64::from(x));
        (kernel.dot)(&wide, part, dims, &mut products);
        squares += sum(&products, &products, |product, _| product * product);
    }
    squares.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::linalg::Compute;
    use crate::pool::Watch;
    use crate::quantize::{axes, encode};
    use crate::random::Random;

    #[test]
    fn coordinates_are_off_by_their_error_at_most_and_the_same_from_every_kernel() {
        for dims in [33, 64, 200] {
            let mut random = Random::new(dims as u64);
            let sample: Vec<f64> = (0..400 * dims).map(|i| random.signed() / (1.0 + (i % dims) as f64 / 20.0)).collect();
            let watch = Watch::new(&|| true);
            let compute = Compute { kernel: kernel::selected().unwrap(), threads: 1, watch: &watch };
            let quantizer = axes::learn(compute, &sample, dims, 0).unwrap();
            let mut directions: Vec<Vec<f64>> = (0..9).map(|_| (0..dims).map(|_| random.signed()).collect()).collect();
            // One that lies in the centre but for a hair, and one along an axis.
            directions.push(quantizer.centre().iter().map(|&m| f64::from(m) + 1e-9 * random.signed()).collect());
            directions.push(quantizer.axes()[..dims].iter().map(|&a| f64::from(a)).collect());
            let mut same = None;
            for kernel in kernel::available() {
                let exact = encode::project_all(kernel, &quantizer, directions.iter().cloned());
                let rotated = Rotation::new(kernel, &quantizer).rotate(kernel, &quantizer, &directions);
                for ((rotated, exact), direction) in rotated.iter().zip(exact).zip(&directions) {
                    let off = rotated.coordinates.iter().zip(&exact).map(|(z, e)| (z - e).powi(2)).sum::<f64>().sqrt();
                    let length = direction.iter().zip(quantizer.centre()).map(|(w, &m)| (w - f64::from(m)).powi(2)).sum::<f64>().sqrt();
                    assert!(0.0 < off && off <= rotated.error, "{}: {off:e} of {:e}", kernel.name, rotated.error);
                    assert!(rotated.error <= 2e-3 * length, "{}: {:e} of {length:e}", kernel.name, rotated.error);
                }
                let bits: Vec<u64> =
                    rotated.iter().flat_map(|one| one.coordinates.iter().chain([&one.error])).map(|x| x.to_bits()).collect();
                assert!(same.get_or_insert_with(|| bits.clone()) == &bits, "{}", kernel.name);
            }
        }
    }
}
