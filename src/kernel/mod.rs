//! Arithmetic on slices, one table of functions per kind of CPU, and the only CPU detection.
//!
//! Every function gives the same bits in every table ([`scalar`] is the definition), except where its contract leaves
//! the order of float32 sums open: [`Kernel::tile`], [`Kernel::products`], [`Kernel::dot_above`] and its
//! neighbours, [`Kernel::int8_batch`], [`Int16Row::squared`].
//!
//! A float64 sum runs in 32 virtual lanes: lane l starts at +0.0 and takes j = l, l+32, l+64, ...; then lanes are added
//! in halves (l with l+16, l+8, l+4, l+2, l+1), each step one float64 operation rounded to nearest. Multiply-add may be
//! fused only for products of two float32, which float64 holds exactly. Imports nothing of ours but the error type;
//! allocates nothing.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bits;
mod by_norm;
mod check;
mod float32_keys;
mod float_mode;
mod int16;
mod lane_max;
#[cfg(target_arch = "x86_64")]
mod narrow;
mod ordered;
mod portable;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod vector;

pub use bits::padded as padded_word;
pub use by_norm::ByNorm;
pub use float_mode::FloatMode;

use crate::error::{Error, Result};
use std::sync::OnceLock;

/// Virtual lanes of a sum; queries are padded with zeros to a multiple of this.
pub const LANES: usize = 32;

/// One query against consecutive rows: `(query, rows, dims, out)`.
///
/// `query` holds `dims` values padded with zeros to `padded(dims)`, `rows` holds `out.len()` rows
/// of `dims` values, `out[i]` receives the float64 sum for row i.
///
/// For float32 rows the values of `query` are float32 values too: their products are then exact.
pub type RowSums<T> = fn(&[f64], &[T], usize, &mut [f64]);

/// One query against consecutive rows as in [`RowSums`], summed in float32: `(query, rows, dims, out)`. `query` is padded
/// to `padded(dims)` as well.
pub type Float32Keys<T> = fn(&[T], &[T], usize, &mut [f32]);

/// The same with the slack of [`Kernel::dot_above`]: `(query, rows, dims, slack, out)`.
pub type Float32KeysAbove<T> = fn(&[T], &[T], usize, f32, &mut [f32]);

/// The same against the rows at some places, which may repeat: `(query, rows, dims, places, out)`.
pub type RowSumsAt = fn(&[f64], &[f32], usize, &[u32], &mut [f64]);

/// Which rows may matter to which queries; the contract stands at [`Kernel::tile`].
pub type TileKeep = fn(&Tile, &[f32], usize, &[f32], &[f32], &mut [u32]);

/// A tile of queries for [`Kernel::tile`]: up to `width` of them, the remaining columns idle.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Columns: 16 or 32.
    pub width: usize,
    /// Value j of query i stands at `[j * width + i]`; idle columns are zero.
    pub columns: &'a [f32],
    /// For each column, the factor of a row's norm.
    pub slope: &'a [f32],
    /// For each column, the threshold of its query; `f32::INFINITY` keeps no row.
    pub threshold: &'a [f32],
}

/// A query for [`Kernel::bounds`]: its coordinates as int16 `256 * high + low`, a multiple of 8 of them, in two planes of
/// signed bytes, and the terms of a bound.
#[derive(Debug, Clone, Copy)]
pub struct CoarseQuery<'a> {
    /// High bytes.
    pub high: &'a [i8],
    /// Low bytes; empty where all are 0.
    pub low: &'a [i8],
    /// Subtracted from the sum of cells times high bytes: [`LEVEL_ZERO`] times the sum of these bytes.
    pub high_sum: i32,
    /// Subtracted from the sum of cells times low bytes.
    pub low_sum: i32,
    /// Score of one unit of those sums, `256 * high + low`.
    pub step: f32,
    /// Added to every bound.
    pub base: f32,
    /// Factor of a row's residual norm over the leading dims.
    pub leading: f32,
    /// Factor of a row's residual norm over the trailing dims.
    pub trailing: f32,
}

/// Rows for [`Kernel::bounds`], whole blocks of 16.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// 64 bytes for 8 coordinates of a block. Dword i belongs to row i: its low nibbles are the first four coordinates,
    /// its high nibbles the others, each an index into [`RECONSTRUCTION`].
    pub codes: &'a [u8],
    /// Added to a row's bound.
    pub offsets: &'a [f32],
    /// Residual norms over the leading dims, the upper 16 bits of float32.
    pub leading: &'a [u16],
    /// Residual norms over the trailing dims, the upper 16 bits of float32.
    pub trailing: &'a [u16],
    /// Codes that the next call reads, to be prefetched; empty where they follow these in memory.
    pub next: &'a [u8],
}

/// Up to 16 queries for [`Kernel::int8_batch`], their coordinates as int16 and as two planes of signed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Int8Batch<'a> {
    /// Coordinates of a query, a multiple of 8. Coordinate j of query i stands at `[i * unpacked_stride(dims) + j]` of the next
    /// three, which hold 16 queries; unused places are 0.
    pub dims: usize,
    /// The coordinates, `256 * high + low`, of magnitude 32,639 at most.
    pub words: &'a [i16],
    /// Their high bytes.
    pub high: &'a [i8],
    /// Their low bytes.
    pub low: &'a [i8],
    /// The terms of a bound, for each query.
    pub factors: &'a [BoundFactors],
}

/// The terms of a bound of [`Kernel::int8_batch`] that depend on the query.
#[derive(Debug, Clone, Copy)]
pub struct BoundFactors {
    /// Subtracted from the sum of codes times high bytes: 128 times the sum of these bytes.
    pub high_sum: i32,
    /// Subtracted from the sum of codes times low bytes.
    pub low_sum: i32,
    /// Score of one unit of those sums, `256 * high + low`.
    pub step: f32,
    /// Added to every bound.
    pub base: f32,
    /// Factor of a row's residual norm.
    pub residual: f32,
    /// The query's threshold: rows whose bound is below it are dropped.
    pub threshold: f32,
}

/// Rows for [`Kernel::int8_batch`], whole blocks of 16, as [`Kernel::unpack_codes`] lays them out.
#[derive(Debug, Clone, Copy)]
pub struct UnpackedCodes<'a> {
    /// For each block `unpacked_stride(dims) / 4` times 64 bytes, whose dword i holds four codes, 0 to 255, of row i.
    pub codes: &'a [u8],
    /// Added to a row's bound.
    pub offsets: &'a [f32],
    /// Residual norms.
    pub residuals: &'a [f32],
}

/// The coordinates in which [`Kernel::int16`] quantises a row: `(row[j] * scale - centre[j]) * steps[j]`. Centre and steps
/// are padded with zeros to `unpacked_stride(dims)`.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Factor of every value.
    pub scale: f32,
    /// Subtracted from the scaled values.
    pub centre: &'a [f32],
    /// Factors of the centred values.
    pub steps: &'a [f32],
}

/// Where [`Kernel::int16`] writes one query of a [`Int8Batch`]: `unpacked_stride(dims)` values each, those beyond `dims` 0 before
/// and after.
#[derive(Debug)]
pub struct Planes<'a> {
    /// The coordinates, `256 * high + low`.
    pub words: &'a mut [i16],
    /// Their high bytes.
    pub high: &'a mut [i8],
    /// Their low bytes.
    pub low: &'a mut [i8],
}

/// What [`Kernel::int16`] returns of a row.
#[derive(Debug, Clone, Copy)]
pub struct Int16Row {
    /// Value of one unit of a quantised coordinate; NaN where the row is too large to be quantised, and so has no bounds.
    pub step: f32,
    /// The sum of the squares of the centred values, in float32 in any order.
    pub squared: f32,
    /// The sum of the high bytes.
    pub high_sum: i32,
    /// The sum of the low bytes.
    pub low_sum: i32,
}

/// 64 bytes in one cache line: [`Int8Batch`] and [`UnpackedCodes`] need no alignment, but a load that crosses lines takes twice the time.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

// SAFETY: an array of bytes, as long as it is aligned: all bits are valid, and none is padding.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Prefetches the cache lines of `values`.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    prefetch_beyond(values, 0);
}

/// Prefetches as many cache lines as `values` fill, from `bytes` after their start on.
#[inline(always)]
fn prefetch_beyond<T>(values: &[T], bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(values)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64 CPU, and a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(bytes + at)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, bytes);
}

/// `dims` rounded up to a multiple of 64, the bytes of a register of codes.
pub fn unpacked_stride(dims: usize) -> usize {
    dims.next_multiple_of(64)
}

/// The sixteen reconstruction levels of a 4-bit code, plus [`LEVEL_ZERO`]: the levels of least squared error for a normal
/// variable (Max, 1960) in units of 0.044 standard deviations. Below 128, so that two products with signed bytes fit int16.
pub const RECONSTRUCTION: [u8; 16] = [1, 16, 26, 35, 42, 49, 55, 61, 67, 73, 79, 86, 93, 102, 112, 127];
/// The level of value 0 in [`RECONSTRUCTION`].
pub const LEVEL_ZERO: u8 = 64;
/// The 4-bit refinement, 0 to 15, of a value at its level: refinements reach from 8 units below it to 7 above.
pub const OFFSET_ZERO: u8 = 8;
/// Added by [`Kernel::unpack_codes`] to a level plus its refinement, so that value 0 becomes 128.
const LEVEL_TO_BYTE: u8 = 128 - LEVEL_ZERO - OFFSET_ZERO;

/// Columns of [`Kernel::products`], [`Kernel::ordered`] and [`Kernel::rotate`].
pub const COLUMNS: usize = 32;

/// Rows side by side of [`Kernel::hamming_columns`].
pub const BLOCK_ROWS: usize = 8;

/// The same word of so many rows.
pub type Column = [u64; BLOCK_ROWS];

/// Most queries of [`Kernel::int8_batch`].
pub const BATCH: usize = 16;

/// The functions for one kind of CPU, chosen once and called per block of rows.
#[derive(Debug)]
pub struct Kernel {
    /// Name in `NSEEKFS_KERNEL` and `simd_info`.
    pub name: &'static str,
    /// `sum q_j x_j` of float32 rows.
    pub dot: RowSums<f32>,
    /// `sum q_j x_j` of float64 rows, never fused.
    pub dot_f64: RowSums<f64>,
    /// `sum (q_j - x_j)^2` of float32 rows, never fused.
    pub squared_distance: RowSums<f32>,
    /// [`Kernel::dot`] of the rows at some places: faster than one call for each.
    pub dot_at: RowSumsAt,
    /// [`Kernel::squared_distance`] of the rows at some places.
    pub squared_distance_at: RowSumsAt,
    /// `sum (q_j - x_j)^2` of float64 rows, never fused.
    pub squared_distance_f64: RowSums<f64>,
    /// `sum x_j^2` of float32 rows: `(rows, dims, out)`.
    pub squared_norm: fn(&[f32], usize, &mut [f64]),
    /// `sum x_j^2` of float64 rows, never fused: `(rows, dims, out)`.
    pub squared_norm_f64: fn(&[f64], usize, &mut [f64]),
    /// `sum (q_j x_j + slack |q_j x_j|)` of float32 rows in float32 in any order: every product and every sum is rounded
    /// once, or fused with the next.
    pub dot_above: Float32KeysAbove<f32>,
    /// The same of float64 rows: `q_j x_j` is a float64 product, then rounded to float32.
    pub dot_above_f64: Float32KeysAbove<f64>,
    /// `-sum (q_j - x_j)^2` of float32 rows in float32 in any order: every difference, square and sum is rounded once, or
    /// fused with the next. Minus infinity where the sum is beyond float32.
    pub minus_distance: Float32Keys<f32>,
    /// The same of float64 rows: `q_j - x_j` is a float64 difference, then rounded to float32.
    pub minus_distance_f64: Float32Keys<f64>,
    /// Replaces values by functions of them and of norms: `(terms, norms, values)`, equal lengths. The float64 result, of eight
    /// roundings, is rounded to a float32 that is not below, nor two units in the last place above: the same bits on every CPU.
    pub by_norm: fn(&ByNorm, &[f64], &mut [f32]),
    /// IEEE 754 binary16 bits to float32, exactly: `(codes, out)`, equal lengths.
    pub decode_f16: fn(&[u16], &mut [f32]),
    /// `scale * code` rounded once to float32: `(codes, scales, dims, out)`, a scale a row.
    pub decode_f8: fn(&[i8], &[f32], usize, &mut [f32]),
    /// Which rows may matter to which queries: `(tile, rows, dims, norms, halves, keep)`.
    ///
    /// `s` being `sum q_j x_j` in float32 in any order of summation, fused or not, bit i of `keep[r]`
    /// is set exactly when `(s + slope[i] * norms[r]) - halves[r] >= threshold[i]`, evaluated in float32
    /// with at most three roundings after `s`. Bits from `width` up are 0.
    pub tile: TileKeep,
    /// Products of rows with [`COLUMNS`] columns, added to what is there: `(columns, rows, dims, out)`.
    ///
    /// Value j of column i stands at `columns[j * COLUMNS + i]`, `rows` holds rows of `dims` values, and
    /// `sum x_j c_j`, summed from 0 in float32 in any order, fused or not, is then added to `out[row * COLUMNS + i]`: one
    /// rounding of the total, so that the error of many calls grows with their number and not with all dims.
    pub products: fn(&[f32], &[f32], usize, &mut [f32]),
    /// The same sums in place of what is there, each from +0.0 in the order of j, every product and every sum rounded
    /// by itself: the same bits on every CPU.
    pub ordered: fn(&[f32], &[f32], usize, &mut [f32]),
    /// `sum x_j c_j` of int16 rows with [`COLUMNS`] int16 columns, modulo 2^32: `(columns, rows, out)`.
    ///
    /// Values 2p and 2p + 1 of column i stand at `columns[2 * (p * COLUMNS + i)..]`, `rows` holds rows of as many values as
    /// a column, an even number; `out` receives [`COLUMNS`] sums a row. No value is -32,768.
    pub rotate: fn(&[i16], &[i16], &mut [i32]),
    /// Upper bounds of all rows for each query in turn: `(probes, lines, out)`.
    ///
    /// `s_high` and `s_low` being the exact sums of [`RECONSTRUCTION`] times bytes of a plane, less `high_sum` and `low_sum`:
    /// `(256 * s_high + s_low) * step + (offset + base) + leading * row leading + trailing * row trailing`, in float32, every operation
    /// rounded by itself, left to right: the same bits on every CPU.
    pub bounds: fn(&[CoarseQuery], &Lines, &mut [f32]),
    /// The indices of bounds that are not below a threshold: `(bounds, threshold, indices)`, `indices` being as long as
    /// `bounds`.
    ///
    /// The indices, ascending, are written to the front of `indices`, and their number is returned; the rest of `indices`
    /// is unspecified. NaN counts as not below.
    pub at_least: fn(&[f32], f32, &mut [u32]) -> usize,
    /// For each lane, the largest of `most` and of its bounds below infinity: `(bounds, most)`. Bound i belongs to lane
    /// `i % most.len()`; there is one lane at least.
    pub lane_max: fn(&[f32], &mut [f32]),
    /// `sum code * coordinate` over the codes that a row has besides those of [`Lines`]: `(coordinates, half, codes)`, an
    /// exact integer.
    ///
    /// The first `half` bytes of `codes` hold two refinements of 0 to 15: low nibbles belong to coordinates 0 to `half`,
    /// high nibbles to the next `half`. The other bytes are signed codes of the coordinates after these. Coordinates are
    /// of magnitude 32,639 at most.
    pub remainder_dot: fn(&[i16], usize, &[u8]) -> i64,
    /// All codes of one block as bytes of 0 to 255, laid out as in [`UnpackedCodes`]: `(lines, remainder, remainder bytes a row, leading, out)`.
    ///
    /// `lines` are those of [`Lines`], of `leading` coordinates, `remainder` the codes of [`Kernel::remainder_dot`] with `half = leading / 2`.
    /// A coordinate of `lines` becomes its level plus its refinement, so that value 0 is 128; 128 is added to signed codes.
    /// `remainder` may hold fewer than 16 rows: the lanes of the others are unspecified, as are coordinates beyond the last.
    pub unpack_codes: fn(&[u8], &[u8], usize, usize, &mut [u8]),
    /// Which rows may matter to which queries: `(int8_batch, wide, bounds, keep)`.
    ///
    /// `s_high` and `s_low` being the exact sums of codes times bytes of a plane, less `high_sum` and `low_sum`, the bound of
    /// a row for a query is `(256 * s_high + s_low) * step + (offset + base) + residual * row residual`, in float32 with at
    /// most a dozen roundings, fused or not. A kernel may split `256 * s_high + s_low` into other parts that are no larger.
    /// Bit r of `keep[16 * block + i]` is set unless the bound of the block's row r for query i is below the threshold. Where
    /// any bit is set, the 16 bounds are written to `bounds[16 * (16 * block + i)..]`.
    pub int8_batch: fn(&Int8Batch, &UnpackedCodes, &mut [f32], &mut [u16]),
    /// Quantises a row to a query of [`Kernel::int8_batch`]: `(row, frame, planes)`.
    ///
    /// Coordinate j is `v[j] * steps[j] / step` rounded to an integer, within 0.508 of the exact quotient; `v[j]` is
    /// `row[j] * scale - centre[j]` with two float32 roundings.
    pub int16: fn(&[f32], &Affine, &mut Planes) -> Int16Row,
    /// The number of bits in which each row differs from a query: `(query, rows, bytes of a row, out)`; returns the least.
    ///
    /// `query` is a row's bytes as little-endian words, the last one padded with zeros.
    pub hamming: fn(&[u64], &[u8], usize, &mut [u32]) -> u32,
    /// The same of [`BLOCK_ROWS`] rows side by side: `(query, columns, out)`; returns the least.
    ///
    /// Word w of row r of a block stands at `columns[block * query.len() + w][r]`.
    pub hamming_columns: fn(&[u64], &[Column], &mut [u32]) -> u32,
}

/// `dims` rounded up to whole lanes.
pub fn padded(dims: usize) -> usize {
    dims.next_multiple_of(LANES)
}

/// The tables that this CPU can run, slowest first: of each name the fastest.
pub fn available() -> Vec<&'static Kernel> {
    let mut tables = runnable();
    // The later of two neighbours of one name is the faster.
    tables.dedup_by(|later, kept| {
        let same = later.name == kept.name;
        if same {
            *kept = later;
        }
        same
    });
    tables
}

/// All tables that this CPU can run, slowest first, including those that a faster one of the same name replaces.
pub fn runnable() -> Vec<&'static Kernel> {
    let mut tables = vec![&scalar::KERNEL, &portable::KERNEL];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("popcnt")
        {
            tables.push(&avx2::KERNEL);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                tables.push(&avx512::KERNEL);
                if is_x86_feature_detected!("avx512vnni") {
                    tables.extend(avx512::with_vnni(is_x86_feature_detected!("avx512vpopcntdq")));
                }
            }
        }
    }
    tables
}

/// The table in use: the fastest, or the one that the environment variable `NSEEKFS_KERNEL` names.
///
/// # Errors
/// [`Error::Input`] when the variable names a table that is unknown or that this CPU cannot run.
pub fn selected() -> Result<&'static Kernel> {
    static CHOICE: OnceLock<std::result::Result<&'static Kernel, String>> = OnceLock::new();
    let choice = CHOICE.get_or_init(|| {
        let tables = available();
        match std::env::var_os("NSEEKFS_KERNEL") {
            None => Ok(tables[tables.len() - 1]),
            Some(name) => {
                let found = tables.iter().find(|table| name == table.name);
                found.copied().ok_or_else(|| name.to_string_lossy().into_owned())
            }
        }
    });
    choice.as_ref().copied().map_err(|name| {
        let names: Vec<&str> = available().iter().map(|table| table.name).collect();
        Error::input("NSEEKFS_KERNEL", format!("a kernel that this CPU can run: {}", names.join(", ")), format!("{name:?}"))
    })
}
