//! Arithmetic on slices, one table of functions per kind of CPU, and the only CPU detection.
//!
//! Every function gives the same bits in every table ([`scalar`] is the definition), except
//! [`Kernel::tile`], which may keep other rows but never drops one that its contract protects. A
//! sum runs in 32 virtual lanes: lane l starts at +0.0 and takes j = l, l+32, l+64, ...; then lanes
//! are added in halves (l with l+16, l+8, l+4, l+2, l+1), each step one float64 operation rounded
//! to nearest. Multiply-add may be fused only for products of two float32, which float64 holds
//! exactly. Imports nothing of ours but the error type; allocates nothing.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod check;
mod float_mode;
mod int16;
mod lane_max;
mod ordered;
mod portable;
pub mod scalar;

pub use float_mode::FloatMode;

use crate::error::{Error, Result};
use check::{
    check_at_least, check_bounds, check_decode_f8, check_int8_batch, check_norms, check_products, check_remainder, check_rotate,
    check_sums, check_tile, check_unpack_codes,
};
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

/// Which rows may matter to which queries; the contract stands at [`Kernel::tile`].
pub type TileKeep = fn(&Tile, &[f32], usize, &[f32], &[f32], &mut [u32]);

/// A tile of queries for [`Kernel::tile`]: up to `width` of them, the remaining columns idle.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Columns: 16 or 32.
    pub width: usize,
    /// Value j of query i stands at `[j * width + i]`; idle columns are zero.
    pub columns: &'a [f32],
    /// Factor of a row's norm, a query each (`width` of them).
    pub slope: &'a [f32],
    /// What a row must reach, a query each (`width` of them); `f32::INFINITY` idles a column.
    pub threshold: &'a [f32],
}

/// A query for [`Kernel::bounds`]: its quantised coordinates in two signed byte planes, a multiple
/// of 8 of them, and the factors of a bound.
#[derive(Debug, Clone, Copy)]
pub struct CoarseQuery<'a> {
    /// High bytes.
    pub high: &'a [i8],
    /// Low bytes; empty where all are 0.
    pub low: &'a [i8],
    /// Taken off the high plane's sum.
    pub high_sum: i32,
    /// Taken off the low plane's sum.
    pub low_sum: i32,
    /// What one unit of `256 * high + low` is worth.
    pub step: f32,
    /// Added to every bound.
    pub base: f32,
    /// Factor of a row's lead residual.
    pub leading: f32,
    /// Factor of a row's tail residual.
    pub trailing: f32,
}

/// Rows for [`Kernel::bounds`], whole blocks of 16.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// 64 bytes for 8 coordinates of a block; dword i belongs to row i: low nibbles for the first
    /// four coordinates, high nibbles for the others, each the number of one of [`RECONSTRUCTION`].
    pub codes: &'a [u8],
    /// Added to a row's bound.
    pub offsets: &'a [f32],
    /// Upper halves of float32.
    pub leading: &'a [u16],
    /// Upper halves of float32.
    pub trailing: &'a [u16],
    /// The codes of the rows that come next, to be asked for meanwhile; none where they lie behind these.
    pub next: &'a [u8],
}

/// Up to 16 queries for [`Kernel::int8_batch`], their quantised coordinates whole numbers of 16 bits, as
/// words and as two signed byte planes.
#[derive(Debug, Clone, Copy)]
pub struct Int8Batch<'a> {
    /// Coordinates a query, a multiple of 8. Coordinate j of query i stands at
    /// `[i * unpacked_stride(dims) + j]` of the next three; zeros fill up to 16 whole rows.
    pub dims: usize,
    /// The whole numbers, `256 * high + low`, of magnitude 32,639 at most.
    pub words: &'a [i16],
    /// Their high bytes.
    pub high: &'a [i8],
    /// Their low bytes.
    pub low: &'a [i8],
    /// What turns sums into bounds, a query each; queries beyond it are idle.
    pub factors: &'a [BoundFactors],
}

/// What [`Kernel::int8_batch`] makes of the sums of one query.
#[derive(Debug, Clone, Copy)]
pub struct BoundFactors {
    /// Taken off the sum of codes times high bytes.
    pub high_sum: i32,
    /// Taken off the sum of codes times low bytes.
    pub low_sum: i32,
    /// What one unit of a whole number is worth.
    pub step: f32,
    /// Added to every bound.
    pub base: f32,
    /// Factor of a row's residual.
    pub residual: f32,
    /// What a bound must reach.
    pub threshold: f32,
}

/// Rows for [`Kernel::int8_batch`], whole blocks of 16, as [`Kernel::unpack_codes`] lays them out.
#[derive(Debug, Clone, Copy)]
pub struct UnpackedCodes<'a> {
    /// For each block `unpacked_stride(dims) / 4` times 64 bytes, whose dword i holds four codes, 0 to 255, of
    /// row i.
    pub codes: &'a [u8],
    /// Added to a row's bound.
    pub offsets: &'a [f32],
    /// A row each.
    pub residuals: &'a [f32],
}

/// How [`Kernel::words`] sees a row: value j becomes `row[j] * scale - centre[j]`, in units of `1 / steps[j]`.
/// Centre and steps are padded with zeros to `unpacked_stride(dims)`.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Factor of every value.
    pub scale: f32,
    /// Taken off the scaled values.
    pub centre: &'a [f32],
    /// Factors of the centred values.
    pub steps: &'a [f32],
}

/// Where [`Kernel::words`] puts one query of a [`Int8Batch`]: `unpacked_stride(dims)` numbers each, those beyond
/// `dims` zero before and after.
#[derive(Debug)]
pub struct Planes<'a> {
    /// The whole numbers.
    pub words: &'a mut [i16],
    /// Their high bytes.
    pub high: &'a mut [i8],
    /// Their low bytes.
    pub low: &'a mut [i8],
}

/// What [`Kernel::words`] tells of a row.
#[derive(Debug, Clone, Copy)]
pub struct Int16Row {
    /// What one unit of a word is worth; NaN where the row has no words, and so no bounds.
    pub step: f32,
    /// The sum of the centred values' squares, in float32 in any order.
    pub squared: f32,
    /// The sum of the high bytes.
    pub high_sum: i32,
    /// The sum of the low bytes.
    pub low_sum: i32,
}

/// 64 bytes that lie in one cache line: rows of [`Int8Batch`] and [`UnpackedCodes`] may start anywhere, but a load
/// that crosses lines costs twice.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

// SAFETY: an array of bytes, as long as it is aligned: all bits are valid, and none is padding.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Asks for the cache lines of some values that are soon to be read; only a hint.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(values)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a part of every x86-64 CPU, and it touches nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(at)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// `dims` rounded up to whole 64-byte registers of codes.
pub fn unpacked_stride(dims: usize) -> usize {
    dims.next_multiple_of(64)
}

/// Where the sixteen cells of a coordinate's code lie, in steps of the code, [`LEVEL_ZERO`] being 0: close
/// together where values are dense, after the levels that serve a normal variable best (Max, 1960) at steps
/// of 0.044 deviations. Below 128, so that two products with signed bytes fit int16.
pub const RECONSTRUCTION: [u8; 16] = [1, 16, 26, 35, 42, 49, 55, 61, 67, 73, 79, 86, 93, 102, 112, 127];
/// See [`RECONSTRUCTION`].
pub const LEVEL_ZERO: u8 = 64;
/// What stands beside a cell for a code in its middle; codes are 0 to 15, so from 8 below to 7 above.
pub const OFFSET_ZERO: u8 = 8;
/// What [`Kernel::unpack_codes`] adds to a cell and what stands beside it, so that a code of 0 becomes 128.
const LEVEL_TO_BYTE: u8 = 128 - LEVEL_ZERO - OFFSET_ZERO;

/// Columns that [`Kernel::products`], [`Kernel::ordered`] and [`Kernel::rotate`] take at a time.
pub const COLUMNS: usize = 32;

/// Queries that [`Kernel::int8_batch`] takes at a time.
pub const BATCH: usize = 16;

/// What one kind of CPU does, resolved once and called per block of rows.
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
    /// `sum (q_j - x_j)^2` of float64 rows, never fused.
    pub squared_distance_f64: RowSums<f64>,
    /// `sum x_j^2` of float32 rows: `(rows, dims, out)`.
    pub squared_norm: fn(&[f32], usize, &mut [f64]),
    /// `sum x_j^2` of float64 rows, never fused: `(rows, dims, out)`.
    pub squared_norm_f64: fn(&[f64], usize, &mut [f64]),
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
    /// `sum x_j c_j`, in float32 in any order of summation, fused or not, is added to `out[row * COLUMNS + i]`.
    pub products: fn(&[f32], &[f32], usize, &mut [f32]),
    /// The same sums in place of what is there, each from +0.0 in the order of j, every product and every sum rounded
    /// by itself: the same bits on every CPU.
    pub ordered: fn(&[f32], &[f32], usize, &mut [f32]),
    /// `sum w_j a_j` of rows of words with [`COLUMNS`] columns of words, modulo 2^32: `(columns, rows, out)`.
    ///
    /// Values 2p and 2p + 1 of column i stand at `columns[2 * (p * COLUMNS + i)..]`, `rows` holds rows of as many
    /// values as a column, an even number; row after row goes to `out`, [`COLUMNS`] sums each. No word is -32,768.
    pub rotate: fn(&[i16], &[i16], &mut [i32]),
    /// An upper bound a row, probe after probe: `(probes, lines, out)`.
    ///
    /// With `s` the exact sums of cells times plane bytes, less `high_sum` and `low_sum`:
    /// `(256 * s_high + s_low) * step + (offset + base) + leading * row leading + trailing * row trailing`, in
    /// float32, every operation rounded by itself, left to right: the same bits on every CPU.
    pub bounds: fn(&[CoarseQuery], &Lines, &mut [f32]),
    /// Which bounds are not below a floor: `(bounds, threshold, places)`, `places` being as long as `bounds`.
    ///
    /// Their places, in order, are written to the front of `places`; how many there are is returned, and what
    /// stands behind them is left open. A bound that is no number is not below anything.
    pub at_least: fn(&[f32], f32, &mut [u32]) -> usize,
    /// The highest finite bounds of as many lanes as `most` is long, at least one: bound i is of lane `i % most.len()`;
    /// what is not below it stays: `(bounds, most)`.
    pub lane_max: fn(&[f32], &mut [f32]),
    /// `sum code * word` of what lies beside a row's lines: `(words, half, codes)`, an exact integer.
    ///
    /// The first `half` bytes of `codes` hold two codes of 0 to 15 each, the low nibbles those of words
    /// 0 to `half`, the high ones those of the next `half` words; the other bytes are signed codes of
    /// the words after. Words are of magnitude 32,639 at most.
    pub remainder_dot: fn(&[i16], usize, &[u8]) -> i64,
    /// All codes of one block as bytes of 0 to 255: `(lines, remainder, remainder bytes a row, leading, out)`.
    ///
    /// `lines` as in [`Lines`], of `leading` coordinates; what stands beside the cells of coordinates
    /// `j < leading / 2` of a row are the low nibbles of the first `leading / 2` bytes of its rest, beside those of
    /// as many more their high ones, and the other bytes are signed codes. 128 is added to all. `remainder` may
    /// hold fewer than 16 rows; what the lanes of the others receive is left open, and so are
    /// coordinates beyond the last.
    pub unpack_codes: fn(&[u8], &[u8], usize, usize, &mut [u8]),
    /// Which rows may matter to which queries: `(int8_batch, wide, bounds, keep)`.
    ///
    /// With `s` the exact sums of codes times plane bytes, less `high_sum` and `low_sum`, a row's bound
    /// for a query is `(256 * s_high + s_low) * step + (offset + base) + residual * row residual`, in
    /// float32 with at most a dozen roundings, fused or not; other `s_high` and `s_low` of the
    /// same `256 * s_high + s_low`, no larger than these may be, will do. Bit r of `keep[16 * block + i]`
    /// is set unless the bound of the block's row r for query i is below its floor; then the bounds of
    /// that block for query i are written to `bounds[16 * (16 * block + i)..]`.
    pub int8_batch: fn(&Int8Batch, &UnpackedCodes, &mut [f32], &mut [u16]),
    /// A row as a query of [`Kernel::int8_batch`]: `(row, frame, planes)`.
    ///
    /// With `v` the centred values, each two roundings in float32 off, word j is `v[j] * steps[j] / step`
    /// rounded to a whole number, within 0.508 of the exact one.
    pub int16: fn(&[f32], &Affine, &mut Planes) -> Int16Row,
}

/// `dims` rounded up to whole lanes.
pub fn padded(dims: usize) -> usize {
    dims.next_multiple_of(LANES)
}

/// The tables that this CPU can run, slowest first: the best of each name.
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

/// All tables that this CPU can run, slowest first, those too that a faster one of their name replaces.
pub fn runnable() -> Vec<&'static Kernel> {
    let mut tables = vec![&scalar::KERNEL, &portable::KERNEL];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            tables.push(&avx2::KERNEL);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                tables.push(&avx512::KERNEL);
                if is_x86_feature_detected!("avx512vnni") {
                    tables.extend(avx512::with_vnni());
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
