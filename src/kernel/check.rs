//! What every function of a kernel panics for before it touches anything: lengths that do not fit.

use super::{BATCH, COLUMNS, CoarseQuery, Int8Batch, Lines, Tile, UnpackedCodes, padded, unpacked_stride};

/// Panics unless the lengths fit. Called by every [`Kernel::int8_batch`].
#[inline(always)]
pub(super) fn check_int8_batch(int8_batch: &Int8Batch, wide: &UnpackedCodes, bounds: &[f32], keep: &[u16]) {
    let stride = unpacked_stride(int8_batch.dims);
    assert!(int8_batch.dims > 0 && int8_batch.dims.is_multiple_of(8) && int8_batch.factors.len() <= BATCH);
    assert!(int8_batch.words.len() == BATCH * stride && int8_batch.high.len() == BATCH * stride && int8_batch.low.len() == BATCH * stride);
    let rows = wide.offsets.len();
    assert!(rows.is_multiple_of(16) && wide.residuals.len() == rows);
    assert!(wide.codes.len() == rows * stride && bounds.len() == rows * BATCH && keep.len() == rows);
}

/// Panics unless the lengths fit, or where int32 lanes might overflow. Called by every [`Kernel::remainder`].
#[inline(always)]
pub(super) fn check_remainder(words: &[i16], half: usize, codes: &[u8]) {
    assert!(half <= codes.len() && words.len() == codes.len() + half && words.len() <= 4096);
}

/// Panics unless the lengths fit. Called by every [`Kernel::unpack_codes`].
#[inline(always)]
pub(super) fn check_unpack_codes(lines: &[u8], remainder: &[u8], remainder_bytes: usize, leading: usize, out: &[u8]) {
    assert!(leading > 0 && leading.is_multiple_of(8) && lines.len() == 8 * leading && remainder_bytes >= leading / 2);
    assert!(out.len() == 16 * unpacked_stride(leading / 2 + remainder_bytes));
    assert!(remainder.len().is_multiple_of(remainder_bytes) && (1..=16).contains(&(remainder.len() / remainder_bytes)));
}

/// Panics unless the lengths fit. Called by every [`Kernel::bounds`].
#[inline(always)]
pub(super) fn check_bounds(probes: &[CoarseQuery], lines: &Lines, out: &[f32]) {
    let rows = lines.offsets.len();
    assert!(rows.is_multiple_of(16) && lines.leading.len() == rows && lines.trailing.len() == rows && out.len() == probes.len() * rows);
    for probe in probes {
        assert!(probe.high.len().is_multiple_of(8) && (probe.low.len() == probe.high.len() || probe.low.is_empty()));
        assert!(lines.codes.len() == rows / 16 * (probe.high.len() / 8) * 64);
    }
}

/// Panics unless the lengths fit. Called by every [`Kernel::at_least`].
#[inline(always)]
pub(super) fn check_at_least(bounds: &[f32], places: &[u32]) {
    assert!(places.len() == bounds.len() && bounds.len() <= u32::MAX as usize);
}

/// Panics unless the lengths fit. Called by every [`Kernel::products`] and [`Kernel::ordered`].
#[inline(always)]
pub(super) fn check_products(columns: &[f32], rows: &[f32], dims: usize, out: &[f32]) {
    assert!(dims > 0 && columns.len() == dims * COLUMNS && out.len().is_multiple_of(COLUMNS));
    assert!(rows.len() == out.len() / COLUMNS * dims);
}

/// Panics unless the lengths fit; values a row. Called by every [`Kernel::rotate`].
#[inline(always)]
pub(super) fn check_rotate(columns: &[i16], rows: &[i16], out: &[i32]) -> usize {
    let dims = columns.len() / COLUMNS;
    assert!(dims > 0 && dims.is_multiple_of(2) && columns.len() == dims * COLUMNS && out.len().is_multiple_of(COLUMNS));
    assert!(rows.len() == out.len() / COLUMNS * dims);
    dims
}

/// Panics unless the lengths fit, so that kernels may index freely. Called by every [`RowSums`].
#[inline(always)]
pub(super) fn check_sums<T>(query: &[f64], rows: &[T], dims: usize, out: &[f64]) {
    assert!(dims > 0 && query.len() == padded(dims) && rows.len() == dims * out.len());
}

/// Panics unless the lengths fit. Called by every `squared_norm`.
#[inline(always)]
pub(super) fn check_norms<T>(rows: &[T], dims: usize, out: &[f64]) {
    assert!(dims > 0 && rows.len() == dims * out.len());
}

/// Panics unless the lengths fit. Called by every [`Kernel::decode_f8`].
#[inline(always)]
pub(super) fn check_decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &[f32]) {
    assert!(dims > 0 && codes.len() == out.len() && codes.len() == dims * scales.len());
}

/// Panics unless the lengths fit. Called by every [`Kernel::tile`].
#[inline(always)]
pub(super) fn check_tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &[u32]) {
    let width = tile.width;
    assert!(dims > 0 && (width == 16 || width == 32) && tile.columns.len() == dims * width);
    assert!(tile.slope.len() == width && tile.threshold.len() == width);
    assert!(rows.len() == dims * keep.len() && norms.len() == keep.len() && halves.len() == keep.len());
}
