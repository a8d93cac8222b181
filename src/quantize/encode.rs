//! Projects directions onto the axes, and encodes rows.

use super::levels::{level_value, nearest_level};
use super::{BLOCK, LEAST_NORM, LINE_BYTES, LINE_DIMS, Quantizer, UNIT, bf16_up};
use crate::error::{Result, filled};
use crate::kernel::{COLUMNS, Kernel, OFFSET_ZERO, padded};
use crate::store::rows::PanelValues;

/// Bounds the float64 error of a residual norm, whose terms are about 1 at most.
const FLOAT64_ERROR: f64 = 1e-9;

/// Rows of a tile that is multiplied by the axes, and dims of it at a time: 32 KB, beside 16 KB of axes.
const TILE_ROWS: usize = 64;
const CHUNK: usize = 128;

/// Bytes of axes that stay in cache while [`project_all`] multiplies them by every direction.
const AXES_BYTES: usize = 256 << 10;

/// Where [`Encoder::encode`] writes codes: whole blocks of rows, the last one padded.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// `block_bytes` a block.
    pub lines: &'a mut [u8],
    /// One a row, padded to whole blocks, as are the next three; see [`super::Codes`].
    pub offsets: &'a mut [f32],
    /// bfloat16, one a row.
    pub leading_residuals: &'a mut [u16],
    /// bfloat16, one a row.
    pub trailing_residuals: &'a mut [u16],
    /// bfloat16, one a row.
    pub remainder_residuals: &'a mut [u16],
    /// `remainder_bytes` a row.
    pub remainder: &'a mut [u8],
}

/// Coordinates of several centred directions along the axes; a group of axes at a time, which stay in a cache.
pub fn project_all(kernel: &Kernel, quantizer: &Quantizer, directions: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let centred = |direction: &Vec<f64>| {
        let mut centred: Vec<f64> = direction.iter().zip(quantizer.centre()).map(|(v, &m)| v - f64::from(m)).collect();
        centred.resize(padded(quantizer.dims), 0.0);
        (centred, vec![0.0; quantizer.dims])
    };
    let mut projected: Vec<(Vec<f64>, Vec<f64>)> = directions.iter().map(centred).collect();
    let count = (AXES_BYTES / (4 * quantizer.dims)).max(1);
    for (i, axes) in quantizer.axes().chunks(count * quantizer.dims).enumerate() {
        for (direction, coordinates) in &mut projected {
            let out = &mut coordinates[i * count..][..axes.len() / quantizer.dims];
            (kernel.dot)(direction, axes, quantizer.dims, out);
        }
    }
    projected.into_iter().map(|(_, coordinates)| coordinates).collect()
}

/// The sum of `term` over two slices of one length, in eight lanes so that additions do not wait for each other.
#[inline(always)]
pub(super) fn sum<A: Copy, B: Copy>(a: &[A], b: &[B], term: impl Fn(A, B) -> f64) -> f64 {
    let ((a, a_left), (b, b_left)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f64>() + a_left.iter().zip(b_left).map(|(&a, &b)| term(a, b)).sum::<f64>()
}

/// The axes as [`Kernel::products`] takes them: groups of [`COLUMNS`], value by value.
fn axis_columns(quantizer: &Quantizer) -> Result<Vec<f32>> {
    let dims = quantizer.dims;
    let mut columns = filled(dims.next_multiple_of(COLUMNS) * dims, 0.0, "the axes")?;
    for (i, axis) in quantizer.axes().chunks_exact(dims).enumerate() {
        let group = &mut columns[i / COLUMNS * COLUMNS * dims..];
        axis.iter().enumerate().for_each(|(j, &value)| group[j * COLUMNS + i % COLUMNS] = value);
    }
    Ok(columns)
}

/// Bounds the error of the float32 coordinates of a row, as a norm over all axes, relative to |v'|.
///
/// The sum of CHUNK products errs by CHUNK u |v'||a|, a being the axis; adding up the chunks by u for each chunk, rounding
/// v' to float32 by u (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). The squares of |a| add up to
/// dims (1 + skew). Eleven more u pay u |y| of [`residual_norm`], 1.001 the terms of second order.
fn product_error(quantizer: &Quantizer) -> f64 {
    let roundings = (CHUNK + quantizer.dims.div_ceil(CHUNK) + 12) as f64;
    1.001 * roundings * UNIT * (quantizer.dims as f64 * (1.0 + quantizer.skew)).sqrt()
}

/// Encodes rows, by float32 products whose error is added to the residual norms.
#[derive(Debug)]
pub struct Encoder<'a> {
    kernel: &'a Kernel,
    quantizer: &'a Quantizer,
    /// See [`axis_columns`]; the last group is padded with zeros.
    columns: Vec<f32>,
    /// 1 / step, and 0, for each coordinate.
    inverse_steps: Vec<f32>,
    zeros: Vec<f32>,
    /// See [`product_error`].
    error: f64,
}

/// Buffers of a worker for a tile of rows.
#[derive(Debug, Default)]
pub struct EncodeScratch {
    /// Centred directions: [`CHUNK`] values of every row, then the next [`CHUNK`].
    centred: Vec<f32>,
    /// Their norms |v'|.
    norms: Vec<f64>,
    /// Products of every row with the first [`COLUMNS`] axes, then with the next.
    products: Vec<f32>,
    /// Coordinates of one row.
    coordinates: Vec<f32>,
    code: RowCode,
}

impl<'a> Encoder<'a> {
    /// Copies the axes to the layout of [`Kernel::products`].
    ///
    /// # Errors
    /// No memory.
    pub fn new(kernel: &'a Kernel, quantizer: &'a Quantizer) -> Result<Self> {
        let inverse_steps = quantizer.steps().iter().map(|step| (1.0 / step).min(f32::MAX)).collect();
        let zeros = vec![0.0; quantizer.dims];
        let (columns, error) = (axis_columns(quantizer)?, product_error(quantizer));
        Ok(Encoder { kernel, quantizer, columns, inverse_steps, zeros, error })
    }

    /// Writes the codes of rows of `dims` values, the first of them as row `at` of `out`.
    ///
    /// `norms` holds the euclidean norm of each row; a norm below [`LEAST_NORM`] gives no direction, so the row gets an
    /// infinite residual norm, and every query refines it.
    pub fn encode(&self, rows: PanelValues, norms: &[f64], scratch: &mut EncodeScratch, out: &mut CodesMut, at: usize) {
        let dims = self.quantizer.dims;
        for first in (0..norms.len()).step_by(TILE_ROWS) {
            let tile = first..norms.len().min(first + TILE_ROWS);
            let offsets = &mut out.offsets[at + tile.start..at + tile.end];
            match rows {
                PanelValues::F32(values) => self.centre(&values[tile.start * dims..], &norms[tile.clone()], scratch, offsets),
                PanelValues::F64(values) => self.centre(&values[tile.start * dims..], &norms[tile.clone()], scratch, offsets),
            }
            self.project(tile.len(), scratch);
            for (i, row) in tile.enumerate() {
                if norms[row] < LEAST_NORM {
                    out.leading_residuals[at + row] = bf16_up(f64::INFINITY);
                    continue;
                }
                scratch.coordinates.clear();
                for products in scratch.products.chunks_exact(scratch.norms.len() * COLUMNS) {
                    scratch.coordinates.extend_from_slice(&products[i * COLUMNS..(i + 1) * COLUMNS]);
                }
                self.write(&scratch.coordinates[..dims], FLOAT64_ERROR + self.error * scratch.norms[i], &mut scratch.code, out, at + row);
            }
        }
    }

    /// Centred directions of the rows, their norms, and their offsets.
    fn centre<T: Copy + Into<f64>>(&self, values: &[T], norms: &[f64], scratch: &mut EncodeScratch, offsets: &mut [f32]) {
        let (dims, count) = (self.quantizer.dims, norms.len());
        scratch.centred.resize(dims * count, 0.0);
        scratch.norms.clear();
        for (i, (row, &norm)) in values.chunks_exact(dims).zip(norms).enumerate() {
            let (mut offset, mut squares) = (0.0, 0.0);
            let inverse = if norm < LEAST_NORM { 0.0 } else { 1.0 / norm };
            for (start, (row, centre)) in row.chunks(CHUNK).zip(self.quantizer.centre().chunks(CHUNK)).enumerate() {
                let from = start * CHUNK * count + i * row.len();
                for ((out, &x), &m) in scratch.centred[from..from + row.len()].iter_mut().zip(row).zip(centre) {
                    let (v, m) = (x.into() * inverse, f64::from(m));
                    offset += v * m;
                    squares += (v - m) * (v - m);
                    *out = (v - m) as f32;
                }
            }
            scratch.norms.push(squares.sqrt());
            if norm >= LEAST_NORM {
                offsets[i] = offset as f32;
            }
        }
    }

    /// Products of the centred directions with all axes.
    fn project(&self, count: usize, scratch: &mut EncodeScratch) {
        let dims = self.quantizer.dims;
        scratch.products.clear();
        scratch.products.resize(dims.next_multiple_of(COLUMNS) * count, 0.0);
        for (columns, out) in self.columns.chunks_exact(dims * COLUMNS).zip(scratch.products.chunks_exact_mut(count * COLUMNS)) {
            for (columns, rows) in columns.chunks(CHUNK * COLUMNS).zip(scratch.centred.chunks(CHUNK * count)) {
                (self.kernel.products)(columns, rows, columns.len() / COLUMNS, out);
            }
        }
    }

    /// Writes the codes of row `at`; `error` bounds the norm of the error of its coordinates.
    fn write(&self, coordinates: &[f32], error: f64, code: &mut RowCode, out: &mut CodesMut, at: usize) {
        let (quantizer, block, lane) = (self.quantizer, at / BLOCK, at % BLOCK);
        code.quantize(coordinates, &self.inverse_steps, quantizer.leading);
        let lines = &mut out.lines[block * quantizer.block_bytes()..(block + 1) * quantizer.block_bytes()];
        let remainder = &mut out.remainder[at * quantizer.remainder_bytes()..(at + 1) * quantizer.remainder_bytes()];
        code.indices.iter().enumerate().for_each(|(j, &index)| put_level(lines, lane, j, index));
        let (pairs, others) = remainder.split_at_mut(quantizer.leading / 2);
        let (low, high) = code.refinements.split_at(quantizer.leading / 2);
        pairs.iter_mut().zip(low).zip(high).for_each(|((pair, low), high)| *pair = low | high << 4);
        let (leading, trailing) = coordinates.split_at(quantizer.leading);
        others.iter_mut().zip(&code.whole[quantizer.leading..]).for_each(|(byte, &code)| *byte = code as i8 as u8);
        let coarse = residual_norm(leading, quantizer.steps(), &code.levels);
        let full = residual_norm(coordinates, quantizer.steps(), &code.whole);
        let trailing = residual_norm(trailing, &quantizer.steps()[quantizer.leading..], &self.zeros[quantizer.leading..]);
        let [coarse, trailing, full] = [coarse, trailing, full].map(|norm| bf16_up(norm + error));
        (out.leading_residuals[at], out.trailing_residuals[at], out.remainder_residuals[at]) = (coarse, trailing, full);
    }
}

/// The code of one row, in steps.
#[derive(Debug, Default)]
struct RowCode {
    /// Whole codes, all dims.
    whole: Vec<f32>,
    /// Of the leading dims: indices of levels, the levels, and refinements of 0 to 15.
    indices: Vec<u8>,
    levels: Vec<f32>,
    refinements: Vec<u8>,
}

impl RowCode {
    fn quantize(&mut self, coordinates: &[f32], inverse_steps: &[f32], leading: usize) {
        self.whole.clear();
        // Adding 1.5 * 2^23 rounds to an integer, ties to even; `round_ties_even` is a call on baseline x86-64.
        const SHIFT: f32 = 12_582_912.0;
        self.whole.extend(coordinates.iter().zip(inverse_steps).map(|(y, i)| (y * i).clamp(-128.0, 127.0) + SHIFT - SHIFT));
        self.indices.clear();
        self.levels.clear();
        self.refinements.clear();
        for code in &mut self.whole[..leading] {
            let (index, refinement) = nearest_level(*code);
            let level = level_value(index);
            *code = level + f32::from(refinement) - f32::from(OFFSET_ZERO);
            self.indices.push(index);
            self.levels.push(level);
            self.refinements.push(refinement);
        }
    }
}

/// An upper bound of |r|, r = y - s k, but for u |y|, which [`product_error`] pays; k are levels, whole codes or zeros.
///
/// r as computed errs by u (|s k| + |r|) <= u (|y| + 2 |r|), and a sum of n squares by n u of itself, as all are positive.
fn residual_norm(coordinates: &[f32], steps: &[f32], kept: &[f32]) -> f64 {
    let mut sums = [0.0f32; 8];
    let square = |y: f32, step: f32, kept: f32| (y - step * kept) * (y - step * kept);
    let (y, s, k) = (coordinates.as_chunks::<8>(), steps[..coordinates.len()].as_chunks::<8>(), kept[..coordinates.len()].as_chunks::<8>());
    for ((y, s), k) in y.0.iter().zip(s.0).zip(k.0) {
        for l in 0..8 {
            sums[l] += square(y[l], s[l], k[l]);
        }
    }
    let others = y.1.iter().zip(s.1).zip(k.1).map(|((&y, &s), &k)| square(y, s, k)).sum::<f32>();
    let squares = f64::from(sums.iter().sum::<f32>() + others);
    squares.sqrt() * (1.0 + (coordinates.len() + 8) as f64 * UNIT)
}

/// Sets coordinate j of a row in its block's lines: dword `lane` of line j / 8 holds the first four coordinates of the line
/// in low nibbles, the others in high nibbles.
fn put_level(lines: &mut [u8], lane: usize, j: usize, index: u8) {
    let (line, within) = (j / LINE_DIMS, j % LINE_DIMS);
    let byte = &mut lines[line * LINE_BYTES + 4 * lane + within % 4];
    *byte |= index << (within / 4 * 4);
}
