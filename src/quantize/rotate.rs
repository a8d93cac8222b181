//! Coordinates of queries by int16 products: faster than float64, and the same bits on every CPU.
//!
//! A centred direction w' and the axes V are held in int16: w' = s T + e and V = S A + E. The products A'T are exact in
//! int32, whatever the order of their sums, as Cauchy-Schwarz bounds them by |T||A|. Over all axes
//!
//! ```text
//! |V'w' - s S A'T| = |V'e + E'(s T)| <= (1 + skew)|e| + |E||s T|                               (11)
//! ```
//!
//! is the d of [`bound`](super::bound). For the axes in parts E_p, |E|^2 <= sum |E_p|^2, and |E_p|^2 <= |E_p'E_p|_F, as the
//! square of that Frobenius norm is the sum of the fourth powers of the singular values of E_p.

use super::Quantizer;
use super::encode::sum;
use super::int16::word;
use crate::error::{Result, filled};
use crate::kernel::{COLUMNS, Kernel, padded};

/// |T| before rounding.
const QUERY_LENGTH: f64 = 32_000.0;
/// Largest |A| of an axis before rounding, and its largest value: 32,000 * 65,000, and what rounding adds to either, is less
/// than 2^31.
const AXIS_LENGTH: f64 = 65_000.0;
const LARGEST: f64 = 32_767.0;
/// Axes of a part. More would give a smaller bound of |E|, at a cost that grows with their square.
const PART: usize = 128;
/// Pays the relative error of float64 in `RotatedQuery::error`.
const ROUND_UP: f64 = 1.0 + 1e-9;

/// The axes in int16.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// A as [`Kernel::rotate`] takes it: groups of [`COLUMNS`] axes, the first pair of values of each, then the second.
    words: Vec<i16>,
    /// S.
    unit: f64,
    /// At least |E|.
    error: f64,
}

/// The coordinates of a query.
#[derive(Debug, Clone)]
pub struct RotatedQuery {
    /// z, `dims` values.
    pub coordinates: Vec<f64>,
    /// Bounds the norm of their error, (11).
    pub error: f64,
}

impl Rotation {
    /// Rounds the axes to int16.
    ///
    /// # Errors
    /// No memory.
    pub fn new(kernel: &Kernel, quantizer: &Quantizer) -> Result<Self> {
        let (dims, axes) = (quantizer.dims, quantizer.axes());
        let largest = axes.iter().fold(0.0f64, |largest, &a| largest.max(f64::from(a).abs()));
        let squares = |axis: &[f32]| sum(axis, axis, |a, _| f64::from(a) * f64::from(a));
        let longest = axes.chunks_exact(dims).fold(0.0f64, |longest, axis| longest.max(squares(axis)));
        let scale = (AXIS_LENGTH / longest.sqrt().max(1.0)).min(LARGEST / largest.max(0.1));
        let mut words = filled(dims.next_multiple_of(COLUMNS) * dims.next_multiple_of(2), 0, "the axes")?;
        let mut errors = filled(axes.len(), 0.0f32, "the axes")?;
        for (i, (axis, errors)) in axes.chunks_exact(dims).zip(errors.chunks_exact_mut(dims)).enumerate() {
            let group = &mut words[i / COLUMNS * COLUMNS * dims.next_multiple_of(2)..];
            for (j, (&a, error)) in axis.iter().zip(errors).enumerate() {
                let word = word(f64::from(a) * scale);
                group[(j / 2 * COLUMNS + i % COLUMNS) * 2 + j % 2] = word;
                *error = (f64::from(a) - f64::from(word) / scale) as f32;
            }
        }
        let error_squares: f64 = errors.chunks(PART * dims).map(|part| frobenius(kernel, part, dims)).sum();
        // 1.001 pays the rounding of errors to float32.
        Ok(Rotation { words, unit: 1.0 / scale, error: error_squares.sqrt() * 1.001 })
    }

    /// The coordinates of some directions, `dims` values each, centred first.
    pub fn rotate(&self, kernel: &Kernel, quantizer: &Quantizer, directions: &[Vec<f64>]) -> Vec<RotatedQuery> {
        let (dims, count) = (quantizer.dims, directions.len());
        let stride = dims.next_multiple_of(2);
        let mut words = vec![0i16; stride * count];
        let mut units = Vec::with_capacity(count);
        for (direction, words) in directions.iter().zip(words.chunks_exact_mut(stride)) {
            let centred: Vec<f64> = direction.iter().zip(quantizer.centre()).map(|(w, &m)| w - f64::from(m)).collect();
            let length = sum(&centred, &centred, |w, _| w * w).sqrt();
            let (scale, unit) = if length > 0.0 { (QUERY_LENGTH / length, length / QUERY_LENGTH) } else { (0.0, 0.0) };
            words.iter_mut().zip(&centred).for_each(|(out, w)| *out = word(w * scale));
            let rounding = sum(&centred, &words[..dims], |w, word| (w - unit * f64::from(word)).powi(2)).sqrt();
            let error = ((1.0 + quantizer.skew) * rounding + self.error * (length + rounding)) * ROUND_UP;
            units.push((unit * self.unit, error));
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
        units.into_iter().enumerate().map(rotated).collect()
    }
}

/// |E_p'E_p|_F of a part of the errors.
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
    fn the_error_bounds_that_of_the_coordinates_and_every_kernel_gives_the_same_bits() {
        for dims in [33, 64, 200] {
            let mut random = Random::new(dims as u64);
            let sample: Vec<f64> = (0..400 * dims).map(|i| random.signed() / (1.0 + (i % dims) as f64 / 20.0)).collect();
            let watch = Watch::new(&|| true);
            let compute = Compute { kernel: kernel::selected().unwrap(), threads: 1, watch: &watch };
            let quantizer = axes::learn(compute, &sample, dims, 0).unwrap();
            let mut directions: Vec<Vec<f64>> = (0..9).map(|_| (0..dims).map(|_| random.signed()).collect()).collect();
            // One 1e-9 from the centre, and one along an axis.
            directions.push(quantizer.centre().iter().map(|&m| f64::from(m) + 1e-9 * random.signed()).collect());
            directions.push(quantizer.axes()[..dims].iter().map(|&a| f64::from(a)).collect());
            let mut first = None;
            for kernel in kernel::available() {
                let exact = encode::project_all(kernel, &quantizer, &directions);
                let rotated = Rotation::new(kernel, &quantizer).unwrap().rotate(kernel, &quantizer, &directions);
                for ((rotated, exact), direction) in rotated.iter().zip(exact).zip(&directions) {
                    let off = rotated.coordinates.iter().zip(&exact).map(|(z, e)| (z - e).powi(2)).sum::<f64>().sqrt();
                    let length = direction.iter().zip(quantizer.centre()).map(|(w, &m)| (w - f64::from(m)).powi(2)).sum::<f64>().sqrt();
                    assert!(0.0 < off && off <= rotated.error, "{}: {off:e} of {:e}", kernel.name, rotated.error);
                    assert!(rotated.error <= 2e-3 * length, "{}: {:e} of {length:e}", kernel.name, rotated.error);
                }
                let bits: Vec<u64> =
                    rotated.iter().flat_map(|one| one.coordinates.iter().chain([&one.error])).map(|x| x.to_bits()).collect();
                assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "{}", kernel.name);
            }
        }
    }
}
