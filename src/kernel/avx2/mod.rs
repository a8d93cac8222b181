//! AVX2 with FMA and F16C: four virtual lanes a register, eight registers a sum.
//!
//! [`vector`](super::vector) holds what AVX-512 does alike. A CPU without AVX2 never runs any of it: only
//! [`table!`](super::check) steps in here, and only for tables that [`runnable`](super::runnable) lists.

mod bounds;
mod int8_batch;
mod registers;

use super::bits::{hamming_columns_shuffle as hamming_columns, hamming_popcnt as hamming};
use super::by_norm::{self, ByNorm};
use super::check::{checked, table};
use super::float32_keys::{self, DotAbove, MinusDistance};
use super::narrow::{SIDE, narrow_sums};
use super::scalar::{self, at_least, unpack_codes};
use super::vector::{AHEAD, NEAR, column_sums, plain_loops, query_sums, row_groups, row_sums};
use super::{Affine, COLUMNS, Int16Row, LANES, Planes, Tile, int16, lane_max, ordered};
use bounds::bounds;
use int8_batch::{int8_batch, remainder_dot};
use registers::*;
use std::arch::x86_64::*;

table!(
    /// The table for CPUs with AVX2, FMA and F16C.
    "avx2"
);

row_sums!(target_feature(enable = "avx2,fma,f16c"));
narrow_sums!(target_feature(enable = "avx2,fma,f16c"));
column_sums!(target_feature(enable = "avx2,fma,f16c"), 6 or 2 rows, columns from 0, 16);
plain_loops!(target_feature(enable = "avx2,fma,f16c"), ordered by 4 x 16);

/// Runs of rows that a block is cut into.
const STREAMS: usize = 4;

/// Rows at some places that are summed at a time: as many as registers hold.
const TOGETHER: usize = 1;

/// `out[i]` receives the sum of row i: `term(at, x, sum)` adds values `at..at + 4` to their lanes.
///
/// The block is cut into [`STREAMS`] runs of rows, and a row of each is visited in turn: reading several streams is faster
/// than one (13.5 against 10.2 GB/s on a Sapphire Rapids core).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sums<T: Value>(rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(usize, Doubles, Doubles) -> Doubles) {
    let run = out.len() / STREAMS;
    for i in 0..run {
        for s in 0..STREAMS {
            [out[s * run + i]] = row_sums::<T, 1, true>([&rows[(s * run + i) * dims..][..dims]], dims, &term);
        }
    }
    for i in STREAMS * run..out.len() {
        [out[i]] = row_sums::<T, 1, false>([&rows[i * dims..][..dims]], dims, &term);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_f16(codes: &[u16], out: &mut [f32]) {
    let (codes, codes_tail) = codes.as_chunks::<8>();
    let (out, out_tail) = out.as_chunks_mut::<8>();
    for (codes, out) in codes.iter().zip(out) {
        // SAFETY: both sides are arrays of eight.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(codes.as_ptr().cast()))) };
    }
    scalar::decode_f16(codes_tail, out_tail);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
    for ((codes, out), &scale) in codes.chunks_exact(dims).zip(out.chunks_exact_mut(dims)).zip(scales) {
        let (codes, codes_tail) = codes.as_chunks::<8>();
        let (out, out_tail) = out.as_chunks_mut::<8>();
        let scales = _mm256_set1_ps(scale);
        for (codes, out) in codes.iter().zip(out) {
            // SAFETY: eight codes are the eight bytes read.
            let codes = _mm256_cvtepi8_epi32(unsafe { _mm_loadu_si64(codes.as_ptr().cast()) });
            // SAFETY: an array of eight.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(scales, _mm256_cvtepi32_ps(codes))) };
        }
        for (value, &code) in out_tail.iter_mut().zip(codes_tail) {
            *value = scale * f32::from(code);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    keep.fill(0);
    let far = size_of_val(rows) > NEAR;
    for group in row_groups(keep.len(), [6, 2]) {
        let (rows, keep) = (&rows[group.start * dims..group.end * dims], &mut keep[group.clone()]);
        let (norms, halves) = (&norms[group.clone()], &halves[group.clone()]);
        for first in (0..tile.width).step_by(16) {
            match group.len() {
                6 if far && first == 0 => tile_group::<6, true>(tile, first, rows, dims, norms, halves, keep),
                6 => tile_group::<6, false>(tile, first, rows, dims, norms, halves, keep),
                2 => tile_group::<2, false>(tile, first, rows, dims, norms, halves, keep),
                _ => tile_group::<1, false>(tile, first, rows, dims, norms, halves, keep),
            }
        }
    }
}

/// Sets the bits of `R` rows for queries `first..first + 16`; the sums stay in registers. If `FAR`, prefetches the rows that
/// follow.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile_group<const R: usize, const FAR: bool>(
    tile: &Tile,
    first: usize,
    rows: &[f32],
    dims: usize,
    norms: &[f32],
    halves: &[f32],
    keep: &mut [u32],
) {
    let sums = column_sums::<2, R, FAR>(tile.columns, tile.width, first, rows, dims);
    for (r, sums) in sums.iter().enumerate() {
        let (norm, half) = (_mm256_set1_ps(norms[r]), _mm256_set1_ps(halves[r]));
        for (v, &sum) in sums.iter().enumerate() {
            let at = first + 8 * v;
            let reach = _mm256_sub_ps(_mm256_fmadd_ps(floats(tile.slope, at), norm, sum), half);
            let reached = _mm256_cmp_ps::<_CMP_GE_OQ>(reach, floats(tile.threshold, at));
            keep[r] |= (_mm256_movemask_ps(reached) as u32) << at;
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rotate(columns: &[i16], rows: &[i16], out: &mut [i32]) {
    let dims = columns.len() / COLUMNS;
    for (row, out) in rows.chunks_exact(dims).zip(out.as_chunks_mut::<COLUMNS>().0) {
        let mut sums = [_mm256_setzero_si256(); COLUMNS / 8];
        for (words, pairs) in row.as_chunks::<2>().0.iter().zip(columns.as_chunks::<{ 2 * COLUMNS }>().0) {
            let words = _mm256_set1_epi32(bytemuck::cast(*words));
            for (sum, pairs) in sums.iter_mut().zip(pairs.as_chunks::<16>().0) {
                // SAFETY: an array of sixteen int16.
                let pairs = unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, words));
            }
        }
        for (sum, out) in sums.into_iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: an array of eight.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
        }
    }
}
