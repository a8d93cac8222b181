//! The checks of lengths, which panic, and the macro that puts them before the functions of a table. Functions may index
//! freely after them.

use super::{
    Affine, BATCH, BLOCK_ROWS, ByNorm, COLUMNS, CoarseQuery, Column, Int8Batch, Lines, Planes, Tile, UnpackedCodes, padded, unpacked_stride,
};

/// A function of a table: it checks lengths, then steps into `$function`, which may be compiled for one kind of CPU.
macro_rules! checked {
    ($check:ident, $function:path, $($argument:ident),*) => {
        |$($argument),*| {
            $crate::kernel::check::$check($($argument),*);
            // SAFETY: the lengths fit, and `runnable` lists a table only where the CPU has the features that its
            // functions are compiled for.
            unsafe { $function($($argument),*) }
        }
    };
}
pub(super) use checked;

/// The table of the calling module, where each function stands under its field's name.
macro_rules! table {
    ($(#[$doc:meta])* $name:literal) => {
        $(#[$doc])*
        #[allow(unused_unsafe, reason = "functions that are compiled for any CPU need none")]
        pub static KERNEL: $crate::kernel::Kernel = $crate::kernel::Kernel {
            name: $name,
            dot: checked!(check_sums, dot, query, rows, dims, out),
            dot_f64: checked!(check_sums, dot_f64, query, rows, dims, out),
            squared_distance: checked!(check_sums, squared_distance, query, rows, dims, out),
            squared_distance_f64: checked!(check_sums, squared_distance_f64, query, rows, dims, out),
            dot_at: checked!(check_sums_at, dot_at, query, rows, dims, places, out),
            squared_distance_at: checked!(check_sums_at, squared_distance_at, query, rows, dims, places, out),
            squared_norm: checked!(check_norms, squared_norm, rows, dims, out),
            squared_norm_f64: checked!(check_norms, squared_norm_f64, rows, dims, out),
            dot_above: checked!(check_above, dot_above, query, rows, dims, slack, out),
            dot_above_f64: checked!(check_above, dot_above_f64, query, rows, dims, slack, out),
            minus_distance: checked!(check_minus, minus_distance, query, rows, dims, out),
            minus_distance_f64: checked!(check_minus, minus_distance_f64, query, rows, dims, out),
            by_norm: checked!(check_by_norm, by_norm, terms, norms, values),
            decode_f16: checked!(check_decode_f16, decode_f16, codes, out),
            decode_f8: checked!(check_decode_f8, decode_f8, codes, scales, dims, out),
            tile: checked!(check_tile, tile, queries, rows, dims, norms, halves, keep),
            products: checked!(check_products, products, columns, rows, dims, out),
            ordered: checked!(check_products, ordered, columns, rows, dims, out),
            rotate: checked!(check_rotate, rotate, columns, rows, out),
            bounds: checked!(check_bounds, bounds, probes, lines, out),
            at_least: checked!(check_at_least, at_least, bounds, threshold, places),
            lane_max: checked!(check_lane_max, lane_max, bounds, most),
            remainder_dot: checked!(check_remainder_dot, remainder_dot, words, half, codes),
            unpack_codes: checked!(check_unpack_codes, unpack_codes, lines, remainder, remainder_bytes, leading, out),
            int8_batch: checked!(check_int8_batch, int8_batch, queries, wide, bounds, keep),
            int16: checked!(check_int16, int16, row, frame, planes),
            hamming: checked!(check_hamming, hamming, query, rows, row_bytes, out),
            hamming_columns: checked!(check_hamming_columns, hamming_columns, query, columns, out),
        };
    };
}
pub(super) use table;

/// The lengths of `Kernel::int8_batch`.
#[inline(always)]
pub(super) fn check_int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &[f32], keep: &[u16]) {
    let stride = unpacked_stride(int8_batch.dims);
    assert!(int8_batch.dims > 0 && int8_batch.dims.is_multiple_of(8) && int8_batch.factors.len() <= BATCH);
    assert!(int8_batch.words.len() == BATCH * stride && int8_batch.high.len() == BATCH * stride && int8_batch.low.len() == BATCH * stride);
    let rows = wide.offsets.len();
    assert!(rows.is_multiple_of(16) && wide.residuals.len() == rows);
    assert!(wide.codes.len() == rows * stride && bounds.len() == rows * BATCH && keep.len() == rows);
}

/// The lengths of `Kernel::remainder`; also keeps int32 lanes from overflowing.
#[inline(always)]
pub(super) fn check_remainder_dot(words: &[i16], half: usize, codes: &[u8]) {
    assert!(half <= codes.len() && words.len() == codes.len() + half && words.len() <= 4096);
}

/// The lengths of `Kernel::unpack_codes`.
#[inline(always)]
pub(super) fn check_unpack_codes(lines: &[u8], remainder: &[u8], remainder_bytes: usize, leading: usize, out: &[u8]) {
    assert!(leading > 0 && leading.is_multiple_of(8) && lines.len() == 8 * leading && remainder_bytes >= leading / 2);
    assert!(out.len() == 16 * unpacked_stride(leading / 2 + remainder_bytes));
    assert!(remainder.len().is_multiple_of(remainder_bytes) && (1..=16).contains(&(remainder.len() / remainder_bytes)));
}

/// The lengths of `Kernel::bounds`.
#[inline(always)]
pub(super) fn check_bounds(probes: &[CoarseQuery], lines: &Lines, out: &[f32]) {
    let rows = lines.offsets.len();
    assert!(rows.is_multiple_of(16) && lines.leading.len() == rows && lines.trailing.len() == rows && out.len() == probes.len() * rows);
    for probe in probes {
        assert!(probe.high.len().is_multiple_of(8) && (probe.low.len() == probe.high.len() || probe.low.is_empty()));
        assert!(lines.codes.len() == rows / 16 * (probe.high.len() / 8) * 64);
    }
}

/// The lengths of `Kernel::at_least`.
#[inline(always)]
pub(super) fn check_at_least(bounds: &[f32], _threshold: f32, places: &[u32]) {
    assert!(places.len() == bounds.len() && bounds.len() <= u32::MAX as usize);
}

/// The lengths of `Kernel::products` and `Kernel::ordered`.
#[inline(always)]
pub(super) fn check_products(columns: &[f32], rows: &[f32], dims: usize, out: &[f32]) {
    assert!(dims > 0 && columns.len() == dims * COLUMNS && out.len().is_multiple_of(COLUMNS));
    assert!(rows.len() == out.len() / COLUMNS * dims);
}

/// The lengths of `Kernel::rotate`.
#[inline(always)]
pub(super) fn check_rotate(columns: &[i16], rows: &[i16], out: &[i32]) {
    let dims = columns.len() / COLUMNS;
    assert!(dims > 0 && dims.is_multiple_of(2) && columns.len() == dims * COLUMNS && out.len().is_multiple_of(COLUMNS));
    assert!(rows.len() == out.len() / COLUMNS * dims);
}

/// The lengths of `RowSums`.
#[inline(always)]
pub(super) fn check_sums<T>(query: &[f64], rows: &[T], dims: usize, out: &[f64]) {
    assert!(dims > 0 && query.len() == padded(dims) && rows.len() == dims * out.len());
}

/// The lengths of `Float32KeysAbove`.
#[inline(always)]
pub(super) fn check_above<T>(query: &[T], rows: &[T], dims: usize, _slack: f32, out: &[f32]) {
    check_minus(query, rows, dims, out);
}

/// The lengths of `Float32Keys`.
#[inline(always)]
pub(super) fn check_minus<T>(query: &[T], rows: &[T], dims: usize, out: &[f32]) {
    assert!(dims > 0 && query.len() == padded(dims) && rows.len() == dims * out.len());
}

/// The lengths of `Kernel::by_norm`.
#[inline(always)]
pub(super) fn check_by_norm(_terms: &ByNorm, norms: &[f64], values: &[f32]) {
    assert_eq!(norms.len(), values.len());
}

/// The lengths of `RowSumsAt`.
#[inline(always)]
pub(super) fn check_sums_at(query: &[f64], rows: &[f32], dims: usize, places: &[u32], out: &[f64]) {
    assert!(dims > 0 && query.len() == padded(dims) && rows.len().is_multiple_of(dims) && places.len() == out.len());
}

/// The lengths of `squared_norm`.
#[inline(always)]
pub(super) fn check_norms<T>(rows: &[T], dims: usize, out: &[f64]) {
    assert!(dims > 0 && rows.len() == dims * out.len());
}

/// The lengths of `Kernel::lane_max`.
#[inline(always)]
pub(super) fn check_lane_max(_bounds: &[f32], most: &[f32]) {
    assert!(!most.is_empty());
}

/// The lengths of `Kernel::decode_f16`.
#[inline(always)]
pub(super) fn check_decode_f16(codes: &[u16], out: &[f32]) {
    assert_eq!(codes.len(), out.len());
}

/// The lengths of `Kernel::decode_f8`.
#[inline(always)]
pub(super) fn check_decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &[f32]) {
    assert!(dims > 0 && codes.len() == out.len() && codes.len() == dims * scales.len());
}

/// The lengths of `Kernel::tile`.
#[inline(always)]
pub(super) fn check_tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &[u32]) {
    let width = tile.width;
    assert!(dims > 0 && (width == 16 || width == 32) && tile.columns.len() == dims * width);
    assert!(tile.slope.len() == width && tile.threshold.len() == width);
    assert!(rows.len() == dims * keep.len() && norms.len() == keep.len() && halves.len() == keep.len());
}

/// The lengths of `Kernel::words`.
#[inline(always)]
pub(super) fn check_int16(row: &[f32], frame: &Affine, planes: &Planes) {
    let stride = unpacked_stride(row.len());
    assert!(!row.is_empty() && frame.centre.len() == stride && frame.steps.len() == stride);
    assert!(planes.words.len() == stride && planes.high.len() == stride && planes.low.len() == stride);
}

/// The lengths of `Kernel::hamming`.
#[inline(always)]
pub(super) fn check_hamming(query: &[u64], rows: &[u8], row_bytes: usize, out: &[u32]) {
    assert!(row_bytes > 0 && query.len() == row_bytes.div_ceil(8) && rows.len() == row_bytes * out.len());
}

/// The lengths of `Kernel::hamming_columns`.
#[inline(always)]
pub(super) fn check_hamming_columns(query: &[u64], columns: &[Column], out: &[u32]) {
    assert!(!query.is_empty() && out.len().is_multiple_of(BLOCK_ROWS) && columns.len() == query.len() * (out.len() / BLOCK_ROWS));
}
