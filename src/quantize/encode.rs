//! Directions along the axes, and rows into codes.

use super::levels::{level_value, nearest_level};
use super::{BLOCK, LEAST_NORM, LINE_BYTES, LINE_DIMS, Quantizer, UNIT, up16};
use crate::kernel::{COLUMNS, Kernel, OFFSET_ZERO, padded};
use crate::store::rows::PanelValues;

/// What float64 may lose on the way to a residual, all of whose terms are about 1 at most.
const LOST: f64 = 1e-9;

/// Rows that meet the axes together, and values of them that do: 32 KB, beside 16 KB of axes.
const TOGETHER: usize = 64;
const CHUNK: usize = 128;

/// Bytes of axes that several directions meet in a cache.
const AXES_BYTES: usize = 256 << 10;

/// Where the codes of some blocks go, whole blocks but perhaps the last.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// `block_bytes` a block.
    pub lines: &'a mut [u8],
    /// One a row, padded to whole blocks; so are the next three.
    pub offsets: &'a mut [f32],
    /// See [`super::Codes`].
    pub leading_residuals: &'a mut [u16],
    /// See [`super::Codes`].
    pub trailing_residuals: &'a mut [u16],
    /// See [`super::Codes`].
    pub remainder_residuals: &'a mut [u16],
    /// `remainder_bytes` a row.
    pub remainder: &'a mut [u8],
}

/// Coordinates of several directions along the axes, centre taken off; some axes at a time, which stay in a cache.
pub fn project_all(kernel: &Kernel, quantizer: &Quantizer, directions: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let centred = |mut direction: Vec<f64>| {
        direction.iter_mut().zip(quantizer.centre()).for_each(|(v, &m)| *v -= f64::from(m));
        direction.resize(padded(quantizer.dims), 0.0);
        (direction, vec![0.0; quantizer.dims])
    };
    let mut seen: Vec<(Vec<f64>, Vec<f64>)> = directions.map(centred).collect();
    let together = (AXES_BYTES / (4 * quantizer.dims)).max(1);
    for (i, axes) in quantizer.axes().chunks(together * quantizer.dims).enumerate() {
        for (direction, coordinates) in &mut seen {
            let out = &mut coordinates[i * together..][..axes.len() / quantizer.dims];
            (kernel.dot)(direction, axes, quantizer.dims, out);
        }
    }
    seen.into_iter().map(|(_, coordinates)| coordinates).collect()
}

/// The sum of `term` over two slices of one length, in lanes: one after the other, every addition would wait for
/// the last.
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

/// Axes in groups of [`COLUMNS`], value by value.
fn lay_out(quantizer: &Quantizer) -> Vec<f32> {
    let dims = quantizer.dims;
    let mut columns = vec![0.0; dims.next_multiple_of(COLUMNS) * dims];
    for (i, axis) in quantizer.axes().chunks_exact(dims).enumerate() {
        let group = &mut columns[i / COLUMNS * COLUMNS * dims..];
        axis.iter().enumerate().for_each(|(j, &value)| group[j * COLUMNS + i % COLUMNS] = value);
    }
    columns
}

/// What float32 products of a direction with all axes may be off by, as a share of its length v'.
///
/// A sum of CHUNK products errs by CHUNK u of |v'| and the length of its axis, adding up the chunks by u for
/// each, rounding v' to float32 by u (Higham, Accuracy and Stability, 3.1); over all axes by as much of the root
/// of the sum of their squares. The rest is for some u more, see `length_left`.
fn product_error(quantizer: &Quantizer) -> f64 {
    let roundings = (CHUNK + quantizer.dims.div_ceil(CHUNK) + 12) as f64;
    1.001 * roundings * UNIT * (quantizer.dims as f64 * (1.0 + quantizer.skew)).sqrt()
}

/// Rows into codes, many at a time.
///
/// Their coordinates come from float32 products; how far those may be off goes into the residuals.
#[derive(Debug)]
pub struct Encoder<'a> {
    kernel: &'a Kernel,
    quantizer: &'a Quantizer,
    /// Of each [`COLUMNS`] axes, all first values, then all second ones; zeros fill up the last.
    columns: Vec<f32>,
    /// Steps a unit, and zeros; one a coordinate.
    inverse: Vec<f32>,
    zeros: Vec<f32>,
    /// Largest error of a direction's coordinates, as a share of its length without the centre.
    error: f64,
}

/// A worker's room for the rows that meet the axes together.
#[derive(Debug, Default)]
pub struct Room {
    /// Directions without the centre: [`CHUNK`] values of every row, then the next.
    centred: Vec<f32>,
    /// Their lengths.
    lengths: Vec<f64>,
    /// Products of every row with the first [`COLUMNS`] axes, then with the next.
    products: Vec<f32>,
    /// Coordinates of one row.
    coordinates: Vec<f32>,
    choice: Choice,
}

impl<'a> Encoder<'a> {
    /// Lays the axes out for products.
    pub fn new(kernel: &'a Kernel, quantizer: &'a Quantizer) -> Self {
        let inverse = quantizer.steps().iter().map(|step| (1.0 / step).min(f32::MAX)).collect();
        let zeros = vec![0.0; quantizer.dims];
        Encoder { kernel, quantizer, columns: lay_out(quantizer), inverse, zeros, error: product_error(quantizer) }
    }

    /// Writes the codes of some rows, the first of them as row `at` of `out`.
    ///
    /// `norms` are their euclidean norms; a row below [`LEAST_NORM`] has no direction and gets an
    /// infinite residual, so that every query reads it in full.
    pub fn encode(&self, rows: PanelValues, norms: &[f64], room: &mut Room, out: &mut CodesMut, at: usize) {
        let dims = self.quantizer.dims;
        for first in (0..norms.len()).step_by(TOGETHER) {
            let some = first..norms.len().min(first + TOGETHER);
            let offsets = &mut out.offsets[at + some.start..at + some.end];
            match rows {
                PanelValues::F32(values) => self.centre(&values[some.start * dims..], &norms[some.clone()], room, offsets),
                PanelValues::F64(values) => self.centre(&values[some.start * dims..], &norms[some.clone()], room, offsets),
            }
            self.project(some.len(), room);
            for (i, row) in some.enumerate() {
                if norms[row] < LEAST_NORM {
                    out.leading_residuals[at + row] = up16(f64::INFINITY);
                    continue;
                }
                room.coordinates.clear();
                for products in room.products.chunks_exact(room.lengths.len() * COLUMNS) {
                    room.coordinates.extend_from_slice(&products[i * COLUMNS..(i + 1) * COLUMNS]);
                }
                self.write(&room.coordinates[..dims], LOST + self.error * room.lengths[i], &mut room.choice, out, at + row);
            }
        }
    }

    /// Directions of the rows without the centre, and their products with it.
    fn centre<T: Copy + Into<f64>>(&self, values: &[T], norms: &[f64], room: &mut Room, offsets: &mut [f32]) {
        let (dims, count) = (self.quantizer.dims, norms.len());
        room.centred.resize(dims * count, 0.0);
        room.lengths.clear();
        for (i, (row, &norm)) in values.chunks_exact(dims).zip(norms).enumerate() {
            let (mut offset, mut squares) = (0.0, 0.0);
            let inverse = if norm < LEAST_NORM { 0.0 } else { 1.0 / norm };
            for (start, (row, centre)) in row.chunks(CHUNK).zip(self.quantizer.centre().chunks(CHUNK)).enumerate() {
                let place = start * CHUNK * count + i * row.len();
                for ((out, &x), &m) in room.centred[place..place + row.len()].iter_mut().zip(row).zip(centre) {
                    let (v, m) = (x.into() * inverse, f64::from(m));
                    offset += v * m;
                    squares += (v - m) * (v - m);
                    *out = (v - m) as f32;
                }
            }
            room.lengths.push(squares.sqrt());
            if norm >= LEAST_NORM {
                offsets[i] = offset as f32;
            }
        }
    }

    /// Products of the centred rows with all axes.
    fn project(&self, count: usize, room: &mut Room) {
        let dims = self.quantizer.dims;
        room.products.clear();
        room.products.resize(dims.next_multiple_of(COLUMNS) * count, 0.0);
        for (columns, out) in self.columns.chunks_exact(dims * COLUMNS).zip(room.products.chunks_exact_mut(count * COLUMNS)) {
            for (columns, rows) in columns.chunks(CHUNK * COLUMNS).zip(room.centred.chunks(CHUNK * count)) {
                (self.kernel.products)(columns, rows, columns.len() / COLUMNS, out);
            }
        }
    }

    /// Writes the codes of row `at` from its coordinates, all of which together are off by `error` at most.
    fn write(&self, coordinates: &[f32], error: f64, room: &mut Choice, out: &mut CodesMut, at: usize) {
        let (quantizer, block, lane) = (self.quantizer, at / BLOCK, at % BLOCK);
        room.choose(coordinates, &self.inverse, quantizer.leading);
        let lines = &mut out.lines[block * quantizer.block_bytes()..(block + 1) * quantizer.block_bytes()];
        let remainder = &mut out.remainder[at * quantizer.remainder_bytes()..(at + 1) * quantizer.remainder_bytes()];
        room.levels.iter().enumerate().for_each(|(j, &number)| put_level(lines, lane, j, number));
        let (pairs, others) = remainder.split_at_mut(quantizer.leading / 2);
        let (low, high) = room.beside.split_at(quantizer.leading / 2);
        pairs.iter_mut().zip(low).zip(high).for_each(|((pair, low), high)| *pair = low | high << 4);
        let (leading, trailing) = coordinates.split_at(quantizer.leading);
        others.iter_mut().zip(&room.codes[quantizer.leading..]).for_each(|(byte, &code)| *byte = code as i8 as u8);
        let coarse = length_left(leading, quantizer.steps(), &room.centres);
        let fine = length_left(coordinates, quantizer.steps(), &room.codes);
        let outside = length_left(trailing, &quantizer.steps()[quantizer.leading..], &self.zeros[quantizer.leading..]);
        let [coarse, outside, fine] = [coarse, outside, fine].map(|length| up16(length + error));
        (out.leading_residuals[at], out.trailing_residuals[at], out.remainder_residuals[at]) = (coarse, outside, fine);
    }
}

/// What stands for the coordinates of one row.
#[derive(Debug, Default)]
struct Choice {
    /// The nearest whole numbers of steps, then what the codes hold.
    codes: Vec<f32>,
    /// Of the lead: numbers of cells, where they lie, and what stands beside them.
    levels: Vec<u8>,
    centres: Vec<f32>,
    beside: Vec<u8>,
}

impl Choice {
    fn choose(&mut self, coordinates: &[f32], inverse: &[f32], leading: usize) {
        self.codes.clear();
        // The sum keeps no bits for a fraction; `round` would be a call on CPUs of any kind.
        const SHIFT: f32 = 12_582_912.0;
        self.codes.extend(coordinates.iter().zip(inverse).map(|(y, i)| (y * i).clamp(-128.0, 127.0) + SHIFT - SHIFT));
        self.levels.clear();
        self.centres.clear();
        self.beside.clear();
        for code in &mut self.codes[..leading] {
            let (number, beside) = nearest_level(*code);
            let centre = level_value(number);
            *code = centre + f32::from(beside) - f32::from(OFFSET_ZERO);
            self.levels.push(number);
            self.centres.push(centre);
            self.beside.push(beside);
        }
    }
}

/// The length of what is left of coordinates without so many steps, or a little more.
///
/// With r = y - s k, computing it errs by u (|s k| + |r|) <= u (|y| + 2 |r|), of which [`Encoder::new`] counts the
/// first; a sum of n squares errs by n u of itself, as all are positive.
fn length_left(coordinates: &[f32], steps: &[f32], kept: &[f32]) -> f64 {
    let mut sums = [0.0f32; 8];
    let left = |y: f32, step: f32, kept: f32| (y - step * kept) * (y - step * kept);
    let (y, s, k) = (coordinates.as_chunks::<8>(), steps[..coordinates.len()].as_chunks::<8>(), kept[..coordinates.len()].as_chunks::<8>());
    for ((y, s), k) in y.0.iter().zip(s.0).zip(k.0) {
        for l in 0..8 {
            sums[l] += left(y[l], s[l], k[l]);
        }
    }
    let others = y.1.iter().zip(s.1).zip(k.1).map(|((&y, &s), &k)| left(y, s, k)).sum::<f32>();
    let squares = f64::from(sums.iter().sum::<f32>() + others);
    squares.sqrt() * (1.0 + (coordinates.len() + 8) as f64 * UNIT)
}

/// Coordinate j of a row in its block's lines: dword `lane` of line j / 8 holds four low nibbles
/// for the first four coordinates of the line, four high ones for the others.
fn put_level(lines: &mut [u8], lane: usize, j: usize, nibble: u8) {
    let (line, within) = (j / LINE_DIMS, j % LINE_DIMS);
    let byte = &mut lines[line * LINE_BYTES + 4 * lane + within % 4];
    *byte |= nibble << (within / 4 * 4);
}
