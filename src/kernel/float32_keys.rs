//! Keys in float32, of [`Kernel::dot_above`](super::Kernel::dot_above) and
//! [`Kernel::minus_distance`](super::Kernel::minus_distance): one loop for every table, compiled for each kind of CPU.
//!
//! Rows of a few values are summed side by side. Others are summed [`WIDTH`] values and [`WIDTH`] rows at a time, and the
//! sums of those rows are folded together. No closures: those passed to iterator functions are not compiled for the CPU.

use super::prefetch_beyond;

/// Values of a row, and rows, at a time: a register of the smallest CPU with a kernel of its own.
pub const WIDTH: usize = 8;

/// How far ahead of loads rows are prefetched, in bytes, beyond the end of a panel too: 10 % faster at 16 dims.
const AHEAD: usize = 2048;

/// Values of a query or of rows.
pub trait Value: Copy + Default {
    /// `q x`, rounded once.
    fn product(q: Self, x: Self) -> f32;
    /// `q - x`, rounded once to float32, and in float64 before where the values are float64.
    fn difference(q: Self, x: Self) -> f32;
    /// The value, or +0.0; without a branch.
    fn only_if(self, kept: bool) -> Self;
}

impl Value for f32 {
    #[inline(always)]
    fn product(q: f32, x: f32) -> f32 {
        q * x
    }
    #[inline(always)]
    fn difference(q: f32, x: f32) -> f32 {
        q - x
    }
    #[inline(always)]
    fn only_if(self, kept: bool) -> f32 {
        f32::from_bits(self.to_bits() & u32::from(kept).wrapping_neg())
    }
}

impl Value for f64 {
    #[inline(always)]
    fn product(q: f64, x: f64) -> f32 {
        (q * x) as f32
    }
    #[inline(always)]
    fn difference(q: f64, x: f64) -> f32 {
        (q - x) as f32
    }
    #[inline(always)]
    fn only_if(self, kept: bool) -> f64 {
        f64::from_bits(self.to_bits() & u64::from(kept).wrapping_neg())
    }
}

/// What a sum adds.
pub trait Term: Copy {
    /// The term of one value of a query and of a row.
    fn of<T: Value>(self, q: T, x: T) -> f32;
}

/// `q x + slack |q x|`.
#[derive(Clone, Copy)]
pub struct DotAbove {
    /// Added to the product for each unit of its magnitude.
    pub slack: f32,
}

impl Term for DotAbove {
    #[inline(always)]
    fn of<T: Value>(self, q: T, x: T) -> f32 {
        let product = T::product(q, x);
        product + self.slack * product.abs()
    }
}

/// `-(q - x)^2`.
#[derive(Clone, Copy)]
pub struct MinusDistance;

impl Term for MinusDistance {
    #[inline(always)]
    fn of<T: Value>(self, q: T, x: T) -> f32 {
        let difference = T::difference(q, x);
        -(difference * difference)
    }
}

/// `out[i]` receives the sum of row i, inlined into a function that is compiled for its CPU.
#[inline(always)]
pub fn sums<T: Value, S: Term>(query: &[T], rows: &[T], dims: usize, out: &mut [f32], term: S) {
    match dims {
        1 => side_by_side::<T, S, 1>(query, rows, out, term),
        2 => side_by_side::<T, S, 2>(query, rows, out, term),
        3 => side_by_side::<T, S, 3>(query, rows, out, term),
        _ => {
            let done = groups(query, rows, dims, out, term);
            one_by_one(query, &rows[done * dims..], dims, &mut out[done..], term);
        }
    }
}

/// Rows of `D` values.
#[inline(always)]
fn side_by_side<T: Value, S: Term, const D: usize>(query: &[T], rows: &[T], out: &mut [f32], term: S) {
    let mut own = [T::default(); D];
    own.copy_from_slice(&query[..D]);
    let rows = &rows.as_chunks::<D>().0[..out.len()];
    for i in 0..out.len() {
        let mut sum = 0.0;
        for j in 0..D {
            sum += term.of(own[j], rows[i][j]);
        }
        out[i] = sum;
    }
}

/// The sums of the first rows, a multiple of [`WIDTH`], whose loads end within `rows`; returns how many.
#[inline(always)]
fn groups<T: Value, S: Term>(query: &[T], rows: &[T], dims: usize, out: &mut [f32], term: S) -> usize {
    let whole = dims - dims % WIDTH;
    let beyond = dims.next_multiple_of(WIDTH) - dims;
    let query = &query[..dims + beyond];
    let count = (rows.len().saturating_sub(beyond) / (WIDTH * dims)).min(out.len() / WIDTH);
    for group in 0..count {
        let rows = &rows[group * WIDTH * dims..][..WIDTH * dims + beyond];
        prefetch_beyond(&rows[..WIDTH * dims], AHEAD);
        let mut sums = [[0.0; WIDTH]; WIDTH];
        for start in (0..whole).step_by(WIDTH) {
            let q = &query[start..start + WIDTH];
            for r in 0..WIDTH {
                let x = &rows[r * dims + start..][..WIDTH];
                for l in 0..WIDTH {
                    sums[r][l] += term.of(q[l], x[l]);
                }
            }
        }
        if beyond > 0 {
            let q = &query[whole..whole + WIDTH];
            for r in 0..WIDTH {
                let x = &rows[r * dims + whole..][..WIDTH];
                for l in 0..WIDTH {
                    // The other values belong to the next row.
                    sums[r][l] += term.of(q[l], x[l].only_if(whole + l < dims));
                }
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let halves = [fold::<8>(a, e), fold::<8>(b, f), fold::<8>(c, g), fold::<8>(d, h)];
        let quarters = [fold::<4>(halves[0], halves[2]), fold::<4>(halves[1], halves[3])];
        out[group * WIDTH..][..WIDTH].copy_from_slice(&fold::<2>(quarters[0], quarters[1]));
    }
    count * WIDTH
}

/// Adds the halves of each `S` values: of `a` into the first half of the result's `S`, of `b` into the second.
#[inline(always)]
fn fold<const S: usize>(a: [f32; WIDTH], b: [f32; WIDTH]) -> [f32; WIDTH] {
    let (mut low, mut high, mut sums) = ([0.0; WIDTH], [0.0; WIDTH], [0.0; WIDTH]);
    for l in 0..WIDTH {
        (low[l], high[l]) = if l % S < S / 2 { (a[l], a[l + S / 2]) } else { (b[l - S / 2], b[l]) };
    }
    for l in 0..WIDTH {
        sums[l] = low[l] + high[l];
    }
    sums
}

#[inline(always)]
fn one_by_one<T: Value, S: Term>(query: &[T], rows: &[T], dims: usize, out: &mut [f32], term: S) {
    for r in 0..out.len() {
        let row = &rows[r * dims..][..dims];
        let mut sum = 0.0;
        for j in 0..dims {
            sum += term.of(query[j], row[j]);
        }
        out[r] = sum;
    }
}
