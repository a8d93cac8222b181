//! AVX-512 (f, bw, dq, vl): eight virtual lanes a register, four registers a sum. Sums of codes use VNNI and AMX where
//! the CPU has them, and counts of bits VPOPCNTDQ.
//!
//! [`vector`](super::vector) holds what AVX2 does alike. A CPU without AVX-512 never runs any of it: only
//! [`table!`](super::check) steps in here, and only for tables that [`runnable`](super::runnable) lists.

#[cfg(target_os = "linux")]
mod amx;
mod bounds;
mod int8_batch;
mod registers;
mod rotate;

use super::bits::{self, hamming_columns_shuffle as hamming_columns, hamming_popcnt as hamming};
use super::by_norm::{self, ByNorm};
use super::check::{checked, table};
use super::float32_keys::{self, DotAbove, MinusDistance};
use super::narrow::{SIDE, narrow_sums};
use super::vector::{AHEAD, NEAR, column_sums, plain_loops, query_sums, row_groups, row_sums};
use super::{Affine, COLUMNS, Int16Row, Kernel, LANES, Planes, Tile, int16, lane_max, ordered};
use bounds::{at_least, madd as bounds};
use int8_batch::{madd as int8_batch, remainder_dot, unpack_codes};
use registers::*;
use rotate::rotate;
use std::arch::x86_64::*;

table!(
    /// The table for CPUs with AVX-512 f, bw, dq and vl.
    "avx512"
);

row_sums!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"));
narrow_sums!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"));
column_sums!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"), 12 or 4 rows, columns from 0);
plain_loops!(target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl"), ordered by 8 x 32);

/// The table for CPUs with VNNI as well.
#[allow(unused_unsafe, reason = "a function that chooses one for its CPU needs none")]
static WITH_VNNI: Kernel = Kernel {
    bounds: checked!(check_bounds, bounds::vnni, probes, lines, out),
    int8_batch: checked!(check_int8_batch, int8_batch::vnni, queries, wide, bounds, keep),
    ..KERNEL
};

/// The table for CPUs with VNNI and VPOPCNTDQ.
#[allow(unused_unsafe, reason = "as above")]
static WITH_VPOPCNT: Kernel = Kernel {
    hamming: checked!(check_hamming, bits::hamming_vpopcnt, query, rows, row_bytes, out),
    hamming_columns: checked!(check_hamming_columns, bits::hamming_columns_vpopcnt, query, columns, out),
    ..WITH_VNNI
};

/// The table for CPUs with VNNI, VPOPCNTDQ and int8 tiles of AMX.
#[cfg(target_os = "linux")]
static WITH_AMX: Kernel = Kernel { int8_batch: checked!(check_int8_batch, amx::int8_batch, queries, wide, bounds, keep), ..WITH_VPOPCNT };

/// The tables for a CPU with VNNI that its system lets this process use, slowest first. Every CPU with AMX has `vpopcnt`.
pub fn with_vnni(vpopcnt: bool) -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_os = "linux")]
    let tiles = (vpopcnt && amx::permitted()).then_some(&WITH_AMX);
    #[cfg(not(target_os = "linux"))]
    let tiles = None;
    std::iter::once(&WITH_VNNI).chain(vpopcnt.then_some(&WITH_VPOPCNT)).chain(tiles)
}

/// Rows at some places that are summed at a time: as many as registers hold.
const TOGETHER: usize = 4;

/// Rows summed at a time, each from its own run of the block.
const STREAMS: usize = 4;

/// `out[i]` receives the sum of row i: `term(at, x, sum)` adds values `at..at + 8` to their lanes.
///
/// The block is cut into [`STREAMS`] runs of rows, and a row of each is summed at a time: they share loads of the query, and
/// reading several streams is faster than one (15.2 against 12.6 GB/s on a Sapphire Rapids core).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sums<T: Value>(rows: &[T], dims: usize, out: &mut [f64], term: impl Fn(usize, Doubles, Doubles) -> Doubles) {
    let run = out.len() / STREAMS;
    for i in 0..run {
        let together: [&[T]; STREAMS] = std::array::from_fn(|s| &rows[(s * run + i) * dims..][..dims]);
        for (s, sum) in row_sums::<T, STREAMS, true>(together, dims, &term).into_iter().enumerate() {
            out[s * run + i] = sum;
        }
    }
    for i in STREAMS * run..out.len() {
        [out[i]] = row_sums::<T, 1, false>([&rows[i * dims..][..dims]], dims, &term);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn decode_f16(codes: &[u16], out: &mut [f32]) {
    for (codes, out) in codes.chunks(16).zip(out.chunks_mut(16)) {
        let mask = first(codes.len());
        // SAFETY: only the first `codes.len()` values are touched, and `out` is as long.
        unsafe {
            let codes = _mm256_maskz_loadu_epi16(mask, codes.as_ptr().cast());
            _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_cvtph_ps(codes));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn decode_f8(codes: &[i8], scales: &[f32], dims: usize, out: &mut [f32]) {
    for ((codes, out), &scale) in codes.chunks_exact(dims).zip(out.chunks_exact_mut(dims)).zip(scales) {
        let scale = _mm512_set1_ps(scale);
        for (codes, out) in codes.chunks(16).zip(out.chunks_mut(16)) {
            let mask = first(codes.len());
            // SAFETY: only the first `codes.len()` values are touched, and `out` is as long.
            unsafe {
                let codes = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, codes.as_ptr()));
                _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(codes)));
            }
        }
    }
}

/// A mask of the first `count` of sixteen.
#[inline]
fn first(count: usize) -> __mmask16 {
    (u32::MAX >> (32 - count)) as u16
}

fn tile(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    // SAFETY: `available` lists this table only where the CPU has these features.
    unsafe {
        match (tile.width, size_of_val(rows) > NEAR) {
            (16, false) => tile_rows::<1, false>(tile, rows, dims, norms, halves, keep),
            (16, true) => tile_rows::<1, true>(tile, rows, dims, norms, halves, keep),
            (_, false) => tile_rows::<2, false>(tile, rows, dims, norms, halves, keep),
            (_, true) => tile_rows::<2, true>(tile, rows, dims, norms, halves, keep),
        }
    }
}

/// All rows, in groups whose sums fill the registers; `V` registers hold the queries. If `FAR`, prefetches the next group.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tile_rows<const V: usize, const FAR: bool>(tile: &Tile, rows: &[f32], dims: usize, norms: &[f32], halves: &[f32], keep: &mut [u32]) {
    let mut at = 0;
    while at < keep.len() {
        let group = [12, 4].into_iter().find(|&group| group <= keep.len() - at).unwrap_or(1);
        let some = at..at + group;
        let (rows, norms, halves) = (&rows[at * dims..(at + group) * dims], &norms[some.clone()], &halves[some.clone()]);
        let keep = &mut keep[some];
        match group {
            12 => tile_group::<V, 12, FAR>(tile, rows, dims, norms, halves, keep),
            4 => tile_group::<V, 4, false>(tile, rows, dims, norms, halves, keep),
            _ => tile_group::<V, 1, false>(tile, rows, dims, norms, halves, keep),
        }
        at += group;
    }
}

/// Sets the bits of `R` rows for `16 * V` queries; the sums stay in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tile_group<const V: usize, const R: usize, const FAR: bool>(
    tile: &Tile,
    rows: &[f32],
    dims: usize,
    norms: &[f32],
    halves: &[f32],
    keep: &mut [u32],
) {
    let sums = column_sums::<V, R, FAR>(tile.columns, 16 * V, 0, rows, dims);
    for (r, sums) in sums.iter().enumerate() {
        let (norm, half) = (_mm512_set1_ps(norms[r]), _mm512_set1_ps(halves[r]));
        keep[r] = 0;
        for (v, &sum) in sums.iter().enumerate() {
            let (slope, threshold) = (floats(tile.slope, 16 * v), floats(tile.threshold, 16 * v));
            let reach = _mm512_sub_ps(_mm512_fmadd_ps(slope, norm, sum), half);
            keep[r] |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(reach, threshold)) << (16 * v);
        }
    }
}
